//! When each part was last seen alive, and whether that is too long ago. Times are [`Vitals::now`](super::Vitals::now).

use std::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// A time that no steady clock reaches: of a part that has nothing to show, and of steps that have no end.
const NEVER: u64 = u64::MAX;

/// What shows signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its name")]
pub enum Part {
    Writer,
    Inbox,
    Submit,
    Poll,
    Download,
    Errand,
    Hook,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 7] =
        [Part::Writer, Part::Inbox, Part::Submit, Part::Poll, Part::Download, Part::Errand, Part::Hook];

    /// Its name in logs and errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Part::Writer => "writer",
            Part::Inbox => "inbox",
            Part::Submit => "submit lane",
            Part::Poll => "poll lane",
            Part::Download => "download lane",
            Part::Errand => "errand lane",
            Part::Hook => "hook lane",
        }
    }
}

impl Part {
    /// Whether klingd is to be started again when it hangs. The watched folder is often on a share, and a share that hangs
    /// would hang for the next process, too; hooks are other people's programs: what is paid for is looked after meanwhile.
    pub const fn is_vital(self) -> bool {
        match self {
            Part::Writer | Part::Submit | Part::Poll | Part::Download | Part::Errand => true,
            Part::Inbox | Part::Hook => false,
        }
    }
}

/// When a part was last seen alive.
#[derive(Debug)]
pub struct Beat {
    part: Part,
    turned_ms: AtomicU64,
    due_ms: AtomicU64,
}

impl Beat {
    pub(super) fn new(part: Part) -> Self {
        Self { part, turned_ms: AtomicU64::new(NEVER), due_ms: AtomicU64::new(NEVER) }
    }

    /// It is alive, and will say so again soon. `due` is when the first of the steps it has in hand must have ended.
    pub fn turn(&self, now: Duration, due: Option<Duration>) {
        self.due_ms.store(due.map_or(NEVER, millis), Ordering::Relaxed);
        self.turned_ms.store(millis(now), Ordering::Relaxed);
    }

    /// It has nothing to do until somebody comes, or has ended: no sign of it is no bad sign.
    pub fn rest(&self) {
        self.due_ms.store(NEVER, Ordering::Relaxed);
        self.turned_ms.store(NEVER, Ordering::Relaxed);
    }

    pub(super) fn sign(&self) -> Sign {
        let read = |ms: &AtomicU64| match ms.load(Ordering::Relaxed) {
            NEVER => None,
            ms => Some(Duration::from_millis(ms)),
        };
        Sign { part: self.part, turned: read(&self.turned_ms), due: read(&self.due_ms) }
    }
}

/// What was seen of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Which.
    pub part: Part,
    /// When it was seen last; `None` while it rests.
    pub turned: Option<Duration>,
    /// When the first of its steps must have ended.
    pub due: Option<Duration>,
}

/// A part that does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Which.
    pub part: Part,
    /// For how long.
    pub since: Duration,
    /// Whether it is one of its steps, and not its loop.
    pub in_a_step: bool,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, seconds) = (self.part.as_str(), self.since.as_secs());
        match self.in_a_step {
            true => write!(f, "a step of the {part} should have ended {seconds} s ago"),
            false => write!(f, "the {part} has not moved for {seconds} s"),
        }
    }
}

/// Who has not been seen for longer than `patience`, or has a step in hand that must have ended by `now`.
pub fn stalled(signs: &[Sign], now: Duration, patience: Duration) -> Vec<Stalled> {
    let judge = |sign: &Sign| {
        let unseen = sign.turned.map(|turned| now.saturating_sub(turned)).filter(|since| *since > patience);
        let overdue = sign.due.and_then(|due| now.checked_sub(due)).filter(|since| !since.is_zero());
        match (unseen, overdue) {
            (Some(since), _) => Some(Stalled { part: sign.part, since, in_a_step: false }),
            (None, Some(since)) => Some(Stalled { part: sign.part, since, in_a_step: true }),
            (None, None) => None,
        }
    };
    signs.iter().filter_map(judge).collect()
}

/// Requests that may be paid and have no answer yet: to kill the process now would put them in doubt.
#[derive(Debug, Default)]
pub struct Wire {
    count: AtomicU32,
    until_ms: AtomicU64,
}

impl Wire {
    /// One leaves, and is answered or given up by `until`; it counts as long as what is returned lives.
    pub fn leaves(&self, until: Duration) -> OnTheWire<'_> {
        self.until_ms.fetch_max(millis(until), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        OnTheWire(self)
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// For how long the last of them may take from `now` on; `None` when there is none, or it is late.
    pub fn takes(&self, now: Duration) -> Option<Duration> {
        let until = Duration::from_millis(self.until_ms.load(Ordering::Relaxed));
        until.checked_sub(now).filter(|left| self.count() > 0 && !left.is_zero())
    }
}

/// A request on the wire.
#[derive(Debug)]
pub struct OnTheWire<'a>(&'a Wire);

impl Drop for OnTheWire<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As the atomics keep it.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitals::Vitals;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    const PATIENCE: Duration = s(30);

    #[test]
    fn each_part_has_its_own_beat() {
        let vitals = Vitals::default();
        for part in Part::ALL {
            assert_eq!(vitals.beat(part).sign().part, part);
        }
    }

    #[test]
    fn who_is_seen_in_time_is_alive() {
        let vitals = Vitals::default();
        assert_eq!(stalled(&vitals.signs(), s(10_000), PATIENCE), [], "nobody has begun");
        Part::ALL.into_iter().for_each(|part| vitals.beat(part).turn(s(100), None));
        assert_eq!(stalled(&vitals.signs(), s(130), PATIENCE), []);
        let all: Vec<_> = stalled(&vitals.signs(), s(131), PATIENCE).iter().map(|s| s.part).collect();
        assert_eq!(all, Part::ALL);
        vitals.beat(Part::Writer).rest();
        Part::ALL[1..].iter().for_each(|part| vitals.beat(*part).turn(s(131), None));
        assert_eq!(stalled(&vitals.signs(), s(160), PATIENCE), [], "the writer has nothing to write");
    }

    #[test]
    fn a_step_has_its_own_time() {
        let vitals = Vitals::default();
        vitals.beat(Part::Submit).turn(s(100), Some(s(220)));
        assert_eq!(stalled(&vitals.signs(), s(120), PATIENCE), []);
        vitals.beat(Part::Submit).turn(s(220), Some(s(220)));
        assert_eq!(stalled(&vitals.signs(), s(220), PATIENCE), []);
        let found = stalled(&vitals.signs(), s(221), PATIENCE);
        assert_eq!(found, [Stalled { part: Part::Submit, since: s(1), in_a_step: true }]);
        assert_eq!(found[0].to_string(), "a step of the submit lane should have ended 1 s ago");
        let loop_too = stalled(&vitals.signs(), s(260), PATIENCE)[0];
        assert_eq!(loop_too.to_string(), "the submit lane has not moved for 40 s");
    }

    #[test]
    fn a_request_is_on_the_wire_until_it_is_answered_or_late() {
        let wire = Wire::default();
        assert_eq!((wire.count(), wire.takes(s(0))), (0, None));
        let first = wire.leaves(s(120));
        let second = wire.leaves(s(100));
        assert_eq!((wire.count(), wire.takes(s(30))), (2, Some(s(90))));
        drop(first);
        assert_eq!(wire.count(), 1);
        assert_eq!(wire.takes(s(120)), None, "late");
        drop(second);
        assert_eq!((wire.count(), wire.takes(s(30))), (0, None));
    }
}
