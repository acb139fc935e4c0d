//! Sixteen submit workers and a budget for seven and a half jobs: seven are paid, killed and restarted wherever. The
//! double's ledger is the judge.

use std::panic::AssertUnwindSafe;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use klingd::domain::{Charge, State};
use klingd::failpoint::Point;

use super::points::{AT_ONCE, prepare};
use super::rig::{Facts, Rig, Setup, broken_at_any_instant, clock, facts};

/// Jobs in the queue: the budget ends before they do.
const JOBS: usize = 12;
/// Jobs that the budget pays for, and half of another one.
const PAID: usize = 7;

/// The points between the look for work and the committed answer, where a budget can be overshot.
const SUBMITS: [Point; 6] = [
    Point::SubmitBeforeIntent,
    Point::SubmitIntent,
    Point::SubmitAnswered,
    Point::SubmitCommit,
    Point::SubmitSpooled,
    Point::SubmitCommitted,
];

#[derive(Clone, Copy, Debug)]
enum Cap {
    PerDay,
    Total,
}

/// Where a life is cut short: nowhere, or the how-manieth time that a point is reached.
type Kill = Option<(Point, u32)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_and_a_half_pay_for_seven() {
    prove([Cap::PerDay, Cap::Total].map(|cap| (cap, None))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn seven_and_a_half_pay_for_seven_killed_at_any_point() {
    let anywhere = Point::ALL.map(|point| (Cap::Total, Some((point, 1))));
    // With some of the seven past the point and the others on the wire.
    let among_others = SUBMITS.map(|point| {
        // Looks are few: the first one takes all that the budget admits.
        let nth = if point == Point::SubmitBeforeIntent { 2 } else { 4 };
        (Cap::PerDay, Some((point, nth)))
    });
    prove(anywhere.into_iter().chain(among_others)).await;
}

async fn prove(lives: impl IntoIterator<Item = (Cap, Kill)>) {
    let lives = lives.into_iter().map(|(cap, kill)| async move {
        let held = AssertUnwindSafe(live(cap, kill)).catch_unwind().await.is_ok();
        (format!("{cap:?} {kill:?}"), held)
    });
    let lived: Vec<(String, bool)> = stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let broken: Vec<_> = lived.iter().filter(|(_, held)| !held).map(|(name, _)| name.as_str()).collect();
    assert!(broken.is_empty(), "broken, see above: {}", broken.join("; "));
}

async fn live(cap: Cap, kill: Kill) {
    // Progress is first recorded when 8 MiB are durable, before there are 16 more.
    let progress = matches!(kill, Some((Point::DownloadProgress, _)));
    let setup = Setup { video_bytes: progress.then_some(20 << 20), ..Setup::default() };
    let mut rig = Rig::with_jobs(JOBS, setup).await;
    let first = rig.jobs()[0].0;
    let price = rig.store(async |store| store.job(first).await.unwrap().estimate.get()).await;
    let budget = price * PAID as u64 + price / 2;
    match cap {
        Cap::Total => rig.set("KLINGD_BUDGET__TOTAL", budget.to_string()),
        Cap::PerDay => {
            rig.set("KLINGD_BUDGET__PER_DAY", budget.to_string());
            rig.set("TZ", where_it_is_noon());
        }
    }
    rig.set("KLINGD_SUBMIT__WORKERS", "16");
    rig.set("KLINGD_SUBMIT__START_IN_FLIGHT", "16");
    if let Some((point, nth)) = kill {
        prepare(&rig, point).await;
        let spooled = if point == Point::SubmitSpooled { "submit.commit=full," } else { "" };
        rig.run_to_its_death(&format!("{spooled}{}:{nth}", point.name())).await;
        rig.bring_the_videos_back();
        within_budget(&facts(&rig).await);
    }
    // What a person finds out not to be charged is there again, for the next in line.
    loop {
        let end = rig.end(rig.start()).await;
        let facts = facts(&rig).await;
        assert_eq!(broken_at_any_instant(&facts), [""; 0], "{}", end.log);
        let (paid, may_be_paid) = within_budget(&facts);
        end.exited(10);
        assert_eq!(may_be_paid, PAID, "seven are paid or in doubt, and the others wait; {}", end.log);
        if facts.in_doubt().next().is_none() {
            assert_eq!(paid, PAID, "{}", end.log);
            let done = facts.jobs.iter().filter_map(|job| job.row.as_ref());
            let done = done.filter(|row| matches!(row.job.state, State::Done { .. })).count();
            assert_eq!(done, PAID);
            return;
        }
        rig.tell_the_truth().await;
    }
}

/// How many the double took money for, and how many count against the budget: never fewer, and never more than it pays.
fn within_budget(facts: &Facts) -> (usize, usize) {
    let paid = facts.jobs.iter().map(|job| job.charges).sum();
    let attempts = facts.jobs.iter().filter_map(|job| job.row.as_ref()).flat_map(|row| &row.attempts);
    let counted = attempts.filter(|attempt| attempt.charge != Charge::Free.as_str()).count();
    assert!(paid <= counted && counted <= PAID, "{paid} are paid, {counted} are counted");
    (paid, counted)
}

/// A time zone whose midnight is far: a day's budget must not begin anew in the middle of a test.
fn where_it_is_noon() -> String {
    let hours_utc = clock().as_millis() / 3_600_000 % 24;
    // The sign of POSIX: hours west.
    format!("<noon>{}", hours_utc - 12)
}
