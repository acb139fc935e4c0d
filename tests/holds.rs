//! How a hold finds out by itself whether it may end: slowly, one at a time, durably. The times are the test's own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Rig, is_poll, now};
use klingd::{
    daemon::{self, Ended},
    domain::{
        AttemptNo, Credits, Event, HoldName, JobId, TaskId, Timestamp,
        event::Source,
        evidence::Evidence,
        gate::{GateNews, GatePolicy},
        hold::Hold,
        plan::submit::{Deferral, SubmitAnswer, SubmitFacts, SubmitPlan, answered},
        retry::Dice,
    },
    store::{Access, Store, submit::SubmitOutcome},
};

const MINUTE: Duration = Duration::from_secs(60);

/// A queue of three, and room for all of them.
async fn three() -> (Rig, Timestamp) {
    let mut rig = Rig::new("").await;
    (rig.config.submit.start_in_flight, rig.config.submit.max_in_flight) = (16, 20);
    for prompt in ["a fox", "an owl", "a hare"] {
        rig.enqueue(prompt).await;
    }
    (rig, now())
}

/// What the submit lane gets at `now`: the jobs, and when to look again.
async fn claim(rig: &Rig, store: &Store, now: Timestamp) -> (Vec<(JobId, AttemptNo)>, Option<Timestamp>) {
    let policy = daemon::claim_policy(&rig.config, &rig.key.fingerprint());
    let claimed = store.claim_submits(16, &policy, now, now).await.unwrap();
    (claimed.intents.iter().map(|intent| (intent.job, intent.attempt)).collect(), claimed.next_at)
}

async fn settle(rig: &Rig, (job, attempt): (JobId, AttemptNo), plan: SubmitPlan, now: Timestamp) {
    let submit = &rig.config.submit;
    let gate = GatePolicy {
        start_in_flight: submit.start_in_flight,
        max_in_flight: submit.max_in_flight,
        cooldown: submit.cooldown,
        cooldown_max: submit.cooldown_max,
    };
    let (evidence, dice) = (Evidence::default(), Dice::new(0.5));
    let outcome = SubmitOutcome { job, attempt, plan, evidence, note: None, gate, now, dice };
    rig.store.settle_submit(outcome).await.unwrap();
}

/// The provider refuses it for now.
async fn refuse(rig: &Rig, claimed: (JobId, AttemptNo), why: Deferral, message: &str, now: Timestamp) {
    let facts = SubmitFacts {
        attempt: claimed.1,
        internal_errors: 0,
        retry_after: None,
        key_works: None,
        hold_on_internal_error: false,
        poll_first: MINUTE,
    };
    let answer = SubmitAnswer::Deferred { why, message: message.into() };
    settle(rig, claimed, answered(&answer, &facts, now, Dice::new(0.5)), now).await;
}

async fn accept(rig: &Rig, claimed: (JobId, AttemptNo), now: Timestamp) {
    let task = TaskId::parse(&format!("n75of{}", claimed.0)).unwrap();
    let charged = Some(Credits::new(common::PRICE));
    let event = Event::Accepted { attempt: claimed.1, task, charged, source: Source::Provider };
    let plan =
        SubmitPlan { event, due_at: now, gate: GateNews::Passed, retry_after: None, hold: None, error: None };
    settle(rig, claimed, plan, now).await;
}

async fn the_hold(rig: &Rig) -> Hold {
    let mut holds = rig.holds().await;
    assert_eq!(holds.len(), 1);
    holds.remove(0)
}

#[tokio::test]
async fn an_empty_account_is_tried_by_one_job_ever_more_rarely() {
    let (rig, t0) = three().await;
    let (all, _) = claim(&rig, &rig.store, t0).await;
    assert_eq!(all.len(), 3);
    for (n, one) in all.into_iter().enumerate() {
        refuse(&rig, one, Deferral::NoCredits, &format!("402, time {n}"), t0 + Duration::from_secs(n as u64))
            .await;
    }
    let hold = the_hold(&rig).await;
    assert_eq!((hold.name, hold.since, hold.why.as_str()), (HoldName::Credits, t0, "402, time 2"));
    let mut due = t0 + 15 * MINUTE;
    assert_eq!(hold.probe_at, Some(due), "the others of the same moment do not put it off");
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(claim(&rig, &rig.store, due - MINUTE).await, (vec![], Some(due)));
        // Another process, as after a restart: what is due is in the row, and so is that somebody tries it.
        let (again, writer) = Store::open(&rig.config.database(), Access::Use).await.unwrap();
        let reopened = async {
            let (tried, _) = claim(&rig, &again, due).await;
            drop(again);
            tried
        };
        let (tried, written) = tokio::join!(reopened, writer.run());
        written.unwrap();
        let [one] = tried[..] else { panic!("one job, not {tried:?}") };
        let next = the_hold(&rig).await.probe_at.unwrap();
        assert_eq!(claim(&rig, &rig.store, due).await.0, [], "one at a time");
        refuse(&rig, one, Deferral::NoCredits, "402, still", due).await;
        let hold = the_hold(&rig).await;
        assert_eq!((hold.since, hold.probe_at, hold.why.as_str()), (t0, Some(next), "402, still"));
        waits.push(next.since(due));
        due = next;
    }
    assert!(waits.is_sorted() && waits[0] == 15 * MINUTE && waits[7] > 30 * MINUTE, "{waits:?}");
    // The account has been topped up.
    let (tried, _) = claim(&rig, &rig.store, due).await;
    accept(&rig, tried[0], due).await;
    assert_eq!(rig.held().await, []);
    assert_eq!(claim(&rig, &rig.store, due).await.0.len(), 2, "then the others, at once");
}

