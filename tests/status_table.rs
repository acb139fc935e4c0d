//! Every row of the status table: a paid task's status calls meet one answer, and exactly the row's reaction follows.
//!
//! Whatever status says, the job is charged once and submitted once; most rows end with its video.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Rig, at, is_poll, is_post, ms, provider, seen};
use futures_util::future::join_all;
use klingd::{
    config::ApiKey,
    daemon::Ended,
    domain::{
        Event, HoldName, JobId, Reason, State,
        plan::poll::PollPlan,
        state::{Charged, Failure, Label, Link, Watch},
    },
    sandbox::{AcceptKeys, Options, SeenRequest},
};
use tokio_util::sync::CancellationToken;

/// A job whose status calls meet these faults gets its video all the same.
async fn done_in_spite_of(faults: &str) -> (Rig, JobId) {
    ends(faults, Label::Done).await
}

async fn ends(faults: &str, state: Label) -> (Rig, JobId) {
    let rig = Rig::new(faults).await;
    let id = rig.enqueue("a fox").await;
    let ended = rig.run().await;
    rig.all_fired();
    let failed = u64::from(state == Label::Failed);
    assert_eq!(ended, Ended::Idle { failed, needs_person: 0 }, "{faults}");
    assert_eq!(rig.label(id).await, state, "{faults}");
    assert_eq!((rig.posts().len(), rig.sandbox.ledger().len()), (1, 1), "{faults}: one submit, one charge");
    assert_eq!(rig.held().await, [], "{faults}");
    rig.check().await;
    (rig, id)
}

/// The same for many faults, each in a rig of its own.
async fn all_done_in_spite_of(faults: &[&str]) {
    join_all(faults.iter().map(|fault| async move {
        let (rig, id) = done_in_spite_of(&format!("status:{fault}")).await;
        assert!(rig.polls().len() >= 2, "{fault}: looked at again");
        assert_eq!(watches(&rig, id).await, [], "{fault}: the job's state is untouched");
    }))
    .await;
}

/// What was said of the task while it was watched.
async fn watches(rig: &Rig, id: JobId) -> Vec<Watch> {
    let events = rig.history(id).await.into_iter().map(|row| row.event);
    events.filter_map(|event| if let Event::Watched { watch } = event { Some(watch) } else { None }).collect()
}

/// A job that is paid and not yet looked at.
async fn generating(options: Options) -> (Rig, JobId) {
    let rig = Rig::with(options).await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| model.charges().len() == 1).await;
    assert_eq!((rig.label(id).await, rig.polls().len()), (Label::Generating, 0));
    (rig, id)
}

fn with_faults(faults: &str) -> Options {
    Options { faults: faults.parse().unwrap(), ..provider() }
}

// Under way.

#[tokio::test]
async fn every_word_that_is_no_end_is_under_way() {
    let words = ["IN_PROGRESS", "PENDING", "QUEUED", "processing", "running", "something-new", "4"];
    all_done_in_spite_of(&words.map(|word| format!("word={word}")).each_ref().map(String::as_str)).await;
    all_done_in_spite_of(&["word=QUEUED@1-5"]).await;
}

#[tokio::test]
async fn a_task_that_renders_long_is_polled_until_it_ends() {
    let (rig, id) = done_in_spite_of("task:slow=200").await;
    assert!(rig.job(id).await.polls >= 2);
    let polls = rig.polls();
    let pauses = polls.windows(2).map(|two| at(&two[1]).since(at(&two[0])));
    let shortest = pauses.min().expect("several looks");
    assert!(
        shortest >= rig.config.poll.every.unwrap().mul_f64(0.9) - ms(1),
        "{shortest:?}: never two at once"
    );
}

// Done there.

#[tokio::test]
async fn every_word_of_success_is_one() {
    let words = ["COMPLETED", "SUCCEEDED", "success-word=completed", "success-word=SUCCEED", "lower-case"];
    join_all(words.map(|word| async move {
        let (rig, _) = done_in_spite_of(&format!("status:{word}")).await;
        assert_eq!(rig.polls().len(), 1, "{word}: understood at the first look");
    }))
    .await;
}

