//! Every row of the submit table: one job meets one answer of the provider, and exactly the row's reaction follows.
//!
//! A row is told as the outcomes of the job's attempts (each of them one POST), the state it ends in, how often the
//! provider charged, and the holds that stand. Faults that hang, wait for nothing: `api.submit_timeout` is short there.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::HashSet,
    time::{Duration, UNIX_EPOCH},
};

use common::{PRICE, Rig, at, is_poll, is_post, job, ms, now, prices, provider, seen};
use futures_util::future::join_all;
use klingd::{
    config::OnInternalError,
    daemon::Ended,
    domain::{
        Event, HoldName, JobId, Outcome, Reason, State, Timestamp,
        event::Source,
        evidence::Phase,
        state::{Charged, Failure, Label},
    },
    sandbox::{AcceptKeys, Options},
    store::{enqueue::NewBatch, view::AttemptRow},
    worker::Lane as _,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};

use Outcome::{Accepted, Deferred, InternalError, Refused, Unknown};

const EPOCH: Timestamp = Timestamp::from_millis(0);

const DONE: Row = Row { attempts: &[Deferred, Accepted], state: Label::Done, charges: 1, holds: &[] };
const IN_DOUBT: Row = Row { attempts: &[Unknown], state: Label::InDoubt, charges: 0, holds: &[] };
const IN_DOUBT_AND_CHARGED: Row = Row { charges: 1, ..IN_DOUBT };
const REFUSED: Row = Row { attempts: &[Refused], state: Label::Failed, charges: 0, holds: &[] };

/// What a row of the table says of the one job that met it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    attempts: &'static [Outcome],
    state: Label,
    charges: usize,
    holds: &'static [HoldName],
}

/// The row of a queued job under a hold.
const fn held(hold: &'static [HoldName]) -> Row {
    Row { attempts: &[Deferred], state: Label::Queued, charges: 0, holds: hold }
}

/// One job meets these faults; the daemon runs until nothing moves. Then the row holds, and the promise.
async fn meets(faults: &str, row: Row) -> (Rig, JobId) {
    let rig = Rig::new(faults).await;
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    rig.all_fired();
    is(&rig, id, row).await;
    (rig, id)
}

/// A job for each of these answers meets it, and each of them is the same row.
async fn all_meet(answers: &[&str], row: Row) {
    let rig = Rig::new("").await;
    let mut jobs = Vec::new();
    for (n, answer) in answers.iter().enumerate() {
        rig.sandbox.add_faults(&format!("generate:{answer}~job-{n}-")).unwrap();
        jobs.push((answer, rig.enqueue(&format!("job-{n}- meets {answer}")).await));
    }
    rig.run().await;
    rig.all_fired();
    for (answer, id) in jobs {
        is(&rig, id, row).await;
        let evidence = rig.attempts(id).await.swap_remove(0).evidence.expect(answer);
        assert!(evidence.status.is_some() || evidence.transport.is_some(), "{answer}: {evidence:?}");
    }
}

async fn is(rig: &Rig, id: JobId, row: Row) {
    let job = rig.job(id).await;
    // One that was stopped at the last moment, by the refusal of a neighbour, never met the provider.
    let held = |a: &AttemptRow| {
        let transport = a.evidence.as_ref().and_then(|evidence| evidence.transport.as_ref());
        transport.is_some_and(|failure| failure.phase == Phase::Held)
    };
    let attempts = rig.attempts(id).await;
    let attempts: Vec<_> = attempts.iter().filter(|a| !held(a)).map(|a| a.outcome).collect();
    let prompt = job.request.prompt();
    assert_eq!((&attempts[..], job.state.label()), (row.attempts, row.state), "{prompt}: {job:#?}");
    assert_eq!(rig.sandbox.charges_for(prompt), row.charges, "{prompt}");
    assert_eq!(rig.held().await, row.holds, "{prompt}");
    let reason = job.reason(&rig.holds().await, false, now());
    match row.state {
        Label::InDoubt => assert_eq!(reason, Some(Reason::InDoubt)),
        Label::Queued => {
            let gate =
                job.error.as_ref().is_some_and(|error| error.code == "RATE_LIMITED").then_some(Reason::Rate);
            assert_eq!(reason, row.holds.first().map(|hold| hold.reason()).or(gate), "{prompt}");
        }
        _ => assert_eq!(reason, None),
    }
    rig.check().await;
}

