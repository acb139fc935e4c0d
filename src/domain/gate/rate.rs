//! The learned rate: a paced token bucket whose rate is estimated between refusals.
//!
//! Until a first 429 nothing is paced. From then on submits leave one by one, at a rate that follows the cubic of RFC
//! 9438 (CUBIC, here counted in passed submits instead of seconds): it starts a little below the limit that is believed
//! in, so that the provider's own bucket fills up and forgives jitter; it stays near the limit for most of the time; and
//! the longer nothing is refused, the faster it climbs, so that a limit that was raised is found. What is believed comes
//! from the refusals: the provider's bucket is empty at each of them, so what passed between two is what it grants in
//! that time (a refusal too early for that counts as a step down, one after a long climb undoes what the climb overran).
//! How slowly the rate climbs is the `stretch`: it triples with every refusal that came where it was expected (there is
//! nothing to find), and halves with one that came at once (the limit has fallen). `benches/gate` measures all of it; the
//! constants were tuned there, for limits of 0.5 to 10 a second with bursts of 1 and 5.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::time::Timestamp;

/// The first guess: so many in a first cooldown (2 s). Ten a second are then found within twenty submits, half of one
/// within three refusals.
const FIRST_GUESS: f64 = 4.0;
/// The slowest: one in ten minutes, the longest quiet that anybody was seen to need.
const SLOWEST: f64 = 1.0 / 600.0;
/// A rate that nobody can use up (64 workers with answers after 0.3 s make 213 a second) is no limit: it is forgotten.
const FASTEST: f64 = 200.0;
/// The shortest stretch: a dozen submits are enough to see that a first guess is far too low.
const SHORTEST_STRETCH: f64 = 10.0;
/// The longest stretch, in submits: a refusal then comes about every 170, well below one in a hundred, and a doubled
/// limit of one in two seconds is still found in ten minutes.
const LONGEST_STRETCH: f64 = 200.0;
/// And so many seconds' worth of submits on top: at high rates it is the quiet after a refusal that costs.
const LONGEST_STRETCH_S: f64 = 50.0;
/// The stretch after a refusal where one was expected: a limit is as good as known after three of them.
const GROW: f64 = 3.0;
/// The stretch after a refusal at once: the limit is looked for anew, but not from the beginning.
const SHRINK: f64 = 0.5;
/// By how much the rate falls below the limit after a refusal: until it is there again the provider's bucket gets back
/// about a submit, and forgives jitter.
const STEP_BACK: f64 = 0.05;
/// Passed submits that make an estimate: with fewer, one more or less counts too much.
const ENOUGH: u32 = 8;
/// The rate after a refusal that came at once: a limit that was halved is reached after three or four.
const FALL: f64 = 0.8;
/// A refusal this early in the stretch came at once.
const AT_ONCE: f64 = 0.2;
/// A climb by more than this says that the limit was believed too low; the average of the climb is too low as well.
const CLIMBED: f64 = 1.1;
/// The burst of the provider's bucket. Nobody knows it: one is common, five too, and two lose little with both.
const USUAL_BURST: f64 = 2.0;
/// Lateness of our own that is made up, besides half a submit: what a slow commit may take.
const LATENESS: Duration = Duration::from_millis(100);

/// Without a refusal for so long the rate is forgotten: limits are raised, accounts are upgraded, and whoever submits a
/// few jobs a day would climb from one in ten minutes for weeks. One more refusal is what it costs to be wrong.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What is known of the provider's rate. Whole numbers, so that it reads back from JSON as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// The limit that is believed in, in submits per 1,000,000 s.
    limit: u64,
    /// In how many passed submits the rate doubles once it is past the limit.
    stretch: u32,
    /// Submits that passed since the last refusal.
    passed: u32,
    /// When the last refusal was heard; `None` when what passed since tells nothing, since nobody waited for a while.
    since: Option<Timestamp>,
    /// When the last refusal was heard, whatever it told.
    refused_at: Timestamp,
    /// Thousandths of a submit that may leave.
    tokens: u64,
    /// When they were counted.
    counted_at: Timestamp,
}

impl Default for Rate {
    fn default() -> Self {
        Self::first(Duration::from_secs(2), Timestamp::from_millis(0))
    }
}

impl Rate {
    /// What is believed after the first refusal.
    pub(super) fn first(cooldown: Duration, now: Timestamp) -> Self {
        let limit = (FIRST_GUESS / cooldown.as_secs_f64()).clamp(SLOWEST, FASTEST / 2.0);
        Self {
            limit: whole(limit * 1e6),
            stretch: SHORTEST_STRETCH as u32,
            passed: 0,
            since: Some(now),
            refused_at: now,
            tokens: 0,
            counted_at: now,
        }
    }

    /// Submits a second.
    pub fn per_second(&self) -> f64 {
        let beyond = (f64::from(self.passed) - self.plateau()) / self.stretch();
        self.limit() * (1.0 + beyond.powi(3))
    }

