//! Downloads that are cut: what is durable is not fetched again, what does not fit is not put together.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use klingd::domain::{HoldName, State};
use klingd::failpoint::Point;
use klingd::sandbox::SeenRequest;
use klingd::store::download::Partial;
use rustix::process::Signal;

use super::rig::{Rig, Setup, until};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_stop_in_a_download_it_goes_on_there_after_the_next_start() {
    let (whole, sent) = (12 * MIB, 9 * MIB + MIB / 2);
    // What came is written a MiB at a time; the last piece waits for more, which never comes.
    let written = sent - MIB;
    let stall = format!("video:stall={sent}");
    let setup = Setup { faults: &stall, video_bytes: Some(whole), ..Setup::default() };
    let mut rig = Rig::with_jobs(1, setup).await;
    // It is the signal that ends the wait, and nothing else.
    rig.set("KLINGD_DOWNLOAD__IDLE_TIMEOUT", "1h");
    let daemon = rig.start();
    let (job, _) = rig.jobs()[0].clone();
    let part = rig.videos().join(format!(".klingd-{job}-0.part"));
    until("the part grows", async || part.metadata().is_ok_and(|part| part.len() >= written)).await;
    daemon.signal(Signal::TERM);
    rig.end(daemon).await.exited(0);
    rig.holds_at_any_instant().await;

    let outputs = rig.store(async |store| store.outputs(job).await.unwrap()).await;
    let Some(Partial { position, .. }) = outputs[0].partial else { panic!("{outputs:?}") };
    assert!((written..=sent).contains(&position), "{position} of {sent} bytes are durable");
    assert_eq!(part.metadata().unwrap().len(), position, "the row says what the file has");

    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
    let rest = format!("bytes={position}-");
    let asked = |request: &SeenRequest| request.range.as_ref() == Some(&rest);
    assert!(rig.sandbox.requests().iter().any(asked), "only the rest is fetched again");
}

/// After the cut the daemon asks for the rest, and gets something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rest_that_is_not_the_rest_is_never_put_behind_the_start() {
    for other in ["video:etag-changed", "video:ignore-range", "video:wrong-content-range"] {
        let faults = format!("video:cut=50000,{other}");
        let setup = Setup { faults: &faults, video_bytes: Some(100_000), ..Setup::default() };
        let rig = Rig::with_jobs(1, setup).await;
        assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
        assert_eq!(rig.sandbox.fired()[other], 1);
    }
}

/// Shared memory is another filesystem than most others: a way out of staging that is a copy, and one that is a rename.
const ELSEWHERE: &str = "/dev/shm";

/// What is paid when the disk of the videos goes away waits in staging. Killed at any step of its way out, it ends under
/// its name once, and nothing is left in staging.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_on_the_way_out_of_staging() {
    let elsewhere = Path::new(ELSEWHERE).is_dir().then(|| tempfile::tempdir_in(ELSEWHERE).unwrap());
    let points =
        [Point::DownloadVerified, Point::DownloadPublished, Point::DownloadSidecar, Point::DownloadCommitted];
    for videos_on in [None, elsewhere.as_ref().map(|dir| dir.path())] {
        for point in points {
            let videos = videos_on.map(|dir| dir.join(point.name()));
            let rig = Rig::with_jobs(2, Setup { videos_on: videos.as_deref(), ..Setup::default() }).await;
            staged(&rig).await;
            rig.bring_the_videos_back();
            rig.run_to_its_death(point.name()).await;
            assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
            let fetches = rig.sandbox.requests().iter().filter(|r| r.path.starts_with("/videos/")).count();
            assert_eq!(fetches, 2, "{}: what waited in staging is not fetched again", point.name());
        }
    }
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if elsewhere.is_none_or(|dir| device(dir.path()) == device(&std::env::temp_dir())) {
        println!("only renames were tested: {ELSEWHERE} is no filesystem of its own here");
    }
}

/// One of two videos is there when it is killed: it is not fetched again, and the other one gets its own name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_between_the_videos_of_a_task() {
    let points =
        [Point::DownloadVerified, Point::DownloadPublished, Point::DownloadSidecar, Point::DownloadCommitted];
    for point in points {
        for nth in [1, 2] {
            let rig = Rig::with_jobs(1, Setup { faults: "status:two-videos@*", ..Setup::default() }).await;
            rig.run_to_its_death(&format!("{}:{nth}", point.name())).await;
            assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
            let fetches = rig.sandbox.requests().iter().filter(|r| r.path.starts_with("/videos/")).count();
            assert_eq!(fetches, 2, "{}:{nth}: what was verified is not fetched again", point.name());
            let names = ["1.mp4", "1-2.mp4"].map(|name| rig.videos().join(name).exists());
            assert_eq!(names, [true; 2], "{}:{nth}", point.name());
        }
    }
}

/// The videos of all jobs, verified and in staging; no daemon runs.
async fn staged(rig: &Rig) {
    // Once all are accepted: a request on the wire would be in doubt, and no video of it would ever come.
    rig.run_to_its_death(&format!("{}:{}", Point::SubmitCommitted.name(), rig.jobs().len())).await;
    rig.take_the_videos_away().await;
    let daemon = rig.start_to_stay();
    let all_staged = async || {
        let mut count = 0;
        for (job, _) in rig.jobs() {
            let outputs = rig.store(async |store| store.outputs(*job).await.unwrap()).await;
            count += outputs.iter().filter(|output| output.file.is_some()).count();
        }
        count == rig.jobs().len()
    };
    until("everything paid is in staging", all_staged).await;
    let holds = rig.store(async |store| store.holds().await.unwrap()).await;
    let [hold] = holds.as_slice() else { panic!("{holds:?}") };
    assert_eq!(hold.name, HoldName::Disk);
    assert!(hold.why.contains("not mounted"), "{}", hold.why);
    daemon.signal(Signal::TERM);
    rig.end(daemon).await.exited(0);
    let waiting = fs::read_dir(rig.data_dir().join("staging")).unwrap().count();
    assert_eq!(waiting, rig.jobs().len());
}

/// The disk goes away in the middle of everything and comes back: nobody does anything, and all is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmounted_disk_of_the_videos_is_waited_for() {
    let rig = Rig::with_jobs(4, Setup { serial: true, ..Setup::default() }).await;
    rig.take_the_videos_away().await;
    rig.bring_the_videos_back();
    let mut daemon = rig.start_to_stay();
    daemon.says("job 1 is done").await;
    rig.take_the_videos_away().await;
    until("submits are held", async || {
        let holds = rig.store(async |store| store.holds().await.unwrap()).await;
        holds.iter().any(|hold| hold.name == HoldName::Disk)
    })
    .await;
    let paid = rig.sandbox.tasks().len();
    for _ in 0..3 {
        rig.ring();
        tokio::task::yield_now().await;
    }
    rig.bring_the_videos_back();
    for (job, _) in rig.jobs() {
        until("each job is done", async || {
            rig.ring();
            matches!(rig.state(*job).await, State::Done { .. })
        })
        .await;
    }
    assert!(paid < 4, "{paid} jobs were paid while there was no place for their videos");
    daemon.signal(Signal::TERM);
    rig.end(daemon).await.exited(0);
    rig.finish().await;
}
