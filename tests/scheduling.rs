//! The order of the queue and its due times, asked of the store with times of the test's own; and what a person changes
//! while the daemon runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Rig, is_post, job, now, seen};
use klingd::{
    daemon::{self, Ended},
    domain::{
        AttemptNo, Event, JobId, Timestamp,
        evidence::Evidence,
        gate::{GateNews, GatePolicy},
        hold::HoldName,
        job::NewJob,
        plan::submit::{LONGEST_DEFERRAL, SubmitPlan},
        retry::Dice,
        state::Label,
    },
    store::{
        doorbell,
        person::Edit,
        submit::{Claimed, SubmitOutcome},
    },
};
use tokio_util::sync::CancellationToken;

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

/// What the submit lane would get at `now`.
async fn claim(rig: &Rig, now: Timestamp) -> Claimed {
    let policy = daemon::claim_policy(&rig.config, &rig.key.fingerprint());
    rig.store.claim_submits(16, &policy, now, now).await.unwrap()
}

async fn claimed(rig: &Rig, now: Timestamp) -> Vec<JobId> {
    claim(rig, now).await.intents.into_iter().map(|intent| intent.job).collect()
}

/// Brings what is on the wire back to the queue, to be tried again at `due_at`, by a clock that says `now`.
async fn put_off(rig: &Rig, job: JobId, attempt: u32, due_at: Timestamp, now: Timestamp) {
    let attempt = AttemptNo(attempt);
    let event = Event::SubmitDeferred { attempt, why: "no route".into(), reserved: false };
    let plan =
        SubmitPlan { event, due_at, gate: GateNews::Nothing, retry_after: None, hold: None, error: None };
    let config = &rig.config.submit;
    let gate = GatePolicy {
        start_in_flight: config.start_in_flight,
        max_in_flight: config.max_in_flight,
        cooldown: config.cooldown,
        cooldown_max: config.cooldown_max,
    };
    let (evidence, dice) = (Evidence::default(), Dice::new(0.5));
    let outcome = SubmitOutcome { job, attempt, plan, evidence, note: None, gate, now, dice };
    rig.store.settle_submit(outcome).await.unwrap();
}

/// A queue whose jobs may all leave at once.
async fn wide() -> Rig {
    let mut rig = Rig::new("").await;
    (rig.config.submit.start_in_flight, rig.config.submit.max_in_flight) = (16, 20);
    rig
}

/// A clock that was a month ahead when the daemon put a job off, and was set right since.
#[tokio::test]
async fn what_a_clock_put_off_too_far_is_due_when_it_has_jumped_back() {
    let rig = wide().await;
    let (here, ahead) = (now(), now() + MONTH);
    let id = rig.enqueue("a fox").await;
    assert_eq!(claimed(&rig, ahead).await, [id]);
    put_off(&rig, id, 1, ahead + 2 * MINUTE, ahead).await;
    let waits = claim(&rig, ahead + MINUTE).await;
    assert_eq!(
        (waits.intents.len(), waits.next_at),
        (0, Some(ahead + 2 * MINUTE)),
        "in its own time it waits"
    );
    assert_eq!(claimed(&rig, here).await, [id], "nothing is put off for a month");

    put_off(&rig, id, 2, here + LONGEST_DEFERRAL, here).await;
    assert_eq!(claimed(&rig, here).await, [], "as far as klingd ever puts off: obeyed");
    assert_eq!(claimed(&rig, here + LONGEST_DEFERRAL).await, [id]);
}