/// Doubt is left by a person or by evidence alone: restarts neither submit it again nor touch it.
async fn stays_in_doubt(rig: &Rig, id: JobId) {
    let (before, posts) = (rig.job(id).await, rig.posts().len());
    for _ in 0..2 {
        assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
        assert_eq!((rig.job(id).await, rig.posts().len()), (before.clone(), posts));
    }
}

/// What is shown with the job.
async fn error(rig: &Rig, id: JobId) -> Failure {
    rig.job(id).await.error.expect("a job that came back or failed says why")
}

/// Why its attempt is in doubt.
async fn doubt(rig: &Rig, id: JobId) -> String {
    match rig.history(id).await.pop().expect("a history").event {
        Event::SubmitUnknown { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

// Not sent.

/// One try without a provider; then with one.
async fn is_not_sent(mut rig: Rig, elsewhere: &str) {
    let cooldown = std::mem::replace(&mut rig.config.submit.cooldown, ms(5_000));
    let cooldown_max = std::mem::replace(&mut rig.config.submit.cooldown_max, ms(600_000));
    let id = rig.enqueue("a fox").await;
    let other = rig.enqueue("an owl").await;
    rig.config.submit.workers = 1;
    let there = std::mem::replace(&mut rig.config.api.base_url, elsewhere.parse().unwrap());
    assert_eq!(rig.submit_step().await, 1);
    is(&rig, id, held(&[])).await;
    let waiting = rig.job(id).await;
    assert_eq!(error(&rig, id).await.code, "NOT_SENT");
    assert_eq!(waiting.paid_attempts, 0, "it costs no attempt");
    assert!(waiting.due_at.unwrap() <= now(), "it keeps its place");
    assert_eq!(rig.submit_step().await, 0, "the gate holds everybody");
    assert_eq!(rig.attempts(other).await.len(), 0, "nobody else tries, and nothing of it is on record");

    rig.config.api.base_url = there;
    (rig.config.submit.cooldown, rig.config.submit.cooldown_max) = (cooldown, cooldown_max);
    rig.store.lift(vec![HoldName::Rate]).await.unwrap();
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    is(&rig, id, DONE).await;
    assert_eq!(rig.posts().len(), 2);
    let made_at = rig.job(id).await.made_with.unwrap().base_url;
    assert_eq!(made_at, rig.sandbox.base_url(), "where its task was made, not where it could not be");
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    // Bound and not listening: refuses, and nobody else can get the port meanwhile.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let elsewhere = format!("http://{}", closed.local_addr().unwrap());
    is_not_sent(Rig::new("").await, &elsewhere).await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_not_sent() {
    // RFC 6761: nobody's resolver knows a name in .invalid.
    is_not_sent(Rig::new("").await, "https://klingd.invalid").await;
}

#[tokio::test]
async fn a_failed_tls_handshake_is_not_sent() {
    let rig = Rig::new("").await;
    let elsewhere = rig.sandbox.base_url().replace("http://", "https://");
    is_not_sent(rig, &elsewhere).await;
}

// 429 and 503: refused for now.

#[tokio::test]
async fn a_429_closes_the_gate_and_the_job_goes_again() {
    all_meet(&["429", "429-number", "429-foreign", "429-html", "429-empty"], DONE).await;
}

#[tokio::test]
async fn a_429_has_no_limit_of_attempts() {
    let row =
        Row { attempts: &[Deferred, Deferred, Deferred, Deferred, Deferred, Deferred, Accepted], ..DONE };
    let (rig, id) = meets("generate:429@1-6", row).await;
    assert_eq!(rig.job(id).await.paid_attempts, 1);
}

#[tokio::test]
async fn retry_after_is_obeyed_in_seconds() {
    let (rig, _) = meets("generate:429=1", DONE).await;
    let posts = rig.posts();
    let gap = at(&posts[1]).since(at(&posts[0]));
    assert!(gap >= ms(1000), "after {gap:?}");
}

#[tokio::test]
async fn retry_after_is_obeyed_as_a_date() {
    // Dates have whole seconds: this one lies between one and two from now.
    let until = UNIX_EPOCH + Duration::from_secs(now().since(EPOCH).as_secs() + 2);
    let (rig, _) = meets(&format!("generate:429=\"{}\"", httpdate::fmt_http_date(until)), DONE).await;
    let second = UNIX_EPOCH + at(&rig.posts()[1]).since(EPOCH);
    assert!(second >= until, "{second:?} is before {until:?}");
}

#[tokio::test]
async fn a_retry_after_that_is_past_or_garbage_asks_for_nothing() {
    let wishes = ["0", "-7", "soon", "\"Wed, 21 Oct 2015 07:28:00 GMT\""];
    for wish in wishes {
        let (rig, _) = meets(&format!("generate:429={wish}"), DONE).await;
        let posts = rig.posts();
        let gap = at(&posts[1]).since(at(&posts[0]));
        assert!(gap >= rig.config.submit.cooldown.mul_f64(0.9), "{wish}: the cooldown holds, it was {gap:?}");
    }
}

#[tokio::test]
async fn a_retry_after_of_more_than_an_hour_is_a_visible_hold_with_its_end() {
    for (wish, seconds) in [("7200", 7200), ("99999999999999", 365 * 24 * 3600)] {
        let rig = Rig::new(&format!("generate:429={wish}")).await;
        let id = rig.enqueue("a fox").await;
        rig.run_until(|model| seen(model, is_post) == 1).await;
        is(&rig, id, held(&[HoldName::Rate])).await;
        let hold = rig.holds().await.remove(0);
        assert_eq!(hold.until.unwrap().since(hold.since), Duration::from_secs(seconds));
        assert_eq!(rig.submit_step().await, 0, "held");
        rig.resume(HoldName::Rate).await;
        rig.run().await;
        is(&rig, id, DONE).await;
    }
}

#[tokio::test]
async fn a_refused_job_keeps_its_place() {
    let mut rig = Rig::new("generate:429~fox").await;
    rig.config.submit.workers = 1;
    let fox = rig.enqueue("a fox").await;
    let owl = rig.enqueue("an owl").await;
    rig.run().await;
    is(&rig, fox, DONE).await;
    is(&rig, owl, Row { attempts: &[Accepted], ..DONE }).await;
    let order: Vec<_> = rig.sandbox.tasks().into_iter().map(|task| task.prompt).collect();
    assert_eq!(order, ["a fox", "an owl"]);
}

#[tokio::test]
async fn full_slots_wait_for_one_of_our_own_tasks_to_end() {
    // The fox renders for many looks, so the owl is refused while it does.
    let rig = Rig::new("generate:429-parallel~owl,status:word=IN_PROGRESS@1-20~fox").await;
    let fox = rig.enqueue("a fox").await;
    let owl = rig.enqueue("an owl").await;
    rig.run().await;
    rig.all_fired();
    is(&rig, owl, DONE).await;
    let ended = rig.history(fox).await.into_iter().find(|h| matches!(h.event, Event::Succeeded { .. }));
    assert!(rig.attempts(owl).await[1].started_at >= ended.unwrap().at, "it left before a slot was free");
}

#[tokio::test]
async fn full_slots_with_nothing_of_ours_under_way_wait_a_minute() {
    let rig = Rig::new("generate:429-parallel").await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, is_post) == 1).await;
    is(&rig, id, held(&[])).await;
    let quiet = rig.store.gate().await.unwrap().closed_until.unwrap().since(at(&rig.posts()[0]));
    assert!((59..=90).contains(&quiet.as_secs()), "{quiet:?}");
    assert_eq!(rig.submit_step().await, 0);
    rig.store.lift(vec![HoldName::Rate]).await.unwrap();
    rig.run().await;
    is(&rig, id, DONE).await;
}

#[tokio::test]
async fn a_503_of_the_api_itself_is_as_a_429() {
    all_meet(&["503", "503-number", "503=SLOW"], DONE).await;
    let (rig, _) = meets("generate:503=1", DONE).await;
    let posts = rig.posts();
    assert!(at(&posts[1]).since(at(&posts[0])) >= ms(1000), "its Retry-After too");
}

// Refused for good.

#[tokio::test]
async fn a_documented_400_refuses_the_job() {
    for code in ["INVALID_PROMPT", "INVALID_DURATION", "INVALID_TYPE", "MISSING_IMAGE", "MISSING_VIDEO"] {
        let (rig, id) = meets(&format!("generate:400={code}"), REFUSED).await;
        let State::Failed { failure, task: None } = rig.job(id).await.state else { panic!() };
        assert_eq!((failure.code.as_str(), failure.charged), (code, Charged::No));
        assert_eq!(error(&rig, id).await, failure);
    }
}

#[tokio::test]
async fn a_413_or_422_refuses_the_job() {
    all_meet(&["413", "413-html", "422", "422-foreign", "422-empty"], REFUSED).await;
}

#[tokio::test]
async fn a_refused_job_frees_its_key() {
    let (rig, refused) = meets("generate:400", REFUSED).await;
    let again = rig.enqueue("a fox").await;
    assert_ne!(refused, again, "provably uncharged: the same request may be queued again");
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    assert_eq!(rig.label(again).await, Label::Done);
    let batch =
        NewBatch { name: "b".into(), source: "b".into(), max_credits: None, jobs: vec![job("a fox")] };
    let third = rig.store.enqueue(batch, now()).await.unwrap();
    assert!(third[0].existing && third[0].id == again, "paid: not again by accident");
}

// The key, the firewall, the address.

/// One job meets this, waits under the `key` hold, and goes on when a person resumes.
async fn holds_the_key(answer: &str) {
    let (rig, id) = meets(&format!("generate:{answer}"), held(&[HoldName::Key])).await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 }, "held across a restart");
    assert_eq!(rig.posts().len(), 1, "sent once, and nowhere else");
    rig.resume(HoldName::Key).await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    is(&rig, id, DONE).await;
}

