//! In-process retries of free effects. The only place that names the `backoff` crate (no release for years,
//! RUSTSEC-2025-0012): replacing it is this file. It asks a clock and the dice itself, so it can't live in the pure core;
//! durable due times come from `domain::retry`.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// A cut connection is usually back at once; what lasts longer than this is left to the durable due time, so that the
/// worker is free for another video.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);

/// The waits between tries of one free effect.
pub(super) struct Waits(ExponentialBackoff);

impl Waits {
    /// From the first failure on.
    pub(super) fn new() -> Self {
        let waits = ExponentialBackoffBuilder::new()
            .with_initial_interval(FIRST_WAIT)
            .with_max_interval(LONGEST_WAIT)
            .with_max_elapsed_time(Some(PATIENCE))
            .build();
        Self(waits)
    }

    /// The next wait, or `None` when patience is used up.
    pub(super) fn next(&mut self) -> Option<Duration> {
        self.0.next_backoff()
    }
}
