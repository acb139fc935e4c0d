//! The one write path: [`step`] applies an event to a job in one fenced write, with its history row, its attempt's
//! outcome and its key.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{Result, StoreError, batch::Batch, hook, keys, ledger, row, writer::Ring};
use crate::domain::{
    Credits, Event, State, Timestamp,
    attempt::{self, AttemptNo, Outcome},
    job::{JobId, Version},
    plan::poll::MAX_OUTPUTS,
    state::{Failure, Lane, TaskId},
};

/// What must still be true for a step to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The job is as it was read.
    Version(Version),
    /// The attempt exists and may still be settled so: what came meanwhile changes what happens next, not whether the
    /// provider's word is kept.
    Attempt,
    /// The state machine alone decides: a person's command, read and written in one transaction.
    Legal,
}

/// What to write on a job.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The job.
    pub job: JobId,
    /// The fence.
    pub fence: Fence,
    /// What happened.
    pub event: &'a Event,
    /// When.
    pub at: Timestamp,
    /// When the job's next worker looks at it.
    pub due_at: Option<Timestamp>,
    /// What is shown with the job from now on.
    pub error: Option<Failure>,
    /// A remark to keep.
    pub note: Option<String>,
}

/// What a step did.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// The job's new version.
    pub version: Version,
}

/// Takes a step.
pub(super) async fn step(c: &mut SqliteConnection, ring: &mut Ring, s: &Step<'_>) -> Result<Moved> {
    let mut batch = Batch::default();
    let moved = step_in(c, ring, &mut batch, s).await?;
    batch.run(c).await?;
    Ok(moved)
}

/// Takes a step in one piece with what stands in `batch`, which the caller runs. Nothing there may change what a step
/// reads: the job's version and state, and its attempts' outcomes and tasks.
pub(super) async fn step_in(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    batch: &mut Batch,
    s: &Step<'_>,
) -> Result<Moved> {
    let settled = attempt::settled_by(s.event);
    let found = sqlx::query(
        "SELECT j.version, j.data, EXISTS (SELECT 1 FROM hooks) AS anybody_waits, a.outcome, a.task_id
         FROM jobs j LEFT JOIN attempts a ON a.job_id = j.id AND a.n = ? WHERE j.id = ?",
    )
    .bind(settled.map(|(n, _, _)| n.0))
    .bind(s.job.0)
    .fetch_optional(&mut *c)
    .await?
    .ok_or(StoreError::NoSuchJob(s.job))?;
    let version = Version(found.try_get("version")?);
    if matches!(s.fence, Fence::Version(read) if read != version) {
        return Err(StoreError::Stale { job: s.job });
    }
    let from: State = serde_json::from_str(found.try_get("data")?)?;
    let to = from.clone().apply(s.event).map_err(|why| StoreError::Illegal { job: s.job, why })?;
    if let Some(settled) = settled {
        settle(batch, s, &from, &found, settled)?;
    }
    settle_end(c, batch, s, &from).await?;
    let next = Version(version.0 + 1);
    write_job(batch, s, &to, version, next)?;
    insert_history(batch, s, &from, &to, next)?;
    if to.task().is_some() && to.task() != from.task() {
        ask_where_it_was_made(batch, s.job, &to);
        // Back at the task that it was done with, a job has its videos.
        if !matches!(to, State::Done { .. }) {
            forget_other_videos(batch, s);
        }
    }
    mark_unfollowed(batch, s, &from, &to);
    if matches!(to, State::Done { .. }) {
        ledger::free_internal_errors(batch, s.job);
    }
    if keys::are_concerned(&from, &to) {
        batch.run(c).await?;
        keys::follow(c, s.job, (&from, &to), matches!(s.event, Event::Requeued)).await?;
    }
    if settled.is_some() || to.has_ended() || matches!(s.event, Event::Succeeded { .. }) {
        sum_ledger(batch, s.job);
    }
    // Mostly nobody waits for anything.
    if found.try_get("anybody_waits")? {
        batch.run(c).await?;
        hook::job_moved(c, ring, s.job, (from.label(), to.label()), to.has_ended(), s.at).await?;
    }
    ring_for(ring, &from, &to);
    Ok(Moved { from, to, version: next })
}

