//! A bound on status calls a second: the gateway may count them, and may ask its own upstream at each.

use std::time::Duration;

use super::time::Timestamp;

/// So much of a second may pass at once: a worker that wakes a little late does not lose its turn, and a restart with
/// thousands of tasks due begins no faster than it goes on.
const BURST_S: f64 = 0.1;

/// Lets `per_second` through, evenly.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    per_second: f64,
    tokens: f64,
    at: Option<Timestamp>,
}

impl Pace {
    /// A pace, with its burst available.
    pub fn new(per_second: f64) -> Self {
        let mut pace = Self { per_second, tokens: 0.0, at: None };
        pace.tokens = pace.burst();
        pace
    }

    fn burst(&self) -> f64 {
        (self.per_second * BURST_S).max(1.0)
    }

    /// Takes up to `want` now; with nothing to take, says when one is there.
    pub fn take(&mut self, want: usize, now: Timestamp) -> Result<usize, Timestamp> {
        let passed = self.at.map_or(Duration::ZERO, |at| now.since(at));
        self.at = Some(now);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst());
        let got = (self.tokens.floor().max(0.0) as usize).min(want);
        self.tokens -= got as f64;
        if got > 0 || want == 0 {
            return Ok(got);
        }
        Err(now + Duration::from_secs_f64(((1.0 - self.tokens) / self.per_second).min(3600.0)))
    }

    /// Counts one that leaves without asking: those that ask wait for it.
    pub fn owe(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_a_second_and_no_more() {
        let mut pace = Pace::new(2.0);
        let mut now = Timestamp::from_millis(0);
        let mut taken = 0;
        while now < Timestamp::from_millis(10_000) {
            match pace.take(8, now) {
                Ok(n) => taken += n,
                Err(at) => {
                    assert!(at > now);
                    now = at;
                }
            }
        }
        assert!((20..=21).contains(&taken), "{taken} in ten seconds");
    }

    #[test]
    fn who_does_not_ask_is_waited_for() {
        let mut pace = Pace::new(2.0);
        let now = Timestamp::from_millis(0);
        pace.owe();
        pace.owe();
        assert_eq!(pace.take(1, now), Err(Timestamp::from_millis(1_000)));
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_stop_it() {
        let mut pace = Pace::new(2.0);
        pace.take(8, Timestamp::from_millis(1_000_000)).ok();
        let Err(at) = pace.take(8, Timestamp::from_millis(0)) else { panic!("empty") };
        assert!(at <= Timestamp::from_millis(1_000));
    }
}
