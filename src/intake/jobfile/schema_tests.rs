use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use proptest::{prelude::*, sample::select, strategy::ValueTree as _};

use super::{super::tests::context, *};
use crate::intake::jobfile::{Code, Diagnostic, Format, Severity, read, render_plain};

static COMPILED: LazyLock<(Schemas, SchemaIndex)> = LazyLock::new(|| {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("mem:///job.schema.json", schema()).unwrap();
    let index = compiler.compile("mem:///job.schema.json", &mut schemas).unwrap();
    (schemas, index)
});

fn schema_accepts(document: &Value) -> bool {
    let (schemas, index) = &*COMPILED;
    schemas.validate(document, *index).is_ok()
}

/// What no schema can say: sums, jobs that are equal, and what an exclusion takes away.
fn is_beyond_a_schema(code: Code, key: &str) -> bool {
    match code {
        Code::DuplicateName | Code::DuplicateJob | Code::TooManyJobs | Code::OverMaxCredits | Code::Empty => {
            true
        }
        Code::NotTaken | Code::Missing => false,
        _ => key.contains("exclude"),
    }
}

/// Warnings stand beside the errors, and reject nothing.
fn errors(said: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    said.iter().filter(|d| d.severity == Severity::Error)
}

/// Holds the two against each other; says what the reader said.
fn agree(document: &Value) -> Result<(), String> {
    let accepted = schema_accepts(document);
    match read(document.to_string().as_bytes(), Format::Json, "f", &context()) {
        Ok(_) if accepted => Ok(()),
        Ok(_) => Err(format!("the reader accepts, the schema does not: {document}")),
        Err(said) if !accepted || errors(&said).all(|d| is_beyond_a_schema(d.code, &d.key)) => Ok(()),
        Err(said) => {
            Err(format!("the schema accepts, the reader does not: {document}\n{}", render_plain(&said)))
        }
    }
}

fn type_() -> impl Strategy<Value = Value> {
    select(&JobType::ALL[..]).prop_map(|t| json!(t))
}

/// Right values mostly, and one of each way to be wrong.
fn of_key(key: &'static str) -> BoxedStrategy<Value> {
    let link = || select(vec![json!("https://example.com/a.jpg"), json!("HTTP://example.com/b?c=d")]);
    let right = match key {
        "type" => type_().boxed(),
        "prompt" | "negative_prompt" => {
            select(vec![json!("A fox"), json!("x".repeat(2000)), json!("雪")]).boxed()
        }
        "duration" => (3..=15).prop_map(|n| json!(n)).boxed(),
        "aspect_ratio" => select(vec![json!("16:9"), json!("9:16"), json!("1:1")]).boxed(),
        "image" | "end_image" | "video" => link().boxed(),
        "images" => prop::collection::vec(link(), 1..=7).prop_map(Value::from).boxed(),
        "sound" | "keep_original_sound" | "again" => any::<bool>().prop_map(Value::from).boxed(),
        "cfg_scale" => select(vec![json!(0), json!(0.5), json!(1)]).boxed(),
        "name" | "key" | "output" => {
            select(vec![json!("a b"), json!("{name}"), json!("x".repeat(200))]).boxed()
        }
        "tags" => select(vec![json!([]), json!(["a", "b", "a"]), json!(["x".repeat(60)])]).boxed(),
        "priority" => (-100..=100).prop_map(|n| json!(n)).boxed(),
        "takes" => (1..=20).prop_map(|n| json!(n)).boxed(),
        "not_before" => {
            select(vec![json!("2026-12-24T18:00:00+01:00"), json!("2026-12-24T17:00:00.5Z")]).boxed()
        }
        "max_credits" => Just(json!(100_000)).boxed(),
        "extra" => select(vec![json!({}), json!({ "seed": 7, "deep": { "prompt": [1, null] } })]).boxed(),
        _ => Just(json!({ "duration": [3, 4] })).boxed(),
    };
    let wrong = select(vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(2),
        json!(-101),
        json!(16),
        json!(21),
        json!(1.5),
        json!(""),
        json!(" \t"),
        json!("a\nb"),
        json!("x".repeat(2001)),
        json!("ftp://example.com/a"),
        json!("4:3"),
        json!("2026-12-24T18:00:00"),
        json!([]),
        json!([""]),
        json!(["https://example.com/a.jpg", 5]),
        Value::from(vec!["https://example.com/a.jpg"; 8]),
        Value::from((0..21).map(|n| n.to_string()).collect::<Vec<_>>()),
        json!({}),
        json!({ "prompt": "x" }),
    ]);
    prop_oneof![30 => right, 1 => wrong].boxed()
}

