//! Submits: intents, committed before a byte leaves, and the outcomes of attempts.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};

use super::{
    Result, Store,
    batch::Batch,
    budget::{self, Budget, Spent},
    control, hook, ledger, row,
    step::{Fence, Moved, Step, step_in},
    writer::Ring,
};
use crate::domain::{
    AttemptNo, Credits, Event, JobId, Timestamp,
    evidence::Evidence,
    gate::{Admission, Flight, Gate, GatePolicy},
    hold::{Hold, HoldName},
    job::Version,
    key::hex,
    plan::submit::{LONGEST_DEFERRAL, SubmitPlan, claimed_twice},
    retry::Dice,
    state::TaskId,
};

/// What an intent needs from the outside.
#[derive(Clone, Debug)]
pub struct ClaimPolicy {
    /// The gate's part of the configuration.
    pub gate: GatePolicy,
    /// The caps.
    pub budget: Budget,
    /// Where the request will go.
    pub base_url: String,
    /// With which key.
    pub key_fingerprint: String,
}

/// A job whose POST may leave now: its intent is durable.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptNo,
    /// The exact bytes to send.
    pub body: Vec<u8>,
    /// What it should cost.
    pub estimate: Credits,
    /// Earlier attempts of this job that ended in a documented `INTERNAL_ERROR`.
    pub internal_errors: u32,
    /// When it was queued, or may first have gone; none where it was tried before.
    pub waits_since: Option<Timestamp>,
}

/// What a claim found.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The jobs to submit.
    pub intents: Vec<Intent>,
    /// When time alone may bring more.
    pub next_at: Option<Timestamp>,
}

impl Store {
    /// Moves up to `workers` queued jobs to `submitting`, as far as holds, gate and budget admit. `day` is the start of
    /// the local day.
    pub async fn claim_submits(
        &self,
        workers: u32,
        policy: &ClaimPolicy,
        now: Timestamp,
        day: Timestamp,
    ) -> Result<Claimed> {
        // Most looks find nothing: they cost a read, not a transaction.
        let (is_due, next_at) = self.when_to_submit(now).await?;
        if !is_due {
            return Ok(Claimed { intents: Vec::new(), next_at });
        }
        let policy = policy.clone();
        self.write(move |c, ring| Box::pin(async move { claim(c, ring, workers, &policy, now, day).await }))
            .await
    }

    /// Whether anything is due, and when something will be by time alone.
    async fn when_to_submit(&self, now: Timestamp) -> Result<(bool, Option<Timestamp>)> {
        // Each by a partial index, whose very words these are: what a person scheduled, and what klingd put off.
        let r = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM jobs WHERE lane = 'submit' AND due_at IS not_before AND due_at <= ?1)
                 OR EXISTS (SELECT 1 FROM jobs WHERE lane = 'submit' AND due_at IS NOT not_before
                            AND due_at <= ?1)
                 OR EXISTS (SELECT 1 FROM jobs WHERE lane = 'submit' AND due_at IS NOT not_before
                            AND due_at > ?2 AND coalesce(not_before, ?1) <= ?1) AS is_due,
                (SELECT min(due_at) FROM (
                    SELECT min(due_at) AS due_at FROM jobs
                    WHERE lane = 'submit' AND due_at IS not_before AND due_at > ?1
                    UNION ALL
                    SELECT min(due_at) FROM jobs
                    WHERE lane = 'submit' AND due_at IS NOT not_before AND due_at > ?1)) AS next_at",
        )
        .bind(now.as_millis())
        .bind((now + LONGEST_DEFERRAL).as_millis())
        .fetch_one(&self.readers)
        .await?;
        Ok((r.try_get("is_due")?, row::time(&r, "next_at")?))
    }

    /// Commits the outcome of an attempt with its evidence, what the gate learned and the hold it asks for. The fence
    /// is the attempt: whatever a person did meanwhile, the provider's word is kept.
    pub async fn settle_submit(&self, outcome: SubmitOutcome) -> Result<Moved> {
        self.write(move |c, ring| Box::pin(async move { settle(c, ring, &outcome).await })).await
    }
}

