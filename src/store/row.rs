//! Rows ⇄ domain: reading a row is parsing, and may refuse.

use sqlx::{Row, sqlite::SqliteRow};

use super::{Result, StoreError};
use crate::domain::{
    Credits, Job, JobId, JobKey, Outcome, Timestamp,
    job::{MadeWith, Version},
};

/// The one list of a job's columns, put before the rest of a query.
macro_rules! select_job {
    ($rest:literal) => {
        concat!(
            "SELECT j.id, j.version, j.data, j.name, j.request, j.output, b.name AS batch, j.tags, j.priority, j.take,
                j.key, j.not_before, j.max_credits, j.estimate, j.charged, j.paid_attempts, j.polls, j.created_at,
                j.submitted_at, j.finished_at, j.due_at, j.error, j.notes, j.source, j.base_url, j.key_fingerprint
             FROM jobs j JOIN batches b ON b.id = j.batch_id ",
            $rest
        )
    };
}
pub(super) use select_job;

/// A job from a row of [`select_job`].
pub(super) fn job(row: &SqliteRow) -> Result<Job> {
    let base_url: Option<String> = row.try_get("base_url")?;
    let key_fingerprint: Option<String> = row.try_get("key_fingerprint")?;
    Ok(Job {
        id: JobId(row.try_get("id")?),
        version: Version(row.try_get("version")?),
        state: json(row, "data")?,
        name: row.try_get("name")?,
        request: json(row, "request")?,
        output: row.try_get("output")?,
        batch: row.try_get("batch")?,
        tags: json(row, "tags")?,
        priority: narrow(row, "priority")?,
        take: narrow(row, "take")?,
        key: JobKey::from_stored(row.try_get("key")?),
        not_before: time(row, "not_before")?,
        max_credits: money(row, "max_credits")?,
        estimate: money(row, "estimate")?.unwrap_or_default(),
        charged: money(row, "charged")?,
        paid_attempts: narrow(row, "paid_attempts")?,
        polls: narrow(row, "polls")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        submitted_at: time(row, "submitted_at")?,
        finished_at: time(row, "finished_at")?,
        due_at: time(row, "due_at")?,
        error: row.try_get::<Option<&str>, _>("error")?.map(serde_json::from_str).transpose()?,
        notes: json(row, "notes")?,
        source: row.try_get("source")?,
        made_with: base_url
            .zip(key_fingerprint)
            .map(|(base_url, key_fingerprint)| MadeWith { base_url, key_fingerprint }),
    })
}

/// A JSON column.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T> {
    serde_json::from_str(row.try_get(column)?)
        .map_err(|e| StoreError::Corrupt(format!("column {column}: {e}")))
}

/// An optional time.
pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_millis))
}

/// An optional amount.
pub(super) fn money(row: &SqliteRow, column: &str) -> Result<Option<Credits>> {
    let stored: Option<i64> = row.try_get(column)?;
    stored
        .map(|n| u64::try_from(n).map(Credits::new))
        .transpose()
        .map_err(|_| StoreError::Corrupt(format!("column {column}: a negative amount")))
}

/// An integer that must fit a smaller type.
pub(super) fn narrow<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T> {
    T::try_from(row.try_get::<i64, _>(column)?)
        .map_err(|_| StoreError::Corrupt(format!("column {column}: out of range")))
}

/// An outcome's word.
pub(super) fn outcome(word: &str) -> Result<Outcome> {
    Outcome::parse(word).ok_or_else(|| StoreError::Corrupt(format!("{word:?} is no outcome of an attempt")))
}

/// Credits as SQLite stores them; no real amount comes near the bound.
pub(super) fn credits(c: Credits) -> i64 {
    i64::try_from(c.get()).unwrap_or(i64::MAX)
}
