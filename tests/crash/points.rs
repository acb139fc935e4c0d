//! SIGKILL at every named point of a job's life.

use std::panic::AssertUnwindSafe;

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use klingd::failpoint::Point;

use super::ladder::why;
use super::rig::{Rig, Setup};
use super::tally::{Tally, Verdict};

/// Rigs at work at once: they mostly wait, for polls and for the disk.
pub const AT_ONCE: usize = 8;

/// Jobs that are queued before each kill: as many as there are slots to begin with.
const JOBS: usize = 3;

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

#[derive(Clone, Copy)]
struct Kill {
    point: Point,
    /// The how-manieth time that the point is reached.
    nth: u32,
}

/// A life that is cut short by these kills, one daemon each.
type Life = Vec<Kill>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_at_any_point() {
    prove(Point::ALL.map(|point| vec![Kill { point, nth: 1 }])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_at_a_hot_point_with_other_jobs_past_it() {
    let hot =
        HOTTEST.into_iter().chain([Point::SubmitSpooled, Point::RecoverReplayed, Point::RecoverOrphaned]);
    prove(hot.flat_map(|point| [2, 3].map(|nth| vec![Kill { point, nth }]))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_at_every_pair_of_hot_points() {
    let pairs = HOTTEST.into_iter().flat_map(|first| HOTTEST.map(|second| [first, second]));
    let recovery = [Point::RecoverReplayed, Point::RecoverOrphaned].map(|point| [point; 2]);
    prove(pairs.chain(recovery).map(|pair| pair.map(|point| Kill { point, nth: 1 }).to_vec())).await;
}

/// A rung of the ladder: some lives by this seed, of all that the tests live.
pub async fn climb(seed: u64, tally: &mut Tally) {
    const LIVES: usize = 16;
    let mut dice = fastrand::Rng::with_seed(seed);
    let kill = |point: Point, nth: u32| Kill { point, nth };
    let all = Point::ALL.map(|point| vec![kill(point, 1)]).into_iter();
    let pairs =
        HOTTEST.into_iter().flat_map(|first| HOTTEST.map(|second| vec![kill(first, 1), kill(second, 1)]));
    let later = HOTTEST.into_iter().flat_map(|point| [2, 3].map(|nth| vec![kill(point, nth)]));
    let all: Vec<Life> = all.chain(pairs).chain(later).collect();
    let lives = dice.choose_multiple(all, LIVES).into_iter().map(|life| async move {
        let name = name(&life);
        let points: Vec<_> = life.iter().map(|kill| kill.point.name()).collect();
        (name, points, AssertUnwindSafe(live(life)).catch_unwind().await)
    });
    let mut lived = stream::iter(lives).buffer_unordered(AT_ONCE);
    while let Some((name, points, lived)) = lived.next().await {
        match lived {
            Ok(verdict) => {
                tally.lived(&verdict);
                points.iter().for_each(|point| tally.fired(point, 1));
            }
            Err(panic) => tally.broke(&name, &why(&*panic)),
        }
    }
}

fn name(life: &Life) -> String {
    life.iter().map(|kill| kill.armed()).collect::<Vec<_>>().join(" then ")
}

/// Lives every life; fails with the names of all that broke the promise.
async fn prove(lives: impl IntoIterator<Item = Life>) {
    let lives = lives.into_iter().map(|life| async move {
        let name = name(&life);
        let held = AssertUnwindSafe(live(life)).catch_unwind().await.is_ok();
        (name, held)
    });
    let lived: Vec<(String, bool)> = stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let names = |held: bool| {
        lived.iter().filter(|life| life.1 == held).map(|life| life.0.as_str()).collect::<Vec<_>>()
    };
    println!("{} held: {}", names(true).len(), names(true).join("; "));
    assert!(names(false).is_empty(), "broken, see above: {}", names(false).join("; "));
}

async fn live(life: Life) -> Verdict {
    // Progress is first recorded when 8 MiB are durable, before there are 16 more.
    let progress = life.iter().any(|kill| kill.point == Point::DownloadProgress);
    let setup = Setup { video_bytes: progress.then_some(20 << 20), ..Setup::default() };
    let mut rig = Rig::new(setup).await;
    let mut before = None;
    for kill in life {
        // Fresh ones each time: what was on the wire at the last kill comes to no point any more.
        rig.enqueue(JOBS).await;
        // What one start prepares, the next one is killed at; the second time it is still there.
        if before != Some(kill.point) {
            prepare(&rig, kill.point).await;
        }
        rig.run_to_its_death(&kill.armed()).await;
        rig.bring_the_videos_back();
        before = Some(kill.point);
    }
    rig.finish().await;
    rig.checked()
}

/// Some points are reached only after something else has gone wrong.
pub async fn prepare(rig: &Rig, point: Point) {
    match point {
        Point::RecoverReplayed => {
            rig.end(rig.start_armed("submit.commit=full")).await.exited(1);
            rig.holds_at_any_instant().await;
        }
        Point::DownloadStaged => {
            // Paid first: nothing more is, while the videos are away.
            rig.run_to_its_death(Point::PollAnswered.name()).await;
            rig.take_the_videos_away().await;
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
        // Of files, not of jobs: `inbox` has them.
        Point::InboxClaimed
        | Point::InboxCommit
        | Point::InboxRecorded
        | Point::InboxCopied
        | Point::InboxMoved
        | Point::InboxPlaced
        | Point::InboxTold => {}
    }
}

impl Kill {
    fn armed(self) -> String {
        let spooled = if self.point == Point::SubmitSpooled { "submit.commit=full," } else { "" };
        format!("{spooled}{}:{}", self.point.name(), self.nth)
    }
}
