//! The provider's two calls and the client for result files: the only place with reqwest.
//!
//! [`http`] talks and reports what it saw; [`classify`], pure, says what that means (the tables are in
//! provider.md); [`wire`] and [`task_id`] read JSON in every shape that was met; [`kept`] is what stays of an
//! answer; [`media`] fetches videos and has no key. Nothing here decides what happens to a job, waits, retries, or writes.

mod address;
pub mod classify;
pub mod http;
pub mod kept;
pub mod latch;
pub mod media;
#[cfg(test)]
mod raw_server;
mod retry_after;
mod task_id;
mod text;
mod turns;
mod wire;

pub use http::{Api, Probe, Settings, SetupError};
pub use latch::Latch;
pub use media::{Download, FetchError, Media, MediaSettings, Resume};
