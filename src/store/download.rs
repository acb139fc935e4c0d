//! Downloads: which are due, how far they are, and their end.

use std::collections::HashSet;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Result, Store, StoreError,
    batch::Batch,
    control,
    poll::{Due, free},
    row::{self, select_job},
    step::{Fence, Moved, Step, step, step_in},
};
use crate::domain::{
    Event, HoldName, Job, JobId, Timestamp,
    job::Version,
    plan::download::{FetchPlan, RETRY_MAX, UNSAID_SECONDS},
    state::{Failure, Lane},
};

/// Begins the names under which `meta` knows output roots.
const ROOT: &str = "output_root:";

/// One video of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its place in the task's answer, from 0.
    pub index: u32,
    /// Where it can be fetched.
    pub url: String,
    /// Tries that failed in a row, and since when.
    pub failures: u32,
    /// When the first of them failed.
    pub failing_since: Option<Timestamp>,
    /// What is on disk so far.
    pub partial: Option<Partial>,
    /// What was verified, before and after it got its final name.
    pub file: Option<OutputFile>,
    /// When it was published.
    pub published_at: Option<Timestamp>,
}

/// A download that is under way: durable as far as `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The temporary file.
    pub path: String,
    /// Its durable bytes.
    pub position: u64,
    /// The strong validator of the whole that it is a part of.
    pub etag: Option<String>,
    /// The length of the whole, if it was announced.
    pub total: Option<u64>,
}

/// A whole video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// Its final path.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A try that brought no file.
#[derive(Clone, Debug)]
pub struct FetchFailure {
    /// What follows.
    pub plan: FetchPlan,
    /// Whether it is a failure of the link.
    pub counts: bool,
    /// What is shown with the job.
    pub error: Option<Failure>,
}

impl Store {
    /// Jobs with videos to fetch, those with the oldest links first, without those `busy` in a worker's hands. What is due
    /// later than the longest wait from now counts as due: the clock has jumped.
    pub async fn due_downloads(&self, limit: usize, busy: &HashSet<JobId>, now: Timestamp) -> Result<Due> {
        let rows = sqlx::query(select_job!(
            // The plus keeps SQLite from reading all that is due to sort it: in the order of age it stops at the limit.
            "WHERE j.lane = 'download' AND (+j.due_at <= ? OR +j.due_at > ?)
                AND j.id NOT IN (SELECT value FROM json_each(?)) ORDER BY j.linked_at, j.id LIMIT +?"
        ))
        .bind(now.as_millis())
        .bind((now + RETRY_MAX).as_millis())
        // Left out here and not afterwards: a row costs more to read than to pass over.
        .bind(serde_json::to_string(busy)?)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await?;
        // Hands that are full now look again when one is free, whatever is due until then.
        if rows.len() == limit {
            return free(&rows, limit, busy, None);
        }
        let next: Option<i64> =
            sqlx::query_scalar("SELECT min(due_at) FROM jobs WHERE lane = 'download' AND due_at > ?")
                .bind(now.as_millis())
                .fetch_one(&self.readers)
                .await?;
        free(&rows, limit, busy, next)
    }

    /// The videos of a job.
    pub async fn outputs(&self, job: JobId) -> Result<Vec<Output>> {
        let rows = sqlx::query(
            "SELECT idx, url, failures, failing_since, part, position, etag, path, bytes, sha256, published_at
             FROM outputs WHERE job_id = ? ORDER BY idx",
        )
        .bind(job.0)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(output).collect()
    }

