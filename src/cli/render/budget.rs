//! The caps: what is left of them, and who waits for them. `status`, `spend` and the end of a run say the same.

use serde_json::{Value, json};

use super::{super::view::View, text::counted};
use crate::{domain::Credits, store::budget::Cap};

/// For a person, a line for each cap on sums, and for any other that stops a job.
pub fn lines(view: &View, stopped: &[(Cap, u64)]) -> Vec<String> {
    let View { budget, spent, .. } = view;
    let of_sums = [
        (Cap::PerDay, "per_day", spent.of_day(), budget.per_day, "until midnight"),
        (Cap::Total, "total", spent.in_total(), budget.total, "until it is raised"),
    ];
    let of_sums = of_sums.into_iter().filter(|(_, _, _, cap, _)| *cap > Credits::ZERO).map(
        |(cap, name, used, most, until)| {
            let left = most.minus(used);
            let waits = match jobs(cap, stopped) {
                0 => String::new(),
                n => format!("; {} {until}", waits(n)),
            };
            format!("{name}: {used} of {most} credits, {left} left{waits}")
        },
    );
    let of_one = stopped.iter().filter(|(cap, _)| matches!(cap, Cap::PerJob | Cap::MaxCredits));
    of_sums.chain(of_one.map(|(cap, n)| stop(*cap, *n, view))).collect()
}

/// That so many jobs wait for a cap.
pub fn stop(cap: Cap, jobs: u64, view: &View) -> String {
    let View { budget, spent, .. } = view;
    let costs = if jobs == 1 { "costs" } else { "cost" };
    let n = counted(jobs, "job");
    match cap {
        Cap::PerJob => format!("{n} {costs} more than budget.per_job ({} credits)", budget.per_job),
        Cap::MaxCredits => format!("{n} {costs} more than max_credits allows"),
        Cap::PerDay => format!(
            "{} for budget.per_day ({} of {} credits) until midnight",
            waits(jobs),
            spent.of_day(),
            budget.per_day
        ),
        Cap::Total => format!(
            "{} for budget.total ({} of {} credits) until it is raised",
            waits(jobs),
            spent.in_total(),
            budget.total
        ),
    }
}

/// For a program.
pub fn json(view: &View) -> Value {
    let View { budget, spent, .. } = view;
    let cap = |cap: Credits| (cap > Credits::ZERO).then_some(cap);
    json!({
        "per_job": cap(budget.per_job),
        "per_day": cap(budget.per_day),
        "left_today": cap(budget.per_day).map(|cap| cap.minus(spent.of_day())),
        "total": cap(budget.total),
        "left_in_total": cap(budget.total).map(|cap| cap.minus(spent.in_total())),
    })
}

/// The same with the jobs that each cap stops.
pub fn json_with(view: &View, stopped: &[(Cap, u64)]) -> Value {
    let mut budget = json(view);
    budget["waiting_jobs"] = json!({
        "per_job": jobs(Cap::PerJob, stopped),
        "max_credits": jobs(Cap::MaxCredits, stopped),
        "per_day": jobs(Cap::PerDay, stopped),
        "total": jobs(Cap::Total, stopped),
    });
    budget
}

fn jobs(cap: Cap, stopped: &[(Cap, u64)]) -> u64 {
    stopped.iter().filter(|(c, _)| *c == cap).map(|(_, n)| n).sum()
}

/// "1 job waits", "22 jobs wait".
pub fn waits(jobs: u64) -> String {
    format!("{} {}", counted(jobs, "job"), if jobs == 1 { "waits" } else { "wait" })
}
