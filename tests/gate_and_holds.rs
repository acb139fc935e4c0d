//! What keeps submits back: the gate, the holds, the budget, the order. Polls and downloads go on under all of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, time::Duration};

use common::{PRICE, Rig, at, is_poll, is_post, job, ms, now, prices, provider, seen};
use klingd::{
    clock::Clock,
    config::OnUncleanStop,
    daemon::{self, Ended},
    domain::{
        AttemptNo, HoldName, JobId, Outcome, Reason, State, Timestamp, evidence::Evidence, job::NewJob,
        request::Draft, state::Label,
    },
    sandbox::Options,
    store::{person::Edit, view::AttemptRow},
    worker::evidence::{Spool, Spooled},
};
use tokio_util::sync::CancellationToken;

/// Queues so many jobs.
async fn enqueue(rig: &Rig, jobs: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for n in 0..jobs {
        ids.push(rig.enqueue(&format!("job {n}")).await);
    }
    ids
}

async fn all_done(rig: &Rig, jobs: &[JobId]) {
    for id in jobs {
        assert_eq!(rig.label(*id).await, Label::Done, "job {id}");
    }
    rig.check().await;
}

/// Every attempt of these jobs, in the order in which they began.
async fn attempts(rig: &Rig, jobs: &[JobId]) -> Vec<AttemptRow> {
    let mut all = Vec::new();
    for id in jobs {
        all.extend(rig.attempts(*id).await);
    }
    all.sort_by_key(|attempt| attempt.started_at);
    all
}

// The gate.

#[tokio::test]
async fn nothing_leaves_inside_a_retry_after() {
    let mut rig = Rig::new("generate:429=1@4,generate:429=1@12").await;
    let submit = &mut rig.config.submit;
    (submit.workers, submit.start_in_flight, submit.max_in_flight) = (8, 8, 20);
    let jobs = enqueue(&rig, 20).await;
    rig.run().await;
    rig.all_fired();
    all_done(&rig, &jobs).await;

    // Those that were stopped at the last moment (tests/gate_latch.rs) never arrived.
    let mut all = attempts(&rig, &jobs).await;
    all.retain(|a| a.evidence.as_ref().is_some_and(|evidence| evidence.status.is_some()));
    let refusals: Vec<_> = all.iter().filter(|a| a.outcome == Outcome::Deferred).collect();
    assert_eq!((refusals.len(), all.len(), rig.posts().len()), (2, 22, 22));
    for refusal in refusals {
        let closed = refusal.answered_at.unwrap();
        let opens = closed + ms(1000);
        let inside = all.iter().filter(|a| a.started_at > closed && a.started_at < opens);
        assert_eq!(inside.count(), 0, "began between {closed} and {opens}");
        // Those that were out already may arrive after the refusal; nobody else.
        let began = all.iter().filter(|a| a.started_at <= closed).count();
        let arrived = rig.posts().iter().filter(|post| at(post) < opens).count();
        assert!(arrived <= began, "{arrived} arrived before {opens}, {began} had begun");
        // Then one probe, and only when it passed the rest.
        let mut after = all.iter().filter(|a| a.started_at >= opens);
        let probe = after.next().unwrap();
        assert!(after.all(|a| a.started_at >= probe.answered_at.unwrap()), "more than one probe");
    }
}

#[tokio::test]
async fn the_gate_survives_a_restart() {
    let rig = Rig::new("generate:429=1").await;
    let jobs = enqueue(&rig, 2).await;
    rig.run_until(|model| model.requests().iter().any(|r| r.status == Some(429))).await;
    let opens = rig.store.gate().await.unwrap().closed_until.unwrap();
    let seen_before = rig.posts().len();
    rig.run().await;
    all_done(&rig, &jobs).await;
    let next = at(&rig.posts()[seen_before]);
    assert!(next >= opens, "sent at {next}, the gate opened at {opens}");
}

