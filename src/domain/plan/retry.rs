//! What `retry` means for a job that ended.

use super::super::state::{Failure, State};

/// What a retry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPlan {
    /// The paid task is asked and fetched again: free.
    Follow,
    /// Back to the queue; nothing was rendered before.
    Resume,
    /// Back to the queue, to be paid again: only with a person's word.
    Render,
}

/// The plan for a job that ended; `None` when there is nothing to retry. `rendered` says whether any attempt made
/// a task or may have, refunded or not; `new_render` is the person's wish to pay again.
pub fn retry(state: &State, rendered: bool, new_render: bool) -> Option<RetryPlan> {
    let again = if rendered { RetryPlan::Render } else { RetryPlan::Resume };
    match state {
        State::Failed { .. } | State::Cancelled { .. } if new_render => Some(again),
        // Its task is known to have failed: following it again would only hear the same.
        State::Failed { failure, .. } if failure.code == Failure::TASK_FAILED => Some(again),
        State::Failed { task: Some(_), .. } | State::Cancelled { task: Some(_) } => Some(RetryPlan::Follow),
        State::Failed { task: None, .. } | State::Cancelled { task: None } => Some(again),
        State::Queued
        | State::Submitting { .. }
        | State::InDoubt { .. }
        | State::Generating { .. }
        | State::Downloading { .. }
        | State::Done { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::state::{Charged, TaskId};

    #[test]
    fn a_paid_task_is_followed_for_free() {
        let task = || TaskId::parse("n75abc");
        let failed = |code: &str, task| State::Failed {
            failure: Failure { code: code.into(), message: String::new(), charged: Charged::Unknown },
            task,
        };
        assert_eq!(retry(&failed(Failure::LOST, task()), true, false), Some(RetryPlan::Follow));
        assert_eq!(retry(&failed(Failure::LOST, task()), true, true), Some(RetryPlan::Render));
        assert_eq!(retry(&failed(Failure::TASK_FAILED, task()), true, false), Some(RetryPlan::Render));
        assert_eq!(retry(&failed("INVALID_PROMPT", None), false, false), Some(RetryPlan::Resume));
        assert_eq!(retry(&State::Cancelled { task: task() }, true, false), Some(RetryPlan::Follow));
        assert_eq!(retry(&State::Queued, false, true), None);
    }
}
