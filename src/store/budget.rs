//! The caps: what is spent, held back or in doubt, and whether one more render fits. Read and reserved in the intent's own
//! transaction, so that parallel workers can't overshoot.

use sqlx::SqliteConnection;

use super::{Result, row};
use crate::domain::{Credits, Timestamp};

/// Caps on what may be spent; zero is no cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// For one render.
    pub per_job: Credits,
    /// For one local day.
    pub per_day: Credits,
    /// For ever.
    pub total: Credits,
}

/// One of the caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// `budget.per_job`
    PerJob,
    /// The job's own `max_credits`.
    MaxCredits,
    /// `budget.per_day`
    PerDay,
    /// `budget.total`
    Total,
}

/// Whether the caps allow any of the queued jobs; `false` when there is none.
pub(super) async fn affordable(c: &mut SqliteConnection, budget: &Budget, day: Timestamp) -> Result<bool> {
    let most = Spent::read(c, budget, day).await?.room(budget);
    let any = "SELECT EXISTS (SELECT 1 FROM jobs WHERE lane = 'submit' AND estimate <= ?
                              AND (max_credits IS NULL OR estimate <= max_credits))";
    Ok(sqlx::query_scalar(any).bind(row::credits(most)).fetch_one(c).await?)
}

/// What is spent, held back or in doubt; a reservation is made by the intent's row itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    day: Credits,
    total: Credits,
}

impl Spent {
    pub(super) async fn read(c: &mut SqliteConnection, budget: &Budget, day: Timestamp) -> Result<Self> {
        let mut sum = async |since: i64, cap: Credits| -> Result<Credits> {
            if cap == Credits::ZERO {
                return Ok(Credits::ZERO);
            }
            let n: i64 = sqlx::query_scalar(
                "SELECT coalesce(sum(coalesce(charged, estimate)), 0) FROM attempts WHERE charge <> 'free' AND started_at >= ?",
            )
            .bind(since)
            .fetch_one(&mut *c)
            .await?;
            Ok(Credits::new(u64::try_from(n).unwrap_or(0)))
        };
        Ok(Self {
            day: sum(day.as_millis(), budget.per_day).await?,
            total: sum(i64::MIN, budget.total).await?,
        })
    }

    /// Reserves `estimate` if every cap allows it.
    pub(super) fn reserve(&mut self, estimate: Credits, max: Option<Credits>, budget: &Budget) -> bool {
        let fits = self.allows(estimate, max, budget);
        if fits {
            (self.day, self.total) = (self.day + estimate, self.total + estimate);
        }
        fits
    }

    /// Whether every cap, and the job's own, allows a render of `estimate`.
    pub fn allows(&self, estimate: Credits, max: Option<Credits>, budget: &Budget) -> bool {
        self.stopped_by(estimate, max, budget).is_none()
    }

    /// The first cap that leaves no room for `estimate`.
    pub fn stopped_by(&self, estimate: Credits, max: Option<Credits>, budget: &Budget) -> Option<Cap> {
        let over = |amount: Credits, cap: Credits| cap != Credits::ZERO && amount > cap;
        let caps = [
            (Cap::PerJob, over(estimate, budget.per_job)),
            (Cap::MaxCredits, max.is_some_and(|max| estimate > max)),
            (Cap::PerDay, over(self.day + estimate, budget.per_day)),
            (Cap::Total, over(self.total + estimate, budget.total)),
        ];
        caps.into_iter().find_map(|(cap, over)| over.then_some(cap))
    }

    /// The most that one more render may cost.
    fn room(&self, budget: &Budget) -> Credits {
        let left = |cap: Credits, spent: Credits| {
            if cap == Credits::ZERO { Credits::new(u64::MAX) } else { cap.minus(spent) }
        };
        left(budget.per_job, Credits::ZERO)
            .min(left(budget.per_day, self.day))
            .min(left(budget.total, self.total))
    }
}
