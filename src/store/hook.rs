//! Calls of hooks: written in the transaction of what they tell, removed when they were heard.

use serde_json::{Value, json};
use sqlx::{Row, SqliteConnection};

use super::{
    Result, Store, StoreError,
    budget::{self, Budget, Cap, Spent},
    meta, row,
    writer::Ring,
};
use crate::domain::{Credits, JobId, Timestamp, hold::Hold, hook::HookEvent, state::Label};

/// One program to run.
#[derive(Clone, Debug, PartialEq)]
pub struct HookCall {
    /// Its number; the same at every try.
    pub id: i64,
    /// Whom to call.
    pub hook: String,
    /// What happened.
    pub event: HookEvent,
    /// When.
    pub at: Timestamp,
    /// How often it has failed.
    pub failures: u32,
    /// To which job.
    pub job: Option<JobId>,
    /// What else there is to tell: an object.
    pub detail: Option<Value>,
}

impl Store {
    /// Who waits for what from now on. What was to be told to a hook that is gone is dropped: nobody is there to hear it.
    /// Where nothing is new nothing is written, so that a start on a full disk does not fail here.
    pub async fn keep_hooks(&self, hooks: Vec<(String, Vec<HookEvent>)>) -> Result<()> {
        let named = |(name, events): &(String, Vec<HookEvent>)| -> Vec<_> {
            events.iter().map(|event| (event.as_str(), name.clone())).collect()
        };
        let waiting = serde_json::to_string(&hooks.iter().flat_map(named).collect::<Vec<_>>())?;
        self.write(move |c, ring| {
            Box::pin(async move {
                for change in [
                    "DELETE FROM hooks WHERE (event, name) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
                    "INSERT INTO hooks (event, name) SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true
                     ON CONFLICT DO NOTHING",
                ] {
                    sqlx::query(change).bind(&waiting).execute(&mut *c).await?;
                }
                sqlx::query("DELETE FROM hook_calls WHERE hook NOT IN (SELECT name FROM hooks)")
                    .execute(c)
                    .await?;
                ring.hook();
                Ok(())
            })
        })
        .await
    }

    /// The next call of this hook: the oldest of those that are due.
    pub async fn next_hook_call(&self, hook: &str, now: Timestamp) -> Result<Option<HookCall>> {
        let found = sqlx::query(
            "SELECT id, hook, event, at, failures, job_id, detail FROM hook_calls
             WHERE hook = ? AND due_at <= ? ORDER BY due_at, id LIMIT 1",
        )
        .bind(hook)
        .bind(now.as_millis())
        .fetch_optional(&self.readers)
        .await?;
        found.map(|r| call(&r)).transpose()
    }

    /// When the next call is due; of none that is under way this says nothing that matters.
    pub async fn next_hook_call_at(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let at: Option<i64> = sqlx::query_scalar("SELECT min(due_at) FROM hook_calls WHERE due_at > ?")
            .bind(now.as_millis())
            .fetch_one(&self.readers)
            .await?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// Whether a call waits for its first try.
    pub async fn hooks_wait(&self) -> Result<bool> {
        let any = "SELECT EXISTS (SELECT 1 FROM hook_calls WHERE failures = 0)";
        Ok(sqlx::query_scalar(any).fetch_one(&self.readers).await?)
    }

    /// A call was heard, or is given up.
    pub async fn end_hook_call(&self, id: i64) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query("DELETE FROM hook_calls WHERE id = ?").bind(id).execute(c).await?;
                Ok(())
            })
        })
        .await
    }

    /// A call failed, and is made again.
    pub async fn put_off_hook_call(&self, id: i64, due_at: Timestamp) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query("UPDATE hook_calls SET failures = failures + 1, due_at = ? WHERE id = ?")
                    .bind(due_at.as_millis())
                    .bind(id)
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}

fn call(r: &sqlx::sqlite::SqliteRow) -> Result<HookCall> {
    let word: String = r.try_get("event")?;
    Ok(HookCall {
        id: r.try_get("id")?,
        hook: r.try_get("hook")?,
        event: HookEvent::parse(&word)
            .ok_or_else(|| StoreError::Corrupt(format!("a hook's event {word:?}")))?,
        at: Timestamp::from_millis(r.try_get("at")?),
        failures: row::narrow(r, "failures")?,
        job: r.try_get::<Option<i64>, _>("job_id")?.map(JobId),
        detail: r.try_get::<Option<&str>, _>("detail")?.map(serde_json::from_str).transpose()?,
    })
}

/// Whether anybody waits for this.
async fn is_waited_for(c: &mut SqliteConnection, event: HookEvent) -> Result<bool> {
    let any = "SELECT EXISTS (SELECT 1 FROM hooks WHERE event = ?)";
    Ok(sqlx::query_scalar(any).bind(event.as_str()).fetch_one(c).await?)
}

