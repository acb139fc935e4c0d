//! The standard normal distribution, as far as schedules need it.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Its density at `z`.
pub fn density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * PI).sqrt()
}

/// The probability of more than `z`. Abramowitz and Stegun 7.1.26, off by less than 1.5e-7: far below what any number of
/// runs could tell.
pub fn above(z: f64) -> f64 {
    let x = z.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = 0.5 * series.iter().fold(0.0, |sum, term| (sum + term) * t).max(0.0) * (-x * x).exp();
    if z < 0.0 { 1.0 - tail } else { tail }
}

/// How likely the end is right after `z`, given that it did not come before.
pub fn hazard(z: f64) -> f64 {
    density(z) / above(z)
}

/// Mean and variance of the part of a normal (`mean`, `sigma`) between `a` and `b`; either may be infinite.
pub fn between(mean: f64, sigma: f64, a: f64, b: f64) -> (f64, f64) {
    let (za, zb) = ((a - mean) / sigma, (b - mean) / sigma);
    // A narrow one is as good as even.
    if zb - za < 0.3 {
        return (0.5 * (a + b), (b - a).powi(2) / 12.0);
    }
    // Counted on the side where little is left, lest the digits cancel.
    let mass = if za > 0.0 { above(za) - above(zb) } else { above(-zb) - above(-za) };
    if mass < 1e-6 {
        // Far out nearly all of it lies at the end that is nearer to the mean.
        return (if za > 0.0 { a } else { b }, 0.0);
    }
    // At an open end the density falls faster than the bound grows.
    let edge = |z: f64| if z.is_finite() { z * density(z) } else { 0.0 };
    let shift = (density(za) - density(zb)) / mass;
    let variance = 1.0 + (edge(za) - edge(zb)) / mass - shift * shift;
    (mean + sigma * shift, sigma * sigma * variance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-4, "{found} is not {wanted}");
    }

    #[test]
    fn agrees_with_the_tables() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.158_655), (-1.0, 0.841_345), (2.5, 0.006_210)] {
            near(above(z), p);
        }
        near(hazard(0.0), 0.797_885);
        near(hazard(2.5), 2.822_744);
    }

    #[test]
    fn a_part_has_its_mean_and_variance() {
        let all = between(1.0, 2.0, f64::NEG_INFINITY, f64::INFINITY);
        near(all.0, 1.0);
        near(all.1, 4.0);
        // The upper half of the standard normal: √(2/π), 1 − 2/π.
        let half = between(0.0, 1.0, 0.0, f64::INFINITY);
        near(half.0, 0.797_885);
        near(half.1, 0.363_380);
        assert_eq!(between(0.0, 1.0, 30.0, 50.0), (30.0, 0.0));
        assert_eq!(between(0.0, 1.0, -50.0, -30.0), (-30.0, 0.0));
    }
}
