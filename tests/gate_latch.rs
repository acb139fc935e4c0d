//! No submit leaves into a quiet that the provider asked for, however many workers there are and however early their
//! intents were committed.

mod common;

use std::collections::HashSet;

use common::{Rig, at, ms};
use klingd::{
    domain::{HoldName, JobId, Outcome, evidence::Phase, state::Label},
    store::view::AttemptRow,
    worker::Lane,
};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

const WORKERS: usize = 16;

async fn rig(faults: &str, jobs: usize) -> (Rig, Vec<JobId>) {
    let mut rig = Rig::new(faults).await;
    let submit = &mut rig.config.submit;
    (submit.workers, submit.start_in_flight, submit.max_in_flight) = (WORKERS, 16, 20);
    let mut ids = Vec::new();
    for n in 0..jobs {
        ids.push(rig.enqueue(&format!("job {n}")).await);
    }
    (rig, ids)
}

async fn attempts(rig: &Rig, jobs: &[JobId]) -> Vec<AttemptRow> {
    let mut all = Vec::new();
    for id in jobs {
        all.extend(rig.attempts(*id).await);
    }
    all
}

fn is_held(attempt: &AttemptRow) -> bool {
    let transport = attempt.evidence.as_ref().and_then(|evidence| evidence.transport.as_ref());
    transport.is_some_and(|failure| failure.phase == Phase::Held)
}

/// Sixteen intents stand, one is refused: the other fifteen go back, free, in their place.
#[tokio::test]
async fn intents_from_before_a_refusal_do_not_leave_after_it() {
    let (rig, jobs) = rig("generate:429=60@1", WORKERS).await;
    let lane = rig.submit_lane();
    let mut work = lane.look(WORKERS, &HashSet::new()).await.unwrap().work;
    assert_eq!(work.len(), WORKERS);
    let late = work.split_off(1);
    for (_, intent) in work {
        lane.step(intent).await.unwrap();
    }
    let steps = late.into_iter().map(|(_, intent)| lane.step(intent));
    assert!(futures_util::future::join_all(steps).await.iter().all(Result::is_ok));
    rig.all_fired();
    assert_eq!(rig.posts().len(), 1, "only the one that was refused arrived");
    for id in &jobs {
        assert_eq!(rig.label(*id).await, Label::Queued);
    }
    let all = attempts(&rig, &jobs).await;
    assert_eq!(all.iter().filter(|a| is_held(a)).count(), WORKERS - 1);
    assert!(all.iter().all(|a| a.outcome == Outcome::Deferred));
    assert_eq!(rig.job(jobs[5]).await.paid_attempts, 0);
    assert_eq!(rig.job(jobs[5]).await.error, None, "nothing failed");
    rig.check().await;

    // The gate's row holds everybody who looks now; a person's lift reaches the latch too.
    assert_eq!(lane.look(WORKERS, &HashSet::new()).await.unwrap().work.len(), 0);
    rig.store.lift(vec![HoldName::Rate]).await.unwrap();
    let probe = lane.look(WORKERS, &HashSet::new()).await.unwrap().work;
    assert_eq!(probe.len(), 1, "one probe");
    for (job, intent) in probe {
        assert_eq!(job, jobs[0], "in its place");
        lane.step(intent).await.unwrap();
    }
    assert_eq!(rig.posts().len(), 2);
    rig.check().await;
}

/// A proxy that answers for a provider which is down makes one doubt, not one of every job.
#[tokio::test]
async fn an_outage_stops_the_others() {
    let (mut rig, jobs) = rig("generate:504-empty@1-99", WORKERS).await;
    (rig.config.submit.cooldown, rig.config.submit.cooldown_max) = (ms(60_000), ms(600_000));
    let lane = rig.submit_lane();
    for (_, intent) in lane.look(WORKERS, &HashSet::new()).await.unwrap().work {
        lane.step(intent).await.unwrap();
    }
    assert_eq!(rig.posts().len(), 1);
    assert_eq!(rig.label(jobs[0]).await, Label::InDoubt);
    for id in &jobs[1..] {
        assert_eq!(rig.label(*id).await, Label::Queued);
    }
    let look = lane.look(WORKERS, &HashSet::new()).await.unwrap();
    assert!(look.work.is_empty() && look.next_at.is_some());
    rig.check().await;
}

/// The row's quiet is over by a clock that was set forward: in this process nothing leaves all the same, nor is it claimed
/// again and again.
#[tokio::test]
async fn a_clock_that_was_set_opens_nothing() {
    let (rig, _) = rig("generate:429=60@1", 1).await;
    let lane = rig.submit_lane();
    for (_, intent) in lane.look(WORKERS, &HashSet::new()).await.unwrap().work {
        lane.step(intent).await.unwrap();
    }
    let mut sql = SqliteConnectOptions::new().filename(rig.config.database()).connect().await.unwrap();
    sqlx::query("UPDATE gate SET data = json_set(data, '$.closed_until', 1)")
        .execute(&mut sql)
        .await
        .unwrap();
    let look = lane.look(WORKERS, &HashSet::new()).await.unwrap();
    assert_eq!(look.work.len(), 0);
    assert!(look.next_at.is_some(), "it is looked at again when the latch opens");
    assert_eq!(rig.posts().len(), 1);
}

/// The whole daemon with sixteen workers against a limit: what was stopped never arrived, and the quiet stays quiet.
#[tokio::test]
async fn sixteen_workers_keep_the_quiet() {
    let (rig, jobs) = rig("generate:429=1@4,generate:429=1@20", 30).await;
    rig.run().await;
    rig.all_fired();
    for id in &jobs {
        assert_eq!(rig.label(*id).await, Label::Done, "job {id}");
    }
    let all = attempts(&rig, &jobs).await;
    let (held, sent): (Vec<_>, Vec<_>) = all.iter().partition(|a| is_held(a));
    assert_eq!(rig.posts().len(), sent.len(), "{} were held back", held.len());
    for refusal in sent.iter().filter(|a| a.outcome == Outcome::Deferred) {
        let closed = refusal.answered_at.unwrap();
        let inside = |a: &&&AttemptRow| a.started_at > closed && a.started_at < closed + ms(1000);
        assert_eq!(sent.iter().filter(inside).count(), 0, "began after {closed}");
        // What had begun may have been on its way; whatever was not is held back, not late.
        let began = sent.iter().filter(|a| a.started_at <= closed).count();
        let arrived = rig.posts().iter().filter(|post| at(post) < closed + ms(1000)).count();
        assert!(arrived <= began, "{arrived} arrived, {began} had left");
    }
    rig.check().await;
}
