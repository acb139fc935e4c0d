//! What a job is, what may happen to it and what to do next.
//!
//! Pure: no async, no clock, no randomness, no log, no I/O, and nothing of ours is imported here. `now` and dice are
//! arguments, so every decision can be replayed.
//!
//! The one law of klingd lives in [`state`]: a job changes only through [`state::State::apply`].

pub mod adopt;
#[cfg(test)]
mod arbitrary;
pub mod attempt;
pub mod credits;
pub mod event;
pub mod evidence;
pub mod gate;
pub mod hold;
pub mod hook;
pub mod job;
pub mod job_type;
pub mod key;
pub mod label;
pub mod looks;
pub mod origin;
pub mod pace;
pub mod plan;
#[cfg(test)]
mod promise_tests;
pub mod request;
pub mod retry;
pub mod schedule;
pub mod state;
pub mod task_id;
pub mod time;

pub use attempt::{AttemptNo, Charge, Outcome};
pub use credits::Credits;
pub use event::Event;
pub use hold::HoldName;
pub use job::{Job, JobId, Reason};
pub use job_type::JobType;
pub use key::JobKey;
pub use request::Request;
pub use schedule::{RenderKind, RenderTime, Schedule};
pub use state::{State, TaskId};
pub use time::Timestamp;
