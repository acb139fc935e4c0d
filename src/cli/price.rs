//! What jobs cost: together, by type, and whether the caps can ever allow it.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    exit::Refusal,
    render::{
        Look,
        table::{Column, Fit, table as drawn},
        text::{count, line},
    },
};
use crate::{
    config::{Budget, Config},
    domain::{Credits, Job, JobType, job::NewJob},
    store::Store,
};

/// Jobs that a refusal names one by one.
const NAMED: usize = 10;

/// All of them together.
pub fn of<'a>(jobs: impl Iterator<Item = &'a NewJob>) -> Credits {
    jobs.map(|job| job.estimate).sum()
}

/// How many of each type, and what they cost.
pub fn by_type<'a>(jobs: impl Iterator<Item = &'a NewJob>) -> BTreeMap<JobType, (usize, Credits)> {
    jobs.fold(BTreeMap::new(), |mut types, job| {
        let (count, cost) = types.entry(job.request.job_type()).or_default();
        *count += 1;
        *cost = *cost + job.estimate;
        types
    })
}

const COLUMNS: [Column; 3] = [
    Column { title: "TYPE", fit: Fit::Whole, from_width: 0 },
    Column { title: "JOBS", fit: Fit::Number, from_width: 0 },
    Column { title: "CREDITS", fit: Fit::Number, from_width: 0 },
];

/// The same as text, with the sum.
pub fn table<'a>(jobs: impl Iterator<Item = &'a NewJob>, look: Look) -> String {
    let types = by_type(jobs);
    let (jobs, cost) = types.values().fold((0, Credits::ZERO), |(n, sum), (m, cost)| (n + m, sum + *cost));
    let row = |what: &str, jobs: usize, cost| {
        vec![what.into(), jobs.to_string().into(), credits(cost, look).into()]
    };
    let mut rows: Vec<_> = types.iter().map(|(t, (jobs, cost))| row(t.as_str(), *jobs, *cost)).collect();
    rows.push(row("total", jobs, cost));
    drawn(&COLUMNS, &rows, look)
}

/// An amount: grouped for people, plain for programs.
pub fn credits(amount: Credits, look: Look) -> String {
    match look {
        Look::Piped => amount.get().to_string(),
        Look::Terminal { .. } => amount.to_string(),
    }
}

/// Refuses jobs that no waiting would ever let through; `charged` is what is spent for good.
pub fn refuse_what_never_fits<'a>(
    jobs: impl Iterator<Item = &'a NewJob>,
    budget: &Budget,
    charged: Credits,
) -> Result<()> {
    let named = |job: &NewJob| match &job.name {
        Some(name) => format!("{} ({})", line(name), job.request.job_type()),
        None => job.request.job_type().to_string(),
    };
    let misfits: Vec<_> = jobs
        .filter_map(|job| never_fits(job.estimate, budget, charged).map(|why| (named(job), why)))
        .collect();
    if misfits.is_empty() {
        return Ok(());
    }
    let shown = misfits.iter().take(NAMED).map(|(job, why)| format!("\n  {job}: {why}"));
    let more = misfits.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let message = format!(
        "{} can never be submitted:{}{rest}\nmake them cheaper, or raise the cap in the configuration",
        count(misfits.len(), "job"),
        shown.collect::<String>()
    );
    Err(Refusal::budget(message))
}

/// The same for a job that goes back to the queue.
pub async fn refuse_if_it_never_fits(store: &Store, config: &Config, job: &Job) -> Result<()> {
    let why = never_fits(job.estimate, &config.budget, charged_ever(store).await?);
    why.map_or(Ok(()), |why| Err(Refusal::budget(format!("job {} can never be submitted: {why}", job.id))))
}

/// What was charged since there is a ledger, and not refunded.
pub async fn charged_ever(store: &Store) -> Result<Credits> {
    Ok(store.sums_ever().await?.gone())
}

/// Why a render of this price can never be submitted, if it can't.
pub fn never_fits(estimate: Credits, budget: &Budget, charged: Credits) -> Option<String> {
    let caps = [
        ("budget.per_job", budget.per_job, Credits::ZERO),
        ("budget.per_day", budget.per_day, Credits::ZERO),
        ("budget.total", budget.total, charged),
    ];
    caps.into_iter().find_map(|(key, cap, gone)| {
        let cap = cap.filter(|cap| estimate + gone > *cap)?;
        let spent = if gone > Credits::ZERO { format!(", {gone} of it spent") } else { String::new() };
        Some(format!("it costs {estimate} credits, {key} is {cap}{spent}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_waiting_helps_never_fits() {
        let cap = |n| Some(Credits::new(n));
        let budget =
            Budget { per_job: cap(300), per_day: cap(200), total: cap(1000), confirm_above: Credits::ZERO };
        let never = |n, charged| never_fits(Credits::new(n), &budget, Credits::new(charged));
        assert_eq!(never(200, 800), None);
        assert_eq!(never(301, 0).unwrap(), "it costs 301 credits, budget.per_job is 300");
        assert_eq!(never(201, 0).unwrap(), "it costs 201 credits, budget.per_day is 200");
        assert_eq!(never(200, 801).unwrap(), "it costs 200 credits, budget.total is 1,000, 801 of it spent");
        let none = Budget { per_job: None, per_day: None, total: None, confirm_above: Credits::ZERO };
        assert_eq!(never_fits(Credits::new(u64::MAX), &none, Credits::ZERO), None);
    }
}
