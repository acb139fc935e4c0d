//! The number of parallel tasks: tried upwards while nothing is refused, up to a ceiling once something was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{super::time::Timestamp, Flight, Gate, GatePolicy};

/// After a 429 about parallel tasks, the time until one slot more is tried; doubled each time it is refused again.
pub(super) const CEILING_WAIT: Duration = Duration::from_secs(60);
/// The rarest try above a known ceiling.
const CEILING_WAIT_MAX: Duration = Duration::from_secs(6 * 3600);

/// A number of parallel tasks beyond which the provider said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    /// That number.
    pub slots: u32,
    /// When one more may be tried.
    pub retry_at: Timestamp,
    /// The wait that led to `retry_at`, in ms.
    pub wait_ms: u64,
}

impl Ceiling {
    /// Whether one more may be tried. A clock that went back does not make the wait longer than it was.
    fn is_due(&self, now: Timestamp) -> bool {
        self.retry_at.since(now).as_millis() > u128::from(self.wait_ms) || self.retry_at <= now
    }
}

impl Gate {
    /// How many more tasks the slots have room for.
    pub(super) fn room(&self, flight: Flight, policy: &GatePolicy, now: Timestamp) -> u32 {
        let most = policy.max_in_flight.max(1);
        let free = self.slots(policy).saturating_sub(flight.all());
        match self.ceiling {
            // One alone goes above the ceiling, when all below it are taken: whatever is refused then was refused there.
            Some(c) if free == 0 && c.is_due(now) && flight.all() <= c.slots && flight.all() < most => 1,
            Some(_) | None => free,
        }
    }

    /// The tasks in flight that are tried, a try above the ceiling not counted.
    pub fn slots(&self, policy: &GatePolicy) -> u32 {
        let slots = if self.slots == 0 { policy.start_in_flight } else { self.slots };
        let slots = self.ceiling.map_or(slots, |c| slots.min(c.slots));
        slots.clamp(1, policy.max_in_flight.max(1))
    }

    /// A submit became a task. `flight` is what is in flight besides it.
    pub(super) fn slot_passed(self, flight: Flight, policy: &GatePolicy, now: Timestamp) -> Self {
        // What is still on the wire may be refused: only accepted tasks prove that there are so many slots.
        let tasks = flight.tasks.saturating_add(1);
        let ceiling = match self.ceiling {
            // One more than was known: the next is tried at once, for there may be many.
            Some(c) if tasks > c.slots => {
                let wait_ms = CEILING_WAIT.as_millis() as u64;
                Some(Ceiling { slots: tasks, retry_at: now, wait_ms })
            }
            known => known,
        };
        let slots = self.slots(policy);
        // Full use of the slots without a refusal: one more.
        let grown = if flight.all() >= slots.saturating_sub(1) { slots.saturating_add(1) } else { slots };
        let grown = ceiling.map_or(grown, |c| grown.min(c.slots));
        Gate { slots: grown.clamp(1, policy.max_in_flight.max(1)), ceiling, ..self }
    }

    /// A submit was refused for want of a slot. `flight` is what is in flight besides it.
    pub(super) fn slot_refused(self, flight: Flight, now: Timestamp) -> Self {
        let slots = flight.all().max(1);
        let wait_ms = match self.ceiling {
            Some(c) if c.is_due(now) => c.wait_ms.saturating_mul(2).min(CEILING_WAIT_MAX.as_millis() as u64),
            Some(c) => c.wait_ms,
            None => CEILING_WAIT.as_millis() as u64,
        };
        let retry_at = now + Duration::from_millis(wait_ms);
        Gate { slots, ceiling: Some(Ceiling { slots, retry_at, wait_ms }), ..self }
    }
}
