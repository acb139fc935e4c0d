//! The only place that asks the operating system for time or randomness. Everything else gets `now` and dice as
//! arguments.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::domain::{Timestamp, retry::Dice};

/// The system's clock and dice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Now.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn now(self) -> Timestamp {
        jiff::Timestamp::now().into()
    }

    /// A draw.
    pub fn dice(self) -> Dice {
        Dice::new(fastrand::f64())
    }

    /// A random number, for names that nobody else has.
    pub fn number(self) -> u64 {
        fastrand::u64(..)
    }

    /// The time since somebody first asked for it: steady, whatever is done to the wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn steady(self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    /// The start of `now`'s day by the system's time zone: budgets and dates in file names are local.
    pub fn day_start(self, now: Timestamp) -> Timestamp {
        local(now).start_of_day().map_or(now, |day| day.timestamp().into())
    }

    /// Waits until `t`, or for `at_most`, whichever is sooner: a clock that jumps never makes a worker wait for days.
    pub async fn sleep_until(self, t: Option<Timestamp>, at_most: Duration) {
        let wait = t.map_or(at_most, |t| t.since(self.now()).min(at_most));
        tokio::time::sleep(wait).await;
    }
}

/// `t` on the wall clock of this machine.
pub fn local(t: Timestamp) -> jiff::Zoned {
    let utc = jiff::Timestamp::from_millisecond(t.as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    utc.to_zoned(jiff::tz::TimeZone::system())
}

/// `t` on the wall clock of `zone`: the hour alone when it is today, else with the day.
pub fn wall(t: Timestamp, now: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    let zoned =
        |t: Timestamp| jiff::Timestamp::from_millisecond(t.as_millis()).map(|t| t.to_zoned(zone.clone()));
    let (Ok(then), Ok(today)) = (zoned(t), zoned(now)) else { return t.to_string() };
    let format = if then.date() == today.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    then.strftime(format).to_string()
}