    /// Whether a job's videos are still to be fetched: a person may have cancelled it meanwhile.
    pub async fn wants_videos(&self, job: JobId) -> Result<bool> {
        let wanted =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM jobs WHERE id = ? AND state = 'downloading')")
                .bind(job.0)
                .fetch_one(&self.readers)
                .await?;
        Ok(wanted)
    }

    /// Records how much of a video is durable. Progress also ends a run of failures. Says whether the video is still
    /// wanted: a person may have cancelled the job meanwhile.
    pub async fn record_progress(&self, job: JobId, index: u32, partial: Partial) -> Result<bool> {
        self.write(move |c, _| {
            Box::pin(async move {
                let position = i64::try_from(partial.position).unwrap_or(i64::MAX);
                let changed = sqlx::query(
                    "UPDATE outputs SET part = ?, position = ?, etag = ?, bytes = ?, failures = 0, failing_since = NULL
                     WHERE job_id = ? AND idx = ?
                        AND EXISTS (SELECT 1 FROM jobs WHERE id = job_id AND state = 'downloading')",
                )
                .bind(&partial.path)
                .bind(position)
                .bind(&partial.etag)
                // The length of the video, announced now and verified later.
                .bind(partial.total.map(|total| i64::try_from(total).unwrap_or(i64::MAX)))
                .bind(job.0)
                .bind(index)
                .execute(c)
                .await?;
                Ok(changed.rows_affected() > 0)
            })
        })
        .await
    }

    /// Records a verified file and the name it is about to get, before it gets it. Says whether it is still wanted.
    pub async fn record_verified(
        &self,
        job: JobId,
        index: u32,
        part: String,
        file: OutputFile,
    ) -> Result<bool> {
        self.write(move |c, _| {
            Box::pin(async move {
                let changed = sqlx::query(
                    "UPDATE outputs SET part = ?, path = ?, bytes = ?, sha256 = ? WHERE job_id = ? AND idx = ?
                        AND EXISTS (SELECT 1 FROM jobs WHERE id = job_id AND state = 'downloading')",
                )
                .bind(part)
                .bind(&file.path)
                .bind(i64::try_from(file.bytes).unwrap_or(i64::MAX))
                .bind(&file.sha256)
                .bind(job.0)
                .bind(index)
                .execute(c)
                .await?;
                Ok(changed.rows_affected() > 0)
            })
        })
        .await
    }

    /// Commits that a video is published.
    pub async fn record_published(
        &self,
        job: JobId,
        index: u32,
        note: Option<String>,
        now: Timestamp,
    ) -> Result<Moved> {
        self.write(move |c, ring| {
            Box::pin(async move {
                let mut batch = Batch::default();
                batch
                    .add(
                        "UPDATE outputs SET published_at = coalesce(published_at, ?), part = NULL, position = 0, etag = NULL
                         WHERE job_id = ? AND idx = ?",
                    )
                    .bind(now.as_millis())
                    .bind(job.0)
                    .bind(index);
                let event = Event::FilePublished { output: index };
                let fence = Fence::Legal;
                let step = Step { job, fence, event: &event, at: now, due_at: Some(now), error: None, note };
                let moved = step_in(c, ring, &mut batch, &step).await?;
                batch.run(c).await?;
                Ok(moved)
            })
        })
        .await
    }

    /// Seconds of video of the tasks that are paid, or about to be, and not on disk yet.
    pub async fn seconds_under_way(&self) -> Result<u64> {
        // Three partial indexes, whatever the queue's length.
        let seconds: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(coalesce(CAST(json_extract(request, '$.duration') AS INTEGER), ?)), 0) FROM (
                SELECT request FROM jobs WHERE in_flight = 1
                UNION ALL SELECT request FROM jobs WHERE lane = 'poll' AND in_flight = 0
                UNION ALL SELECT request FROM jobs WHERE lane = 'download')",
        )
        .bind(UNSAID_SECONDS)
        .fetch_one(&self.readers)
        .await?;
        Ok(u64::try_from(seconds).unwrap_or(0))
    }

    /// Lifts the `disk` hold: videos can be stored again. The clocks of `download.give_up` go on where they stood still,
    /// and what waits for the output root is due now.
    pub async fn disk_is_back(&self, now: Timestamp) -> Result<()> {
        self.write(move |c, ring| {
            Box::pin(async move {
                let held = control::holds(c).await?.into_iter().find(|hold| hold.name == HoldName::Disk);
                let Some(held) = held else { return Ok(()) };
                control::lift(c, HoldName::Disk).await?;
                // As `plan::download::failing_since`.
                sqlx::query(
                    "UPDATE outputs SET failing_since = failing_since + max(0, ?1 - max(failing_since, ?2))
                     WHERE failing_since IS NOT NULL AND published_at IS NULL AND job_id IN (
                        SELECT id FROM jobs WHERE lane = 'download' UNION ALL SELECT id FROM jobs WHERE lane = 'poll')",
                )
                .bind(now.as_millis())
                .bind(held.since.as_millis())
                .execute(&mut *c)
                .await?;
                sqlx::query("UPDATE jobs SET due_at = ?1 WHERE lane = 'download' AND due_at > ?1")
                    .bind(now.as_millis())
                    .execute(c)
                    .await?;
                ring.lane(Lane::Submit);
                ring.lane(Lane::Download);
                Ok(())
            })
        })
        .await
    }

    /// Whether this was an output root before: then it has a mark, and is not itself without it.
    pub async fn knows_root(&self, root: &str) -> Result<bool> {
        let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM meta WHERE name = ?)")
            .bind(format!("{ROOT}{root}"))
            .fetch_one(&self.readers)
            .await?;
        Ok(known)
    }

    /// Remembers an output root that has its mark.
    pub async fn remember_root(&self, root: &str) -> Result<()> {
        let name = format!("{ROOT}{root}");
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query("INSERT INTO meta (name, value) VALUES (?, 'marked') ON CONFLICT DO NOTHING")
                    .bind(name)
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Jobs that nobody fetches any more, at most `limit`, with the videos whose temporary files may still be there. A
    /// lost one keeps its files: it waits for a person, who may follow it for free.
    pub async fn to_clear(&self, limit: u32) -> Result<Vec<(Job, Vec<Output>)>> {
        let rows = sqlx::query(select_job!(
            "WHERE j.id IN (SELECT job_id FROM outputs WHERE published_at IS NULL AND cleared_at IS NULL)
                AND j.finished_at IS NOT NULL AND j.needs_person = 0 LIMIT +?"
        ))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let mut dead = Vec::with_capacity(rows.len());
        for row in &rows {
            let job = row::job(row)?;
            let mut outputs = self.outputs(job.id).await?;
            outputs.retain(|output| output.published_at.is_none());
            dead.push((job, outputs));
        }
        Ok(dead)
    }

    /// Remembers that the temporary files of a job that has ended are gone.
    pub async fn record_cleared(&self, job: JobId, now: Timestamp) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE outputs SET cleared_at = ?, part = NULL, position = 0, etag = NULL
                     WHERE job_id = ? AND published_at IS NULL
                        AND EXISTS (SELECT 1 FROM jobs WHERE id = job_id AND finished_at IS NOT NULL)",
                )
                .bind(now.as_millis())
                .bind(job.0)
                .execute(c)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Forgets what was fetched and verified so far: the next try starts from zero.
    pub async fn forget_progress(&self, job: JobId, index: u32) -> Result<()> {
        self.write(move |c, _| Box::pin(async move { forget(c, job, index).await })).await
    }

    /// Commits a try that brought no file.
    pub async fn settle_fetch_failure(
        &self,
        job: JobId,
        read: Version,
        index: u32,
        failed: FetchFailure,
        now: Timestamp,
    ) -> Result<()> {
        let FetchFailure { plan, counts, error } = failed;
        self.write(move |c, ring| {
            Box::pin(async move {
                if plan.from_zero {
                    forget(c, job, index).await?;
                }
                if counts {
                    sqlx::query(
                        "UPDATE outputs SET failures = failures + 1, failing_since = coalesce(failing_since, ?)
                         WHERE job_id = ? AND idx = ?",
                    )
                    .bind(now.as_millis())
                    .bind(job.0)
                    .bind(index)
                    .execute(&mut *c)
                    .await?;
                }
                if let Some(event) = &plan.event {
                    let (fence, due_at) = (Fence::Version(read), Some(plan.due_at));
                    step(c, ring, &Step { job, fence, event, at: now, due_at, error, note: None }).await?;
                    return Ok(());
                }
                let disk_is_back = plan.for_disk
                    && !control::holds(c).await?.iter().any(|hold| hold.name == HoldName::Disk);
                let due_at = if disk_is_back { now } else { plan.due_at };
                let seen = sqlx::query(
                    "UPDATE jobs SET due_at = ?, error = coalesce(?, error) WHERE id = ? AND version = ?",
                )
                    .bind(due_at.as_millis())
                    .bind(error.as_ref().map(serde_json::to_string).transpose()?)
                    .bind(job.0)
                    .bind(read.0)
                    .execute(c)
                    .await?
                    .rows_affected();
                if seen == 1 { Ok(()) } else { Err(StoreError::Stale { job }) }
            })
        })
        .await
    }
}

