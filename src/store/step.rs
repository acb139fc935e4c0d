//! The one write path: [`step`] applies an event to a job in one fenced write, with its history row, its attempt's
//! outcome and its key.

use sqlx::{Row, SqliteConnection};

use super::{Result, StoreError, hook, keys, ledger, row, writer::Ring};
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
    let found = sqlx::query("SELECT version, data FROM jobs WHERE id = ?")
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
    let settled = attempt::settled_by(s.event);
    if let Some((n, outcome, charged)) = settled {
        settle(c, s, &from, n, outcome, charged).await?;
    }
    settle_end(c, s, &from).await?;
    let next = Version(version.0 + 1);
    write_job(c, s, &to, version, next).await?;
    insert_history(c, s.job, next, s.at, s.event, Some(&from), &to).await?;
    if to.task().is_some() && to.task() != from.task() {
        ask_where_it_was_made(c, s.job, &to).await?;
        // Back at the task that it was done with, a job has its videos.
        if !matches!(to, State::Done { .. }) {
            forget_other_videos(c, s).await?;
        }
    }
    mark_unfollowed(c, s, &from, &to).await?;
    if matches!(to, State::Done { .. }) {
        ledger::free_internal_errors(c, s.job).await?;
    }
    keys::follow(c, s.job, (&from, &to), matches!(s.event, Event::Requeued)).await?;
    if settled.is_some() || to.has_ended() || matches!(s.event, Event::Succeeded { .. }) {
        sum_ledger(c, s.job).await?;
    }
    hook::job_moved(c, ring, s.job, (from.label(), to.label()), to.has_ended(), s.at).await?;
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
    Ok(Moved { from, to, version: next })
}

