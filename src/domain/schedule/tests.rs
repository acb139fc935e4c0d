use proptest::{collection::vec, prelude::*};

use super::*;

const STD: RenderKind = RenderKind { job_type: JobType::StdTextToVideo, duration_s: Some(5) };
const O3: RenderKind = RenderKind { job_type: JobType::O3ProReferenceToVideo, duration_s: Some(5) };

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A run that was seen done at `by`, a few seconds after it was last seen under way.
fn run(by: f64) -> RenderTime {
    RenderTime { after: s(by - 4.0), by: s(by) }
}

/// Twenty runs around 90 s, spread as the quantiles of a lognormal of 0.4.
fn twenty() -> Vec<RenderTime> {
    let z: [f64; 10] = [-1.96, -1.44, -1.15, -0.93, -0.76, -0.6, -0.45, -0.32, -0.19, -0.06];
    z.iter().flat_map(|z| [-z, *z]).map(|z| run(92.0 * (0.4 * z).exp())).collect()
}

fn pause(schedule: &Schedule, age: f64) -> f64 {
    schedule.wait(s(age), Duration::ZERO).as_secs_f64()
}

fn usual(runs: &[RenderTime]) -> Option<f64> {
    Schedule::learn(STD, runs).usual().map(|d| d.as_secs_f64())
}

fn near(found: f64, wanted: f64, share: f64) {
    assert!((found / wanted - 1.0).abs() <= share, "{found} is not about {wanted}");
}

#[test]
fn looks_are_rare_before_dense_around_and_rare_after() {
    let schedule = Schedule::learn(STD, &twenty());
    let (first, around, late) = (pause(&schedule, 0.0), pause(&schedule, 90.0), pause(&schedule, 1_000.0));
    assert!((40.0..70.0).contains(&first), "{first}");
    assert!((8.0..16.0).contains(&around), "{around}");
    assert!(late > 50.0, "{late}");
    near(pause(&schedule, 7_200.0), 0.1 * (7_200.0 - 360.0), 0.02);
}

#[test]
fn the_known_times_hold_until_runs_teach_better() {
    assert!(pause(&Schedule::learn(O3, &[]), 0.0) > 2.0 * pause(&Schedule::learn(STD, &[]), 0.0));
    let longer = RenderKind { duration_s: Some(10), ..STD };
    assert!(pause(&Schedule::learn(longer, &[]), 0.0) > pause(&Schedule::learn(STD, &[]), 0.0));
    let slow: Vec<_> = (0..20).map(|n| run(400.0 + f64::from(n))).collect();
    near(usual(&slow).unwrap(), 410.0, 0.1);
}

#[test]
fn nothing_is_usual_before_five_runs() {
    let runs = twenty();
    assert_eq!(usual(&runs[..4]), None);
    assert!(usual(&runs[..5]).is_some());
    near(usual(&runs).unwrap(), 90.0, 0.05);
}

#[test]
fn five_runs_are_told_however_wide_the_looks_were() {
    let seen = |after: f64, by: f64| RenderTime { after: s(after), by: s(by) };
    // Done at every first look; through looks that paused; a few looks far apart.
    for (run, told) in
        [(seen(0.0, 40.0), 30.0..=45.0), (seen(30.0, 180.0), 60.0..=120.0), (seen(60.0, 240.0), 90.0..=180.0)]
    {
        assert_eq!(usual(&[run; 4]), None, "{run:?}");
        for n in [5, 7, 20] {
            let found = usual(&vec![run; n]);
            assert!(found.is_some_and(|found| told.contains(&found)), "{n} of {run:?}: {found:?}");
        }
    }
    let mixed = [
        seen(0.0, 45.0),
        seen(40.0, 190.0),
        seen(50.0, 60.0),
        seen(0.0, 45.0),
        seen(45.0, 200.0),
        seen(52.0, 60.0),
    ];
    assert!((30.0..=60.0).contains(&usual(&mixed).unwrap()), "{:?}", usual(&mixed));
    // Nobody looked until long after any likely end: that many runs as one likes tell nothing.
    for unwatched in [seen(0.0, 400.0), seen(0.0, 20_000.0), seen(10.0, 600.0)] {
        assert_eq!(usual(&[unwatched; 20]), None, "{unwatched:?}");
    }
}

