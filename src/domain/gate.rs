//! The gate: one for all submitters, durable. It decides how many submits may leave now.
//!
//! Two limits of the provider are not published: a rate, and a number of parallel tasks. A plain 429 closes the gate
//! for a while; one that speaks of parallel tasks lowers the number of slots.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{retry::Dice, time::Timestamp};

/// Waits after the first, second … refusal in a row without `Retry-After` (provider.md: one user needed ten minutes
/// of quiet). Scaled by `submit.cooldown` (2 s) and bounded by `submit.cooldown_max`.
const COOLDOWN_S: [u64; 8] = [2, 5, 15, 30, 60, 120, 300, 600];
/// The jitter of a cooldown, so that several boxes on one account do not knock together.
const COOLDOWN_JITTER: f64 = 0.1;
/// `Retry-After` counts in seconds: a shorter wish (0, a date that is past) asks for nothing, and obeyed to the letter
/// it would be a storm of probes. The cooldown holds instead.
const SHORTEST_WISH: Duration = Duration::from_secs(1);
/// A longer `Retry-After` becomes a visible hold.
pub const LONGEST_QUIET: Duration = Duration::from_secs(3600);
/// After a 429 about parallel tasks, the time until one slot more is tried; doubled each time it is refused again.
const CEILING_WAIT: Duration = Duration::from_secs(60);
/// The rarest try above a known ceiling.
const CEILING_WAIT_MAX: Duration = Duration::from_secs(6 * 3600);

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
    /// Nothing: the answer says nothing about limits.
    Nothing,
    /// It passed.
    Passed,
    /// 429 (or 503): too fast.
    TooFast {
        /// The provider's wish, if it gave one.
        retry_after: Option<Duration>,
    },
    /// 429 about parallel tasks.
    SlotsFull,
}

/// A number of parallel tasks at which the provider said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    /// That number.
    pub slots: u32,
    /// When one more may be tried.
    pub retry_at: Timestamp,
    /// The wait that led to `retry_at`, in ms.
    pub wait_ms: u64,
}