fn table(keys: Vec<&'static str>, some: std::ops::Range<usize>) -> impl Strategy<Value = Map<String, Value>> {
    prop::sample::subsequence(keys, some)
        .prop_flat_map(|keys| {
            keys.into_iter().map(|key| of_key(key).prop_map(move |v| (key.to_owned(), v))).collect::<Vec<_>>()
        })
        .prop_map(|entries| entries.into_iter().collect())
}

fn matrix_value() -> impl Strategy<Value = Value> {
    let axis = |key: &'static str| {
        prop::collection::vec(of_key(key), 0..3).prop_map(move |values| (key.to_owned(), Value::from(values)))
    };
    let axes = prop::sample::subsequence(axis_keys().collect::<Vec<_>>(), 0..3);
    let exclude = prop::option::weighted(0.2, table(axis_keys().collect(), 0..2));
    (axes.prop_flat_map(move |keys| keys.into_iter().map(axis).collect::<Vec<_>>()), exclude).prop_map(
        |(axes, exclude)| {
            let mut matrix: Map<String, Value> = axes.into_iter().collect();
            matrix.extend(exclude.map(|table| ("exclude".to_owned(), json!([table]))));
            Value::Object(matrix)
        },
    )
}

/// A job that is right but for what chance adds to it.
fn job_value() -> impl Strategy<Value = Map<String, Value>> {
    let seed = (type_(), 0..10u8, 0..10u8).prop_map(|(job_type, with_type, with_prompt)| {
        let mut job = Map::new();
        let parsed: JobType = serde_json::from_value(job_type.clone()).unwrap();
        if with_type > 0 {
            job.insert("type".into(), job_type);
        }
        if with_prompt > 0 {
            job.insert("prompt".into(), json!("A fox"));
        }
        if let Some(first) = parsed.needs_one_of().last()
            && with_prompt != 5
        {
            job.insert(first.name().into(), json!("https://example.com/a.mp4"));
        }
        job
    });
    let more = table(keys().filter(|key| *key != "matrix").collect(), 0..4);
    let matrix = prop::option::weighted(0.3, matrix_value());
    let stranger = prop::option::weighted(0.03, select(vec!["promt", "batch_name", "Type"]));
    (seed, more, matrix, stranger).prop_map(|(mut job, more, matrix, stranger)| {
        job.extend(more);
        job.extend(matrix.map(|matrix| ("matrix".to_owned(), matrix)));
        job.extend(stranger.map(|key| (key.to_owned(), json!("x"))));
        job
    })
}

fn document() -> impl Strategy<Value = Value> {
    let defaults = prop::option::of(table(default_keys().collect(), 0..4));
    let batch = prop::option::of(table(vec!["name", "max_credits", "tags"], 0..2));
    let jobs = prop::option::weighted(0.97, prop::collection::vec(job_value(), 0..4));
    let stranger = prop::option::weighted(0.03, select(vec!["jobs", "prompt", "type"]));
    let file = (batch, defaults, jobs, stranger).prop_map(|(batch, defaults, jobs, stranger)| {
        let mut file = Map::new();
        file.extend(batch.map(|table| ("batch".to_owned(), Value::Object(table))));
        file.extend(defaults.map(|table| ("defaults".to_owned(), Value::Object(table))));
        file.extend(jobs.map(|jobs| ("job".to_owned(), Value::from(jobs))));
        file.extend(stranger.map(|key| (key.to_owned(), json!("x"))));
        Value::Object(file)
    });
    prop_oneof![1 => job_value().prop_map(Value::Object), 2 => file]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_schema_and_the_reader_agree(document in document()) {
        agree(&document).map_err(TestCaseError::fail)?;
    }
}

/// A sum that is too high beside a default that no job takes: the second is a warning, so that only the sum decides.
#[test]
fn a_warning_beside_an_error_decides_nothing() {
    agree(&json!({
        "batch": { "max_credits": 2 },
        "defaults": { "end_image": "https://example.com/a.jpg" },
        "job": [{ "type": "std-text-to-video", "prompt": "A fox" }],
    }))
    .unwrap();
}

/// So that the property above is one of files that both accept, too.
#[test]
fn a_good_part_of_the_generated_files_is_right() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let right =
        (0..500).filter(|_| schema_accepts(&document().new_tree(&mut runner).unwrap().current())).count();
    assert!(right > 75, "{right} of 500");
}

