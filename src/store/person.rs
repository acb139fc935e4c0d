//! What a person's command does to a job: each in one transaction that reads, decides by the state machine and writes.

use sqlx::{Row, SqliteConnection};

use super::{
    Result, Store, StoreError,
    step::{Fence, Moved, Step, step},
    submit,
    writer::Ring,
};
use crate::domain::{
    AttemptNo, Event, JobId, State, TaskId, Timestamp, event::Source, plan::retry::RetryPlan,
};

/// Changes of a job that is not submitted yet; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the flags")]
pub struct Edit {
    pub priority: Option<i8>,
    pub not_before: Option<Timestamp>,
    pub tags: Option<Vec<String>>,
    pub name: Option<String>,
}

/// The ways out of doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// This task is the attempt's; it was verified, or the person insists.
    Adopt(TaskId),
    /// It was not charged: back to the queue.
    NotCharged,
    /// Given up; it counts as spent.
    WriteOff,
    /// Paid again, on purpose; the attempt stays in doubt.
    Resubmit,
}

impl Store {
    /// Cancels a job. A paid one only when `paid_too`.
    pub async fn cancel(&self, job: JobId, paid_too: bool, now: Timestamp) -> Result<Moved> {
        self.write(move |c, ring| {
            Box::pin(async move {
                let state = state(c, job).await?;
                if !paid_too && matches!(state, State::Generating { .. } | State::Downloading { .. }) {
                    let why = "it is paid; cancelling stops following it (--yes)";
                    return Err(StoreError::NotNow { job, state: state.label(), why });
                }
                if let State::InDoubt { .. } = state {
                    let why = "it may be paid; say what became of it with klingd resolve";
                    return Err(StoreError::NotNow { job, state: state.label(), why });
                }
                take(c, ring, job, &Event::Cancelled, now).await
            })
        })
        .await
    }

    /// Changes a job that is queued or on the wire.
    pub async fn edit(&self, job: JobId, edit: Edit, now: Timestamp) -> Result<Moved> {
        self.write(move |c, ring| Box::pin(async move { apply_edit(c, ring, job, &edit, now).await })).await
    }

    /// The failed step again, as `plan` says.
    pub async fn retry(&self, job: JobId, plan: RetryPlan, now: Timestamp) -> Result<Moved> {
        let event = match plan {
            RetryPlan::Follow => Event::Followed,
            RetryPlan::Resume | RetryPlan::Render => Event::Requeued,
        };
        self.write(move |c, ring| Box::pin(async move { take(c, ring, job, &event, now).await })).await
    }

    /// Follows the paid task of another attempt, for free, after the one that the job followed has come to its end. The
    /// videos that it brought stay.
    pub async fn follow_other(&self, job: JobId, attempt: AttemptNo, now: Timestamp) -> Result<Moved> {
        self.write(move |c, ring| {
            Box::pin(async move {
                let missing = StoreError::NoSuchAttempt { job, attempt: attempt.0 };
                let task = task_of(c, job, attempt).await?.ok_or(missing)?;
                take(c, ring, job, &Event::FollowedOther { task }, now).await
            })
        })
        .await
    }

    /// Whose task this is, if it is not this attempt's.
    pub async fn task_owner(&self, task: TaskId, job: JobId, attempt: AttemptNo) -> Result<Option<JobId>> {
        submit::owner(&mut *self.readers.acquire().await?, &task, job, attempt).await
    }

    /// Settles an attempt in doubt.
    pub async fn resolve(
        &self,
        job: JobId,
        attempt: AttemptNo,
        resolution: Resolution,
        note: Option<String>,
        now: Timestamp,
    ) -> Result<Moved> {
        self.write(move |c, ring| {
            Box::pin(async move {
                let event = match resolution {
                    Resolution::Adopt(task) => adopt(c, job, attempt, task).await?,
                    Resolution::NotCharged => Event::ResolvedNotCharged { attempt },
                    Resolution::WriteOff => {
                        let task = task_of(c, job, attempt).await?;
                        Event::WrittenOff { attempt, task }
                    }
                    Resolution::Resubmit => Event::Resubmitted { attempt },
                };
                if let Some(note) = note {
                    sqlx::query("UPDATE attempts SET note = ? WHERE job_id = ? AND n = ?")
                        .bind(note)
                        .bind(job.0)
                        .bind(attempt.0)
                        .execute(&mut *c)
                        .await?;
                }
                take(c, ring, job, &event, now).await
            })
        })
        .await
    }
}

