//! What a start makes of a job that an earlier run left on the wire.

use super::super::{attempt::AttemptNo, event::Event, state::State};

/// The event for a job found at start without any evidence of its answer. A lone intent means that the request may
/// have been sent and charged: only a person, or evidence that turns up, can tell.
pub fn orphaned(state: &State) -> Option<Event> {
    match state {
        State::Submitting { attempt, .. } => Some(doubt(*attempt)),
        State::Queued
        | State::InDoubt { .. }
        | State::Generating { .. }
        | State::Downloading { .. }
        | State::Done { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    }
}

fn doubt(attempt: AttemptNo) -> Event {
    Event::SubmitUnknown {
        attempt,
        why: "klingd stopped while the request was on the wire; nobody saw the answer".to_owned(),
    }
}
