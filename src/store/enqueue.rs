//! New jobs: all of them in one transaction, none of them twice by accident.
//!
//! Statements take hundreds of jobs at once, as JSON: a statement a row costs four times as much as the row.

use std::io;

use sqlx::SqliteConnection;

use super::{Result, Store, StoreError, keys::Earlier, packed::Packed, writer::Ring};
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

/// The same, with its jobs somewhere else until the transaction takes them.
pub struct PackedBatch {
    /// Its name.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// What its new jobs may cost together.
    pub max_credits: Option<Credits>,
    /// Its jobs. They are asked for while every other process waits for the database: no pipe, no network.
    pub jobs: Box<dyn Iterator<Item = io::Result<Packed>> + Send>,
}

/// What became of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The job's number: the new one, or the earlier job with the same key.
    pub id: JobId,
    /// The key was there already; nothing was queued.
    pub existing: bool,
}

impl NewBatch {
    pub(super) fn packed(self) -> Result<PackedBatch> {
        let Self { name, source, max_credits, jobs } = self;
        let jobs = Box::new(Packed::all(&jobs)?.into_iter().map(Ok));
        Ok(PackedBatch { name, source, max_credits, jobs })
    }
}

impl Store {
    /// Queues a batch: all its jobs or none.
    pub async fn enqueue(&self, batch: NewBatch, now: Timestamp) -> Result<Vec<Queued>> {
        self.enqueue_all(vec![batch], None, now).await
    }

    /// Queues several batches: all their jobs or none. `max_credits` is for all new jobs together. What became of each
    /// job is told in the order of the batches.
    pub async fn enqueue_all(
        &self,
        batches: Vec<NewBatch>,
        max_credits: Option<Credits>,
        now: Timestamp,
    ) -> Result<Vec<Queued>> {
        let packed = batches.into_iter().map(NewBatch::packed).collect::<Result<Vec<_>>>()?;
        self.enqueue_packed(packed, max_credits, now).await
    }

    /// The same for jobs that are too many to be in memory.
    pub async fn enqueue_packed(
        &self,
        batches: Vec<PackedBatch>,
        max_credits: Option<Credits>,
        now: Timestamp,
    ) -> Result<Vec<Queued>> {
        self.write(move |c, ring| {
            Box::pin(async move {
                let (mut queued, mut cost) = (Vec::new(), Credits::ZERO);
                for batch in batches {
                    cost = cost + enqueue(c, ring, batch, now, &mut queued).await?;
                }
                within(max_credits, cost)?;
                Ok(queued)
            })
        })
        .await
    }

    /// The jobs that hold these keys already, for a dry run.
    pub async fn holders(&self, jobs: &Packed) -> Result<Vec<Option<JobId>>> {
        let mut c = self.readers.acquire().await?;
        let earlier = Earlier::find(&mut c, &jobs.json()).await?;
        Ok((0..jobs.len()).map(|n| earlier.holders.get(&n).copied()).collect())
    }
}

/// Queues what is not there already; adds what became of each job to `queued`. Returns what the new ones cost.
pub(super) async fn enqueue(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    batch: PackedBatch,
    now: Timestamp,
    queued: &mut Vec<Queued>,
) -> Result<Credits> {
    let PackedBatch { name, source, max_credits, jobs } = batch;
    let mut new: Option<New> = None;
    for packed in jobs {
        let packed = packed.map_err(StoreError::Spool)?;
        let json = packed.json();
        let earlier = Earlier::find(c, &json).await?;
        let mut next = None;
        if earlier.holders.len() < packed.len() {
            let new = match &mut new {
                Some(new) => new,
                None => new.insert(New::batch(c, &name, &source, now).await?),
            };
            earlier.release(c, &json).await?;
            next = Some(new.insert(c, &json, &earlier, now).await?);
        }
        for n in 0..packed.len() {
            queued.push(match (earlier.holders.get(&n), &mut next) {
                (Some(id), _) => Queued { id: *id, existing: true },
                (None, Some(id)) => {
                    id.0 += 1;
                    Queued { id: JobId(id.0 - 1), existing: false }
                }
                (None, None) => return Err(StoreError::Corrupt("more keys than jobs".to_owned())),
            });
        }
    }
    let Some(new) = new else { return Ok(Credits::ZERO) };
    ring.lane(Lane::Submit);
    new.take_keys(c).await?;
    let cost = new.cost(c).await?;
    within(max_credits, cost)?;
    Ok(cost)
}

