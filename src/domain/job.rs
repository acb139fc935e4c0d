//! A job as the store keeps it, and why it does not move.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    credits::Credits,
    hold::Hold,
    key::JobKey,
    request::Request,
    state::{Failure, State},
    time::Timestamp,
};

/// A job's number, as people type it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Counts the changes of a job: the fence of every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub i64);

/// Why a job waits, or why it needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its word in the contract")]
pub enum Reason {
    NotBefore,
    Paused,
    Budget,
    Credits,
    Key,
    Rate,
    Disk,
    Restored,
    UncleanStop,
    InDoubt,
    UnknownTask,
    NoUrl,
    Lost,
}

impl Reason {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::NotBefore => "not_before",
            Reason::Paused => "paused",
            Reason::Budget => "budget",
            Reason::Credits => "credits",
            Reason::Key => "key",
            Reason::Rate => "rate",
            Reason::Disk => "disk",
            Reason::Restored => "restored",
            Reason::UncleanStop => "unclean_stop",
            Reason::InDoubt => "in_doubt",
            Reason::UnknownTask => "unknown_task",
            Reason::NoUrl => "no_url",
            Reason::Lost => "lost",
        }
    }
}

/// A job that is about to be queued.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// What to render.
    pub request: Request,
    /// The name that files and tables show.
    pub name: Option<String>,
    /// The output template, where the job has its own.
    pub output: Option<String>,
    /// Labels for filters and sums.
    pub tags: Vec<String>,
    /// −100…100, higher first.
    pub priority: i8,
    /// Which of several renders of the same request, from 1.
    pub take: u32,
    /// Not submitted earlier.
    pub not_before: Option<Timestamp>,
    /// Against accidental repetition.
    pub key: JobKey,
    /// Pay again on purpose.
    pub again: bool,
    /// The most this render may cost.
    pub max_credits: Option<Credits>,
    /// What it will cost by the price table.
    pub estimate: Credits,
    /// The file, `-` or `flags` it came from.
    pub source: String,
}

impl NewJob {
    /// The first render of a request, at the page's price, with nothing else said about it.
    pub fn of(request: Request, source: impl Into<String>) -> Self {
        Self {
            key: JobKey::of(&request, None, 1),
            estimate: request.estimate(request.job_type().price()),
            request,
            name: None,
            output: None,
            tags: Vec::new(),
            priority: 0,
            take: 1,
            not_before: None,
            again: false,
            max_credits: None,
            source: source.into(),
        }
    }
}

/// A job as a row tells it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of the contract's JSON")]
pub struct Job {
    pub id: JobId,
    pub version: Version,
    pub state: State,
    pub name: Option<String>,
    pub request: Request,
    pub output: Option<String>,
    pub batch: Option<String>,
    pub tags: Vec<String>,
    pub priority: i8,
    pub take: u32,
    pub key: JobKey,
    pub not_before: Option<Timestamp>,
    pub max_credits: Option<Credits>,
    pub estimate: Credits,
    /// What the provider said it charged, over all attempts; `None` while unknown.
    pub charged: Option<Credits>,
    pub paid_attempts: u32,
    pub polls: u32,
    pub created_at: Timestamp,
    pub submitted_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// When the job's worker looks at it next.
    pub due_at: Option<Timestamp>,
    /// Why the last try came back, for a job that is waiting or failed.
    pub error: Option<Failure>,
    pub notes: Vec<String>,
    pub source: String,
    /// The task's fingerprint of the key and the base URL it was made with.
    pub made_with: Option<MadeWith>,
}

/// Where and with which key a task was made: it is polled there, and only there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeWith {
    /// The base URL, without a trailing slash.
    pub base_url: String,
    /// First eight hex digits of the key's SHA-256.
    pub key_fingerprint: String,
}

impl Job {
    /// Why it does not move, if it does not. `holds` are those in force; `budget` says that a cap stops this job.
    pub fn reason(&self, holds: &[Hold], budget: bool, now: Timestamp) -> Option<Reason> {
        if let Some(reason) = self.state.needs_person() {
            return Some(reason);
        }
        if !matches!(self.state, State::Queued) {
            return None;
        }
        if self.not_before.is_some_and(|t| t > now) {
            return Some(Reason::NotBefore);
        }
        if let Some(hold) = holds.iter().find(|h| h.holds(now)) {
            return Some(hold.name.reason());
        }
        if budget {
            return Some(Reason::Budget);
        }
        let refused = self.error.as_ref().is_some_and(|e| e.code == "RATE_LIMITED");
        refused.then_some(Reason::Rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of the contract, typed from it and not from the code above.
    #[test]
    fn the_reasons_are_the_words_of_the_contract() {
        let contract = [
            "not_before",
            "paused",
            "budget",
            "credits",
            "key",
            "rate",
            "disk",
            "restored",
            "unclean_stop",
            "in_doubt",
            "unknown_task",
            "no_url",
            "lost",
        ];
        for word in contract {
            let reason: Reason = serde_json::from_value(word.into()).unwrap();
            assert_eq!(reason.as_str(), word);
        }
    }
}
