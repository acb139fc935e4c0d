//! The gate: one for all submitters, durable. It decides how many submits may leave now.
//!
//! Two limits of the provider are not published: a rate, and a number of parallel tasks. A plain 429 closes the gate
//! for a while, and what is known of the rate paces what leaves after it ([`rate`]); one that speaks of parallel tasks
//! lowers the number of slots ([`slots`]). Where nobody answers, or something in front of the provider does, it closes too:
//! ten minutes of a broken proxy would else put a thousand jobs in doubt, each counted as spent until a person has looked,
//! and a weekend without a network would leave a million tries on record. One probe at a time finds out when it is over.

pub mod rate;
pub mod slots;

#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::{rate::Rate, slots::Ceiling};
use super::{
    retry::Dice,
    time::{CLOCK_STEP, Timestamp},
};

/// Waits after the first, second … refusal in a row without `Retry-After` (provider.md: one user needed ten minutes
/// of quiet). Scaled by `submit.cooldown` (2 s) and bounded by `submit.cooldown_max`.
const COOLDOWN_S: [u64; 8] = [2, 5, 15, 30, 60, 120, 300, 600];
/// The jitter of a cooldown, so that several boxes on one account do not knock together.
const COOLDOWN_JITTER: f64 = 0.1;
/// `Retry-After` counts in seconds: a shorter wish (0, a date that is past) asks for nothing, and obeyed to the letter
/// it would be a storm of probes. The cooldown holds instead.
pub const SHORTEST_WISH: Duration = Duration::from_secs(1);
/// A quiet lasts at least until the known rate grants so many: one for the probe, and one in which a debt for the refused
/// call is paid off.
const PROBE_ROOM: f64 = 2.0;
/// A longer `Retry-After` becomes a visible hold. `submit.cooldown_max` is bounded by the same hour.
pub const LONGEST_QUIET: Duration = Duration::from_secs(3600);

/// The part of the configuration that the gate obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatePolicy {
    /// Tasks in flight before anything is known.
    pub start_in_flight: u32,
    /// Tasks in flight at most.
    pub max_in_flight: u32,
    /// The first cooldown; the others keep their proportion to it.
    pub cooldown: Duration,
    /// The longest cooldown.
    pub cooldown_max: Duration,
}

/// What a submit's answer says to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateNews {
    /// Nothing: it says neither that the provider answers nor that it does not.
    Nothing,
    /// The provider answered, and said nothing about limits.
    Answered,
    /// It passed.
    Passed,
    /// 429 (or 503): too fast.
    TooFast,
    /// 429 about parallel tasks.
    SlotsFull,
    /// Nobody knows what became of it, or it could not even be sent: a lost answer, a 5xx, no network.
    Outage,
}

/// What holds the provider's slots, or may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flight {
    /// Submits that are not answered yet.
    pub on_the_wire: u32,
    /// Tasks that were accepted and have not ended.
    pub tasks: u32,
}

impl Flight {
    /// Both.
    pub fn all(self) -> u32 {
        self.on_the_wire.saturating_add(self.tasks)
    }
}

/// The gate's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gate {
    /// No submit leaves before.
    pub closed_until: Option<Timestamp>,
    /// Refusals in a row. While there are any, one probe at a time.
    pub strikes: u32,
    /// Outages in a row, paced as refusals are. They say nothing about the rate.
    pub outages: u32,
    /// Tasks in flight that are tried; 0 = not yet decided (`start_in_flight`).
    pub slots: u32,
    /// The known ceiling.
    pub ceiling: Option<Ceiling>,
    /// What is known of the rate; `None` until a first refusal: an unknown limit costs nothing.
    pub rate: Option<Rate>,
}

/// How many may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// So many, at least one.
    Go(u32),
    /// None before this time.
    ClosedUntil(Timestamp),
    /// None until a task ends or a probe is answered.
    Full,
}

impl Gate {
    /// How many submits may leave at `now`. Whoever lets them go tells the gate how many went ([`Gate::take`]).
    pub fn admits(&self, flight: Flight, policy: &GatePolicy, now: Timestamp) -> Admission {
        if let Some(until) = self.closed(now) {
            return Admission::ClosedUntil(until);
        }
        let room = self.room(flight, policy, now);
        let probing = self.is_probing();
        if room == 0 || (probing && flight.on_the_wire > 0) {
            return Admission::Full;
        }
        match self.rate {
            _ if probing => Admission::Go(1),
            None => Admission::Go(room),
            Some(rate) => match rate.ready(now) {
                Ok(ready) => Admission::Go(ready.min(room)),
                Err(at) => Admission::ClosedUntil(at),
            },
        }
    }

    fn is_probing(&self) -> bool {
        self.strikes > 0 || self.outages > 0
    }

    /// The gate after `n` submits left; the same as before while no rate is known.
    pub fn take(self, n: u32, now: Timestamp) -> Gate {
        Gate { rate: self.rate.map(|rate| rate.take(n, now)), ..self }
    }

