//! From the raw answer to a submit to what is written. Recovery needs this much of a submit, and no more: no key.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{
    evidence::{Spool, Spooled},
    money,
    schedules::Schedules,
};
use crate::{
    clock::Clock,
    domain::{
        Credits, JobId,
        attempt::AttemptNo,
        evidence::Evidence,
        gate::GatePolicy,
        plan::submit::{self as plan, Deferral, SubmitAnswer, SubmitFacts},
    },
    provider::{Api, classify},
    store::{Store, submit::SubmitOutcome},
};

/// Reads answers.
pub struct Answers {
    /// The database.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Where evidence goes when the database can't take it.
    pub spool: Spool,
    /// Finds out whether a key that got a 403 works; `None` for a command without the key.
    pub api: Option<Arc<Api>>,
    /// The gate's part of the configuration.
    pub gate: GatePolicy,
    /// `submit.on_internal_error = "hold"`.
    pub hold_on_internal_error: bool,
    /// When a new task is looked at first.
    pub schedules: Schedules,
}

/// What reading an answer needs to know about its job.
pub(super) struct Reader {
    pub attempt: AttemptNo,
    pub internal_errors: u32,
    pub estimate: Credits,
    /// The first look at the task, after the submit.
    pub first_look: Duration,
}

impl Answers {
    /// From the raw answer to what is written.
    pub(super) async fn read(
        &self,
        job: JobId,
        reader: &Reader,
        evidence: Evidence,
    ) -> Result<SubmitOutcome> {
        let answer = classify::submit(&evidence);
        let key_works = match &answer {
            SubmitAnswer::Deferred { why: Deferral::Forbidden, .. } => {
                // The free status call takes its time, and the answer must not be lost meanwhile.
                let attempt = reader.attempt;
                self.spool.keep(Spooled { job, attempt, evidence: evidence.clone() }).await.ok();
                match &self.api {
                    Some(api) => api.key_works().await,
                    None => None,
                }
            }
            SubmitAnswer::Accepted { .. }
            | SubmitAnswer::Refused(_)
            | SubmitAnswer::Deferred { .. }
            | SubmitAnswer::Unknown { .. } => None,
        };
        let (now, dice) = (self.clock.now(), self.clock.dice());
        let facts = SubmitFacts {
            attempt: reader.attempt,
            internal_errors: reader.internal_errors,
            retry_after: classify::wish(&evidence, now),
            key_works,
            hold_on_internal_error: self.hold_on_internal_error,
            // It counts from the submit, like everything that is learned.
            poll_first: reader.first_look.saturating_sub(evidence.took()),
        };
        let plan = plan::answered(&answer, &facts, now, dice);
        let note = money::at_submit(&answer, reader.estimate);
        let attempt = reader.attempt;
        Ok(SubmitOutcome { job, attempt, plan, evidence, note, gate: self.gate, now, dice })
    }
}
