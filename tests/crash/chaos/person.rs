//! What a person does who looks at the queue, sees the provider's panel, and never lies.

use std::collections::BTreeSet;

use klingd::domain::plan::retry::RetryPlan;
use klingd::domain::state::{Failure, Label, TaskId};
use klingd::domain::{HoldName, Job, State};
use klingd::sandbox::AcceptKeys;
use klingd::store::person::Resolution;
use klingd::store::view::Filter;

use crate::common::{Rig, now};

/// Every job.
pub async fn jobs(rig: &Rig) -> Vec<Job> {
    rig.store.list(&Filter { all: true, ..Filter::default() }).await.unwrap()
}

/// What is not at rest, and why.
pub async fn sees(rig: &Rig) -> String {
    let jobs = jobs(rig).await;
    let moving = jobs.iter().filter(|job| !job.state.has_ended());
    let moving: Vec<_> = moving.map(|job| (job.id, &job.state, job.due_at, &job.error)).collect();
    let (holds, gate, looks) = (rig.holds().await, rig.store.gate().await, rig.store.looks().await);
    let fired: Vec<_> = rig.sandbox.fired().into_iter().filter(|(_, times)| *times > 0).collect();
    format!("at {}: {moving:?}; {holds:?}; {gate:?}; {looks:?}; fired {fired:?}", now())
}

/// Tasks of jobs that nobody waits for any more.
pub async fn given_up(rig: &Rig) -> BTreeSet<String> {
    let ended = |job: &Job| job.state.label() == Label::Cancelled;
    let jobs = jobs(rig).await;
    jobs.iter()
        .filter(|job| ended(job))
        .filter_map(|job| Some(job.state.task()?.as_str().to_owned()))
        .collect()
}

/// Mends the key and the account, lifts the holds, tells the truth about doubts, and gives up what never ends. Says
/// whether there was anything to do.
pub async fn acts(rig: &Rig) -> bool {
    let mut acted = false;
    let held = rig.held().await;
    if !held.is_empty() {
        rig.sandbox.set_keys(AcceptKeys::Only(vec![rig.key.expose().to_owned()]));
        rig.sandbox.set_balance(1_000_000);
        acted |= !rig.store.lift(held).await.unwrap().is_empty();
    }
    let requests = rig.sandbox.requests();
    let stuck = super::stuck_tasks(&rig.sandbox.tasks(), requests.iter());
    let all = jobs(rig).await;
    let is_stuck =
        |job: &Job| job.state.task().is_some_and(|task| stuck.iter().any(|id| id == task.as_str()));
    let mut opened = false;
    for job in &all {
        let moves = match &job.state {
            State::InDoubt { attempt, .. } => {
                rig.store.resolve(job.id, *attempt, truth(rig, job), None, now()).await.unwrap();
                true
            }
            State::Generating { .. } if is_stuck(job) => {
                rig.store.cancel(job.id, true, now()).await.unwrap();
                true
            }
            // Refused for this task alone, it is looked at once an hour: stopped and followed again, it is at once.
            State::Generating { watch, .. } if watch.needs_person().is_some() => {
                rig.store.cancel(job.id, true, now()).await.unwrap();
                rig.store.retry(job.id, RetryPlan::Follow, now()).await.unwrap();
                true
            }
            State::Failed { failure, .. } if failure.code == Failure::LOST => {
                rig.store.retry(job.id, RetryPlan::Follow, now()).await.unwrap();
                true
            }
            State::Queued => {
                opened = true;
                rig.hurry(job.id).await;
                true
            }
            State::Submitting { .. } => panic!("job {} is on the wire and no daemon runs", job.id),
            State::Generating { .. } | State::Downloading { .. } => true,
            State::Done { .. } | State::Failed { .. } | State::Cancelled { .. } => false,
        };
        acted |= moves;
    }
    if opened {
        rig.store.lift(vec![HoldName::Rate]).await.unwrap();
    }
    acted
}

fn truth(rig: &Rig, job: &Job) -> Resolution {
    let tasks = rig.sandbox.tasks();
    match tasks.iter().find(|task| task.prompt == job.request.prompt()) {
        Some(task) => Resolution::Adopt(TaskId::parse(&task.id).unwrap()),
        None => Resolution::NotCharged,
    }
}
