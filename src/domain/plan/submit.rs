//! The four answers to a submit, and what follows from each (the table is in provider.md).

use std::time::Duration;

use super::super::{
    attempt::AttemptNo,
    credits::Credits,
    event::{Event, Source},
    gate::{GateNews, LONGEST_QUIET},
    hold::HoldName,
    retry::{Backoff, Dice},
    state::{Charged, Failure, TaskId},
    time::Timestamp,
};

/// Times that a documented `INTERNAL_ERROR` of one job is retried by itself; the next makes it `in_doubt`.
pub const MAX_INTERNAL_ERRORS: u32 = 2;
/// Waits between tries after the provider's own `INTERNAL_ERROR`.
const INTERNAL_ERROR: Backoff = Backoff { base: Duration::from_secs(20), max: Duration::from_secs(120) };
/// The longest wait that any plan asks of a queued job. One that is due later, and not by a person's `not_before`, was put
/// off by a clock that has jumped back since: it is due now.
pub const LONGEST_DEFERRAL: Duration = INTERNAL_ERROR.max;

/// What a submit came to. Everything that is not certainly one of the other three is [`SubmitAnswer::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitAnswer {
    /// The provider made a task: it is paid.
    Accepted {
        /// The task.
        task: TaskId,
        /// What it says it charged.
        charged: Option<Credits>,
        /// The answer was cut after the id.
        salvaged: bool,
    },
    /// Certainly not charged, and final for this job.
    Refused(Failure),
    /// Certainly not charged (or by the provider's word not charged); later.
    Deferred {
        /// Why.
        why: Deferral,
        /// The provider's words or the transport's.
        message: String,
    },
    /// May be charged.
    Unknown {
        /// What was seen.
        why: String,
    },
}

/// Why a submit comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// It was stopped at the last moment, by a refusal of another.
    Held,
    /// It never left this machine.
    NotSent,
    /// 429.
    RateLimited,
    /// 429 about parallel tasks.
    SlotsFull,
    /// 503 with the API's own error.
    Unavailable,
    /// 500 with the API's own `INTERNAL_ERROR`.
    InternalError,
    /// 402 and its disguises.
    NoCredits,
    /// 401.
    KeyRefused,
    /// 403: the key, a firewall or moderation; a free status call tells.
    Forbidden,
    /// 404, 405 or a redirect: the endpoint is not here.
    Moved,
}