#[tokio::test]
async fn what_a_person_scheduled_is_obeyed_whatever_the_clock_did() {
    let rig = wide().await;
    let here = now();
    let (soon, later) = (here + 10 * MINUTE, here + 2 * MONTH);
    let at = |prompt: &str, time| NewJob { not_before: Some(time), ..job(prompt) };
    let first = rig.enqueue_job(at("soon", soon)).await;
    let last = rig.enqueue_job(at("in two months", later)).await;
    let waits = claim(&rig, here).await;
    assert_eq!((waits.intents.len(), waits.next_at), (0, Some(soon)));
    // Its time came, by a clock that was a month ahead; it was put off; the clock is right again.
    let ahead = here + MONTH;
    assert_eq!(claimed(&rig, ahead).await, [first]);
    put_off(&rig, first, 1, ahead + MINUTE, ahead).await;
    assert_eq!(claimed(&rig, here).await, [], "not before its time, whatever it was put off by");
    assert_eq!(claimed(&rig, soon).await, [first], "and not a month after it");
    assert_eq!(claimed(&rig, later - MINUTE).await, []);
    assert_eq!(claimed(&rig, later).await, [last]);
    // A person may put a job that was put off wherever they like.
    put_off(&rig, last, 1, later + MINUTE, later).await;
    let edit = Edit { not_before: Some(later + MONTH), ..Edit::default() };
    rig.store.edit(last, edit, later).await.unwrap();
    assert_eq!(claimed(&rig, later + 2 * MINUTE).await, []);
    assert_eq!(claimed(&rig, later + MONTH).await, [last]);
}

/// Oldest first within a priority, also after some came back; a change of priority counts at the next look.
#[tokio::test]
async fn the_order_is_fair_and_a_new_priority_counts_at_once() {
    let rig = wide().await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(rig.enqueue(&format!("job {n}")).await);
    }
    let here = now();
    let raise = |priority| Edit { priority: Some(priority), ..Edit::default() };
    rig.store.edit(ids[3], raise(1), here).await.unwrap();
    assert_eq!(claimed(&rig, here).await, [ids[3], ids[0], ids[1], ids[2]]);
    for id in &ids {
        put_off(&rig, *id, 1, here, here).await;
    }
    rig.store.edit(ids[3], raise(-1), here).await.unwrap();
    assert_eq!(claimed(&rig, here).await, ids, "who was refused keeps its place");
}

/// Three jobs wait behind a pause for the one slot, and a person changes their mind about two of them.
#[tokio::test]
async fn a_running_daemon_sees_a_new_priority_and_a_cancel() {
    let mut rig = Rig::new("").await;
    let submit = &mut rig.config.submit;
    (submit.workers, submit.start_in_flight, submit.max_in_flight) = (1, 1, 1);
    let (old, dropped, raised) =
        (rig.enqueue("old").await, rig.enqueue("dropped").await, rig.enqueue("raised").await);
    rig.hold(HoldName::Paused).await;
    let stop = CancellationToken::new();
    let person = async {
        while !rig.config.doorbell().exists() {
            tokio::task::yield_now().await;
        }
        rig.store.edit(raised, Edit { priority: Some(9), ..Edit::default() }, now()).await.unwrap();
        rig.store.cancel(dropped, false, now()).await.unwrap();
        rig.resume(HoldName::Paused).await;
        doorbell::ring(&rig.config.doorbell());
        rig.sandbox.wait_until(|model| seen(model, is_post) == 2).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(rig.daemon(false, stop.clone()), person);
    assert_eq!(ended, Ended::Stopped);
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    let order: Vec<_> = rig.sandbox.tasks().into_iter().map(|task| task.prompt).collect();
    assert_eq!(order, ["raised", "old"]);
    assert_eq!(rig.label(dropped).await, Label::Cancelled);
    assert_eq!((rig.label(old).await, rig.label(raised).await), (Label::Done, Label::Done));
    rig.check().await;
}

/// Between the look that found a job and the intent is one transaction; what a person cancelled before it never leaves.
#[tokio::test]
async fn a_cancelled_job_is_never_claimed() {
    let rig = wide().await;
    let (fox, owl) = (rig.enqueue("a fox").await, rig.enqueue("an owl").await);
    rig.store.cancel(fox, false, now()).await.unwrap();
    assert_eq!(claimed(&rig, now()).await, [owl]);
    assert_eq!(claimed(&rig, now()).await, []);
    assert_eq!(rig.attempts(fox).await, []);
}
