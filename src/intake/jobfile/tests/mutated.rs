//! Good files spoiled in many ways: nothing panics, and what changed the meaning illegally is an error.

use proptest::prelude::*;

use super::*;

fn seeds() -> Vec<(Format, String)> {
    let toml = include_str!("../../../../jobs.example.toml").to_owned();
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
    let example = include_str!("../../../../jobs.example.toml");
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
        let node = json::read(&text, &mut report).filter(|_| !report.has_errors());
        let ours = node.map(|node| node.to_json().unwrap());
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
