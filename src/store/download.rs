//! Downloads: which are due, how far they are, and their end.

use std::collections::HashSet;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Result, Store, StoreError, control,
    poll::{Due, free},
    row::{self, select_job},
    step::{Fence, Moved, Step, step},
};
use crate::domain::{
    Event, HoldName, JobId, Timestamp,
    job::Version,
    plan::download::{FetchPlan, RETRY_MAX},
    state::Lane,
};

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

impl Store {
    /// Jobs with videos to fetch, the longest due first, without those `busy` in a worker's hands. What is due later than
    /// the longest wait from now counts as due: the clock has jumped.
    pub async fn due_downloads(&self, limit: usize, busy: &HashSet<JobId>, now: Timestamp) -> Result<Due> {
        let rows = sqlx::query(select_job!(
            "WHERE j.lane = 'download' AND (j.due_at <= ? OR j.due_at > ?) ORDER BY j.due_at LIMIT ?"
        ))
        .bind(now.as_millis())
        .bind((now + RETRY_MAX).as_millis())
        .bind(i64::try_from(limit + busy.len()).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await?;
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

    /// Records how much of a video is durable. Progress also ends a run of failures.
    pub async fn record_progress(&self, job: JobId, index: u32, partial: Partial) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                let position = i64::try_from(partial.position).unwrap_or(i64::MAX);
                sqlx::query(
                    "UPDATE outputs SET part = ?, position = ?, etag = ?, failures = 0, failing_since = NULL
                     WHERE job_id = ? AND idx = ?",
                )
                .bind(&partial.path)
                .bind(position)
                .bind(&partial.etag)
                .bind(job.0)
                .bind(index)
                .execute(c)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Records a verified file and the name it is about to get, before it gets it.
    pub async fn record_verified(
        &self,
        job: JobId,
        index: u32,
        part: String,
        file: OutputFile,
    ) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE outputs SET part = ?, path = ?, bytes = ?, sha256 = ? WHERE job_id = ? AND idx = ?",
                )
                .bind(part)
                .bind(&file.path)
                .bind(i64::try_from(file.bytes).unwrap_or(i64::MAX))
                .bind(&file.sha256)
                .bind(job.0)
                .bind(index)
                .execute(c)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Commits that a video is published. That shows that videos can be stored: the hold of one that could not be is
    /// over with it.
    pub async fn record_published(
        &self,
        job: JobId,
        index: u32,
        note: Option<String>,
        now: Timestamp,
    ) -> Result<Moved> {
        self.write(move |c, ring| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE outputs SET published_at = ?, part = NULL, position = 0, etag = NULL
                     WHERE job_id = ? AND idx = ?",
                )
                .bind(now.as_millis())
                .bind(job.0)
                .bind(index)
                .execute(&mut *c)
                .await?;
                if control::lift_probed(c, HoldName::Disk).await? {
                    ring.lane(Lane::Submit);
                }
                let event = Event::FilePublished { output: index };
                let fence = Fence::Legal;
                step(
                    c,
                    ring,
                    &Step { job, fence, event: &event, at: now, due_at: Some(now), error: None, note },
                )
                .await
            })
        })
        .await
    }

    /// Forgets what was fetched and verified so far: the next try starts from zero.
    pub async fn forget_progress(&self, job: JobId, index: u32) -> Result<()> {
        self.write(move |c, _| Box::pin(async move { forget(c, job, index).await })).await
    }

    /// Commits a try that brought no file. `failed` says whether it counts as a failure of the link.
    pub async fn settle_fetch_failure(
        &self,
        job: JobId,
        read: Version,
        index: u32,
        plan: FetchPlan,
        counts: bool,
        now: Timestamp,
    ) -> Result<()> {
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
                    step(c, ring, &Step { job, fence, event, at: now, due_at, error: None, note: None }).await?;
                    return Ok(());
                }
                let seen = sqlx::query("UPDATE jobs SET due_at = ? WHERE id = ? AND version = ?")
                    .bind(plan.due_at.as_millis())
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
    Ok(Output {
        index: row::narrow(r, "idx")?,
        url: r.try_get("url")?,
        failures: row::narrow(r, "failures")?,
        failing_since: row::time(r, "failing_since")?,
        partial: part.map(|path| Partial { path, position, etag }),
        file: match (path, bytes, sha256) {
            (Some(path), Some(bytes), Some(sha256)) => {
                Some(OutputFile { path, bytes: u64::try_from(bytes).unwrap_or(0), sha256 })
            }
            _ => None,
        },
        published_at: row::time(r, "published_at")?,
    })
}
