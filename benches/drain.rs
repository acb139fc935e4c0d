//! The whole way of many jobs through real HTTP: submit, status, download, fsynced files. Beside the floor: the same calls
//! and files by bare reqwest, without any queue. The provider's double, klingd and the floor run as processes of their own,
//! so that CPU and memory are each one's.
//!
//! Goal: klingd at 60 % of the floor's jobs a second or more.
//!
//! `cargo bench --bench drain -- [--jobs 10000] [--bytes 20000] [--rounds 3]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and writes where it likes")]

mod common;
#[path = "drain/floor.rs"]
mod floor;
#[path = "drain/klingd.rs"]
mod ours;

use std::path::Path;

use common::{
    Result, Series,
    child::{self, Cost},
    load, number, say_machine, turns, verdict, word,
};

/// Jobs at once, for both.
const AT_ONCE: usize = 8;

fn main() -> Result<()> {
    let jobs = number("--jobs", 10_000);
    match (word("--as").as_deref(), word("--url"), word("--dir")) {
        (Some("klingd"), Some(url), Some(dir)) => ours::run(Path::new(&dir), &url, jobs),
        (Some("floor"), Some(url), Some(dir)) => floor::run(Path::new(&dir), &url, jobs),
        _ => compare(jobs, number("--bytes", 20_000), number("--rounds", 3)),
    }
}

#[derive(Clone, Copy)]
enum Way {
    Klingd,
    Floor,
}

/// What all rounds of one way used.
#[derive(Default)]
struct Runs {
    per_second: Series,
    cpu_s: Series,
    rss_mb: Series,
    /// Shares of one core, of the way and of the double that it calls.
    busy: Series,
    double_busy: Series,
    /// Jobs a second put into the queue before, in one call.
    queued: Series,
}

impl Runs {
    fn push(&mut self, cost: &Cost, double_cpu_s: f64, jobs: u64) -> Result<()> {
        // Each says what of its time counts: filling the queue is no part of a drain.
        let wall_s = cost.said("wall ").ok_or("it did not say how long it took")?;
        let cpu_s = cost.said("cpu ").unwrap_or(cost.cpu_s);
        self.per_second.push(jobs as f64 / wall_s);
        self.cpu_s.push(cpu_s / jobs as f64 * 1e3);
        self.rss_mb.push(cost.rss_mb);
        self.busy.push(cpu_s / wall_s);
        self.double_busy.push(double_cpu_s / wall_s);
        if let Some(queueing_s) = cost.said("queued ") {
            self.queued.push(jobs as f64 / queueing_s);
        }
        Ok(())
    }

    fn report(&self, what: &str) {
        println!("  {what}");
        println!("    jobs/s                 {:.0}", self.per_second);
        println!("    CPU s per 1,000 jobs   {:.3}", self.cpu_s);
        println!("    peak RSS MB            {:.1}", self.rss_mb);
        println!("    cores it used          {:.2}; the double {:.2}", self.busy, self.double_busy);
    }
}

fn compare(jobs: u64, bytes: u64, rounds: usize) -> Result<()> {
    let target = std::env::current_dir()?.join("target");
    say_machine(&target)?;
    println!(
        "fsync: klingd's database WAL, synchronous=FULL; videos and sidecars of both: file, rename, directory"
    );
    println!("drain: {jobs} jobs, videos of {bytes} bytes, {AT_ONCE} at once, {rounds} rounds in turn");
    let (mut ours, mut floor) = (Runs::default(), Runs::default());
    for round in 0..rounds {
        for way in turns(&[Way::Klingd, Way::Floor], round) {
            let dir = tempfile::tempdir_in(&target)?;
            // A double for each: its books grow with every job.
            let (double, url) = child::double(&["--render", "0", "--video-bytes", &bytes.to_string()])?;
            let (part, runs) = match way {
                Way::Klingd => ("klingd", &mut ours),
                Way::Floor => ("floor", &mut floor),
            };
            let mut command = child::itself(part)?;
            command.args(["--url", &url, "--jobs", &jobs.to_string(), "--dir"]).arg(dir.path());
            let cost = child::measure(&mut command)?;
            runs.push(&cost, child::cpu_s(double.pid()), jobs)?;
        }
    }
    floor.report("floor: bare reqwest, the same calls and files, no queue");
    ours.report("klingd");
    println!("    queued before, jobs/s  {:.0}", ours.queued);
    let ratio = ours.per_second.over(&floor.per_second);
    println!("  klingd over the floor    {ratio:.2}; goal ≥ 0.60 {}", verdict(ratio.median() >= 0.6));
    println!("  {}", bottleneck(&floor)?);
    println!("  load at the end {}", load());
    Ok(())
}

/// Whether the floor says anything about the client, or only how fast the double answers.
fn bottleneck(floor: &Runs) -> Result<String> {
    let cores = std::thread::available_parallelism()?.get() as f64;
    let (client, double) = (floor.busy.median(), floor.double_busy.median());
    let all = 100.0 * (client + double) / cores;
    let share = 100.0 * double / (client + double);
    Ok(format!(
        "in the floor's runs both together used {all:.0} % of the {cores} cores, {share:.0} % of that the double{}",
        if all > 80.0 && share > 50.0 {
            ": it is the bottleneck there, and flatters klingd's ratio"
        } else {
            ""
        }
    ))
}