#[tokio::test]
async fn every_shape_of_the_response_gives_its_urls() {
    let shapes = ["array", "objects", "resultUrls", "json-string", "json-objects", "json-resultUrls", "bare"];
    join_all(shapes.map(|shape| async move {
        let (rig, id) = done_in_spite_of(&format!("status:urls={shape}")).await;
        assert_eq!((rig.polls().len(), rig.videos(id).await.len()), (1, 1), "{shape}");
    }))
    .await;
}

#[tokio::test]
async fn what_the_provider_does_not_echo_is_not_missed() {
    join_all(["no-echo", "echo-defaults"].map(|fault| async move {
        let (rig, _) = done_in_spite_of(&format!("status:{fault}")).await;
        assert_eq!(rig.polls().len(), 1, "{fault}");
    }))
    .await;
}

#[tokio::test]
async fn success_without_a_url_is_looked_at_again() {
    let (rig, id) = done_in_spite_of("status:success-no-url@1-3").await;
    assert!(matches!(watches(&rig, id).await[..], [Watch::NoUrl { held: false, .. }]));
    assert_eq!(rig.polls().len(), 4);
}

#[tokio::test]
async fn success_without_a_url_is_not_unsaid() {
    let (rig, id) = done_in_spite_of("status:success-no-url@1,status:stale-in-progress@1-2,status:404").await;
    assert!(matches!(watches(&rig, id).await[..], [Watch::NoUrl { held: false, .. }]));
}

#[tokio::test]
async fn success_is_sticky() {
    // The link is dead; while a fresh one is asked for, a stale cache says anything but SUCCESS.
    let faults = "video:404,status:stale-in-progress@1-2,status:404@4,status:failed-word=FAILED";
    let rig = Rig::new(faults).await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| model.fired()["status:stale-in-progress"] == 2).await;
    let waiting = rig.job(id).await.state;
    assert!(matches!(waiting, State::Downloading { link: Link::Wanted, .. }), "{waiting:?}");
    rig.run().await;
    assert_eq!((rig.label(id).await, rig.sandbox.fired()["status:404"]), (Label::Done, 1));
    assert_eq!(watches(&rig, id).await, []);
    rig.check().await;
}

// Failed there.

#[tokio::test]
async fn a_failure_is_confirmed_by_a_second_look_and_told_verbatim() {
    let (rig, id) = ends("task:fail=\"Inhalt abgelehnt: 内容违规 (E-17)\"", Label::Failed).await;
    let State::Failed { failure, task: Some(_) } = rig.job(id).await.state else { panic!() };
    assert_eq!(
        (failure.code.as_str(), failure.message.as_str()),
        (Failure::TASK_FAILED, "Inhalt abgelehnt: 内容违规 (E-17)")
    );
    assert!(matches!(watches(&rig, id).await[..], [Watch::Failing { .. }]));
    let [first, second] = &rig.polls()[..] else { panic!("two looks: {:?}", rig.polls()) };
    let pause = at(second).since(at(first));
    assert!(pause >= rig.config.poll.confirm_failed, "the second look came after {pause:?}");
}

#[tokio::test]
async fn every_word_of_failure_is_one() {
    join_all(["ERROR", "EXPIRED", "CANCELLED", "failed"].map(|word| async move {
        let (rig, id) = ends(&format!("task:fail=Sorry,status:failed-word={word}@*"), Label::Failed).await;
        let State::Failed { failure, .. } = rig.job(id).await.state else { panic!() };
        assert_eq!((failure.message.as_str(), rig.polls().len()), ("Sorry", 2), "{word}");
    }))
    .await;
}

#[tokio::test]
async fn a_failed_task_that_is_not_paid_back_is_not_called_free() {
    let (rig, id) = ends("task:fail-no-refund=Sorry", Label::Failed).await;
    let State::Failed { failure, .. } = rig.job(id).await.state else { panic!() };
    assert_ne!(failure.charged, Charged::No);
    assert!(rig.store.sums(common::now() - ms(60_000)).await.unwrap().charged == common::prices(1));
}

