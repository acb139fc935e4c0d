//! The promise, line by line: facts in, broken lines out. Pure, so that it can be shown to notice what it should.

use klingd::domain::{Charge, Credits, Outcome, State};
use klingd::store::{download::Output, view::AttemptRow};
use serde_json::Value;

use super::facts::{Facts, Found, JobFacts, Row};

/// What must hold at any instant, whatever was killed a moment ago.
pub fn broken_at_any_instant(facts: &Facts) -> Vec<String> {
    let mut broken = facts.damage.clone();
    broken.extend(facts.leaks.iter().cloned());
    for job in &facts.jobs {
        let found = match &job.row {
            Some(row) => broken_money(job, row).into_iter().chain(broken_row(row)).collect(),
            None => vec!["it is lost".to_owned()],
        };
        broken.extend(found.into_iter().map(|line: String| format!("{}: {line}", job.prompt)));
    }
    broken.extend(facts.files.iter().filter_map(torn));
    broken
}

/// What must hold besides when nothing moves any more: each job is done or in doubt, and nothing lies about.
pub fn broken_at_rest(facts: &Facts) -> Vec<String> {
    let mut broken = broken_at_any_instant(facts);
    for (job, row) in facts.jobs.iter().filter_map(|job| Some((job, job.row.as_ref()?))) {
        let found = match &row.job.state {
            State::Done { .. } => unfinished(row, &facts.files),
            State::InDoubt { .. } if row.shown_in_need => Vec::new(),
            State::InDoubt { .. } => vec!["it is in doubt and nobody is told".to_owned()],
            other => vec![format!("it is {} at rest", other.label())],
        };
        broken.extend(found.into_iter().map(|line| format!("{}: {line}", job.prompt)));
        let open = row.attempts.iter().any(|attempt| attempt.outcome == Outcome::Open);
        broken.extend(open.then(|| format!("{}: an attempt is open at rest", job.prompt)));
    }
    let strays = facts.files.iter().filter(|file| !belongs_to_a_done_job(file, facts));
    broken.extend(strays.map(|file| format!("{} was left behind", file.path.display())));
    broken.extend((facts.spooled > 0).then(|| format!("{} answers are left in the spool", facts.spooled)));
    broken
}

fn broken_money(job: &JobFacts, row: &Row) -> Vec<String> {
    let mut broken = Vec::new();
    if job.charges > 1 {
        broken.push(format!("it was charged {} times", job.charges));
    }
    // Paid, it is followed, or may be on the wire, or is in doubt; queued it would be paid again.
    let state = &row.job.state;
    let known = state.task().is_some() || matches!(state, State::Submitting { .. } | State::InDoubt { .. });
    if job.charges > 0 && !known {
        broken.push(format!("it was charged and is {}", state.label()));
    }
    let counts = |a: &&AttemptRow| a.charge != Charge::Free.as_str() || a.refunded > Credits::ZERO;
    let counted = row.attempts.iter().filter(counts).count();
    if counted < job.charges {
        broken.push(format!("it was charged {} times and the books say {counted}", job.charges));
    }
    broken
}

fn broken_row(row: &Row) -> Vec<String> {
    let mut broken = Vec::new();
    match &row.replayed {
        Ok(state) if *state == row.job.state => {}
        Ok(state) => broken.push(format!("its history leads to {state:?}, its row says {:?}", row.job.state)),
        Err(error) => broken.push(format!("its history can't be replayed: {error}")),
    }
    let open: Vec<_> = row.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Open).collect();
    let on_the_wire = match &row.job.state {
        State::Submitting { attempt, .. } => vec![*attempt],
        _ => Vec::new(),
    };
    if open.iter().map(|attempt| attempt.n).ne(on_the_wire.iter().copied()) {
        broken.push(format!("attempts {on_the_wire:?} are on the wire, {open:?} are open"));
    }
    broken
}

/// A file under a final name that is not exactly the video that was paid for.
fn torn(file: &Found) -> Option<String> {
    let is_video = file.path.extension().is_some_and(|extension| extension == "mp4");
    let whole = file.wanted.as_ref().is_some_and(|wanted| *wanted == file.content);
    (is_video && !whole).then(|| format!("{} is torn, or nobody's", file.path.display()))
}

/// What a job that is called done lacks.
fn unfinished(row: &Row, files: &[Found]) -> Vec<String> {
    if row.outputs.is_empty() {
        return vec!["done without a video".to_owned()];
    }
    row.outputs.iter().flat_map(|output| lacking(row, output, files)).collect()
}

fn lacking(row: &Row, output: &Output, files: &[Found]) -> Vec<String> {
    let mut lacks = Vec::new();
    let Some(recorded) = &output.file else { return vec!["done without a file".to_owned()] };
    match files.iter().find(|file| file.path.to_str() == Some(&recorded.path)) {
        Some(file) if file.content.len() as u64 == recorded.bytes => {}
        Some(_) => lacks.push("its file is not as long as its row says".to_owned()),
        None => lacks.push(format!("done, and {} is not there", recorded.path)),
    }
    let sidecar = files.iter().find(|file| is_sidecar_of(file, &recorded.path));
    let told: Value = sidecar.and_then(|file| serde_json::from_slice(&file.content).ok()).unwrap_or_default();
    let task = row.job.state.task().map(|task| task.as_str());
    if told["task_id"].as_str() != task || told["sha256"].as_str() != Some(&recorded.sha256) {
        lacks.push(format!("its sidecar says {told}"));
    }
    lacks
}

fn belongs_to_a_done_job(file: &Found, facts: &Facts) -> bool {
    let rows = facts.jobs.iter().filter_map(|job| job.row.as_ref());
    let mut done =
        rows.filter(|row| matches!(row.job.state, State::Done { .. })).flat_map(|row| &row.outputs);
    done.any(|output| {
        output.file.as_ref().is_some_and(|recorded| {
            file.path.to_str() == Some(&recorded.path)
                || is_sidecar_of(file, &recorded.path)
                || is_suspect_of(file, &recorded.path)
        })
    })
}

/// What came in place of a video and was none; the latest is kept for a person.
fn is_suspect_of(file: &Found, video: &str) -> bool {
    file.path.to_str().and_then(|path| path.strip_suffix(".suspect")) == Some(video)
}

fn is_sidecar_of(file: &Found, video: &str) -> bool {
    file.path == std::path::Path::new(video).with_extension("json")
}
