use std::sync::LazyLock;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::domain::job::NewJob;

static NO_DEFAULTS: LazyLock<Draft> = LazyLock::new(Draft::default);

fn check_template(template: &str) -> Result<(), String> {
    if template.contains("{nmae}") { Err("{nmae} is not a field of templates".to_owned()) } else { Ok(()) }
}

pub(in crate::intake) fn context() -> Context<'static> {
    Context {
        defaults: &NO_DEFAULTS,
        price: &JobType::price,
        check_template: &check_template,
        max_jobs: Some(1000),
    }
}

fn said(text: &str, format: Format) -> String {
    match read(text.as_bytes(), format, "f", &context()) {
        Ok(file) => format!("accepted, with warnings:\n{}", render_plain(&file.warnings)),
        Err(diagnostics) => render_plain(&diagnostics),
    }
}

fn good(text: &str, format: Format) -> Vec<NewJob> {
    match read(text.as_bytes(), format, "f", &context()) {
        Ok(file) => file.jobs,
        Err(diagnostics) => panic!("{}", render_plain(&diagnostics)),
    }
}

const TEXT: &str = "type = \"std-text-to-video\"\nprompt = \"A lighthouse at dusk\"\n";

#[test]
fn the_three_formats_agree() {
    let from_toml = good(
        r#"
        type = "pro-image-to-video"
        prompt = "The fog lifts – 雪"
        image = "https://example.com/a.jpg"
        duration = 6
        sound = false
        cfg_scale = 1
        name = "shot-12"
        tags = ["reel", "tests", "reel"]
        priority = -3
        takes = 2
        not_before = 2026-12-24T18:00:00+01:00
        max_credits = 1000
        again = true
        output = "{name}.mp4"
        extra = { seed = 7, nested = { a = [1, 2.5, "x"] } }
        "#,
        Format::Toml,
    );
    let json = r#"{"type": "pro-image-to-video", "prompt": "The fog lifts \u2013 \u96ea",
        "image": "https:\/\/example.com/a.jpg", "duration": 6, "sound": false, "cfg_scale": 1, "name": "shot-12",
        "tags": ["reel", "tests"], "priority": -3, "takes": 2, "not_before": "2026-12-24T18:00:00+01:00",
        "max_credits": 1000, "again": true, "output": "{name}.mp4",
        "extra": {"seed": 7, "nested": {"a": [1, 2.5, "x"]}}}"#;
    assert_eq!(from_toml.len(), 2);
    assert_eq!(good(json, Format::Json), from_toml);
    assert_eq!(good(&json.replace('\n', " "), Format::JsonLines), from_toml);

    let job = &from_toml[1];
    assert_eq!(job.take, 2);
    assert_eq!(job.tags, ["reel", "tests"]);
    assert_eq!(job.not_before.unwrap().to_string(), "2026-12-24T17:00:00.000Z");
    assert_eq!(job.estimate.get(), 6 * 54);
    assert_eq!(job.source, "f");
    assert_snapshot!(String::from_utf8(job.request.to_bytes()).unwrap(), @r#"{"type":"pro-image-to-video","prompt":"The fog lifts – 雪","duration":6,"image":"https://example.com/a.jpg","sound":false,"cfg_scale":1.0,"seed":7,"nested":{"a":[1,2.5,"x"]}}"#);
}

#[test]
fn the_example_is_right_in_every_word() {
    let example = include_str!("../../../jobs.example.toml");
    let file = read(example.as_bytes(), Format::Toml, "jobs.example.toml", &context())
        .unwrap_or_else(|d| panic!("{}", render_plain(&d)));
    assert_eq!(file.warnings, []);
    assert_eq!(file.batch.as_deref(), Some("lighthouse"));
    let line = |job: &NewJob| {
        let NewJob { request, take, estimate, name, .. } = job;
        let seconds = request.duration_s().map_or("-".to_owned(), |s| s.to_string());
        let (name, ratio) = (name.as_deref().unwrap_or_default(), request.aspect_ratio().as_str());
        format!("{name}#{take} {} {seconds} s {ratio} {estimate}", request.job_type())
    };
    assert_snapshot!(file.jobs.iter().map(line).collect::<Vec<_>>().join("\n"), @r"
    harbour#1 std-text-to-video 4 s 16:9 240
    harbour#2 std-text-to-video 4 s 16:9 240
    keeper#1 pro-image-to-video 5 s 9:16 400
    lens#1 o3-pro-text-to-video 6 s 1:1 288
    storm#1 o3-std-image-to-video 3 s 16:9 108
    reunion#1 o3-std-reference-to-video 5 s 16:9 100
    winter#1 o3-std-video-edit - s 16:9 360
    ");
    assert_snapshot!(file.estimate(), @"1,736");
}

/// What the example shows as a comment is as true as what it does.
#[test]
fn the_comments_of_the_example_are_right_too() {
    let example = include_str!("../../../jobs.example.toml");
    let (_, rest) = example.split_once("# There is more").unwrap();
    let (keys, rest) = rest.split_once("A matrix renders").unwrap();
    let (matrix, lines) = rest.split_once("JSON Lines").unwrap();
    let indented = |text: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix("#     "));
        lines.collect::<Vec<_>>().join("\n")
    };
    let one = good(&format!("{TEXT}{}", indented(keys)), Format::Toml);
    assert!(one[0].again && one[0].not_before.is_some() && one[0].output.is_some());
    assert_eq!(one[0].request.body()["seed"], 7);
    assert_eq!(good(&indented(matrix), Format::Toml).len(), 3);
    assert_eq!(good(&indented(lines), Format::JsonLines).len(), 3);
}