#[tokio::test]
async fn a_failure_that_is_said_once_is_none() {
    let (rig, id) = done_in_spite_of("status:failed-once").await;
    assert!(matches!(watches(&rig, id).await[..], [Watch::Failing { .. }]), "then it succeeded");
    let (rig, id) = done_in_spite_of("status:failed-once,status:word=IN_PROGRESS").await;
    assert!(matches!(watches(&rig, id).await[..], [Watch::Failing { .. }, Watch::Running]));
}

// Not visible.

#[tokio::test]
async fn a_404_or_422_soon_after_creation_is_not_visible_yet() {
    join_all(["404@1-3", "422@1-3", "code-in-200=404@1-3", "404-html@1-3"].map(|fault| async move {
        let (rig, id) = done_in_spite_of(&format!("status:{fault}")).await;
        assert!(matches!(watches(&rig, id).await[..], [Watch::NotFound { held: false, .. }]), "{fault}");
        assert_eq!(rig.polls().len(), 4, "{fault}");
    }))
    .await;
}

// Nothing said.

#[tokio::test]
async fn a_broken_answer_leaves_the_job_as_it_is() {
    all_done_in_spite_of(&["reset", "close", "cut-body", "not-json", "padded=2000000"]).await;
}

#[tokio::test]
async fn an_error_of_the_gateway_leaves_the_job_as_it_is() {
    all_done_in_spite_of(&["500", "500-html", "502-html", "503-empty", "504-foreign", "524", "408"]).await;
    all_done_in_spite_of(&["code-in-200=500", "code-in-200=503", "400", "502-html@1-6"]).await;
}

#[tokio::test]
async fn a_call_that_hangs_leaves_the_job_as_it_is() {
    let mut rig = Rig::new("status:hang").await;
    rig.config.api.status_timeout = ms(200);
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    rig.all_fired();
    assert_eq!((rig.label(id).await, rig.polls().len()), (Label::Done, 2));
    assert_eq!(watches(&rig, id).await, []);
    rig.check().await;
}

#[tokio::test]
async fn another_tasks_report_leaves_the_job_as_it_is() {
    all_done_in_spite_of(&["other-task@1-3"]).await;
    // With a task that is finished, so that its report has a video to mistake for ours.
    let rig = Rig::new("status:other-task@1-2~owl").await;
    let fox = rig.enqueue("a fox").await;
    rig.run().await;
    let owl = rig.enqueue("an owl").await;
    rig.run().await;
    rig.all_fired();
    assert_eq!((rig.label(fox).await, rig.label(owl).await), (Label::Done, Label::Done));
    rig.check().await;
}

// 429.

#[tokio::test]
async fn a_429_slows_polling_down() {
    let (rig, _) = done_in_spite_of("status:429=1").await;
    let [first, second] = &rig.polls()[..] else { panic!() };
    let pause = at(second).since(at(first));
    assert!(pause >= ms(1000), "Retry-After: {pause:?}");
    all_done_in_spite_of(&["429", "429-html", "code-in-200=429"]).await;
}

#[tokio::test]
async fn looks_keep_to_a_limit_that_only_429s_tell() {
    let limit = Options { requests_per_second: Some((20.0, 1)), retry_after: false, ..provider() };
    let mut rig = Rig::with(Options { faults: "task:slow=60000@*".parse().unwrap(), ..limit }).await;
    (rig.config.poll.slowest, rig.config.poll.max_per_second) = (ms(200), 50.0);
    for prompt in ["a fox", "an owl", "a hare", "a stoat", "a wren", "an elk"] {
        rig.enqueue(prompt).await;
    }
    let looks = |requests: &[SeenRequest]| -> Vec<u16> {
        let submitted = requests.iter().rposition(is_post).map_or(0, |last| last + 1);
        let polls = requests.iter().skip(submitted).filter(|r| is_poll(r));
        polls.filter_map(|poll| poll.status).collect()
    };
    let passed = |statuses: &[u16]| statuses.iter().filter(|s| **s == 200).count();
    rig.run_until(|model| {
        model.charges().len() == 6 && passed(&looks(&Vec::from_iter(model.requests().iter().cloned()))) >= 30
    })
    .await;
    let statuses = looks(&rig.sandbox.requests());
    let refused = statuses.len() - passed(&statuses);
    assert!(refused <= 10, "{refused} of {} looks were refused", statuses.len());
    assert!(rig.store.looks().await.unwrap().per_second().is_some(), "the pace is there to be told");
}

