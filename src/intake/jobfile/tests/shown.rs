//! How diagnostics are shown, and what they are as data.

use super::*;

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

/// The renderer knows ASCII's control characters and leaves the others, which 8-bit terminals obey.
#[test]
fn a_snippet_keeps_no_control_character_of_unicode() {
    let text = "{\"type\":\"x\",\"prompt\":\"\u{9b}31m\u{61c}\u{200f}\"}".as_bytes();
    let diagnostics = read(text, Format::Json, "f", &context()).expect_err("wrong");
    let shown = render_terminal(text, &diagnostics, false);
    assert!(shown.contains("\"prompt\":\"\u{fffd}31m\u{fffd}\u{fffd}\""), "{shown}");
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
