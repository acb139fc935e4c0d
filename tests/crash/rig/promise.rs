//! The promise, line by line: facts in, broken lines out. Pure, so that it can be shown to notice what it should.

use klingd::domain::{Charge, Credits, Outcome, State};
use klingd::store::{download::Output, view::AttemptRow};
use serde_json::Value;

use super::facts::{Facts, Found, JobFacts, Row};
use crate::tally::{Invariant, Verdict};

/// What must hold at any instant, whatever was killed a moment ago.
pub fn at_any_instant(facts: &Facts) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.check(Invariant::Sound, facts.damage.iter().cloned());
    verdict.check(Invariant::Secret, facts.leaks.iter().cloned());
    verdict.check(Invariant::Clean, grown(facts));
    for job in &facts.jobs {
        let said = |broken: Vec<String>| broken.into_iter().map(|line| format!("{}: {line}", job.prompt));
        let lost = if job.row.is_none() { vec!["it is lost".to_owned()] } else { Vec::new() };
        verdict.check(Invariant::Kept, said(lost));
        verdict.check(Invariant::PaidOnce, said(paid_again(job)));
        if let Some(row) = &job.row {
            verdict.check(Invariant::OnRecord, said(forgotten_money(job, row)));
            verdict.check(Invariant::Sound, said(broken_row(row)));
        }
    }
    for file in facts.files.iter().filter(|file| is_video(file)) {
        verdict.check(Invariant::Whole, torn(file));
    }
    verdict
}

/// What must hold besides when nothing moves any more: each job is done or in doubt (or `may_end` otherwise), and nothing
/// lies about.
pub fn at_rest(facts: &Facts, may_end: fn(&State) -> bool) -> Verdict {
    let mut verdict = at_any_instant(facts);
    for (job, row) in facts.jobs.iter().filter_map(|job| Some((job, job.row.as_ref()?))) {
        let said = |broken: Vec<String>| broken.into_iter().map(|line| format!("{}: {line}", job.prompt));
        match &row.job.state {
            State::Done { .. } => verdict.check(Invariant::Whole, said(unfinished(row, &facts.files))),
            State::InDoubt { .. } => {
                let untold = (!row.shown_in_need).then(|| "it is in doubt and nobody is told".to_owned());
                verdict.check(Invariant::OnRecord, said(Vec::from_iter(untold)));
            }
            other => {
                let moves = (!may_end(other)).then(|| format!("it is {} at rest", other.label()));
                verdict.check(Invariant::Rests, said(Vec::from_iter(moves)));
            }
        }
        let open = row.attempts.iter().any(|attempt| attempt.outcome == Outcome::Open);
        let open = open.then(|| "an attempt is open at rest".to_owned());
        verdict.check(Invariant::Rests, said(Vec::from_iter(open)));
    }
    let strays = facts.files.iter().filter(|file| !belongs_to_a_done_job(file, facts));
    verdict.check(Invariant::Clean, strays.map(|file| format!("{} was left behind", file.path.display())));
    let spooled = (facts.spooled > 0).then(|| format!("{} answers are left in the spool", facts.spooled));
    verdict.check(Invariant::Clean, spooled);
    verdict
}

/// The broken lines of [`at_any_instant`].
pub fn broken_at_any_instant(facts: &Facts) -> Vec<String> {
    at_any_instant(facts).broken
}

/// The broken lines of [`at_rest`], where every job must be done or in doubt.
pub fn broken_at_rest(facts: &Facts) -> Vec<String> {
    at_rest(facts, |_| false).broken
}

/// SQLite brings the WAL in at 4 MB; with a reader in the way it may miss one turn, but not four.
const WAL_AT_MOST: u64 = 16 << 20;
/// A daemon with all its workers, connections and database handles has half of these.
const DESCRIPTORS_AT_MOST: usize = 128;

fn grown(facts: &Facts) -> Vec<String> {
    let (wal, descriptors) = (facts.wal_bytes, facts.descriptors);
    let wal = (wal > WAL_AT_MOST).then(|| format!("the WAL has grown to {wal} bytes"));
    let open = (descriptors > DESCRIPTORS_AT_MOST).then(|| format!("a daemon had {descriptors} descriptors"));
    wal.into_iter().chain(open).collect()
}

fn paid_again(job: &JobFacts) -> Vec<String> {
    let too_often = job.charges > 1 + job.consents;
    too_often.then(|| format!("it was charged {} times", job.charges)).into_iter().collect()
}

fn forgotten_money(job: &JobFacts, row: &Row) -> Vec<String> {
    let mut broken = Vec::new();
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

fn is_video(file: &Found) -> bool {
    file.path.extension().is_some_and(|extension| extension == "mp4")
}

/// A file under a final name that is not exactly the video that was paid for.
fn torn(file: &Found) -> Option<String> {
    let whole = file.wanted.as_ref().is_some_and(|wanted| *wanted == file.content);
    (!whole).then(|| format!("{} is torn, or nobody's", file.path.display()))
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
