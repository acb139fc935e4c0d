//! Hooks: programs of a person's choice that are told what happened. What is told, and how often it is tried; a hook never
//! decides anything about a job.

use std::time::Duration;

use super::{state::Label, time::Timestamp};

/// What a hook can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookEvent {
    /// A job's videos are in their place.
    JobDone,
    /// A job has failed.
    JobFailed,
    /// A job may have been paid, and only a person can tell.
    JobInDoubt,
    /// Every job of a batch has ended.
    BatchDone,
    /// What is left of the day's budget, or of the total one, is too little for any queued job.
    BudgetStop,
    /// Nothing is submitted any more, for a reason that concerns every job.
    HoldSet,
}

impl HookEvent {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::JobDone, Self::JobFailed, Self::JobInDoubt, Self::BatchDone, Self::BudgetStop, Self::HoldSet];

    /// The word in the configuration, the database and the event's JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JobDone => "job.done",
            Self::JobFailed => "job.failed",
            Self::JobInDoubt => "job.in_doubt",
            Self::BatchDone => "batch.done",
            Self::BudgetStop => "budget.stop",
            Self::HoldSet => "hold.set",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == word)
    }

    /// What a job tells when it comes to this state.
    pub const fn of(to: Label) -> Option<Self> {
        match to {
            Label::Done => Some(Self::JobDone),
            Label::Failed => Some(Self::JobFailed),
            Label::InDoubt => Some(Self::JobInDoubt),
            // Whoever cancels a job knows that.
            Label::Cancelled => None,
            Label::Queued | Label::Submitting | Label::Generating | Label::Downloading => None,
        }
    }
}

/// The pauses after failures: a service that is restarted is back within a minute, a machine within half an hour.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
];

/// When a call that has failed `failures` times is made again; `None`: it is given up.
pub fn next_try(failures: u32, now: Timestamp) -> Option<Timestamp> {
    let pause = PAUSES.get(usize::try_from(failures.checked_sub(1)?).ok()?)?;
    Some(now + *pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for event in HookEvent::ALL {
            assert_eq!(HookEvent::parse(event.as_str()), Some(event));
        }
        assert_eq!(HookEvent::parse("job.cancelled"), None);
    }

    #[test]
    fn a_call_is_made_five_times_at_most() {
        let now = Timestamp::from_millis(0);
        let tries: Vec<_> = (1..=5).map(|failures| next_try(failures, now)).collect();
        assert_eq!(tries[0], Some(now + Duration::from_secs(10)));
        assert!(tries[..4].iter().all(Option::is_some) && tries[4].is_none(), "{tries:?}");
    }
}
