//! What a start finds: jobs whose POST was on the wire when the last run ended.

use sqlx::Row;

use super::{
    Result, Store,
    row::{self, select_job},
    step::{Fence, Step, step},
};
use crate::domain::{Job, TaskId, Timestamp, plan::recover::orphaned};

/// By the index of what is in flight, however long the queue is: a start waits for it.
macro_rules! on_the_wire {
    () => {
        select_job!("WHERE j.in_flight = 1 AND j.state = 'submitting' ORDER BY j.id")
    };
}

impl Store {
    /// Jobs that are `submitting`: at start, before any new submit, an earlier run left them there.
    pub async fn on_the_wire(&self) -> Result<Vec<Job>> {
        let rows = sqlx::query(on_the_wire!()).fetch_all(&self.readers).await?;
        rows.iter().map(row::job).collect()
    }

    /// Puts a job that nobody has evidence for in doubt.
    pub async fn orphan(&self, job: Job, now: Timestamp) -> Result<()> {
        let Some(event) = orphaned(&job.state) else { return Ok(()) };
        self.write(move |c, ring| {
            Box::pin(async move {
                let fence = Fence::Version(job.version);
                let job = job.id;
                // It does not always end in doubt: a task of an earlier attempt that turned up is followed, at once.
                let due_at = Some(now);
                step(c, ring, &Step { job, fence, event: &event, at: now, due_at, error: None, note: None })
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Moves all tasks under way to another base URL, and gives them with their requests. For the sandbox's queue alone:
    /// its provider dies with the daemon and comes back on another port, without its memory.
    pub async fn move_tasks(&self, base_url: String) -> Result<Vec<(TaskId, Vec<u8>)>> {
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE outputs SET url = replace(url, (SELECT base_url FROM jobs WHERE id = job_id), ?)
                     WHERE published_at IS NULL",
                )
                .bind(&base_url)
                .execute(&mut *c)
                .await?;
                sqlx::query("UPDATE jobs SET base_url = ? WHERE task_id IS NOT NULL AND state <> 'done'")
                    .bind(&base_url)
                    .execute(&mut *c)
                    .await?;
                let rows = sqlx::query(
                    "SELECT task_id, request FROM jobs WHERE task_id IS NOT NULL AND state <> 'done'",
                )
                .fetch_all(c)
                .await?;
                let mut tasks = Vec::with_capacity(rows.len());
                for row in rows {
                    let request: String = row.try_get("request")?;
                    if let Some(task) = TaskId::parse(row.try_get("task_id")?) {
                        tasks.push((task, request.into_bytes()));
                    }
                }
                Ok(tasks)
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the writer of a test")]
    async fn a_start_looks_only_at_what_is_in_flight() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(&dir.path().join("klingd.db"), Access::Use).await.unwrap();
        tokio::spawn(writer.run());
        assert_eq!(store.on_the_wire().await.unwrap(), []);
        let explained = sqlx::query(concat!("EXPLAIN QUERY PLAN ", on_the_wire!()));
        let rows = explained.fetch_all(&store.readers).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|r| r.get("detail")).collect();
        assert!(plan.iter().any(|line| line.contains("jobs_in_flight")), "{plan:#?}");
    }
}
