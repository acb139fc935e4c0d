//! What to do about what was seen: observation → plan, as data with nothing left to choose.

pub mod download;
pub mod poll;
pub mod recover;
pub mod retry;
pub mod submit;

#[cfg(test)]
mod plan_tests;
