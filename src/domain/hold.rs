//! Holds: durable reasons why no job is submitted. Polling and downloads go on under every one of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    job::Reason,
    time::{CLOCK_STEP, Timestamp},
};

/// The first free probe of a refused key: a rotated key or a provider's hiccup is noticed without a command.
const KEY_PROBE_EVERY: Duration = Duration::from_secs(300);
/// The first probe of an empty account, by one job: rarer, since each is a real request.
const CREDITS_PROBE_EVERY: Duration = Duration::from_secs(900);
/// Then a probe comes after this share of the hold's age: what was not mended in a night is not mended in five minutes.
const PROBE_SHARE_OF_AGE: f64 = 0.25;
/// The rarest probe. A probe further away was put there by a clock that has jumped back since.
const PROBE_SLOWEST: Duration = Duration::from_secs(3600);

/// An end that is further away is for a person to judge: `Retry-After` can ask for a year, and whoever runs the queue until
/// it is idle must hear of it. A closed gate, which ends within this, is waited for.
const WORTH_WAITING: Duration = Duration::from_secs(3600);

/// Which hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldName {
    /// A person said `pause`.
    Paused,
    /// The provider refuses our key, or the endpoint moved.
    Key,
    /// The account is empty.
    Credits,
    /// The provider asked for more than an hour of quiet.
    Rate,
    /// What is paid could not be stored.
    Disk,
    /// The data directory is a copy: what is queued in it may have been paid since.
    Restored,
    /// The daemon was killed while jobs were on the wire, and `submit.on_unclean_stop = "hold"`.
    UncleanStop,
}

impl HoldName {
    /// All of them.
    pub const ALL: [HoldName; 7] = [
        HoldName::Paused,
        HoldName::Key,
        HoldName::Credits,
        HoldName::Rate,
        HoldName::Disk,
        HoldName::Restored,
        HoldName::UncleanStop,
    ];

    /// The word in the database, JSON and commands.
    pub const fn as_str(self) -> &'static str {
        self.reason().as_str()
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        HoldName::ALL.into_iter().find(|h| h.as_str() == word)
    }

    /// The reason that a queued job shows under this hold.
    pub const fn reason(self) -> Reason {
        match self {
            HoldName::Paused => Reason::Paused,
            HoldName::Key => Reason::Key,
            HoldName::Credits => Reason::Credits,
            HoldName::Rate => Reason::Rate,
            HoldName::Disk => Reason::Disk,
            HoldName::Restored => Reason::Restored,
            HoldName::UncleanStop => Reason::UncleanStop,
        }
    }

    /// Whether a bare `resume` lifts it. `restored` and `unclean_stop` must be named, since lifting them by habit could
    /// pay twice; `disk` lifts itself.
    pub const fn lifted_by_resume(self) -> bool {
        match self {
            HoldName::Paused | HoldName::Key | HoldName::Credits | HoldName::Rate => true,
            HoldName::Disk | HoldName::Restored | HoldName::UncleanStop => false,
        }
    }

    /// How soon a probe may lift it, if one can: a free status call for the key, one job for the credits.
    const fn probe_every(self) -> Option<Duration> {
        match self {
            HoldName::Key => Some(KEY_PROBE_EVERY),
            HoldName::Credits => Some(CREDITS_PROBE_EVERY),
            HoldName::Paused
            | HoldName::Rate
            | HoldName::Disk
            | HoldName::Restored
            | HoldName::UncleanStop => None,
        }
    }

    /// The command that lifts it, or what does.
    pub const fn remedy(self) -> &'static str {
        match self {
            HoldName::Paused => "klingd resume",
            HoldName::Key => "mend the key, then klingd resume",
            HoldName::Credits => "top up the account, then klingd resume",
            HoldName::Rate => "ends by itself, or klingd resume",
            HoldName::Disk => "make room or mount the disk; it ends by itself",
            HoldName::Restored => "klingd resume --hold restored",
            HoldName::UncleanStop => "klingd resume --hold unclean_stop",
        }
    }
}

/// A hold as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Which.
    pub name: HoldName,
    /// When it was set.
    pub since: Timestamp,
    /// A sentence.
    pub why: String,
    /// When it ends by itself. A `key` hold with an end is on trial, see [`Hold::is_on_trial`].
    pub until: Option<Timestamp>,
    /// When the next probe may lift it (a free status call for the key, a single job for the credits).
    pub probe_at: Option<Timestamp>,
}