/// An answered attempt, ready to be written.
#[derive(Clone, Debug)]
pub struct SubmitOutcome {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptNo,
    /// What follows.
    pub plan: SubmitPlan,
    /// The raw answer.
    pub evidence: Evidence,
    /// A remark for the job (price drift, a salvaged id).
    pub note: Option<String>,
    /// The gate's part of the configuration.
    pub gate: GatePolicy,
    /// When.
    pub now: Timestamp,
    /// For the gate's jitter.
    pub dice: Dice,
}

async fn claim(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    workers: u32,
    policy: &ClaimPolicy,
    now: Timestamp,
    day: Timestamp,
) -> Result<Claimed> {
    let holds = control::holds(c).await?;
    let in_force: Vec<&Hold> = holds.iter().filter(|h| h.holds(now)).collect();
    let probed = match in_force.as_slice() {
        [hold] if hold.name == HoldName::Credits && hold.probe_is_due(now) => Some(*hold),
        _ => None,
    };
    if !in_force.is_empty() && probed.is_none() {
        let next_at =
            in_force.iter().flat_map(|h| [h.until, h.probe_at]).flatten().filter(|t| *t > now).min();
        return Ok(Claimed { intents: Vec::new(), next_at });
    }
    let (gate, flight) = gate_and_flight(c, now).await?;
    let free = match gate.admits(flight, &policy.gate, now) {
        Admission::Go(free) => free.min(workers),
        Admission::ClosedUntil(until) => return Ok(Claimed { intents: Vec::new(), next_at: Some(until) }),
        Admission::Full => return Ok(Claimed { intents: Vec::new(), next_at: gate.opens_at(now) }),
    };
    // One job finds out, alone, whether the others may go.
    let one_by_one = probed.is_some() || holds.iter().any(|hold| hold.is_on_trial(now));
    let free = if one_by_one { free.min(1_u32.saturating_sub(flight.on_the_wire)) } else { free };
    let intents = intend_what_fits(c, ring, free, policy, now, day).await?;
    let n = u32::try_from(intents.len()).unwrap_or(u32::MAX);
    let left = gate.take(n, now);
    if n > 0 && left != gate {
        control::keep_gate(c, &left).await?;
    }
    if let Some(at) = probed.and_then(|hold| hold.next_probe(now)).filter(|_| !intents.is_empty()) {
        control::probe_later(c, HoldName::Credits, at).await?;
    }
    // Nobody rings when the next may leave, if it is time alone that brings it.
    let flight = Flight { on_the_wire: flight.on_the_wire.saturating_add(n), ..flight };
    let next_at = match left.admits(flight, &policy.gate, now) {
        Admission::Go(_) => None,
        Admission::ClosedUntil(at) => Some(at),
        Admission::Full => left.opens_at(now),
    };
    Ok(Claimed { intents, next_at })
}

/// Intents for up to `free` jobs, as far as the caps allow. Each reservation leaves less room, so what fitted when it was
/// read may not any more: then those behind it are asked, until nothing fits.
async fn intend_what_fits(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    free: u32,
    policy: &ClaimPolicy,
    now: Timestamp,
    day: Timestamp,
) -> Result<Vec<Intent>> {
    let free = usize::try_from(free).unwrap_or(usize::MAX);
    let mut spent = Spent::read(c, &policy.budget, day).await?;
    let mut intents = Vec::new();
    while intents.len() < free {
        let before = intents.len();
        for job in due(c, free - before, spent.room(&policy.budget), now).await? {
            if spent.reserve(job.estimate, job.max_credits, &policy.budget) {
                intents.push(intend(c, ring, job, policy, now).await?);
            }
        }
        if intents.len() == before {
            hook::budget_stopped(c, ring, (&spent, &policy.budget), day, now).await?;
            break;
        }
    }
    Ok(intents)
}

struct DueJob {
    id: JobId,
    version: Version,
    request: String,
    estimate: Credits,
    max_credits: Option<Credits>,
    last_attempt: u32,
    internal_errors: u32,
    waits_since: Timestamp,
}

