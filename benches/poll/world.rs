//! Tasks that end at drawn times, and schedules that look at them.

use std::time::Duration;

use klingd::domain::{
    Credits, JobType, RenderKind, RenderTime, Schedule, Timestamp,
    plan::poll::{PollFacts, PollPolicy, first_look, next_look},
    retry::Dice,
};

/// A distribution of render times, in seconds.
#[derive(Clone, Copy)]
pub struct Lognormal {
    pub median: f64,
    pub sigma: f64,
}

/// Looks at a job, and the seconds between its end and the look that saw it.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub polls: f64,
    pub lag: f64,
    pub p95: f64,
}

/// The share that takes longer than `t` seconds.
pub fn above(of: Lognormal, t: f64) -> f64 {
    if t <= 0.0 {
        return 1.0;
    }
    let z = (t / of.median).ln() / of.sigma;
    let x = z.abs() / std::f64::consts::SQRT_2;
    let u = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = 0.5 * series.iter().fold(0.0, |sum, term| (sum + term) * u) * (-x * x).exp();
    if z < 0.0 { 1.0 - tail } else { tail }
}

/// Draws that are the same in every run: splitmix64.
pub struct Draws(pub u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn time(&mut self, of: Lognormal) -> f64 {
        let radius = (-2.0 * self.uniform().max(1e-300).ln()).sqrt();
        of.median * (of.sigma * radius * (std::f64::consts::TAU * self.uniform()).cos()).exp()
    }

    pub fn dice(&mut self) -> Dice {
        Dice::new(self.uniform())
    }
}

/// When the looks are.
#[derive(Clone, Copy)]
pub enum Looks {
    Fixed(f64),
    /// ×1.5 from the first to the second.
    Exponential(f64, f64),
    /// klingd's own, with this schedule.
    Learned(Schedule),
}

const T0: Timestamp = Timestamp::from_millis(1_000_000_000_000);

/// The policy of a configuration in which nothing is set.
pub fn policy() -> PollPolicy {
    PollPolicy {
        first: None,
        every: None,
        slowest: Duration::from_secs(300),
        confirm_failed: Duration::from_secs(30),
    }
}

/// Follows one task that ends after `end` seconds: how many looks, how late the last one was, and what it taught.
pub fn follow(looks: Looks, end: f64, draws: &mut Draws) -> (u32, f64, RenderTime) {
    let (mut n, mut age, mut after) = (0, 0.0, 0.0);
    loop {
        age = match looks {
            Looks::Fixed(pause) => age + pause,
            Looks::Exponential(first, longest) => age + (first * 1.5f64.powi(n)).min(longest),
            Looks::Learned(schedule) => learned(schedule, age, draws),
        };
        n += 1;
        if age >= end {
            let [after, by] = [after, age].map(Duration::from_secs_f64);
            return (n.unsigned_abs(), age - end, RenderTime { after, by });
        }
        after = age;
    }
}

/// As the daemon does it, jitter and bounds included.
fn learned(schedule: Schedule, age: f64, draws: &mut Draws) -> f64 {
    let policy = policy();
    let dice = draws.dice();
    if age == 0.0 {
        return dice.around(first_look(&policy, &schedule, Duration::ZERO), 0.1).as_secs_f64();
    }
    let counted = Credits::ZERO;
    let facts =
        PollFacts { submitted_at: T0, same_key: true, counted, policy, schedule, share: Duration::ZERO };
    let now = T0 + Duration::from_secs_f64(age);
    next_look(&facts, now, dice).since(T0).as_secs_f64()
}

/// The mean over many jobs; `looks` is asked once for every so many, so that histories differ.
pub fn mean(
    of: Lognormal,
    (worlds, jobs): (u32, u32),
    draws: &mut Draws,
    mut looks: impl FnMut(&mut Draws) -> Looks,
) -> Cost {
    let mut polls = 0.0;
    let mut lags = Vec::new();
    for _ in 0..worlds {
        let looks = looks(draws);
        for _ in 0..jobs {
            let end = draws.time(of);
            let (n, lag, _) = follow(looks, end, draws);
            polls += f64::from(n);
            lags.push(lag);
        }
    }
    lags.sort_by(f64::total_cmp);
    let n = lags.len() as f64;
    Cost { polls: polls / n, lag: lags.iter().sum::<f64>() / n, p95: lags[lags.len() * 95 / 100] }
}

/// klingd after `runs` renders of this kind, each followed with what the ones before had taught.
pub fn klingd(kind: RenderKind, of: Lognormal, runs: usize, draws: &mut Draws) -> Looks {
    let mut seen = Vec::new();
    for _ in 0..runs {
        let end = draws.time(of);
        seen.push(follow(Looks::Learned(Schedule::learn(kind, &seen)), end, draws).2);
    }
    Looks::Learned(Schedule::learn(kind, &seen))
}

/// Five seconds of video of this type.
pub const fn kind(job_type: JobType) -> RenderKind {
    RenderKind { job_type, duration_s: Some(5) }
}