/// Writes a call for each hook that waits for this event.
async fn tell(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    event: HookEvent,
    job: Option<JobId>,
    detail: Option<Value>,
    at: Timestamp,
) -> Result<()> {
    let told = sqlx::query(
        "INSERT INTO hook_calls (hook, event, at, due_at, job_id, detail)
         SELECT name, event, ?, ?, ?, ? FROM hooks WHERE event = ?",
    )
    .bind(at.as_millis())
    .bind(at.as_millis())
    .bind(job.map(|job| job.0))
    .bind(detail.map(|detail| detail.to_string()))
    .bind(event.as_str())
    .execute(c)
    .await?
    .rows_affected();
    if told > 0 {
        ring.hook();
    }
    Ok(())
}

/// A job has come to another state.
pub(super) async fn job_moved(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    job: JobId,
    (from, to): (Label, Label),
    has_ended: bool,
    at: Timestamp,
) -> Result<()> {
    let event = HookEvent::of(to);
    if from == to || (event.is_none() && !has_ended) {
        return Ok(());
    }
    if let Some(event) = event {
        tell(c, ring, event, Some(job), None, at).await?;
    }
    if has_ended && is_waited_for(c, HookEvent::BatchDone).await? {
        batch_moved(c, ring, job, at).await?;
    }
    Ok(())
}

/// A job of a batch has ended: perhaps it was the last one.
async fn batch_moved(c: &mut SqliteConnection, ring: &mut Ring, job: JobId, at: Timestamp) -> Result<()> {
    // From the newest job back, since the oldest end first: of a long batch one row is read, until it is nearly done.
    let open: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE batch_id = (SELECT batch_id FROM jobs WHERE id = ?) AND finished_at IS NULL
         ORDER BY id DESC LIMIT 1",
    )
    .bind(job.0)
    .fetch_optional(&mut *c)
    .await?;
    if open.is_some() {
        return Ok(());
    }
    let sums = sqlx::query(
        "SELECT b.id, b.name, count(*) FILTER (WHERE j.state = 'done') AS done,
            count(*) FILTER (WHERE j.state = 'failed') AS failed,
            count(*) FILTER (WHERE j.state = 'cancelled') AS cancelled, sum(j.charged) AS charged
         FROM jobs j JOIN batches b ON b.id = j.batch_id WHERE j.batch_id = (SELECT batch_id FROM jobs WHERE id = ?)",
    )
    .bind(job.0)
    .fetch_one(&mut *c)
    .await?;
    let detail = json!({ "batch": {
        "id": sums.try_get::<i64, _>("id")?,
        "name": sums.try_get::<String, _>("name")?,
        "done": sums.try_get::<i64, _>("done")?,
        "failed": sums.try_get::<i64, _>("failed")?,
        "cancelled": sums.try_get::<i64, _>("cancelled")?,
        "charged_credits": sums.try_get::<Option<i64>, _>("charged")?,
    }});
    tell(c, ring, HookEvent::BatchDone, None, Some(detail), at).await
}

/// A hold that did not stand before was set.
pub(super) async fn hold_set(c: &mut SqliteConnection, ring: &mut Ring, hold: &Hold) -> Result<()> {
    let detail = json!({ "hold": {
        "name": hold.name.as_str(),
        "since": hold.since.to_string(),
        "until": hold.until.map(|until| until.to_string()),
        "why": hold.why,
        "remedy": hold.name.remedy(),
    }});
    tell(c, ring, HookEvent::HoldSet, None, Some(detail), hold.since).await
}

/// The name in `meta` of the stop that was told last, so that it is told once.
const TOLD_STOP: &str = "told_budget_stop";

/// Nothing that is queued fits into what is left. Told once a day for the day's cap, once for the total one; again when
/// the cap is another.
pub(super) async fn budget_stopped(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    (spent, budget): (&Spent, &Budget),
    day: Timestamp,
    at: Timestamp,
) -> Result<()> {
    if !is_waited_for(c, HookEvent::BudgetStop).await? || budget::any_within(c, spent.room(budget)).await? {
        return Ok(());
    }
    // What would fit if nothing had been spent yet is stopped by what was spent, and not by its own size.
    let unspent = Spent::default().room(budget);
    let Some(cheapest) = budget::cheapest_within(c, unspent).await? else { return Ok(()) };
    let (cap, limit, used, mark) = match spent.stopped_by(cheapest, None, budget) {
        Some(Cap::PerDay) => ("per_day", budget.per_day, spent.of_day(), day.as_millis()),
        Some(Cap::Total) => ("total", budget.total, spent.in_total(), 0),
        Some(Cap::PerJob | Cap::MaxCredits) | None => return Ok(()),
    };
    let stop = format!("{cap} {} {mark}", limit.get());
    if meta::get(c, TOLD_STOP).await?.as_ref() == Some(&stop) {
        return Ok(());
    }
    meta::keep(c, TOLD_STOP, &stop).await?;
    let credits = |c: Credits| c.get();
    let detail = json!({ "budget": {
        "cap": cap,
        "limit_credits": credits(limit),
        "spent_credits": credits(used),
        "next_estimated_credits": credits(cheapest),
    }});
    tell(c, ring, HookEvent::BudgetStop, None, Some(detail), at).await
}