#[tokio::test]
async fn a_401_holds_the_key() {
    join_all(["401", "401-empty", "400=INVALID_API_KEY"].map(holds_the_key)).await;
}

#[tokio::test]
async fn a_404_or_405_holds_the_key() {
    join_all(["404", "404-html", "405", "405-empty"].map(holds_the_key)).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_holds_the_key() {
    let redirects = ["redirect=301", "redirect=302", "redirect=303", "redirect=307", "redirect=308"];
    join_all(redirects.map(holds_the_key)).await;
}

#[tokio::test]
async fn a_wrong_key_stops_every_submit_until_it_works_again() {
    let rig = Rig::with(Options { keys: AcceptKeys::Only(vec!["another".into()]), ..provider() }).await;
    let jobs = [rig.enqueue("a fox").await, rig.enqueue("an owl").await];
    rig.run().await;
    assert_eq!(rig.held().await, [HoldName::Key]);
    assert!(!rig.posts().is_empty() && rig.posts().iter().all(|post| post.status == Some(401)));
    let posts = rig.posts().len();
    rig.sandbox.set_keys(AcceptKeys::Any);
    // The slow probe's time has come: a free call finds out, no person is needed.
    rig.store.probe_hold_later(HoldName::Key, now()).await.unwrap();
    rig.run().await;
    assert_eq!((rig.held().await, rig.posts().len()), (vec![], posts + 2));
    for id in jobs {
        assert_eq!(rig.label(id).await, Label::Done);
    }
    rig.check().await;
}

#[tokio::test]
async fn a_403_with_a_key_that_works_refuses_this_job_alone() {
    let rig = Rig::new("generate:403~fox").await;
    let fox = rig.enqueue("a fox").await;
    let owl = rig.enqueue("an owl").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 1, needs_person: 0 });
    is(&rig, fox, REFUSED).await;
    is(&rig, owl, Row { attempts: &[Accepted], ..DONE }).await;
    let checks = rig.sandbox.requests().into_iter().filter(|r| r.path == "/api/status" && !is_poll(r));
    assert_eq!(checks.count(), 1, "one free call decides");
}

