//! A restart with thousands of open tasks, as the poll lane does it: the longest due first, at the pace.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{RenderKind, Schedule};
use crate::domain::{
    Credits,
    job_type::JobType,
    pace::Pace,
    plan::poll::{PollFacts, PollPolicy, next_look},
    retry::Dice,
    time::Timestamp,
};

const TASKS: usize = 3_000;
const PER_SECOND: f64 = 2.0;

#[test]
fn thousands_of_overdue_tasks_are_looked_at_evenly_and_in_turn() {
    let kind = RenderKind { job_type: JobType::StdTextToVideo, duration_s: Some(5) };
    let schedule = Schedule::learn(kind, &[]);
    let policy = PollPolicy {
        first: None,
        every: None,
        slowest: Duration::from_secs(300),
        confirm_failed: Duration::ZERO,
    };
    let start = Timestamp::from_millis(1_000_000_000_000);
    let submitted_at = start - Duration::from_secs(1_200);
    // All due for minutes, the first one longest; every third goes on for an hour yet.
    let mut due: BinaryHeap<_> = (0..TASKS)
        .map(|n| Reverse((start - Duration::from_secs(600) + Duration::from_millis(n as u64), n)))
        .collect();
    let ends = |n: usize| if n.is_multiple_of(3) { start + Duration::from_secs(3_600) } else { start };
    let (mut pace, mut now, mut looks) = (Pace::new(PER_SECOND), start, Vec::new());
    while let Some(Reverse((due_at, n))) = due.pop() {
        now = now.max(due_at);
        while let Err(at) = pace.take(1, now) {
            now = at;
        }
        looks.push((now, n));
        if now < ends(n) {
            let share = Duration::from_secs_f64((due.len() + 1) as f64 / PER_SECOND);
            let counted = Credits::new(200);
            let facts = PollFacts { submitted_at, same_key: true, counted, policy, schedule, share };
            due.push(Reverse((next_look(&facts, now, Dice::new(n as f64 / TASKS as f64)), n)));
        }
    }
    for window in looks.windows(21) {
        let took = window[20].0.since(window[0].0);
        assert!(took >= Duration::from_millis(9_500), "21 looks in {took:?} at two a second");
    }
    assert!(looks[..TASKS].iter().map(|look| look.1).eq(0..TASKS), "each had its look before any had two");
    // The thousand that go on have theirs in turn: nobody waits much longer than a round takes.
    let mut last = vec![start; TASKS];
    for (at, n) in &looks {
        let pause = at.since(last[*n]);
        assert!(pause <= Duration::from_secs(1_600), "task {n} had no look for {pause:?}");
        last[*n] = *at;
    }
}
