//! What the gate makes of limits that nobody knows, beside naive backoff and the AWS SDKs' adaptive mode.
//!
//! `cargo bench --bench gate -- [--seeds 5] [--no-http]`
//!
//! All but the last table is a simulation of virtual time with fixed seeds; the last runs the daemon against the sandbox
//! over real HTTP for a minute.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod clients;
mod http;
mod sim;

use clients::{AwsAdaptive, Klingd, Naive};
use sim::{Client, Limit, Log, Ms, World, run};

const SECOND: Ms = 1000;
const MINUTE: Ms = 60 * SECOND;
const HOUR: Ms = 60 * MINUTE;
/// From here on a run is steady.
const STEADY: Ms = MINUTE;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds = argument("--seeds").unwrap_or(5);
    println!(
        "mean (worst) of {seeds} seeds; goodput in % of the limit after 60 s of an hour; 429s in % of calls"
    );
    rates(seeds);
    changes(seeds);
    slots(seeds);
    if !std::env::args().any(|a| a == "--no-http") {
        http::run()?;
    }
    Ok(())
}

fn argument(name: &str) -> Option<u64> {
    let mut all = std::env::args();
    all.find(|a| a == name).and_then(|_| all.next()).and_then(|n| n.parse().ok())
}

/// A name, and how to make one.
type Maker = (&'static str, fn(u64) -> Box<dyn Client>);

const CLIENTS: [Maker; 3] = [
    ("klingd", |seed| Box::new(Klingd::new(seed, 100))),
    ("AWS adaptive", |seed| Box::new(AwsAdaptive::new(seed))),
    ("naive", |seed| Box::new(Naive::new(seed))),
];

/// A figure over all seeds.
struct Figure(Vec<f64>);

impl Figure {
    fn of(seeds: u64, measure: impl Fn(u64) -> f64) -> Self {
        Self((1..=seeds).map(measure).collect())
    }

    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

fn rates(seeds: u64) {
    println!(
        "\nsteady rate          | klingd: goodput    429s          goal           | AWS: good  429s | naive: good  429s"
    );
    for burst in [5.0, 1.0] {
        for (per_second, goal) in [(0.5, [85.0, 99.0]), (2.0, [70.0, 99.0]), (10.0, [0.0, 93.0])] {
            for (retry_after, refusals_cost) in [(false, false), (true, false), (false, true)] {
                let limit = Limit { per_second, burst, retry_after, refusals_cost };
                let measured = CLIENTS.map(|(_, make)| {
                    let logs: Vec<Log> = (1..=seeds).map(|seed| steady(limit, seed, make)).collect();
                    let goodput =
                        Figure(logs.iter().map(|l| 100.0 * l.goodput(STEADY, HOUR, per_second)).collect());
                    (goodput, Figure(logs.iter().map(|l| 100.0 * l.refused_share(STEADY, HOUR)).collect()))
                });
                let [(good, bad), (aws_good, aws_bad), (naive_good, naive_bad)] = measured;
                let goal = goal[usize::from(burst > 1.0)];
                let variant = match (retry_after, refusals_cost) {
                    (true, _) => "Retry-After",
                    (false, true) => "429s cost",
                    (false, false) => "",
                };
                // The goals were set for refusals that cost nothing, and burst 1 has none at 10/s.
                let judged = if refusals_cost || goal == 0.0 {
                    "-".to_owned()
                } else {
                    format!("≥{goal} ≤1 {}", verdict(good.mean() >= goal && bad.mean() <= 1.0))
                };
                println!(
                    "{per_second:>4}/s b{burst} {variant:<11} | {:6.1} ({:5.1})   {:5.2} ({:4.2})  {judged:<14} | {:6.1}  {:6.1} | {:6.1}  {:6.1}",
                    good.mean(),
                    good.least(),
                    bad.mean(),
                    bad.most(),
                    aws_good.mean(),
                    aws_bad.mean(),
                    naive_good.mean(),
                    naive_bad.mean(),
                );
            }
        }
    }
}

fn steady(limit: Limit, seed: u64, make: fn(u64) -> Box<dyn Client>) -> Log {
    let world = World { seed, limit: Some(limit), change: None, slots: None, end: HOUR };
    run(world, &mut *make(seed))
}

fn changes(seeds: u64) {
    println!(
        "\nafter half an hour the limit (burst 5) … | halves: 429s in 5 min | doubles: goodput of the next half hour, of its last 5 min"
    );
    for per_second in [0.5, 2.0, 10.0] {
        for (name, make) in CLIENTS {
            let limit = Limit { per_second, burst: 5.0, retry_after: false, refusals_cost: false };
            let changed = |seed: u64, factor: f64| {
                // At another moment of the gate's own cycle each time.
                let at = HOUR / 2 + seed * 17 * SECOND;
                let end = at + HOUR / 2;
                let world = World { seed, limit: Some(limit), change: Some((at, factor)), slots: None, end };
                (at, end, run(world, &mut *make(seed)))
            };
            let halved = Figure::of(seeds, |seed| {
                let (at, _, log) = changed(seed, 0.5);
                log.refusals(at, at + 5 * MINUTE)
            });
            let doubled = Figure::of(seeds, |seed| {
                let (at, end, log) = changed(seed, 2.0);
                100.0 * log.goodput(at, end, 2.0 * per_second)
            });
            let at_last = Figure::of(seeds, |seed| {
                let (_, end, log) = changed(seed, 2.0);
                100.0 * log.goodput(end - 5 * MINUTE, end, 2.0 * per_second)
            });
            let (fewer, found) = (verdict(halved.mean() <= 10.0), verdict(at_last.mean() >= 90.0));
            println!(
                "{per_second:>4}/s {name:<13} | {:6.1} ({:4.0}) ≤10 {fewer:<6} | {:5.1} ({:5.1})   {:5.1} ({:5.1}) ≥90 {found}",
                halved.mean(),
                halved.most(),
                doubled.mean(),
                doubled.least(),
                at_last.mean(),
                at_last.least(),
            );
        }
    }
}

fn slots(seeds: u64) {
    const TASK: Ms = 90 * SECOND;
    let day = 24 * HOUR;
    println!(
        "\nparallel tasks of 90 s, a day | slots used after the first hour, % | 429s of the day, % (an end is noticed at once)"
    );
    for slots in [3, 10, 50] {
        let makers: [Maker; 2] = [("klingd", |seed| Box::new(Klingd::new(seed, 3))), CLIENTS[2]];
        for (name, make) in makers {
            let logs: Vec<Log> = (1..=seeds)
                .map(|seed| {
                    let world =
                        World { seed, limit: None, change: None, slots: Some((slots, TASK)), end: day };
                    run(world, &mut *make(seed))
                })
                .collect();
            let used = Figure(logs.iter().map(|l| 100.0 * l.slots_used(HOUR, day, slots, TASK)).collect());
            let refused = Figure(logs.iter().map(|l| 100.0 * l.refused_share(0, day)).collect());
            let met = verdict(used.mean() >= 97.0 && refused.mean() <= 1.0);
            println!(
                "{slots:>3} {name:<7} | {:6.2} ({:6.2}) | {:6.2} ({:6.2}) ≥97 ≤1 {met}",
                used.mean(),
                used.least(),
                refused.mean(),
                refused.most()
            );
        }
    }
}
