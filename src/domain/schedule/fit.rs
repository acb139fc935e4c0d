//! What runs teach: a lognormal fitted to intervals.
//!
//! A run is not seen ending: it ended after one look and by the next. The fit takes it as that (EM for censored data), so
//! a task that nobody looked at for hours while the daemon was down teaches as little as is known of it.

use super::{RenderTime, known, normal};

/// The known times weigh as much as one run for the middle: they are hearsay, five runs know better.
const PRIOR_RUNS: f64 = 1.0;
/// And as four for the spread, of which few runs say little.
const PRIOR_SPREAD_RUNS: f64 = 4.0;
/// A run that took so many times the usual, or this part of it, had a fate of its own (an outage, a daemon that was
/// down, a clock that jumped) and says nothing of the others. When most runs are so, they are the usual.
const FATE: f64 = 8.0;
/// The others count as at most so many spreads from the middle, so that a few odd ones do not stretch every schedule. For
/// a true lognormal it changes the spread by 2 %.
const CLIP: f64 = 2.5;
/// The spread's bounds. Nothing is more regular than the looks that saw it; above a factor of 2.7 a type has no usual time.
const SPREADS: (f64, f64) = (0.08, 1.0);
/// A run tells people something when the looks around its end are at most so many times apart …
const WIDE: f64 = 8.0;
/// … or when it narrows what is known of its kind beforehand by a tenth of what a run that was seen ending would: one that
/// was done at its first look. One that may have ended at any likely time, since nobody looked, tells nothing.
const TELLS: f64 = 0.1;
/// Steps of the fit: intervals are narrow, so it settles within ten.
const STEPS: usize = 20;
/// Ages below a second are one: they have no logarithm, or one far out.
const SHORTEST_S: f64 = 1.0;

/// A lognormal, and how much it is based on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The logarithm of the median, in seconds.
    pub mu: f64,
    /// The spread of the next run's logarithm: that of the runs, and of what is not known of their middle.
    pub sigma: f64,
    /// How many runs it is based on, each counted for as much as it tells.
    pub runs: f64,
    /// How many runs tell anything, however roughly.
    pub telling: usize,
}

/// Fits `runs`, beginning from a usual time of `known_s` seconds.
pub fn fit(known_s: f64, runs: &[RenderTime]) -> Fit {
    let known = known_s.ln();
    let mut runs: Vec<(f64, f64)> = runs.iter().filter_map(logarithms).collect();
    let start = median(runs.iter().map(middle).chain([known]).collect());
    runs.retain(|run| (middle(run) - start).abs() < FATE.ln());
    let (mut mu, mut sigma) = (start, known::SPREAD);
    let telling = runs.iter().filter(|run| tells(known, run)).count();
    let mut told = 0.0;
    for _ in 0..STEPS {
        let (low, high) = (mu - CLIP * sigma, mu + CLIP * sigma);
        let seen: Vec<(f64, f64)> = runs
            .iter()
            .map(|(after, by)| normal::between(mu, sigma, *after, *by))
            .map(|(mean, variance)| (mean.clamp(low, high), variance))
            .collect();
        told = seen.iter().map(|(_, variance)| weight(*variance, sigma)).sum();
        let n = count(seen.len());
        let sum: f64 = seen.iter().map(|(mean, _)| mean).sum();
        mu = (PRIOR_RUNS * known + sum) / (PRIOR_RUNS + n);
        let squares: f64 = seen.iter().map(|(mean, variance)| (mean - mu).powi(2) + variance).sum();
        let prior = PRIOR_SPREAD_RUNS * known::SPREAD * known::SPREAD;
        sigma = ((prior + squares) / (PRIOR_SPREAD_RUNS + n)).sqrt().clamp(SPREADS.0, SPREADS.1);
    }
    Fit { mu, sigma: sigma * (1.0 + 1.0 / (PRIOR_RUNS + told)).sqrt(), runs: told, telling }
}

/// How much a run tells whose logarithm is known up to `variance`, of one that was seen ending.
fn weight(variance: f64, sigma: f64) -> f64 {
    (1.0 - variance / (sigma * sigma)).max(0.0)
}

fn tells(known: f64, &(after, by): &(f64, f64)) -> bool {
    let (_, variance) = normal::between(known, known::SPREAD, after, by);
    by - after <= WIDE.ln() || weight(variance, known::SPREAD) >= TELLS
}

/// No outlier moves it; of an even number the lower one, so that a first odd run is not believed.
fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

fn middle(&(after, by): &(f64, f64)) -> f64 {
    if after.is_finite() { 0.5 * (after + by) } else { by }
}

/// Both ends on the scale of factors; nothing for an interval that a jump of the clock turned around.
fn logarithms(run: &RenderTime) -> Option<(f64, f64)> {
    let of = |d: std::time::Duration| d.as_secs_f64().max(SHORTEST_S).ln();
    let after = if run.after.is_zero() { f64::NEG_INFINITY } else { of(run.after) };
    (run.by >= run.after).then(|| (after, of(run.by)))
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::MAX, f64::from)
}