async fn write_job(
    c: &mut SqliteConnection,
    s: &Step<'_>,
    to: &State,
    read: Version,
    next: Version,
) -> Result<()> {
    let error = match (to, &s.error) {
        (State::Failed { failure, .. }, _) => Some(failure),
        (_, error) => error.as_ref(),
    };
    let submitted = matches!(s.event, Event::SubmitStarted { .. }).then_some(s.at.as_millis());
    let changed = sqlx::query(
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
    .bind(read.0)
    .execute(c)
    .await?
    .rows_affected();
    if changed == 1 { Ok(()) } else { Err(StoreError::Stale { job: s.job }) }
}

pub(super) async fn insert_history(
    c: &mut SqliteConnection,
    job: JobId,
    version: Version,
    at: Timestamp,
    event: &Event,
    from: Option<&State>,
    to: &State,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO history (job_id, version, at, event, from_state, to_state) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(job.0)
    .bind(version.0)
    .bind(at.as_millis())
    .bind(serde_json::to_string(event)?)
    .bind(from.map(|s| s.label().as_str()))
    .bind(to.label().as_str())
    .execute(c)
    .await?;
    Ok(())
}

/// Writes an attempt's outcome. The row of a new attempt is inserted by `submit`, with its bytes.
async fn settle(
    c: &mut SqliteConnection,
    s: &Step<'_>,
    from: &State,
    n: AttemptNo,
    outcome: Outcome,
    charged: Option<Credits>,
) -> Result<()> {
    if outcome == Outcome::Open {
        return Ok(());
    }
    let missing = || StoreError::NoSuchAttempt { job: s.job, attempt: n.0 };
    let found = sqlx::query("SELECT outcome, task_id FROM attempts WHERE job_id = ? AND n = ?")
        .bind(s.job.0)
        .bind(n.0)
        .fetch_optional(&mut *c)
        .await?
        .ok_or_else(missing)?;
    let current = row::outcome(found.try_get("outcome")?)?;
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
    sqlx::query("UPDATE attempts SET outcome = ?, task_id = coalesce(?, task_id) WHERE job_id = ? AND n = ?")
        .bind(outcome.as_str())
        .bind(task)
        .bind(s.job.0)
        .bind(n.0)
        .execute(&mut *c)
        .await?;
    let another_task = task.is_some() && earlier.is_some() && task != earlier.as_deref();
    ledger::settle(c, s.job, n, outcome, charged, another_task).await
}

/// What the end of a task says of its money.
async fn settle_end(c: &mut SqliteConnection, s: &Step<'_>, from: &State) -> Result<()> {
    match (s.event, from.task()) {
        (Event::Succeeded { charged, .. }, Some(task)) => ledger::succeeded(c, s.job, task, *charged).await,
        (Event::TaskFailed { charged, .. }, Some(task)) => ledger::failed(c, s.job, task, *charged).await,
        (_, _) => Ok(()),
    }
}

/// A task is asked for at the base URL of the attempt that made it, which need not be the last one.
async fn ask_where_it_was_made(c: &mut SqliteConnection, job: JobId, to: &State) -> Result<()> {
    sqlx::query(
        "UPDATE jobs SET base_url = a.base_url, key_fingerprint = a.key_fingerprint
         FROM attempts a WHERE jobs.id = ? AND a.job_id = jobs.id AND a.task_id = ?",
    )
    .bind(job.0)
    .bind(to.task().map(|t| t.as_str()))
    .execute(c)
    .await?;
    Ok(())
}

/// A paid task that the job does not follow is on record until it is followed, or written off: a job must not look as if
/// all were well while a video that was paid for is not asked for.
async fn mark_unfollowed(c: &mut SqliteConnection, s: &Step<'_>, from: &State, to: &State) -> Result<()> {
    let mut mark = async |task: &TaskId, unfollowed: bool| -> Result<()> {
        sqlx::query("UPDATE attempts SET unfollowed = ? WHERE job_id = ? AND task_id = ?")
            .bind(unfollowed)
            .bind(s.job.0)
            .bind(task.as_str())
            .execute(&mut *c)
            .await?;
        Ok(())
    };
    if let Some(task) = to.task().filter(|task| from.task() != Some(task)) {
        mark(task, false).await?;
    }
    match (s.event, from) {
        (Event::Accepted { task, .. }, _) if to.task() != Some(task) => mark(task, true).await?,
        (Event::WrittenOff { task: Some(task), .. }, _) => mark(task, false).await?,
        // Turned up while another attempt was on the wire, and that one made a task of its own.
        (_, State::Submitting { accepted: Some(task), .. }) if to.task() != Some(task) => {
            mark(task, true).await?;
        }
        (_, _) => {}
    }
    Ok(())
}

/// The job follows another task from now on: what was fetched of an earlier one is no part of its videos. The files stay.
/// So do the rows of whole videos when the other task is one more: out of the way, behind any place a task can give.
async fn forget_other_videos(c: &mut SqliteConnection, s: &Step<'_>) -> Result<()> {
    let one_more = matches!(s.event, Event::FollowedOther { .. });
    sqlx::query("DELETE FROM outputs WHERE job_id = ? AND NOT (? AND published_at IS NOT NULL)")
        .bind(s.job.0)
        .bind(one_more)
        .execute(&mut *c)
        .await?;
    sqlx::query(
        "UPDATE outputs SET idx = idx + ?2 + 1 + (SELECT max(idx) FROM outputs WHERE job_id = ?1) WHERE job_id = ?1",
    )
    .bind(s.job.0)
    .bind(i64::try_from(MAX_OUTPUTS).unwrap_or(i64::MAX))
    .execute(c)
    .await?;
    Ok(())
}

/// What the job shows of its attempts' money: what the provider keeps, as far as it has said.
async fn sum_ledger(c: &mut SqliteConnection, job: JobId) -> Result<()> {
    sqlx::query(
        "UPDATE jobs SET
            charged = (SELECT sum(charged - refunded) FROM ledger WHERE job_id = jobs.id),
            paid_attempts = (SELECT count(*) FROM ledger WHERE job_id = jobs.id AND charge <> 'free')
         WHERE id = ?",
    )
    .bind(job.0)
    .execute(c)
    .await?;
    Ok(())
}
