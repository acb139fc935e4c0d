//! The commands that change the queue, as people and scripts run them: the real binary, a clean environment, a data
//! directory of its own; and beside it a provider's double, and a daemon where one is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check_and_config;
mod enqueue;
mod keeping;
mod money;
mod paid;
mod people;
mod resolve;
mod restored;
mod rig;
mod sandbox_queue;
mod service_manager;
