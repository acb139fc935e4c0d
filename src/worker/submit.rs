//! The submit lane: intents through the gate, one POST each, and its outcome on record.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::{
    BESIDE_THE_CALLS, Lane, Look,
    answer::{Answers, Reader},
    evidence::Spooled,
    room::Room,
};
use crate::{
    domain::{
        Credits, Event, JobId, State,
        attempt::AttemptNo,
        evidence::Phase,
        gate::{GateNews, SHORTEST_WISH},
    },
    failpoint::{Point, reach},
    provider::{Api, latch::Knowledge},
    store::{
        StoreError,
        step::Moved,
        submit::{ClaimPolicy, Intent, SubmitOutcome},
    },
    vitals::{Call, Meter, Part, Submit},
};

/// Submits jobs.
pub struct SubmitLane {
    /// How answers are read, and where they are kept.
    pub answers: Answers,
    /// The provider.
    pub api: Arc<Api>,
    /// What an intent needs.
    pub policy: ClaimPolicy,
    /// What else submits obey.
    pub settings: SubmitSettings,
    /// Whether what is paid can be stored.
    pub room: Arc<Room>,
}

/// The part of the configuration that submits obey besides the gate.
#[derive(Clone, Debug)]
pub struct SubmitSettings {
    /// POSTs at once.
    pub workers: usize,
}

/// A job that the gate lets go.
pub struct Admitted {
    intent: Intent,
    /// What the gate knew when it did.
    knew: Knowledge,
}

impl Lane for SubmitLane {
    type Key = JobId;
    type Work = Admitted;

    fn part(&self) -> Part {
        Part::Submit
    }

    fn width(&self) -> usize {
        self.settings.workers
    }

    fn longest_step(&self) -> Option<Duration> {
        // The POST, then perhaps the question whether a refused key works.
        Some(self.api.submit_timeout() + self.api.status_timeout() + BESIDE_THE_CALLS)
    }

    fn bell(&self) -> &Notify {
        &self.answers.store.bells().submit
    }

    async fn look(&self, free: usize, _: &HashSet<JobId>) -> Result<Look<JobId, Admitted>> {
        let Answers { store, clock, .. } = &self.answers;
        let now = clock.now();
        self.room.look().await?;
        reach(Point::SubmitBeforeIntent);
        let knew = self.api.latch().knowledge();
        if let Some(left) = self.api.latch().holds_for()
            && store.gate().await?.closed_until.is_some()
        {
            // The row may think that its quiet is over, since the clock was set: the latch knows better in this process.
            return Ok(Look { work: Vec::new(), next_at: Some(now + left) });
        }
        let workers = u32::try_from(free).unwrap_or(u32::MAX);
        let claimed = store.claim_submits(workers, &self.policy, now, clock.day_start(now)).await?;
        let admitted = |intent: Intent| (intent.job, Admitted { intent, knew });
        Ok(Look { work: claimed.intents.into_iter().map(admitted).collect(), next_at: claimed.next_at })
    }

    async fn step(&self, Admitted { intent, knew }: Admitted) -> Result<()> {
        reach(Point::SubmitIntent);
        let (job, attempt) = (intent.job, intent.attempt);
        info!(
            job.id = job.0,
            attempt = attempt.0,
            state.to = "submitting",
            credits.estimated = intent.estimate.get(),
            "job {job} is submitted"
        );
        let vitals = self.answers.store.vitals();
        if let Some(since) = intent.waits_since {
            vitals.meter.waited(self.answers.clock.now().since(since));
        }
        // Until its outcome is on record.
        let _on_the_wire = vitals.wire.leaves(vitals.now() + self.longest_step().unwrap_or_default());
        let first_look = self.answers.schedules.first_look(&intent.body, self.answers.clock.now()).await;
        self.api.latch().admitted(knew);
        let evidence = self.api.generate(intent.body).await;
        reach(Point::SubmitAnswered);
        let reader = Reader {
            attempt,
            internal_errors: intent.internal_errors,
            estimate: intent.estimate,
            first_look,
        };
        let outcome = self.answers.read(job, &reader, evidence).await?;
        count(&vitals.meter, &outcome);
        if let Some(wait) = self.quiet(&outcome) {
            self.api.latch().close(wait);
        }
        self.keep(outcome).await?;
        self.api.latch().committed();
        Ok(())
    }
}

impl SubmitLane {
    /// For how long whoever does not know of this answer yet must not leave. After a refusal or an outage without a wish, or with one
    /// for no time at all, the first cooldown is enough: by its end everybody knows what the gate made of it.
    fn quiet(&self, outcome: &SubmitOutcome) -> Option<Duration> {
        let wish = outcome.plan.retry_after.filter(|wish| *wish >= SHORTEST_WISH);
        match outcome.plan.gate {
            GateNews::TooFast | GateNews::Outage => wish.max(Some(self.policy.gate.cooldown)),
            GateNews::Nothing | GateNews::Answered | GateNews::Passed | GateNews::SlotsFull => wish,
        }
    }

