//! SIGKILL at instants that nobody chose, under faults that nobody chose: a seed chose both, and is printed.

use std::ops::Range;
use std::panic::AssertUnwindSafe;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};

use super::points::AT_ONCE;
use super::rig::{Rig, Setup, within};

/// Lives by this many seeds.
const LIVES: u64 = 25;
/// Jobs of one life to begin with: more than there are slots, so that some always wait.
const JOBS: usize = 8;
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
#[ignore = "five hundred more seeds: some minutes"]
async fn killed_at_many_more_random_instants() {
    prove(LIVES..LIVES + 500).await;
}

/// Lives by every seed; fails with those that broke the promise.
async fn prove(seeds: Range<u64>) {
    let wanted = u32::try_from(seeds.clone().count()).unwrap();
    let lives = seeds.map(|seed| async move {
        let lived = AssertUnwindSafe(live(seed)).catch_unwind().await;
        (seed, lived.ok())
    });
    let lived: Vec<_> = stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let broken: Vec<u64> = lived.iter().filter(|life| life.1.is_none()).map(|life| life.0).collect();
    assert!(broken.is_empty(), "broken, see above: seeds {broken:?}");
    let kills: u32 = lived.iter().filter_map(|life| life.1).sum();
    println!("{wanted} seeds, {kills} kills");
    assert!(kills >= wanted, "only {kills} kills came before the work was done");
}

/// Gives the number of kills that came while there was work.
async fn live(seed: u64) -> u32 {
    let mut dice = fastrand::Rng::with_seed(seed);
    let faults: Vec<String> = dice
        .choose_multiple(FAULTS, 5)
        .into_iter()
        .map(|fault| format!("{fault}%{}", dice.u8(5..=30)))
        .collect();
    let faults = faults.join(",");
    println!("seed {seed}: {faults}");
    let mut rig = Rig::with_jobs(JOBS, Setup { faults: &faults, seed, ..Setup::default() }).await;
    let mut kills = 0;
    for _ in 0..dice.u32(1..=MAX_KILLS) {
        // Requests are the clock: so many more, and it dies, wherever it stands then.
        let last = rig.sandbox.requests().len() + dice.usize(1..=3 * JOBS);
        let mut daemon = rig.start();
        rig.enqueue(MORE).await;
        let busy = within(|| "requests, or the end of the work".to_owned(), async {
            tokio::select! {
                () = rig.sandbox.wait_until(|model| model.requests().len() >= last) => true,
                () = daemon.gone() => false,
            }
        });
        if busy.await {
            daemon.signal(rustix::process::Signal::KILL);
            kills += u32::from(rig.end(daemon).await.was_killed());
        } else {
            rig.end(daemon).await;
        }
        rig.holds_at_any_instant().await;
    }
    rig.finish().await;
    kills
}