/// The next jobs in order, of those that may be paid from `room`: higher priority first, then the oldest. What klingd put
/// off further than it ever does is due. The index has all that is asked: a job that is passed over costs no row.
macro_rules! next_due {
    () => {
        "SELECT id, version, request, estimate, max_credits, max(created_at, coalesce(not_before, 0)) AS waits_since,
            (SELECT coalesce(max(n), 0) FROM attempts a WHERE a.job_id = j.id) AS last_attempt,
            (SELECT count(*) FROM attempts a WHERE a.job_id = j.id AND a.outcome = 'internal_error') AS internal_errors
         FROM jobs j INDEXED BY jobs_to_submit WHERE lane = 'submit'
            AND (due_at <= ?1 OR (due_at > ?2 AND due_at IS NOT not_before AND coalesce(not_before, ?1) <= ?1))
            AND estimate <= ?3 AND (max_credits IS NULL OR estimate <= max_credits)
         ORDER BY priority DESC, id LIMIT +?4"
    };
}

async fn due(c: &mut SqliteConnection, limit: usize, room: Credits, now: Timestamp) -> Result<Vec<DueJob>> {
    if !budget::any_within(c, room).await? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(next_due!())
        .bind(now.as_millis())
        .bind((now + LONGEST_DEFERRAL).as_millis())
        .bind(row::credits(room))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(c)
        .await?;
    rows.iter()
        .map(|r| {
            Ok(DueJob {
                id: JobId(r.try_get("id")?),
                version: Version(r.try_get("version")?),
                request: r.try_get("request")?,
                estimate: row::money(r, "estimate")?.unwrap_or_default(),
                max_credits: row::money(r, "max_credits")?,
                last_attempt: row::narrow(r, "last_attempt")?,
                internal_errors: row::narrow(r, "internal_errors")?,
                waits_since: Timestamp::from_millis(r.try_get("waits_since")?),
            })
        })
        .collect()
}

async fn intend(
    c: &mut SqliteConnection,
    ring: &mut Ring,
    job: DueJob,
    policy: &ClaimPolicy,
    now: Timestamp,
) -> Result<Intent> {
    let attempt = AttemptNo(job.last_attempt + 1);
    let body = job.request.into_bytes();
    let mut batch = Batch::default();
    batch
        .add(
            "INSERT INTO attempts (job_id, n, started_at, request, request_sha256, base_url, key_fingerprint, outcome)
             VALUES (?, ?, ?, ?, ?, ?, ?, 'open')",
        )
        .bind(job.id.0)
        .bind(attempt.0)
        .bind(now.as_millis())
        .bind(body.as_slice())
        .bind(hex(&Sha256::digest(&body)))
        .bind(policy.base_url.as_str())
        .bind(policy.key_fingerprint.as_str());
    ledger::reserve(&mut batch, job.id, attempt, now);
    let event = Event::SubmitStarted { attempt };
    let fence = Fence::Version(job.version);
    let step = Step { job: job.id, fence, event: &event, at: now, due_at: None, error: None, note: None };
    step_in(c, ring, &mut batch, &step).await?;
    batch
        .add("UPDATE jobs SET base_url = ?, key_fingerprint = ? WHERE id = ?")
        .bind(policy.base_url.as_str())
        .bind(policy.key_fingerprint.as_str())
        .bind(job.id.0);
    batch.run(c).await?;
    Ok(Intent {
        job: job.id,
        attempt,
        body,
        estimate: job.estimate,
        internal_errors: job.internal_errors,
        waits_since: (job.last_attempt == 0).then_some(job.waits_since),
    })
}

