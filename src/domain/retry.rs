//! How long to wait before the next try of something free. Durable: the result goes into a row's `due_at`.

use std::time::Duration;

/// A draw from [0, 1). Randomness is an argument: the core never throws dice itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dice(f64);

impl Dice {
    /// A draw; values outside [0, 1) are pulled back into it.
    pub fn new(draw: f64) -> Self {
        Self(if draw.is_finite() { draw.clamp(0.0, 1.0 - f64::EPSILON) } else { 0.5 })
    }

    /// `d` ± `share` of it.
    pub fn around(self, d: Duration, share: f64) -> Duration {
        d.mul_f64(1.0 + share * (2.0 * self.0 - 1.0))
    }
}

/// Exponential backoff: `base` doubled with every failure up to `max`, then "equal jitter" (half fixed, half drawn),
/// so that many jobs that failed together do not come back together and none comes back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub base: Duration,
    /// The longest.
    pub max: Duration,
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row (from 1).
    pub fn delay(self, failures: u32, dice: Dice) -> Duration {
        // 2^20 × the smallest base exceeds every `max` in use: the bound only keeps the shift in range.
        let doubled = self.base.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let whole = doubled.min(self.max);
        whole / 2 + (whole / 2).mul_f64(dice.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_stays_in_its_bounds(failures in 0u32..1000, draw in -1.0f64..2.0) {
            let b = Backoff { base: Duration::from_secs(2), max: Duration::from_secs(600) };
            let d = b.delay(failures, Dice::new(draw));
            prop_assert!(d >= Duration::from_secs(1) && d <= Duration::from_secs(600), "{d:?}");
            prop_assert!(b.delay(failures + 1, Dice::new(0.0)) >= b.delay(failures, Dice::new(0.0)));
        }
    }
}
