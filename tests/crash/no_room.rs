//! No room at each step of a video's way to its name: where its part is made, in the middle of it, and where its sidecar
//! is. On a really small disk, as in `disk_full`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use klingd::domain::State;
use klingd::failpoint::Point;
use rustix::process::Signal;

use super::disk_full::{SmallDisk, elsewhere, on_a_small_disk_of};
use super::rig::{Rig, Setup, until};

const PAGE: u64 = 4096;
/// Of the video.
const PAGES: u64 = 16;

/// What is left on the disk of the videos when one of them is paid.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// Room for so much.
    Pages(u64),
    /// Room, but for so many new names only.
    Names(u64),
}

#[test]
fn a_video_finds_no_room_at_any_step() {
    on_a_small_disk_of("no_room", "at_any_step");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk of its sibling"]
async fn at_any_step() {
    let Some(disk) = SmallDisk::here() else { return };
    // A length that was announced is reserved before anything is written; without one the middle is where it ends.
    let cut = format!("video:chunked-cut={}", PAGE * PAGES - 1000);
    for (left, faults, fetches) in [
        (Left::Names(0), "", 1),
        (Left::Pages(PAGES - 1), "", 2),
        (Left::Pages(PAGES / 2), cut.as_str(), 2),
        (Left::Pages(PAGES), "", 1),
        (Left::Names(1), "", 1),
    ] {
        without_room(&disk, left, faults, fetches).await;
    }
}

/// One job, paid when there is too little room. When there is enough again, it is done without anybody's help, and its
/// video was fetched so often.
async fn without_room(disk: &SmallDisk, left: Left, faults: &str, fetches: usize) {
    let data = elsewhere();
    let videos = tempfile::tempdir_in(disk.root()).unwrap();
    let setup = Setup {
        faults,
        video_bytes: Some(PAGE * PAGES),
        data_on: Some(data.path()),
        videos_on: Some(videos.path()),
        ..Setup::default()
    };
    let mut rig = Rig::with_jobs(1, setup).await;
    let gate = rig.gate().await;
    let mut daemon = rig.start_to_stay();
    rig.on_the_wire(&mut daemon).await;
    match left {
        Left::Pages(pages) => disk.fill_but(pages * PAGE),
        Left::Names(names) => disk.leave_names(names),
    }
    gate.open();
    daemon.says("the video of job 1 can't be stored").await;
    daemon.says("the video of job 1 is here").await;
    match left {
        Left::Pages(_) => disk.make_room(),
        Left::Names(_) => disk.leave_names(1000),
    }
    let job = rig.jobs()[0].0;
    until("the job is done", async || {
        rig.ring();
        matches!(rig.state(job).await, State::Done { .. })
    })
    .await;
    daemon.signal(Signal::TERM);
    rig.end(daemon).await.exited(0);
    let asked = rig.sandbox.requests().iter().filter(|r| r.path.starts_with("/videos/")).count();
    assert_eq!(asked, fetches, "{left:?}");
    rig.finish().await;
}

#[test]
fn what_staging_can_not_take_leaves_the_database_its_room() {
    on_a_small_disk_of("no_room", "staging_is_small");
}

/// The whole disk is smaller than what staging leaves to the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk of its sibling"]
async fn staging_is_small() {
    let Some(_) = SmallDisk::here() else { return };
    let videos = elsewhere();
    let place = videos.path().join("videos");
    let setup = Setup { video_bytes: Some(1 << 20), videos_on: Some(&place), ..Setup::default() };
    let rig = Rig::with_jobs(1, setup).await;
    rig.run_to_its_death(Point::PollAnswered.name()).await;
    rig.take_the_videos_away().await;
    let mut daemon = rig.start_to_stay();
    daemon.says("leave enough free space in").await;
    let part = rig.data_dir().join("staging/.klingd-1-0.part");
    let blocks = fs::metadata(&part).map_or(0, |part| part.blocks());
    assert_eq!(blocks, 0, "nothing was reserved that could not be filled");
    rig.bring_the_videos_back();
    let job = rig.jobs()[0].0;
    until("the job is done", async || {
        rig.ring();
        matches!(rig.state(job).await, State::Done { .. })
    })
    .await;
    daemon.signal(Signal::TERM);
    rig.end(daemon).await.exited(0);
    rig.finish().await;
}