async fn settle(c: &mut SqliteConnection, ring: &mut Ring, o: &SubmitOutcome) -> Result<Moved> {
    // The raw answer goes into the row of its attempt with the step it caused. When the step is refused both are undone,
    // and the caller still has the answer: it goes to the spool.
    let mut batch = Batch::default();
    batch
        .add("UPDATE attempts SET evidence = ?, answered_at = ? WHERE job_id = ? AND n = ?")
        .bind(serde_json::to_string(&o.evidence)?)
        .bind(o.now.as_millis())
        .bind(o.job.0)
        .bind(o.attempt.0);
    let mut event = o.plan.event.clone();
    if let Event::Accepted { task, .. } = &event
        && let Some(owner) = owner(c, task, o.job, o.attempt).await?
    {
        event = claimed_twice(o.attempt, task, owner);
    }
    let (gate, Flight { on_the_wire, tasks }) = gate_and_flight(c, o.now).await?;
    let others = Flight { on_the_wire: on_the_wire.saturating_sub(1), tasks };
    let heard = gate.hear(o.plan.gate, o.plan.retry_after, others, &o.gate, o.now, o.dice);
    if heard != gate {
        control::keep_gate(c, &heard).await?;
        ring.lane(crate::domain::state::Lane::Submit);
    }
    if let Some((name, why, until)) = &o.plan.hold {
        let hold = Hold { until: *until, ..Hold::new(*name, why.clone(), o.now) };
        control::set_hold(c, ring, &hold).await?;
    }
    if matches!(event, Event::Accepted { .. }) {
        control::lift_by_acceptance(&mut batch);
    }
    let due_at = match event {
        Event::SubmitDeferred { .. } => o.plan.due_at.max(not_before(c, o.job).await?),
        _ => o.plan.due_at,
    };
    let (job, at, error, note) = (o.job, o.now, o.plan.error.clone(), o.note.clone());
    let step = Step { job, fence: Fence::Attempt, event: &event, at, due_at: Some(due_at), error, note };
    let moved = step_in(c, ring, &mut batch, &step).await?;
    if let Event::Accepted { task, .. } = &event
        && moved.to.task() != Some(task)
    {
        let note = format!("task {task} of attempt {} is paid too, and not followed", o.attempt);
        batch
            .add("UPDATE jobs SET notes = json_insert(notes, '$[#]', ?) WHERE id = ?")
            .bind(note)
            .bind(job.0);
    }
    batch.run(c).await?;
    Ok(moved)
}

/// The earliest time a person allows, which may have been set while the request was on the wire.
async fn not_before(c: &mut SqliteConnection, job: JobId) -> Result<Timestamp> {
    let at: Option<i64> =
        sqlx::query_scalar("SELECT not_before FROM jobs WHERE id = ? AND state = 'submitting'")
            .bind(job.0)
            .fetch_optional(c)
            .await?
            .flatten();
    Ok(Timestamp::from_millis(at.unwrap_or(i64::MIN)))
}

/// Whose task this is, if it is not this attempt's.
pub(super) async fn owner(
    c: &mut SqliteConnection,
    task: &TaskId,
    job: JobId,
    attempt: AttemptNo,
) -> Result<Option<JobId>> {
    let owner: Option<i64> = sqlx::query_scalar(
        "SELECT coalesce((SELECT job_id FROM attempts WHERE task_id = ?1 AND NOT (job_id = ?2 AND n = ?3)),
            (SELECT id FROM jobs WHERE task_id = ?1 AND id <> ?2))",
    )
    .bind(task.as_str())
    .bind(job.0)
    .bind(attempt.0)
    .fetch_one(c)
    .await?;
    Ok(owner.map(JobId))
}

/// A task this old holds no slot any more, whatever its status says: renders take minutes, hours at worst, and an end that
/// klingd does not know by name must not stop the queue for ever.
const LONGEST_RENDER: Duration = Duration::from_secs(24 * 3600);

/// The gate's memory; posts on the wire, and tasks in flight.
async fn gate_and_flight(c: &mut SqliteConnection, now: Timestamp) -> Result<(Gate, Flight)> {
    let r = sqlx::query(
        "SELECT (SELECT data FROM gate WHERE id = 1) AS gate, count(*) FILTER (WHERE state = 'submitting') AS wire,
            count(*) FILTER (WHERE state <> 'submitting' AND coalesce(submitted_at, ?1) >= ?1) AS tasks
         FROM jobs WHERE in_flight = 1",
    )
    .bind((now - LONGEST_RENDER).as_millis())
    .fetch_one(c)
    .await?;
    let flight = Flight { on_the_wire: row::narrow(&r, "wire")?, tasks: row::narrow(&r, "tasks")? };
    Ok((control::gate_of(r.try_get("gate")?)?, flight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    /// A million queued jobs that do not fit, or are not due, are passed over in the index, in order.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the writer of a test")]
    async fn the_next_jobs_are_found_in_order_by_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(&dir.path().join("klingd.db"), Access::Use).await.unwrap();
        tokio::spawn(writer.run());
        let explained = sqlx::query(concat!("EXPLAIN QUERY PLAN ", next_due!()));
        let rows = explained.bind(1).bind(1).bind(1).bind(1).fetch_all(&store.readers).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|r| r.get("detail")).collect();
        assert!(plan.iter().any(|line| line.contains("jobs_to_submit")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{plan:#?}");
    }
}