#[tokio::test]
async fn without_a_wish_the_quiet_grows_while_probes_are_refused() {
    let mut rig = Rig::new("generate:429@1-3").await;
    (rig.config.submit.cooldown, rig.config.submit.cooldown_max) = (ms(20), ms(1000));
    let jobs = enqueue(&rig, 1).await;
    rig.run().await;
    all_done(&rig, &jobs).await;
    let all = attempts(&rig, &jobs).await;
    // 2, 5, 15 … in proportion, less the jitter.
    for (two, expected) in all.windows(2).zip([18, 45, 135]) {
        let quiet = two[1].started_at.since(two[0].answered_at.unwrap());
        assert!(quiet >= ms(expected), "{quiet:?} instead of {expected} ms");
    }
}

#[tokio::test]
async fn no_more_tasks_are_in_flight_than_allowed() {
    let mut rig = Rig::with(Options { parallel_tasks: Some(3), ..provider() }).await;
    let submit = &mut rig.config.submit;
    (submit.workers, submit.start_in_flight, submit.max_in_flight) = (8, 3, 3);
    let jobs = enqueue(&rig, 10).await;
    rig.run().await;
    all_done(&rig, &jobs).await;
    assert_eq!(rig.posts().len(), 10, "the provider never had to refuse one");
}

#[tokio::test]
async fn the_unknown_number_of_slots_is_found() {
    let options = Options { parallel_tasks: Some(4), render_time: ms(60)..=ms(60), ..provider() };
    let mut rig = Rig::with(options).await;
    let submit = &mut rig.config.submit;
    (submit.workers, submit.start_in_flight, submit.max_in_flight) = (4, 2, 20);
    let jobs = enqueue(&rig, 20).await;
    rig.run().await;
    all_done(&rig, &jobs).await;
    let refused = rig.posts().iter().filter(|post| post.status == Some(429)).count();
    assert!(refused <= 4, "{refused} refusals: a ceiling that is known is not run into again");
}

// The holds.

/// A job that is paid, and one that waits behind it.
async fn one_paid_one_waiting(rig: &Rig) -> (JobId, JobId) {
    let paid = rig.enqueue("a fox").await;
    rig.run_until(|model| model.charges().len() == 1).await;
    assert_eq!((rig.label(paid).await, rig.polls().len()), (Label::Generating, 0));
    (paid, rig.enqueue("an owl").await)
}

/// The paid job gets its video; the other waits for this reason.
async fn only_submits_are_held(rig: &Rig, (paid, waiting): (JobId, JobId), reason: Reason) {
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 }, "{reason:?}");
    assert_eq!((rig.label(paid).await, rig.label(waiting).await), (Label::Done, Label::Queued), "{reason:?}");
    assert_eq!(rig.posts().len(), 1, "{reason:?}");
    let shown = rig.job(waiting).await.reason(&rig.holds().await, false, now());
    assert_eq!(shown, Some(reason));
    rig.check().await;
}

#[tokio::test]
async fn every_hold_stops_submits_and_nothing_else() {
    let lifted_by_hand = HoldName::ALL.into_iter().filter(|name| *name != HoldName::Disk);
    futures_util::future::join_all(lifted_by_hand.map(|name| async move {
        let rig = Rig::new("").await;
        let jobs = one_paid_one_waiting(&rig).await;
        rig.hold(name).await;
        only_submits_are_held(&rig, jobs, name.reason()).await;
        rig.resume(name).await;
        assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
        all_done(&rig, &[jobs.0, jobs.1]).await;
    }))
    .await;
}

#[tokio::test]
async fn jobs_wait_until_the_last_of_several_holds_is_lifted() {
    let rig = Rig::new("").await;
    let jobs = one_paid_one_waiting(&rig).await;
    rig.hold(HoldName::Credits).await;
    rig.hold(HoldName::Paused).await;
    rig.store.probe_hold_later(HoldName::Credits, now()).await.unwrap();
    only_submits_are_held(&rig, jobs, Reason::Credits).await;
    rig.store.lift(vec![HoldName::Paused]).await.unwrap();
    rig.run().await;
    assert_eq!(rig.held().await, [], "the probe was due, and it passed");
    all_done(&rig, &[jobs.0, jobs.1]).await;
}