fn ring_for(ring: &mut Ring, from: &State, to: &State) {
    if let Some(lane) = to.lane() {
        ring.lane(lane);
    }
    if from.label() != to.label() {
        ring.moved(to.label());
    }
    // A task that is no longer under way leaves a slot for the next submit.
    if from.in_flight() && !to.in_flight() {
        ring.lane(Lane::Submit);
    }
}

fn write_job(batch: &mut Batch, s: &Step<'_>, to: &State, read: Version, next: Version) -> Result<()> {
    let error = match (to, &s.error) {
        (State::Failed { failure, .. }, _) => Some(failure),
        (_, error) => error.as_ref(),
    };
    let submitted = matches!(s.event, Event::SubmitStarted { .. }).then_some(s.at.as_millis());
    batch
        .add_fenced(
            s.job,
            "UPDATE jobs SET version = ?, state = ?, data = ?, lane = ?, needs_person = ?, in_flight = ?, task_id = ?, due_at = ?, error = ?,
                submitted_at = coalesce(?, submitted_at), finished_at = ?,
                notes = CASE WHEN ? IS NULL THEN notes ELSE json_insert(notes, '$[#]', ?) END
             WHERE id = ? AND version = ?",
        )
        .bind(next.0)
        .bind(to.label().as_str())
        .bind(serde_json::to_string(to)?)
        .bind(to.lane().map(Lane::as_str))
        .bind(to.needs_person().is_some())
        .bind(to.in_flight())
        .bind(to.task().map(|t| t.as_str()))
        .bind(to.lane().and(s.due_at).map(Timestamp::as_millis))
        .bind(error.map(serde_json::to_string).transpose()?)
        .bind(submitted)
        .bind(to.has_ended().then_some(s.at.as_millis()))
        .bind(s.note.as_deref())
        .bind(s.note.as_deref())
        .bind(s.job.0)
        .bind(read.0);
    Ok(())
}

