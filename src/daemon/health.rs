//! How klingd is, in plain sentences: whether it lives (its loops turn), and whether it is ready (jobs would be submitted).

use std::time::Duration;

use crate::{
    domain::{Timestamp, hold::Hold},
    vitals::{Sign, stalled},
};

/// The time that a part has to show itself to those who ask; several times what it takes, on a machine that is busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What is wrong; nothing when all is well.
pub(super) type Wrong = Vec<String>;

/// Whether every part shows signs of life.
pub(super) fn lives(signs: &[Sign], now: Duration) -> Wrong {
    stalled(signs, now, PATIENCE).into_iter().filter(|s| s.part.is_vital()).map(|s| s.to_string()).collect()
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// What the last run left is looked through; no lane works yet.
    Recovering,
    /// Lanes work.
    Serving,
    /// Nothing new is begun.
    Stopping,
}

/// Whether a job that is queued now would be submitted.
pub(super) fn is_ready(
    phase: Phase,
    signs: &[Sign],
    clock: Duration,
    holds: &[Hold],
    now: Timestamp,
) -> Wrong {
    let mut wrong: Wrong = match phase {
        Phase::Recovering => vec!["klingd looks through what the last run left".to_owned()],
        Phase::Serving => Vec::new(),
        Phase::Stopping => vec!["klingd is stopping".to_owned()],
    };
    wrong.extend(stalled(signs, clock, PATIENCE).iter().map(ToString::to_string));
    let held = holds.iter().filter(|hold| hold.holds(now));
    wrong.extend(held.map(|hold| {
        // Why is told by `klingd status`: it has the provider's words, which are nobody else's business.
        format!(
            "nothing is submitted: hold {} since {}; {}",
            hold.name.as_str(),
            hold.since,
            hold.name.remedy()
        )
    }));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::HoldName,
        vitals::{Part, Vitals},
    };

    #[test]
    fn it_says_what_is_wrong_in_plain_sentences() {
        let vitals = Vitals::default();
        let second = Duration::from_secs;
        let now = Timestamp::from_millis(1_770_301_800_000);
        vitals.beat(Part::Inbox).turn(second(10), None);
        vitals.beat(Part::Poll).turn(second(50), None);
        let hold = Hold::new(HoldName::Key, "HTTP 401: a stranger's words".into(), now - second(60));
        let ended = Hold { until: Some(now), ..Hold::new(HoldName::Rate, "429".into(), now - second(60)) };
        assert_eq!(lives(&vitals.signs(), second(100)), Wrong::new(), "a share that hangs kills nobody");
        assert_eq!(lives(&vitals.signs(), second(200)), ["the poll lane has not moved for 150 s"]);
        let ready = is_ready(Phase::Serving, &vitals.signs(), second(60), &[ended], now);
        assert_eq!(ready, Wrong::new());
        let wrong = is_ready(Phase::Recovering, &vitals.signs(), second(100), &[hold], now);
        insta::assert_snapshot!(wrong.join("\n"), @r"
        klingd looks through what the last run left
        the inbox has not moved for 90 s
        nothing is submitted: hold key since 2026-02-05T14:29:00.000Z; mend the key, then klingd resume
        ");
    }
}
