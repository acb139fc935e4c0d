//! What a start finds: jobs whose POST was on the wire when the last run ended.

use super::{
    Result, Store,
    row::{self, select_job},
    step::{Fence, Step, step},
};
use crate::domain::{Job, Timestamp, plan::recover::orphaned};

impl Store {
    /// Jobs that are `submitting`: at start, before any new submit, an earlier run left them there.
    pub async fn on_the_wire(&self) -> Result<Vec<Job>> {
        let rows = sqlx::query(select_job!("WHERE j.state = 'submitting' ORDER BY j.id"))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(row::job).collect()
    }

    /// Puts a job that nobody has evidence for in doubt.
    pub async fn orphan(&self, job: Job, now: Timestamp) -> Result<()> {
        let Some(event) = orphaned(&job.state) else { return Ok(()) };
        self.write(move |c, ring| {
            Box::pin(async move {
                let fence = Fence::Version(job.version);
                let job = job.id;
                step(
                    c,
                    ring,
                    &Step { job, fence, event: &event, at: now, due_at: None, error: None, note: None },
                )
                .await?;
                Ok(())
            })
        })
        .await
    }
}
