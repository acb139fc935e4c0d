//! What can happen to a job. Each event is one history row; replaying the rows through `State::apply` gives the
//! stored state.

use serde::{Deserialize, Serialize};

use super::{
    attempt::AttemptNo,
    credits::Credits,
    state::{Failure, TaskId, Watch},
};

/// Who says that a task belongs to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The provider's whole answer.
    Provider,
    /// An answer that was cut after the whole task id; the next status call confirms it.
    Salvaged,
    /// A person, by `resolve --task-id`.
    Person,
}

/// An event. Names are the words of the history (`show --json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields say what they are; the variants carry the meaning")]
pub enum Event {
    /// Queued for the first time: always the first row of a history.
    Enqueued,
    /// A person changed priority, name, tags or `not_before`.
    Edited { what: String },
    /// The intent: committed before the first byte of the POST leaves.
    SubmitStarted { attempt: AttemptNo },
    /// Not sent, or refused for now: certainly not charged (or, when `reserved`, not charged by the provider's word).
    SubmitDeferred {
        attempt: AttemptNo,
        why: String,
        #[serde(default)]
        reserved: bool,
    },
    /// Refused for good: certainly not charged.
    SubmitRefused { attempt: AttemptNo, failure: Failure },
    /// May have been charged.
    SubmitUnknown { attempt: AttemptNo, why: String },
    /// A task id. Recorded from every state, whatever a person did meanwhile.
    Accepted {
        attempt: AttemptNo,
        task: TaskId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charged: Option<Credits>,
        source: Source,
    },
    /// What the status calls say of a task has changed.
    Watched { watch: Watch },
    /// The task succeeded with this many videos. Their URLs are in the outputs, not in the history: they are signed.
    Succeeded {
        outputs: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charged: Option<Credits>,
    },
    /// The provider says twice that the task failed. `charged` is what it says the task cost in the end: less than before
    /// is a refund. `done` is another task of the job that it was done with before it followed this one, too.
    TaskFailed {
        failure: Failure,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charged: Option<Credits>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done: Option<TaskId>,
    },
    /// One video is verified, published and durable.
    FilePublished { output: u32 },
    /// The link no longer gives the video; a fresh one is asked for.
    LinkExpired { why: String },
    /// Status gave fresh links.
    LinkRenewed,
    /// The links stayed dead for `download.give_up`.
    GaveUp { failure: Failure },
    /// A person cancelled the job.
    Cancelled,
    /// A person found that the attempt was not charged.
    ResolvedNotCharged { attempt: AttemptNo },
    /// A person gave the attempt up; it counts as spent. `task` is the one that it had made, which need not be the one
    /// that the job follows.
    WrittenOff {
        attempt: AttemptNo,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<TaskId>,
    },
    /// A person pays again although the attempt stays in doubt.
    Resubmitted { attempt: AttemptNo },
    /// `retry` of a paid task: it is asked and fetched again, for free.
    Followed,
    /// `retry` where another attempt made a task of its own: it is paid too, and its video is fetched, for free.
    FollowedOther { task: TaskId },
    /// `retry` as a new render: back to the queue.
    Requeued,
}

impl Event {
    /// What the provider says it charged, if this event carries it.
    pub const fn charged(&self) -> Option<Credits> {
        match self {
            Event::Accepted { charged, .. }
            | Event::Succeeded { charged, .. }
            | Event::TaskFailed { charged, .. } => *charged,
            _ => None,
        }
    }

    /// The word of the history.
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Enqueued => "enqueued",
            Event::Edited { .. } => "edited",
            Event::SubmitStarted { .. } => "submit_started",
            Event::SubmitDeferred { .. } => "submit_deferred",
            Event::SubmitRefused { .. } => "submit_refused",
            Event::SubmitUnknown { .. } => "submit_unknown",
            Event::Accepted { .. } => "accepted",
            Event::Watched { .. } => "watched",
            Event::Succeeded { .. } => "succeeded",
            Event::TaskFailed { .. } => "task_failed",
            Event::FilePublished { .. } => "file_published",
            Event::LinkExpired { .. } => "link_expired",
            Event::LinkRenewed => "link_renewed",
            Event::GaveUp { .. } => "gave_up",
            Event::Cancelled => "cancelled",
            Event::ResolvedNotCharged { .. } => "resolved_not_charged",
            Event::WrittenOff { .. } => "written_off",
            Event::Resubmitted { .. } => "resubmitted",
            Event::Followed => "followed",
            Event::FollowedOther { .. } => "followed_other",
            Event::Requeued => "requeued",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::state::Charged;

    /// Rows of a history are for ever: one of a failed task that was written before its charge was kept is still read.
    #[test]
    fn an_older_row_is_read() {
        let row =
            r#"{"event":"task_failed","failure":{"code":"TASK_FAILED","message":"no","charged":"unknown"}}"#;
        let event: Event = serde_json::from_str(row).unwrap();
        let failure =
            Failure { code: Failure::TASK_FAILED.into(), message: "no".into(), charged: Charged::Unknown };
        assert_eq!(event, Event::TaskFailed { failure, charged: None, done: None });
        assert_eq!(serde_json::to_string(&event).unwrap(), row, "and written as it was");
    }
}
