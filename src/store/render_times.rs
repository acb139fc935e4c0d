//! How long renders took: what the poll schedule and people are told from.

use std::{collections::HashMap, time::Duration};

use sqlx::{Row, sqlite::SqliteRow};

use super::{Result, Store, StoreError, batch::Batch, row};
use crate::domain::{JobId, JobType, RenderKind, RenderTime, Timestamp, schedule::REMEMBERED};

impl Store {
    /// The newest runs of a kind.
    pub async fn render_times(&self, kind: RenderKind) -> Result<Vec<RenderTime>> {
        let rows = sqlx::query(
            "SELECT type, duration, after_ms, by_ms FROM render_times WHERE type = ? AND duration = ? ORDER BY id",
        )
        .bind(kind.job_type.as_str())
        .bind(duration(kind))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|r| Ok(render_time(r)?.1)).collect()
    }

    /// The newest runs of every kind that is under way: what a list of jobs needs to say when they are usually done.
    pub async fn render_times_under_way(&self) -> Result<HashMap<RenderKind, Vec<RenderTime>>> {
        let rows = sqlx::query(
            "SELECT type, duration, after_ms, by_ms FROM render_times
             WHERE (type, duration) IN (
                SELECT type, coalesce(json_extract(request, '$.duration'), 0) FROM jobs WHERE lane = 'poll')",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut all: HashMap<RenderKind, Vec<RenderTime>> = HashMap::new();
        for r in &rows {
            let (kind, time) = render_time(r)?;
            all.entry(kind).or_default().push(time);
        }
        Ok(all)
    }

    /// Tasks that are followed by status calls.
    pub async fn open_tasks(&self) -> Result<u64> {
        let n: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE lane = 'poll'")
            .fetch_one(&self.readers)
            .await?;
        Ok(u64::try_from(n).unwrap_or(0))
    }
}

/// Keeps how long a job's task took, by a look at `now` that saw it done; in the same transaction, before its videos are
/// inserted: a task that had some was done at an earlier look (a `retry` asks again), and is not counted twice. Nothing is
/// kept either where a clock that jumped makes the end older than the submit.
pub(super) fn remember(batch: &mut Batch, job: JobId, now: Timestamp) {
    batch
        .add(
            "INSERT INTO render_times (type, duration, after_ms, by_ms, at)
             SELECT type, duration, after_ms, by_ms, at FROM (
                SELECT j.id, j.type, coalesce(json_extract(j.request, '$.duration'), 0) AS duration,
                    max(0, coalesce(j.running_at - a.started_at, 0)) AS after_ms, now.at - a.started_at AS by_ms, now.at
                FROM (SELECT ? AS at) now, jobs j JOIN attempts a ON a.job_id = j.id AND a.task_id = j.task_id
                WHERE j.id = ?) seen
             WHERE by_ms >= after_ms AND NOT EXISTS (SELECT 1 FROM outputs o WHERE o.job_id = seen.id)",
        )
        .bind(now.as_millis())
        .bind(job.0);
    // What falls out of the newest ones of the kind of the newest.
    batch
        .add(
            "DELETE FROM render_times WHERE id IN (
                SELECT old.id FROM render_times new
                JOIN render_times old ON old.type = new.type AND old.duration = new.duration
                WHERE new.id = (SELECT max(id) FROM render_times) ORDER BY old.id DESC LIMIT -1 OFFSET ?)",
        )
        .bind(i64::try_from(REMEMBERED).unwrap_or(i64::MAX));
}

fn render_time(r: &SqliteRow) -> Result<(RenderKind, RenderTime)> {
    let word: &str = r.try_get("type")?;
    let job_type: JobType =
        word.parse().map_err(|_| StoreError::Corrupt(format!("{word:?} is no type of a job")))?;
    let seconds: u8 = row::narrow(r, "duration")?;
    let ms = |column| Ok::<_, StoreError>(Duration::from_millis(row::narrow(r, column)?));
    let kind = RenderKind { job_type, duration_s: Some(seconds).filter(|s| *s > 0) };
    Ok((kind, RenderTime { after: ms("after_ms")?, by: ms("by_ms")? }))
}

fn duration(kind: RenderKind) -> i64 {
    kind.duration_s.map_or(0, i64::from)
}
