//! The `Retry-After` header: seconds, or a date read against the answer's own clock.

use std::time::{Duration, SystemTime};

/// The longest wait that is believed. A year of quiet is a misconfigured server; it still ends as a visible hold.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The longest wait until a date that is measured by our own clock, which may be wrong by years.
const LONGEST_BY_OUR_CLOCK: Duration = Duration::from_secs(3600);

/// The wait that an answer asks for, by its headers (looked up by their lower-case name). A date is measured from the
/// answer's own `Date`, so our clock plays no part; without one, and for garbage, there is no wish. What is past is
/// zero.
pub(super) fn retry_after<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Duration> {
    since_answer(header, None)
}

/// As [`retry_after`]; a date in an answer without a `Date` is measured from `now`: a rough wish is better than none.
pub(super) fn retry_after_at<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    now: SystemTime,
) -> Option<Duration> {
    since_answer(header, Some(now))
}

fn since_answer<'a>(header: impl Fn(&str) -> Option<&'a str>, now: Option<SystemTime>) -> Option<Duration> {
    let wish = header("retry-after")?.trim();
    if !wish.is_empty() && wish.bytes().all(|b| b.is_ascii_digit()) {
        // Only digits, so the one way to fail is a number beyond u64.
        let seconds = wish.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let until = httpdate::parse_http_date(wish).ok()?;
    let answered = header("date").and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    let (from, longest) = match (answered, now) {
        (Some(answered), _) => (answered, LONGEST),
        (None, Some(now)) => (now, LONGEST_BY_OUR_CLOCK),
        (None, None) => return None,
    };
    Some(until.duration_since(from).unwrap_or(Duration::ZERO).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn wait(wish: &str, date: Option<&str>) -> Option<u64> {
        let header = |name: &str| match name {
            "retry-after" => Some(wish),
            "date" => date,
            _ => None,
        };
        retry_after(header).map(|wait| wait.as_secs())
    }

    #[test]
    fn every_form_past_and_absurd_values_and_garbage() {
        let year = LONGEST.as_secs();
        for (wish, expected) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("99999999999999999999999999", Some(year)),
            ("31536001", Some(year)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(year)),
            ("-5", None),
            ("1.5", None),
            ("+5", None),
            ("12s", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(wish, Some(DATE)), expected, "{wish:?}");
        }
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", None), None, "a date needs the answer's clock");
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", Some("yesterday")), None);
        assert_eq!(wait("30", None), Some(30));
        assert_eq!(retry_after(|_| None), None);
    }

    #[test]
    fn a_date_without_a_date_is_measured_by_our_clock_for_an_hour_at_most() {
        let now = httpdate::parse_http_date(DATE).unwrap();
        let wait = |wish, date: Option<&'static str>| {
            let header = |name: &str| if name == "date" { date } else { Some(wish) };
            retry_after_at(header, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", None), Some(60));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", Some("yesterday")), Some(60));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", Some("Sun, 06 Nov 1994 08:50:07 GMT")), Some(30));
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT", None), Some(3600));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:36 GMT", None), Some(0));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_exceeds_a_year(wish in ".{0,40}", date in ".{0,40}") {
            if let Some(seconds) = wait(&wish, Some(&date)) {
                prop_assert!(seconds <= LONGEST.as_secs());
            }
        }
    }
}
