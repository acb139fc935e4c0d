//! What one line about the queue needs to know: asked after commits, about once a second, of queues of any length. So
//! each question is answered by a partial index, and counts end where nobody reads them exactly any more.

use super::{Result, Store, control, ledger::Sums, row};
use crate::domain::{Timestamp, gate::Gate, hold::Hold};

/// Where counting ends: a queue longer than this is a long one.
pub const MANY: u64 = 10_000;

/// The queue at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Requests on the wire and tasks that the provider works on; at most [`MANY`], as the other counts.
    pub in_flight: u64,
    /// Jobs whose videos are fetched.
    pub downloading: u64,
    /// Jobs that wait for their turn.
    pub queued: u64,
    /// Jobs with an attempt of which nobody knows whether it was charged.
    pub in_doubt: u64,
    /// Jobs that need a person for another reason.
    pub stuck: u64,
    /// The ledger since the day began.
    pub today: Sums,
    /// The holds on record, ended ones included.
    pub holds: Vec<Hold>,
    /// The gate's memory.
    pub gate: Gate,
}

macro_rules! counts {
    () => {
        "SELECT
            (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE in_flight = 1 LIMIT +?1)) AS in_flight,
            (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE lane = 'download' LIMIT +?1)) AS downloading,
            (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE lane = 'submit' LIMIT +?1)) AS queued,
            (SELECT count(*) FROM (SELECT DISTINCT job_id FROM ledger WHERE charge = 'in_doubt' LIMIT +?1))
                AS in_doubt,
            (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE needs_person = 1 AND state <> 'in_doubt' LIMIT +?1))
                AS stuck"
    };
}

impl Store {
    /// The queue at a glance; `day` is the start of the local day.
    pub async fn pulse(&self, day: Timestamp) -> Result<Pulse> {
        let today = self.sums(day).await?;
        let mut c = self.readers.acquire().await?;
        let r =
            sqlx::query(counts!()).bind(i64::try_from(MANY).unwrap_or(i64::MAX)).fetch_one(&mut *c).await?;
        Ok(Pulse {
            in_flight: row::narrow(&r, "in_flight")?,
            downloading: row::narrow(&r, "downloading")?,
            queued: row::narrow(&r, "queued")?,
            in_doubt: row::narrow(&r, "in_doubt")?,
            stuck: row::narrow(&r, "stuck")?,
            today,
            holds: control::holds(&mut c).await?,
            gate: control::gate(&mut c).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::store::Access;

    /// A million finished jobs must cost nothing: no question looks at a table as a whole.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the writer of a test")]
    async fn every_count_is_a_partial_index() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(&dir.path().join("klingd.db"), Access::Use).await.unwrap();
        tokio::spawn(writer.run());
        assert_eq!(store.pulse(Timestamp::from_millis(0)).await.unwrap(), Pulse::default());
        let explained = sqlx::query(concat!("EXPLAIN QUERY PLAN ", counts!()));
        let plan: Vec<String> = explained
            .bind(1)
            .fetch_all(&store.readers)
            .await
            .unwrap()
            .iter()
            .map(|r| r.get("detail"))
            .collect();
        let tables: Vec<_> =
            plan.iter().filter(|line| line.contains(" jobs") || line.contains(" ledger")).collect();
        assert_eq!(tables.len(), 5, "{plan:#?}");
        assert!(tables.iter().all(|line| line.contains("INDEX")), "{plan:#?}");
    }
}
