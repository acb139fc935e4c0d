//! What people read: pure functions from data to text. Nothing here asks a clock, a terminal or the store.

#[cfg(test)]
pub(super) mod samples;
