//! Bare names: of a state, and of the worker that moves a job next.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A state's bare name: what the database pins, JSON shows and filters take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its word")]
pub enum Label {
    Queued,
    Submitting,
    InDoubt,
    Generating,
    Downloading,
    Done,
    Failed,
    Cancelled,
}

impl Label {
    /// All of them, in the order of a job's life.
    pub const ALL: [Label; 8] = [
        Label::Queued,
        Label::Submitting,
        Label::InDoubt,
        Label::Generating,
        Label::Downloading,
        Label::Done,
        Label::Failed,
        Label::Cancelled,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Label::Queued => "queued",
            Label::Submitting => "submitting",
            Label::InDoubt => "in_doubt",
            Label::Generating => "generating",
            Label::Downloading => "downloading",
            Label::Done => "done",
            Label::Failed => "failed",
            Label::Cancelled => "cancelled",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Label::ALL.into_iter().find(|l| l.as_str() == word)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which worker moves a job next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is its word")]
pub enum Lane {
    Submit,
    Poll,
    Download,
}

impl Lane {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lane::Submit => "submit",
            Lane::Poll => "poll",
            Lane::Download => "download",
        }
    }
}