impl Hold {
    /// A hold that begins now, with its first probe if it has any.
    pub fn new(name: HoldName, why: String, now: Timestamp) -> Self {
        Self { name, since: now, why, until: None, probe_at: name.probe_every().map(|every| now + every) }
    }

    /// Whether it still holds at `now`. An end that is further away than it was at first was set by a clock that has
    /// jumped back since: nobody knows any more when it is, so it has come. One that is not after the beginning (a key on
    /// trial) has come by every clock.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| {
            let at_first = until.since(self.since).saturating_add(CLOCK_STEP);
            self.since < until && now < until && until.since(now) <= at_first
        })
    }

    /// Whether nothing but a person ends it soon: its end, if it has any, is not worth waiting for, and no probe is due that
    /// may lift it.
    pub fn needs_person(&self, now: Timestamp) -> bool {
        let far = self.until.is_none_or(|until| until.since(now) > WORTH_WAITING);
        self.holds(now) && far && !self.probe_is_due(now)
    }

    /// Whether it is time to find out if what it stands for is mended.
    pub fn probe_is_due(&self, now: Timestamp) -> bool {
        let due = |at: Timestamp| at <= now || at.since(now) > PROBE_SLOWEST;
        self.name.probe_every().is_some() && self.holds(now) && self.probe_at.is_some_and(due)
    }

    /// When to probe again at `now`, after one that failed or is about to be made: the older the hold, the later.
    pub fn next_probe(&self, now: Timestamp) -> Option<Timestamp> {
        let wait = |every| now.since(self.since).mul_f64(PROBE_SHARE_OF_AGE).clamp(every, PROBE_SLOWEST);
        self.name.probe_every().map(|every| now + wait(every))
    }

    /// Whether the free probe passed and one job at a time tries whether submits do, too: a status call can't tell that
    /// the endpoint is back, or that the key may generate. The first that is accepted lifts the hold, a refusal renews it.
    pub fn is_on_trial(&self, now: Timestamp) -> bool {
        self.name == HoldName::Key && !self.holds(now)
    }

    /// What is kept when this is set while `earlier` is still on record: the news, but neither its age nor a probe that
    /// would come sooner is forgotten. A quiet that has ended is no part of the next one.
    pub fn renewing(self, earlier: &Hold) -> Self {
        let now = self.since;
        let goes_on = earlier.holds(now) || earlier.is_on_trial(now);
        let since = if goes_on { earlier.since } else { now };
        // Each quiet that was asked for is kept whole: a shorter one, heard later, ends no longer one.
        let until = match (self.until, earlier.until.filter(|_| earlier.holds(now))) {
            (Some(until), Some(before)) => Some(until.max(before)),
            (until, _) => until,
        };
        let sooner = earlier.probe_at.filter(|_| earlier.holds(now));
        let renewed = Hold { since, until, ..self };
        let later = renewed.next_probe(now);
        let probe_at = match (renewed.probe_at, later) {
            (Some(_), Some(later)) => Some(sooner.map_or(later, |sooner| sooner.min(later))),
            (probe_at, _) => probe_at,
        };
        Hold { probe_at, ..renewed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_the_word_of_its_reason() {
        for hold in HoldName::ALL {
            assert_eq!(HoldName::parse(hold.as_str()), Some(hold));
            assert_eq!(serde_json::to_value(hold).unwrap(), hold.as_str());
            assert_eq!(serde_json::to_value(hold.reason()).unwrap(), hold.as_str());
        }
        assert_eq!(HoldName::parse("budget"), None, "a cap is a reason to wait, but no hold");
    }

    /// The contract: `resume` also lifts `rate`, `key` and `credits`; two only by their name.
    #[test]
    fn a_bare_resume_lifts_what_can_not_pay_twice() {
        let lifted: Vec<_> =
            HoldName::ALL.iter().filter(|h| h.lifted_by_resume()).map(|h| h.as_str()).collect();
        assert_eq!(lifted, ["paused", "key", "credits", "rate"]);
        for named in [HoldName::Restored, HoldName::UncleanStop] {
            assert!(named.remedy().contains(&format!("--hold {}", named.as_str())));
        }
    }

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_probe_is_slow_and_gets_slower() {
        for (name, first) in [(HoldName::Key, 5), (HoldName::Credits, 15)] {
            let mut hold = Hold::new(name, "refused".into(), T0);
            let mut waits = Vec::new();
            let mut now = T0;
            while waits.len() < 40 {
                let at = hold.probe_at.unwrap();
                assert!(!hold.probe_is_due(at - MINUTE) && hold.probe_is_due(at));
                assert!(hold.needs_person(at - MINUTE) && !hold.needs_person(at));
                waits.push(at.since(now));
                now = at;
                hold.probe_at = hold.next_probe(now);
            }
            assert_eq!(waits[0], first * MINUTE);
            assert!(waits.is_sorted() && waits.last() == Some(&(60 * MINUTE)), "{waits:?}");
        }
        for name in
            [HoldName::Paused, HoldName::Rate, HoldName::Disk, HoldName::Restored, HoldName::UncleanStop]
        {
            assert_eq!(Hold::new(name, String::new(), T0).probe_at, None);
        }
    }

    #[test]
    fn a_hold_that_is_set_again_keeps_its_age_and_its_next_probe() {
        let first = Hold::new(HoldName::Key, "401".into(), T0);
        // Another POST of the same moment, and a poll four minutes later: the probe is not pushed away.
        let again = Hold::new(HoldName::Key, "403".into(), T0 + 4 * MINUTE).renewing(&first);
        assert_eq!((again.since, again.probe_at, again.why.as_str()), (T0, first.probe_at, "403"));
        // After a probe that passed, the trial's refusal renews it, and the next one comes by its age.
        let tried = Hold { until: Some(T0 + 80 * MINUTE), probe_at: None, ..first.clone() };
        let now = T0 + 80 * MINUTE;
        assert!(tried.is_on_trial(now) && !tried.needs_person(now));
        let renewed = Hold::new(HoldName::Key, "404".into(), now).renewing(&tried);
        assert_eq!((renewed.since, renewed.until), (T0, None));
        assert_eq!(renewed.probe_at, Some(now + 20 * MINUTE));
        assert!(!renewed.is_on_trial(now));
        // A quiet of last week is over; this one is new.
        let quiet =
            |now| Hold { until: Some(now + 120 * MINUTE), ..Hold::new(HoldName::Rate, "429".into(), now) };
        let next = quiet(T0 + 200 * MINUTE).renewing(&quiet(T0));
        assert_eq!(next, quiet(T0 + 200 * MINUTE));
        assert_eq!(quiet(T0 + MINUTE).renewing(&quiet(T0)).since, T0);
        let shorter = Hold { until: Some(T0 + 61 * MINUTE), ..quiet(T0 + MINUTE) };
        assert_eq!(shorter.renewing(&quiet(T0)).until, Some(T0 + 120 * MINUTE), "the longer one is kept");
        // What is set without a probe stays without one: a person's word, or nothing to probe.
        let bare = Hold { probe_at: None, ..first.clone() };
        assert_eq!(bare.clone().renewing(&bare), bare);
    }

    #[test]
    fn a_clock_that_jumped_back_makes_no_hold_longer() {
        let ahead = T0 + 30 * 24 * 60 * MINUTE;
        let key = Hold::new(HoldName::Key, "401".into(), ahead);
        assert!(key.probe_is_due(T0));
        let renewed = Hold::new(HoldName::Key, "401".into(), T0).renewing(&key);
        assert!(renewed.probe_at.unwrap() <= T0 + 5 * MINUTE);
        let quiet =
            Hold { until: Some(ahead + 120 * MINUTE), ..Hold::new(HoldName::Rate, "429".into(), ahead) };
        assert!(
            quiet.holds(ahead) && quiet.holds(ahead + 119 * MINUTE) && !quiet.holds(ahead + 120 * MINUTE)
        );
        assert!(quiet.holds(ahead - Duration::from_secs(2)), "a clock that is kept right");
        assert!(quiet.holds(ahead - 59 * MINUTE), "a clock that was wrong by a zone");
        assert!(!quiet.holds(T0));
        let trial =
            Hold { until: Some(ahead), probe_at: None, ..Hold::new(HoldName::Key, "401".into(), ahead) };
        assert!(
            trial.is_on_trial(ahead - MINUTE),
            "a clock that was set back leaves no hold without a probe"
        );
        assert!(
            quiet.needs_person(ahead) && !quiet.needs_person(ahead + 60 * MINUTE),
            "an hour is waited for"
        );
        let paused = Hold::new(HoldName::Paused, "a person".into(), ahead);
        assert!(paused.holds(T0), "what a person says has no end");
    }
}