#[tokio::test]
async fn a_quiet_that_was_wished_for_outlives_a_restart() {
    let rig = Rig::new("status:429=60").await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, is_poll) == 1).await;
    let kept = rig.store.looks().await.unwrap();
    let (until, cause) = kept.pause(common::now()).unwrap();
    assert_eq!(cause, klingd::domain::looks::PauseCause::Rate);
    assert!(until.since(common::now()) > Duration::from_secs(50), "{until}");
    rig.enqueue("an owl").await;
    rig.run_until(|model| seen(model, is_post) == 2).await;
    assert_eq!(
        (rig.label(id).await, rig.polls().len()),
        (Label::Generating, 1),
        "nobody asked into the quiet"
    );
}

#[tokio::test]
async fn a_429_on_status_stops_no_submit() {
    let rig = Rig::new("status:429=60").await;
    rig.enqueue("a fox").await;
    let stop = CancellationToken::new();
    let owl = async {
        rig.sandbox.wait_until(|model| seen(model, is_poll) == 1).await;
        rig.enqueue("an owl").await;
        rig.sandbox.wait_until(|model| seen(model, is_post) == 2).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(rig.daemon(false, stop.clone()), owl);
    assert_eq!((ended, rig.polls().len()), (Ended::Stopped, 1), "the quiet is for status calls only");
    assert_eq!(rig.sandbox.charges_for("an owl"), 1);
    rig.check().await;
}

#[tokio::test]
async fn no_more_status_calls_leave_than_are_allowed() {
    let mut rig = Rig::new("status:word=IN_PROGRESS@1-50").await;
    (rig.config.poll.max_per_second, rig.config.submit.start_in_flight) = (40.0, 10);
    for n in 0..10 {
        rig.enqueue(&format!("job {n}")).await;
    }
    rig.run().await;
    let polls = rig.polls();
    assert_eq!(polls.len(), 60);
    // One second's worth at once, then the rate; calls are seen a little later than they left.
    let taken = at(&polls[59]).since(at(&polls[0])) + ms(100);
    assert!(40.0 + 40.0 * taken.as_secs_f64() >= 60.0, "60 in {taken:?}");
    rig.check().await;
}

// 401 and 403.

#[tokio::test]
async fn todays_key_refused_holds_the_key_and_mends_itself() {
    let (rig, id) = generating(provider()).await;
    rig.sandbox.set_keys(AcceptKeys::Only(vec!["another".into()]));
    let owl = rig.enqueue("an owl").await;
    rig.run_until(|model| model.requests().iter().any(|r| is_poll(r) && r.status == Some(401))).await;
    assert_eq!((rig.held().await, rig.label(id).await), (vec![HoldName::Key], Label::Generating));
    assert_eq!(watches(&rig, id).await, [], "it is not the task's fault");
    assert_eq!(rig.label(owl).await, Label::Queued);

    rig.sandbox.set_keys(AcceptKeys::Any);
    rig.store.probe_hold_later(HoldName::Key, common::now()).await.unwrap();
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    assert_eq!((rig.held().await, rig.label(id).await), (vec![], Label::Done));
    rig.check().await;
}

/// A firewall or the moderation may refuse one task for ever: the free call tells, and nobody else waits for it.
#[tokio::test]
async fn a_403_is_the_tasks_own_while_the_key_works() {
    let (rig, fox) = generating(with_faults("status:403@*~fox")).await;
    let owl = rig.enqueue("an owl").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    assert_eq!((rig.held().await, rig.label(owl).await), (vec![], Label::Done));
    assert_eq!(rig.job(fox).await.state.needs_person(), Some(Reason::Key));
    let again = rig.job(fox).await.due_at.unwrap().since(common::now());
    assert!(again > ms(59 * 60_000), "it is still looked at, hourly: {again:?}");
    rig.check().await;
}

#[tokio::test]
async fn a_task_of_an_older_key_waits_alone() {
    let (mut rig, old) = generating(provider()).await;
    let older_key = std::mem::replace(&mut rig.key, ApiKey::parse("sk-rig-the-new-one").unwrap());
    rig.sandbox.set_keys(AcceptKeys::Only(vec!["sk-rig-the-new-one".into()]));
    rig.sandbox.add_faults("status:401@*~fox").unwrap();
    let new = rig.enqueue("an owl").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    assert_eq!((rig.held().await, rig.label(new).await), (vec![], Label::Done));
    assert_eq!(rig.job(old).await.state.needs_person(), Some(Reason::Key));
    assert_eq!(rig.job(old).await.made_with.unwrap().key_fingerprint, older_key.fingerprint());
    assert!(matches!(watches(&rig, old).await[..], [Watch::OtherKey { .. }]));
    rig.check().await;
}

// What stays odd.

/// A paid task that always meets this fault, and was first seen so at `watch`'s time, long ago. The rest of the queue
/// goes on; a person is told why it does not.
async fn stuck(fault: &str, watch: Watch, reason: Reason) -> (Rig, JobId) {
    let (mut rig, stuck) = generating(with_faults(&format!("status:{fault}@*~fox"))).await;
    rig.config.submit.max_in_flight = 1;
    rig.config.submit.start_in_flight = 1;
    let plan = PollPlan {
        event: Some(Event::Watched { watch }),
        urls: Vec::new(),
        due_at: common::now(),
        quiet_until: None,
        hold: None,
        running: false,
    };
    let version = rig.job(stuck).await.version;
    rig.store.settle_poll(stuck, version, plan, None, None, common::now()).await.unwrap();
    let next = rig.enqueue("an owl").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    assert_eq!(rig.job(stuck).await.state.needs_person(), Some(reason));
    assert_eq!((rig.label(stuck).await, rig.label(next).await), (Label::Generating, Label::Done));
    let again = rig.job(stuck).await.due_at.unwrap().since(common::now());
    assert!(again > ms(59 * 60_000), "it is still looked at, hourly: {again:?}");
    rig.check().await;
    (rig, stuck)
}

#[tokio::test]
async fn success_without_a_url_needs_a_person_after_ten_minutes() {
    let since = common::now() - Duration::from_secs(601);
    stuck("success-no-url", Watch::NoUrl { since, held: false }, Reason::NoUrl).await;
    stuck("word=IN_PROGRESS", Watch::NoUrl { since, held: false }, Reason::NoUrl).await;
}

#[tokio::test]
async fn a_task_that_nobody_knows_needs_a_person_after_a_day() {
    let since = common::now() - Duration::from_secs(24 * 3600 + 1);
    stuck("404", Watch::NotFound { since, held: false }, Reason::UnknownTask).await;
}

// Restarts.

#[tokio::test]
async fn a_paid_task_is_followed_after_a_restart_without_a_submit() {
    let (rig, id) = generating(provider()).await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    assert_eq!((rig.label(id).await, rig.posts().len()), (Label::Done, 1));
    rig.check().await;
}

#[tokio::test]
async fn a_task_is_asked_where_it_was_made() {
    let (mut rig, id) = generating(provider()).await;
    let elsewhere = Rig::new("").await;
    rig.config.api.base_url = elsewhere.config.api.base_url.clone();
    rig.run().await;
    assert_eq!(rig.label(id).await, Label::Done);
    assert_eq!(elsewhere.sandbox.requests(), []);
    rig.check().await;
}
