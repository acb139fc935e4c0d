//! When to look at a task: the schedule that learns.
//!
//! A look costs a call, and every second between a video's end and the look that sees it is lost. With a call worth
//! `c` seconds, looks are best spread so that their density is √(hazard / 2c): rare before a task can be ready, dense
//! around its usual time, rarer again when it is late. Against the optimum for a known distribution (`benches/poll.rs`)
//! this loses about 2 %.
//!
//! The hazard comes from a lognormal for each type and duration ([`fit`]), which begins at the known times ([`known`]).

mod fit;
mod known;
mod normal;

use std::time::Duration;

use super::{job_type::JobType, request::Request};

/// What a call is worth: so many seconds of waiting for a video that is there. With 90 s ± 40 % it gives about five
/// looks and 6.5 s.
const CALL_WORTH_S: f64 = 1.5;
/// Looks planned for stay below this share of `poll.max_per_second`: due times are jittered, and tasks of one batch come
/// to their dense part together.
const LOAD: f64 = 0.8;
/// From so many spreads on a task counts as late, not as rare: the density falls with the age from here.
const LATE: f64 = 2.5;
/// A task that took so many times the usual has a fate of its own …
const FAR: f64 = 4.0;
/// … and is looked at after this share of the time since, so that hours are not asked every ten seconds.
const SHARE_OF_FAR: f64 = 0.1;
/// Runs before a usual time is told to people.
const RUNS_TO_TELL: usize = 5;
/// Runs lie between two looks: what they tell adds up to less than their number. With less than this the usual time is
/// told as one of [`ROUGH_S`].
const RUNS_TO_TELL_FINELY: f64 = 4.5;
/// Times that nobody takes for exact, in seconds: each at most half as much again as the one before, so that one is within
/// a quarter of any time. Longer than the last, a time is told as it is: hours are read roughly anyway.
const ROUGH_S: [f64; 24] = [
    5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 420.0, 600.0, 900.0,
    1200.0, 1800.0, 2700.0, 3600.0, 5400.0, 7200.0, 10_800.0, 14_400.0,
];
/// The step of the sum over the hazard, in spreads. A tenth of it changes no look by 1 %.
const STEP: f64 = 0.05;
/// Where the sum begins and ends: beyond, nothing is left to happen.
const BEGIN: f64 = -5.0;
const END: f64 = 5.0;

/// Runs of a kind that are remembered: the middle of 64 is known to 5 %, and what is older tells of another month's
/// service.
pub const REMEMBERED: usize = 64;

/// Renders that take alike long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RenderKind {
    /// The type.
    pub job_type: JobType,
    /// Seconds of video asked for; `None` where the input decides.
    pub duration_s: Option<u8>,
}

impl From<&Request> for RenderKind {
    fn from(request: &Request) -> Self {
        Self { job_type: request.job_type(), duration_s: request.duration_s() }
    }
}

/// How long a run took, as far as looks can tell; both since its submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderTime {
    /// At the last look before, it was under way; zero when there was none.
    pub after: Duration,
    /// At this look it was done.
    pub by: Duration,
}

/// The schedule of a kind of render.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    mu: f64,
    sigma: f64,
    runs: f64,
    telling: usize,
    /// The mean time between looks, in seconds, where a call is worth one second.
    pause_s: f64,
}

impl Schedule {
    /// What `runs` of this kind teach; the order does not matter.
    pub fn learn(kind: RenderKind, runs: &[RenderTime]) -> Self {
        let fit = fit::fit(known::median_s(kind), runs);
        let schedule =
            Self { mu: fit.mu, sigma: fit.sigma, runs: fit.runs, telling: fit.telling, pause_s: 0.0 };
        Self { pause_s: schedule.mean_pause_s(), ..schedule }
    }

    /// The time that half of the runs need, as roughly as it is known: from five runs on that tell anything.
    pub fn usual(&self) -> Option<Duration> {
        let median = seconds(self.mu.exp());
        let told = if self.runs < RUNS_TO_TELL_FINELY { rough(median) } else { median };
        (self.telling >= RUNS_TO_TELL).then_some(told)
    }

    /// How long to wait after a look at a task of this age (zero: after the submit). `share` is the time in which every
    /// open task could have one look: the more there are, the dearer is a call.
    pub fn wait(&self, age: Duration, share: Duration) -> Duration {
        let worth = CALL_WORTH_S.sqrt().max(share.as_secs_f64() / LOAD / self.pause_s);
        let age_s = age.as_secs_f64();
        let wait_s = self.next_s(age_s, worth) - age_s;
        let far_s = SHARE_OF_FAR * (age_s - FAR * self.mu.exp());
        seconds(wait_s.max(far_s))
    }

    /// The age at which the looks' density since `age_s` sums up to one.
    fn next_s(&self, age_s: f64, root_of_worth: f64) -> f64 {
        let mut z = if age_s > 0.0 { ((age_s.ln() - self.mu) / self.sigma).max(BEGIN) } else { BEGIN };
        let mut left = root_of_worth;
        while z < END {
            let looks = self.looks(z + STEP / 2.0) * STEP;
            if looks >= left {
                return self.at(z + STEP * left / looks);
            }
            left -= looks;
            z += STEP;
        }
        // Out here it hardly changes any more: the rest in one step.
        let looks = self.looks(z);
        self.at(z) * (1.0 + left * self.sigma / looks)
    }

    /// Looks for each spread of the logarithm at `z`, where a call is worth one second.
    fn looks(&self, z: f64) -> f64 {
        (normal::hazard(z.min(LATE)) * self.sigma * self.at(z) / 2.0).sqrt()
    }

    fn at(&self, z: f64) -> f64 {
        (self.mu + self.sigma * z).exp()
    }

    fn mean_pause_s(&self) -> f64 {
        let (mut z, mut looks, mut mean) = (BEGIN, 0.0, 0.0);
        while z < END {
            let middle = z + STEP / 2.0;
            looks += self.looks(middle) * normal::above(middle) * STEP;
            mean += self.at(middle) * normal::density(middle) * STEP;
            z += STEP;
        }
        mean / looks
    }
}

/// The nearest of [`ROUGH_S`], as a factor.
fn rough(d: Duration) -> Duration {
    let apart = |rough: &f64| (rough / d.as_secs_f64().max(f64::MIN_POSITIVE)).ln().abs();
    if ROUGH_S.last().is_some_and(|longest| d.as_secs_f64() > *longest) {
        return d;
    }
    let nearest = ROUGH_S.into_iter().min_by(|a, b| apart(a).total_cmp(&apart(b)));
    nearest.map_or(d, seconds)
}

fn seconds(s: f64) -> Duration {
    // A week is longer than any wait that is kept; a number that is none counts as no wait, which the bounds correct.
    Duration::from_secs_f64(if s.is_finite() { s.clamp(0.0, 604_800.0) } else { 0.0 })
}

#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod tests;
