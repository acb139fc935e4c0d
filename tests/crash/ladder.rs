//! The ladder: every rung in turn, by seeds, until the minutes are over; then the table. `just torture` climbs it.
//!
//! A rung is a row of [`RUNGS`]: its name, its share of the time, and one climb, which takes some seconds, lives several
//! lives by its seed and writes what it did into the tally. The rung with the least time for its share is the next.

use std::any::Any;
use std::pin::Pin;
use std::time::Duration;

use klingd::clock::Clock;

use super::tally::{Tally, table};
use super::{calls, chaos, points, power, pure, random, years};

/// The seed to begin with, and the minutes to climb for.
const SEED: &str = "KLINGD_TORTURE_SEED";
const MINUTES: &str = "KLINGD_TORTURE_MINUTES";
const DEFAULT_MINUTES: f64 = 10.0;

/// One rung.
struct Rung {
    name: &'static str,
    /// Of the time, in proportion to the others.
    share: u32,
    climb: Climb,
}

type Climb = for<'a> fn(u64, &'a mut Tally) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// From the purest to the roughest.
const RUNGS: &[Rung] = &[
    Rung { name: "0 pure", share: 1, climb: |seed, tally| Box::pin(pure::climb(seed, tally)) },
    Rung { name: "0 years", share: 1, climb: |seed, tally| Box::pin(years::climb(seed, tally)) },
    Rung { name: "1 points", share: 2, climb: |seed, tally| Box::pin(points::climb(seed, tally)) },
    Rung { name: "2 calls", share: 3, climb: |seed, tally| Box::pin(calls::climb(seed, tally)) },
    Rung { name: "3 weather", share: 3, climb: |seed, tally| Box::pin(chaos::climb(seed, tally)) },
    Rung { name: "4 random kills", share: 3, climb: |seed, tally| Box::pin(random::climb(seed, tally)) },
    Rung { name: "5 power", share: 2, climb: |seed, tally| Box::pin(power::climb(seed, tally)) },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes, or as many as asked for: just torture"]
async fn the_ladder() {
    let minutes = variable(MINUTES).map_or(DEFAULT_MINUTES, |text| text.parse().expect(MINUTES));
    let seed = variable(SEED)
        .map_or_else(|| Clock.now().as_millis().unsigned_abs(), |text| text.parse().expect(SEED));
    println!("seed {seed}, {minutes} minutes");
    let tallies = climb_all(RUNGS, seed, Duration::from_secs_f64(minutes * 60.0)).await;
    println!("\nseed {seed}, {minutes} minutes\n{}", table(&tallies));
    if let Some(complaint) = complaint(&tallies) {
        panic!("{complaint}");
    }
}

async fn climb_all(rungs: &[Rung], seed: u64, time: Duration) -> Vec<Tally> {
    let end = Clock.steady() + time;
    let mut tallies: Vec<_> = rungs.iter().map(|rung| Tally::of(rung.name)).collect();
    let mut spent = vec![Duration::ZERO; rungs.len()];
    let mut climbs = vec![0; rungs.len()];
    // Each is climbed once, however short the time.
    while Clock.steady() < end || climbs.contains(&0) {
        let Some(next) = (0..rungs.len())
            .filter(|n| tallies[*n].skipped.is_none())
            .min_by_key(|n| (climbs[*n] > 0, spent[*n] / rungs[*n].share))
        else {
            break;
        };
        let began = Clock.steady();
        (rungs[next].climb)(seed.wrapping_add(climbs[next]), &mut tallies[next]).await;
        climbs[next] += 1;
        spent[next] += Clock.steady().saturating_sub(began);
        if tallies[next].skipped.is_some() {
            spent[next] = Duration::MAX / 2;
        }
    }
    tallies
}

/// What is wrong with a climb, if anything.
fn complaint(tallies: &[Tally]) -> Option<String> {
    let broken: usize = tallies.iter().map(|tally| tally.verdict.broken.len()).sum();
    let silent: Vec<_> = tallies
        .iter()
        .flat_map(|t| t.silent().into_iter().map(|kind| format!("{}: {kind}", t.rung)))
        .collect();
    let broken = (broken > 0).then(|| format!("{broken} violations"));
    let silent = (!silent.is_empty()).then(|| format!("armed and never fired: {}", silent.join(", ")));
    match (broken, silent) {
        (Some(broken), Some(silent)) => Some(format!("{broken}; {silent}")),
        (one, other) => one.or(other),
    }
}

/// What a panic said.
pub fn why(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the test's own settings, none of klingd's")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The frame itself: each rung gets its part, one that can't work is left out, and what is wrong is said.
#[tokio::test]
async fn every_rung_is_climbed_and_what_breaks_is_said() {
    fn climb(kind: &'static str) -> impl Fn(u64, &mut Tally) {
        move |seed, tally| {
            tally.lived(&super::tally::Verdict::default());
            tally.fired(kind, seed);
        }
    }
    let rungs = [
        Rung { name: "a", share: 1, climb: |seed, tally| Box::pin(async move { climb("x")(seed, tally) }) },
        Rung {
            name: "b",
            share: 1,
            climb: |_, tally| Box::pin(async move { tally.broke("seed 1", "torn") }),
        },
        Rung {
            name: "c",
            share: 1,
            climb: |_, tally| Box::pin(async move { tally.skipped = Some("no root".to_owned()) }),
        },
    ];
    let tallies = climb_all(&rungs, 0, Duration::ZERO).await;
    assert_eq!(tallies.iter().map(|tally| tally.lives).collect::<Vec<_>>(), [1, 1, 0]);
    assert_eq!(complaint(&tallies).unwrap(), "1 violations; armed and never fired: a: x");
    let tallies = climb_all(&rungs[..1], 1, Duration::from_millis(2)).await;
    assert_eq!(complaint(&tallies), None);
}
