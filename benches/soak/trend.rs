//! Whether a measured value grows: a robust line through its points. Pure.

/// How a value changes over a span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// The middle of its values.
    pub median: f64,
    /// What the line through its points gains from the first point to the last.
    pub growth: f64,
}

/// How much a value may grow over the span that is looked at: this share of its median, or this much, whichever is more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub share: f64,
    pub floor: f64,
}

/// Fewer points tell noise from growth no more.
const FEWEST: usize = 12;
/// Pairs of points are compared: more points than this are thinned.
const MOST: usize = 400;

/// The trend of points of (time, value), by Theil and Sen: the median of all pairs' slopes, which a spike, a burst or a
/// restart does not bend. `None` for too few points.
pub fn trend(points: &[(f64, f64)]) -> Option<Trend> {
    if points.len() < FEWEST {
        return None;
    }
    let step = points.len().div_ceil(MOST);
    let points: Vec<(f64, f64)> = points.iter().copied().step_by(step).collect();
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (i, (t0, v0)) in points.iter().enumerate() {
        let later = points.iter().skip(i + 1).filter(|(t, _)| t > t0);
        slopes.extend(later.map(|(t, v)| (v - v0) / (t - t0)));
    }
    let span = points.last()?.0 - points.first()?.0;
    let values = points.iter().map(|(_, v)| *v).collect();
    Some(Trend { median: median(values)?, growth: median(slopes)? * span })
}

impl Trend {
    /// Whether it stays within the bound. What shrinks is flat.
    pub fn is_flat(&self, bound: Bound) -> bool {
        self.growth <= bound.floor.max(bound.share * self.median)
    }
}

fn median(values: Vec<f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value below which this share of them lies.
pub fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * share).round() as usize).copied()
}
