//! The soak: the real daemon for an hour under mixed faults, with files dropped into its inbox, jobs by command, a person
//! who settles doubts truthfully, prunes, reloads, stops and kills. What grows is found by its trend, and in the end the
//! provider's own books judge the promise.
//!
//! `cargo bench --bench soak -- [--minutes 60] [--jobs 20000] [--seed 1] [--dir DIR] [--plot FILE.svg]`
//!
//! The folder keeps everything: `samples.csv`, `daemon.log`, the queue. It ends with 1 when a line of the promise was
//! broken, a fault that was armed never fired, or something grew. Latencies are those of a machine that does other work,
//! too; what is judged of them is that they do not grow.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and writes its own files")]

mod facts;
mod judge;
mod plot;
mod sample;
mod traffic;
mod trend;
mod verdict;
mod world;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use self::{
    sample::{Sample, Sampler},
    traffic::Traffic,
    world::World,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// After the last job was handed over: retries of downloads, looks at failed tasks, doubts.
const REST_WITHIN: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let plan = Plan::from_arguments();
    match soak(&plan) {
        Ok(broken) if broken.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("the soak itself broke: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a run is to do.
pub struct Plan {
    minutes: f64,
    jobs: usize,
    seed: u64,
    dir: Option<PathBuf>,
    plot: Option<PathBuf>,
}

impl Plan {
    fn from_arguments() -> Self {
        let text = |name: &str| {
            let mut all = std::env::args();
            all.find(|a| a == name).and_then(|_| all.next())
        };
        Self {
            minutes: text("--minutes").and_then(|t| t.parse().ok()).unwrap_or(60.0),
            jobs: text("--jobs").and_then(|t| t.parse().ok()).unwrap_or(20_000),
            seed: text("--seed").and_then(|t| t.parse().ok()).unwrap_or(1),
            dir: text("--dir").map(PathBuf::from),
            plot: text("--plot").map(PathBuf::from),
        }
    }

    fn lasts(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }
}

/// Runs it and says what was broken.
fn soak(plan: &Plan) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let world = World::new(plan, &runtime)?;
    println!(
        "seed {}, {} jobs in {} minutes, in {}",
        plan.seed,
        plan.jobs,
        plan.minutes,
        world.dir.display()
    );
    world.start()?;
    let begun = Instant::now();
    let traffic = Traffic::new(&world, plan);
    let sampler = Sampler::new(&world, &traffic)?;
    let samples: Vec<Sample> = std::thread::scope(|scope| -> Result<Vec<Sample>> {
        let samples = scope.spawn(|| sampler.run());
        let others = [
            scope.spawn(|| traffic.customers()),
            scope.spawn(|| traffic.person()),
            scope.spawn(|| traffic.operator()),
        ];
        traffic.handed_over.wait_at_most(plan.lasts() * 2 + REST_WITHIN);
        let rested = traffic.wait_for_rest(REST_WITHIN);
        traffic.over.set();
        for other in others {
            other.join().map_err(|_| "a part of the traffic panicked")??;
        }
        let samples = samples.join().map_err(|_| "the sampler panicked")??;
        if !rested {
            traffic.complain(format!("it did not come to rest within {} s", REST_WITHIN.as_secs()));
        }
        Ok(samples)
    })?;
    world.stop()?;
    println!("ran for {:.1} minutes; judging", begun.elapsed().as_secs_f64() / 60.0);
    let facts = runtime.block_on(facts::gather(&world, &traffic))?;
    let broken = verdict::verdict(&world, &traffic, &facts, &samples);
    if let Some(file) = &plan.plot {
        std::fs::write(file, plot::svg(&verdict::panels(&samples), &verdict::starts(&samples)))?;
        println!("drawn in {}", file.display());
    }
    Ok(broken)
}