#[test]
fn the_shipped_file_is_this_schema() {
    let shipped = include_str!("../../../job.schema.json");
    let made = format!("{:#}\n", schema());
    assert!(shipped == made, "cargo run -- config schema job > job.schema.json");
}

#[test]
fn the_example_is_right_by_its_schema() {
    let example = include_str!("../../../jobs.example.toml");
    assert!(example.starts_with("#:schema ./job.schema.json\n"));
    let as_json: Value = serde_json::to_value(::toml::from_str::<::toml::Table>(example).unwrap()).unwrap();
    assert!(schema_accepts(&as_json));
}

/// Values at the borders of the rules, where two ways to say one rule part first.
#[test]
fn values_at_the_borders_agree() {
    let of = |key: &str, value: Value| {
        let mut job =
            json!({ "type": "o3-pro-image-to-video", "prompt": "A fox", "image": "https://e.com/a.jpg" });
        job[key] = value;
        job
    };
    let mut apart = Vec::new();
    let mut hold = |key: &str, value: Value| apart.extend(agree(&of(key, value)).err());
    for number in
        [json!(5.0), json!(5.5), json!(1e1), json!(-0.0), json!(1e300), json!(u64::MAX), json!(i64::MAX)]
    {
        for key in ["duration", "priority", "takes", "max_credits", "cfg_scale"] {
            hold(key, number.clone());
        }
    }
    let links = [
        "https://",
        "https://e",
        "http:///e.com",
        "https:e.com",
        "https:/e.com",
        "HTTPS://E.COM",
        "https://e.com/a b",
        "https://e .com",
        " https://e.com",
        "https://e.com ",
        "https://e.com/\u{85}",
        "https://e.com/\u{a0}",
        "https://[::1]/",
        "https://u:p@e.com",
        "//e.com",
        "https://e.com/\u{feff}",
        "https://\u{feff}e.com",
        "https://e.com/%zz",
        "https://-",
        "https://.",
        "https://e.com\\a",
        "https://e.com/雪",
        "https://雪.jp/",
        "https://e_com",
        "https://e.com/<>",
        "data:image/png;base64,AA",
    ];
    for link in links {
        hold("image", json!(link));
    }
    let times = [
        "2026-12-24T18:00:00Z",
        "2026-12-24T18:00:00z",
        "2026-12-24t18:00:00Z",
        "2026-12-24 18:00:00Z",
        "2026-12-24T18:00Z",
        "2026-12-24T18Z",
        "20261224T180000Z",
        "2026-12-24T23:59:60Z",
        "2026-12-24T24:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-12-24T18:00:00+0100",
        "2026-12-24T18:00:00+01",
        "2026-12-24T18:00:00+25:00",
        "2026-12-24T18:00:00+01:00:30",
        "2026-12-24T18:00:00-00:00",
        "2026-12-24T18:00:00.1234567890Z",
        "2026-12-24T18:00:00,5Z",
        "+002026-12-24T18:00:00Z",
        "-000001-12-24T18:00:00Z",
        "10000-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-12-24T18:00:00Z ",
        " 2026-12-24T18:00:00Z",
        "2026-12-24T18:00:00+01:00[Europe/Berlin]",
        "2026-358T18:00:00Z",
        "2026-W52-4T18:00:00Z",
        "2026-12-24",
        "",
    ];
    for time in times {
        hold("not_before", json!(time));
    }
    for text in [
        "\u{85}",
        "a\u{85}",
        "\u{a0}",
        "\u{200b}",
        "\u{feff}",
        "\u{2028}",
        "a\u{2028}b",
        "a\u{7f}",
        "a\u{9f}b",
        "\t",
        "a\0",
        "\u{1680}",
        "\u{180e}",
        "\u{3000}",
        "😀",
    ] {
        for key in ["name", "key", "prompt", "negative_prompt", "output"] {
            hold(key, json!(text));
        }
        hold("tags", json!([text]));
    }
    for (key, max) in [("name", 200), ("key", 200), ("prompt", 2500), ("negative_prompt", 2500)] {
        for n in [max - 1, max, max + 1] {
            hold(key, json!("😀".repeat(n)));
        }
    }
    assert!(apart.is_empty(), "{}", apart.join("\n\n"));

    // No pattern knows what a host is, or how long February is: there the reader alone refuses.
    for host in
        ["[::1", "e.com:99999", "e.com:x", "%zz", "256.1.1.1", "xn--a", "?a", "#", "@/", "e|com", "a<b"]
    {
        agree(&of("image", json!(format!("https://{host}")))).expect_err(host);
    }
    for time in ["2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z"] {
        agree(&of("not_before", json!(time))).expect_err(time);
    }
}
