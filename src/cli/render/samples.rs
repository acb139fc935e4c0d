//! Jobs to render in tests, all at one moment.

use std::time::Duration;

use super::super::view::View;
use crate::{
    domain::{
        AttemptNo, Credits, Event, Job, JobId, JobKey, Outcome, Request, State, TaskId, Timestamp,
        event::Source,
        evidence::{Evidence, Phase, TransportFailure},
        job::{MadeWith, Version},
        looks::KeptLooks,
        request::Draft,
        state::{Charged, Failure, Watch},
    },
    store::{
        download::{Output, OutputFile},
        view::{AttemptRow, HistoryRow},
    },
};

/// 2026-02-05T10:30:00Z, so many seconds later.
pub fn at(s: u64) -> Timestamp {
    Timestamp::from_millis(1_770_287_400_000) + Duration::from_secs(s)
}

pub fn view() -> View {
    View::alone(at(100))
}

/// Status calls that pause until `s` after the moment of the samples, at a learned pace.
pub fn paused(s: u64, cause: &str) -> KeptLooks {
    let gate = serde_json::json!({
        "closed_until": at(s),
        "strikes": 3,
        "rate": { "limit": 500_000, "stretch": 240, "passed": 88 },
    });
    serde_json::from_value(serde_json::json!({ "gate": gate, "cause": cause, "refused_at": at(0) })).unwrap()
}

pub fn task() -> TaskId {
    TaskId::parse("n75abc123kling3").unwrap()
}

pub fn queued() -> Job {
    let request = Request::parse(&Draft {
        job_type: Some("std-text-to-video".into()),
        prompt: Some("A fishing harbour at first light".into()),
        sound: Some(false),
        ..Draft::default()
    })
    .unwrap();
    Job {
        id: JobId(7),
        version: Version(1),
        state: State::Queued,
        name: Some("harbour".into()),
        key: JobKey::own("scene-12", None, 1),
        request,
        output: None,
        batch: Some("lighthouse".into()),
        tags: vec!["example".into()],
        priority: 0,
        take: 1,
        not_before: None,
        max_credits: None,
        estimate: Credits::new(200),
        charged: None,
        paid_attempts: 0,
        polls: 0,
        created_at: at(0),
        submitted_at: None,
        finished_at: None,
        due_at: Some(at(0)),
        error: None,
        notes: Vec::new(),
        source: "jobs.toml".into(),
        made_with: None,
    }
}

pub fn submitted(state: State) -> Job {
    Job {
        state,
        version: Version(2),
        submitted_at: Some(at(10)),
        paid_attempts: 1,
        due_at: None,
        made_with: Some(MadeWith {
            base_url: "https://kling3api.com".into(),
            key_fingerprint: "0a1b2c3d".into(),
        }),
        ..queued()
    }
}

pub fn in_doubt() -> Job {
    submitted(State::InDoubt { attempt: AttemptNo(1), cancel: false })
}

pub fn generating() -> Job {
    let state = State::Generating { task: task(), watch: Watch::Running };
    Job { polls: 3, due_at: Some(at(110)), charged: Some(Credits::new(200)), ..submitted(state) }
}

pub fn done() -> Job {
    let state = State::Done { task: task() };
    Job {
        polls: 5,
        charged: Some(Credits::new(210)),
        finished_at: Some(at(95)),
        notes: vec!["price drift: 210 credits charged, 200 expected".into()],
        ..submitted(state)
    }
}

pub fn failed(code: &str, message: &str, task: Option<TaskId>) -> Job {
    let failure = Failure { code: code.into(), message: message.into(), charged: Charged::No };
    let state = State::Failed { failure: failure.clone(), task };
    Job { error: Some(failure), finished_at: Some(at(95)), ..submitted(state) }
}

pub fn outputs() -> Vec<Output> {
    vec![Output {
        index: 0,
        url: "https://cdn.example.com/v/abc.mp4?sig=1".into(),
        failures: 0,
        failing_since: None,
        partial: None,
        file: Some(OutputFile {
            path: "/data/videos/2026-02-05/harbour-7.mp4".into(),
            bytes: 4_200_000,
            sha256: "5e".repeat(32),
        }),
        published_at: Some(at(95)),
    }]
}

pub fn history() -> Vec<HistoryRow> {
    let row = |s, event, from: Option<&str>, to: &str| HistoryRow {
        at: at(s),
        event,
        from: from.map(str::to_owned),
        to: to.to_owned(),
    };
    let attempt = AttemptNo(1);
    vec![
        row(0, Event::Enqueued, None, "queued"),
        row(10, Event::SubmitStarted { attempt }, Some("queued"), "submitting"),
        row(
            70,
            Event::SubmitUnknown { attempt, why: "the connection was reset".into() },
            Some("submitting"),
            "in_doubt",
        ),
        row(
            90,
            Event::Accepted { attempt, task: task(), charged: None, source: Source::Person },
            Some("in_doubt"),
            "generating",
        ),
    ]
}

pub fn attempts() -> Vec<AttemptRow> {
    vec![AttemptRow {
        n: AttemptNo(1),
        started_at: at(10),
        answered_at: Some(at(70)),
        outcome: Outcome::Unknown,
        charge: "in_doubt".into(),
        estimate: Credits::new(200),
        charged: None,
        refunded: Credits::ZERO,
        task_id: None,
        base_url: "https://kling3api.com".into(),
        key_fingerprint: "0a1b2c3d".into(),
        request: queued().request.to_bytes(),
        evidence: Some(Evidence {
            transport: Some(TransportFailure {
                phase: Phase::Sent,
                message: "connection reset by peer".into(),
            }),
            took_ms: 60_000,
            ..Evidence::default()
        }),
        note: None,
        unfollowed: false,
    }]
}
