//! Points in time as klingd stores them: whole milliseconds, UTC. Asking for "now" is `clock.rs`'s.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A clock that is set back by less than this is one that is kept right, or one that mistook the local time by a zone: what
/// it wrote before still counts. After a greater step nobody knows when an end is, and it has come.
pub const CLOCK_STEP: Duration = Duration::from_secs(3600);

/// Milliseconds since 1970-01-01T00:00:00Z. Displays as RFC 3339 in UTC, as the JSON contract asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch, as the database holds them.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later (a clock that jumped back never yields an
    /// enormous age).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            // Outside the calendar (year 9999): only a damaged row or an absurd header gets here.
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;
    /// RFC 3339 with an offset or `Z`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(s.parse::<jiff::Timestamp>()?.into())
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(t: jiff::Timestamp) -> Self {
        Self(t.as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_rfc_3339_and_reads_it_back() {
        let t = Timestamp::from_millis(1_770_287_400_123);
        assert_eq!(t.to_string(), "2026-02-05T10:30:00.123Z");
        assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        assert_eq!("2026-02-05T12:30:00.123+02:00".parse::<Timestamp>().unwrap(), t);
    }

    #[test]
    fn never_overflows() {
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(end + Duration::from_secs(u64::MAX), end);
        assert_eq!(Timestamp::from_millis(0).since(end), Duration::ZERO);
        assert!(!end.to_string().is_empty());
    }
}
