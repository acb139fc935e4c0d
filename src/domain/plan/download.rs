//! What follows from a try to fetch one video (the table is in provider.md). Nothing here can lead to a new submit.

use std::time::Duration;

use super::super::{
    event::Event,
    retry::{Backoff, Dice},
    state::{Charged, Failure},
    time::Timestamp,
};

/// The part of the configuration that downloads obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadPolicy {
    /// The first wait after a failed try.
    pub retry_base: Duration,
    /// Links that stay dead for so long are given up.
    pub give_up: Duration,
}

/// Longest wait between two tries: links elsewhere live for an hour at the least, so several tries fall into it. A
/// try that is due later was put there by a clock that has jumped back since, and is due now.
pub const RETRY_MAX: Duration = Duration::from_secs(600);
/// Tries in a row before anything is given up: a machine that slept, or a daemon that stood still, through `give_up`
/// has not tried, and its first try may come before the network does.
const GIVE_UP_TRIES: u32 = 5;
/// Interruptions in a row after which the link itself is doubted, a quarter of an hour with the default waits: the
/// address of a file store that is gone refuses connections, it does not answer 404.
const STALE_AFTER: u32 = 8;
/// With nowhere to put it, a video is tried for again after this many times the first wait: the link does not wait, and a
/// person may make room at any moment.
const NOWHERE_WAITS: u32 = 8;
/// Bytes that a second of video is expected to have at most: 27 MB have been seen for five seconds (provider.md).
const BYTES_A_SECOND: u64 = 6_000_000;
/// Seconds of a task that does not say how long its video is: an edit is as long as its input, which has at most ten.
pub const UNSAID_SECONDS: u8 = 10;
/// Bodies that were no video before a fresh link is asked for: once may be a passing error page.
const WRONG_BODIES: u32 = 2;

/// How a video is checked before it gets its name: `output.verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Its length is the announced one, and it is no error page.
    Size,
    /// And its structure is whole.
    Structure,
    /// And every picture can be decoded, as far as ffmpeg or ffprobe is installed.
    Decode,
}

/// Why a video did not arrive this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchTrouble {
    /// Cut, reset, stalled, 429, 5xx: the link may still be good.
    Interrupted,
    /// 403, 404, 410, or an address that must not be fetched: ask for a fresh link.
    LinkDead,
    /// Whole by its length, but not a whole video.
    WrongBody,
    /// Our own disk: the link is not to blame.
    Disk,
    /// It is here and verified, and waits for the output root. Nothing is left to fetch.
    Staged,
    /// The daemon stops; nothing is wrong.
    Stopped,
}