#[tokio::test]
async fn a_hold_that_has_its_end_ends() {
    let rig = Rig::new("").await;
    let id = rig.enqueue("a fox").await;
    let until = now() + ms(300);
    rig.hold(HoldName::Rate).await;
    let hold = klingd::domain::hold::Hold { until: Some(until), ..rig.holds().await.remove(0) };
    rig.store.hold(hold).await.unwrap();
    rig.run().await;
    all_done(&rig, &[id]).await;
    assert!(at(&rig.posts()[0]) >= until);
}

#[tokio::test]
async fn a_resume_is_noticed_by_the_running_daemon() {
    let rig = Rig::new("").await;
    let id = rig.enqueue("a fox").await;
    rig.hold(HoldName::Paused).await;
    let stop = CancellationToken::new();
    let person = async {
        // The daemon is up when its doorbell is.
        while !rig.config.doorbell().exists() {
            tokio::task::yield_now().await;
        }
        rig.resume(HoldName::Paused).await;
        klingd::store::doorbell::ring(&rig.config.doorbell());
        rig.sandbox.wait_until(|model| seen(model, is_post) == 1).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(rig.daemon(false, stop.clone()), person);
    assert_eq!(ended, Ended::Stopped);
    rig.run().await;
    all_done(&rig, &[id]).await;
}

#[tokio::test]
async fn too_little_room_on_the_disk_holds_submits_until_there_is_more() {
    let mut rig = Rig::new("").await;
    let jobs = one_paid_one_waiting(&rig).await;
    rig.config.output.min_free_bytes = u64::MAX;
    only_submits_are_held(&rig, jobs, Reason::Disk).await;
    rig.config.output.min_free_bytes = 0;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 }, "it ends by itself");
    all_done(&rig, &[jobs.0, jobs.1]).await;
}

#[tokio::test]
async fn a_video_that_cannot_be_stored_holds_submits_until_one_can() {
    let mut rig = Rig::new("").await;
    rig.config.output.template = "here/{id}.mp4".into();
    let (paid, waiting) = one_paid_one_waiting(&rig).await;
    // Where the folder should be stands somebody's file.
    let in_the_way = rig.config.videos_root().join("here");
    #[expect(clippy::disallowed_methods, reason = "a stranger's file")]
    fs::write(&in_the_way, "").unwrap();
    rig.hold(HoldName::Paused).await;

    let stop = CancellationToken::new();
    let until_held = async {
        while !rig.held().await.contains(&HoldName::Disk) {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    tokio::join!(rig.daemon(false, stop.clone()), until_held);
    assert!(
        matches!(rig.job(paid).await.state, State::Downloading { .. }),
        "paid: never given up for our disk"
    );
    assert!(rig.fetches().len() <= 1, "its link does not wait: it goes to staging");

    fs::remove_file(in_the_way).unwrap();
    rig.store.lift(vec![HoldName::Paused]).await.unwrap();
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    assert_eq!(rig.held().await, []);
    all_done(&rig, &[paid, waiting]).await;
}

// A start after a kill.

#[tokio::test]
async fn a_job_found_on_the_wire_is_in_doubt_and_may_hold_the_rest() {
    for (setting, held) in [(OnUncleanStop::Go, vec![]), (OnUncleanStop::Hold, vec![HoldName::UncleanStop])] {
        let mut rig = Rig::new("").await;
        rig.config.submit.on_unclean_stop = setting;
        let fox = rig.enqueue("a fox").await;
        let policy = daemon::claim_policy(&rig.config, &rig.key.fingerprint());
        let day = Clock.day_start(now());
        // As a kill between the intent and the answer leaves it.
        let claimed = rig.store.claim_submits(1, &policy, now(), day).await.unwrap();
        assert_eq!(claimed.intents.len(), 1);
        let owl = rig.enqueue("an owl").await;
        let needs_person = 1 + held.len() as u64;
        assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person });
        assert_eq!(rig.job(fox).await.state.needs_person(), Some(Reason::InDoubt));
        assert_eq!(rig.held().await, held);
        assert_eq!(rig.label(owl).await, if held.is_empty() { Label::Done } else { Label::Queued });
        assert_eq!(rig.sandbox.charges_for("a fox"), 0, "it never left, but nobody can know");
        rig.check().await;
    }
}

