//! Holds: durable reasons why no job is submitted. Polling and downloads go on under every one of them.

use serde::{Deserialize, Serialize};

use super::{job::Reason, time::Timestamp};

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

    /// The command that lifts it, or what does.
    pub const fn remedy(self) -> &'static str {
        match self {
            HoldName::Paused => "klingd resume",
            HoldName::Key => "mend the key, then klingd resume",
            HoldName::Credits => "top up the account, then klingd resume",
            HoldName::Rate => "ends by itself, or klingd resume",
            HoldName::Disk => "make room; it ends by itself",
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
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// When the next probe may lift it (a free status call for the key, a single job for the credits).
    pub probe_at: Option<Timestamp>,
}

impl Hold {
    /// Whether it still holds at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether nothing but a person ends it: it has no end of its own, and no probe is due that may lift it.
    pub fn needs_person(&self, now: Timestamp) -> bool {
        let probed = matches!(self.name, HoldName::Key | HoldName::Credits);
        let probe_due = probed && self.probe_at.is_some_and(|at| at <= now);
        self.holds(now) && self.until.is_none() && !probe_due
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
}