    /// The end of the quiet, while it lasts. A clock that was set right does not end it, and one that jumped back by days
    /// does not make it last for days.
    pub fn closed(&self, now: Timestamp) -> Option<Timestamp> {
        self.closed_until.filter(|until| *until > now && until.since(now) <= LONGEST_QUIET + CLOCK_STEP)
    }

    /// When time alone, without any answer, admits more.
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ceiling = self.ceiling.map(|c| c.retry_at);
        [self.closed(now), ceiling].into_iter().flatten().filter(|t| *t > now).min()
    }

    /// The gate after an answer and the `Retry-After` that came with it, whatever else it said. `flight` counts what is in
    /// flight besides the submit that was answered.
    pub fn hear(
        self,
        news: GateNews,
        wish: Option<Duration>,
        flight: Flight,
        policy: &GatePolicy,
        now: Timestamp,
        dice: Dice,
    ) -> Gate {
        let wish = wish.filter(|wish| *wish >= SHORTEST_WISH);
        // Who answers while the gate is closed was asked before it closed.
        let over = self.closed(now).is_none();
        let reached = Gate { outages: if over { 0 } else { self.outages }, ..self };
        let heard = match news {
            GateNews::Nothing => self,
            GateNews::Answered => reached,
            GateNews::Outage => self.unanswered(policy, now, dice),
            GateNews::Passed => self.passed(flight, policy, now),
            GateNews::TooFast => reached.refused(wish, policy, now, dice),
            GateNews::SlotsFull => {
                let full = reached.slot_refused(flight, now);
                // With nothing of ours in flight the slots are somebody else's: nothing of ours can end, so wait.
                let closed_until = if flight.all() == 0 {
                    self.closed(now).max(Some(now + slots::CEILING_WAIT))
                } else {
                    self.closed_until
                };
                Gate { closed_until, ..full }
            }
        };
        match wish {
            Some(wish) => {
                let closed_until = heard.closed(now).max(Some(now + wish.min(LONGEST_QUIET)));
                Gate { closed_until, ..heard }
            }
            None => heard,
        }
    }

    fn refused(self, wish: Option<Duration>, policy: &GatePolicy, now: Timestamp, dice: Dice) -> Gate {
        let closed = self.closed(now);
        let strikes = self.one_more(self.strikes, now);
        let refilled =
            self.rate.map_or(Duration::ZERO, |rate| rate.time_for(PROBE_ROOM)).min(policy.cooldown_max);
        let wait = wish.unwrap_or_else(|| cooldown(strikes, policy, dice)).max(refilled).min(LONGEST_QUIET);
        // Answers overtake each other: the latest end holds.
        let closed_until = closed.max(Some(now + wait));
        let rate = match self.rate {
            None => Some(Rate::first(policy.cooldown, now)),
            // Only the first of a row says that the rate was too high; a probe, that the quiet was too short.
            Some(rate) if strikes == 1 && closed.is_none() => {
                Some(rate.refuse(now, closed_until.unwrap_or(now)))
            }
            known => known.map(|rate| rate.refused_again(now)),
        };
        Gate { closed_until, strikes, rate, ..self }
    }

    /// Requests that were out together meet the same limit: one strike, however many they were.
    fn one_more(&self, in_a_row: u32, now: Timestamp) -> u32 {
        if self.closed(now).is_some() { in_a_row.max(1) } else { in_a_row.saturating_add(1) }
    }

    fn unanswered(self, policy: &GatePolicy, now: Timestamp, dice: Dice) -> Gate {
        let outages = self.one_more(self.outages, now);
        let wait = cooldown(outages, policy, dice).min(LONGEST_QUIET);
        Gate { closed_until: self.closed(now).max(Some(now + wait)), outages, ..self }
    }

    fn passed(self, flight: Flight, policy: &GatePolicy, now: Timestamp) -> Gate {
        let rate = self.rate.and_then(|rate| rate.pass(now));
        let gate = Gate { rate, ..self.slot_passed(flight, policy, now) };
        // What passed before a refusal that overtook it says nothing about the quiet asked for since.
        match self.closed(now) {
            Some(_) => gate,
            None if self.is_probing() => {
                let rate = gate.rate.map(|rate| rate.reopen(now));
                Gate { closed_until: None, strikes: 0, outages: 0, rate, ..gate }
            }
            None => Gate { closed_until: None, ..gate },
        }
    }
}

fn cooldown(strikes: u32, policy: &GatePolicy, dice: Dice) -> Duration {
    let step = usize::try_from(strikes.saturating_sub(1)).unwrap_or(usize::MAX).min(COOLDOWN_S.len() - 1);
    let [first, ..] = COOLDOWN_S;
    let factor = COOLDOWN_S.get(step).copied().unwrap_or(first) as f64 / first as f64;
    dice.around(policy.cooldown.mul_f64(factor).min(policy.cooldown_max), COOLDOWN_JITTER)
}
