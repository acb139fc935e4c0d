//! Old jobs are forgotten: their rows, their history and the raw answers go. What was paid stays in the ledger, each key
//! stays with the number of its job, and so does each task id, so that none is adopted twice.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{Result, Store, StoreError, row};
use crate::domain::{JobId, Timestamp, state::Label};

/// Jobs forgotten in one transaction: some milliseconds, for which nobody else can write.
pub const AT_ONCE: u32 = 200;

/// Whether a job `j` may be forgotten that ended before `?1`: nothing of its money is open, nobody needs it, none of its
/// files is still to be cleared away, and no status file and no hook has yet to tell of it.
macro_rules! forgettable {
    () => {
        "j.finished_at < ?1 AND j.needs_person = 0
            AND NOT EXISTS (SELECT 1 FROM ledger l WHERE l.job_id = j.id AND l.charge IN ('reserved', 'in_doubt'))
            AND NOT EXISTS (SELECT 1 FROM attempts a
                WHERE a.job_id = j.id AND (a.unfollowed = 1 OR a.outcome IN ('open', 'unknown')))
            AND NOT EXISTS (SELECT 1 FROM outputs o
                WHERE o.job_id = j.id AND o.published_at IS NULL AND o.cleared_at IS NULL)
            AND NOT EXISTS (SELECT 1 FROM inbox_jobs i JOIN inbox_files f ON f.id = i.file_id
                WHERE i.job_id = j.id AND (f.told < f.changes OR f.placed = 0))
            AND j.id NOT IN (SELECT job_id FROM hook_calls WHERE job_id IS NOT NULL)"
    };
}

/// A job that was, or would be, forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Its number, which no other job gets.
    pub id: JobId,
    /// How it ended.
    pub state: Label,
}

/// How far a prune has come: in the order in which the jobs ended, which an index has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    ended_at: i64,
    id: i64,
}

impl Default for Reached {
    fn default() -> Self {
        Self { ended_at: i64::MIN, id: 0 }
    }
}

/// The next jobs that may be forgotten. By their end, not by their number: else a few old jobs are looked for among all.
macro_rules! next_old {
    () => {
        concat!(
            "SELECT j.id, j.finished_at FROM jobs j INDEXED BY jobs_finished
             WHERE (j.finished_at, j.id) > (?2, ?3) AND ",
            forgettable!(),
            " ORDER BY j.finished_at, j.id LIMIT +?4"
        )
    };
}

/// What a prune finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prunable {
    /// How many jobs may go, by how they ended.
    pub jobs: Vec<(Label, u64)>,
    /// How many are old enough, and stay for what is open with them.
    pub kept: u64,
}

impl Store {
    /// What would be forgotten of jobs that ended before `before`.
    pub async fn prunable(&self, before: Timestamp) -> Result<Prunable> {
        let rows = sqlx::query(concat!(
            "SELECT j.state, count(*) AS n FROM jobs j INDEXED BY jobs_finished WHERE ",
            forgettable!(),
            " GROUP BY j.state ORDER BY j.state"
        ))
        .bind(before.as_millis())
        .fetch_all(&self.readers)
        .await?;
        let jobs =
            rows.iter().map(|r| Ok((label(r)?, row::narrow(r, "n")?))).collect::<Result<Vec<(_, u64)>>>()?;
        let old = sqlx::query("SELECT count(*) AS n FROM jobs WHERE finished_at < ?")
            .bind(before.as_millis())
            .fetch_one(&self.readers)
            .await?;
        let old: u64 = row::narrow(&old, "n")?;
        let kept = old.saturating_sub(jobs.iter().map(|(_, n)| n).sum());
        Ok(Prunable { jobs, kept })
    }

    /// Forgets the next [`AT_ONCE`] jobs behind `reached` that ended before `before`, and moves `reached` on; nothing when
    /// there are no more.
    pub async fn prune(&self, before: Timestamp, reached: &mut Reached) -> Result<Option<Vec<Forgotten>>> {
        // Looked for by a reader, however many stay: the writer only looks at these few again.
        let rows = sqlx::query(next_old!())
            .bind(before.as_millis())
            .bind(reached.ended_at)
            .bind(reached.id)
            .bind(AT_ONCE)
            .fetch_all(&self.readers)
            .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        *reached = Reached { ended_at: last.try_get("finished_at")?, id: last.try_get("id")? };
        let ids = rows.iter().map(|r| r.try_get("id")).collect::<std::result::Result<Vec<i64>, _>>()?;
        let ids = serde_json::to_string(&ids)?;
        self.write(move |c, _| Box::pin(async move { forget(c, before, &ids).await })).await.map(Some)
    }
}

async fn forget(c: &mut SqliteConnection, before: Timestamp, ids: &str) -> Result<Vec<Forgotten>> {
    // Once more, in the transaction that removes them: a retry may have come meanwhile.
    let rows = sqlx::query(concat!(
        "SELECT j.id, j.state, j.batch_id FROM jobs j WHERE j.id IN (SELECT value FROM json_each(?2)) AND ",
        forgettable!(),
        " ORDER BY j.id"
    ))
    .bind(before.as_millis())
    .bind(ids)
    .fetch_all(&mut *c)
    .await?;
    let forgotten = rows
        .iter()
        .map(|r| Ok(Forgotten { id: JobId(r.try_get("id")?), state: label(r)? }))
        .collect::<Result<Vec<_>>>()?;
    let ids = serde_json::to_string(&forgotten.iter().map(|job| job.id).collect::<Vec<_>>())?;
    let batches = rows.iter().map(|r| r.try_get("batch_id")).collect::<std::result::Result<Vec<i64>, _>>()?;
    let batches = serde_json::to_string(&batches)?;
    for (query, list) in [
        ("DELETE FROM attempts WHERE task_id IS NULL AND job_id IN (SELECT value FROM json_each(?))", &ids),
        (
            "UPDATE attempts SET request = x'', evidence = NULL, note = NULL
             WHERE job_id IN (SELECT value FROM json_each(?))",
            &ids,
        ),
        // With their history and their outputs.
        ("DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(?))", &ids),
        (
            "DELETE FROM batches WHERE id IN (SELECT value FROM json_each(?))
                AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch_id = batches.id)",
            &batches,
        ),
    ] {
        sqlx::query(query).bind(list).execute(&mut *c).await?;
    }
    Ok(forgotten)
}

fn label(r: &SqliteRow) -> Result<Label> {
    let word: &str = r.try_get("state")?;
    Label::parse(word).ok_or_else(|| StoreError::Corrupt(format!("{word:?} is no state")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the writer of a test")]
    async fn a_prune_looks_only_at_what_is_old_enough() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(&dir.path().join("klingd.db"), Access::Use).await.unwrap();
        tokio::spawn(writer.run());
        assert_eq!(store.prune(Timestamp::from_millis(0), &mut Reached::default()).await.unwrap(), None);
        let explained = sqlx::query(concat!("EXPLAIN QUERY PLAN ", next_old!()));
        let rows = explained.fetch_all(&store.readers).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|r| r.get("detail")).collect();
        let from = |line: &String| line.contains("jobs_finished (finished_at>? AND finished_at<?)");
        assert!(plan.iter().any(from), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("ORDER BY")), "nothing is sorted: {plan:#?}");
    }
}