/// What the plan needs to know besides the trouble.
#[derive(Clone, Copy, Debug)]
pub struct FetchFacts {
    /// Tries that failed in a row, this one included.
    pub failures: u32,
    /// When the first of them failed, by a clock that stood still with our own disk ([`failing_since`]).
    pub failing_since: Timestamp,
    /// The server's wish, which is obeyed as far as the longest wait.
    pub retry_after: Option<Duration>,
    /// The policy.
    pub policy: DownloadPolicy,
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchPlan {
    /// What happened, or `None` when only the next try moves.
    pub event: Option<Event>,
    /// The next try, or the status call for a fresh link.
    pub due_at: Timestamp,
    /// Whether what was fetched so far is worthless.
    pub from_zero: bool,
    /// Whether it waits for our own disk: if that is back already, the next try is due at once.
    pub for_disk: bool,
}

/// The plan after a try that brought no file.
pub fn failed(trouble: FetchTrouble, why: &str, facts: &FetchFacts, now: Timestamp, dice: Dice) -> FetchPlan {
    let wait = Backoff { base: facts.policy.retry_base, max: RETRY_MAX }.delay(facts.failures, dice);
    let wish = facts.retry_after.unwrap_or_default().min(RETRY_MAX);
    let later = FetchPlan { event: None, due_at: now + wait.max(wish), from_zero: false, for_disk: false };
    let fresh_link = || Some(Event::LinkExpired { why: why.to_owned() });
    let lost = match trouble {
        FetchTrouble::Interrupted | FetchTrouble::LinkDead | FetchTrouble::WrongBody => {
            given_up(why, facts, now)
        }
        // Our own disk or our own stop says nothing about the link.
        FetchTrouble::Disk | FetchTrouble::Staged | FetchTrouble::Stopped => None,
    };
    if lost.is_some() {
        return FetchPlan { event: lost, due_at: now, ..later };
    }
    match trouble {
        FetchTrouble::Stopped => FetchPlan { due_at: now, ..later },
        FetchTrouble::Disk => {
            FetchPlan { due_at: now + dice.around(facts.policy.retry_base * NOWHERE_WAITS, 0.2), ..later }
        }
        // It is woken when the root is back; the wait is for the case that nobody notices.
        FetchTrouble::Staged => FetchPlan { due_at: now + RETRY_MAX, for_disk: true, ..later },
        FetchTrouble::Interrupted if facts.failures.is_multiple_of(STALE_AFTER) => {
            FetchPlan { event: fresh_link(), ..later }
        }
        FetchTrouble::Interrupted => later,
        FetchTrouble::LinkDead => FetchPlan { event: fresh_link(), ..later },
        FetchTrouble::WrongBody if facts.failures >= WRONG_BODIES => {
            FetchPlan { event: fresh_link(), from_zero: true, ..later }
        }
        FetchTrouble::WrongBody => FetchPlan { from_zero: true, ..later },
    }
}

/// When a run of failures began by the clock of `download.give_up`, which stands still while our own disk is in trouble:
/// since `still_since`, if it is.
pub fn failing_since(first: Timestamp, still_since: Option<Timestamp>, now: Timestamp) -> Timestamp {
    still_since.map_or(first, |still| first + now.since(first.max(still)))
}

/// Bytes that tasks of so many seconds of video in all will need on disk.
pub fn expected_bytes(seconds: u64) -> u64 {
    seconds.saturating_mul(BYTES_A_SECOND)
}

/// The end of patience: the links stayed dead for `give_up`, and were really tried. The poller asks too, when status
/// has no fresh link for a job that wants one; such a look counts as a try.
pub fn given_up(why: &str, facts: &FetchFacts, now: Timestamp) -> Option<Event> {
    let patient = now.since(facts.failing_since) < facts.policy.give_up || facts.failures < GIVE_UP_TRIES;
    let lost = || Event::GaveUp {
        failure: Failure {
            code: Failure::LOST.to_owned(),
            message: format!(
                "the video is paid, but its links have stayed dead since {}; last: {why}",
                facts.failing_since
            ),
            charged: Charged::Yes,
        },
    };
    (!patient).then(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn plan(trouble: FetchTrouble, failures: u32, hours: u64) -> FetchPlan {
        let policy =
            DownloadPolicy { retry_base: Duration::from_secs(5), give_up: Duration::from_secs(24 * 3600) };
        let facts = FetchFacts { failures, failing_since: T0, retry_after: None, policy };
        failed(trouble, "404", &facts, T0 + Duration::from_secs(hours * 3600), Dice::new(0.5))
    }

    #[test]
    fn a_dead_link_is_renewed_and_given_up_only_after_a_day() {
        assert!(matches!(plan(FetchTrouble::LinkDead, 1, 0).event, Some(Event::LinkExpired { .. })));
        assert!(matches!(plan(FetchTrouble::LinkDead, 90, 23).event, Some(Event::LinkExpired { .. })));
        assert!(matches!(plan(FetchTrouble::LinkDead, 100, 24).event, Some(Event::GaveUp { .. })));
        assert_eq!(
            plan(FetchTrouble::Disk, 100, 240).event,
            None,
            "our own disk is never the provider's fault"
        );
    }

    #[test]
    fn our_own_disk_is_waited_for_without_blame() {
        for failures in [0, 100] {
            let due =
                |trouble| plan(trouble, failures, 240).due_at.since(T0 + Duration::from_secs(240 * 3600));
            assert!((32..=48).contains(&due(FetchTrouble::Disk).as_secs()), "the link does not wait");
            assert_eq!(due(FetchTrouble::Staged), RETRY_MAX);
            assert_eq!(plan(FetchTrouble::Staged, failures, 240).event, None);
        }
    }

    #[test]
    fn the_clock_of_giving_up_stands_still_with_the_disk() {
        let at = |hours: u64| T0 + Duration::from_secs(hours * 3600);
        assert_eq!(failing_since(at(1), None, at(50)), at(1));
        assert_eq!(failing_since(at(1), Some(at(3)), at(50)), at(48), "two hours count");
        assert_eq!(failing_since(at(5), Some(at(3)), at(50)), at(50), "none does");
        assert_eq!(failing_since(at(5), Some(at(60)), at(50)), at(5), "a clock that jumped back");
    }

    #[test]
    fn patience_that_was_slept_through_is_not_over() {
        assert!(matches!(plan(FetchTrouble::LinkDead, 1, 48).event, Some(Event::LinkExpired { .. })));
        assert_eq!(plan(FetchTrouble::Interrupted, 1, 48).event, None);
    }

    #[test]
    fn interruptions_in_a_row_ask_for_a_fresh_link() {
        let asked = |failures: &u32| {
            matches!(plan(FetchTrouble::Interrupted, *failures, 0).event, Some(Event::LinkExpired { .. }))
        };
        assert_eq!((1..=20).filter(asked).collect::<Vec<_>>(), [8, 16]);
    }

    #[test]
    fn a_wrong_body_starts_over_then_asks_for_a_fresh_link() {
        assert_eq!(
            (plan(FetchTrouble::WrongBody, 1, 0).event, plan(FetchTrouble::WrongBody, 1, 0).from_zero),
            (None, true)
        );
        assert!(matches!(plan(FetchTrouble::WrongBody, 2, 0).event, Some(Event::LinkExpired { .. })));
    }
}
