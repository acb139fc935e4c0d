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