#[test]
fn every_error_at_once_for_a_terminal() {
    let text = r#"[batch]
nam = "reel"
max_credits = 100

[defaults]
duration = "5"
cfg_scale = 0.3

[[job]]
type = "o3-pro-text-to-vidoe"
prompt = "A lighthouse"

[[job]]
type = "o3-std-video-edit"
prompt = """
A lighthouse
at dusk"""
	image = "https://example.com/雪.jpg"
priority = 101
"#;
    let diagnostics = read(text.as_bytes(), Format::Toml, "shots.toml", &context()).expect_err("wrong");
    assert_snapshot!(render_terminal(text.as_bytes(), &diagnostics, false), @r#"
    error: unknown key `nam`
     --> shots.toml:2:1
      |
    2 | nam = "reel"
      | ^^^
      |
      = help: did you mean `name`?

    error: `duration`: must be a whole number, not text
     --> shots.toml:6:12
      |
    6 | duration = "5"
      |            ^^^
      |
      = help: write 5 without quotes

    error: `type`: "o3-pro-text-to-vidoe" is not a type of the provider
      --> shots.toml:10:8
       |
    10 | type = "o3-pro-text-to-vidoe"
       |        ^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: did you mean "o3-pro-text-to-video"?

    error: `video`: o3-std-video-edit needs `video`
      --> shots.toml:13:1
       |
    13 | [[job]]
       | ^^^^^^^

    error: `image`: o3-std-video-edit does not take it, so it would be paid for and ignored
      --> shots.toml:18:2
       |
    18 |     image = "https://example.com/雪.jpg"
       |     ^^^^^
       |
       = help: taken by pro-image-to-video, std-image-to-video, o3-pro-image-to-video, o3-std-image-to-video

    error: `priority`: 101 is out of range: -100 to 100, higher first
      --> shots.toml:19:12
       |
    19 | priority = 101
       |            ^^^
    "#);
    let colored = render_terminal(text.as_bytes(), &diagnostics, true);
    assert!(colored.contains("\u{1b}["), "{colored}");
}

#[test]
fn a_terminal_gets_no_orders_from_a_file() {
    let text = "typ = \"\u{1b}[31m\u{202e}\"".as_bytes();
    let diagnostics = read(text, Format::Json, "a\u{1b}[31m\u{202e}.json", &context()).expect_err("wrong");
    assert_snapshot!(render_plain(&diagnostics), @r"a\u{1b}[31m\u{202e}.json:1:1: error: typ is not a value (text goes in double quotes)");
    assert_snapshot!(render_terminal(text, &diagnostics, false), @r#"
    error: typ is not a value
     --> a\u{1b}[31m\u{202e}.json:1:1
      |
    1 | typ = "␛[31m�"
      | ^^^
      |
      = help: text goes in double quotes
    "#);
}

#[test]
fn a_long_line_is_shown_where_it_matters() {
    let text = format!("{TEXT}images = [\"https://example.com/{}.jpg\", 5]\n", "a".repeat(900));
    let diagnostics = read(text.as_bytes(), Format::Toml, "f", &context()).expect_err("wrong");
    let shown = render_terminal(text.as_bytes(), &diagnostics, false);
    assert!(shown.contains(", 5]") && shown.lines().all(|line| line.chars().count() <= 140), "{shown}");
}

#[test]
fn a_diagnostic_is_data() {
    let diagnostics = read(b"type = 5", Format::Toml, "a.toml", &context()).expect_err("wrong");
    assert_snapshot!(serde_json::to_string_pretty(&diagnostics[0]).unwrap(), @r#"
    {
      "severity": "error",
      "code": "missing",
      "message": "`prompt`: every job needs a prompt",
      "hint": null,
      "file": "a.toml",
      "line": 1,
      "column": 1,
      "key": "prompt",
      "span": {
        "start": 0,
        "end": 4
      }
    }
    "#);
    for diagnostic in diagnostics {
        assert_eq!(serde_json::to_value(diagnostic.code).unwrap(), diagnostic.code.as_str());
    }
}

#[test]
fn keys_are_paths() {
    let text = format!(
        "[batch]\nname = 5\n[defaults]\npriority = 900\n[[job]]\n{TEXT}tags = [\"a\", 5]\n[[job]]\n\
         prompt = \"b\"\nextra.b = inf\n[job.matrix]\ntype = [\"o3-std-text-to-video\", \"o3\"]\n\
         exclude = [{{ a = 1 }}]\n"
    );
    let diagnostics = read(text.as_bytes(), Format::Toml, "f", &context()).expect_err("wrong");
    let keys: Vec<_> = diagnostics.iter().map(|d| format!("{} {}", d.line, d.key)).collect();
    assert_snapshot!(keys.join("\n"), @r"
    2 batch.name
    4 defaults.priority
    8 job[0].tags[1]
    11 job[1].extra
    13 job[1].matrix.type[1]
    14 job[1].matrix.exclude[0].a
    ");
}

#[test]
fn toml_syntax_errors_show_together() {
    assert_snapshot!(said("type = std-text-to-video\nprompt = \"a\nduration 5\ntakes = 2\ntakes = 3\n[[job]\n", Format::Toml), @r#"
    f:1:8: error: string values must be quoted, expected literal string (text goes in quotes: "…"; over several lines in """…""")
    f:2:12: error: invalid basic string, expected `"` (text in quotes ends on its line; over several lines it goes in """…""")
    f:3:10: error: key with no value, expected `=`
    f:6:7: error: unclosed array table, expected `]`
    "#);
    assert_snapshot!(said("prompt = \"He said \"hi\" to me\"\nduration = 5 s\n", Format::Toml), @r#"
    f:1:20: error: unexpected key or value, expected newline, `#` (one `key = value` a line; a quote inside text is written \")
    f:2:12: error: string values must be quoted, expected literal string (text goes in quotes: "…"; over several lines in """…""")
    "#);
    assert_snapshot!(said("takes = 2\ntakes = 3\n[extra]\n[extra]\n", Format::Toml), @r"
    f:2:1: error: `takes` is already set in this table
    f:4:2: error: `extra` is already set in this table
    ");
    assert_snapshot!(said("prompt = \"\u{202e}\u{1b}[31m\"\n", Format::Toml), @r"f:1:12: error: invalid basic string, expected non-double-quote visible characters, `\` (a control character is written \uXXXX)");
    assert_snapshot!(said("a = 1e999", Format::Toml), @"f:1:5: error: 1e999 is too large a number");
    assert_snapshot!(said("a = 99999999999999999999", Format::Toml), @"f:1:5: error: 99999999999999999999 is too large a number");
    assert_snapshot!(said("duration = 0xfffffffffffffffff", Format::Toml), @"f:1:12: error: 0xfffffffffffffffff is too large a number");
}

#[test]
fn json_syntax_errors_are_sentences() {
    let cases = [
        r#"{"type": "a",}"#,
        r#"{"type" "a"}"#,
        r#"{"type": "a" "prompt": "b"}"#,
        r#"{"type": "a" // really"#,
        r#"{type: "a"}"#,
        r#"{'type': 'a'}"#,
        r#"{"type": 'a'}"#,
        r#"{"type": }"#,
        r#"{"type": "a"#,
        r#"{"type": "a""#,
        r#"{"type":"#,
        r#"{"type": "a", "type": "b"}"#,
        r#"{"type": "\ud800"}"#,
        r#"{"type": "\udc00\ud800"}"#,
        r#"{"type": "\ud83dx"}"#,
        r#"{"type": "\x41"}"#,
        r#"{"type": "\u12g4"}"#,
        "{\"type\": \"a\tb\"}",
        "{\"type\": \"a\nb\"}",
        r#"{"duration": NaN}"#,
        r#"{"duration": -Infinity}"#,
        r#"{"sound": True}"#,
        r#"{"sound": yes}"#,
        r#"{"duration": 05}"#,
        r#"{"duration": .5}"#,
        r#"{"duration": 5.}"#,
        r#"{"duration": 1e999}"#,
        r#"{"duration": 9223372036854775808}"#,
        r#"{"images": ["a",]}"#,
        r#"{"images": ["a"#,
        r#"{} {}"#,
        r#"{},"#,
        r#"["a"]"#,
        "é",
    ];
    let all: String = cases.iter().map(|case| format!("{case}\n    {}", said(case, Format::Json))).collect();
    assert_snapshot!(all, @r#"
    {"type": "a",}
        f:1:14: error: the comma before this brace is one too many
    {"type" "a"}
        f:1:9: error: `:` was expected here
    {"type": "a" "prompt": "b"}
        f:1:14: error: `,` or `}` was expected here
    {"type": "a" // really
        f:1:14: error: JSON has no comments (a .toml file has)
    {type: "a"}
        f:1:2: error: a key in double quotes was expected here
    {'type': 'a'}
        f:1:2: error: a key in double quotes was expected here
    {"type": 'a'}
        f:1:10: error: text goes in double quotes
    {"type": }
        f:1:10: error: a value is missing here, or the comma before it is one too many
    {"type": "a
        f:1:10: error: the quote that ends this text is missing (a line break inside text is written \n)
    {"type": "a"
        f:1:13: error: the file ends where `,` or `}` was expected
    {"type":
        f:1:9: error: the file ends where a value was expected
    {"type": "a", "type": "b"}
        f:1:15: error: `type` is already set in this table
    {"type": "\ud800"}
        f:1:11: error: half of a surrogate pair is no character (write the character itself; the file is UTF-8)
    {"type": "\udc00\ud800"}
        f:1:11: error: half of a surrogate pair is no character (write the character itself; the file is UTF-8)
    {"type": "\ud83dx"}
        f:1:11: error: half of a surrogate pair is no character (write the character itself; the file is UTF-8)
    {"type": "\x41"}
        f:1:11: error: this escape means nothing in JSON (a backslash is written \\)
    {"type": "\u12g4"}
        f:1:11: error: \u needs four hexadecimal digits
    {"type": "a	b"}
        f:1:12: error: a control character in text must be written as \t or \u00XX
    {"type": "a
    b"}
        f:1:10: error: the quote that ends this text is missing (a line break inside text is written \n)
    {"duration": NaN}
        f:1:14: error: JSON has no NaN (leave the key out)
    {"duration": -Infinity}
        f:1:14: error: -Infinity is not a number in JSON
    {"sound": True}
        f:1:11: error: True is Python (JSON writes true, false and null)
    {"sound": yes}
        f:1:11: error: yes is not a value (text goes in double quotes)
    {"duration": 05}
        f:1:14: error: 05 is not a number in JSON
    {"duration": .5}
        f:1:14: error: a value was expected here
    {"duration": 5.}
        f:1:14: error: 5. is not a number in JSON
    {"duration": 1e999}
        f:1:14: error: 1e999 is too large a number
    {"duration": 9223372036854775808}
        f:1:14: error: 9223372036854775808 is too large a number
    {"images": ["a",]}
        f:1:17: error: a value is missing here, or the comma before it is one too many
    {"images": ["a
        f:1:13: error: the quote that ends this text is missing (a line break inside text is written \n)
    {} {}
        f:1:4: error: something follows after the end of the value (several jobs go in {"job": [ … ]}, or one a line in a .jsonl file)
    {},
        f:1:3: error: something follows after the end of the value (several jobs go in {"job": [ … ]}, or one a line in a .jsonl file)
    ["a"]
        f:1:1: error: must be a job or a batch, not a list (several jobs go in {"job": [ … ]})
    é
        f:1:1: error: a value was expected here
    "#);
    assert_eq!(
        good(r#"{"type":"std-text-to-video","prompt":"\ud83d\ude00\n\t\"\\\/"}"#, Format::Json)[0]
            .request
            .prompt(),
        "😀\n\t\"\\/"
    );
}

#[test]
fn json_lines_errors_carry_the_line_of_the_file() {
    let text = "\u{feff}{\"type\": \"std-text-to-video\", \"prompt\": \"one\"}\r\n\r\n  \
        {\"type\": \"std-text-to-video\", \"prompt\": \"two\", \"duration\": 2}\r\n{\"type\": \r\n[1]\r\n\
        {\"batch\": {}, \"prompt\": \"a\"}\r\n{}\r\n{\"type\": \"std-text-to-video\", \"prompt\": \"one\"}";
    assert_snapshot!(said(text, Format::JsonLines), @r#"
    f:3:62: error: `duration`: 2 is out of range: a video lasts 3 to 15 seconds
    f:4:9: error: the line ends where a value was expected
    f:5:1: error: must be a job, not a list (each line is one job: { … })
    f:6:1: error: `type`: every job needs a type (for example type = "std-text-to-video")
    f:6:2: error: unknown key `batch` (a batch goes in a .toml or .json file)
    f:7:1: error: `type`: every job needs a type (for example type = "std-text-to-video")
    f:7:1: error: `prompt`: every job needs a prompt
    f:8:1: error: this is the same job as the one on line 1 (to render it twice on purpose, keep one of them and set `takes = 2`)
    "#);
}

#[test]
fn unknown_keys_are_answered_with_what_was_meant() {
    assert_snapshot!(said(&format!("{TEXT}aspectratio = 1\nlength = 3\n\"a\\u001bb\" = 1\n"), Format::Toml), @r"
    f:3:1: error: unknown key `aspectratio` (did you mean `aspect_ratio`?)
    f:4:1: error: unknown key `length`
    f:5:1: error: unknown key `a\u{1b}b`
    ");
    assert_snapshot!(said("[[jobs]]\ntype = \"std-text-to-video\"", Format::Toml), @"f:1:3: error: unknown key `jobs` (did you mean `job`?)");
    assert_snapshot!(said("[batch]\nprompt = \"x\"\nmax_credit = 5\n[defaults]\nname = \"x\"\npromt = \"y\"\n[[job]]\n", Format::Toml), @r#"
    f:2:1: error: unknown key `prompt` (it goes under `[[job]]`, or under `[defaults]` for all jobs)
    f:3:1: error: unknown key `max_credit` (did you mean `max_credits`?)
    f:5:1: error: unknown key `name` (it belongs to one job, so it goes under `[[job]]`)
    f:6:1: error: unknown key `promt` (did you mean `prompt`?)
    f:7:1: error: `type`: every job needs a type (for example type = "std-text-to-video")
    f:7:1: error: `prompt`: every job needs a prompt
    "#);
}

#[test]
fn wrong_types_say_what_is_there() {
    let text = r#"
        type = ["std-text-to-video"]
        prompt = 5
        duration = 5.5
        sound = "yes"
        cfg_scale = "0.5"
        images = "https://example.com/a.jpg"
        tags = ["a", 7]
        priority = 1.0
        takes = "2"
        not_before = 7
        extra = []
        matrix = 3
        again = 1
    "#;
    assert_snapshot!(said(text, Format::Toml), @r#"
    f:2:16: error: `type`: must be text, not a list
    f:3:18: error: `prompt`: must be text, not a whole number (put it in quotes)
    f:4:20: error: `duration`: must be a whole number, not a number with a fraction
    f:5:17: error: `sound`: must be true or false, not text
    f:6:21: error: `cfg_scale`: must be a number, not text (write 0.5 without quotes)
    f:7:18: error: `images`: must be a list, not text (put it in [ ])
    f:8:22: error: `tags`: must be text, not a whole number (put it in quotes)
    f:9:20: error: `priority`: must be a whole number, not a number with a fraction
    f:10:17: error: `takes`: must be a whole number, not text (write 2 without quotes)
    f:11:22: error: `not_before`: must be a date and time, not a whole number
    f:12:17: error: `extra`: must be a table, not a list
    f:13:18: error: `matrix`: must be a table, not a whole number (like matrix = { duration = [3, 5], aspect_ratio = ["16:9", "9:16"] })
    f:14:17: error: `again`: must be true or false, not a whole number
    "#);
    assert_snapshot!(said(r#"{"type": "std-text-to-video", "prompt": null}"#, Format::Json), @"f:1:41: error: `prompt`: must be text, not null (leave the key out for its default)");
}

#[test]
fn values_out_of_range_are_refused() {
    let text = format!(
        "{TEXT}name = \"{}\"\nkey = \"a\\tb\"\noutput = \"{{nmae}}\"\ntags = [\"\"]\npriority = -101\ntakes = 21\n\
         max_credits = 0\nduration = 2\naspect_ratio = \"4:3\"\ncfg_scale = nan\nnot_before = 2026-12-24T18:00:00\n\
         [extra]\nprompt = \"x\"\n",
        "x".repeat(201)
    );
    assert_snapshot!(said(&text, Format::Toml), @r#"
    f:3:8: error: `name`: it has 201 characters; at most 200
    f:4:7: error: `key`: it has a control character or a line break in it
    f:5:10: error: `output`: {nmae} is not a field of templates
    f:6:8: error: `tags`: a tag is empty (leave it out)
    f:7:12: error: `priority`: -101 is out of range: -100 to 100, higher first
    f:8:9: error: `takes`: 21 is out of range: 1 to 20 renders of one request
    f:9:15: error: `max_credits`: 0 would allow nothing (leave it out for no limit)
    f:10:12: error: `duration`: 2 is out of range: a video lasts 3 to 15 seconds
    f:11:16: error: `aspect_ratio`: "4:3" is not one of "16:9", "9:16", "1:1"
    f:12:13: error: `cfg_scale`: NaN is out of range: 0 to 1
    f:13:14: error: `not_before`: 2026-12-24T18:00:00 has no offset, so it is another moment in every time zone (write 2026-12-24T18:00:00+01:00 with your own offset, or 2026-12-24T18:00:00Z for UTC)
    f:14:1: error: `extra`: `prompt` is a field klingd knows, so it may not hide in `extra` (set `prompt` beside `type`)
    "#);
    let when = |value: &str| said(&format!("{TEXT}not_before = {value}\n"), Format::Toml);
    assert_snapshot!(when("2026-12-24"), @"f:3:14: error: `not_before`: 2026-12-24 has no offset, so it is another moment in every time zone (write 2026-12-24T00:00:00+01:00 with your own offset, or 2026-12-24T00:00:00Z for UTC)");
    assert_snapshot!(when("18:00:00"), @r#"f:3:14: error: `not_before`: "18:00:00" is not a date and time with an offset (like 2026-12-24T18:00:00+01:00 or 2026-12-24T17:00:00Z)"#);
    assert_snapshot!(when("\"tomorrow\""), @r#"f:3:14: error: `not_before`: "tomorrow" is not a date and time with an offset (like 2026-12-24T18:00:00+01:00 or 2026-12-24T17:00:00Z)"#);
    assert_snapshot!(when("\"2026-12-24T18:00:00+01:00[Europe/Berlin]\""), @r#"f:3:14: error: `not_before`: "2026-12-24T18:00:00+01:00[Europe/Berlin]" is not a date and time with an offset (like 2026-12-24T18:00:00+01:00 or 2026-12-24T17:00:00Z)"#);
    assert_snapshot!(said(&format!("{TEXT}extra = {{ when = 2026-12-24, n = inf }}\n"), Format::Toml), @"f:3:18: error: `extra`: JSON, in which it is sent, has no dates; put it in quotes");
}

#[test]
fn rules_of_the_page_point_at_the_field() {
    let text = r#"
[[job]]
type = "pro-image-to-video"
prompt = "a"
[[job]]
type = "pro-text-to-video"
prompt = "b"
image = "https://example.com/a.jpg"
[[job]]
type = "o3-pro-reference-to-video"
prompt = "c"
images = ["https://example.com/a.jpg", "ftp://example.com/b.jpg"]
[[job]]
prompt = "d"
"#;
    assert_snapshot!(said(text, Format::Toml), @r#"
    f:2:1: error: `image`: pro-image-to-video needs `image`
    f:8:1: error: `image`: pro-text-to-video does not take it, so it would be paid for and ignored (taken by pro-image-to-video, std-image-to-video, o3-pro-image-to-video, o3-std-image-to-video)
    f:12:10: error: `images`: "ftp" links can't be fetched by the provider (the provider fetches it itself: a public http:// or https:// link)
    f:13:1: error: `type`: every job needs a type (for example type = "std-text-to-video")
    "#);
}

#[test]
fn defaults_apply_where_the_type_takes_them() {
    let text = r#"
[defaults]
type = "std-text-to-video"
duration = 3
cfg_scale = 0.3
tags = ["all"]
extra = { a = 1, b = 1 }
[[job]]
prompt = "a"
extra = { b = 2 }
[[job]]
type = "o3-std-video-edit"
prompt = "b"
video = "https://example.com/a.mp4"
tags = []
"#;
    let configured = Draft { sound: Some(false), negative_prompt: Some("blur".into()), ..Draft::default() };
    let context = Context { defaults: &configured, ..context() };
    let jobs = read(text.as_bytes(), Format::Toml, "f", &context).unwrap().jobs;
    let bodies: Vec<_> = jobs.iter().map(|j| String::from_utf8(j.request.to_bytes()).unwrap()).collect();
    assert_snapshot!(bodies.join("\n"), @r#"
    {"type":"std-text-to-video","prompt":"a","duration":3,"sound":false,"negative_prompt":"blur","cfg_scale":0.3,"a":1,"b":2}
    {"type":"o3-std-video-edit","prompt":"b","video":"https://example.com/a.mp4","sound":false,"negative_prompt":"blur","a":1,"b":1}
    "#);
    assert_eq!((jobs[0].tags.len(), jobs[1].tags.len()), (1, 0));
}

#[test]
fn a_wrong_default_is_said_once_and_an_idle_one_warned_of() {
    let text = "[defaults]\nduration = 99\n[[job]]\ntype = \"std-text-to-video\"\nprompt = \"a\"\n\
                [[job]]\ntype = \"std-text-to-video\"\nprompt = \"b\"\n";
    assert_snapshot!(said(text, Format::Toml), @"f:2:12: error: `duration`: 99 is out of range: a video lasts 3 to 15 seconds");
    let text = "[defaults]\nvideo = \"https://example.com/a.mp4\"\n[[job]]\ntype = \"std-text-to-video\"\nprompt = \"a\"\n";
    assert_snapshot!(said(text, Format::Toml), @r"
    accepted, with warnings:
    f:2:1: warning: `video`: no job of this file has a type that takes it
    ");
    let configured = Draft { duration: Some(99), ..Draft::default() };
    let context = Context { defaults: &configured, ..context() };
    let diagnostics = read(TEXT.as_bytes(), Format::Toml, "f", &context).expect_err("wrong");
    assert_snapshot!(render_plain(&diagnostics), @"f:1:1: error: `duration`: 99 is out of range: a video lasts 3 to 15 seconds (it comes from `defaults.duration` of the configuration)");
}

#[test]
fn a_file_is_one_job_or_a_batch() {
    assert_snapshot!(said(&format!("{TEXT}[[job]]\n{TEXT}"), Format::Toml), @r"
    f:1:1: error: `type`: it stands at the top, but this file is a batch (move it under `[[job]]`, or under `[defaults]` for all jobs)
    f:2:1: error: `prompt`: it stands at the top, but this file is a batch (move it under `[[job]]`, or under `[defaults]` for all jobs)
    ");
    assert_snapshot!(said(&format!("[job]\n{TEXT}"), Format::Toml), @r#"f:1:1: error: `job`: must be a list, not a table (each job of a batch stands under `[[job]]`, in two brackets; in JSON: "job": [ { … } ])"#);
    assert_snapshot!(said("[batch]\nname = \"x\"\n", Format::Toml), @"f:1:1: error: the file holds no job (a job has at least `type` and `prompt`; several jobs stand under [[job]] each)");
    assert_snapshot!(said("", Format::Toml), @"f:1:1: error: the file holds no job (a job has at least `type` and `prompt`; several jobs stand under [[job]] each)");
    assert_snapshot!(said("{}", Format::Json), @"f:1:1: error: the file holds no job (a job has at least `type` and `prompt`; several jobs stand under [[job]] each)");
    assert_snapshot!(said("[]", Format::Json), @r#"f:1:1: error: must be a job or a batch, not a list (several jobs go in {"job": [ … ]})"#);
    assert_snapshot!(said("\n \n", Format::JsonLines), @"f:1:1: error: the file holds no job (a job has at least `type` and `prompt`; several jobs stand under [[job]] each)");
}

#[test]
fn equal_jobs_name_takes() {
    let job = format!("[[job]]\n{TEXT}");
    assert_snapshot!(said(&format!("{job}{job}duration = 5\n"), Format::Toml), @"f:4:1: error: this is the same job as the one on line 1 (to render it twice on purpose, keep one of them and set `takes = 2`)");
    assert_snapshot!(said(&format!("{job}name = \"a\"\n{job}name = \"a\"\nduration = 3\n"), Format::Toml), @"f:8:8: error: `name`: the job on line 4 has this name already (names tell jobs apart; for several renders of one request there is `takes`)");
    assert_snapshot!(said(&format!("{job}key = \"a\"\n{job}key = \"a\"\nduration = 3\n"), Format::Toml), @"f:8:7: error: `key`: the job on line 1 has this key already (each job needs its own)");
    // Their own names make two jobs of one request.
    assert_eq!(good(&format!("{job}name = \"a\"\n{job}name = \"b\"\n"), Format::Toml).len(), 2);
}

#[test]
fn a_matrix_is_the_product_without_the_excluded() {
    let text = format!(
        "{TEXT}key = \"shot\"\ntakes = 2\n[matrix]\nsound = [true, false]\naspect_ratio = [\"16:9\", \"1:1\"]\n\
         exclude = [{{ sound = true, aspect_ratio = \"1:1\" }}]\n"
    );
    let keys: Vec<_> = good(&text, Format::Toml).iter().map(|job| job.key.to_string()).collect();
    assert_snapshot!(keys.join("\n"), @r"
    shot/aspect_ratio=16:9,sound=true
    shot/aspect_ratio=16:9,sound=true#2
    shot/aspect_ratio=16:9,sound=false
    shot/aspect_ratio=16:9,sound=false#2
    shot/aspect_ratio=1:1,sound=false
    shot/aspect_ratio=1:1,sound=false#2
    ");
    let turned = text.replace(
        "sound = [true, false]\naspect_ratio = [\"16:9\", \"1:1\"]",
        "aspect_ratio = [\"16:9\", \"1:1\"]\nsound = [true, false]",
    );
    let mut again: Vec<_> = good(&turned, Format::Toml).iter().map(|job| job.key.to_string()).collect();
    again.sort();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_ne!(text, turned);
    assert_eq!(again, sorted, "turning the axes round keeps the keys");

    let long = format!(
        "type = \"std-text-to-video\"\nkey = \"k\"\nmatrix = {{ prompt = [\"{}\"] }}",
        "fog ".repeat(50)
    );
    let key = good(&long, Format::Toml)[0].key.to_string();
    assert_eq!(key.len(), "k/".len() + 16, "{key}");
}

#[test]
fn wrong_matrices_are_refused() {
    let matrix = |lines: &str| said(&format!("{TEXT}[matrix]\n{lines}\n"), Format::Toml);
    assert_snapshot!(matrix("prompt = [\"a\"]"), @"f:4:1: error: `prompt`: it is set in the job and in its matrix (keep the one in the matrix, or a value for all cells in the job)");
    assert_snapshot!(matrix(""), @"f:3:2: error: `matrix`: no axis: name a field and its values");
    assert_snapshot!(matrix("duration = []\nsound = true\nname = [\"a\"]\ndurations = [3]"), @r"
    f:4:12: error: `duration`: an axis needs at least one value
    f:5:9: error: `sound`: must be a list, not true or false (put it in [ ])
    f:6:1: error: unknown key `name`
    f:7:1: error: unknown key `durations` (did you mean `duration`?)
    ");
    assert_snapshot!(matrix("duration = [3, 99, 3]"), @r"
    f:4:16: error: `duration`: 99 is out of range: a video lasts 3 to 15 seconds
    f:4:20: error: `duration`: this value is already in the axis (to render it more than once on purpose, set `takes`)
    ");
    assert_snapshot!(matrix("cfg_scale = [1, 1.0]"), @"f:4:17: error: `cfg_scale`: this value is already in the axis (to render it more than once on purpose, set `takes`)");
    assert_snapshot!(matrix("duration = [3]\nexclude = [{ duration = 3 }]"), @"f:3:2: error: `exclude` leaves no cell of the matrix");
    assert_snapshot!(matrix("duration = [3]\nexclude = [{ duration = 4 }, { sound = true }, 5]"), @r"
    f:5:25: error: `duration`: this value is not in the axis, so nothing would be excluded
    f:5:32: error: `sound` is no axis of this matrix
    f:5:48: error: `exclude`: must be a table, not a whole number
    ");
    assert_snapshot!(matrix("duration = [3]\nexclude = 5"), @r#"f:5:11: error: `exclude`: must be a list, not a whole number (a list of tables, like [{ duration = 3, aspect_ratio = "1:1" }])"#);
}

#[test]
fn too_many_jobs_are_refused_before_they_are_made() {
    let axis = (0..1000).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(", ");
    let text = |axes: &str| format!("[[job]]\n{TEXT}takes = 20\nduration = 3\nmatrix = {{ {axes} }}\n");
    let small = format!(
        "negative_prompt = [{}]",
        axis.split_at(300).0.trim_end_matches(['"', ',', ' ']).to_owned() + "\""
    );
    assert_snapshot!(said(&text(&small), Format::Toml), @"f:1:1: error: with this one the file holds more than 1,000 jobs (`matrix` multiplies its axes, and `takes` the rest; split the file)");
    let huge = ["image", "video", "end_image"].map(|axis_name| format!("{axis_name} = [{axis}]")).join(", ");
    assert_snapshot!(said(&text(&huge), Format::Toml), @"f:1:1: error: with this one the file holds more than 1,000,000 jobs (`matrix` multiplies its axes, and `takes` the rest; split the file)");
    let open = Context { max_jobs: None, ..context() };
    assert_eq!(read(text(&small).as_bytes(), Format::Toml, "f", &open).unwrap().jobs.len() % 20, 0);
}

#[test]
fn max_credits_is_per_render_in_a_job_and_for_all_in_a_batch() {
    assert_snapshot!(said(&format!("{TEXT}max_credits = 299\n"), Format::Toml), @"f:3:15: error: `max_credits`: one render costs 300 credits, more than the 299 that are allowed");
    assert_eq!(good(&format!("{TEXT}max_credits = 300\ntakes = 2\n"), Format::Toml).len(), 2);
    let batch = |max| format!("[batch]\nmax_credits = {max}\n[[job]]\n{TEXT}takes = 2\n");
    assert_snapshot!(said(&batch(599), Format::Toml), @"f:2:15: error: `max_credits`: the jobs cost 600 credits together, more than the 599 that are allowed");
    assert_eq!(good(&batch(600), Format::Toml).len(), 2);
}

#[test]
fn encodings_are_told_in_a_sentence() {
    let said = |bytes: &[u8]| render_plain(&read(bytes, Format::Toml, "f", &context()).expect_err("wrong"));
    let utf16: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_snapshot!(said(&utf16), @"f:1:1: error: the file is UTF-16; job files are UTF-8 (save it as UTF-8; in PowerShell: Out-File -Encoding utf8)");
    assert_snapshot!(said(&[&[0xff, 0xfe], utf16.as_slice()].concat()), @"f:1:1: error: the file is UTF-16; job files are UTF-8 (save it as UTF-8; in PowerShell: Out-File -Encoding utf8)");
    assert_snapshot!(said(b"type = \"x\"\r\nprompt = \"caf\xe9\"\r\n"), @"f:2:14: error: not UTF-8 from here on (save the file as UTF-8; it looks like Latin-1 or Windows-1252, or it is cut off)");
    assert_eq!(good(&format!("\u{feff}{TEXT}"), Format::Toml), good(TEXT, Format::Toml));
    assert_eq!(
        good(&format!("\u{feff}{}", TEXT.replace('\n', "\r\n")), Format::Toml),
        good(TEXT, Format::Toml)
    );
    let lines: Vec<u8> = "{}\n{}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let diagnostics = read(&lines, Format::JsonLines, "f", &context()).expect_err("wrong");
    assert_eq!(diagnostics.len(), 1, "said once, not once a line: {}", render_plain(&diagnostics));
    let text = format!("\u{feff}typ = 1\r\n\t{TEXT}");
    assert_snapshot!(said(text.as_bytes()), @"f:1:1: error: unknown key `typ` (did you mean `type`?)");
}

#[test]
fn a_nesting_bomb_is_a_sentence() {
    let n = 1 << 20;
    assert_snapshot!(said(&format!("a = {}", "[".repeat(n)), Format::Toml), @"f:1:85: error: tables and lists more than 64 deep inside one another");
    assert_snapshot!(said(&format!("a{} = 1", ".a".repeat(n / 2)), Format::Toml), @"f:1:1: error: tables and lists more than 64 deep inside one another");
    assert_snapshot!(said(&format!("a = {}", "{a=".repeat(n / 3)), Format::Toml), @"f:1:245: error: tables and lists more than 64 deep inside one another");
    assert_snapshot!(said(&"[".repeat(n), Format::Json), @"f:1:66: error: tables and lists more than 64 deep inside one another");
    assert_snapshot!(said(&"{\"a\":".repeat(n / 5), Format::Json), @"f:1:326: error: tables and lists more than 64 deep inside one another");
    let deep = format!("{TEXT}extra = {{ a = {}1{} }}", "[".repeat(70), "]".repeat(70));
    assert_snapshot!(said(&deep, Format::Toml), @"f:3:78: error: tables and lists more than 64 deep inside one another");
}

#[test]
fn a_flood_of_errors_is_cut() {
    let lines: String = (0..10_000).map(|i| format!("{{\"prompt\": {i}}}\n")).collect();
    let open = Context { max_jobs: None, ..context() };
    let diagnostics = read(lines.as_bytes(), Format::JsonLines, "f", &open).expect_err("wrong");
    assert_eq!(diagnostics.len(), 101);
    assert_snapshot!(diagnostics[100], @"f:50:12: error: these are the first 100 of 20,000 errors");
    let jobs: String = (0..10_000).map(|i| format!("[[job]]\ntpe = {i}\n")).collect();
    let faults = read_counted(jobs.as_bytes(), Format::Toml, "f", &open).expect_err("wrong");
    assert_eq!((faults.shown.len(), faults.errors), (100, 30_000), "type, prompt and the unknown key");
}

/// The memory of one line is enough: what a line needs of the earlier ones is known of them.
#[test]
fn lines_are_read_one_by_one_as_the_whole_file_is() {
    let text = "\u{feff}{\"type\": \"std-text-to-video\", \"prompt\": \"é\", \"name\": \"a\"}\n\n\
                {\"type\": \"std-text-to-video\", \"prompt\": \"two\", \"name\": \"a\"}\r\n\
                {\"type\": \"std-text-to-video\", \"prompt\": \"caf\u{e9}\"}\n";
    let mut bytes = text.as_bytes().to_vec();
    // Latin-1 in the last line, which the other lines survive.
    let at = bytes.len() - "\u{e9}\"}\n".len();
    bytes.remove(at + 1);
    let context = context();
    let mut reader = LineReader::new("f", &context);
    let mut shown = String::new();
    let mut jobs = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let offset = reader.offset();
        match reader.read(line) {
            Ok(of_line) => jobs += of_line.len(),
            Err(faults) => shown += &render_line(line, offset, &faults.shown, false),
        }
    }
    assert!(reader.finish().is_ok());
    assert_eq!(jobs, 1);
    assert_snapshot!(shown, @r#"
    error: `name`: the job on line 1 has this name already
     --> f:3:56
      |
    3 | {"type": "std-text-to-video", "prompt": "two", "name": "a"}
      |                                                        ^^^
      |
      = help: names tell jobs apart; for several renders of one request there is `takes`
    error: not UTF-8 from here on
     --> f:4:45
      |
    4 | {"type": "std-text-to-video", "prompt": "caf�"}
      |                                             ^
      |
      = help: save the file as UTF-8; it looks like Latin-1 or Windows-1252, or it is cut off
    "#);
    let whole = read(&bytes, Format::JsonLines, "f", &context).expect_err("wrong");
    assert_eq!(render_terminal(&bytes, &whole, false).replace("\n\n", "\n"), shown.replace("\n\n", "\n"));
}

#[test]
fn formats_are_told_by_name_or_text() {
    let of = |path: &str| Format::of_path(Path::new(path));
    assert_eq!(of("a/b.toml"), Some(Format::Toml));
    assert_eq!(of("b.JSON"), Some(Format::Json));
    assert_eq!(of("b.jsonl"), Some(Format::JsonLines));
    assert_eq!(of("b.txt"), None);
    assert_eq!(of("toml"), None);
    assert_eq!(Format::guess(TEXT.as_bytes()), Format::Toml);
    assert_eq!(Format::guess(b"\xef\xbb\xbf {\n \"type\": 1\n}"), Format::Json);
    assert_eq!(Format::guess(b"{\"type\": 1}\n"), Format::Json);
    assert_eq!(Format::guess(b"{\"type\": 1}\n{\"type\": 2}\n"), Format::JsonLines);
    assert_eq!(Format::guess(b"[{}]"), Format::Json);
    assert_eq!(Format::guess(b"[[job]]\n"), Format::Toml);
    assert_eq!(Format::guess(b""), Format::Toml);
}

fn seeds() -> Vec<(Format, String)> {
    let toml = include_str!("../../../jobs.example.toml").to_owned();
    let matrix = format!(
        "{TEXT}key = \"k\"\nextra.a.b = 1\n[matrix]\nduration = [3, 4]\nexclude = [{{duration = 3}}]\n"
    );
    let json = r#"{"batch": {"name": "b"}, "job": [{"type": "std-text-to-video", "prompt": "\u00e9",
        "cfg_scale": 0.5, "extra": {"a": [1, null, true, "x"]}, "takes": 2}]}"#;
    let line = r#"{"type": "o3-std-video-edit", "prompt": "é", "video": "https://example.com/v.mp4"}"#;
    vec![
        (Format::Toml, toml),
        (Format::Toml, matrix),
        (Format::Json, json.to_owned()),
        (Format::JsonLines, format!("{line}\r\n\n{line}\n")),
    ]
}

/// Whatever changes the meaning of a line illegally is an error on that very line: every line of the example, spoiled in
/// each of these ways.
#[test]
fn a_spoiled_line_is_an_error_on_that_line() {
    let example = include_str!("../../../jobs.example.toml");
    let lines: Vec<&str> = example.lines().collect();
    let mut spoiled = 0;
    for (i, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with(['#', ' '])) else {
            continue;
        };
        let whole = !value.ends_with(r#"""""#) && !value.ends_with('[');
        let other_key = format!("{key}x = {value}");
        let mut ways = vec![(other_key.clone(), i + 1)];
        if whole {
            ways.push((format!("{key} = {{}}"), i + 1));
            ways.push((format!("{key} = "), i + 1));
            ways.push((format!("{key} {value}"), i + 1));
            ways.push((format!("{line}\n{line}"), i + 2));
            ways.push((format!("{key} = 1e999"), i + 1));
            if key != "negative_prompt" {
                ways.push((format!("{key} = \" \\n \""), i + 1));
            }
        }
        for (text, at) in ways {
            let file: Vec<&str> =
                lines.iter().enumerate().map(|(n, l)| if n == i { &text } else { *l }).collect();
            let said = read(file.join("\n").as_bytes(), Format::Toml, "f", &context()).expect_err(&text);
            let there = said.iter().any(|d| d.severity == Severity::Error && d.line == at);
            assert!(there, "line {at}, {text}:\n{}", render_plain(&said));
            spoiled += 1;
        }
    }
    assert!(spoiled > 200, "{spoiled}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Good files with pieces cut out, doubled, moved and overwritten: whatever comes of it, nothing panics, and each
    /// diagnostic has its place inside the file and can be shown.
    #[test]
    fn mutated_files_never_panic(
        seed in 0..4usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..30usize, "[\\[\\]{}\",=:.\\\\\na0é\u{1b}-]{0,6}"), 1..6),
        raw in prop::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let (format, text) = &seeds()[seed];
        let mut bytes = text.clone().into_bytes();
        for (at, cut, put) in edits {
            let start = at.index(bytes.len() + 1);
            let end = (start + cut).min(bytes.len());
            bytes.splice(start..end, put.into_bytes());
        }
        if let Some((at, byte)) = raw && !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let diagnostics = match read(&bytes, *format, "f", &context()) {
            Ok(file) => file.warnings,
            Err(diagnostics) => {
                prop_assert!(diagnostics.iter().any(|d| d.severity == Severity::Error));
                diagnostics
            }
        };
        let lines = bytes.iter().filter(|b| **b == b'\n').count() + 1;
        for d in &diagnostics {
            prop_assert!(d.span.start <= d.span.end && d.span.end <= bytes.len(), "{:?}", d);
            prop_assert!((1..=lines).contains(&d.line) && d.column >= 1, "{:?}", d);
        }
        let shown = render_terminal(&bytes, &diagnostics, false) + &render_plain(&diagnostics);
        prop_assert!(!shown.contains('\u{1b}'), "{}", shown);
    }

    /// Our JSON reader accepts exactly what serde_json does, as far as a job file's values go.
    #[test]
    fn json_agrees_with_serde_json(text in "[\\[\\]{}\",:\\\\ 0-9eE+.a-fntrulsé-]{0,24}") {
        // serde_json keeps the sign of `-0` by making it a float; no field of ours knows a negative zero.
        prop_assume!(!text.contains("-0"));
        let mut report = diagnostic::Report::new(text.as_bytes(), "f");
        let ours = json::read(&text, &mut report).map(|node| node.to_json().unwrap());
        let theirs: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        match (&ours, &theirs) {
            (Some(_), _) => prop_assert_eq!(ours, theirs),
            // Ours also refuses doubled keys and numbers beyond 64 bits.
            (None, Some(_)) => {
                let why = render_plain(&report.finish().shown);
                prop_assert!(why.contains("already set") || why.contains("too large"), "{}: {}", text, why);
            }
            (None, None) => {}
        }
    }
}
