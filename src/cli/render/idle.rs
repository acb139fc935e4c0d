//! Why `run --until-idle` ended although not all is done: one sentence.

use super::{super::view::View, budget, text::counted, text::line};
use crate::store::budget::Cap;

/// What is left when nothing can move by itself.
pub struct Left {
    /// Holds and caps.
    pub view: View,
    /// Jobs that failed during this run.
    pub failed: u64,
    /// Jobs in doubt.
    pub in_doubt: u64,
    /// Jobs that need a person, those in doubt included.
    pub in_need: u64,
    /// Jobs that wait for their turn.
    pub queued: u64,
    /// Those of them that a cap stops.
    pub stopped: Vec<(Cap, u64)>,
}

/// The sentence; `None` when all is done.
pub fn why_it_ended(left: &Left) -> Option<String> {
    let Left { view, failed, in_doubt, in_need, queued, stopped } = left;
    let mut parts = Vec::new();
    let mut say = |n: u64, one: &str, more: &str| {
        if n > 0 {
            parts.push(format!("{} {}", counted(n, "job"), if n == 1 { one } else { more }));
        }
    };
    say(*in_doubt, "is in doubt and may be paid", "are in doubt and may be paid");
    say(in_need.saturating_sub(*in_doubt), "needs you", "need you");
    say(*failed, "failed", "failed");
    let second = u64::try_from(view.unfollowed.len()).unwrap_or(u64::MAX);
    say(second, "has a second paid task that nobody follows", "have a second paid task that nobody follows");
    if *queued > 0 {
        let mut holds = view.holds.iter().filter(|hold| hold.needs_person(view.now)).peekable();
        if holds.peek().is_none() {
            parts.extend(stopped.iter().map(|(cap, n)| budget::stop(*cap, *n, view)));
        }
        parts.extend(holds.map(|hold| {
            let (name, why, remedy) = (hold.name.as_str(), line(&hold.why), hold.name.remedy());
            format!("{} behind the hold {name} ({why}; {remedy})", budget::waits(*queued))
        }));
    }
    let list = if view.sandbox { "klingd --sandbox list" } else { "klingd list" };
    (!parts.is_empty())
        .then(|| format!("nothing moves by itself any more: {}; {list} shows which", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::{
        domain::{Credits, HoldName, JobId, hold::Hold},
        store::budget::{Budget, Spent},
    };

    fn left() -> Left {
        Left { view: samples::view(), failed: 0, in_doubt: 0, in_need: 0, queued: 0, stopped: Vec::new() }
    }

    #[test]
    fn each_reason_has_its_words() {
        assert_eq!(why_it_ended(&left()), None);
        let capped = View {
            budget: Budget {
                per_job: Credits::new(100),
                per_day: Credits::new(500),
                total: Credits::new(900),
            },
            spent: Spent::new(Credits::new(480), Credits::new(890)),
            ..samples::view()
        };
        let hold = Hold::new(HoldName::Key, "HTTP 401".into(), samples::at(0));
        let stopped = vec![(Cap::PerJob, 1), (Cap::MaxCredits, 2), (Cap::PerDay, 22), (Cap::Total, 1)];
        let all = [
            Left { queued: 26, stopped, view: capped, ..left() },
            Left { queued: 1, view: View { holds: vec![hold], ..samples::view() }, ..left() },
            Left { in_doubt: 1, in_need: 3, failed: 2, ..left() },
            Left { view: View { unfollowed: vec![JobId(3)], sandbox: true, ..samples::view() }, ..left() },
        ];
        insta::assert_snapshot!(all.map(|left| why_it_ended(&left).unwrap()).join("\n"));
    }
}
