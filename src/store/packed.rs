//! Jobs on their way into the queue, as the text that one statement inserts.
//!
//! Text and not [`NewJob`]s, because a hundred thousand of them must wait for the last to be checked before the first
//! is queued: text can wait in a file.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Result, row};
use crate::domain::{Credits, JobKey, JobType, Request, Timestamp, job::NewJob};

/// Jobs that one statement inserts: enough for a statement's fixed cost to vanish, few enough to hold in memory.
pub const PACK: usize = 500;

/// At most [`PACK`] jobs of one batch.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Rows as JSON, each behind a comma: `,[…],[…]`.
    rows: String,
    jobs: usize,
}

/// The columns that differ from job to job. The statement in `enqueue.rs` names them by their positions.
#[derive(Serialize, Deserialize)]
struct PackedRow<'a>(
    #[serde(borrow)] Cow<'a, str>,         // 0: key
    bool,                                  // 1: again
    i8,                                    // 2: priority
    #[serde(borrow)] Option<Cow<'a, str>>, // 3: name
    #[serde(borrow)] Option<Cow<'a, str>>, // 4: output
    #[serde(borrow)] Cow<'a, str>,         // 5: tags, as JSON
    u32,                                   // 6: take
    Option<i64>,                           // 7: not_before
    JobType,                               // 8: type
    #[serde(borrow)] Cow<'a, str>,         // 9: request, as JSON
    i64,                                   // 10: estimate
    Option<i64>,                           // 11: max_credits
    #[serde(borrow)] Cow<'a, str>,         // 12: source
);

impl Packed {
    /// All of `jobs`, in order.
    pub fn all(jobs: &[NewJob]) -> Result<Vec<Self>> {
        jobs.chunks(PACK)
            .map(|some| {
                let mut packed = Self::default();
                some.iter().try_for_each(|job| packed.push(job))?;
                Ok(packed)
            })
            .collect()
    }

    /// What [`text`](Self::text) gave.
    pub fn from_text(rows: String, jobs: usize) -> Self {
        Self { rows, jobs }
    }

    /// Adds a job. It is the caller's to stop at [`PACK`].
    pub fn push(&mut self, job: &NewJob) -> Result<()> {
        let row = PackedRow(
            job.key.as_str().into(),
            job.again,
            job.priority,
            job.name.as_deref().map(Cow::from),
            job.output.as_deref().map(Cow::from),
            serde_json::to_string(&job.tags)?.into(),
            job.take,
            job.not_before.map(Timestamp::as_millis),
            job.request.job_type(),
            serde_json::to_string(job.request.body())?.into(),
            row::credits(job.estimate),
            job.max_credits.map(row::credits),
            job.source.as_str().into(),
        );
        self.rows.push(',');
        self.rows.push_str(&serde_json::to_string(&row)?);
        self.jobs += 1;
        Ok(())
    }

    /// How many jobs.
    pub fn len(&self) -> usize {
        self.jobs
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.jobs == 0
    }

    /// Without line breaks.
    pub fn text(&self) -> &str {
        &self.rows
    }

    /// The JSON array that the statement takes.
    pub(super) fn json(&self) -> String {
        format!("[{}]", self.rows.get(1..).unwrap_or_default())
    }

    /// Their keys, in order.
    pub fn keys(&self) -> Result<Vec<JobKey>> {
        let json = self.json();
        let rows: Vec<PackedRow<'_>> = serde_json::from_str(&json)?;
        Ok(rows.into_iter().map(|row| JobKey::from_stored(row.0.into_owned())).collect())
    }

    /// The jobs, in order.
    pub fn jobs(&self) -> Result<Vec<NewJob>> {
        let json = self.json();
        let rows: Vec<PackedRow<'_>> = serde_json::from_str(&json)?;
        rows.into_iter().map(unpack).collect()
    }
}

fn unpack(row: PackedRow<'_>) -> Result<NewJob> {
    let request: Request = serde_json::from_str(&row.9)?;
    Ok(NewJob {
        key: JobKey::from_stored(row.0.into_owned()),
        again: row.1,
        priority: row.2,
        name: row.3.map(Cow::into_owned),
        output: row.4.map(Cow::into_owned),
        tags: serde_json::from_str(&row.5)?,
        take: row.6,
        not_before: row.7.map(Timestamp::from_millis),
        request,
        estimate: amount(row.10),
        max_credits: row.11.map(amount),
        source: row.12.into_owned(),
    })
}

/// What [`row::credits`] wrote is never negative.
fn amount(stored: i64) -> Credits {
    Credits::new(u64::try_from(stored).unwrap_or(0))
}