    /// Commits an outcome. When the database can't take it, room is made and it is tried once more; then it goes to the
    /// spool, and the daemon stops with an error; when even that fails, the task id is printed before anything else.
    async fn keep(&self, outcome: SubmitOutcome) -> Result<()> {
        let (job, attempt) = (outcome.job, outcome.attempt);
        let mut committed = self.commit(outcome.clone()).await;
        if matches!(&committed, Err(e) if e.is_full()) {
            warn!(job.id = job.0, "the disk is full: the reserve beside the database is released");
            self.answers.spool.release_reserve().await;
            committed = self.commit(outcome.clone()).await;
        }
        match committed {
            Ok(moved) => {
                self.answers.spool.forget(job, attempt).await;
                reach(Point::SubmitCommitted);
                report(job, attempt, &outcome, &moved);
                Ok(())
            }
            Err(refused) => {
                let task = task_of(&outcome).unwrap_or("none");
                let spooled = Spooled { job, attempt, evidence: outcome.evidence.clone() };
                let kept = self.answers.spool.keep(spooled).await;
                if let Err(unspooled) = &kept {
                    last_words(job, attempt, task);
                    error!(
                        job.id = job.0,
                        task.id = task,
                        "the answer for job {job} could not be kept: {unspooled}"
                    );
                }
                reach(Point::SubmitSpooled);
                Err(refused).with_context(|| {
                    let where_it_is = match kept {
                        Ok(()) => format!(
                            "is kept in {} and read at the next start",
                            self.answers.spool.dir().display()
                        ),
                        Err(_) => "is kept nowhere but in this log".to_owned(),
                    };
                    format!("the answer to job {job}, attempt {attempt} (task {task}) {where_it_is}")
                })
            }
        }
    }

    async fn commit(&self, outcome: SubmitOutcome) -> Result<Moved, StoreError> {
        if reach(Point::SubmitCommit) {
            let fault = crate::store::CommitFault::Full;
            return Err(StoreError::Commit("a test says so".to_owned(), fault));
        }
        self.answers.store.settle_submit(outcome).await
    }
}

fn count(meter: &Meter, outcome: &SubmitOutcome) {
    meter.submit(match &outcome.plan.event {
        Event::Accepted { .. } => Submit::Accepted,
        Event::SubmitRefused { .. } => Submit::Refused,
        Event::SubmitDeferred { .. } => Submit::Deferred,
        _ => Submit::Unknown,
    });
    let evidence = &outcome.evidence;
    if evidence.status == Some(429) {
        meter.rate_limited(Call::Generate);
    }
    if evidence.transport.as_ref().is_none_or(|failure| failure.phase != Phase::Held) {
        meter.called(Call::Generate, evidence.took());
    }
}

fn task_of(outcome: &SubmitOutcome) -> Option<&str> {
    match &outcome.plan.event {
        Event::Accepted { task, .. } => Some(task.as_str()),
        _ => None,
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last resort: neither the database nor the spool took the task id"
)]
fn last_words(job: JobId, attempt: AttemptNo, task: &str) {
    eprintln!("klingd: KEEP THIS: job {job}, attempt {attempt} is task {task}");
}

fn report(job: JobId, attempt: AttemptNo, outcome: &SubmitOutcome, moved: &Moved) {
    let (took, state) = (outcome.evidence.took_ms, moved.to.label().as_str());
    match &moved.to {
        State::Generating { task, .. } => {
            let charged = outcome.plan.event.charged().map(Credits::get);
            info!(job.id = job.0, task.id = %task, state.to = state, credits.charged = charged, duration_ms = took, "job {job} is generating");
        }
        State::InDoubt { .. } => {
            let why = doubt(&outcome.plan.event);
            warn!(
                job.id = job.0,
                attempt = attempt.0,
                state.to = state,
                why,
                "job {job} is in doubt: it may be paid; klingd resolve {job}"
            );
        }
        State::Failed { failure, .. } => {
            warn!(
                job.id = job.0,
                state.to = state,
                code = failure.code,
                why = failure.message,
                "job {job} is refused, not charged"
            );
        }
        State::Queued => {
            let why = outcome.plan.error.as_ref().map(|e| e.message.as_str());
            info!(
                job.id = job.0,
                attempt = attempt.0,
                state.to = state,
                why,
                "job {job} is back in the queue, not charged"
            );
        }
        State::Submitting { .. }
        | State::Downloading { .. }
        | State::Done { .. }
        | State::Cancelled { .. } => {
            info!(job.id = job.0, attempt = attempt.0, state.to = state, "job {job} is {state}");
        }
    }
    if let Some(note) = &outcome.note {
        let charged = outcome.plan.event.charged().map(Credits::get);
        warn!(job.id = job.0, attempt = attempt.0, credits.charged = charged, "job {job}: {note}");
    }
    if let Some((hold, why, until)) = &outcome.plan.hold {
        let until = until.map(|until| until.to_string());
        warn!(hold = hold.as_str(), why, until, "submits stop: {}", hold.remedy());
    }
}

fn doubt(event: &Event) -> &str {
    match event {
        Event::SubmitUnknown { why, .. } => why,
        _ => "the task belongs to another job",
    }
}