fn within(max_credits: Option<Credits>, estimate: Credits) -> Result<()> {
    match max_credits {
        Some(allowed) if estimate > allowed => Err(StoreError::TooExpensive { estimate, allowed }),
        Some(_) | None => Ok(()),
    }
}

/// The new jobs of a batch. Nothing else inserts meanwhile, so their numbers follow one another.
struct New {
    batch_id: i64,
    first: Option<JobId>,
    last: JobId,
}

impl New {
    async fn batch(c: &mut SqliteConnection, name: &str, source: &str, now: Timestamp) -> Result<Self> {
        let done = sqlx::query("INSERT INTO batches (name, source, created_at) VALUES (?, ?, ?)")
            .bind(name)
            .bind(source)
            .bind(now.as_millis())
            .execute(c)
            .await?;
        Ok(Self { batch_id: done.last_insert_rowid(), first: None, last: JobId(0) })
    }

    /// Inserts the jobs that are not there already, each with its first history row. Returns the number of the first.
    async fn insert(
        &mut self,
        c: &mut SqliteConnection,
        packed: &str,
        earlier: &Earlier,
        now: Timestamp,
    ) -> Result<JobId> {
        let state = State::Queued;
        let existing: Vec<_> = earlier.holders.keys().collect();
        let done = sqlx::query(
            "INSERT INTO jobs (version, state, data, lane, needs_person, in_flight, due_at, priority, name, output,
                batch_id, tags, take, key, not_before, type, request, estimate, max_credits, created_at, source)
             SELECT ?1, ?2, ?3, ?4, 0, 0, max(?5, coalesce(value ->> 7, ?5)), value ->> 2, value ->> 3, value ->> 4,
                ?6, value ->> 5, value ->> 6, value ->> 0, value ->> 7, value ->> 8, value ->> 9, value ->> 10,
                value ->> 11, ?5, value ->> 12
             FROM json_each(?7) WHERE key NOT IN (SELECT value FROM json_each(?8)) ORDER BY key",
        )
        .bind(Version(1).0)
        .bind(state.label().as_str())
        .bind(serde_json::to_string(&state)?)
        .bind(state.lane().map(Lane::as_str))
        .bind(now.as_millis())
        .bind(self.batch_id)
        .bind(packed)
        .bind(serde_json::to_string(&existing)?)
        .execute(&mut *c)
        .await?;
        self.last = JobId(done.last_insert_rowid());
        let count = i64::try_from(done.rows_affected()).unwrap_or(i64::MAX);
        let start = JobId(self.last.0 - count + 1);
        self.first.get_or_insert(start);
        sqlx::query(
            "INSERT INTO history (job_id, version, at, event, from_state, to_state)
             SELECT id, version, created_at, ?, NULL, state FROM jobs WHERE id BETWEEN ? AND ?",
        )
        .bind(serde_json::to_string(&Event::Enqueued)?)
        .bind(start.0)
        .bind(self.last.0)
        .execute(c)
        .await?;
        Ok(start)
    }

    /// Sorted and all at once: in their own order, keys would touch a page each. An equal pair within the batch fails
    /// here, and the batch with it.
    async fn take_keys(&self, c: &mut SqliteConnection) -> Result<()> {
        sqlx::query(
            "INSERT INTO keys (key, job_id) SELECT key, id FROM jobs WHERE id BETWEEN ? AND ? ORDER BY key",
        )
        .bind(self.first.map(|id| id.0))
        .bind(self.last.0)
        .execute(c)
        .await?;
        Ok(())
    }

    async fn cost(&self, c: &mut SqliteConnection) -> Result<Credits> {
        let sum: i64 = sqlx::query_scalar("SELECT sum(estimate) FROM jobs WHERE id BETWEEN ? AND ?")
            .bind(self.first.map(|id| id.0))
            .bind(self.last.0)
            .fetch_one(c)
            .await?;
        Ok(Credits::new(u64::try_from(sum).unwrap_or(0)))
    }
}