/// What the plan needs to know besides the answer.
#[derive(Clone, Copy, Debug)]
pub struct SubmitFacts {
    /// The attempt that was answered.
    pub attempt: AttemptNo,
    /// Earlier attempts of this job that ended in a documented `INTERNAL_ERROR`.
    pub internal_errors: u32,
    /// The answer's `Retry-After`, whatever else it says.
    pub retry_after: Option<Duration>,
    /// For a 403: whether a free status call with the same key works; `None` where nobody asked.
    pub key_works: Option<bool>,
    /// `submit.on_internal_error = "hold"`.
    pub hold_on_internal_error: bool,
    /// When a fresh task is looked at first, after its submit.
    pub poll_first: Duration,
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub struct SubmitPlan {
    /// What happened to the job.
    pub event: Event,
    /// When its next worker looks at it.
    pub due_at: Timestamp,
    /// What the gate learns.
    pub gate: GateNews,
    /// The quiet that the answer asks of all submits.
    pub retry_after: Option<Duration>,
    /// A hold on all submits: which, why, and when it ends by itself.
    pub hold: Option<(HoldName, String, Option<Timestamp>)>,
    /// Shown with the job while it waits.
    pub error: Option<Failure>,
}

/// The plan for an answer. Its `Retry-After` is obeyed whatever it says: a proxy's 503 page and an answer that was cut are
/// as good a reason for quiet as a plain 429, and more than an hour of it is a hold that people see.
pub fn answered(answer: &SubmitAnswer, facts: &SubmitFacts, now: Timestamp, dice: Dice) -> SubmitPlan {
    let plan = meaning(answer, facts, now, dice);
    let retry_after = facts.retry_after;
    let long = retry_after.filter(|wait| *wait > LONGEST_QUIET);
    let hold = plan.hold.or_else(|| {
        long.map(|wait| {
            let why = format!("the provider asked for {} s of quiet: {}", wait.as_secs(), words(answer));
            (HoldName::Rate, why, Some(now + wait))
        })
    });
    SubmitPlan { retry_after, hold, ..plan }
}

fn words(answer: &SubmitAnswer) -> &str {
    match answer {
        SubmitAnswer::Accepted { .. } => "the job was accepted",
        SubmitAnswer::Refused(failure) => &failure.message,
        SubmitAnswer::Deferred { message, .. } => message,
        SubmitAnswer::Unknown { why } => why,
    }
}

fn meaning(answer: &SubmitAnswer, facts: &SubmitFacts, now: Timestamp, dice: Dice) -> SubmitPlan {
    let attempt = facts.attempt;
    match answer {
        SubmitAnswer::Accepted { task, charged, salvaged } => SubmitPlan {
            event: Event::Accepted {
                attempt,
                task: task.clone(),
                charged: *charged,
                source: if *salvaged { Source::Salvaged } else { Source::Provider },
            },
            due_at: now + dice.around(facts.poll_first, 0.1),
            gate: GateNews::Passed,
            retry_after: None,
            hold: None,
            error: None,
        },
        SubmitAnswer::Refused(failure) => {
            plain(Event::SubmitRefused { attempt, failure: failure.clone() }, GateNews::Answered, now)
        }
        SubmitAnswer::Unknown { why } => {
            plain(Event::SubmitUnknown { attempt, why: why.clone() }, GateNews::Outage, now)
        }
        SubmitAnswer::Deferred { why, message } => deferred(*why, message, facts, now, dice),
    }
}

fn plain(event: Event, gate: GateNews, now: Timestamp) -> SubmitPlan {
    SubmitPlan { event, due_at: now, gate, retry_after: None, hold: None, error: None }
}

fn deferred(why: Deferral, message: &str, facts: &SubmitFacts, now: Timestamp, dice: Dice) -> SubmitPlan {
    let attempt = facts.attempt;
    let later = |code: &str,
                 wait: Duration,
                 gate: GateNews,
                 hold: Option<(HoldName, String, Option<Timestamp>)>| {
        SubmitPlan {
            event: Event::SubmitDeferred { attempt, why: message.to_owned(), reserved: false },
            due_at: now + wait,
            gate,
            retry_after: None,
            hold,
            error: Some(Failure { code: code.to_owned(), message: message.to_owned(), charged: Charged::No }),
        }
    };
    let held = |name: HoldName| Some((name, message.to_owned(), None));
    match why {
        // Nothing failed: it keeps its place, and the gate says when.
        Deferral::Held => {
            SubmitPlan { error: None, ..later("HELD_BACK", Duration::ZERO, GateNews::Nothing, None) }
        }
        // The network is everybody's: one at a time finds out, instead of each job by itself, and every try is on record.
        Deferral::NotSent => later("NOT_SENT", Duration::ZERO, GateNews::Outage, None),
        Deferral::RateLimited | Deferral::Unavailable => {
            let code = if why == Deferral::RateLimited { "RATE_LIMITED" } else { "UNAVAILABLE" };
            // The job itself may go at once: the gate decides when, so that it keeps its place.
            later(code, Duration::ZERO, GateNews::TooFast, None)
        }
        Deferral::SlotsFull => later("RATE_LIMITED", Duration::ZERO, GateNews::SlotsFull, None),
        Deferral::NoCredits => {
            later("INSUFFICIENT_CREDITS", Duration::ZERO, GateNews::Answered, held(HoldName::Credits))
        }
        Deferral::KeyRefused => {
            later("INVALID_API_KEY", Duration::ZERO, GateNews::Answered, held(HoldName::Key))
        }
        Deferral::Moved => {
            // The key may be as good as ever: what to look at is the address.
            let why = format!("{message} (is api.base_url right?)");
            let hold = Some((HoldName::Key, why, None));
            later("ENDPOINT_MOVED", Duration::ZERO, GateNews::Nothing, hold)
        }
        Deferral::Forbidden if facts.key_works == Some(true) => {
            let failure =
                Failure { code: "FORBIDDEN".to_owned(), message: message.to_owned(), charged: Charged::No };
            plain(Event::SubmitRefused { attempt, failure }, GateNews::Answered, now)
        }
        Deferral::Forbidden => later("FORBIDDEN", Duration::ZERO, GateNews::Nothing, held(HoldName::Key)),
        Deferral::InternalError
            if facts.hold_on_internal_error || facts.internal_errors >= MAX_INTERNAL_ERRORS =>
        {
            let why = format!("{message} (INTERNAL_ERROR, time {})", facts.internal_errors.saturating_add(1));
            plain(Event::SubmitUnknown { attempt, why }, GateNews::Outage, now)
        }
        Deferral::InternalError => {
            let wait = INTERNAL_ERROR.delay(facts.internal_errors.saturating_add(1), dice);
            let mut plan = later("INTERNAL_ERROR", wait, GateNews::Outage, None);
            plan.event = Event::SubmitDeferred { attempt, why: message.to_owned(), reserved: true };
            plan
        }
    }
}

/// The event for an accepted task whose id another job already has: nobody knows whose it is.
pub fn claimed_twice(attempt: AttemptNo, task: &TaskId, owner: super::super::job::JobId) -> Event {
    Event::SubmitUnknown {
        attempt,
        why: format!("the provider answered with task {task}, which job {owner} already has"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn facts() -> SubmitFacts {
        SubmitFacts {
            attempt: AttemptNo(1),
            internal_errors: 0,
            retry_after: None,
            key_works: None,
            hold_on_internal_error: false,
            poll_first: Duration::from_secs(40),
        }
    }

    fn plan(why: Deferral, retry_after: Option<u64>, facts: &SubmitFacts) -> SubmitPlan {
        let answer = SubmitAnswer::Deferred { why, message: "said so".to_owned() };
        let facts = SubmitFacts { retry_after: retry_after.map(Duration::from_secs), ..*facts };
        answered(&answer, &facts, NOW, Dice::new(0.5))
    }

    #[test]
    fn a_third_internal_error_is_doubt() {
        for earlier in [0, 1] {
            let p = plan(Deferral::InternalError, None, &SubmitFacts { internal_errors: earlier, ..facts() });
            assert!(matches!(p.event, Event::SubmitDeferred { reserved: true, .. }), "retried, and reserved");
            assert!(p.due_at > NOW);
        }
        let third = plan(Deferral::InternalError, None, &SubmitFacts { internal_errors: 2, ..facts() });
        assert!(matches!(third.event, Event::SubmitUnknown { .. }));
        let hold =
            plan(Deferral::InternalError, None, &SubmitFacts { hold_on_internal_error: true, ..facts() });
        assert!(matches!(hold.event, Event::SubmitUnknown { .. }));
    }

    #[test]
    fn a_403_is_the_jobs_own_only_when_the_key_works() {
        let of = |key_works| plan(Deferral::Forbidden, None, &SubmitFacts { key_works, ..facts() });
        assert!(matches!(of(Some(true)).event, Event::SubmitRefused { .. }));
        for unsure in [None, Some(false)] {
            assert!(matches!(of(unsure).event, Event::SubmitDeferred { .. }));
            assert!(matches!(of(unsure).hold, Some((HoldName::Key, _, None))));
        }
    }

    #[test]
    fn an_hour_of_quiet_or_more_is_a_visible_hold() {
        assert_eq!(plan(Deferral::RateLimited, Some(3600), &facts()).hold, None);
        let long = plan(Deferral::RateLimited, Some(86_400), &facts());
        assert!(matches!(long.hold, Some((HoldName::Rate, _, Some(_)))));
    }

    #[test]
    fn a_wish_is_heard_whatever_else_was_said() {
        let failure = Failure { code: "X".into(), message: "no".into(), charged: Charged::No };
        let deferrals = [
            Deferral::RateLimited,
            Deferral::SlotsFull,
            Deferral::Unavailable,
            Deferral::InternalError,
            Deferral::NoCredits,
            Deferral::Moved,
        ];
        let mut answers = vec![
            SubmitAnswer::Refused(failure),
            SubmitAnswer::Unknown { why: "HTTP 502".into() },
            SubmitAnswer::Accepted { task: TaskId::parse("n75abc").unwrap(), charged: None, salvaged: true },
        ];
        answers.extend(deferrals.map(|why| SubmitAnswer::Deferred { why, message: "said so".into() }));
        for answer in answers {
            for seconds in [600, 86_400] {
                let wish = Some(Duration::from_secs(seconds));
                let p = answered(&answer, &SubmitFacts { retry_after: wish, ..facts() }, NOW, Dice::new(0.5));
                assert_eq!(p.retry_after, wish, "{answer:?}");
                let stopped =
                    p.hold.is_some_and(|(name, _, until)| until.is_some() || name != HoldName::Rate);
                assert!(stopped || seconds < 3600, "{answer:?}");
            }
        }
    }
}