/// A spooled answer that does not tell leaves the job in doubt as well; one that tells is no reason to hold the rest.
#[tokio::test]
async fn a_spooled_answer_holds_the_rest_only_when_it_does_not_tell() {
    let refused = r#"{"code":"INVALID_PROMPT","message":"no"}"#;
    for (status, body, held) in [(502, "<html>", vec![HoldName::UncleanStop]), (400, refused, vec![])] {
        let mut rig = Rig::new("").await;
        rig.config.submit.on_unclean_stop = OnUncleanStop::Hold;
        let fox = rig.enqueue("a fox").await;
        let policy = daemon::claim_policy(&rig.config, &rig.key.fingerprint());
        rig.store.claim_submits(1, &policy, now(), Clock.day_start(now())).await.unwrap();
        let evidence = Evidence { status: Some(status), body: body.to_owned(), ..Evidence::default() };
        let spool = Spool::new(rig.config.spool_dir(), rig.config.data_dir.join("reserve"));
        klingd::disk::create_root(spool.dir()).unwrap();
        spool.keep(Spooled { job: fox, attempt: AttemptNo(1), evidence }).await.unwrap();
        let owl = rig.enqueue("an owl").await;
        rig.run().await;
        assert_eq!(rig.held().await, held, "{status}");
        let labels = (rig.label(fox).await, rig.label(owl).await);
        let expected =
            if held.is_empty() { (Label::Failed, Label::Done) } else { (Label::InDoubt, Label::Queued) };
        assert_eq!(labels, expected, "{status}");
    }
}

// The budget.

/// Ten jobs and eight workers: exactly so many are paid for. Then, without a cap, the rest.
async fn budget_allows(rig: &mut Rig, paid: u64) {
    let submit = &mut rig.config.submit;
    (submit.workers, submit.start_in_flight, submit.max_in_flight) = (8, 10, 10);
    let jobs = enqueue(rig, 10).await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 10 - paid });
    let spent: i64 = rig.sandbox.ledger().iter().map(|charge| charge.credits).sum();
    assert_eq!(u64::try_from(spent).unwrap(), prices(paid).get());
    assert_eq!(rig.posts().len() as u64, paid);
    assert_eq!(rig.held().await, [], "a cap is a reason to wait, no hold");
    rig.check().await;

    (rig.config.budget.per_job, rig.config.budget.per_day, rig.config.budget.total) = (None, None, None);
    rig.run().await;
    all_done(rig, &jobs).await;
}

#[tokio::test]
async fn a_budget_is_never_overshot() {
    let mut rig = Rig::new("").await;
    rig.config.budget.per_day = Some(prices(4).minus(klingd::domain::Credits::new(1)));
    budget_allows(&mut rig, 3).await;
    let mut rig = Rig::new("").await;
    rig.config.budget.total = Some(prices(4));
    budget_allows(&mut rig, 4).await;
    let mut rig = Rig::new("").await;
    rig.config.budget.per_job = Some(prices(1).minus(klingd::domain::Credits::new(1)));
    budget_allows(&mut rig, 0).await;
}

