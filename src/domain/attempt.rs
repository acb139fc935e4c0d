//! One attempt to submit a job: one POST, one line of the ledger. After `resolve --resubmit` a job has several, and
//! each stays open until the provider or a person has settled it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{credits::Credits, event::Event, state::Charged};

/// The number of an attempt within its job, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNo(pub u32);

impl fmt::Display for AttemptNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The intent is committed; the request may be on the wire. Alone after a crash it means *unknown*.
    Open,
    /// A task id was received.
    Accepted,
    /// Refused for good, certainly not charged.
    Refused,
    /// Never left, or refused for now: certainly not charged.
    Deferred,
    /// The provider's documented `INTERNAL_ERROR`: "try again later". Not charged by their word, so it is retried; it
    /// stays reserved in the budget until the job is done, or a person says what became of it.
    InternalError,
    /// May have been charged.
    Unknown,
    /// A person found that it was not charged.
    NotCharged,
    /// A person gave it up; it counts as spent.
    WrittenOff,
}

/// How an attempt counts against a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charge {
    /// Held back until the outcome is known.
    Reserved,
    /// Paid, or counted as paid.
    Charged,
    /// Certainly not paid.
    Free,
    /// May have been paid: counts as spent until settled.
    InDoubt,
}

impl Charge {
    /// Every way to count.
    pub const ALL: [Charge; 4] = [Charge::Reserved, Charge::Charged, Charge::Free, Charge::InDoubt];

    /// The word in the database, JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Charge::Reserved => "reserved",
            Charge::Charged => "charged",
            Charge::Free => "free",
            Charge::InDoubt => "in_doubt",
        }
    }
}

impl Outcome {
    /// Every outcome; the labels are pinned by a CHECK in the schema.
    pub const ALL: [Outcome; 8] = [
        Outcome::Open,
        Outcome::Accepted,
        Outcome::Refused,
        Outcome::Deferred,
        Outcome::InternalError,
        Outcome::Unknown,
        Outcome::NotCharged,
        Outcome::WrittenOff,
    ];

    /// The word in the database and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Open => "open",
            Outcome::Accepted => "accepted",
            Outcome::Refused => "refused",
            Outcome::Deferred => "deferred",
            Outcome::InternalError => "internal_error",
            Outcome::Unknown => "unknown",
            Outcome::NotCharged => "not_charged",
            Outcome::WrittenOff => "written_off",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Outcome::ALL.into_iter().find(|o| o.as_str() == word)
    }

    /// How it counts.
    pub const fn charge(self) -> Charge {
        match self {
            Outcome::Open | Outcome::InternalError => Charge::Reserved,
            Outcome::Accepted | Outcome::WrittenOff => Charge::Charged,
            Outcome::Refused | Outcome::Deferred | Outcome::NotCharged => Charge::Free,
            Outcome::Unknown => Charge::InDoubt,
        }
    }

    /// Whether `next` may replace this outcome. A task id is evidence and replaces everything; otherwise only what is
    /// not settled yet can be settled. Of an `INTERNAL_ERROR` a person may say what became of it once its job `has_ended`:
    /// until then the next attempt tells.
    pub fn may_become(self, next: Outcome, has_ended: bool) -> bool {
        match (self, next) {
            (_, Outcome::Accepted) => true,
            (Outcome::Open, _) => next != Outcome::Open,
            (Outcome::Unknown, _) => !matches!(next, Outcome::Open | Outcome::Unknown),
            (Outcome::InternalError, Outcome::NotCharged | Outcome::WrittenOff) => has_ended,
            (
                Outcome::Accepted
                | Outcome::Refused
                | Outcome::Deferred
                | Outcome::InternalError
                | Outcome::NotCharged
                | Outcome::WrittenOff,
                _,
            ) => false,
        }
    }
}

/// What the end of a task that failed says of its money. A task that fails is often paid back, and the provider's page says
/// nothing of it: what is not seen to have come back counts as spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refund {
    /// It costs nothing in the end.
    Whole,
    /// The rest came back.
    Partly {
        /// What the provider keeps.
        kept: Credits,
    },
    /// The provider still names what it charged, or more.
    NotConfirmed {
        /// What it says.
        said: Credits,
    },
    /// The provider does not say what it cost.
    Unsaid,
}

impl Refund {
    /// From what the ledger `counted` for the task and what the provider `said` in the end.
    pub fn of(counted: Credits, said: Option<Credits>) -> Self {
        match said {
            None => Refund::Unsaid,
            Some(Credits::ZERO) => Refund::Whole,
            Some(kept) if kept < counted => Refund::Partly { kept },
            Some(said) => Refund::NotConfirmed { said },
        }
    }

    /// Whether the job's credits are gone.
    pub const fn charged(self) -> Charged {
        match self {
            Refund::Whole => Charged::No,
            Refund::Partly { .. } | Refund::NotConfirmed { .. } => Charged::Yes,
            Refund::Unsaid => Charged::Unknown,
        }
    }
}

