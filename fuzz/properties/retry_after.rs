//! Any `Retry-After` and `Date` at any time: no panic, a bounded wait, the same for both calls, and no longer for who asks
//! later.
//!
//! The lines of the input are our time in ms, `Retry-After`, and `Date`; the latter two are absent with their lines.

use std::time::Duration;

use jiff::fmt::rfc2822;

use super::parts::line;
use crate::{
    domain::{Timestamp, evidence::Evidence, plan::poll::PollAnswer, state::TaskId},
    provider::classify,
};

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const HOUR: Duration = Duration::from_secs(3600);

pub fn check(bytes: &[u8]) {
    let (now, rest) = line(bytes);
    let now: i64 = std::str::from_utf8(now).ok().and_then(|now| now.parse().ok()).unwrap_or_default();
    let mut headers = Vec::new();
    let mut rest = rest;
    for name in ["retry-after", "date"] {
        if !rest.is_empty() {
            let (value, after) = line(rest);
            headers.push((name.to_owned(), String::from_utf8_lossy(value).into_owned()));
            rest = after;
        }
    }
    let at = |now| {
        let evidence = Evidence { headers: headers.clone(), ..Evidence::default() };
        classify::wish(&evidence, Timestamp::from_millis(now))
    };
    let wish = at(now);
    let task = TaskId::parse("n75abc123kling3").expect("it is one");
    let (PollAnswer::RateLimited { retry_after: at_status }, _) = classify::status(429, &headers, "", &task)
    else {
        panic!("a 429 is a 429");
    };
    let asked = headers.first().map(|(_, value)| value.trim());
    let dated = headers.get(1).map(|(_, value)| value.trim());

    assert!(wish.is_none_or(|wish| wish <= YEAR), "{wish:?}");
    let seconds = asked.filter(|asked| !asked.is_empty() && asked.chars().all(|c| c.is_ascii_digit()));
    if let Some(seconds) = seconds {
        let seconds = Duration::from_secs(seconds.parse().unwrap_or(u64::MAX)).min(YEAR);
        assert_eq!((wish, at_status), (Some(seconds), Some(seconds)), "seconds need no clock");
    }
    if asked.is_none() {
        assert_eq!((wish, at_status), (None, None), "nobody asked");
    }
    if at_status.is_some() {
        assert_eq!(at_status, wish, "a wish that needs no clock of ours is the same for both");
    } else if let Some(wish) = wish {
        assert!(wish <= HOUR, "our clock may be wrong: {wish:?}");
        let (later, earlier) = (at(now.saturating_add(1500)), at(now.saturating_sub(1500)));
        assert!(later <= Some(wish) && Some(wish) <= earlier, "{earlier:?} {wish:?} {later:?}");
    }
    // Another reader of dates, which knows more forms: where both know one, they mean the same.
    let jiffs = |text: &str| rfc2822::parse(text).ok().filter(|_| text.ends_with("GMT"));
    if let (Some(wish), Some(until), Some(from)) = (at_status, asked.and_then(jiffs), dated.and_then(jiffs)) {
        let apart = until.timestamp().duration_since(from.timestamp());
        assert_eq!(wish, Duration::try_from(apart).unwrap_or_default().min(YEAR));
    }
}
