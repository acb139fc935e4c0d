//! Durations and times as people type them: `90s`, `2h`, `3d`, or a whole RFC 3339 time.

use std::{str::FromStr, time::Duration};

use jiff::{SpanRelativeTo, fmt::friendly::SpanParser};

use crate::domain::Timestamp;

/// A duration with its unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let instead = || format!("{text:?} is not a duration: write one such as 90s, 30m, 2h, 3d");
    let span = SpanParser::new().parse_span(text.trim()).map_err(|_| instead())?;
    // A day is 24 hours here, whatever the local clock does.
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| instead())?;
    Duration::try_from(duration).map_err(|_| instead())
}

/// A moment in the past: by itself, or by how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// A time.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl Since {
    /// The moment, seen from `now`.
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Since::At(t) => t,
            Since::Ago(d) => now - d,
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(t) = text.trim().parse() {
            return Ok(Since::At(t));
        }
        duration(text).map(Since::Ago).map_err(|_| {
            format!("{text:?} is neither a duration such as 2h or 3d nor a time such as 2026-02-05T10:30:00Z")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_and_times() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("3d"), Ok(Duration::from_secs(259_200)));
        for bad in ["", "5", "-2h", "1mo", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        let now: Timestamp = "2026-02-05T10:30:00Z".parse().unwrap();
        assert_eq!("2h".parse::<Since>().unwrap().from(now).to_string(), "2026-02-05T08:30:00.000Z");
        let at = "2026-02-05T12:30:00+02:00".parse::<Since>().unwrap();
        assert_eq!(at.from(now), now);
        assert!("yesterday".parse::<Since>().is_err());
    }
}
