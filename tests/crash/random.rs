//! SIGKILL at instants that nobody chose, under faults that nobody chose, with commands and dropped files beside: a seed
//! chose all of it, and is printed.

use std::ops::Range;
use std::panic::AssertUnwindSafe;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};

use klingd::domain::State;

use super::ladder::why;
use super::points::AT_ONCE;
use super::rig::{Rig, Setup, at_rest, facts, within};
use super::tally::{Tally, Verdict, table};
use super::traffic::Traffic;

/// Lives by this many seeds, and in the long run.
const LIVES: u64 = 50;
const MANY_LIVES: u64 = 2_000;
/// Lives of one climb.
const CLIMB: u64 = 16;
/// Jobs of one life to begin with: more than there are slots, so that some always wait.
const JOBS: usize = 8;
/// Things that people and programs do in each life of a daemon, at most.
const THINGS: usize = 4;
/// Jobs that are queued at each start, while the daemon works: another process writes, too.
const MORE: usize = 2;
/// Kills of one life at most.
const MAX_KILLS: u32 = 3;

/// What may go wrong besides. After each of these every job can still be done, after a word of truth at the most.
const FAULTS: [&str; 23] = [
    "generate:429",
    "generate:503",
    "generate:reset-before",
    "generate:close-after",
    "generate:cut-body",
    "generate:cut-body-after-id",
    "generate:no-task-id",
    "generate:already-success",
    "generate:502-html-charged",
    "status:500",
    "status:reset",
    "status:not-json",
    "status:other-task",
    "status:404",
    "status:429",
    "status:stale-in-progress",
    "video:cut=20000",
    "video:reset=10000",
    "video:chunked-cut=5000",
    "video:503",
    "video:404",
    "video:html",
    "video:etag-changed",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_instants_under_random_faults() {
    prove(0..LIVES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two thousand more seeds: half an hour"]
async fn killed_at_many_more_random_instants() {
    prove(LIVES..LIVES + MANY_LIVES).await;
}

/// A rung of the ladder: some lives by this seed.
pub async fn climb(seed: u64, tally: &mut Tally) {
    let first = seed.wrapping_mul(CLIMB);
    lives((0..CLIMB).map(|n| first.wrapping_add(n)), tally).await;
}

/// Lives by every seed; fails with those that broke the promise.
async fn prove(seeds: Range<u64>) {
    let mut tally = Tally::of("4 random kills");
    lives(seeds, &mut tally).await;
    println!("{}", table(std::slice::from_ref(&tally)));
    assert!(tally.verdict.broken.is_empty(), "broken, see above");
    let (kills, lives) = (tally.fired["SIGKILL"], tally.lives);
    assert!(kills >= lives, "only {kills} kills came before the work was done, in {lives} lives");
}

async fn lives(seeds: impl IntoIterator<Item = u64>, tally: &mut Tally) {
    let lives = seeds.into_iter().map(|seed| async move {
        let mut lived = Tally::default();
        let held = AssertUnwindSafe(live(seed, &mut lived)).catch_unwind().await;
        (seed, held, lived)
    });
    let mut lives = stream::iter(lives).buffer_unordered(AT_ONCE);
    while let Some((seed, held, lived)) = lives.next().await {
        lived.fired.iter().for_each(|(kind, times)| tally.fired(kind, *times));
        match held {
            Ok(verdict) => tally.lived(&verdict),
            Err(panic) => tally.broke(&format!("seed {seed}"), &why(&*panic)),
        }
    }
}

/// One life, with what fired in it.
async fn live(seed: u64, lived: &mut Tally) -> Verdict {
    let mut dice = fastrand::Rng::with_seed(seed);
    let faults: Vec<String> = dice
        .choose_multiple(FAULTS, 5)
        .into_iter()
        .map(|fault| format!("{fault}%{}", dice.u8(5..=30)))
        .collect();
    let faults = faults.join(",");
    println!("seed {seed}: {faults}");
    let mut rig = Rig::with_jobs(JOBS, Setup { faults: &faults, seed, ..Setup::default() }).await;
    let mut traffic = Traffic::beside(&mut rig, seed);
    for _ in 0..dice.u32(1..=MAX_KILLS) {
        // Requests are the clock: so many more, and it dies, wherever it stands then.
        let last = rig.sandbox.requests().len() + dice.usize(1..=3 * JOBS);
        let mut daemon = rig.start();
        rig.enqueue(MORE).await;
        let things = dice.usize(0..=THINGS);
        let busy = async {
            within(|| "requests, or the end of the work".to_owned(), async {
                tokio::select! {
                    () = rig.sandbox.wait_until(|model| model.requests().len() >= last) => {}
                    () = daemon.gone() => return false,
                }
                // At once, while the traffic goes on.
                rig.count_descriptors(&daemon);
                daemon.signal(rustix::process::Signal::KILL);
                true
            })
            .await
        };
        let (busy, ()) = tokio::join!(busy, traffic.flows(&rig, things));
        let was_killed = rig.end(daemon).await.was_killed();
        lived.fired("SIGKILL", u64::from(busy && was_killed));
        traffic.is_kept(&mut rig).await;
        rig.holds_at_any_instant().await;
    }
    come_to_rest(&mut rig, &traffic).await;
    rig.sandbox.fired().iter().filter(|(_, times)| **times > 0).for_each(|(k, times)| lived.fired(k, *times));
    traffic.done.iter().for_each(|kind| lived.fired(kind, 1));
    rig.checked()
}

/// Settles what is in doubt and runs again, until every job is done, or cancelled by the traffic.
async fn come_to_rest(rig: &mut Rig, traffic: &Traffic) {
    /// Faults that are still armed may put a job in doubt again.
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        rig.command(&["resume"]).await;
        let end = rig.end(rig.start()).await;
        assert!(matches!(end.status.code(), Some(0 | 10)), "{}; it said:\n{}", end.status, end.log);
        traffic.is_kept(rig).await;
        let facts = facts(rig).await;
        rig.judge(at_rest(&facts, |state| matches!(state, State::Cancelled { .. })), &end.log);
        if facts.in_doubt().next().is_none() {
            assert!(traffic.is_taken(), "a dropped file was never taken; it said:\n{}", end.log);
            return;
        }
        rig.tell_the_truth().await;
    }
    panic!("there was always a job in doubt, after {ROUNDS} rounds of the truth");
}
