//! Whether anything can still move by itself: the question of `run --until-idle`.

use super::{Result, Store, control, row, submit::ClaimPolicy};
use crate::domain::Timestamp;

/// What is left in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Something is under way, or will be when its time comes.
    Moving,
    /// Nothing moves without a person.
    Still {
        /// Jobs that ended as `failed` since the time asked for.
        failed: u64,
        /// Jobs that need a person, or wait behind a hold or a budget.
        needs_person: u64,
    },
}

impl Store {
    /// Whether the queue is at rest; `failed` jobs count from `since` on.
    pub async fn rest(
        &self,
        policy: &ClaimPolicy,
        since: Timestamp,
        now: Timestamp,
        day: Timestamp,
    ) -> Result<Rest> {
        // One snapshot for all questions: a job that moves on between two of them would seem to be nowhere.
        let mut c = self.readers.begin().await?;
        // Each by a partial index, at the first row that says yes: this is asked often, of queues of any length.
        let moving: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM jobs WHERE in_flight = 1 AND state = 'submitting')
                OR EXISTS (SELECT 1 FROM jobs WHERE lane = 'poll' AND needs_person = 0)
                OR EXISTS (SELECT 1 FROM jobs WHERE lane = 'download' AND needs_person = 0)",
        )
        .fetch_one(&mut *c)
        .await?;
        if moving {
            return Ok(Rest::Moving);
        }
        let held = control::holds(&mut c).await?.iter().any(|h| h.needs_person(now));
        if !held && super::budget::affordable(&mut c, &policy.budget, day).await? {
            return Ok(Rest::Moving);
        }
        let ended = sqlx::query(
            "SELECT (SELECT count(*) FROM jobs WHERE needs_person = 1)
                    + (SELECT count(*) FROM jobs WHERE lane = 'submit') AS needs,
                (SELECT count(*) FROM jobs WHERE finished_at >= ? AND state = 'failed' AND needs_person = 0) AS failed",
        )
        .bind(since.as_millis())
        .fetch_one(&mut *c)
        .await?;
        Ok(Rest::Still {
            failed: row::narrow(&ended, "failed")?,
            needs_person: row::narrow(&ended, "needs")?,
        })
    }
}