/// The event of a task that a person brings. One that does well is not replaced: the job and its ledger would follow
/// two different tasks.
async fn adopt(c: &mut SqliteConnection, job: JobId, attempt: AttemptNo, task: TaskId) -> Result<Event> {
    let state = state(c, job).await?;
    if matches!(state, State::Submitting { attempt: wire, .. } if wire == attempt) {
        let why = "its request is on the wire; the answer says which task it made";
        return Err(StoreError::NotNow { job, state: state.label(), why });
    }
    if let Some(owner) = submit::owner(c, &task, job, attempt).await? {
        return Err(StoreError::TaskTaken { task, owner });
    }
    let has = task_of(c, job, attempt).await?;
    let event = Event::Accepted { attempt, task: task.clone(), charged: None, source: Source::Person };
    let label = state.label();
    let follows = state.apply(&event).is_ok_and(|next| next.task() == Some(&task));
    if has.is_some_and(|has| has != task) && !follows {
        let why = "this attempt has a task already, and it does well";
        return Err(StoreError::NotNow { job, state: label, why });
    }
    Ok(event)
}

/// The task that an attempt made, as far as anybody knows.
async fn task_of(c: &mut SqliteConnection, job: JobId, attempt: AttemptNo) -> Result<Option<TaskId>> {
    let task: Option<String> = sqlx::query_scalar("SELECT task_id FROM attempts WHERE job_id = ? AND n = ?")
        .bind(job.0)
        .bind(attempt.0)
        .fetch_optional(c)
        .await?
        .flatten();
    Ok(task.and_then(|task| TaskId::parse(&task)))
}

async fn take(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    job: JobId,
    event: &Event,
    now: Timestamp,
) -> Result<Moved> {
    let not_before: Option<i64> = sqlx::query_scalar("SELECT not_before FROM jobs WHERE id = ?")
        .bind(job.0)
        .fetch_optional(&mut *c)
        .await?
        .flatten();
    let due = match event {
        Event::Requeued | Event::ResolvedNotCharged { .. } | Event::Resubmitted { .. } => {
            not_before.map_or(now, |t| Timestamp::from_millis(t).max(now))
        }
        _ => now,
    };
    let fence = Fence::Legal;
    step(c, ring, &Step { job, fence, event, at: now, due_at: Some(due), error: None, note: None }).await
}

async fn state(c: &mut SqliteConnection, job: JobId) -> Result<State> {
    let row = sqlx::query("SELECT data FROM jobs WHERE id = ?")
        .bind(job.0)
        .fetch_optional(c)
        .await?
        .ok_or(StoreError::NoSuchJob(job))?;
    Ok(serde_json::from_str(row.try_get("data")?)?)
}

async fn apply_edit(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    job: JobId,
    edit: &Edit,
    now: Timestamp,
) -> Result<Moved> {
    let state = state(c, job).await?;
    if !matches!(state, State::Queued | State::Submitting { .. }) {
        let why = "only a job that is not submitted yet can be changed";
        return Err(StoreError::NotNow { job, state: state.label(), why });
    }
    sqlx::query(
        "UPDATE jobs SET priority = coalesce(?, priority), not_before = coalesce(?, not_before),
            tags = coalesce(?, tags), name = coalesce(?, name) WHERE id = ?",
    )
    .bind(edit.priority)
    .bind(edit.not_before.map(Timestamp::as_millis))
    .bind(edit.tags.as_ref().map(serde_json::to_string).transpose()?)
    .bind(edit.name.as_deref())
    .bind(job.0)
    .execute(&mut *c)
    .await?;
    let row = sqlx::query("SELECT due_at, not_before FROM jobs WHERE id = ?")
        .bind(job.0)
        .fetch_one(&mut *c)
        .await?;
    let time = |column| row.try_get::<Option<i64>, _>(column).map(|t| t.map(Timestamp::from_millis));
    let due = if edit.not_before.is_some() { time("not_before")? } else { time("due_at")? };
    let what = [
        edit.priority.map(|p| format!("priority {p}")),
        edit.not_before.map(|t| format!("not before {t}")),
        edit.tags.as_ref().map(|t| format!("tags {}", t.join(", "))),
        edit.name.as_ref().map(|n| format!("name {n}")),
    ];
    let event = Event::Edited { what: what.into_iter().flatten().collect::<Vec<_>>().join("; ") };
    let fence = Fence::Legal;
    step(c, ring, &Step { job, fence, event: &event, at: now, due_at: due, error: None, note: None }).await
}
