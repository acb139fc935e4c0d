//! How a single value is written and shown: numbers, durations, sizes, switches, paths' text.

use std::fmt::Display;
use std::time::Duration;

use jiff::fmt::friendly::{Designator, Spacing, SpanParser, SpanPrinter};
use jiff::{Span, SpanRelativeTo};
use toml::Value;

use super::error::Complaint;

/// How a kind of value is read and shown again.
pub(super) struct Kind<T> {
    pub(super) parse: fn(&Value) -> Result<T, Complaint>,
    pub(super) show: fn(&T) -> String,
}

/// A whole number that fits `T`.
pub(super) fn whole<T: TryFrom<i64> + Display>() -> Kind<T> {
    let parse = |value: &Value| {
        let number = match value {
            Value::Integer(number) => Some(*number),
            Value::String(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        let number = number
            .ok_or_else(|| Complaint::new("is not a whole number", "write one, without quotes or unit"))?;
        T::try_from(number).map_err(|_| {
            let why = if number < 0 { "is negative" } else { "is too large" };
            Complaint::new(why, "write a whole number from 0 up")
        })
    };
    Kind { parse, show: T::to_string }
}

/// A number, whole or not.
pub(super) const RATE: Kind<f64> = Kind { parse: parse_rate, show: f64::to_string };

/// A duration with units.
pub(super) const DURATION: Kind<Duration> =
    Kind { parse: parse_duration, show: |value| show_duration(*value) };

/// A size in bytes with a unit.
pub(super) const SIZE: Kind<u64> = Kind { parse: parse_size, show: |value| show_size(*value) };

/// A switch.
pub(super) const SWITCH: Kind<bool> = Kind { parse: parse_switch, show: bool::to_string };

/// A text on one line.
pub(super) const TEXT: Kind<String> =
    Kind { parse: |value| text(value).map(str::to_owned), show: String::clone };

/// Text, as TOML's strings and all variables are.
pub(super) fn text(value: &Value) -> Result<&str, Complaint> {
    let text = value.as_str().ok_or_else(|| Complaint::new("is not text", "write it in quotes"))?;
    if text.trim().is_empty() {
        return Err(Complaint::new("is empty", "write a value, or leave the key out"));
    }
    if text.chars().any(char::is_control) {
        return Err(Complaint::new("holds a control character or a line break", "write it on one line"));
    }
    Ok(text)
}

fn parse_rate(value: &Value) -> Result<f64, Complaint> {
    let number = match value {
        // A rate beyond 2^52 is out of any bounds, exact or not.
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| Complaint::new("is not a number", "write one such as 2 or 0.5, without unit"))
}

fn parse_switch(value: &Value) -> Result<bool, Complaint> {
    let text = value.as_str().map(|text| text.trim().to_ascii_lowercase());
    match (value, text.as_deref()) {
        (Value::Boolean(truth), _) => Ok(*truth),
        (_, Some("true" | "on" | "yes" | "1")) => Ok(true),
        (_, Some("false" | "off" | "no" | "0")) => Ok(false),
        _ => Err(Complaint::new("is neither true nor false", "write true or false, without quotes")),
    }
}

fn parse_duration(value: &Value) -> Result<Duration, Complaint> {
    const INSTEAD: &str = "write a text such as \"10s\", \"250ms\" or \"1h30m\"";
    let text = match value {
        Value::String(text) => text.trim(),
        Value::Integer(_) | Value::Float(_) => return Err(Complaint::new("has no unit", INSTEAD)),
        _ => return Err(Complaint::new("is not a duration", INSTEAD)),
    };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(Complaint::new("has no unit", INSTEAD));
    }
    let span: Option<Span> = SpanParser::new().parse_span(text).ok();
    // A month has no length of its own; a day is 24 hours here, whatever the local clock does.
    span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| Complaint::new("is not a duration", INSTEAD))
}