/// The gate's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gate {
    /// No submit leaves before.
    pub closed_until: Option<Timestamp>,
    /// Refusals in a row. While there are any, one probe at a time.
    pub strikes: u32,
    /// Tasks in flight that are tried; 0 = not yet decided (`start_in_flight`).
    pub slots: u32,
    /// The known ceiling.
    pub ceiling: Option<Ceiling>,
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
    /// How many submits may leave at `now`, with so many on the wire and so many tasks in flight (those on the wire
    /// included).
    pub fn admits(&self, on_the_wire: u32, in_flight: u32, policy: &GatePolicy, now: Timestamp) -> Admission {
        if let Some(until) = self.closed(now) {
            return Admission::ClosedUntil(until);
        }
        let free = self.slots(policy, now).saturating_sub(in_flight);
        let probing = self.strikes > 0;
        match free {
            0 => Admission::Full,
            _ if probing && on_the_wire > 0 => Admission::Full,
            _ if probing => Admission::Go(1),
            free => Admission::Go(free),
        }
    }

    /// The end of the quiet, while it lasts. A clock that jumped back must not close the gate for longer than any
    /// wish of the provider.
    fn closed(&self, now: Timestamp) -> Option<Timestamp> {
        self.closed_until.filter(|until| *until > now && until.since(now) <= LONGEST_QUIET)
    }

    /// When time alone, without any answer, admits more.
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ceiling = self.ceiling.map(|c| c.retry_at);
        [self.closed_until, ceiling].into_iter().flatten().filter(|t| *t > now).min()
    }

    fn slots(&self, policy: &GatePolicy, now: Timestamp) -> u32 {
        let slots = if self.slots == 0 { policy.start_in_flight } else { self.slots };
        let slots = match self.ceiling {
            Some(c) if now < c.retry_at => slots.min(c.slots),
            Some(c) => slots.max(c.slots.saturating_add(1)),
            None => slots,
        };
        slots.clamp(1, policy.max_in_flight.max(1))
    }

    /// The gate after an answer. `in_flight` counts the tasks besides the one that was answered.
    pub fn hear(
        self,
        news: GateNews,
        in_flight: u32,
        policy: &GatePolicy,
        now: Timestamp,
        dice: Dice,
    ) -> Gate {
        match news {
            GateNews::Nothing => self,
            GateNews::Passed => self.passed(in_flight, policy, now),
            GateNews::TooFast { retry_after } => {
                let closed = self.closed(now);
                // Requests that were out together meet the same limit: one strike, however many they were.
                let strikes =
                    if closed.is_some() { self.strikes.max(1) } else { self.strikes.saturating_add(1) };
                let wish = retry_after.filter(|wish| *wish >= SHORTEST_WISH);
                let wait = wish.unwrap_or_else(|| cooldown(strikes, policy, dice)).min(LONGEST_QUIET);
                // Answers overtake each other: the latest end holds.
                Gate { closed_until: closed.max(Some(now + wait)), strikes, ..self }
            }
            GateNews::SlotsFull => {
                let slots = in_flight.max(1);
                let wait_ms = match self.ceiling {
                    Some(c) if now >= c.retry_at => {
                        c.wait_ms.saturating_mul(2).min(CEILING_WAIT_MAX.as_millis() as u64)
                    }
                    Some(c) => c.wait_ms,
                    None => CEILING_WAIT.as_millis() as u64,
                };
                let retry_at = now + Duration::from_millis(wait_ms);
                // With nothing of ours in flight the slots are somebody else's: nothing of ours can end, so wait.
                let closed_until = if in_flight == 0 {
                    self.closed(now).max(Some(now + CEILING_WAIT))
                } else {
                    self.closed_until
                };
                Gate { closed_until, slots, ceiling: Some(Ceiling { slots, retry_at, wait_ms }), ..self }
            }
        }
    }

    fn passed(self, in_flight: u32, policy: &GatePolicy, now: Timestamp) -> Gate {
        let now_in_flight = in_flight.saturating_add(1);
        let slots = self.slots(policy, now);
        let ceiling = match self.ceiling {
            Some(c) if now_in_flight > c.slots => None,
            known => known,
        };
        // Full use of the slots without a refusal: one more, unless that number is known to be refused.
        let grown = if now_in_flight >= slots { slots.saturating_add(1) } else { slots };
        let slots = grown.clamp(1, policy.max_in_flight.max(1));
        // What passed before a refusal that overtook it says nothing about the quiet asked for since.
        match self.closed(now) {
            Some(_) => Gate { slots, ceiling, ..self },
            None => Gate { closed_until: None, strikes: 0, slots, ceiling },
        }
    }
}

