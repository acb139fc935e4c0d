//! The caps: what is spent, held back or in doubt, and whether one more render fits. Read and reserved in the intent's own
//! transaction, so that parallel workers can't overshoot.
//!
//! A day begins at local midnight and counts what the ledger dates later than that, too: a clock that is set back does
//! not open yesterday's budget again, since today's attempts count in both days. It costs the days in between some room;
//! so a clock that was wrong by more than [`CLOCK_ERROR`] is not believed, and its attempts count in no day but their own.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{Result, ledger, row};
use crate::domain::{Credits, Timestamp};

/// By how much a clock may have been ahead for its attempts to count until their day has come. A zone or a bad time server
/// are off by hours or days, a date typed wrong by weeks or a month or two. What is dated further ahead comes from a clock
/// that lost its battery or its mind: it may be off by years, and must not lock the budget for years.
pub const CLOCK_ERROR: Duration = Duration::from_secs(90 * 24 * 3600);

/// What is left where there is no cap.
const NO_CAP: Credits = Credits::new(u64::MAX);

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
    let room = Spent::read(c, budget, day).await?.room(budget);
    any_within(c, room).await
}

/// Whether any of the queued jobs may be paid from `room`. It asks the cheapest first, so that a long queue of which
/// nothing fits costs one look.
pub(super) async fn any_within(c: &mut SqliteConnection, room: Credits) -> Result<bool> {
    let any =
        "SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_by_price WHERE lane = 'submit' AND estimate <= ?
                              AND (max_credits IS NULL OR estimate <= max_credits))";
    Ok(sqlx::query_scalar(any).bind(row::credits(room)).fetch_one(c).await?)
}

/// The cheapest queued job, if it may be paid from `room`.
pub(super) async fn cheapest_within(c: &mut SqliteConnection, room: Credits) -> Result<Option<Credits>> {
    let cheapest: Option<i64> = sqlx::query_scalar(
        "SELECT min(estimate) FROM jobs INDEXED BY jobs_by_price WHERE lane = 'submit' AND estimate <= ?
            AND (max_credits IS NULL OR estimate <= max_credits)",
    )
    .bind(row::credits(room))
    .fetch_one(c)
    .await?;
    Ok(cheapest.and_then(|n| u64::try_from(n).ok()).map(Credits::new))
}

/// What is spent, held back or in doubt; a reservation is made by the intent's row itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    day: Credits,
    total: Credits,
}

impl Spent {
    pub(super) async fn read(c: &mut SqliteConnection, budget: &Budget, day: Timestamp) -> Result<Self> {
        // The day's rows are read only where somebody capped the day.
        let day = match budget.per_day {
            Credits::ZERO => Credits::ZERO,
            _ => ledger::spent_between(c, day, day + CLOCK_ERROR).await?,
        };
        Ok(Self { day, total: ledger::total(c).await?.spent() })
    }

    /// So much of the day's cap and of the cap on everything is gone.
    pub const fn new(day: Credits, total: Credits) -> Self {
        Self { day, total }
    }

    /// What counts in the day; nothing where the day has no cap.
    pub const fn of_day(&self) -> Credits {
        self.day
    }

    /// What counts since there is a ledger.
    pub const fn in_total(&self) -> Credits {
        self.total
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
        let [per_job, per_day, total] = self.left(budget);
        let caps = [
            (Cap::PerJob, per_job),
            (Cap::MaxCredits, max.unwrap_or(NO_CAP)),
            (Cap::PerDay, per_day),
            (Cap::Total, total),
        ];
        caps.into_iter().find_map(|(cap, left)| (estimate > left).then_some(cap))
    }

    /// The most that one more render may cost: what costs no more is stopped by nothing but its own `max_credits`.
    pub(super) fn room(&self, budget: &Budget) -> Credits {
        let [per_job, per_day, total] = self.left(budget);
        per_job.min(per_day).min(total)
    }

    /// What `budget.per_job`, `per_day` and `total` leave.
    fn left(&self, budget: &Budget) -> [Credits; 3] {
        let caps = [(budget.per_job, Credits::ZERO), (budget.per_day, self.day), (budget.total, self.total)];
        caps.map(|(cap, spent)| if cap == Credits::ZERO { NO_CAP } else { cap.minus(spent) })
    }
}
