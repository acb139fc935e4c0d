//! `spend`, and what the other commands say of money, after real renders.

use klingd::{
    domain::{
        Event, JobId, evidence::Evidence, gate::GateNews, plan::submit::SubmitPlan, retry::Dice, state::Label,
    },
    store::submit::SubmitOutcome,
};
use serde_json::json;

use crate::rig::{Daemon, KEY, Rig, TWO_JOBS, provider};

/// A fox that is rendered, a crow that fails and is paid back, an owl that fails and may not be; the price of the fox is
/// not the expected one.
const THREE: &str = r#"
[batch]
name = "forest"
[defaults]
type = "std-text-to-video"
sound = false
tags = ["night"]
[[job]]
prompt = "A fox"
tags = ["night", "=client"]
[[job]]
prompt = "A crow"
[[job]]
prompt = "An owl"
tags = []
"#;
const FAULTS: &str = "generate:other-credits=240~fox,task:fail=No~crow,task:fail-no-refund=No~owl";

/// The three, at rest.
async fn forest() -> Rig {
    let (_, rig) = provider(FAULTS).await;
    let rig =
        rig.with("TZ", "UTC").with("KLINGD_BUDGET__PER_DAY", "1000").with("KLINGD_BUDGET__TOTAL", "5000");
    let file = rig.file("forest.toml", THREE);
    rig.run(&["enqueue", &file]).is(0);
    let daemon = Daemon::start(&rig).await;
    // Two have failed, which is what 4 says.
    rig.run(&["wait", "--all", "--timeout", "60s"]).is(4);
    daemon.end().await;
    assert_eq!(rig.label(JobId(1)).await, Label::Done);
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn spend_tells_where_the_credits_went() {
    let rig = forest().await;
    let said = rig.run(&["spend", "--by", "batch"]).is(0);
    let table =
        "BATCH\tCHARGED\tRESERVED\tIN DOUBT\tREFUNDED\tSPENT\tATTEMPTS\nforest\t640\t0\t0\t200\t440\t3\n";
    assert_eq!(said.out, table);
    said.says("Today: 440 of 1,000 credits")
        .says("(budget.per_day); 560 left")
        .says("In all: 440 of 5,000 credits")
        .says("Price drift: +40 credits on 1 attempt against the prices of")
        .says("set prices.std-text-to-video");
    assert_eq!(rig.run(&["spend", "--by", "type", "-q"]).is(0).err, "");

    let tags = rig.run(&["spend", "--by", "tag", "--csv"]).is(0).out;
    let csv = "tag,charged,reserved,in_doubt,refunded,spent,attempts\n\
               '=client,240,0,0,0,240,1\nnight,440,0,0,200,240,2\n,200,0,0,0,200,1\n";
    assert_eq!(tags, csv);
    rig.run(&["spend", "--by", "tag"]).is(0).says("A job with several tags counts under each of them");

    let [day, total] = rig.run(&["spend", "--json"]).is(0).json().try_into().unwrap();
    assert_eq!(
        (&day["by"], &day["spent_credits"], &day["attempts"]),
        (&json!("day"), &json!(440), &json!(3))
    );
    assert_eq!(day["key"].as_str().unwrap().len(), "2026-02-05".len());
    assert_eq!((&total["by"], &total["refunded_credits"]), (&json!("total"), &json!(200)));
    assert_eq!((&total["budget"]["left_today"], &total["budget"]["per_job"]), (&json!(560), &json!(null)));
    assert_eq!(total["price_drift"][0]["charged_credits"], 240);

    assert_eq!(rig.run(&["spend", "--since", "1h"]).is(0).out.lines().count(), 2);
    assert_eq!(rig.run(&["spend", "--since", "2999-01-01T00:00:00Z", "--csv"]).is(0).out.lines().count(), 1);
    rig.run(&["spend", "--by", "moon"]).is(2).says("day, type, tag, batch");
    rig.run(&["spend", "--csv", "--json"]).is(2);
    rig.run(&["spend", "--since", "yesterday"]).is(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_shown_or_said_to_be_missing() {
    let rig = forest().await;
    let crow = rig.run(&["show", "2"]).is(0).out;
    for words in [
        "refunded: the provider gave all 200 credits back",
        "Charged          200",
        "Refunded         200",
        "200 credits charged, 200 refunded",
        "(not charged); it costs 0 credits in the end",
        "renders it anew, for about 200 credits",
    ] {
        assert!(crow.contains(words), "{words:?} is not in:\n{crow}");
    }
    let owl = rig.run(&["show", "3"]).is(0).out;
    assert!(owl.contains("refund not confirmed: the provider still says 200 credits"), "{owl}");
    let [crow] = rig.run(&["show", "2", "--json"]).is(0).json().try_into().unwrap();
    assert_eq!((&crow["error"]["charged"], &crow["charged_credits"]), (&json!("no"), &json!(0)));
    assert_eq!(crow["attempts"][0]["refunded_credits"], 200);
    // Uncharged, it may be queued again without --again; the owl may be paid. Either retry is a new render, which asks.
    let again = ["enqueue", "--type", "std-text-to-video", "--no-sound", "--tag", "night", "--prompt"];
    let existing = |prompt| rig.run(&[&again[..], &[prompt, "--dry-run", "--json"]].concat()).is(0).json();
    assert_eq!(existing("A crow")[0]["existing"], false);
    assert_eq!(existing("An owl")[0]["existing"], true);
    rig.run(&["retry", "3"]).is(2).says("say --yes");
    rig.run(&["retry", "2"]).is(2).says("a new render costs 200 credits on top").says("say --yes");
    rig.run(&["retry", "2", "--yes"]).is(0).says("as a new render, for 200 credits");
}

/// What does not fit into a day is queued all the same, and said.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_above_what_is_left_is_warned_of() {
    let rig = Rig::new().with("KLINGD_BUDGET__PER_DAY", "250");
    let file = rig.file("two.toml", TWO_JOBS);
    rig.run(&["enqueue", &file]).is(0).says(
        "warning: budget.per_day has 250 of 250 credits left, these jobs cost 400: some wait until midnight or longer",
    );
    let quiet = rig.run(&["enqueue", &file]).is(0).says("2 there already").err;
    assert!(!quiet.contains("budget.per_day"), "{quiet}");
    rig.run(&["resume"]).is(0).says("warning: no daemon serves this queue");
}

/// Who waits for a budget, and why a run ends with 10, is said where people look.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_budget_is_told() {
    let mut rig = Rig::new().with("KLINGD_API__BASE_URL", "http://127.0.0.1:9").with("KLINGD_API__KEY", KEY);
    rig.enqueue("A fox");
    rig.variables.push(("KLINGD_BUDGET__PER_DAY".into(), "150".into()));
    let status = rig.run(&["status"]).is(0).out;
    assert!(status.contains("per_day: 0 of 150 credits, 150 left; 1 job waits until midnight"), "{status}");
    let status = rig.run(&["status", "--json"]).is(0).json().remove(0);
    assert_eq!(status["budget"]["left_today"], 150);
    assert_eq!(status["budget"]["waiting_jobs"]["per_day"], 1);
    rig.run(&["run", "--until-idle"])
        .is(10)
        .says("1 job waits for budget.per_day (0 of 150 credits) until midnight; klingd list shows which");
}

/// What a person brought by hand counts, and the provider has not said how much: both places of `show` say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_taken_by_force_is_counted_in_every_place() {
    let rig = Rig::new();
    let id = rig.enqueue("A fox");
    rig.on_the_wire(id).await;
    let store = rig.store().await;
    store.orphan(store.job(id).await.unwrap(), klingd::clock::Clock.now()).await.unwrap();
    rig.run(&["resolve", "1", "--task-id", "n75taken", "--force"]).is(0);
    let page = rig.run(&["show", "1"]).is(0).out;
    assert!(page.contains("Charged          200 counted; the provider has not said how much"), "{page}");
    assert!(page.contains("accepted, 200 credits counted as charged, task n75taken"), "{page}");
    let [job] = rig.run(&["show", "1", "--json"]).is(0).json().try_into().unwrap();
    assert_eq!(job["charged_credits"], json!(null), "unknown is null");
    assert_eq!(job["attempts"][0]["answered_at"], json!(null), "no answer came");
}

