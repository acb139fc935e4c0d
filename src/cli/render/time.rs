//! Times and durations as people read them.

use std::time::Duration;

use jiff::tz::TimeZone;

pub use crate::clock::wall;
use crate::domain::Timestamp;

/// Pauses shorter than this are told by what is left of them.
const SOON: Duration = Duration::from_secs(600);

/// [`wall`] with the day and the second, for a history.
pub fn exact(t: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_millisecond(t.as_millis()) {
        Ok(then) => then.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => t.to_string(),
    }
}

/// Until a time that lies ahead: "for 5s" when that is soon, else "until 10:41".
pub fn until(t: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    soon(t, now).map_or_else(|| format!("until {}", wall(t, now, zone)), |left| format!("for {left}"))
}

/// At a time that lies ahead: "in 5s" when that is soon, else "at 10:41".
pub fn at(t: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    soon(t, now).map_or_else(|| format!("at {}", wall(t, now, zone)), |left| format!("in {left}"))
}

/// What is left until `t`, in whole seconds, where minutes on a clock would say too little.
fn soon(t: Timestamp, now: Timestamp) -> Option<String> {
    let left = Duration::from_secs(u64::try_from(t.since(now).as_millis().div_ceil(1000)).ok()?);
    (t > now && left < SOON).then(|| span(left))
}

/// A duration by its two largest units.
pub fn span(d: Duration) -> String {
    let s = d.as_secs();
    let (days, hours, minutes, seconds) = (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds:02}s"),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

/// A duration by its largest unit, for a narrow column.
pub fn age(d: Duration) -> String {
    let whole = span(d);
    whole.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_soon_is_told_by_what_is_left() {
        let t = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = t("2026-02-05T10:00:55Z");
        let both = |text| (until(t(text), now, &TimeZone::UTC), at(t(text), now, &TimeZone::UTC));
        assert_eq!(both("2026-02-05T10:00:59.2Z"), ("for 5s".into(), "in 5s".into()));
        assert_eq!(both("2026-02-05T10:10:54Z"), ("for 9m 59s".into(), "in 9m 59s".into()));
        assert_eq!(both("2026-02-05T10:10:55Z"), ("until 10:10".into(), "at 10:10".into()));
        assert_eq!(both("2026-02-05T10:00:00Z"), ("until 10:00".into(), "at 10:00".into()));
    }

    #[test]
    fn today_needs_no_date() {
        let t = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = t("2026-02-05T10:00:00Z");
        let (utc, east) = (TimeZone::UTC, TimeZone::fixed(jiff::tz::offset(10)));
        assert_eq!(wall(t("2026-02-05T23:04:05Z"), now, &utc), "23:04");
        assert_eq!(wall(t("2026-02-05T23:04:05Z"), now, &east), "2026-02-06 09:04");
        assert_eq!(exact(t("2026-02-05T23:04:05Z"), &utc), "2026-02-05 23:04:05");
    }

    #[test]
    fn spans_have_two_units() {
        let cases = [(0, "0s"), (59, "59s"), (61, "1m 01s"), (3_600, "1h 00m"), (90_000, "1d 1h")];
        for (s, text) in cases {
            assert_eq!(span(Duration::from_secs(s)), text);
        }
        assert_eq!(age(Duration::from_secs(90_000)), "1d");
    }
}
