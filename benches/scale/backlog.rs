//! A long queue next to a short one, in turns.

use std::{
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

use klingd::{
    clock::Clock,
    config::{Config, Environment, Overrides},
    daemon,
    sandbox::Sandbox,
    store::{Access, Store},
};
use tokio::runtime::Runtime;

use super::{
    Result, fill, quantile,
    rig::{Queue, provider, wait_for_tasks},
};

/// Claims one after the other, each with its intent committed.
const CLAIMS: usize = 100;
/// Jobs that a start submits before it is stopped again.
const SUBMITS: usize = 40;
/// Jobs that a round forgets.
const FORGOTTEN: usize = 20;

/// What was measured of one queue: each value with its name, its unit, and whether a goal of 1.2 holds for it.
type Measured = Vec<(&'static str, f64)>;

/// The values of the long queue that may be 1.2 times those of the short one.
const GOALS: [&str; 5] = [
    "start to first POST, ms",
    "klingd list in a terminal, ms",
    "claim p50, ms",
    "daemon RSS, MiB",
    "klingd list -n 200, RSS MiB",
];

/// Fills both, measures in turns, prints.
pub fn compare(runtime: &Runtime, dir: &Path, sizes: [usize; 2], rounds: usize) -> Result<()> {
    let sandbox = provider(runtime, Duration::ZERO)?;
    let mut queues = Vec::new();
    for jobs in sizes {
        let settings = [
            ("KLINGD_SUBMIT__MAX_IN_FLIGHT", "10000"),
            ("KLINGD_SUBMIT__START_IN_FLIGHT", "10000"),
            ("KLINGD_INBOX__ENABLED", "false"),
            ("KLINGD_POLL__FIRST", "1s"),
            ("KLINGD_POLL__EVERY", "1s"),
        ];
        let queue = Queue::new(&dir.join(jobs.to_string()), &sandbox, &settings)?;
        let begun = Instant::now();
        fill::fill(runtime, &queue, jobs)?;
        let bytes = std::fs::metadata(queue.database())?.len();
        println!(
            "{jobs} finished and {jobs} queued: {} MiB, made in {:.0} s",
            bytes >> 20,
            begun.elapsed().as_secs_f64()
        );
        queues.push((jobs, queue));
    }
    let mut all: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for ((jobs, queue), all) in queues.iter().zip(&mut all) {
            all.push(measure(runtime, &sandbox, queue, *jobs, round)?);
        }
    }
    for ((_, queue), all) in queues.iter().zip(&mut all) {
        all.push(vec![("claim p50, ms", runtime.block_on(claims(queue))?)]);
    }
    print(&all, sizes, rounds);
    Ok(())
}

fn measure(
    runtime: &Runtime,
    sandbox: &Sandbox,
    queue: &Queue,
    jobs: usize,
    round: usize,
) -> Result<Measured> {
    let mut found = Vec::new();
    let terminal = queue.run_in_terminal("list")?;
    found.push(("klingd list in a terminal, ms", terminal.ms));
    let list = queue.run(&["list", "-n", "200"])?;
    found.extend([("klingd list -n 200, ms", list.ms), ("klingd list -n 200, RSS MiB", list.rss_mib)]);
    let all = queue.run(&["list", "-a", "-n", "200"])?;
    found.extend([("klingd list -a -n 200, ms", all.ms), ("klingd list -a -n 200, RSS MiB", all.rss_mib)]);
    let status = queue.run(&["status"])?;
    found.extend([("klingd status, ms", status.ms), ("klingd status, RSS MiB", status.rss_mib)]);
    let spend = queue.run(&["spend"])?;
    found.extend([("klingd spend, ms", spend.ms), ("klingd spend, RSS MiB", spend.rss_mib)]);
    let prompt = format!("Queued in round {round}");
    let enqueue = queue.run(&["enqueue", "--quiet", "--type", "std-text-to-video", "--prompt", &prompt])?;
    found.push(("klingd enqueue of one, ms", enqueue.ms));
    // The oldest so many; a few seconds more or less are a few jobs more or less.
    let kept = 1.0 - (FORGOTTEN * (round + 1)) as f64 / jobs as f64;
    let age = format!("{}s", fill::SPAN.mul_f64(kept).as_secs());
    let prune = queue.run(&["prune", "--yes", "--older-than", &age])?;
    found.extend([("klingd prune of 20, ms", prune.ms), ("klingd prune, RSS MiB", prune.rss_mib)]);
    found.extend(start(runtime, sandbox, queue)?);
    Ok(found)
}

fn start(runtime: &Runtime, sandbox: &Sandbox, queue: &Queue) -> Result<Measured> {
    let before = sandbox.tasks().len();
    let begun = Instant::now();
    let daemon = queue.daemon(&[])?;
    wait_for_tasks(runtime, sandbox, before + 1)?;
    let first = begun.elapsed().as_secs_f64() * 1e3;
    wait_for_tasks(runtime, sandbox, before + SUBMITS)?;
    let then = begun.elapsed().as_secs_f64() * 1e3;
    let (rss, peak, cpu_s) = (daemon.rss_mib(), daemon.peak_rss_mib(), daemon.cpu_s());
    let stop = daemon.stop()?;
    Ok(vec![
        ("start to first POST, ms", first),
        ("from there to 40 POSTs, ms", then - first),
        ("daemon's CPU until then, ms", cpu_s * 1e3),
        ("daemon RSS, MiB", rss),
        ("daemon peak RSS, MiB", peak),
        ("stop, ms", stop),
    ])
}

/// The median time of a claim with its intent, by the store alone.
async fn claims(queue: &Queue) -> Result<f64> {
    let variables = queue.variables().iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
    let environment = Environment { variables, current_dir: queue.dir.clone(), ..Environment::default() };
    let config = Config::load(&Overrides::default(), &environment)?;
    let policy = daemon::claim_policy(&config, "bench");
    let (store, writer) = Store::open(&queue.database(), Access::Use).await?;
    let claimed = async move {
        let mut took = Vec::new();
        for _ in 0..CLAIMS {
            let (now, begun) = (Clock.now(), Instant::now());
            let claimed = store.claim_submits(1, &policy, now, Clock.day_start(now)).await?;
            if claimed.intents.len() != 1 {
                return Err("the gate is closed: nothing was claimed".into());
            }
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Result::Ok(quantile(&took, 0.5))
    };
    let (written, claimed) = tokio::join!(writer.run(), claimed);
    written?;
    claimed
}

fn print(all: &[Vec<Measured>; 2], sizes: [usize; 2], rounds: usize) {
    println!("medians of {rounds} rounds in turns (highest); a claim: of {CLAIMS}");
    println!("{:<34} {:>20} {:>20} {:>8}", "", sizes[0], sizes[1], "ratio");
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in all[0].iter().flatten() {
        if !names.contains(name) {
            names.push(name);
        }
    }
    for name in names {
        let values = |of: &Vec<Measured>| -> Vec<f64> {
            of.iter().flatten().filter(|(n, _)| *n == name).map(|(_, value)| *value).collect()
        };
        let both = [values(&all[0]), values(&all[1])];
        let [small, large] = both.each_ref().map(|values| quantile(values, 0.5));
        let cell = |n: usize| format!("{:.2} ({:.2})", quantile(&both[n], 0.5), quantile(&both[n], 1.0));
        let goal = if GOALS.contains(&name) { "  goal 1.2" } else { "" };
        println!("{name:<34} {:>20} {:>20} {:>7.2}×{goal}", cell(0), cell(1), large / small);
    }
}
