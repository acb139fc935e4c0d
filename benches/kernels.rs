//! The pure parts by themselves, with criterion: how long one takes tells whether it can matter beside a commit (0.1 ms and
//! more) or a line of a hundred thousand.
//!
//! `cargo bench --bench kernels -- [--quick]`; criterion keeps the last run in `target/criterion` and compares.

#![allow(missing_docs, reason = "criterion's macros make functions without any")]

use std::{hint::black_box, io::Cursor, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use klingd::{
    disk::{Fields, Template, mp4},
    domain::{
        AttemptNo, Credits, Event, Request, State, TaskId, event::Source, evidence::Evidence,
        job_type::JobType, request::Draft,
    },
    intake::jobfile::{self, Context, Format},
    provider::classify,
};

const VIDEO: &[u8] = include_bytes!("../src/sandbox/videos/16x9-10-sound.mp4");

fn states(criterion: &mut Criterion) {
    let attempt = AttemptNo(1);
    let task = TaskId::parse("n75abcdefghkling3");
    let task = task.unwrap_or_else(|| unreachable!("it is one"));
    let life = [
        Event::SubmitStarted { attempt },
        Event::Accepted { attempt, task, charged: Some(Credits::new(120)), source: Source::Provider },
        Event::Succeeded { outputs: 1, charged: None },
        Event::FilePublished { output: 0 },
    ];
    let done = life.iter().try_fold(State::Queued, State::apply);
    assert!(done.is_ok_and(|state| state.at_rest()), "the life ends well");
    criterion.bench_function("State::apply, a whole life of four events", |bencher| {
        bencher.iter(|| black_box(&life).iter().try_fold(State::Queued, State::apply));
    });
}

fn answers(criterion: &mut Criterion) {
    let body = r#"{"code":200,"message":"success","data":{"task_id":"n75abcdefghkling3","status":"IN_PROGRESS","consumed_credits":120}}"#;
    let accepted = Evidence {
        status: Some(200),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_owned(),
        ..Evidence::default()
    };
    let garbled = Evidence { body: "<html>".repeat(2000), status: Some(502), ..Evidence::default() };
    criterion.bench_function("classify::submit, accepted", |bencher| {
        bencher.iter(|| classify::submit(black_box(&accepted)));
    });
    criterion.bench_function("classify::submit, 12 kB of HTML", |bencher| {
        bencher.iter(|| classify::submit(black_box(&garbled)));
    });
}

fn videos(criterion: &mut Criterion) {
    let bytes = VIDEO.len() as u64;
    assert!(mp4::check_reader(Cursor::new(VIDEO), Some(bytes)).is_ok(), "the video is whole");
    criterion.bench_function("mp4::check_reader, 10 s in memory", |bencher| {
        bencher.iter(|| mp4::check_reader(Cursor::new(black_box(VIDEO)), Some(bytes)));
    });
}

fn files(criterion: &mut Criterion) {
    let (defaults, price) = (Draft::default(), |job_type: JobType| job_type.price());
    let check_template = |text: &str| Template::parse(text).map(|_| ()).map_err(|e| e.to_string());
    let context =
        Context { defaults: &defaults, price: &price, check_template: &check_template, max_jobs: None };
    let toml = "[[job]]\ntype = \"std-text-to-video\"\nprompt = \"A lighthouse at dusk\"\nduration = 5\n";
    let line = |n: usize| {
        format!(
            "{{\"type\": \"std-text-to-video\", \"prompt\": \"A lighthouse at dusk, slow pan to the left, number {n}\", \"name\": \"shot-{n}\", \"duration\": 5, \"tags\": [\"bench\"]}}\n"
        )
    };
    let lines: String = (0..1000).map(line).collect();
    let mut group = criterion.benchmark_group("job file");
    for (what, text, format, jobs) in [
        ("one job, TOML", toml, Format::Toml, 1),
        ("1,000 lines of JSON Lines", &lines, Format::JsonLines, 1000),
    ] {
        let read = |text: &str| jobfile::read(text.as_bytes(), format, "bench", &context);
        assert!(read(text).is_ok_and(|file| file.jobs.len() == jobs), "{what} is right");
        group.throughput(Throughput::Elements(jobs as u64));
        group.bench_function(what, |bencher| bencher.iter(|| read(black_box(text))));
    }
    group.finish();
}

fn requests(criterion: &mut Criterion) {
    let draft = Draft {
        job_type: Some("pro-text-to-video".to_owned()),
        prompt: Some("A lighthouse at dusk, slow pan to the left".to_owned()),
        duration: Some(10),
        ..Draft::default()
    };
    let request = Request::parse(&draft).unwrap_or_else(|problems| unreachable!("{problems:?}"));
    criterion.bench_function("Request::parse", |bencher| bencher.iter(|| Request::parse(black_box(&draft))));
    criterion.bench_function("Request::estimate, the price", |bencher| {
        bencher.iter(|| black_box(&request).estimate(request.job_type().price()));
    });
}

fn names(criterion: &mut Criterion) {
    let template = Template::parse("{date}/{batch}/{name}-{id}.mp4");
    let template = template.unwrap_or_else(|e| unreachable!("{e}"));
    let fields = Fields {
        id: 4711,
        name: "shot 17 / final",
        batch: "trailer",
        job_type: "std-text-to-video",
        duration_s: Some(10),
        aspect_ratio: Some("16x9"),
        take: 1,
        at: jiff::civil::date(2026, 2, 5).at(14, 30, 0, 0),
        prompt: "A lighthouse at dusk, slow pan to the left: gulls circle over wet nets",
    };
    criterion
        .bench_function("Template::render", |bencher| bencher.iter(|| template.render(black_box(&fields))));
}

criterion_group! {
    name = kernels;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = states, answers, videos, files, requests, names
}
criterion_main!(kernels);
