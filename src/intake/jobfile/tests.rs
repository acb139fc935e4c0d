use super::*;
use crate::domain::job::NewJob;

static NO_DEFAULTS: std::sync::LazyLock<Draft> = std::sync::LazyLock::new(Draft::default);

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

fn toml(text: &str) -> Result<File, String> {
    read(text.as_bytes(), Format::Toml, "shots.toml", &context()).map_err(|d| render_plain(&d))
}

fn good(text: &str, format: Format) -> Vec<NewJob> {
    match read(text.as_bytes(), format, "shots", &context()) {
        Ok(file) => file.jobs,
        Err(diagnostics) => panic!("{}", render_plain(&diagnostics)),
    }
}

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
        tags = ["reel", "tests"]
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
}
