//! The language, and the plan that acts on it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Faults {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    text.parse::<Faults>().expect_err(text).to_string()
}

/// A plan, asked for submits only.
fn plan(seed: u64, text: &str) -> Plan {
    let mut plan = Plan::new(seed);
    plan.add(parse(text));
    plan
}

/// Which of these calls are spoiled, by the HTTP status of the fault (0: none).
fn statuses(plan: &mut Plan, prompts: &[&str]) -> Vec<u16> {
    let status = |prompt: &&str| match plan.generate.draw(prompt, |_| true).fault {
        Some(GenerateFault::Http(http)) => http.status,
        Some(other) => panic!("not asked for: {other:?}"),
        None => 0,
    };
    prompts.iter().map(status).collect()
}

#[test]
fn every_word_of_the_vocabulary_parses_and_prints_as_it_was_written() {
    for word in vocabulary() {
        let argument = match word.argument {
            None => String::new(),
            Some("MS" | "BYTES" | "HOPS" | "CODE" | "CREDITS") => "=7".to_owned(),
            Some("WORD" | "MESSAGE" | "URL") => "=\"a, b@c\"".to_owned(),
            Some(choices) => format!("={}", choices.split('|').next_back().unwrap()),
        };
        let text = format!("{}:{}{argument}@2-5%30~\"a \\\"fox\\\", running\"", word.point, word.name);
        assert_eq!(parse(&text).to_string(), text);
    }
}

#[test]
fn every_http_status_of_the_field_parses() {
    for status in [
        "408", "409", "413", "422", "401", "402", "403", "404", "405", "500", "502", "503", "504", "520",
        "527",
    ] {
        for body in ["", "-html", "-empty", "-foreign", "-number"] {
            for point in ["generate", "status", "video"] {
                parse(&format!("{point}:{status}{body}"));
            }
            parse(&format!("generate:{status}{body}-charged"));
        }
    }
    for submit in
        ["429-parallel", "429-credits", "400-credits", "403-echo", "500-task-id", "307", "308", "302"]
    {
        parse(&format!("generate:{submit}"));
    }
    for no in [
        "generate:399",
        "generate:600",
        "generate:200",
        "status:400-credits",
        "video:500-charged",
        "task:500",
    ] {
        assert!(no.parse::<Faults>().is_err(), "{no}");
    }
}