#[tokio::test]
async fn doubt_counts_as_spent() {
    let mut rig = Rig::new("generate:close-before@1-2").await;
    rig.config.budget.total = Some(prices(3));
    let jobs = enqueue(&rig, 5).await;
    assert_eq!(
        rig.run().await,
        Ended::Idle { failed: 0, needs_person: 4 },
        "two in doubt, two without budget"
    );
    assert_eq!(rig.posts().len(), 3);
    rig.check().await;
    // A person finds out that one was not charged: its credits are there again, for the next in line.
    let doubtful = jobs[rig.label(jobs[0]).await.ne(&Label::InDoubt) as usize];
    let State::InDoubt { attempt, .. } = rig.job(doubtful).await.state else { panic!("{doubtful}") };
    let resolution = klingd::store::person::Resolution::NotCharged;
    rig.store.resolve(doubtful, attempt, resolution, None, now()).await.unwrap();
    rig.run().await;
    assert_eq!(rig.posts().len(), 4);
    rig.check().await;
}

#[tokio::test]
async fn what_was_charged_replaces_the_estimate() {
    let mut rig = Rig::new(&format!("generate:other-credits={}", 2 * PRICE + 1)).await;
    (rig.config.budget.total, rig.config.submit.workers) = (Some(prices(3)), 1);
    enqueue(&rig, 3).await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 2 }, "no room for another");
    assert_eq!(rig.posts().len(), 1);
    rig.check().await;
}

#[tokio::test]
async fn a_job_that_does_not_fit_lets_a_cheaper_one_pass() {
    let mut rig = Rig::new("").await;
    rig.config.budget.total = Some(prices(1));
    let long = Draft { duration: Some(5), sound: Some(false), ..common::draft("a long film") };
    let dear = rig.enqueue_job(common::new_job(&long)).await;
    let own_cap = rig.enqueue_job(NewJob { max_credits: Some(prices(0)), ..job("a capped fox") }).await;
    let cheap = rig.enqueue("a fox").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 2 });
    assert_eq!((rig.label(dear).await, rig.label(own_cap).await), (Label::Queued, Label::Queued));
    all_done(&rig, &[cheap]).await;
}

// The order.

#[tokio::test]
async fn higher_priority_goes_first_then_the_older() {
    let mut rig = Rig::new("").await;
    (rig.config.submit.workers, rig.config.submit.start_in_flight) = (1, 1);
    for (prompt, priority) in [("last", -100), ("third", 0), ("fourth", 0), ("second", 7), ("first", 100)] {
        rig.enqueue_job(NewJob { priority, ..job(prompt) }).await;
    }
    rig.run().await;
    let order: Vec<_> = rig.sandbox.tasks().into_iter().map(|task| task.prompt).collect();
    assert_eq!(order, ["first", "second", "third", "fourth", "last"]);
    rig.check().await;
}

#[tokio::test]
async fn a_job_is_not_sent_before_its_time() {
    let rig = Rig::new("").await;
    // So late that no machine is too slow for it.
    let time = now() + Duration::from_secs(3600);
    let later = rig.enqueue_job(NewJob { not_before: Some(time), priority: 100, ..job("later") }).await;
    assert_eq!(rig.job(later).await.reason(&[], false, now()), Some(Reason::NotBefore));
    let soon = rig.enqueue("soon").await;
    rig.run_until(|model| seen(model, is_poll) > 0).await;
    assert!(started(&rig, soon).await < time, "it holds up nobody");
    assert!(rig.attempts(later).await.is_empty(), "too early");
    // Its time comes while klingd runs, and not before.
    let time = now() + ms(200);
    let edit = Edit { not_before: Some(time), ..Edit::default() };
    rig.store.edit(later, edit, now()).await.unwrap();
    rig.run().await;
    all_done(&rig, &[soon, later]).await;
    assert!(started(&rig, later).await >= time, "too early");
}

async fn started(rig: &Rig, id: JobId) -> Timestamp {
    rig.attempts(id).await[0].started_at
}
