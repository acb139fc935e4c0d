//! The ledger: what each attempt costs or may cost, one slim row each, never removed. It is the one place that keeps
//! money; sums over all of it are kept by the schema's triggers.

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Result, Store, batch::Batch, row};
use crate::domain::{AttemptNo, Charge, Credits, JobId, Outcome, TaskId, Timestamp, attempt::Refund};

/// Sums over a part of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Taken by the provider, refunded or not; where it did not say how much, as estimated.
    pub charged: Credits,
    /// Given back of that.
    pub refunded: Credits,
    /// Held back until an outcome is known.
    pub reserved: Credits,
    /// Perhaps taken: counts as spent until settled.
    pub in_doubt: Credits,
}

impl Sums {
    /// What counts against a budget.
    pub fn spent(&self) -> Credits {
        self.gone() + self.reserved + self.in_doubt
    }

    /// What is spent for good.
    pub const fn gone(&self) -> Credits {
        self.charged.minus(self.refunded)
    }

    /// These and those.
    pub fn plus(self, other: Self) -> Self {
        Self {
            charged: self.charged + other.charged,
            refunded: self.refunded + other.refunded,
            reserved: self.reserved + other.reserved,
            in_doubt: self.in_doubt + other.in_doubt,
        }
    }
}

/// How `spend` groups the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// By quarter of an hour, of which every local day is made: no time zone is off by less.
    Quarter,
    /// By request type.
    Type,
    /// By the whole list of tags.
    Tags,
    /// By batch.
    Batch,
}

/// One group of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spending {
    /// What its attempts have in common.
    pub key: Key,
    /// Their money.
    pub sums: Sums,
    /// How many of them cost something, or may.
    pub attempts: u64,
}

/// What the attempts of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is a variant of `Group`")]
pub enum Key {
    Quarter(Timestamp),
    Type(String),
    Tags(Vec<String>),
    Batch(String),
}

/// Attempts of one type that were charged otherwise than the price table said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The type.
    pub job_type: String,
    /// How many.
    pub attempts: u64,
    /// What they should have cost together.
    pub estimated: Credits,
    /// What they did cost.
    pub charged: Credits,
}

/// Milliseconds in a quarter of an hour; the group's key below has it, too.
const QUARTER_MS: i64 = 900_000;

/// Sums over the groups of a key, since a time. Without one nothing is compared: SQLite would go by the index over `at`,
/// and look up every row of a long ledger.
fn sums_by(key: &'static str, since: Option<Timestamp>) -> QueryBuilder<Sqlite> {
    let mut q = QueryBuilder::new("SELECT ");
    q.push(key).push(
        " AS k, coalesce(sum(taken), 0) AS taken, coalesce(sum(refunded), 0) AS refunded,
            coalesce(sum(reserved), 0) AS reserved, coalesce(sum(in_doubt), 0) AS in_doubt,
            count(*) FILTER (WHERE charge <> 'free' OR refunded > 0) AS attempts
         FROM ledger",
    );
    if let Some(since) = since {
        q.push(" WHERE at >= ").push_bind(since.as_millis());
    }
    q.push(" GROUP BY k ORDER BY k");
    q
}

impl Store {
    /// The money of all attempts since a time.
    pub async fn sums(&self, since: Timestamp) -> Result<Sums> {
        sum_rows(&mut *self.readers.acquire().await?, Some(since)).await
    }

    /// The money of all attempts since there is a ledger, however many they are.
    pub async fn sums_ever(&self) -> Result<Sums> {
        total(&mut *self.readers.acquire().await?).await
    }

    /// The ledger in groups, all of it or since a time, in the order of their keys.
    pub async fn spending(&self, group: Group, since: Option<Timestamp>) -> Result<Vec<Spending>> {
        let key = match group {
            Group::Quarter => "at / 900000",
            Group::Type => "type",
            Group::Tags => "tags",
            Group::Batch => "batch",
        };
        let rows = sums_by(key, since).build().fetch_all(&self.readers).await?;
        rows.iter()
            .map(|r| {
                let key = match group {
                    Group::Quarter => Key::Quarter(Timestamp::from_millis(
                        r.try_get::<i64, _>("k")?.saturating_mul(QUARTER_MS),
                    )),
                    Group::Type => Key::Type(r.try_get("k")?),
                    Group::Tags => Key::Tags(row::json(r, "k")?),
                    Group::Batch => Key::Batch(r.try_get("k")?),
                };
                Ok(Spending { key, sums: sums(r)?, attempts: row::narrow(r, "attempts")? })
            })
            .collect()
    }

