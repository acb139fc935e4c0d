//! What the reader makes of job files, by subject; here what all of it has in common.

mod mutated;
mod rules;
mod shown;
mod syntax;

use std::sync::LazyLock;

use insta::assert_snapshot;

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