/// A 500 that the provider says to try again, and then no video: its credits are held back until a person settles them,
/// and every view says how.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_internal_error_holds_back_is_settled_by_a_person() {
    for (way, counts, held_by) in [("--not-charged", "0", json!(false)), ("--write-off", "200", json!(true))]
    {
        let rig = Rig::new();
        let id = rig.enqueue("A fox");
        let attempt = rig.on_the_wire(id).await;
        let now = klingd::clock::Clock.now();
        let event = Event::SubmitDeferred { attempt, why: "HTTP 500: INTERNAL_ERROR".into(), reserved: true };
        let plan = SubmitPlan {
            event,
            due_at: now,
            gate: GateNews::Nothing,
            retry_after: None,
            hold: None,
            error: None,
        };
        let gate = klingd::daemon::claim_policy(&rig.config(), "").gate;
        let (evidence, dice) = (Evidence::default(), Dice::new(0.5));
        let outcome = SubmitOutcome { job: id, attempt, plan, evidence, note: None, gate, now, dice };
        rig.store().await.settle_submit(outcome).await.unwrap();
        rig.run(&["resolve", "1", way]).is(2).says("job 1 is queued");
        rig.run(&["cancel", "1"]).is(0);

        let told = "of job 1 that failed there keeps its credits reserved: klingd show 1";
        rig.run(&["list", "--all"]).is(0).says(told);
        rig.run(&["spend"]).is(0).says(told);
        let page = rig.run(&["show", "1"]).is(0).out;
        assert!(page.contains("klingd resolve 1 --attempt 1 --not-charged"), "{page}");
        rig.run(&["resolve", "1", "--attempt", "1", way]).is(0).says("job 1 stays cancelled");

        let spent = rig.run(&["spend", "--csv"]).is(0);
        assert!(!spent.err.contains("reserved"), "{}", spent.err);
        let total = rig.run(&["spend", "--json"]).is(0).json().pop().unwrap();
        assert_eq!(
            (&total["reserved_credits"], total["spent_credits"].to_string()),
            (&json!(0), counts.into())
        );
        let page = rig.run(&["show", "1"]).is(0).out;
        assert!(!page.contains("--not-charged"), "{page}");
        let again = ["enqueue", "--json", "--type", "std-text-to-video", "--no-sound", "--prompt", "A fox"];
        assert_eq!(rig.run(&again).is(0).json()[0]["existing"], held_by, "{way}: the key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_say_where_they_come_from() {
    let rig = Rig::new().with("KLINGD_PRICES__O3_STD_TEXT_TO_VIDEO", "7");
    let file = rig
        .file("k.toml", "[prices]\ndate = \"2026-12-24\"\nstd-text-to-video = { silent = 41, sound = 61 }\n");
    let prices = rig.run(&["--config", &file, "config", "prices", "--json"]).is(0).json();
    let of = |name: &str| prices.iter().find(|price| price["type"] == name).unwrap();
    let own = of("std-text-to-video");
    assert_eq!(
        (&own["silent"], &own["sound"], &own["as_of"]),
        (&json!(41), &json!(61), &json!("2026-12-24"))
    );
    assert!(own["origin"].as_str().unwrap().ends_with("k.toml:3"), "{own}");
    assert_eq!(of("o3-std-text-to-video")["origin"], "KLINGD_PRICES__O3_STD_TEXT_TO_VIDEO");
    let page = of("pro-text-to-video");
    assert_eq!((&page["overridden"], &page["origin"]), (&json!(false), &json!(null)));
    assert_ne!(page["as_of"], "2026-12-24", "the page was read on its own day");
    let table = rig.run(&["--config", &file, "config", "prices"]).is(0).out;
    assert!(table.contains("k.toml:3, as of 2026-12-24") && table.contains("the page, as of "), "{table}");
}

/// What came back is free for the cap on everything again; what is gone is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_for_good_counts_when_a_job_is_refused() {
    let rig = forest().await.with("KLINGD_BUDGET__TOTAL", "639");
    let hare = ["enqueue", "--type", "std-text-to-video", "--no-sound", "--prompt", "A hare"];
    rig.run(&hare).is(8).says("it costs 200 credits, budget.total is 639, 440 of it spent");
    rig.with("KLINGD_BUDGET__TOTAL", "640").run(&hare).is(0);
}