#[tokio::test]
async fn a_key_that_works_again_is_tried_by_one_job_first() {
    let (rig, t0) = three().await;
    let (all, _) = claim(&rig, &rig.store, t0).await;
    for one in all {
        refuse(&rig, one, Deferral::KeyRefused, "401", t0).await;
    }
    assert_eq!(the_hold(&rig).await.probe_at, Some(t0 + 5 * MINUTE));
    assert_eq!(
        claim(&rig, &rig.store, t0 + 5 * MINUTE).await.0,
        [],
        "not by a job: a status call costs nothing"
    );
    // A status call works, a submit does not: the endpoint has moved, say.
    let t1 = t0 + 60 * MINUTE;
    rig.store.try_key().await.unwrap();
    let (tried, _) = claim(&rig, &rig.store, t1).await;
    assert_eq!(tried.len(), 1);
    assert_eq!(claim(&rig, &rig.store, t1).await.0, [], "one at a time");
    refuse(&rig, tried[0], Deferral::Moved, "404", t1).await;
    let hold = the_hold(&rig).await;
    assert_eq!(
        (hold.since, hold.until, hold.probe_at),
        (t0, None, Some(t1 + 15 * MINUTE)),
        "the same hold goes on"
    );
    assert_eq!(hold.why, "404 (is api.base_url right?)");
    assert_eq!(claim(&rig, &rig.store, t1 + MINUTE).await, (vec![], hold.probe_at));
    // Now it is back.
    let t2 = t1 + 15 * MINUTE;
    rig.store.try_key().await.unwrap();
    let (tried, _) = claim(&rig, &rig.store, t2).await;
    accept(&rig, tried[0], t2).await;
    assert_eq!(rig.held().await, []);
    assert_eq!(claim(&rig, &rig.store, t2).await.0.len(), 2);
}

/// What came back uncharged for another reason decides nothing: the trial goes on with the next one.
#[tokio::test]
async fn a_trial_that_says_nothing_goes_on() {
    let (rig, t0) = three().await;
    rig.store.hold(Hold::new(HoldName::Key, "401".into(), t0)).await.unwrap();
    rig.store.try_key().await.unwrap();
    let (tried, _) = claim(&rig, &rig.store, t0).await;
    refuse(&rig, tried[0], Deferral::NotSent, "no route", t0).await;
    assert_eq!(claim(&rig, &rig.store, t0).await.0.len(), 0, "the gate paces what could not be sent");
    assert_eq!(claim(&rig, &rig.store, t0 + MINUTE).await.0.len(), 1);
}

/// A task whose end is a word that klingd does not know holds its slot for a day, not for ever.
#[tokio::test]
async fn a_task_that_never_ends_gives_its_slot_back() {
    let (mut rig, t0) = three().await;
    (rig.config.submit.start_in_flight, rig.config.submit.max_in_flight) = (1, 1);
    let (sent, _) = claim(&rig, &rig.store, t0).await;
    assert_eq!(sent.len(), 1);
    accept(&rig, sent[0], t0).await;
    let day = 24 * 60 * MINUTE;
    assert_eq!(claim(&rig, &rig.store, t0 + day - MINUTE).await.0.len(), 0);
    assert_eq!(claim(&rig, &rig.store, t0 + day + MINUTE).await.0.len(), 1);
}

/// A person who says `resume` ends the trial, too.
#[tokio::test]
async fn a_resume_needs_no_trial() {
    let (rig, t0) = three().await;
    rig.store.hold(Hold::new(HoldName::Key, "401".into(), t0)).await.unwrap();
    rig.store.try_key().await.unwrap();
    rig.store.lift(vec![HoldName::Key]).await.unwrap();
    assert_eq!(claim(&rig, &rig.store, t0).await.0.len(), 3);
}

/// The endpoint of submits has moved and status still answers: each probe costs one request that nobody is charged for.
#[tokio::test]
async fn a_moved_endpoint_is_knocked_at_by_one_job_a_probe() {
    let rig = Rig::new("generate:404@*").await;
    for prompt in ["a fox", "an owl", "a hare"] {
        rig.enqueue(prompt).await;
    }
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 3 });
    let (posts, first) = (rig.posts().len(), the_hold(&rig).await);
    for round in 1..=3 {
        rig.store.probe_hold_later(HoldName::Key, now()).await.unwrap();
        assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 3 });
        let checks =
            rig.sandbox.requests().into_iter().filter(|r| r.path == "/api/status" && !is_poll(r)).count();
        assert_eq!((rig.posts().len(), checks), (posts + round, round));
        let hold = the_hold(&rig).await;
        assert_eq!(hold.since, first.since);
        assert!(hold.probe_at.unwrap() > now() + 4 * MINUTE, "and not again at once");
    }
    rig.check().await;
}