/// A duration as the configuration writes it, such as `1h30m`.
pub fn show_duration(duration: Duration) -> String {
    SpanPrinter::new()
        .designator(Designator::Compact)
        .spacing(Spacing::None)
        .unsigned_duration_to_string(&duration)
}

/// The units of sizes, larger first within each family, as they are shown.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

fn parse_size(value: &Value) -> Result<u64, Complaint> {
    const INSTEAD: &str = "write a text such as \"5 GiB\" or \"500 MB\"";
    let text = match value {
        Value::String(text) => text.trim(),
        Value::Integer(_) | Value::Float(_) => return Err(Complaint::new("has no unit", INSTEAD)),
        _ => return Err(Complaint::new("is not a size", INSTEAD)),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = (&text[..digits], text[digits..].trim());
    if unit.is_empty() && !number.is_empty() {
        return Err(Complaint::new("has no unit", INSTEAD));
    }
    let factor =
        SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor);
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| Complaint::new("is not a size in whole units", INSTEAD))
}

/// A size as the configuration writes it, such as `5 GiB`: exact, in the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    let fits = |&&(_, factor): &&(&str, u64)| bytes != 0 && bytes.is_multiple_of(factor);
    let (unit, factor) = SIZE_UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
    format!("{} {unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn durations_have_units() {
        let read = |text: &str| (DURATION.parse)(&written(text)).map(|duration| duration.as_millis());
        for (text, milliseconds) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2 minutes", 120_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(read(text), Ok(milliseconds), "{text}");
        }
        for text in ["", "10", "1.5", "soon", "-10s", "10s ago", "1month", "s", "9999999999999999h"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert_eq!((DURATION.parse)(&Value::from(10)).unwrap_err().why, "has no unit");
        assert_eq!(read("10").unwrap_err().why, "has no unit");
    }

    #[test]
    fn sizes_have_units() {
        let read = |text: &str| (SIZE.parse)(&written(text));
        for (text, bytes) in [
            ("5 GiB", 5 << 30),
            ("5GiB", 5 << 30),
            ("500 MB", 500_000_000),
            ("1 kB", 1000),
            ("1 KiB", 1024),
            ("0 B", 0),
            ("2 tib", 2 << 40),
        ] {
            assert_eq!(read(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "5",
            "GiB",
            "1.5 GiB",
            "-1 GB",
            "5 GiBB",
            "5 Gi B",
            "99999999999 TiB",
            "99999999999999999999 B",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert_eq!((SIZE.parse)(&Value::from(5)).unwrap_err().why, "has no unit");
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        // Seed 7, and the corners.
        let mut dice = fastrand::Rng::with_seed(7);
        let corners = [0, 1, 999, 1000, 1024, 1 << 30, 1 << 40, u64::MAX];
        for number in corners.into_iter().chain((0..1000).map(|_| dice.u64(..) >> dice.u32(..64))) {
            assert_eq!((SIZE.parse)(&written(&show_size(number))), Ok(number));
            let duration = Duration::from_millis(number % (1 << 40));
            assert_eq!((DURATION.parse)(&written(&show_duration(duration))), Ok(duration));
        }
    }

    #[test]
    fn numbers_and_switches_are_strict_about_their_type() {
        assert_eq!((whole::<u64>().parse)(&written("1_000")), Ok(1000));
        assert!((whole::<u64>().parse)(&Value::from(1.0)).is_err());
        assert!((whole::<u32>().parse)(&Value::from(-1)).is_err());
        assert!((whole::<u32>().parse)(&Value::from(1_i64 << 32)).is_err());
        assert_eq!((RATE.parse)(&Value::from(2)), Ok(2.0));
        assert!((RATE.parse)(&Value::from(f64::NAN)).is_err());
        assert!((RATE.parse)(&written("inf")).is_err());
        assert_eq!((SWITCH.parse)(&written("Off")), Ok(false));
        assert!((SWITCH.parse)(&Value::from(1)).is_err());
    }
}