#[tokio::test]
async fn a_403_with_a_key_that_does_not_work_holds_the_key() {
    for judgement in ["401 Unauthorized", "502 Bad Gateway"] {
        let mut rig = Rig::new("").await;
        let id = rig.enqueue("a fox").await;
        let there = rig.config.api.base_url.clone();
        rig.config.api.base_url = firewall(judgement).await.parse().unwrap();
        rig.run().await;
        is(&rig, id, held(&[HoldName::Key])).await;
        rig.config.api.base_url = there;
        rig.resume(HoldName::Key).await;
        rig.run().await;
        is(&rig, id, DONE).await;
    }
}

/// Answers 403 to every POST, and this to everything else.
async fn firewall(judgement: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            let n = stream.read(&mut request).await.unwrap_or(0);
            let status = if request[..n].starts_with(b"POST") { "403 Forbidden" } else { judgement };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.ok();
            // Until the client has gone: closing over unread bytes would be an RST.
            while stream.read(&mut request).await.is_ok_and(|n| n > 0) {}
        }
    };
    #[expect(clippy::disallowed_methods, reason = "a server of the test's own")]
    tokio::spawn(serve);
    format!("http://{address}")
}

// No credits.

#[tokio::test]
async fn an_empty_account_holds_the_credits() {
    let answers =
        ["402", "402-empty", "400-credits", "429-credits", "403-credits", "400=INSUFFICIENT_CREDITS"];
    join_all(answers.map(|answer| async move {
        let (rig, id) = meets(&format!("generate:{answer}"), held(&[HoldName::Credits])).await;
        rig.resume(HoldName::Credits).await;
        rig.run().await;
        is(&rig, id, DONE).await;
    }))
    .await;
}

