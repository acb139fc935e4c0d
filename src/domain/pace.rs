//! A bound on status calls a second: the gateway may count them, and may ask its own upstream at each.

use std::time::Duration;

use super::time::Timestamp;

/// Lets at most `per_second` through, with a burst of one second's worth.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    per_second: f64,
    tokens: f64,
    at: Option<Timestamp>,
}

impl Pace {
    /// A pace, with its burst available.
    pub fn new(per_second: f64) -> Self {
        Self { per_second, tokens: per_second.max(1.0), at: None }
    }

    /// Takes up to `want` now; with nothing to take, says when one is there.
    pub fn take(&mut self, want: usize, now: Timestamp) -> Result<usize, Timestamp> {
        let passed = self.at.map_or(Duration::ZERO, |at| now.since(at));
        self.at = Some(now);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.per_second.max(1.0));
        let got = (self.tokens.floor().max(0.0) as usize).min(want);
        self.tokens -= got as f64;
        if got > 0 || want == 0 {
            return Ok(got);
        }
        Err(now + Duration::from_secs_f64(((1.0 - self.tokens) / self.per_second).min(3600.0)))
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&mut self, unused: usize) {
        self.tokens += unused as f64;
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
        assert!((20..=22).contains(&taken), "{taken} in ten seconds");
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_stop_it() {
        let mut pace = Pace::new(2.0);
        pace.take(8, Timestamp::from_millis(1_000_000)).ok();
        let Err(at) = pace.take(8, Timestamp::from_millis(0)) else { panic!("empty") };
        assert!(at <= Timestamp::from_millis(1_000));
    }
}
