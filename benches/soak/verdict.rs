//! What is printed in the end: what was done, what fired, what grew, what was broken.

use super::{
    judge::{Facts, broken},
    plot::{Line, Panel},
    sample::Sample,
    traffic::Traffic,
    trend::{Bound, quantile, trend},
    world::World,
};

/// A value that must not grow, and the most it may ever be.
struct Flat {
    name: &'static str,
    of: fn(&Sample) -> Option<f64>,
    bound: Bound,
    ceiling: f64,
}

/// Said before the run. A life begins with caches that fill; a busy machine and its disk give latencies of their own.
const FLAT: [Flat; 6] = [
    Flat {
        name: "RSS in MiB",
        of: |s| Some(s.rss_mib),
        bound: Bound { share: 0.15, floor: 4.0 },
        ceiling: 60.0,
    },
    Flat {
        name: "descriptors",
        of: |s| Some(s.fds),
        bound: Bound { share: 0.1, floor: 5.0 },
        ceiling: 200.0,
    },
    Flat { name: "threads", of: |s| Some(s.threads), bound: Bound { share: 0.1, floor: 3.0 }, ceiling: 60.0 },
    Flat {
        name: "WAL in MiB",
        of: |s| Some(s.wal_mib),
        bound: Bound { share: 0.2, floor: 4.0 },
        ceiling: 64.0,
    },
    Flat {
        name: "enqueue to POST, p50 in ms",
        of: |s| s.latency_p50_ms,
        bound: Bound { share: 0.5, floor: 50.0 },
        ceiling: f64::INFINITY,
    },
    Flat {
        name: "klingd list in ms",
        of: |s| Some(s.list_ms),
        bound: Bound { share: 0.5, floor: 30.0 },
        ceiling: f64::INFINITY,
    },
];

/// The start of a life is no part of its trend: caches fill, and what waited is worked off.
const WARM_UP_S: f64 = 60.0;

/// Prints all of it; gives what was broken.
pub fn verdict(world: &World, traffic: &Traffic<'_>, facts: &Facts, samples: &[Sample]) -> Vec<String> {
    let mut found = broken(facts);
    let book = traffic.book();
    found.extend(book.complaints.iter().cloned());
    println!("\ndone:");
    for (what, times) in &book.done {
        println!("  {times:>7} × {what}");
    }
    let fired = world.sandbox.fired();
    let times: Vec<String> = fired.iter().map(|(fault, n)| format!("{fault} {n}")).collect();
    println!("faults fired: {} of {} kinds; {}", fired.values().sum::<u64>(), fired.len(), times.join(", "));
    found.extend(fired.iter().filter(|(_, n)| **n == 0).map(|(fault, _)| format!("{fault} never fired")));
    judged(facts);
    found.extend(trends(samples));
    println!("{} violations", found.len());
    found.iter().take(50).for_each(|line| println!("  BROKEN: {line}"));
    found
}

fn judged(facts: &Facts) {
    let tasks: usize = facts.paid.values().map(Vec::len).sum();
    let in_state = |state: &str| facts.rows.iter().filter(|row| row.state == state).count();
    println!(
        "judged: {} jobs acknowledged, {} still in the queue ({} done, {} failed, {} cancelled), {} pruned or never there; \
         {tasks} tasks paid, {} videos compared byte for byte",
        facts.offered.len(),
        facts.rows.len(),
        in_state("done"),
        in_state("failed"),
        in_state("cancelled"),
        facts.offered.len().saturating_sub(facts.rows.len()),
        facts.videos.len()
    );
}

/// Each value over each life that was long enough, and over the whole run.
fn trends(samples: &[Sample]) -> Vec<String> {
    let mut grew = Vec::new();
    let lives = samples.iter().map(|s| s.life).max().unwrap_or(0);
    println!("{:<28} {:>6} {:>10} {:>10} {:>10}", "", "life", "median", "highest", "growth");
    for flat in &FLAT {
        for life in (1..=lives).map(Some).chain([None]) {
            let points = points_of(samples, flat.of, life);
            let Some(trend) = trend(&points) else { continue };
            let highest = quantile(points.iter().map(|(_, v)| *v).collect(), 1.0).unwrap_or(0.0);
            let which = life.map_or_else(|| "all".to_owned(), |life| life.to_string());
            println!(
                "{:<28} {which:>6} {:>10.1} {highest:>10.1} {:>+10.2}",
                flat.name, trend.median, trend.growth
            );
            if !trend.is_flat(flat.bound) {
                grew.push(format!("{} grew by {:.1} in life {which}", flat.name, trend.growth));
            }
            if highest > flat.ceiling {
                grew.push(format!("{} came to {highest:.1} in life {which}", flat.name));
            }
        }
    }
    grew
}

fn points_of(samples: &[Sample], of: fn(&Sample) -> Option<f64>, life: Option<u32>) -> Vec<(f64, f64)> {
    let begins = |life: u32| samples.iter().find(|s| s.life == life).map_or(0.0, |s| s.at_s);
    let counts = |s: &&Sample| life.is_none_or(|l| s.life == l) && s.at_s >= begins(s.life) + WARM_UP_S;
    samples.iter().filter(counts).filter_map(|s| Some((s.at_s, of(s)?))).collect()
}

/// The picture.
pub fn panels(samples: &[Sample]) -> Vec<Panel> {
    let line = |name: &str, of: &dyn Fn(&Sample) -> Option<f64>| Line {
        name: name.to_owned(),
        points: samples.iter().filter_map(|s| Some((s.at_s / 60.0, of(s)?))).collect(),
    };
    let panel = |title: &str, lines: Vec<Line>| Panel { title: title.to_owned(), lines };
    vec![
        panel("Memory of the daemon, RSS in MiB", vec![line("", &|s| Some(s.rss_mib))]),
        panel(
            "Open descriptors and threads",
            vec![line("descriptors", &|s| Some(s.fds)), line("threads", &|s| Some(s.threads))],
        ),
        panel("Write-ahead log in MiB", vec![line("", &|s| Some(s.wal_mib))]),
        panel("Database in MiB", vec![line("", &|s| Some(s.database_mib))]),
        panel(
            "From the start of `enqueue` to its POST, ms",
            vec![line("p50 of a minute", &|s| s.latency_p50_ms), line("p99", &|s| s.latency_p99_ms)],
        ),
        panel("`klingd list`, a process, ms", vec![line("", &|s| Some(s.list_ms))]),
        panel(
            "Jobs under way",
            vec![
                line("queued", &|s| Some(s.depth[0])),
                line("generating", &|s| Some(s.depth[3])),
                line("in doubt", &|s| Some(s.depth[2])),
                line("downloading", &|s| Some(s.depth[4])),
            ],
        ),
    ]
}

/// The minutes at which another life began.
pub fn starts(samples: &[Sample]) -> Vec<f64> {
    samples.windows(2).filter(|w| w[0].life != w[1].life).map(|w| w[1].at_s / 60.0).collect()
}
