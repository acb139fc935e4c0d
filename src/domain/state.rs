//! The state machine. [`State::apply`] is the one law: total over (state, event), used by the store, by recovery and
//! by the replay of a history.
//!
//! What is absent: no way from `in_doubt` to anywhere without a person or the provider's own evidence; no way from
//! a paid state (`generating`, `downloading`, `done`) back to `queued`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    attempt::AttemptNo,
    event::{Event, Source},
    job::Reason,
    time::Timestamp,
};
pub use super::{
    label::{Label, Lane},
    task_id::TaskId,
};

/// Whether a failed job's credits are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its word")]
pub enum Charged {
    No,
    Yes,
    Unknown,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A word for scripts: the provider's code, or klingd's own ([`Failure::LOST`] …).
    pub code: String,
    /// A sentence for people; the provider's words verbatim where it gave some.
    pub message: String,
    /// Whether it was charged.
    pub charged: Charged,
}

impl Failure {
    /// A paid task whose links stayed dead for `download.give_up`.
    pub const LOST: &'static str = "LOST";
    /// A paid video that is tried for again.
    pub const NOT_FETCHED: &'static str = "NOT_FETCHED";
    /// The provider says that the task failed.
    pub const TASK_FAILED: &'static str = "TASK_FAILED";
    /// A person wrote the attempt off.
    pub const WRITTEN_OFF: &'static str = "WRITTEN_OFF";

    /// A paid video that did not arrive this time.
    pub fn not_fetched(why: String) -> Self {
        Failure { code: Failure::NOT_FETCHED.to_owned(), message: why, charged: Charged::Yes }
    }

    fn written_off(attempt: AttemptNo, before: &str, charged: Charged) -> Self {
        let message = format!("attempt {attempt} was written off; before: {before}");
        Failure { code: Failure::WRITTEN_OFF.to_owned(), message, charged }
    }
}

/// What the status calls say of a task that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "watch", rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields say what they are; the variants carry the meaning")]
pub enum Watch {
    /// Nothing unusual.
    Running,
    /// The provider said FAILED once; a second look decides.
    Failing { since: Timestamp, message: String },
    /// SUCCESS without a URL. `held` after ten minutes: a person is needed, it is paid.
    NoUrl { since: Timestamp, held: bool },
    /// Status does not know the task. `held` after a day: a person may bring the right id.
    NotFound { since: Timestamp, held: bool },
    /// Status refuses the key for this task alone, which was made with an older one, or is forbidden: it waits for a person.
    OtherKey { since: Timestamp },
}

impl Watch {
    /// Why the task needs a person, if it does.
    pub const fn needs_person(&self) -> Option<Reason> {
        match self {
            Watch::NoUrl { held: true, .. } => Some(Reason::NoUrl),
            Watch::NotFound { held: true, .. } => Some(Reason::UnknownTask),
            Watch::OtherKey { .. } => Some(Reason::Key),
            Watch::Running | Watch::Failing { .. } => None,
            Watch::NoUrl { held: false, .. } | Watch::NotFound { held: false, .. } => None,
        }
    }

    /// What the provider says, in a few words.
    const fn told(&self) -> &'static str {
        match self {
            Watch::Running => "the provider works on it",
            Watch::Failing { .. } => "the provider said once that it failed",
            Watch::NoUrl { .. } => "the provider says that it is finished, and gives no link",
            Watch::NotFound { .. } => "the provider does not know the task",
            Watch::OtherKey { .. } => "the provider refuses the key for this task",
        }
    }
}

/// Whether the links of a finished task can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// As status gave them.
    Fresh,
    /// Dead: status is asked for new ones.
    Wanted,
}

/// Where a job is in its life, with what it has there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields say what they are; the variants carry the meaning")]
pub enum State {
    /// Waits for its turn. Leaves by: submit, cancel.
    Queued,
    /// The POST may be on the wire. `cancel` is a person's wish, kept until the outcome is known; `accepted` is a task
    /// of an earlier attempt that turned up meanwhile. Leaves by: the outcome of this attempt.
    Submitting {
        attempt: AttemptNo,
        #[serde(default)]
        cancel: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: Option<TaskId>,
    },
    /// The POST may have been charged and nobody knows. Leaves by: the provider's evidence, a person. `cancel` is the
    /// wish that came while it was on the wire: were it forgotten, late evidence of a refusal would queue the job again.
    InDoubt {
        attempt: AttemptNo,
        #[serde(default)]
        cancel: bool,
    },
    /// Paid: the provider works on it. Leaves by: SUCCESS, FAILED twice, cancel.
    Generating { task: TaskId, watch: Watch },
    /// Paid and finished: `missing` videos are still to be fetched. Leaves by: the last file, giving up, cancel.
    Downloading { task: TaskId, missing: BTreeSet<u32>, link: Link },
    /// All videos are on disk.
    Done { task: TaskId },
    /// Ended without its video. With a task, `retry` asks it again for free.
    Failed {
        failure: Failure,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<TaskId>,
    },
    /// A person ended it. With a task it was paid; `retry` follows it again for free.
    Cancelled {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<TaskId>,
    },
}