    /// Where the provider charged otherwise than expected, by type.
    pub async fn drifts(&self, since: Option<Timestamp>) -> Result<Vec<Drift>> {
        let mut q: QueryBuilder<Sqlite> = QueryBuilder::new(
            "SELECT type, count(*) AS attempts, sum(estimate) AS estimated, sum(charged) AS charged
             FROM ledger WHERE charged <> estimate",
        );
        if let Some(since) = since {
            q.push(" AND at >= ").push_bind(since.as_millis());
        }
        let rows = q.push(" GROUP BY type ORDER BY type").build().fetch_all(&self.readers).await?;
        rows.iter()
            .map(|r| {
                Ok(Drift {
                    job_type: r.try_get("type")?,
                    attempts: row::narrow(r, "attempts")?,
                    estimated: row::money(r, "estimated")?.unwrap_or_default(),
                    charged: row::money(r, "charged")?.unwrap_or_default(),
                })
            })
            .collect()
    }

    /// The latest time of an intent: later than now only while the clock is behind what it was once.
    pub async fn latest_intent(&self) -> Result<Option<Timestamp>> {
        let at: Option<i64> =
            sqlx::query_scalar("SELECT max(at) FROM ledger").fetch_one(&self.readers).await?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// What is counted for a task: what the provider said it charged, else what was expected. Nothing for a task that no
    /// attempt made.
    pub async fn counted(&self, job: JobId, task: &TaskId) -> Result<Credits> {
        Ok(counted(&mut *self.readers.acquire().await?, job, task).await?.unwrap_or_default())
    }
}

fn sums(r: &SqliteRow) -> Result<Sums> {
    let sum = |column| row::money(r, column).map(Option::unwrap_or_default);
    Ok(Sums {
        charged: sum("taken")?,
        refunded: sum("refunded")?,
        reserved: sum("reserved")?,
        in_doubt: sum("in_doubt")?,
    })
}

async fn sum_rows(c: &mut SqliteConnection, since: Option<Timestamp>) -> Result<Sums> {
    // One group, or none.
    let found = sums_by("1", since).build().fetch_optional(c).await?;
    found.as_ref().map_or(Ok(Sums::default()), sums)
}

pub(super) async fn total(c: &mut SqliteConnection) -> Result<Sums> {
    let r = sqlx::query("SELECT taken, refunded, reserved, in_doubt FROM ledger_total").fetch_one(c).await?;
    sums(&r)
}

/// What counts as spent between two times.
pub(super) async fn spent_between(
    c: &mut SqliteConnection,
    from: Timestamp,
    to: Timestamp,
) -> Result<Credits> {
    let r = sqlx::query("SELECT coalesce(sum(spent), 0) AS spent FROM ledger WHERE at >= ? AND at < ?")
        .bind(from.as_millis())
        .bind(to.as_millis())
        .fetch_one(c)
        .await?;
    Ok(row::money(&r, "spent")?.unwrap_or_default())
}

/// Opens the row of an attempt, in the transaction of its intent: the estimate is held back from here on.
pub(super) fn reserve(batch: &mut Batch, job: JobId, n: AttemptNo, now: Timestamp) {
    batch
        .add(
            "INSERT INTO ledger (job_id, n, at, type, batch, tags, estimate, charge)
             SELECT j.id, ?, ?, j.type, b.name, j.tags, j.estimate, ?
             FROM jobs j JOIN batches b ON b.id = j.batch_id WHERE j.id = ?",
        )
        .bind(n.0)
        .bind(now.as_millis())
        .bind(Outcome::Open.charge().as_str())
        .bind(job.0);
}

/// Writes how an attempt counts from now on. A task id takes back what was said of a refund: the task is followed (again),
/// and its end says what it costs. `another_task`: what was charged for the one before says nothing of this one.
pub(super) fn settle(
    batch: &mut Batch,
    job: JobId,
    n: AttemptNo,
    outcome: Outcome,
    charged: Option<Credits>,
    another_task: bool,
) {
    batch
        .add(
            "UPDATE ledger SET charge = ?, charged = coalesce(?, CASE WHEN ? THEN NULL ELSE charged END), refunded = 0
             WHERE job_id = ? AND n = ?",
        )
        .bind(outcome.charge().as_str())
        .bind(charged.map(row::credits))
        .bind(another_task)
        .bind(job.0)
        .bind(n.0);
}

/// The task has succeeded: where status names the final charge, it replaces what the submit's answer said.
pub(super) fn succeeded(batch: &mut Batch, job: JobId, task: &TaskId, said: Option<Credits>) {
    write_end(batch, job, task, Charge::Charged, said, Credits::ZERO);
}

/// The task has failed: what the provider does not keep of its charge is free for the budget again.
pub(super) async fn failed(
    c: &mut SqliteConnection,
    batch: &mut Batch,
    job: JobId,
    task: &TaskId,
    said: Option<Credits>,
) -> Result<()> {
    // With what the same step has said of the attempt.
    batch.run(c).await?;
    let Some(counted) = counted(c, job, task).await? else { return Ok(()) };
    let (charge, charged, refunded) = match Refund::of(counted, said) {
        Refund::Whole => (Charge::Free, counted, counted),
        Refund::Partly { kept } => (Charge::Charged, counted, counted.minus(kept)),
        Refund::NotConfirmed { said } => (Charge::Charged, said, Credits::ZERO),
        Refund::Unsaid => return Ok(()),
    };
    write_end(batch, job, task, charge, Some(charged), refunded);
    Ok(())
}

fn write_end(
    batch: &mut Batch,
    job: JobId,
    task: &TaskId,
    charge: Charge,
    charged: Option<Credits>,
    refunded: Credits,
) {
    batch
        .add(
            "UPDATE ledger SET charge = ?, charged = coalesce(?, charged), refunded = ?
             WHERE job_id = ? AND n IN (SELECT n FROM attempts WHERE job_id = ? AND task_id = ?)",
        )
        .bind(charge.as_str())
        .bind(charged.map(row::credits))
        .bind(row::credits(refunded))
        .bind(job.0)
        .bind(job.0)
        .bind(task.as_str());
}

async fn counted(c: &mut SqliteConnection, job: JobId, task: &TaskId) -> Result<Option<Credits>> {
    let r = sqlx::query(
        "SELECT coalesce(l.charged, l.estimate) AS counted FROM attempts a JOIN ledger l USING (job_id, n)
         WHERE a.job_id = ? AND a.task_id = ?",
    )
    .bind(job.0)
    .bind(task.as_str())
    .fetch_optional(c)
    .await?;
    r.map(|r| row::money(&r, "counted")).transpose().map(Option::flatten)
}

/// At `done` the charge replaces what earlier `INTERNAL_ERROR`s held back.
pub(super) fn free_internal_errors(batch: &mut Batch, job: JobId) {
    // The outcome's word stands here as in the partial index that finds it.
    batch
        .add(
            "UPDATE ledger SET charge = ? WHERE job_id = ?
             AND n IN (SELECT n FROM attempts WHERE job_id = ? AND outcome = 'internal_error')",
        )
        .bind(Charge::Free.as_str())
        .bind(job.0)
        .bind(job.0);
}

/// Whether any attempt of a job may have cost something that did not come back.
pub(super) async fn maybe_paid(c: &mut SqliteConnection, job: JobId) -> Result<bool> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM ledger WHERE job_id = ? AND charge <> 'free')")
        .bind(job.0)
        .fetch_one(c)
        .await?)
}

/// What is wrong with the books; nothing when all is well. It reads the whole ledger.
pub(super) async fn check(c: &mut SqliteConnection) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let kept = total(c).await?;
    let summed = sum_rows(c, None).await?;
    if kept != summed {
        found.push(format!("the ledger's total is kept as {kept:?}, its rows give {summed:?}"));
    }
    let bare: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM attempts a
         WHERE NOT EXISTS (SELECT 1 FROM ledger l WHERE l.job_id = a.job_id AND l.n = a.n)",
    )
    .fetch_one(c)
    .await?;
    if bare > 0 {
        found.push(format!("{bare} attempts have no row in the ledger"));
    }
    Ok(found)
}
