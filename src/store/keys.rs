//! Keys against accidental repetition: who holds one, who gets it when that job ends, and what is made again on purpose.
//!
//! A key has one holder at a time: the table's primary key says so, within the transaction that queues. A job that may be
//! paid, and whose key another one has, waits in `earlier_keys` to get it back.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use super::{Result, StoreError, ledger, row};
use crate::domain::{JobId, State, key::JobKey};

/// What the queue knows already of some new jobs, by their positions.
pub(super) struct Earlier {
    /// Who holds the key: the job is not queued.
    pub holders: HashMap<usize, JobId>,
    /// Jobs that are made again on purpose: the key moves to them.
    again: Vec<usize>,
}

impl Earlier {
    /// Looks the keys of a packed batch up.
    pub async fn find(c: &mut SqliteConnection, packed: &str) -> Result<Self> {
        // CROSS JOIN keeps the order: a lookup for each new job, however many keys there are.
        let rows = sqlx::query(
            "SELECT r.key AS n, k.job_id, r.value ->> 1 AS again
             FROM json_each(?) r CROSS JOIN keys k ON k.key = r.value ->> 0",
        )
        .bind(packed)
        .fetch_all(c)
        .await?;
        let mut earlier = Self { holders: HashMap::new(), again: Vec::new() };
        for row in &rows {
            let n: usize = row::narrow(row, "n")?;
            if row.try_get("again")? {
                earlier.again.push(n);
            } else {
                earlier.holders.insert(n, JobId(row.try_get("job_id")?));
            }
        }
        Ok(earlier)
    }

    /// Frees the keys of what is made again, until that ends uncharged.
    pub async fn release(&self, c: &mut SqliteConnection, packed: &str) -> Result<()> {
        if self.again.is_empty() {
            return Ok(());
        }
        let again = serde_json::to_string(&self.again)?;
        sqlx::query(
            "INSERT INTO earlier_keys (key, job_id)
             SELECT k.key, k.job_id FROM json_each(?) a CROSS JOIN json_each(?) r ON r.key = a.value
                CROSS JOIN keys k ON k.key = r.value ->> 0
             WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(&again)
        .bind(packed)
        .execute(&mut *c)
        .await?;
        sqlx::query(
            "DELETE FROM keys WHERE key IN
                (SELECT value ->> 0 FROM json_each(?) WHERE key IN (SELECT value FROM json_each(?)))",
        )
        .bind(packed)
        .bind(again)
        .execute(c)
        .await?;
        Ok(())
    }
}

/// Whether [`follow`] has anything to do.
pub(super) const fn are_concerned(from: &State, to: &State) -> bool {
    from.has_ended() || (to.has_ended() && !matches!(to, State::Done { .. }))
}

/// A job has its key until it ends provably uncharged; a task whose credits all came back is uncharged by the provider's
/// own word. It takes the key again when it goes on, and when late evidence shows that it is paid after all. `renders`: it
/// is about to be submitted once more.
pub(super) async fn follow(
    c: &mut SqliteConnection,
    job: JobId,
    (from, to): (&State, &State),
    renders: bool,
) -> Result<()> {
    let done = matches!(to, State::Done { .. });
    if to.has_ended() && !done && !ledger::maybe_paid(c, job).await? {
        give_up(c, job).await
    } else if from.has_ended() {
        take_again(c, job, renders).await
    } else {
        Ok(())
    }
}

/// The last of those who had it before gets it back.
async fn give_up(c: &mut SqliteConnection, job: JobId) -> Result<()> {
    let key = key_of(c, job).await?;
    sqlx::query("DELETE FROM earlier_keys WHERE key = ? AND job_id = ?")
        .bind(&key)
        .bind(job.0)
        .execute(&mut *c)
        .await?;
    let freed = sqlx::query("DELETE FROM keys WHERE key = ? AND job_id = ?")
        .bind(&key)
        .bind(job.0)
        .execute(&mut *c)
        .await?;
    if freed.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO keys (key, job_id) SELECT key, max(job_id) FROM earlier_keys WHERE key = ? GROUP BY key",
    )
    .bind(&key)
    .execute(&mut *c)
    .await?;
    sqlx::query(
        "DELETE FROM earlier_keys WHERE key = ?1 AND job_id = (SELECT job_id FROM keys WHERE key = ?1)",
    )
    .bind(&key)
    .execute(c)
    .await?;
    Ok(())
}

/// What another job took meanwhile it keeps. That stops a new render, and nothing else: what is paid is followed.
async fn take_again(c: &mut SqliteConnection, job: JobId, renders: bool) -> Result<()> {
    let key = key_of(c, job).await?;
    sqlx::query("INSERT INTO keys (key, job_id) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(&key)
        .bind(job.0)
        .execute(&mut *c)
        .await?;
    let holder: i64 =
        sqlx::query_scalar("SELECT job_id FROM keys WHERE key = ?").bind(&key).fetch_one(&mut *c).await?;
    if holder == job.0 {
        return Ok(());
    }
    if renders {
        return Err(StoreError::KeyTaken { job, key: JobKey::from_stored(key), holder: JobId(holder) });
    }
    sqlx::query("INSERT INTO earlier_keys (key, job_id) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(&key)
        .bind(job.0)
        .execute(c)
        .await?;
    Ok(())
}

async fn key_of(c: &mut SqliteConnection, job: JobId) -> Result<String> {
    Ok(sqlx::query_scalar("SELECT key FROM jobs WHERE id = ?").bind(job.0).fetch_one(c).await?)
}
