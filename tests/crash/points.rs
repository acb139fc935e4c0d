//! SIGKILL at every named point of a job's life.

use std::panic::AssertUnwindSafe;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use klingd::failpoint::Point;

use super::rig::{Rig, Setup};

/// Rigs at work at once: they mostly wait, for polls and for the disk.
pub const AT_ONCE: usize = 8;

/// The steps at which most is at stake: those around money and around the final name.
const HOTTEST: [Point; 12] = [
    Point::SubmitIntent,
    Point::SubmitAnswered,
    Point::SubmitCommit,
    Point::SubmitCommitted,
    Point::PollAnswered,
    Point::PollCommitted,
    Point::DownloadCreated,
    Point::DownloadFinished,
    Point::DownloadVerified,
    Point::DownloadPublished,
    Point::DownloadSidecar,
    Point::DownloadCommitted,
];

/// A life that is cut short at `kills`, one daemon each.
struct Scenario {
    kills: Vec<Kill>,
    /// One job after the other, so that a later kill has work left to come to.
    serial: bool,
}

#[derive(Clone, Copy)]
struct Kill {
    point: Point,
    /// The how-manieth time that the point is reached.
    nth: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_at_any_point() {
    prove(
        Point::ALL
            .iter()
            .map(|point| Scenario { kills: vec![Kill { point: *point, nth: 1 }], serial: false }),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_at_a_hot_point_with_other_jobs_on_their_way() {
    let hot =
        HOTTEST.into_iter().chain([Point::SubmitSpooled, Point::RecoverReplayed, Point::RecoverOrphaned]);
    let kills = hot.flat_map(|point| [Kill { point, nth: 2 }, Kill { point, nth: 3 }]);
    prove(kills.map(|kill| Scenario { kills: vec![kill], serial: false })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_again_at_the_same_point() {
    let twice =
        HOTTEST.iter().map(|point| Scenario { kills: vec![Kill { point: *point, nth: 1 }; 2], serial: true });
    // These two have their work before any lane runs, and all three jobs are it.
    let recovery = [Point::RecoverReplayed, Point::RecoverOrphaned];
    let again = recovery.map(|point| Scenario { kills: vec![Kill { point, nth: 1 }; 2], serial: false });
    prove(twice.chain(again)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "every ordered pair of the hottest points: some minutes"]
async fn killed_at_every_pair_of_hot_points() {
    let pairs = HOTTEST.iter().flat_map(|first| HOTTEST.iter().map(|second| [*first, *second]));
    prove(
        pairs.map(|pair| Scenario { kills: pair.map(|point| Kill { point, nth: 1 }).to_vec(), serial: true }),
    )
    .await;
}

/// Lives through every scenario; fails with the names of all that broke the promise.
async fn prove(scenarios: impl IntoIterator<Item = Scenario>) {
    let lives = scenarios.into_iter().map(|scenario| async move {
        let name = scenario.name();
        let held = AssertUnwindSafe(live(scenario)).catch_unwind().await.is_ok();
        (name, held)
    });
    let lived: Vec<(String, bool)> = stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let names = |held: bool| {
        lived.iter().filter(|life| life.1 == held).map(|life| life.0.as_str()).collect::<Vec<_>>()
    };
    println!("{} held: {}", names(true).len(), names(true).join("; "));
    assert!(names(false).is_empty(), "broken, see above: {}", names(false).join("; "));
}

async fn live(scenario: Scenario) {
    let progress = scenario.kills.iter().any(|kill| kill.point == Point::DownloadProgress);
    let setup = Setup {
        // Progress is recorded every 8 MiB.
        video_bytes: progress.then_some(12 << 20),
        serial: scenario.serial,
        ..Setup::default()
    };
    let rig = Rig::with_jobs(3, setup).await;
    let mut before = None;
    for kill in &scenario.kills {
        // What one start prepares, the next one is killed at; the second time it is still there.
        if before != Some(kill.point) {
            prepare(&rig, kill.point).await;
        }
        rig.run_to_its_death(&kill.armed()).await;
        before = Some(kill.point);
    }
    rig.finish().await;
}

/// Some points are reached only after something else has gone wrong.
async fn prepare(rig: &Rig, point: Point) {
    match point {
        Point::RecoverReplayed => {
            rig.end(rig.start_armed("submit.commit=full")).await.exited(1);
            rig.holds_at_any_instant().await;
        }
        Point::RecoverOrphaned => rig.run_to_its_death(Point::SubmitIntent.name()).await,
        Point::SubmitBeforeIntent
        | Point::SubmitIntent
        | Point::SubmitAnswered
        | Point::SubmitCommit
        | Point::SubmitSpooled
        | Point::SubmitCommitted
        | Point::PollAnswered
        | Point::PollCommitted
        | Point::DownloadCreated
        | Point::DownloadProgress
        | Point::DownloadFinished
        | Point::DownloadVerified
        | Point::DownloadPublished
        | Point::DownloadSidecar
        | Point::DownloadCommitted => {}
    }
}

impl Kill {
    fn armed(self) -> String {
        let spooled = if self.point == Point::SubmitSpooled { "submit.commit=full," } else { "" };
        format!("{spooled}{}:{}", self.point.name(), self.nth)
    }
}

impl Scenario {
    fn name(&self) -> String {
        self.kills
            .iter()
            .map(|kill| format!("{}:{}", kill.point.name(), kill.nth))
            .collect::<Vec<_>>()
            .join(" then ")
    }
}