#[tokio::test]
async fn a_topped_up_account_is_noticed_by_one_probe() {
    let rig = Rig::with(Options { balance: 0, ..provider() }).await;
    for prompt in ["a fox", "an owl", "a hare"] {
        rig.enqueue(prompt).await;
    }
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 3 });
    assert_eq!(rig.held().await, [HoldName::Credits]);
    let posts = rig.posts().len();
    // Its time has come, the account is still empty: one job is tried, not three.
    rig.store.probe_hold_later(HoldName::Credits, now()).await.unwrap();
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 3 });
    assert_eq!((rig.posts().len(), rig.held().await), (posts + 1, vec![HoldName::Credits]));
    assert!(rig.holds().await[0].probe_at.unwrap() > now() + ms(60_000), "and not again at once");

    rig.sandbox.set_balance(10_000);
    rig.store.probe_hold_later(HoldName::Credits, now()).await.unwrap();
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    assert_eq!(rig.held().await, []);
    rig.check().await;
}

#[tokio::test]
async fn a_prompt_about_money_that_is_echoed_holds_nothing() {
    let rig = Rig::new("generate:429-echo,generate:503-echo").await;
    let id = rig.enqueue("insufficient credits: a balance in arrears").await;
    rig.run().await;
    rig.all_fired();
    is(&rig, id, Row { attempts: &[Deferred, Deferred, Accepted], ..DONE }).await;
}

// 500 INTERNAL_ERROR.

/// Runs until the job's next POST is answered, with its wait cut short.
async fn next_internal_error(rig: &Rig, id: JobId) {
    if rig.label(id).await == Label::Queued {
        rig.hurry(id).await;
    }
    let posts = rig.posts().len();
    rig.run_until(|model| seen(model, is_post) == posts + 1).await;
}