/// An event that this state does not allow: a bug, or a person's command that came too late.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {state} can't be {event}")]
pub struct Illegal {
    /// The state's name.
    pub state: Label,
    /// The event's name.
    pub event: &'static str,
}

impl State {
    /// The bare name.
    pub const fn label(&self) -> Label {
        match self {
            State::Queued => Label::Queued,
            State::Submitting { .. } => Label::Submitting,
            State::InDoubt { .. } => Label::InDoubt,
            State::Generating { .. } => Label::Generating,
            State::Downloading { .. } => Label::Downloading,
            State::Done { .. } => Label::Done,
            State::Failed { .. } => Label::Failed,
            State::Cancelled { .. } => Label::Cancelled,
        }
    }

    /// The task it follows or followed.
    pub const fn task(&self) -> Option<&TaskId> {
        match self {
            State::Queued | State::InDoubt { .. } => None,
            State::Submitting { accepted: task, .. }
            | State::Failed { task, .. }
            | State::Cancelled { task } => task.as_ref(),
            State::Generating { task, .. } | State::Downloading { task, .. } | State::Done { task } => {
                Some(task)
            }
        }
    }

    /// Which worker moves it next; `None` once it has ended, in doubt, or while its POST is on the wire. A paid task
    /// that waits for a person is still polled: the provider may mend it first.
    pub const fn lane(&self) -> Option<Lane> {
        match self {
            State::Queued => Some(Lane::Submit),
            State::Generating { .. } | State::Downloading { link: Link::Wanted, .. } => Some(Lane::Poll),
            State::Downloading { link: Link::Fresh, .. } => Some(Lane::Download),
            State::Submitting { .. }
            | State::InDoubt { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// Why it needs a person, if it does.
    pub fn needs_person(&self) -> Option<Reason> {
        match self {
            State::InDoubt { .. } => Some(Reason::InDoubt),
            State::Generating { watch, .. } => watch.needs_person(),
            State::Failed { failure, .. } if failure.code == Failure::LOST => Some(Reason::Lost),
            State::Queued
            | State::Submitting { .. }
            | State::Downloading { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// Done, failed or cancelled: nothing happens any more without a person.
    pub const fn has_ended(&self) -> bool {
        matches!(self, State::Done { .. } | State::Failed { .. } | State::Cancelled { .. })
    }

    /// Ended, or in need of a person.
    pub fn at_rest(&self) -> bool {
        self.has_ended() || self.needs_person().is_some()
    }

    /// Whether it holds one of the provider's parallel slots (or may). A task that is finished there, that belongs to
    /// another account or that nobody knows any more holds none: otherwise a few stuck jobs would stop the queue.
    pub const fn in_flight(&self) -> bool {
        matches!(
            self,
            State::Submitting { .. }
                | State::Generating {
                    watch: Watch::Running | Watch::Failing { .. } | Watch::NotFound { held: false, .. },
                    ..
                }
        )
    }

    /// The state after `event`: the whole table of a job's life.
    pub fn apply(self, event: &Event) -> Result<State, Illegal> {
        match event {
            Event::SubmitStarted { .. }
            | Event::SubmitDeferred { .. }
            | Event::SubmitRefused { .. }
            | Event::SubmitUnknown { .. }
            | Event::Accepted { .. } => self.apply_submit(event),
            Event::Watched { .. }
            | Event::Succeeded { .. }
            | Event::TaskFailed { .. }
            | Event::FilePublished { .. }
            | Event::LinkExpired { .. }
            | Event::LinkRenewed
            | Event::GaveUp { .. } => self.apply_task(event),
            Event::Enqueued
            | Event::Edited { .. }
            | Event::Cancelled
            | Event::ResolvedNotCharged { .. }
            | Event::WrittenOff { .. }
            | Event::Resubmitted { .. }
            | Event::Followed
            | Event::FollowedOther { .. }
            | Event::Requeued => self.apply_person(event),
        }
    }

    /// The submitter's events. The outcome of an attempt is legal in every state (what the provider said is never
    /// refused by our own bookkeeping); it moves the job only when the job waits for this very attempt.
    fn apply_submit(self, event: &Event) -> Result<State, Illegal> {
        let waits_for = |n: &AttemptNo| match &self {
            State::Submitting { attempt, .. } | State::InDoubt { attempt, .. } => attempt == n,
            State::Queued
            | State::Generating { .. }
            | State::Downloading { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => false,
        };
        match event {
            Event::SubmitStarted { attempt } => match self {
                State::Queued => Ok(State::Submitting { attempt: *attempt, cancel: false, accepted: None }),
                other => other.illegal(event),
            },
            Event::Accepted { attempt, task, source, .. } => Ok(self.accept(*attempt, task.clone(), *source)),
            Event::SubmitDeferred { attempt, .. } if waits_for(attempt) => {
                Ok(self.leave_submit(State::Queued))
            }
            Event::SubmitRefused { attempt, failure } if waits_for(attempt) => {
                let failed = State::Failed { failure: failure.clone(), task: None };
                Ok(self.leave_submit(failed))
            }
            Event::SubmitUnknown { attempt, .. } if waits_for(attempt) => {
                // Doubt outlives a wish to cancel: what may be paid is not dropped silently.
                Ok(match self {
                    State::Submitting { accepted: Some(task), .. } => State::follow(task),
                    State::Submitting { attempt, cancel, accepted: None } => {
                        State::InDoubt { attempt, cancel }
                    }
                    already => already,
                })
            }
            _ => Ok(self),
        }
    }

    /// Where a job goes when its attempt ended uncharged: after an earlier attempt's task if one turned up, out of the
    /// way if a person cancelled it, else to `otherwise`.
    fn leave_submit(self, otherwise: State) -> State {
        match self {
            State::Submitting { accepted: task @ Some(_), cancel: true, .. } => State::Cancelled { task },
            State::Submitting { accepted: Some(task), cancel: false, .. } => State::follow(task),
            State::Submitting { accepted: None, cancel: true, .. } | State::InDoubt { cancel: true, .. }
                if matches!(otherwise, State::Queued) =>
            {
                State::Cancelled { task: None }
            }
            _ => otherwise,
        }
    }

    fn follow(task: TaskId) -> State {
        State::Generating { task, watch: Watch::Running }
    }

    /// A task id arrived: recorded whatever happened meanwhile.
    fn accept(self, n: AttemptNo, task: TaskId, source: Source) -> State {
        match self {
            // Another attempt is on the wire: its outcome comes first, this task is not forgotten.
            State::Submitting { attempt, cancel, accepted } if attempt != n => {
                State::Submitting { attempt, cancel, accepted: accepted.or(Some(task)) }
            }
            State::Submitting { cancel: true, .. } => State::Cancelled { task: Some(task) },
            // Whoever brings the id by hand wants the video after all.
            State::InDoubt { cancel: true, .. } if source != Source::Person => {
                State::Cancelled { task: Some(task) }
            }
            State::Queued | State::Submitting { .. } | State::InDoubt { .. } | State::Failed { .. } => {
                State::follow(task)
            }
            // `resolve --task-id` on a task that is stuck replaces the id.
            State::Generating { watch, .. } if watch.needs_person().is_some() => State::follow(task),
            State::Generating { .. } | State::Downloading { .. } | State::Done { .. } => self,
            State::Cancelled { task: earlier } => State::Cancelled { task: earlier.or(Some(task)) },
        }
    }

    /// The poller's and the downloader's events.
    fn apply_task(self, event: &Event) -> Result<State, Illegal> {
        match (self, event) {
            (State::Generating { task, .. }, Event::Watched { watch }) => {
                Ok(State::Generating { task, watch: watch.clone() })
            }
            (State::Generating { task, .. }, Event::Succeeded { outputs, .. }) if *outputs > 0 => {
                Ok(State::Downloading { task, missing: (0..*outputs).collect(), link: Link::Fresh })
            }
            // The videos of the one task are there, whatever became of the other.
            (State::Generating { .. }, Event::TaskFailed { done: Some(done), .. }) => {
                Ok(State::Done { task: done.clone() })
            }
            (State::Generating { task, .. }, Event::TaskFailed { failure, done: None, .. }) => {
                Ok(State::Failed { failure: failure.clone(), task: Some(task) })
            }
            (State::Downloading { task, mut missing, link }, Event::FilePublished { output }) => {
                missing.remove(output);
                Ok(if missing.is_empty() {
                    State::Done { task }
                } else {
                    State::Downloading { task, missing, link }
                })
            }
            (State::Downloading { task, missing, .. }, Event::LinkExpired { .. }) => {
                Ok(State::Downloading { task, missing, link: Link::Wanted })
            }
            (State::Downloading { task, missing, .. }, Event::LinkRenewed) => {
                Ok(State::Downloading { task, missing, link: Link::Fresh })
            }
            (State::Downloading { task, .. }, Event::GaveUp { failure }) => {
                Ok(State::Failed { failure: failure.clone(), task: Some(task) })
            }
            (state, event) => state.illegal(event),
        }
    }

    /// What a person does.
    fn apply_person(self, event: &Event) -> Result<State, Illegal> {
        match (self, event) {
            (state @ (State::Queued | State::Submitting { .. }), Event::Edited { .. }) => Ok(state),
            (State::Queued, Event::Cancelled) => Ok(State::Cancelled { task: None }),
            (State::Submitting { attempt, accepted, .. }, Event::Cancelled) => {
                Ok(State::Submitting { attempt, cancel: true, accepted })
            }
            (State::Generating { task, .. } | State::Downloading { task, .. }, Event::Cancelled) => {
                Ok(State::Cancelled { task: Some(task) })
            }
            (state @ State::InDoubt { attempt, .. }, Event::ResolvedNotCharged { attempt: n })
                if attempt == *n =>
            {
                Ok(state.leave_submit(State::Queued))
            }
            (State::InDoubt { attempt, .. }, Event::Resubmitted { attempt: n }) if attempt == *n => {
                Ok(State::Queued)
            }
            (State::InDoubt { attempt, .. }, Event::WrittenOff { attempt: n, .. }) if attempt == *n => {
                let failure = Failure {
                    code: Failure::WRITTEN_OFF.to_owned(),
                    message: format!("attempt {n} was written off; it counts as spent"),
                    charged: Charged::Unknown,
                };
                Ok(State::Failed { failure, task: None })
            }
            // Nobody can know yet what becomes of a POST that is on the wire: its outcome would find its ledger closed.
            (
                state @ State::Submitting { attempt, .. },
                Event::ResolvedNotCharged { attempt: n } | Event::WrittenOff { attempt: n, .. },
            ) if attempt == *n => state.illegal(event),
            // A lost video that is written off needs nobody any more; its task can still be asked for free.
            (State::Failed { failure, task }, Event::WrittenOff { attempt: n, task: given_up })
                if failure.code == Failure::LOST && task == *given_up =>
            {
                let failure = Failure::written_off(*n, &failure.message, failure.charged);
                Ok(State::Failed { failure, task })
            }
            // So is a task that leads nowhere. While it does well it is followed, whatever a person wrote off.
            (State::Generating { task, watch }, Event::WrittenOff { attempt: n, task: given_up })
                if watch.needs_person().is_some() && given_up.as_ref() == Some(&task) =>
            {
                let failure = Failure::written_off(*n, watch.told(), Charged::Yes);
                Ok(State::Failed { failure, task: Some(task) })
            }
            // An older attempt, still in doubt after `--resubmit`, is settled without moving the job.
            (state, Event::ResolvedNotCharged { .. } | Event::WrittenOff { .. }) => Ok(state),
            (
                State::Failed { task: Some(task), .. } | State::Cancelled { task: Some(task) },
                Event::Followed,
            ) => Ok(State::follow(task)),
            // The one task has come to its end; what the other made is paid as well.
            (state, Event::FollowedOther { task }) if state.has_ended() && state.task() != Some(task) => {
                Ok(State::follow(task.clone()))
            }
            (State::Failed { .. } | State::Cancelled { .. }, Event::Requeued) => Ok(State::Queued),
            (state, event) => state.illegal(event),
        }
    }

    fn illegal(self, event: &Event) -> Result<State, Illegal> {
        Err(Illegal { state: self.label(), event: event.name() })
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
