//! What the metrics show of the queue. Asked every few seconds, of queues of any length: each question is answered by a
//! partial index over what is not at rest, so that a million finished jobs cost nothing.

use sqlx::Row;

use super::{Result, Store, StoreError, budget::Budget, control, ledger, row};
use crate::{
    domain::{Credits, Timestamp, state::Label},
    vitals::Census,
};

macro_rules! jobs {
    () => {
        "SELECT 'queued' AS state, count(*) AS n FROM jobs WHERE lane = 'submit'
         UNION ALL SELECT state, count(*) FROM jobs WHERE in_flight = 1 GROUP BY state
         UNION ALL SELECT 'downloading', count(*) FROM jobs WHERE lane = 'download'
         UNION ALL SELECT 'in_doubt', count(*) FROM jobs WHERE needs_person = 1 AND state = 'in_doubt'"
    };
}

macro_rules! in_need {
    () => {
        "SELECT count(*) FROM jobs WHERE needs_person = 1"
    };
}

macro_rules! oldest {
    () => {
        "SELECT min(due_at) FROM (
            SELECT min(due_at) AS due_at FROM jobs WHERE lane = 'submit' AND due_at IS not_before
            UNION ALL SELECT min(due_at) FROM jobs WHERE lane = 'submit' AND due_at IS NOT not_before)"
    };
}

impl Store {
    /// The queue, the holds, the gate and the money; `day` is the start of the local day.
    pub async fn census(&self, budget: &Budget, now: Timestamp, day: Timestamp) -> Result<Census> {
        let today = self.sums(day).await?;
        let mut c = self.readers.acquire().await?;
        let jobs = sqlx::query(jobs!()).fetch_all(&mut *c).await?;
        let jobs = jobs
            .iter()
            .map(|r| {
                let word: &str = r.try_get("state")?;
                let label =
                    Label::parse(word).ok_or_else(|| StoreError::Corrupt(format!("state {word:?}")))?;
                Ok((label, row::narrow(r, "n")?))
            })
            .collect::<Result<Vec<_>>>()?;
        let needs_person: i64 = sqlx::query_scalar(in_need!()).fetch_one(&mut *c).await?;
        let oldest: Option<i64> = sqlx::query_scalar(oldest!()).fetch_one(&mut *c).await?;
        let gate = control::gate(&mut c).await?;
        let holds = control::holds(&mut c).await?;
        let ever = ledger::total(&mut c).await?;
        let caps = [("per_job", budget.per_job), ("per_day", budget.per_day), ("total", budget.total)];
        Ok(Census {
            jobs,
            needs_person: u64::try_from(needs_person).unwrap_or_default(),
            holds: holds.iter().filter(|hold| hold.holds(now)).map(|hold| hold.name).collect(),
            gate_closed: gate.closed(now).is_some(),
            gate_per_second: gate.rate.map(|rate| rate.per_second()),
            gate_slots: gate.slots,
            // A job that is due in the future has not waited at all.
            oldest: oldest.map(|due| now.since(Timestamp::from_millis(due))),
            charged: ever.charged,
            refunded: ever.refunded,
            reserved: ever.reserved,
            in_doubt: ever.in_doubt,
            spent_today: today.spent(),
            caps: caps.into_iter().filter(|(_, cap)| *cap > Credits::ZERO).collect(),
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
        let now = Timestamp::from_millis(1_770_301_800_000);
        let census = store.census(&Budget::default(), now, now).await.unwrap();
        assert_eq!((census.oldest, census.needs_person, census.caps), (None, 0, Vec::new()));
        for sql in [
            concat!("EXPLAIN QUERY PLAN ", jobs!()),
            concat!("EXPLAIN QUERY PLAN ", in_need!()),
            concat!("EXPLAIN QUERY PLAN ", oldest!()),
        ] {
            let rows = sqlx::query(sql).fetch_all(&store.readers).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|r| r.get("detail")).collect();
            let tables: Vec<_> = plan.iter().filter(|line| line.contains(" jobs")).collect();
            assert!(!tables.is_empty() && tables.iter().all(|line| line.contains("INDEX")), "{plan:#?}");
        }
    }
}