#[test]
fn retry_after_is_kept_verbatim() {
    for (text, argument) in [
        ("generate:429=3", "3"),
        ("generate:429=-1", "-1"),
        ("generate:429=99999999999999999999", "99999999999999999999"),
        ("generate:503=\"Wed, 21 Oct 2015 07:28:00 GMT\"", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ] {
        let faults = parse(text);
        let Fault::Generate(GenerateFault::Http(http)) = &faults.rules()[0].fault else {
            panic!("{faults:?}")
        };
        assert_eq!(http.argument.as_deref(), Some(argument));
        assert_eq!(faults.to_string(), text);
    }
}

#[test]
fn rules_are_separated_by_commas_and_lines() {
    let faults = parse(" generate:500 ,\n\nstatus : 404 @ 2\r\n,video:cut=10@*~fox\n");
    assert_eq!(faults.to_string(), "generate:500,status:404@2,video:cut=10@*~fox");
    assert_eq!(parse(" ,\n "), Faults::none());
}

#[test]
fn errors_say_where_and_what_was_perhaps_meant() {
    let cases = [
        (
            "generat:500",
            "faults, character 1: `generat` is not a point; write `generate:`, `status:`, `video:` or `task:` before the fault; did you mean `generate:`?",
        ),
        (
            "status:500,generate:clos-after",
            "faults, character 21: `generate` has no fault `clos-after`; did you mean `close-after`?",
        ),
        ("generate:drip", "faults, character 10: `generate` has no fault `drip`; did you mean `video:drip`?"),
        (
            "généric:500,x",
            "faults, character 1: `généric` is not a point; write `generate:`, `status:`, `video:` or `task:` before the fault",
        ),
        ("task:fail~é,video:cut", "faults, character 19: `video:cut` is written `video:cut=BYTES`"),
        ("video:cut=ten", "faults, character 7: `video:cut` is written `video:cut=BYTES`"),
        ("video:html=1", "faults, character 7: `video:html` takes no argument"),
        ("generate:500@0", "faults, character 14: `@0` is not `@N`, `@N-M` or `@*` (calls count from 1)"),
        ("generate:500@3-2", "faults, character 14: `@3-2` is not `@N`, `@N-M` or `@*` (calls count from 1)"),
        ("generate:500%101", "faults, character 14: `%101` is not a whole percentage from 0 to 100"),
        ("generate:500@1@2", "faults, character 15: `@` stands twice in this rule"),
        ("task:fail=\"no end", "faults, character 11: this quote is not closed"),
        (
            "task:fail=\"a\"b",
            "faults, character 14: a rule ends here, with a comma or a new line; text with `@ % ~ ,` in it goes in double quotes",
        ),
        (
            "generate:429=\"1\n2\"",
            "faults, character 10: `generate:429` is written `generate:429=text without control characters`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
    assert!(error(&"generate:500,".repeat(1001)).contains("more than 1000 rules"));
}

#[test]
fn a_rule_without_a_count_fires_once_at_the_next_call_that_is_free() {
    let mut plan = plan(1, "generate:500,generate:503,generate:502~fox");
    assert_eq!(statuses(&mut plan, &["owl", "owl", "owl", "fox", "fox"]), [500, 503, 0, 502, 0]);
}

#[test]
fn counted_rules_count_every_matching_call() {
    assert_eq!(
        statuses(&mut plan(1, "generate:500@2-3,generate:503@3,generate:502@5"), &["owl"; 6]),
        [0, 500, 500, 0, 502, 0]
    );
    assert_eq!(statuses(&mut plan(1, "generate:500@2~fox"), &["fox", "owl", "a fox", "fox"]), [0, 0, 500, 0]);
    assert_eq!(statuses(&mut plan(1, "generate:500@*"), &["owl"; 3]), [500; 3]);
}

#[test]
fn slow_goes_with_another_fault() {
    let mut plan = plan(1, "generate:slow=200@1,generate:500@1,generate:slow=50@*");
    let drawn = plan.generate.draw("owl", |_| true);
    assert_eq!(drawn.delay, Some(Duration::from_millis(250)));
    assert!(drawn.fault.is_some());
    assert_eq!(plan.generate.draw("owl", |_| true).delay, Some(Duration::from_millis(50)));
}

#[test]
fn a_fault_that_cannot_show_waits_and_is_not_counted() {
    let mut plan = plan(1, "generate:500");
    assert_eq!(plan.generate.draw("owl", |_| false).fault, None);
    assert_eq!(plan.fired(), BTreeMap::from([("generate:500".to_owned(), 0)]));
    assert!(plan.generate.draw("owl", |_| true).fault.is_some());
    assert_eq!(plan.fired(), BTreeMap::from([("generate:500".to_owned(), 1)]));
}

#[test]
fn a_percentage_is_met_and_depends_on_the_seed_and_the_prompt_alone() {
    let prompts: Vec<String> = (0..4000).map(|n| format!("prompt {n}")).collect();
    let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let spoiled = |seed| statuses(&mut plan(seed, "generate:500%20"), &prompts);

    let hit = spoiled(75).iter().filter(|status| **status == 500).count();
    assert!((700..=900).contains(&hit), "{hit} of 4000 at 20 %, seed 75");
    assert_eq!(spoiled(75), spoiled(75));
    assert_ne!(spoiled(75), spoiled(76));

    let backwards: Vec<&str> = prompts.iter().rev().copied().collect();
    let mut reversed = statuses(&mut plan(75, "generate:500%20"), &backwards);
    reversed.reverse();
    assert_eq!(reversed, spoiled(75));
    assert_eq!(statuses(&mut plan(75, "generate:500%0"), &prompts), [0; 4000]);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        drop(text.parse::<Faults>());
    }

    /// Texts made of the language's own pieces get further than noise.
    #[test]
    fn what_parses_prints_as_something_that_parses_to_the_same(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)
    ) {
        if let Ok(faults) = pieces.concat().parse::<Faults>() {
            prop_assert_eq!(faults.to_string().parse::<Faults>(), Ok(faults));
        }
    }

    #[test]
    fn any_message_and_prompt_survive_quoting(message in "[^\\x00]*", prompt in "[^\\x00]*") {
        let text = format!("task:fail={}~{}", parse::quoted(&message), parse::quoted(&prompt));
        let faults: Faults = text.parse().unwrap();
        prop_assert_eq!(faults.rules()[0].prompt.as_deref(), Some(prompt.as_str()));
        let expected = Fault::Task(TaskFault::Fail { message, refund: true });
        prop_assert_eq!(&faults.rules()[0].fault, &expected);
    }
}

const PIECES: &[&str] = &[
    "generate", "status", "video", "task", ":", ":", ":", "500", "429", "=", "=", "7", "slow", "cut", "fail",
    "hang", "-html", "@", "*", "1", "-", "%", "50", "~", "fox", "\"", "\\", ",", "\n", " ", "é",
];
