//! A task and its entry in the ledger.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::catalog::Kind;
use crate::sandbox::video::{Shape, Video};

/// A render, with everything the provider knows of it.
#[derive(Debug, Clone)]
pub struct Task {
    /// `n75…` or `n71…`.
    pub id: String,
    /// The prompt it was asked for with.
    pub prompt: String,
    /// Where it stands.
    pub state: TaskState,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// What it cost when it was accepted.
    pub credits: i64,
    /// What it costs by now: its end may settle another sum.
    pub costs: i64,
    pub(super) kind: &'static Kind,
    pub(super) fields: Map<String, Value>,
    pub(super) shape: Shape,
    pub(super) ending: Ending,
    /// How many videos it has.
    pub(super) videos: u32,
    /// Counts up whenever the files behind its links change.
    pub(super) version: u32,
    /// How often a video was asked for.
    pub(super) downloads: u64,
    pub(super) link: Option<Link>,
    /// A status call has said SUCCESS.
    pub(super) told: bool,
}

/// The truth about a task, whatever a fault makes the answer say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// Renders.
    InProgress,
    /// Has its video.
    Success,
    /// Has none, and says why.
    Failed {
        /// The provider's words.
        message: String,
    },
}

/// What a task will end as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// Why it fails, if it does.
    pub failure: Option<String>,
    /// What it costs in the end, where that is not what was charged.
    pub costs: Option<i64>,
}

impl Ending {
    pub(super) fn success() -> Self {
        Self::default()
    }

    pub(super) fn failure(message: String, costs: Option<i64>) -> Self {
        Self { failure: Some(message), costs }
    }
}

/// The right to download, for a while.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub signature: String,
    pub expires_at: Timestamp,
}

impl Task {
    /// Ends the render; its cost is settled.
    pub(super) fn end(&mut self) {
        self.state = match &self.ending.failure {
            None => TaskState::Success,
            Some(message) => TaskState::Failed { message: message.clone() },
        };
        self.costs = self.ending.costs.unwrap_or(self.credits);
    }

    /// Its video number `index`, counted from one.
    pub(super) fn video(&self, index: u32, size: Option<u64>) -> Option<Video> {
        let name = format!("{} video {index}", self.id);
        let there = (1..=self.videos).contains(&index) && self.state == TaskState::Success;
        there.then(|| Video::new(self.shape, &name, self.version, size))
    }

    pub(super) fn json(&self) -> Value {
        let state = match &self.state {
            TaskState::InProgress => "IN_PROGRESS",
            TaskState::Success => "SUCCESS",
            TaskState::Failed { .. } => "FAILED",
        };
        json!({
            "task_id": self.id,
            "status": state,
            "created_at": self.created_at.to_string(),
            "type": self.kind.name,
            "prompt": self.prompt,
            "credits": self.credits,
        })
    }
}

/// An entry in the ledger: money that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Counted from one.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// For which task.
    pub task_id: String,
    /// How much.
    pub credits: i64,
    /// The exact body of the request.
    pub request: String,
    /// It was paid back, since the task failed.
    pub refunded: bool,
    /// What it came to by now, after refunds and corrections.
    pub kept: i64,
}

impl Charge {
    pub(super) fn json(&self) -> Value {
        json!({
            "seq": self.seq,
            "at": self.at.to_string(),
            "task_id": self.task_id,
            "credits": self.credits,
            "request": serde_json::from_str::<Value>(&self.request).unwrap_or_default(),
            "refunded": self.refunded,
            "kept": self.kept,
        })
    }
}
