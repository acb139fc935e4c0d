//! klingd: a durable job queue for the Kling 3.0 video API.
//!
//! The map of the code; ARCHITECTURE.md has the invariants and the reasons.
//!
//! | module | owns |
//! |---|---|
//! | [`domain`] | what a job is, what may happen to it, what to do next: pure |
//! | [`failpoint`] | where tests kill the process; nothing in a release build |
//! | [`store`] | the database: the only place with sqlx and SQL |
//! | [`provider`] | the two calls of the API and the media client: the only place with reqwest |
//! | [`worker`] | the loop and its steps: submit, poll, download |
//! | [`intake`] | job files and the watched folder → requests |
//! | [`disk`] | the only writer of files: temporaries, publishing, names, the MP4 check |
//! | [`clock`] | the only place that asks the OS for time or randomness |
//! | [`config`] | flags, variables, file, defaults → one checked value |
//! | [`vitals`] | what a process counts of itself, and whether its parts are alive |
//! | [`telemetry`] | the log subscriber and what it must never print |
//! | [`daemon`] | builds, spawns, supervises and stops everything |
//! | [`cli`] | one file a verb; rendering; exit codes |
//! | [`sandbox`] | the provider's double; shares no type with [`provider`] |

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod disk;
pub mod domain;
pub mod failpoint;
pub mod intake;
pub mod provider;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod vitals;
pub mod worker;

// What is fuzzed (fuzz/), against the seeds.
#[cfg(test)]
#[path = "../fuzz/properties/mod.rs"]
mod properties;
