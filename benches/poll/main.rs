//! Looks a job against the time from a video's end to the look that sees it: klingd's schedule beside simple ones and
//! the optimum that knows the distribution. A simulation, seeded; it takes seconds.
//!
//! `cargo bench --bench poll -- [--seed 1]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod optimum;
mod world;

use klingd::domain::{JobType, RenderKind};
use optimum::{Frontier, optimum};
use world::{Cost, Draws, Lognormal, Looks, kind, klingd, mean};

/// Worlds with a history of their own, and jobs in each.
const MANY: (u32, u32) = (400, 200);
/// Seconds of the optimum's grid.
const STEP: f64 = 0.5;

const ONE: (RenderKind, Lognormal) = (kind(JobType::StdTextToVideo), Lognormal { median: 90.0, sigma: 0.4 });

/// Types whose known times have such medians in them.
const FIVE: [(RenderKind, Lognormal); 5] = [
    (kind(JobType::StdTextToVideo), Lognormal { median: 60.0, sigma: 0.4 }),
    (kind(JobType::StdImageToVideo), Lognormal { median: 110.0, sigma: 0.4 }),
    (kind(JobType::ProTextToVideo), Lognormal { median: 160.0, sigma: 0.4 }),
    (kind(JobType::ProImageToVideo), Lognormal { median: 220.0, sigma: 0.4 }),
    (kind(JobType::O3ProReferenceToVideo), Lognormal { median: 300.0, sigma: 0.4 }),
];

fn main() {
    let seed =
        std::env::args().skip_while(|a| a != "--seed").nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut draws = Draws(seed);
    println!("seed {seed}; {} worlds of {} jobs each", MANY.0, MANY.1);
    let mut goals = Vec::new();
    table("lognormal, median 90 s, sigma 0.4", &[ONE], 1.0, &mut draws, &mut goals);
    table("five types, medians 60 to 300 s", &FIVE, 1.0, &mut draws, &mut goals);
    table("median 90 s learned, then the service is twice as slow", &[ONE], 2.0, &mut draws, &mut goals);
    println!("\ngoals");
    for (goal, met) in goals {
        println!("  {}  {goal}", if met { "met   " } else { "MISSED" });
    }
}

type Kinds<'a> = &'a [(RenderKind, Lognormal)];

fn table(title: &str, kinds: Kinds<'_>, slower: f64, draws: &mut Draws, goals: &mut Vec<(String, bool)>) {
    println!(
        "\n{title}\n{:36}{:>11}{:>12}{:>9}{:>21}",
        "", "polls a job", "mean lag s", "p95 s", "lag over frontier's"
    );
    let now: Vec<_> = kinds.iter().map(|(_, of)| Lognormal { median: of.median * slower, ..*of }).collect();
    let frontier = Frontier::of(&now, STEP);
    let mut all = |name: &str, looks: &dyn Fn(RenderKind, Lognormal, &mut Draws) -> Looks| {
        let each = kinds.iter().zip(&now);
        let costs = each.map(|((kind, of), now)| mean(*now, MANY, draws, |draws| looks(*kind, *of, draws)));
        let cost = average(costs.collect());
        line(name, cost, &frontier);
        cost
    };
    all("fixed 5 s", &|_, _, _| Looks::Fixed(5.0));
    let ten = all("fixed 10 s", &|_, _, _| Looks::Fixed(10.0));
    all("fixed 30 s", &|_, _, _| Looks::Fixed(30.0));
    all("exponential 2 to 30 s", &|_, _, _| Looks::Exponential(2.0, 30.0));
    let none = all("klingd, no history", &|kind, of, draws| klingd(kind, of, 0, draws));
    all("klingd, 5 runs", &|kind, of, draws| klingd(kind, of, 5, draws));
    let twenty = all("klingd, 20 runs", &|kind, of, draws| klingd(kind, of, 20, draws));
    all("klingd, 64 runs", &|kind, of, draws| klingd(kind, of, 64, draws));
    for worth in [0.5, 1.0, 1.5, 2.0] {
        let best = average(now.iter().map(|of| optimum(*of, worth, STEP)).collect());
        line(&format!("optimum, a call worth {worth} s"), best, &frontier);
    }
    if slower > 1.0 {
        let met = twenty.lag <= 6.5 && twenty.polls <= 15.0;
        goals.push((
            format!("{title}: about 6 s at about 12 polls (found {:.1} s, {:.1})", twenty.lag, twenty.polls),
            met,
        ));
        return;
    }
    let over = frontier.lag(twenty.polls).map_or(f64::NAN, |least| twenty.lag / least);
    goals.push((
        format!("{title}, 20 runs: within 10 % of the frontier (found {:+.1} %)", 100.0 * (over - 1.0)),
        over <= 1.1,
    ));
    let (polls, lag) = (none.polls / ten.polls, none.lag / ten.lag);
    goals.push((
        format!("{title}, no history: half the polls of fixed 10 s at no more than 1.5 times its lag (found {polls:.2}, {lag:.2})"),
        polls <= 0.5 && lag <= 1.5,
    ));
}

fn average(costs: Vec<Cost>) -> Cost {
    let n = costs.len() as f64;
    let sum = |of: fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / n;
    Cost { polls: sum(|c| c.polls), lag: sum(|c| c.lag), p95: sum(|c| c.p95) }
}

fn line(name: &str, cost: Cost, frontier: &Frontier) {
    let over = frontier
        .lag(cost.polls)
        .map_or_else(String::new, |least| format!("{:+.1} %", 100.0 * (cost.lag / least - 1.0)));
    let p95 = if cost.p95 > 0.0 { format!("{:.1}", cost.p95) } else { String::new() };
    println!("{name:36}{:>11.1}{:>12.1}{p95:>9}{over:>21}", cost.polls, cost.lag);
}
