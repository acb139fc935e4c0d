//! Credits: the provider's unit of money.

use std::{fmt, iter::Sum, ops::Add};

use serde::{Deserialize, Serialize};

/// A whole number of the provider's credits. Sums saturate: no input can make a budget wrap around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credits(u64);

impl Credits {
    /// No credits.
    pub const ZERO: Self = Self(0);

    /// So many credits.
    pub const fn new(credits: u64) -> Self {
        Self(credits)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// What is left after `spent`; nothing when more is spent.
    pub const fn minus(self, spent: Self) -> Self {
        Self(self.0.saturating_sub(spent.0))
    }

    /// `self` for each of `n` (seconds, takes …).
    pub const fn times(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }
}

impl Add for Credits {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Credits {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Credits {
    /// With thousands separators, as people read money: `12,400`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut out = String::with_capacity(digits.len() + digits.len() / 3);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        f.pad_integral(true, "", &out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_money() {
        assert_eq!(Credits::new(400).to_string(), "400");
        assert_eq!(Credits::new(12_400).to_string(), "12,400");
        assert_eq!(Credits::new(1_234_567).to_string(), "1,234,567");
        assert_eq!(format!("{:>8}", Credits::new(1_000)), "   1,000");
    }
}