fn cooldown(strikes: u32, policy: &GatePolicy, dice: Dice) -> Duration {
    let step = usize::try_from(strikes.saturating_sub(1)).unwrap_or(usize::MAX).min(COOLDOWN_S.len() - 1);
    let [first, ..] = COOLDOWN_S;
    let factor = COOLDOWN_S.get(step).copied().unwrap_or(first) as f64 / first as f64;
    dice.around(policy.cooldown.mul_f64(factor).min(policy.cooldown_max), COOLDOWN_JITTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: GatePolicy = GatePolicy {
        start_in_flight: 3,
        max_in_flight: 20,
        cooldown: Duration::from_secs(2),
        cooldown_max: Duration::from_secs(600),
    };
    const T0: Timestamp = Timestamp::from_millis(1_000_000_000_000);
    const MID: f64 = 0.5;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn too_fast(gate: Gate, retry_after: Option<u64>, now: Timestamp) -> Gate {
        gate.hear(GateNews::TooFast { retry_after: retry_after.map(secs) }, 1, &POLICY, now, Dice::new(MID))
    }

    #[test]
    fn retry_after_is_obeyed_in_full_then_one_probe() {
        let gate = too_fast(Gate::default(), Some(30), T0);
        assert_eq!(gate.admits(0, 1, &POLICY, T0 + secs(29)), Admission::ClosedUntil(T0 + secs(30)));
        assert_eq!(gate.admits(0, 1, &POLICY, T0 + secs(30)), Admission::Go(1));
        assert_eq!(gate.admits(1, 2, &POLICY, T0 + secs(30)), Admission::Full, "the probe is on the wire");
        let open = gate.hear(GateNews::Passed, 1, &POLICY, T0 + secs(31), Dice::new(MID));
        assert_eq!(open.admits(0, 1, &POLICY, T0 + secs(31)), Admission::Go(2));
    }

    #[test]
    fn without_retry_after_it_waits_longer_each_time() {
        let mut gate = Gate::default();
        let mut now = T0;
        for expected in [2, 5, 15, 30, 60, 120, 300, 600, 600] {
            gate = too_fast(gate, None, now);
            let until = gate.closed_until.unwrap();
            assert_eq!(until.since(now).as_secs_f64().round(), f64::from(expected));
            now = until;
        }
    }

    #[test]
    fn a_later_answer_never_shortens_the_quiet() {
        let gate = too_fast(Gate::default(), Some(100), T0);
        for news in [
            GateNews::TooFast { retry_after: Some(secs(1)) },
            GateNews::SlotsFull,
            GateNews::Passed,
            GateNews::Nothing,
        ] {
            let later = gate.hear(news, 0, &POLICY, T0 + secs(1), Dice::new(MID));
            assert_eq!(later.closed_until, Some(T0 + secs(100)), "{news:?}");
            assert_eq!(
                later.admits(0, 0, &POLICY, T0 + secs(100)),
                Admission::Go(1),
                "{news:?}: first one probe"
            );
        }
    }

    #[test]
    fn a_burst_of_refusals_is_one_strike() {
        let once = too_fast(Gate::default(), None, T0);
        assert_eq!((0..20).fold(Gate::default(), |gate, _| too_fast(gate, None, T0)), once);
    }

    #[test]
    fn a_wish_for_no_time_at_all_is_none() {
        assert_eq!(too_fast(Gate::default(), Some(0), T0), too_fast(Gate::default(), None, T0));
    }

    #[test]
    fn a_probe_needs_a_free_slot_too() {
        let gate = too_fast(Gate::default(), Some(1), T0);
        assert_eq!(gate.admits(0, POLICY.max_in_flight, &POLICY, T0 + secs(1)), Admission::Full);
    }

    #[test]
    fn a_clock_that_jumped_back_does_not_close_it_for_days() {
        let gate = too_fast(Gate::default(), Some(10), T0 + secs(86_400));
        assert_eq!(gate.admits(0, 0, &POLICY, T0), Admission::Go(1));
    }

    #[test]
    fn slots_grow_with_success_and_stop_at_the_ceiling() {
        let mut gate = Gate::default();
        for in_flight in 0..8 {
            gate = gate.hear(GateNews::Passed, in_flight, &POLICY, T0, Dice::new(MID));
        }
        assert_eq!(gate.admits(0, 8, &POLICY, T0), Admission::Go(1));
        let full = gate.hear(GateNews::SlotsFull, 8, &POLICY, T0, Dice::new(MID));
        assert_eq!(full.admits(0, 8, &POLICY, T0), Admission::Full);
        assert_eq!(full.admits(0, 7, &POLICY, T0), Admission::Go(1), "one of our own ended");
        assert_eq!(full.admits(0, 8, &POLICY, T0 + secs(60)), Admission::Go(1), "or a minute passed");
        let again = full.hear(GateNews::SlotsFull, 8, &POLICY, T0 + secs(60), Dice::new(MID));
        assert_eq!(again.admits(0, 8, &POLICY, T0 + secs(179)), Admission::Full, "ever more rarely");
    }

    #[test]
    fn full_slots_with_nothing_of_ours_in_flight_wait_a_minute() {
        let gate = Gate::default().hear(GateNews::SlotsFull, 0, &POLICY, T0, Dice::new(MID));
        assert_eq!(gate.admits(0, 0, &POLICY, T0 + secs(59)), Admission::ClosedUntil(T0 + secs(60)));
    }
}
