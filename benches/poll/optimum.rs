//! The theoretical optimum: looks for a distribution that is known, by dynamic programming over a grid of times.

use super::world::{Cost, Lognormal, above};

/// The least of `lag + worth × looks`, for one distribution, in steps of `step` seconds.
pub fn optimum(of: Lognormal, worth: f64, step: f64) -> Cost {
    let end = of.median * (5.0 * of.sigma).exp();
    let n = (end / step) as usize;
    let seconds = |i: usize| i as f64 * step;
    let running: Vec<f64> = (0..=n).map(|i| above(of, seconds(i))).collect();
    let mut sum = vec![0.0; n + 1];
    for i in 1..=n {
        sum[i] = sum[i - 1] + 0.5 * step * (running[i] + running[i - 1]);
    }
    // After a look at i that says "under way", the next is at j: the lag is what of j − i the task was done already.
    let lag = |i: usize, j: usize| running[i] * seconds(j - i) - (sum[j] - sum[i]);
    let (mut best, mut next) = (vec![0.0; n + 1], vec![n; n + 1]);
    for i in (0..n).rev() {
        let cost = |j: usize| running[i] * worth + lag(i, j) + best[j];
        (best[i], next[i]) =
            (i + 1..=n).map(|j| (cost(j), j)).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, n));
    }
    let (mut i, mut cost) = (0, Cost::default());
    while i < n {
        cost.polls += running[i];
        cost.lag += lag(i, next[i]);
        i = next[i];
    }
    cost
}

/// The frontier: the least mean lag for each mean number of looks, over several kinds that are equally frequent.
pub struct Frontier(Vec<Cost>);

impl Frontier {
    /// Of these distributions.
    pub fn of(kinds: &[Lognormal], step: f64) -> Self {
        let worths = [0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0];
        let mean = |worth: f64| {
            let all = kinds.iter().map(|kind| optimum(*kind, worth, step));
            let (polls, lag) = all.fold((0.0, 0.0), |sum, c| (sum.0 + c.polls, sum.1 + c.lag));
            let n = kinds.len() as f64;
            Cost { polls: polls / n, lag: lag / n, ..Cost::default() }
        };
        Self(worths.map(mean).to_vec())
    }

    /// The least lag with so many looks.
    pub fn lag(&self, polls: f64) -> Option<f64> {
        let between = self.0.windows(2).find(|two| (two[1].polls..=two[0].polls).contains(&polls))?;
        let [more, fewer] = between else { return None };
        let share = (polls / fewer.polls).ln() / (more.polls / fewer.polls).ln();
        Some(fewer.lag * (more.lag / fewer.lag).powf(share))
    }
}