fn insert_history(batch: &mut Batch, s: &Step<'_>, from: &State, to: &State, version: Version) -> Result<()> {
    batch
        .add("INSERT INTO history (job_id, version, at, event, from_state, to_state) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(s.job.0)
        .bind(version.0)
        .bind(s.at.as_millis())
        .bind(serde_json::to_string(s.event)?)
        .bind(from.label().as_str())
        .bind(to.label().as_str());
    Ok(())
}

/// Writes an attempt's outcome. The row of a new attempt is inserted by `submit`, with its bytes.
fn settle(
    batch: &mut Batch,
    s: &Step<'_>,
    from: &State,
    found: &SqliteRow,
    (n, outcome, charged): (AttemptNo, Outcome, Option<Credits>),
) -> Result<()> {
    if outcome == Outcome::Open {
        return Ok(());
    }
    let missing = || StoreError::NoSuchAttempt { job: s.job, attempt: n.0 };
    let current = row::outcome(&found.try_get::<Option<String>, _>("outcome")?.ok_or_else(missing)?)?;
    let earlier: Option<String> = found.try_get("task_id")?;
    // `--resubmit` leaves its attempt in doubt, and a lost video that is written off stays charged: that is no change.
    let unchanged = match s.event {
        Event::Resubmitted { .. } => current == outcome,
        Event::WrittenOff { .. } => current == Outcome::Accepted,
        _ => false,
    };
    if unchanged {
        return Ok(());
    }
    if !current.may_become(outcome, from.has_ended()) {
        return Err(missing());
    }
    let task = match s.event {
        Event::Accepted { task, .. } => Some(task.as_str()),
        _ => None,
    };
    batch
        .add("UPDATE attempts SET outcome = ?, task_id = coalesce(?, task_id) WHERE job_id = ? AND n = ?")
        .bind(outcome.as_str())
        .bind(task)
        .bind(s.job.0)
        .bind(n.0);
    let another_task = task.is_some() && earlier.is_some() && task != earlier.as_deref();
    ledger::settle(batch, s.job, n, outcome, charged, another_task);
    Ok(())
}

/// What the end of a task says of its money.
async fn settle_end(c: &mut SqliteConnection, batch: &mut Batch, s: &Step<'_>, from: &State) -> Result<()> {
    match (s.event, from.task()) {
        (Event::Succeeded { charged, .. }, Some(task)) => {
            ledger::succeeded(batch, s.job, task, *charged);
            Ok(())
        }
        (Event::TaskFailed { charged, .. }, Some(task)) => {
            ledger::failed(c, batch, s.job, task, *charged).await
        }
        (_, _) => Ok(()),
    }
}

/// A task is asked for at the base URL of the attempt that made it, which need not be the last one.
fn ask_where_it_was_made(batch: &mut Batch, job: JobId, to: &State) {
    batch
        .add(
            "UPDATE jobs SET base_url = a.base_url, key_fingerprint = a.key_fingerprint
             FROM attempts a WHERE jobs.id = ? AND a.job_id = jobs.id AND a.task_id = ?",
        )
        .bind(job.0)
        .bind(to.task().map(|t| t.as_str()));
}

/// A paid task that the job does not follow is on record until it is followed, or written off: a job must not look as if
/// all were well while a video that was paid for is not asked for.
fn mark_unfollowed(batch: &mut Batch, s: &Step<'_>, from: &State, to: &State) {
    let mut mark = |task: &TaskId, unfollowed: bool| {
        batch
            .add("UPDATE attempts SET unfollowed = ? WHERE job_id = ? AND task_id = ?")
            .bind(unfollowed)
            .bind(s.job.0)
            .bind(task.as_str());
    };
    if let Some(task) = to.task().filter(|task| from.task() != Some(task)) {
        mark(task, false);
    }
    match (s.event, from) {
        (Event::Accepted { task, .. }, _) if to.task() != Some(task) => mark(task, true),
        (Event::WrittenOff { task: Some(task), .. }, _) => mark(task, false),
        // Turned up while another attempt was on the wire, and that one made a task of its own.
        (_, State::Submitting { accepted: Some(task), .. }) if to.task() != Some(task) => mark(task, true),
        (_, _) => {}
    }
}

/// The job follows another task from now on: what was fetched of an earlier one is no part of its videos. The files stay.
/// So do the rows of whole videos when the other task is one more: out of the way, behind any place a task can give.
fn forget_other_videos(batch: &mut Batch, s: &Step<'_>) {
    let one_more = matches!(s.event, Event::FollowedOther { .. });
    batch
        .add("DELETE FROM outputs WHERE job_id = ? AND NOT (? AND published_at IS NOT NULL)")
        .bind(s.job.0)
        .bind(one_more);
    batch
        .add("UPDATE outputs SET idx = idx + ? + 1 + (SELECT max(idx) FROM outputs WHERE job_id = ?) WHERE job_id = ?")
        .bind(i64::try_from(MAX_OUTPUTS).unwrap_or(i64::MAX))
        .bind(s.job.0)
        .bind(s.job.0);
}

/// What the job shows of its attempts' money: what the provider keeps, as far as it has said.
fn sum_ledger(batch: &mut Batch, job: JobId) {
    batch
        .add(
            "UPDATE jobs SET
                charged = (SELECT sum(charged - refunded) FROM ledger WHERE job_id = jobs.id),
                paid_attempts = (SELECT count(*) FROM ledger WHERE job_id = jobs.id AND charge <> 'free')
             WHERE id = ?",
        )
        .bind(job.0);
}
