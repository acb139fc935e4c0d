//! From an enqueue in one process to the paid call of another, whose daemon runs: the time from the commit to the POST's
//! arrival at the double, and from the start of `klingd enqueue` to it. Beside the floor, which is two full commits of
//! SQLite's own tool, and queues that are installed (`benches/peers/install.sh`), from their commit to their handler's start.
//!
//! Goal: the POST arrives within 3 ms of the commit at p50, within 20 ms at p99; after a long quiet just the same.
//!
//! `cargo bench --bench latency -- [--samples 80] [--quiet 4] [--quiet-samples 2]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod common;
#[path = "latency/ways.rs"]
mod ways;

use std::{path::Path, thread, time::Duration};

use common::{Result, Series, number, say_machine, turns, verdict, word};
use ways::{Klingd, Peer, Way, peers};

/// Between two enqueues: everybody is at rest again.
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    if let (Some("enqueuer"), Some(dir)) = (word("--as").as_deref(), word("--dir")) {
        return ways::enqueuer(Path::new(&dir));
    }
    let dir = tempfile::tempdir_in(std::env::current_dir()?.join("target"))?;
    say_machine(dir.path())?;
    println!("fsync: klingd and the floor WAL, synchronous=FULL; huey the same (fsync=True); pueue never");
    let mut klingd = Klingd::start(dir.path())?;
    let mut peers = peers(dir.path())?;
    klingd.by_helper()?;
    let samples = number("--samples", 80);
    let mut all = Table::default();
    for round in 0..samples {
        for way in turns(&[Way::Helper, Way::Process, Way::Floor], round) {
            thread::sleep(PAUSE);
            match way {
                Way::Helper => all.commit.push(klingd.by_helper()?),
                Way::Process => all.process.push(klingd.by_process()?),
                Way::Floor => all.floor.push(klingd.two_commits()?),
            }
        }
    }
    println!("idle, {samples} samples, ms");
    all.report();
    // Their handlers come late: fewer samples are enough to say how late.
    for peer in &mut peers {
        beside(peer, samples.min(20))?;
    }
    let (quiet, samples) = (number("--quiet", 4), number("--quiet-samples", 2));
    println!("after {quiet} s of quiet, {samples} samples, ms");
    let mut late = Series::default();
    for _ in 0..samples {
        thread::sleep(Duration::from_secs(quiet));
        late.push(klingd.by_helper()?);
    }
    println!("  klingd, commit → POST        {late:.2}");
    for peer in &mut peers {
        thread::sleep(Duration::from_secs(quiet));
        let (from_commit, _) = peer.once()?;
        println!("  {}, commit → handler, once: {from_commit:.1}", peer.name);
    }
    klingd.stop()
}

/// Milliseconds by way.
#[derive(Default)]
struct Table {
    commit: Series,
    process: Series,
    floor: Series,
}

impl Table {
    fn report(&self) {
        let line = |what: &str, all: &Series| {
            println!("  {what:<28} p50 {:.2}  p99 {:.2}  most {:.2}", all.p(50), all.p(99), all.most());
        };
        line("floor: two full commits", &self.floor);
        line("klingd, commit → POST", &self.commit);
        line("klingd, process start → POST", &self.process);
        let (p50, p99) = (self.commit.p(50), self.commit.p(99));
        println!("  goal: p50 ≤ 3 ms {}, p99 ≤ 20 ms {}", verdict(p50 <= 3.0), verdict(p99 <= 20.0));
        let over = self.commit.p(50) / self.floor.p(50);
        println!("  commit → POST over the floor: {over:.2}");
    }
}

fn beside(peer: &mut Peer, samples: usize) -> Result<()> {
    let (mut commit, mut start) = (Series::default(), Series::default());
    for _ in 0..samples {
        thread::sleep(PAUSE);
        let (from_commit, from_start) = peer.once()?;
        commit.push(from_commit);
        start.push(from_start);
    }
    println!(
        "  {:<28} commit → handler p50 {:.1}  p99 {:.1}; call → handler p50 {:.1}, {samples} samples",
        peer.name,
        commit.p(50),
        commit.p(99),
        start.p(50)
    );
    Ok(())
}