#[tokio::test]
async fn an_internal_error_is_retried_twice_and_stays_reserved() {
    let rig = Rig::new("generate:500@1-2").await;
    let id = rig.enqueue("a fox").await;
    for n in 1..=2 {
        next_internal_error(&rig, id).await;
        let waits = [&[InternalError][..], &[InternalError, InternalError]][n - 1];
        is(&rig, id, Row { attempts: waits, state: Label::Queued, charges: 0, holds: &[] }).await;
        assert_eq!(error(&rig, id).await.code, "INTERNAL_ERROR");
        let wait = rig.job(id).await.due_at.unwrap().since(at(&rig.posts()[n - 1]));
        assert!(wait >= Duration::from_secs(10), "backoff: {wait:?}");
        let sums = rig.store.sums(EPOCH).await.unwrap();
        assert_eq!((sums.reserved, sums.charged), (prices(n as u64), prices(0)));
    }
    rig.hurry(id).await;
    rig.run().await;
    is(&rig, id, Row { attempts: &[InternalError, InternalError, Accepted], ..DONE }).await;
    let sums = rig.store.sums(EPOCH).await.unwrap();
    assert_eq!((sums.reserved, sums.charged), (prices(0), prices(1)), "at done the charge replaces them");
}

#[tokio::test]
async fn a_third_internal_error_is_doubt() {
    let rig = Rig::new("generate:500@*").await;
    let id = rig.enqueue("a fox").await;
    for _ in 1..=3 {
        next_internal_error(&rig, id).await;
    }
    is(&rig, id, Row { attempts: &[InternalError, InternalError, Unknown], ..IN_DOUBT }).await;
    let sums = rig.store.sums(EPOCH).await.unwrap();
    assert_eq!((sums.reserved, sums.in_doubt), (prices(2), prices(1)));
    stays_in_doubt(&rig, id).await;
}

#[tokio::test]
async fn an_internal_error_is_doubt_at_once_where_it_is_configured_so() {
    let mut rig = Rig::new("generate:500").await;
    rig.config.submit.on_internal_error = OnInternalError::Hold;
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    is(&rig, id, IN_DOUBT).await;
}

// Unknown.

#[tokio::test]
async fn a_500_in_other_words_is_doubt() {
    all_meet(&["500-number", "500-foreign", "500-html", "500-empty", "500=OTHER_ERROR"], IN_DOUBT).await;
    all_meet(&["500-html-charged", "500-foreign-charged"], IN_DOUBT_AND_CHARGED).await;
}

#[tokio::test]
async fn a_gateways_error_is_doubt() {
    join_all([502, 504, 520, 522, 524].map(|status| async move {
        let answers = ["", "-html", "-empty", "-foreign", "-number"].map(|body| format!("{status}{body}"));
        all_meet(&answers.each_ref().map(String::as_str), IN_DOUBT).await;
        let charged = ["", "-html", "-empty"].map(|body| format!("{status}{body}-charged"));
        all_meet(&charged.each_ref().map(String::as_str), IN_DOUBT_AND_CHARGED).await;
    }))
    .await;
}

#[tokio::test]
async fn a_503_in_other_words_is_doubt() {
    all_meet(&["503-html", "503-empty", "503-foreign"], IN_DOUBT).await;
    all_meet(&["503-html-charged", "503-empty-charged"], IN_DOUBT_AND_CHARGED).await;
}

#[tokio::test]
async fn a_408_or_409_is_doubt() {
    all_meet(&["408", "408-html", "409", "409-empty"], IN_DOUBT).await;
    all_meet(&["408-charged", "409-charged"], IN_DOUBT_AND_CHARGED).await;
}

#[tokio::test]
async fn what_no_row_lists_is_doubt() {
    all_meet(&["400-number", "400-html", "400-echo", "400=SOMETHING_ELSE", "418", "451", "501"], IN_DOUBT)
        .await;
}

#[tokio::test]
async fn an_answer_that_never_comes_is_doubt() {
    all_meet(&["reset-before", "close-before"], IN_DOUBT).await;
    all_meet(&["reset-after", "close-after"], IN_DOUBT_AND_CHARGED).await;
}

/// One job meets an answer that hangs.
async fn hangs(fault: &str, row: Row) -> (Rig, JobId) {
    let mut rig = Rig::new(&format!("generate:{fault}")).await;
    rig.config.api.submit_timeout = ms(300);
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    rig.all_fired();
    is(&rig, id, row).await;
    (rig, id)
}

