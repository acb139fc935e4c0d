//! What a process knows of itself while it works: what was counted and how long it took ([`Meter`]), and when each part
//! was last seen alive ([`Beat`]).
//!
//! All of it is written where a thing happens and read elsewhere, and nobody waits for it: no effect of klingd may
//! depend on whether somebody looks. It lives in memory alone; what must survive a restart (money) is in the database,
//! and read from there. Its times count from its beginning ([`Vitals::now`]), and judging them is pure.

mod beat;
mod meter;
mod page;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use self::beat::millis;
pub use self::{
    beat::{Beat, OnTheWire, Part, Sign, Stalled, Wire, stalled},
    meter::{Call, Download, File, Meter, Poll, Submit},
    page::{Census, page},
};

/// How often a part that waits shows a sign of life, when nobody wants it more often: the lanes look that often anyway.
const TURN_EVERY: Duration = Duration::from_secs(5);

/// The vital signs of one process.
#[derive(Debug)]
pub struct Vitals {
    /// What was counted.
    pub meter: Meter,
    /// Requests that may be paid and have no answer yet.
    pub wire: Wire,
    beats: [Beat; Part::ALL.len()],
    turn_every_ms: AtomicU64,
    began: Instant,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            meter: Meter::default(),
            wire: Wire::default(),
            beats: Part::ALL.map(Beat::new),
            turn_every_ms: AtomicU64::new(millis(TURN_EVERY)),
            began: Instant::now(),
        }
    }
}

impl Vitals {
    /// The time since this process began to look at itself: steady, whatever is done to the wall clock.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The beat of a part.
    pub fn beat(&self, part: Part) -> &Beat {
        // `ALL` is in the order of the variants; a test holds it.
        &self.beats[part as usize]
    }

    /// The signs of all parts.
    pub fn signs(&self) -> [Sign; Part::ALL.len()] {
        Part::ALL.map(|part| self.beat(part).sign())
    }

    /// How often a part that waits shows a sign of life.
    pub fn turn_every(&self) -> Duration {
        Duration::from_millis(self.turn_every_ms.load(Ordering::Relaxed))
    }

    /// Somebody wants signs at least this often.
    pub fn turn_at_least_every(&self, every: Duration) {
        self.turn_every_ms.fetch_min(millis(every).max(1), Ordering::Relaxed);
    }
}
