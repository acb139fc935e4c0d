//! New jobs: all of them in one transaction, none of them twice by accident.

use sqlx::SqliteConnection;

use super::{Result, Store, StoreError, row, step::insert_history, writer::Ring};
use crate::domain::{
    Credits, Event, JobId, State, Timestamp,
    job::{NewJob, Version},
    state::Lane,
};

/// What one file or one call brings.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Its name.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// What its new jobs may cost together.
    pub max_credits: Option<Credits>,
    /// Its jobs.
    pub jobs: Vec<NewJob>,
}

/// What became of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The job's number: the new one, or the earlier job with the same key.
    pub id: JobId,
    /// The key was there already; nothing was queued.
    pub existing: bool,
}

impl Store {
    /// Queues a batch: all its jobs or none.
    pub async fn enqueue(&self, batch: NewBatch, now: Timestamp) -> Result<Vec<Queued>> {
        self.write(move |c, ring| Box::pin(async move { enqueue(c, ring, &batch, now).await })).await
    }

    /// Queues several batches: all their jobs or none. `max_credits` is for all new jobs together. What became of each
    /// job is told in the order of the batches.
    pub async fn enqueue_all(
        &self,
        batches: Vec<NewBatch>,
        max_credits: Option<Credits>,
        now: Timestamp,
    ) -> Result<Vec<Queued>> {
        self.write(move |c, ring| {
            Box::pin(async move {
                let mut queued = Vec::new();
                for batch in &batches {
                    queued.append(&mut enqueue(c, ring, batch, now).await?);
                }
                let jobs = batches.iter().flat_map(|batch| &batch.jobs);
                let new = jobs.zip(&queued).filter(|(_, queued)| !queued.existing);
                within(max_credits, new.map(|(job, _)| job.estimate).sum())?;
                Ok(queued)
            })
        })
        .await
    }

    /// The jobs that hold these keys already, for a dry run.
    pub async fn holders(&self, jobs: &[NewJob]) -> Result<Vec<Option<JobId>>> {
        let mut c = self.readers.acquire().await?;
        let mut found = Vec::with_capacity(jobs.len());
        for job in jobs {
            found.push(if job.again { None } else { holder(&mut c, job).await? });
        }
        Ok(found)
    }
}

pub(super) async fn enqueue(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    batch: &NewBatch,
    now: Timestamp,
) -> Result<Vec<Queued>> {
    let mut queued = Vec::with_capacity(batch.jobs.len());
    let mut batch_id = None;
    let mut cost = Credits::ZERO;
    for job in &batch.jobs {
        if !job.again
            && let Some(id) = holder(c, job).await?
        {
            queued.push(Queued { id, existing: true });
            continue;
        }
        cost = cost + job.estimate;
        let batch_id = match batch_id {
            Some(id) => id,
            None => *batch_id.insert(insert_batch(c, batch, now).await?),
        };
        queued.push(Queued { id: insert(c, job, batch_id, now).await?, existing: false });
        ring.lane(Lane::Submit);
    }
    within(batch.max_credits, cost)?;
    Ok(queued)
}

fn within(max_credits: Option<Credits>, estimate: Credits) -> Result<()> {
    match max_credits {
        Some(allowed) if estimate > allowed => Err(StoreError::TooExpensive { estimate, allowed }),
        Some(_) | None => Ok(()),
    }
}

async fn holder(c: &mut SqliteConnection, job: &NewJob) -> Result<Option<JobId>> {
    let id: Option<i64> = sqlx::query_scalar("SELECT job_id FROM keys WHERE key = ?")
        .bind(job.key.as_str())
        .fetch_optional(c)
        .await?;
    Ok(id.map(JobId))
}

async fn insert_batch(c: &mut SqliteConnection, batch: &NewBatch, now: Timestamp) -> Result<i64> {
    let done = sqlx::query("INSERT INTO batches (name, source, created_at) VALUES (?, ?, ?)")
        .bind(&batch.name)
        .bind(&batch.source)
        .bind(now.as_millis())
        .execute(c)
        .await?;
    Ok(done.last_insert_rowid())
}

async fn insert(c: &mut SqliteConnection, job: &NewJob, batch_id: i64, now: Timestamp) -> Result<JobId> {
    let state = State::Queued;
    let first = Version(1);
    let done = sqlx::query(
        "INSERT INTO jobs (version, state, data, lane, needs_person, in_flight, due_at, priority, name, output, batch_id, tags, take,
            key, not_before, type, request, estimate, max_credits, created_at, source)
         VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(first.0)
    .bind(state.label().as_str())
    .bind(serde_json::to_string(&state)?)
    .bind(state.lane().map(Lane::as_str))
    .bind(job.not_before.unwrap_or(now).max(now).as_millis())
    .bind(job.priority)
    .bind(&job.name)
    .bind(&job.output)
    .bind(batch_id)
    .bind(serde_json::to_string(&job.tags)?)
    .bind(job.take)
    .bind(job.key.as_str())
    .bind(job.not_before.map(Timestamp::as_millis))
    .bind(job.request.job_type().as_str())
    .bind(String::from_utf8_lossy(&job.request.to_bytes()).into_owned())
    .bind(row::credits(job.estimate))
    .bind(job.max_credits.map(row::credits))
    .bind(now.as_millis())
    .bind(&job.source)
    .execute(&mut *c)
    .await?;
    let id = JobId(done.last_insert_rowid());
    // With `again` the key moves to the newest job; the earlier one keeps its row, not its key.
    sqlx::query("INSERT INTO keys (key, job_id) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id")
        .bind(job.key.as_str())
        .bind(id.0)
        .execute(&mut *c)
        .await?;
    insert_history(c, id, first, now, &Event::Enqueued, None, &state).await?;
    Ok(id)
}
