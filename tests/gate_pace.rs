//! A slice of the gate's simulation (`benches/gate`), short enough for every run: it fails when pacing is broken.

#![allow(dead_code, reason = "the benchmark uses the rest")]

#[path = "../benches/gate/clients.rs"]
mod clients;
#[path = "../benches/gate/sim.rs"]
mod sim;

use clients::{Klingd, Naive};
use sim::{Limit, Log, Ms, World, run};

const MINUTE: Ms = 60_000;
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

fn limit(per_second: f64) -> Limit {
    Limit { per_second, burst: 5.0, retry_after: false, refusals_cost: false }
}

fn klingd(seed: u64, limit: Limit, change: Option<(Ms, f64)>, end: Ms) -> Log {
    run(World { seed, limit: Some(limit), change, slots: None, end }, &mut Klingd::new(seed, 100))
}

#[test]
fn an_unknown_rate_is_used_and_hardly_ever_run_into() {
    for (per_second, least) in [(0.5, 0.97), (2.0, 0.98), (10.0, 0.92)] {
        for seed in SEEDS {
            let log = klingd(seed, limit(per_second), None, 30 * MINUTE);
            let used = log.goodput(MINUTE, 30 * MINUTE, per_second);
            let refused = log.refused_share(MINUTE, 30 * MINUTE);
            assert!(
                used >= least && refused <= 0.015,
                "seed {seed}, {per_second}/s: {used:.3}, 429s {refused:.4}"
            );
        }
    }
}

#[test]
fn naive_clients_fail_this_test() {
    let world = World { seed: 1, limit: Some(limit(2.0)), change: None, slots: None, end: 10 * MINUTE };
    let refused = run(world, &mut Naive::new(1)).refused_share(MINUTE, 10 * MINUTE);
    assert!(refused > 0.3, "{refused}: the provider of the simulation refuses nobody");
}

#[test]
fn a_limit_that_changes_is_followed() {
    let (at, end) = (20 * MINUTE, 50 * MINUTE);
    for seed in SEEDS {
        let log = klingd(seed, limit(2.0), Some((at, 0.5)), end);
        assert!(log.refusals(at, at + 5 * MINUTE) <= 10.0, "seed {seed}: {log:?}");
        let log = klingd(seed, limit(2.0), Some((at, 2.0)), end);
        assert!(log.goodput(end - 5 * MINUTE, end, 4.0) >= 0.9, "seed {seed}: it was not found");
    }
}

#[test]
fn a_refused_call_that_costs_does_no_harm() {
    for seed in SEEDS {
        let limit = Limit { refusals_cost: true, burst: 1.0, ..limit(0.5) };
        let log = klingd(seed, limit, None, 60 * MINUTE);
        let used = log.goodput(MINUTE, 60 * MINUTE, 0.5);
        assert!(used >= 0.78, "seed {seed}: {used}");
    }
}

#[test]
fn an_unknown_number_of_slots_is_found_and_kept_busy() {
    let (hour, task) = (60 * MINUTE, 90_000);
    for slots in [3, 10, 50] {
        let world = World { seed: 7, limit: None, change: None, slots: Some((slots, task)), end: 6 * hour };
        let log = run(world, &mut Klingd::new(7, 3));
        let used = log.slots_used(hour, 6 * hour, slots, task);
        let refused = log.refused_share(hour, 6 * hour);
        assert!(used >= 0.97 && refused <= 0.01, "{slots} slots: {used:.3} used, 429s {refused:.4}");
    }
}
