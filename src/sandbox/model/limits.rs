//! The limit on requests: a token bucket.

use jiff::Timestamp;

/// Holds up to `burst` requests and refills at `rate` a second.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled_at: Option<Timestamp>,
}

impl Bucket {
    pub fn new(rate: f64, burst: u32) -> Self {
        Self { rate, burst: f64::from(burst), tokens: f64::from(burst), filled_at: None }
    }

    /// Takes one token, or says how many whole seconds to wait for it.
    pub fn take(&mut self, now: Timestamp) -> Result<(), u64> {
        let elapsed = self.filled_at.map_or(0.0, |before| now.duration_since(before).as_secs_f64());
        // A clock that jumps back refills nothing and takes nothing away.
        self.tokens = (self.tokens + elapsed.max(0.0) * self.rate).min(self.burst);
        self.filled_at = Some(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let seconds = ((1.0 - self.tokens) / self.rate).ceil().clamp(1.0, 3600.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to an hour above"
        )]
        Err(seconds as u64)
    }
}