/// What an event says about an attempt: which one, its new outcome, and what the provider charged if it said so.
pub fn settled_by(event: &Event) -> Option<(AttemptNo, Outcome, Option<Credits>)> {
    match event {
        Event::SubmitStarted { attempt } => Some((*attempt, Outcome::Open, None)),
        Event::Accepted { attempt, charged, .. } => Some((*attempt, Outcome::Accepted, *charged)),
        Event::SubmitRefused { attempt, .. } => Some((*attempt, Outcome::Refused, None)),
        Event::SubmitDeferred { attempt, reserved: false, .. } => Some((*attempt, Outcome::Deferred, None)),
        Event::SubmitDeferred { attempt, reserved: true, .. } => {
            Some((*attempt, Outcome::InternalError, None))
        }
        Event::SubmitUnknown { attempt, .. } | Event::Resubmitted { attempt } => {
            Some((*attempt, Outcome::Unknown, None))
        }
        Event::ResolvedNotCharged { attempt } => Some((*attempt, Outcome::NotCharged, None)),
        Event::WrittenOff { attempt, .. } => Some((*attempt, Outcome::WrittenOff, None)),
        Event::Enqueued
        | Event::Edited { .. }
        | Event::Watched { .. }
        | Event::Succeeded { .. }
        | Event::TaskFailed { .. }
        | Event::FilePublished { .. }
        | Event::LinkExpired { .. }
        | Event::LinkRenewed
        | Event::GaveUp { .. }
        | Event::Cancelled
        | Event::Followed
        | Event::FollowedOther { .. }
        | Event::Requeued => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_outcome_everywhere() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        for charge in Charge::ALL {
            assert_eq!(serde_json::to_value(charge).unwrap(), charge.as_str());
        }
    }

    /// Nothing settled is unsettled; only a task id, which is evidence, overrules what was thought.
    #[test]
    fn an_attempt_is_settled_once_unless_a_task_id_turns_up() {
        let settled = |o: Outcome| !matches!(o, Outcome::Open | Outcome::Unknown | Outcome::InternalError);
        for (before, after) in Outcome::ALL.into_iter().flat_map(|b| Outcome::ALL.map(|a| (b, a))) {
            let may = before.may_become(after, true);
            let pair = format!("{} to {}", before.as_str(), after.as_str());
            assert!(!may || after != Outcome::Open, "{pair}: an attempt begins once");
            assert!(may || after != Outcome::Accepted, "{pair}: a task id is never refused");
            assert!(!may || after == Outcome::Accepted || !settled(before), "{pair}: it was settled");
            let doubt = matches!(before, Outcome::Open | Outcome::Unknown);
            assert!(may || !doubt || !settled(after), "{pair}: doubt could not be settled");
        }
        // The provider's word was "try again later": a person may say what became of it, and nobody else.
        let by_a_person = [Outcome::Accepted, Outcome::NotCharged, Outcome::WrittenOff];
        for after in Outcome::ALL {
            let [ended, goes_on] = [true, false].map(|ended| Outcome::InternalError.may_become(after, ended));
            assert_eq!(ended, by_a_person.contains(&after), "{after:?}");
            assert_eq!(goes_on, after == Outcome::Accepted, "{after:?}: the next attempt tells");
        }
    }

    /// Only the provider's own word, and a smaller one than before, is a refund.
    #[test]
    fn a_refund_is_seen_or_not_confirmed() {
        let of = |said: Option<u64>| Refund::of(Credits::new(200), said.map(Credits::new));
        let all = [None, Some(0), Some(50), Some(200), Some(260)].map(|said| (of(said), of(said).charged()));
        let expected = [
            (Refund::Unsaid, Charged::Unknown),
            (Refund::Whole, Charged::No),
            (Refund::Partly { kept: Credits::new(50) }, Charged::Yes),
            (Refund::NotConfirmed { said: Credits::new(200) }, Charged::Yes),
            (Refund::NotConfirmed { said: Credits::new(260) }, Charged::Yes),
        ];
        assert_eq!(all, expected);
        assert_eq!(Refund::of(Credits::ZERO, Some(Credits::ZERO)), Refund::Whole, "nothing was taken");
    }

    /// Design, "Rules of money": what may be gone is never counted as free.
    #[test]
    fn every_outcome_counts_as_the_rules_of_money_say() {
        let expected = [
            ("open", Charge::Reserved),
            ("accepted", Charge::Charged),
            ("refused", Charge::Free),
            ("deferred", Charge::Free),
            ("internal_error", Charge::Reserved),
            ("unknown", Charge::InDoubt),
            ("not_charged", Charge::Free),
            ("written_off", Charge::Charged),
        ];
        assert_eq!(Outcome::ALL.map(|o| (o.as_str(), o.charge())), expected);
    }
}