#[test]
fn what_is_known_roughly_is_told_roughly() {
    for (s, told) in [
        (1.0, 5.0),
        (34.0, 30.0),
        (38.0, 45.0),
        (100.0, 90.0),
        (110.0, 120.0),
        (14_000.0, 14_400.0),
        (1e6, 1e6),
    ] {
        assert_eq!(rough(Duration::from_secs_f64(s)).as_secs_f64(), told, "{s}");
    }
}

#[test]
fn a_run_that_nobody_watched_teaches_nothing() {
    let mut runs = twenty();
    let schedule = Schedule::learn(STD, &runs);
    // The daemon was down from the first look on, or from the submit on, for hours or for minutes.
    for (after, by) in [(60.0, 20_000.0), (0.0, 20_000.0), (60.0, 400.0), (0.0, 400.0), (50.0, 90_000.0)] {
        runs.push(RenderTime { after: s(after), by: s(by) });
    }
    let with = Schedule::learn(STD, &runs);
    near(with.mu.exp(), schedule.mu.exp(), 0.03);
    near(with.sigma, schedule.sigma, 0.07);
    assert!(with.runs - schedule.runs < 1.5, "{} runs instead of {}", with.runs, schedule.runs);
}

#[test]
fn odd_runs_poison_nothing() {
    let mut runs = twenty();
    let schedule = Schedule::learn(STD, &runs);
    runs.extend([run(30_000.0), run(10_000.0), RenderTime { after: s(0.0), by: s(0.0) }]);
    // What a clock that jumped leaves.
    runs.push(RenderTime { after: s(90.0), by: s(10.0) });
    let with = Schedule::learn(STD, &runs);
    near(with.mu.exp(), schedule.mu.exp(), 0.02);
    near(with.sigma, schedule.sigma, 0.05);
    // A first one is not believed either.
    near(pause(&Schedule::learn(STD, &[run(30_000.0)]), 0.0), pause(&Schedule::learn(STD, &[]), 0.0), 0.01);
}

#[test]
fn what_was_done_at_every_first_look_is_looked_at_earlier() {
    let at_first_look = RenderTime { after: s(0.0), by: s(50.0) };
    let before = pause(&Schedule::learn(STD, &[]), 0.0);
    let after = pause(&Schedule::learn(STD, &[at_first_look; 10]), 0.0);
    assert!(after < 0.8 * before, "{after} after {before}");
}

#[test]
fn a_change_of_the_service_is_learned() {
    for factor in [0.05, 0.3, 3.0, 20.0] {
        let mut runs = twenty();
        runs.extend(twenty().iter().chain(&twenty()).map(|r| run(r.by.as_secs_f64() * factor + 4.0)));
        let found = usual(&runs).unwrap() / (90.0 * factor + 4.0);
        assert!((0.5..2.0).contains(&found), "{factor}: {found} of it");
    }
}

#[test]
fn the_more_tasks_the_rarer_the_looks() {
    let schedule = Schedule::learn(STD, &twenty());
    // A few tasks have looks as dense as is best for each.
    assert_eq!(schedule.wait(s(90.0), s(5.0)), schedule.wait(s(90.0), Duration::ZERO));
    // Looks at one whose end comes at its usual time, and how long it was followed.
    let followed = |share: f64| {
        let ends = twenty();
        let (mut looks, mut life) = (0.0, 0.0);
        for end in ends.iter().map(|r| r.by.as_secs_f64()) {
            let mut age = 0.0;
            while age < end {
                age += schedule.wait(s(age), s(share)).as_secs_f64();
                looks += 1.0;
            }
            life += age;
        }
        life / looks
    };
    for share in [20.0, 40.0, 100.0] {
        let mean = followed(share);
        assert!(mean >= share, "a look every {mean} s is more than one in {share}");
    }
}

proptest! {
    #[test]
    fn a_wait_is_a_time(
        runs in vec((0u64..100_000_000, 0u64..100_000_000), 0..20),
        age in 0u64..1_000_000_000_000,
        share in prop_oneof![Just(Duration::MAX), (0u64..10_000).prop_map(Duration::from_secs)],
    ) {
        let runs: Vec<_> = runs.into_iter().map(|(after, by)| RenderTime {
            after: Duration::from_millis(after),
            by: Duration::from_millis(by),
        }).collect();
        let schedule = Schedule::learn(STD, &runs);
        for age in [Duration::ZERO, Duration::from_millis(age), Duration::MAX] {
            let wait = schedule.wait(age, share);
            prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs(604_800), "{:?} at {:?}", wait, age);
        }
    }
}
