//! Ten years in seconds: the pure core with a simulated provider, a simulated table and a clock that is wrong at times.
//!
//! Everything that klingd decides is decided here by `klingd::domain`; the rest is the smallest world that can make it go
//! wrong: jobs, faults, crashes at every boundary of an effect, clocks that jump by an hour or are wrong by a year for a
//! day, and a person who looks in three times a day. By true time it is checked that nothing is paid twice without the
//! person saying so, that no wish for quiet is ignored, that neither submits nor status calls come in floods, that no day
//! costs more than its budget, and that everything comes to rest once the faults have stopped. A seed is a history.

mod daemon;
mod provider;
mod table;
mod world;

use klingd::domain::{Credits, Event, State, plan::recover::orphaned};

use self::world::{Told, World};
use super::tally::{Invariant, Tally, Verdict};

/// Milliseconds of true time.
type Ms = u64;
const SECOND: Ms = 1000;
const HOUR: Ms = 3600 * SECOND;
const DAY: Ms = 24 * HOUR;
/// What each job costs.
const PRICE: Credits = Credits::new(120);

/// What is simulated, and how it is spoiled: a simulation that can't fail shows nothing.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    days: u64,
    /// What a start makes of a job that is found on the wire.
    recover: fn(&State) -> Option<Event>,
    /// Hears no refusal.
    deaf: bool,
    /// Asks no budget.
    spendthrift: bool,
}

impl Plan {
    const fn of(seed: u64, days: u64) -> Self {
        Self { seed, days, recover: orphaned, deaf: false, spendthrift: false }
    }
}

fn live(plan: Plan) -> Told {
    let mut told = World::new(plan).live();
    // A history that goes wrong goes wrong in many places: the first say enough.
    told.broken.truncate(20);
    told
}

#[test]
fn a_decade() {
    let told = live(Plan::of(1, 3652));
    println!("{told:?}");
    assert_eq!(told.broken, [""; 0]);
    assert!(told.jobs > 10_000 && told.crashes > 100 && told.jumps > 100, "{told:?}");
    assert!(told.doubts > 100 && told.refused > 1000, "{told:?}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    let [one, same, other] = [7, 7, 8].map(|seed| live(Plan::of(seed, 60)));
    assert_eq!(one, same);
    assert_ne!(one.digest, other.digest);
}

fn complains(plan: Plan, of: &str) {
    let told = live(plan);
    assert!(told.broken.iter().any(|line| line.contains(of)), "nobody complained of {of:?}: {told:?}");
}

#[test]
fn a_recovery_that_queues_a_lone_intent_again_is_seen_to_pay_twice() {
    let requeued = |state: &State| match state {
        State::Submitting { attempt, .. } => Some(Event::SubmitDeferred {
            attempt: *attempt,
            why: "surely not sent".to_owned(),
            reserved: false,
        }),
        _ => None,
    };
    complains(Plan { recover: requeued, ..Plan::of(1, 300) }, "was charged 2 times");
}

#[test]
fn a_recovery_that_forgets_a_lone_intent_is_seen_to_leave_it_stuck() {
    complains(Plan { recover: |_| None, ..Plan::of(1, 300) }, "never came to rest");
}

#[test]
fn a_gate_that_hears_nothing_and_a_budget_that_nobody_asks_are_seen() {
    complains(Plan { deaf: true, ..Plan::of(1, 400) }, "inside a quiet that was asked for");
    complains(Plan { spendthrift: true, ..Plan::of(1, 400) }, "more than its budget");
}

/// A rung of the ladder: a year by this seed.
pub async fn climb(seed: u64, tally: &mut Tally) {
    let told = live(Plan::of(seed, 365));
    let mut verdict = Verdict::default();
    for invariant in [Invariant::PaidOnce, Invariant::OnRecord, Invariant::Sound] {
        verdict.count(invariant, told.jobs);
    }
    verdict.check(Invariant::Rests, told.broken.into_iter().map(|line| format!("seed {seed}: {line}")));
    for (kind, times) in [("crash", told.crashes), ("clock jump", told.jumps), ("refused", told.refused)] {
        tally.fired(kind, times);
    }
    tally.lived(&verdict);
}
