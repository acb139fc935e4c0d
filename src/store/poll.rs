//! Status calls: which are due, and what they showed.

use std::{collections::HashSet, time::Duration};

use sqlx::SqliteConnection;

use super::{
    Result, Store,
    batch::Batch,
    control, render_times,
    row::{self, select_job},
    step::{Fence, Step, step_in},
    writer::Ring,
};
use crate::domain::{
    Event, Job, JobId, Timestamp,
    hold::Hold,
    job::Version,
    plan::poll::PollPlan,
    state::{Failure, Lane},
};

/// What is due in a lane.
#[derive(Clone, Debug)]
pub struct Due {
    /// The jobs, the longest due first.
    pub jobs: Vec<Job>,
    /// When the next one is.
    pub next_at: Option<Timestamp>,
}

impl Store {
    /// Jobs whose status call is due, at most `limit`, without those `busy` in a worker's hands. What is due later than
    /// `longest_wait` from now counts as due: the clock has jumped.
    pub async fn due_polls(
        &self,
        limit: usize,
        busy: &HashSet<JobId>,
        longest_wait: Duration,
        now: Timestamp,
    ) -> Result<Due> {
        let rows = sqlx::query(select_job!(
            "WHERE j.lane = 'poll' AND (j.due_at <= ? OR j.due_at > ?) ORDER BY j.due_at LIMIT +?"
        ))
        .bind(now.as_millis())
        .bind((now + longest_wait).as_millis())
        .bind(i64::try_from(limit + busy.len()).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await?;
        let due = free(&rows, limit, busy, None)?;
        // Hands that are full now look again when one is free, whatever is due until then.
        if due.jobs.len() == limit {
            return Ok(due);
        }
        let next: Option<i64> =
            sqlx::query_scalar("SELECT min(due_at) FROM jobs WHERE lane = 'poll' AND due_at > ?")
                .bind(now.as_millis())
                .fetch_one(&self.readers)
                .await?;
        Ok(Due { next_at: next.map(Timestamp::from_millis), ..due })
    }

    /// Commits what a status call showed, if the job is still as it was read. `no_fresh_link` counts as a failed try of
    /// the videos that are missing, and is shown with the job.
    pub async fn settle_poll(
        &self,
        job: JobId,
        read: Version,
        plan: PollPlan,
        note: Option<String>,
        no_fresh_link: Option<Failure>,
        now: Timestamp,
    ) -> Result<()> {
        self.write(move |c, ring| {
            Box::pin(async move {
                if let Some(why) = &no_fresh_link {
                    count_failures(c, job, why, now).await?;
                }
                settle(c, ring, job, read, &plan, note, now).await
            })
        })
        .await
    }
}

/// The rows that no worker holds already.
pub(super) fn free(
    rows: &[sqlx::sqlite::SqliteRow],
    limit: usize,
    busy: &HashSet<JobId>,
    next: Option<i64>,
) -> Result<Due> {
    let mut jobs = rows.iter().map(row::job).collect::<Result<Vec<_>>>()?;
    jobs.retain(|j| !busy.contains(&j.id));
    jobs.truncate(limit);
    Ok(Due { jobs, next_at: next.map(Timestamp::from_millis) })
}

async fn settle(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    job: JobId,
    read: Version,
    plan: &PollPlan,
    note: Option<String>,
    now: Timestamp,
) -> Result<()> {
    if let Some((name, why)) = &plan.hold {
        control::set_hold(c, ring, &Hold::new(*name, why.clone(), now)).await?;
    }
    // The look itself changes nothing that a person's command could conflict with: it does not raise the version.
    let mut batch = Batch::default();
    batch
        .add_fenced(
            job,
            "UPDATE jobs SET polls = polls + 1, due_at = ?, running_at = coalesce(?, running_at) WHERE id = ? AND version = ?",
        )
        .bind(plan.due_at.as_millis())
        .bind(plan.running.then_some(now.as_millis()))
        .bind(job.0)
        .bind(read.0);
    let Some(event) = &plan.event else {
        batch.run(c).await?;
        ring.lane(Lane::Poll);
        return Ok(());
    };
    match event {
        Event::Succeeded { .. } => {
            render_times::remember(&mut batch, job, now);
            insert_outputs(&mut batch, job, &plan.urls);
            record_links(&mut batch, job, now);
        }
        Event::LinkRenewed => {
            renew_outputs(&mut batch, job, &plan.urls);
            record_links(&mut batch, job, now);
        }
        _ => {}
    }
    let due_at = Some(plan.due_at);
    let fence = Fence::Version(read);
    step_in(c, ring, &mut batch, &Step { job, fence, event, at: now, due_at, error: None, note }).await?;
    batch.run(c).await
}

async fn count_failures(c: &mut SqliteConnection, job: JobId, why: &Failure, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE jobs SET error = ? WHERE id = ?")
        .bind(serde_json::to_string(why)?)
        .bind(job.0)
        .execute(&mut *c)
        .await?;
    sqlx::query(
        "UPDATE outputs SET failures = failures + 1, failing_since = coalesce(failing_since, ?)
         WHERE job_id = ? AND published_at IS NULL",
    )
    .bind(now.as_millis())
    .bind(job.0)
    .execute(c)
    .await?;
    Ok(())
}

fn insert_outputs(batch: &mut Batch, job: JobId, urls: &[String]) {
    // After a retry the rows are there: a video that is published stays so, the others start over with the new link.
    for (idx, url) in (0_i64..).zip(urls) {
        batch
            .add(
                "INSERT INTO outputs (job_id, idx, url) VALUES (?, ?, ?)
                 ON CONFLICT (job_id, idx) DO UPDATE
                    SET url = excluded.url, failures = 0, failing_since = NULL, cleared_at = NULL",
            )
            .bind(job.0)
            .bind(idx)
            .bind(url.as_str());
    }
}

/// From now on the links grow old.
fn record_links(batch: &mut Batch, job: JobId, now: Timestamp) {
    batch.add("UPDATE jobs SET linked_at = ? WHERE id = ?").bind(now.as_millis()).bind(job.0);
}

/// Fresh links for the videos that are there already. The clock of `download.give_up` goes on: a fresh link alone is
/// no progress.
fn renew_outputs(batch: &mut Batch, job: JobId, urls: &[String]) {
    for (idx, url) in (0_i64..).zip(urls) {
        batch
            .add("UPDATE outputs SET url = ? WHERE job_id = ? AND idx = ?")
            .bind(url.as_str())
            .bind(job.0)
            .bind(idx);
    }
}