#[tokio::test]
async fn an_answer_that_hangs_is_doubt() {
    tokio::join!(
        hangs("hang-before", IN_DOUBT),
        hangs("hang-after", IN_DOUBT_AND_CHARGED),
        hangs("stall-body", IN_DOUBT_AND_CHARGED),
    );
}

#[tokio::test]
async fn an_answer_cut_before_its_task_id_is_doubt() {
    all_meet(&["cut-body", "cut-body-inside-id", "reset-body"], IN_DOUBT_AND_CHARGED).await;
}

#[tokio::test]
async fn an_answer_without_a_task_id_is_doubt() {
    all_meet(&["no-task-id", "not-json"], IN_DOUBT_AND_CHARGED).await;
}

#[tokio::test]
async fn a_task_id_in_an_error_is_doubt_that_names_it() {
    join_all([400, 401, 402, 403, 404, 422, 429, 500, 503].map(|status| async move {
        let (rig, id) = meets(&format!("generate:{status}-task-id"), IN_DOUBT_AND_CHARGED).await;
        let (task, why) = (rig.sandbox.tasks()[0].id.clone(), doubt(&rig, id).await);
        assert!(why.contains(&task), "{status}: {why}");
    }))
    .await;
}

#[tokio::test]
async fn a_task_id_that_another_job_has_is_doubt() {
    let mut rig = Rig::new("generate:duplicate-task-id").await;
    rig.config.submit.workers = 1;
    let fox = rig.enqueue("a fox").await;
    let owl = rig.enqueue("an owl").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    rig.all_fired();
    is(&rig, fox, Row { attempts: &[Accepted], ..DONE }).await;
    is(&rig, owl, IN_DOUBT_AND_CHARGED).await;
    let why = doubt(&rig, owl).await;
    assert!(why.contains(rig.task(fox).await.as_str()) && why.contains(&format!("job {fox}")), "{why}");
    stays_in_doubt(&rig, owl).await;
}

#[tokio::test]
async fn doubt_survives_restarts_untouched() {
    for fault in ["close-after", "504-empty", "not-json"] {
        let rig = Rig::new(&format!("generate:{fault}")).await;
        let id = rig.enqueue("a fox").await;
        rig.run().await;
        stays_in_doubt(&rig, id).await;
    }
}

#[tokio::test]
async fn doubt_does_not_stop_the_others() {
    let rig = Rig::new("generate:close-after~fox").await;
    let fox = rig.enqueue("a fox").await;
    let others = [rig.enqueue("an owl").await, rig.enqueue("a hare").await];
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    assert_eq!(rig.label(fox).await, Label::InDoubt);
    for other in others {
        is(&rig, other, Row { attempts: &[Accepted], ..DONE }).await;
    }
}

// 200 that means something else.

#[tokio::test]
async fn a_200_whose_code_is_an_error_is_as_that_error() {
    all_meet(&["code-in-200=429", "code-in-200=503"], DONE).await;
    all_meet(&["code-in-200=422"], REFUSED).await;
    all_meet(&["code-in-200=500", "code-in-200=502", "code-in-200=408", "code-in-200=400"], IN_DOUBT).await;
    meets("generate:code-in-200=402", held(&[HoldName::Credits])).await;
    join_all(["code-in-200=401", "code-in-200=404"].map(holds_the_key)).await;
}

// Accepted.

const ACCEPTED: Row = Row { attempts: &[Accepted], state: Label::Done, charges: 1, holds: &[] };

/// The remarks of a job that was accepted like this.
async fn accepted(faults: &str) -> Vec<String> {
    let (rig, id) = meets(faults, ACCEPTED).await;
    rig.job(id).await.notes
}

#[tokio::test]
async fn a_task_id_is_followed_to_its_video() {
    let (rig, id) = meets("", ACCEPTED).await;
    assert_eq!(rig.job(id).await.notes, [""; 0]);
    assert_eq!(rig.job(id).await.charged, Some(prices(1)));
    assert_eq!((rig.posts().len(), rig.videos(id).await.len()), (1, 1));
}