async fn forget(c: &mut SqliteConnection, job: JobId, index: u32) -> Result<()> {
    sqlx::query(
        "UPDATE outputs SET part = NULL, position = 0, etag = NULL, path = NULL, bytes = NULL, sha256 = NULL
         WHERE job_id = ? AND idx = ? AND published_at IS NULL",
    )
    .bind(job.0)
    .bind(index)
    .execute(c)
    .await?;
    Ok(())
}

pub(super) fn output(r: &SqliteRow) -> Result<Output> {
    let path: Option<String> = r.try_get("path")?;
    let sha256: Option<String> = r.try_get("sha256")?;
    let bytes: Option<i64> = r.try_get("bytes")?;
    let part: Option<String> = r.try_get("part")?;
    let etag: Option<String> = r.try_get("etag")?;
    let position = row::narrow(r, "position")?;
    let bytes = bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0));
    Ok(Output {
        index: row::narrow(r, "idx")?,
        url: r.try_get("url")?,
        failures: row::narrow(r, "failures")?,
        failing_since: row::time(r, "failing_since")?,
        partial: part.map(|path| Partial { path, position, etag, total: bytes }),
        file: match (path, bytes, sha256) {
            (Some(path), Some(bytes), Some(sha256)) => Some(OutputFile { path, bytes, sha256 }),
            _ => None,
        },
        published_at: row::time(r, "published_at")?,
    })
}