    /// How many may leave now; none: when one may.
    pub(super) fn ready(&self, now: Timestamp) -> Result<u32, Timestamp> {
        let tokens = self.tokens_at(now);
        if tokens >= 1.0 {
            return Ok(tokens as u32);
        }
        let wait = Duration::from_secs_f64((1.0 - tokens) / self.per_second());
        // Rounded up: a token that is a fraction of a millisecond away is not there.
        Err(now + wait + Duration::from_millis(1))
    }

    /// After so many have left.
    pub(super) fn take(self, n: u32, now: Timestamp) -> Self {
        let had = self.tokens_at(now);
        let tokens = whole((had - f64::from(n)).max(0.0) * 1000.0);
        let taken = Self { tokens, counted_at: now, ..self };
        if had >= self.capacity() {
            // Nobody waited: what passes proves nothing about the limit, and the climb begins again at the limit.
            let plateau = self.plateau() as u32;
            return Self { passed: self.passed.min(plateau), since: None, ..taken };
        }
        taken
    }

    /// A submit passed; `None` when the rate is forgotten.
    pub(super) fn pass(self, now: Timestamp) -> Option<Self> {
        let passed = Self { passed: self.passed.saturating_add(1), ..self };
        let known = passed.per_second() <= FASTEST && now.since(self.refused_at) < FORGOTTEN_AFTER;
        known.then_some(passed)
    }

    /// Believes in no limit above `per_second`: faster than that nobody asks.
    pub(in crate::domain) fn at_most(self, per_second: f64) -> Self {
        Self { limit: self.limit.min(whole(per_second * 1e6)), ..self }
    }

    /// The first submit after a quiet passed: the others follow it one by one.
    pub(super) fn reopen(self, now: Timestamp) -> Self {
        Self { tokens: whole(self.tokens_at(now).min(1.0) * 1000.0), counted_at: now, ..self }
    }

    /// A submit was refused, and nothing leaves before `opens`.
    pub(super) fn refuse(self, now: Timestamp, opens: Timestamp) -> Self {
        let (rate, stretch) = (self.per_second(), self.stretch());
        let at_once = self.passed < ENOUGH && f64::from(self.passed) < stretch * AT_ONCE;
        // How far the climb had run past the limit before it was told.
        let run_back = rate / (1.0 + (4.0 * USUAL_BURST / stretch).powf(0.75));
        let limit = match self.since {
            Some(since) if self.passed >= ENOUGH && now > since => {
                let granted = f64::from(self.passed) / now.since(since).as_secs_f64();
                // A clock that jumped must not make the limit nothing.
                let granted = granted.clamp(rate / 2.0, rate);
                if rate > CLIMBED * self.limit() { granted.max(run_back) } else { granted }
            }
            Some(_) | None if at_once => run_back.min(rate * FALL),
            Some(_) | None => run_back,
        };
        let limit = limit.clamp(SLOWEST, FASTEST);
        let longest = LONGEST_STRETCH + LONGEST_STRETCH_S * limit;
        let stretch = if at_once { stretch * SHRINK } else { stretch * GROW };
        Self {
            limit: whole(limit * 1e6),
            stretch: stretch.clamp(SHORTEST_STRETCH, longest) as u32,
            passed: 0,
            // What the provider's bucket could not hold during the quiet was not granted.
            since: Some(now.max(opens - Duration::from_secs_f64(USUAL_BURST / limit))),
            refused_at: now,
            tokens: 0,
            counted_at: opens,
        }
    }

    /// A refusal was heard that says nothing new of the rate.
    pub(super) fn refused_again(self, now: Timestamp) -> Self {
        Self { refused_at: now, ..self }
    }

    /// The time in which so many may leave: a quiet that is shorter is over before the provider has room for a probe.
    pub(super) fn time_for(&self, n: f64) -> Duration {
        Duration::from_secs_f64(n / self.limit())
    }

    fn limit(&self) -> f64 {
        (self.limit as f64 / 1e6).clamp(SLOWEST, FASTEST)
    }

    fn stretch(&self) -> f64 {
        f64::from(self.stretch).max(SHORTEST_STRETCH)
    }

    /// The number of passed submits at which the rate is at the limit again.
    fn plateau(&self) -> f64 {
        self.stretch() * STEP_BACK.cbrt()
    }

    fn capacity(&self) -> f64 {
        1.5 + LATENESS.as_secs_f64() * self.per_second()
    }

    /// A clock that went back behind the last count gives one submit: stuck until it has caught up would be worse.
    fn tokens_at(&self, now: Timestamp) -> f64 {
        if now < self.counted_at {
            return 1.0;
        }
        let grown = now.since(self.counted_at).as_secs_f64() * self.per_second();
        (self.tokens as f64 / 1000.0 + grown).min(self.capacity())
    }
}

/// Rounded down; negative and absurd values are pulled into the range.
fn whole(x: f64) -> u64 {
    x as u64
}