#[tokio::test]
async fn an_answer_that_already_says_success_is_followed_as_any() {
    assert_eq!(accepted("generate:already-success").await, [""; 0]);
}

#[tokio::test]
async fn an_answer_that_already_says_failed_is_looked_at_before_it_is_believed() {
    let (rig, id) = meets("generate:already-failed", Row { state: Label::Failed, ..ACCEPTED }).await;
    let State::Failed { failure, task: Some(_) } = rig.job(id).await.state else { panic!() };
    assert_eq!(failure.code, Failure::TASK_FAILED);
    assert!(rig.polls().len() >= 2, "it takes two looks");
}

#[tokio::test]
async fn a_whole_task_id_in_a_cut_answer_is_salvaged() {
    let mut rigs = Vec::new();
    for fault in ["cut-body-after-id", "reset-body-after-id", "padded=3000000"] {
        rigs.push(meets(&format!("generate:{fault}"), ACCEPTED).await);
    }
    rigs.push(hangs("stall-body-after-id", ACCEPTED).await);
    for (rig, id) in rigs {
        let history = rig.history(id).await;
        let salvaged = |event: &Event| matches!(event, Event::Accepted { source: Source::Salvaged, .. });
        assert!(history.iter().any(|h| salvaged(&h.event)), "{history:#?}");
        let (task, notes) = (rig.task(id).await, rig.job(id).await.notes);
        assert!(notes.iter().any(|note| note.contains(task.as_str())), "{notes:?}");
    }
}

#[tokio::test]
async fn a_price_that_is_missing_or_other_than_expected_is_said() {
    let notes = accepted("generate:no-credits-field").await;
    assert!(notes[0].contains(&PRICE.to_string()), "{notes:?}");

    let (rig, id) = meets("generate:other-credits=133", ACCEPTED).await;
    let job = rig.job(id).await;
    assert!(job.notes[0].contains("price drift: 133"), "{:?}", job.notes);
    assert_eq!(job.charged.map(klingd::domain::Credits::get), Some(133));
    let sums = rig.store.sums(EPOCH).await.unwrap();
    assert_eq!(sums.charged.get(), 133, "what was charged replaces the estimate");
}

// A person, or a stop, while the POST is on the wire.

#[tokio::test]
async fn a_stop_waits_for_the_answer_of_a_request_on_the_wire() {
    for (answer, state) in
        [("slow=300", Label::Generating), ("slow=300,generate:close-after", Label::InDoubt)]
    {
        let rig = Rig::new(&format!("generate:{answer}")).await;
        let id = rig.enqueue("a fox").await;
        // Seen, and not answered for a while.
        rig.run_until(|model| seen(model, is_post) == 1).await;
        assert_eq!(rig.label(id).await, state);
        rig.run().await;
        assert_eq!(rig.posts().len(), 1);
        rig.check().await;
    }
}

#[tokio::test]
async fn a_wish_to_cancel_waits_for_the_answer() {
    for (answer, state, charges) in [
        ("", Label::Cancelled, 1),
        ("generate:429", Label::Cancelled, 0),
        ("generate:400", Label::Failed, 0),
        ("generate:close-after", Label::InDoubt, 1),
    ] {
        let rig = Rig::new(answer).await;
        let id = rig.enqueue("a fox").await;
        let lane = rig.submit_lane();
        let (_, intent) = lane.look(1, &HashSet::new()).await.unwrap().work.remove(0);
        rig.store.cancel(id, false, now()).await.unwrap();
        assert_eq!(rig.label(id).await, Label::Submitting, "nobody knows yet");
        lane.step(intent).await.unwrap();
        let job = rig.job(id).await;
        assert_eq!((job.state.label(), rig.sandbox.charges_for("a fox")), (state, charges), "{answer}");
        if state == Label::Cancelled {
            assert_eq!(job.state.task().is_some(), charges == 1, "{answer}: what is paid is known");
        }
        rig.check().await;
    }
}
