//! What a long queue costs: the same questions and starts with a thousand jobs queued, ten thousand, a hundred thousand
//! and a million, in turn, as ratios to the thousand.
//!
//! Goals: at most 1.2 times the time of a thousand; the daemon's memory at most 40 MB, and at most 1.2 times.
//!
//! `cargo bench --bench backlog -- [--jobs 100000] [--rounds 5] [--claims 40]`; `--jobs 1000000` is the whole ladder and
//! takes some minutes and 2 GB of disk.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and writes where it likes")]

#[path = "backlog/claims.rs"]
mod claims;
mod common;
#[path = "backlog/start.rs"]
mod start;

use std::{
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use common::{
    Result, Series,
    child::{self, Running},
    number, say_machine, turns, verdict, word,
};

/// What the rounds take away: claims, and jobs that a start submits.
const SPARE: u64 = 600;

fn main() -> Result<()> {
    let claims = number("--claims", 40);
    if let (Some("claims"), Some(dir)) = (word("--as").as_deref(), word("--dir")) {
        return claims::run(Path::new(&dir), claims);
    }
    let (most, rounds) = (number("--jobs", 100_000), number("--rounds", 5));
    let dir = tempfile::tempdir_in(std::env::current_dir()?.join("target"))?;
    say_machine(dir.path())?;
    println!("fsync: WAL, synchronous=FULL");
    let sizes = std::iter::successors(Some(1000), |n| Some(n * 10)).take_while(|n| *n <= most);
    let mut queues = sizes.map(|jobs| Queue::fill(dir.path(), jobs)).collect::<Result<Vec<_>>>()?;
    let provider = start::Provider::new()?;
    let order: Vec<usize> = (0..queues.len()).collect();
    for round in 0..rounds {
        for at in turns(&order, round) {
            queues[*at].measure(&provider, claims)?;
        }
    }
    report(&queues, rounds);
    Ok(())
}

/// A queue of so many jobs, and what was measured with it.
struct Queue {
    jobs: u64,
    data: PathBuf,
    figures: [Series; FIGURES.len()],
}

/// What is measured, and the goal: so many times the figure of a thousand jobs at most.
const FIGURES: [(&str, f64); 8] = [
    ("klingd run → first POST, ms", 1.2),
    ("claim of one job p50, ms", 1.2),
    ("claim of one job p99, ms", f64::INFINITY),
    ("klingd list, as long as on a terminal, ms", 1.2),
    ("klingd status, ms", 1.2),
    ("klingd spend, ms", 1.2),
    ("klingd enqueue of one, ms", 1.2),
    ("daemon RSS, MB", 1.2),
];
const RSS: usize = 7;
const RSS_GOAL_MB: f64 = 40.0;

impl Queue {
    fn fill(dir: &Path, jobs: u64) -> Result<Self> {
        let data = dir.join(format!("queue-{jobs}"));
        let start = Instant::now();
        let mut enqueue = child::klingd(&data);
        enqueue.args(["enqueue", "--yes", "--quiet", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = Running::start(&mut enqueue)?;
        let mut lines = BufWriter::new(running.0.stdin.take().ok_or("no pipe")?);
        for n in 0..jobs + SPARE {
            writeln!(
                lines,
                "{{\"type\": \"std-text-to-video\", \"prompt\": \"A lighthouse at dusk, slow pan, number {n}. Gulls \
                 circle over wet nets.\", \"name\": \"shot-{n}\", \"duration\": {}, \"tags\": [\"bench\"]}}",
                3 + n % 13
            )?;
        }
        drop(lines);
        if !running.0.wait()?.success() {
            return Err("the jobs were not queued".into());
        }
        println!("{jobs} jobs queued in {:.1} s", start.elapsed().as_secs_f64());
        Ok(Self { jobs, data, figures: Default::default() })
    }

    fn measure(&mut self, provider: &start::Provider, claims: usize) -> Result<()> {
        let verb = |arguments: &[&str]| {
            child::measure(child::klingd(&self.data).args(arguments).stderr(Stdio::null()))
        };
        let round = self.figures[0].len();
        let prompt = format!("One more, in round {round}");
        let list = verb(&["list", "-n", "200"])?;
        let status = verb(&["status"])?;
        let spend = verb(&["spend"])?;
        let one = verb(&["enqueue", "--yes", "--quiet", "--type", "std-text-to-video", "--prompt", &prompt])?;
        let mut claiming = child::itself("claims")?;
        claiming.args(["--claims", &claims.to_string(), "--dir"]).arg(&self.data);
        let claimed = child::measure(&mut claiming)?;
        let said = |name| claimed.said(name).ok_or("the claims did not say how long they took");
        let started = provider.start(&self.data)?;
        let ms = 1e3;
        let figures = [
            started.first_post_ms,
            said("p50 ")?,
            said("p99 ")?,
            list.wall_s * ms,
            status.wall_s * ms,
            spend.wall_s * ms,
            one.wall_s * ms,
            started.rss_mb,
        ];
        self.figures.iter_mut().zip(figures).for_each(|(series, figure)| series.push(figure));
        Ok(())
    }
}

fn report(queues: &[Queue], rounds: usize) {
    println!("{rounds} rounds in turn; medians (least to most), and over those of a thousand jobs");
    let Some((base, longer)) = queues.split_first() else { return };
    for (at, (what, goal)) in FIGURES.into_iter().enumerate() {
        println!("{what}");
        println!("  {:>8} jobs  {}", base.jobs, base.figures[at]);
        for queue in longer {
            let ratio = queue.figures[at].median() / base.figures[at].median();
            let judged = if goal.is_finite() { verdict(ratio <= goal) } else { "" };
            println!("  {:>8} jobs  {}  {ratio:.2}× {judged}", queue.jobs, queue.figures[at]);
        }
    }
    let most = queues.iter().map(|queue| queue.figures[RSS].most()).fold(0.0, f64::max);
    println!("daemon RSS at most {most:.1} MB; goal ≤ {RSS_GOAL_MB} MB {}", verdict(most <= RSS_GOAL_MB));
}
