//! A full disk when the answer comes: under the database, and under the videos.
//!
//! A really full disk needs a small one. Each test that does runs itself again in a mount namespace of its own (as root,
//! or as root of a user namespace) with a tmpfs for its temporary files; where neither is allowed, it says that it was
//! skipped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use klingd::disk;
use klingd::domain::evidence::Evidence;
use klingd::domain::{AttemptNo, HoldName, JobId, State};
use klingd::worker::evidence::{Spool, Spooled};
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use super::rig::{Rig, Setup, until};

/// Fits the database, its log and the reserve of 8 MiB; filled in no time.
const SMALL_MIB: u64 = 24;

/// Runs an ignored test of this module on a small disk.
fn on_a_small_disk(test: &str) {
    on_a_small_disk_of("disk_full", test);
}

/// Runs an ignored test of a module on a small disk.
pub fn on_a_small_disk_of(module: &str, test: &str) {
    let place = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={SMALL_MIB}m small \"$1\" && shift && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.arg(if geteuid().is_root() { "-m" } else { "-Urm" }).args(["sh", "-c", &script, "sh"]);
    command.arg(place.path()).arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{module}::{test}"), "--ignored", "--nocapture"]);
    command.env("TMPDIR", place.path()).stdin(Stdio::null());
    let output = command.output().expect("unshare is there: it is part of util-linux");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    /// How libtest ends when a test has failed; anything else is the word of `unshare` or `mount`.
    const TEST_FAILED: i32 = 101;
    match output.status.code() {
        Some(0) => assert!(said.contains("1 passed"), "{said}"),
        Some(TEST_FAILED) | None => panic!("on the small disk:\n{said}"),
        Some(code) => skipped(&format!("{test}: no mount namespace can be had here ({code}): {said}")),
    }
}

/// Says it past libtest, which keeps to itself what a passing test prints.
pub fn skipped(why: &str) {
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
}

/// The small disk that the temporary files are on, if they are.
pub struct SmallDisk {
    root: PathBuf,
}

impl SmallDisk {
    pub fn here() -> Option<Self> {
        let root = std::env::temp_dir();
        let numbers = rustix::fs::statvfs(&root).unwrap();
        let small = numbers.f_blocks * numbers.f_frsize <= SMALL_MIB << 20;
        if !small {
            skipped("it needs the small disk that its sibling makes");
        }
        small.then_some(Self { root })
    }

    fn filler(&self) -> PathBuf {
        self.root.join("filler")
    }

    /// Leaves not one page.
    pub fn fill(&self) {
        self.fill_but(0);
    }

    /// Leaves so many bytes.
    pub fn fill_but(&self, left: u64) {
        let mut filler = File::create(self.filler()).unwrap();
        let page = [b'x'; 4096];
        while filler.write_all(&page).is_ok() {}
        filler.set_len(filler.metadata().unwrap().len().checked_sub(left).unwrap()).unwrap();
    }

    pub fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Leaves room for so many new names, and no lack of bytes.
    pub fn leave_names(&self, left: u64) {
        let numbers = rustix::fs::statvfs(&self.root).unwrap();
        let all = numbers.f_files - numbers.f_ffree + left;
        let remount = format!("remount,nr_inodes={all}");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &remount, "small"]).arg(&self.root).status();
        assert!(done.unwrap().success());
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,bind,{how}")])
            .arg(&self.root)
            .status()
            .unwrap();
        assert!(done.success(), "{done}");
    }
}

/// A place that is not on the small disk.
pub fn elsewhere() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The same by a failpoint, wherever the tests run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn an_answer_that_the_database_cant_take_is_spooled_and_replayed() {
    let rig = Rig::with_jobs(1, Setup::default()).await;
    let end = rig.end(rig.start_armed("submit.commit=full")).await;
    end.exited(1);
    let task = rig.sandbox.tasks()[0].id.clone();
    assert!(end.log.contains(&format!("(task {task}) is kept in")), "{}", end.log);
    rig.holds_at_any_instant().await;
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
    assert_eq!(rig.sandbox.charges_for(&rig.jobs()[0].1), 1);
}

/// A kill between the writing of the spooled answer and its renaming leaves it under another name, a kill before the
/// writing leaves an empty file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn an_answer_whose_spooling_was_cut_is_replayed_too() {
    let rig = Rig::with_jobs(1, Setup::default()).await;
    rig.end(rig.start_armed("submit.commit=full")).await.exited(1);
    let spool = rig.data_dir().join("spool");
    let name = format!("job-{}-attempt-1.json", rig.jobs()[0].0);
    disk::rename_no_clobber(&spool.join(&name), &spool.join(format!(".{name}.tmp"))).unwrap();
    File::create(spool.join(".job-99-attempt-1.json.tmp")).unwrap();
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
}

#[test]
fn the_reserve_gets_the_answer_into_a_full_database() {
    on_a_small_disk("reserve");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk of its sibling"]
async fn reserve() {
    let Some(disk) = SmallDisk::here() else { return };
    let videos = elsewhere();
    let setup = Setup { videos_on: Some(videos.path()), ..Setup::default() };
    let mut rig = Rig::with_jobs(1, setup).await;
    let gate = rig.gate().await;
    let mut daemon = rig.start();
    rig.on_the_wire(&mut daemon).await;
    disk.fill();
    gate.open();
    let end = rig.end(daemon).await;
    assert!(end.log.contains("the reserve beside the database is released"), "{}", end.log);
    end.exited(0);
    rig.holds_at_any_instant().await;
    disk.make_room();
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
    assert_eq!(rig.sandbox.charges_for(&rig.jobs()[0].1), 1);
}

#[test]
fn with_no_reserve_and_no_room_the_task_is_said_aloud() {
    on_a_small_disk("last_words");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk of its sibling"]
async fn last_words() {
    let Some(disk) = SmallDisk::here() else { return };
    let videos = elsewhere();
    let setup = Setup { videos_on: Some(videos.path()), ..Setup::default() };
    let mut rig = Rig::with_jobs(1, setup).await;
    let gate = rig.gate().await;
    let mut daemon = rig.start();
    rig.on_the_wire(&mut daemon).await;
    fs::remove_file(rig.data_dir().join("reserve")).unwrap();
    disk.fill();
    gate.open();
    let end = rig.end(daemon).await;
    end.exited(1);
    let task = rig.sandbox.tasks()[0].id.clone();
    let aloud = format!("KEEP THIS: job {}, attempt 1 is task {task}", rig.jobs()[0].0);
    assert!(end.log.contains(&aloud), "{}", end.log);
    assert!(!end.log.contains("is kept in"), "it is not: {}", end.log);

    disk.make_room();
    rig.holds_at_any_instant().await;
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 1);
    rig.tell_the_truth().await;
    rig.finish().await;
}

#[test]
fn the_reserve_makes_room_for_the_spool_too() {
    on_a_small_disk("spooled");
}

/// The database may fail of the full disk with another word than "full" (an I/O error in its log).
#[tokio::test]
#[ignore = "runs on the small disk of its sibling"]
async fn spooled() {
    let Some(disk) = SmallDisk::here() else { return };
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path().to_owned(), dir.path().join("reserve"));
    spool.ensure_reserve().await.unwrap();
    disk.fill();
    let evidence =
        Evidence { body: r#"{"data":{"task_id":"n75abc123kling3"}}"#.into(), ..Evidence::default() };
    let answer = Spooled { job: JobId(1), attempt: AttemptNo(1), evidence };
    spool.keep(answer.clone()).await.unwrap();
    let kept: Vec<_> = spool.read_all().unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(kept, [answer]);
}

#[test]
fn without_its_reserve_nothing_is_paid() {
    on_a_small_disk("no_reserve");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk of its sibling"]
async fn no_reserve() {
    let Some(disk) = SmallDisk::here() else { return };
    let videos = elsewhere();
    let rig = Rig::with_jobs(1, Setup { videos_on: Some(videos.path()), ..Setup::default() }).await;
    disk.fill_but(4 << 20);
    let end = rig.end(rig.start()).await;
    assert!(end.log.contains("no room for the reserve"), "{}", end.log);
    end.exited(10);
    assert_eq!(rig.sandbox.requests().len(), 0, "nothing is paid for that might not be recorded");
    disk.make_room();
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
}

#[test]
fn started_on_a_full_disk_it_goes_when_there_is_room() {
    on_a_small_disk("full_from_the_start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk of its sibling"]
async fn full_from_the_start() {
    let Some(disk) = SmallDisk::here() else { return };
    let videos = elsewhere();
    let rig = Rig::with_jobs(1, Setup { videos_on: Some(videos.path()), ..Setup::default() }).await;
    disk.fill();
    // Not 78, after which a supervisor does not try again.
    rig.end(rig.start()).await.exited(1);
    assert_eq!(rig.sandbox.requests().len(), 0, "nothing is paid for that could not be recorded");
    disk.make_room();
    rig.finish().await;
}

#[test]
fn with_no_room_for_a_paid_video_nothing_more_is_paid() {
    on_a_small_disk("no_room_for_videos");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk of its sibling"]
async fn no_room_for_videos() {
    let Some(disk) = SmallDisk::here() else { return };
    videos_cant_be_stored(&disk, SmallDisk::fill, SmallDisk::make_room).await;
}

#[test]
fn with_the_videos_read_only_nothing_more_is_paid() {
    on_a_small_disk("read_only_videos");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk of its sibling"]
async fn read_only_videos() {
    let Some(disk) = SmallDisk::here() else { return };
    videos_cant_be_stored(&disk, |disk| disk.remount("ro"), |disk| disk.remount("rw")).await;
}

/// Three jobs, one after the other; the first is paid when the videos' disk stops taking them. What is paid is fetched
/// when it takes them again.
async fn videos_cant_be_stored(disk: &SmallDisk, spoil: fn(&SmallDisk), mend: fn(&SmallDisk)) {
    /// The disk is looked at once a second: the second job may leave before the first can't be stored.
    const PAID_AT_MOST: usize = 2;
    let data = elsewhere();
    let setup = Setup {
        serial: true,
        video_bytes: Some(1 << 20),
        data_on: Some(data.path()),
        videos_on: Some(&disk.root),
        ..Setup::default()
    };
    let mut rig = Rig::with_jobs(3, setup).await;
    let gate = rig.gate().await;
    let mut daemon = rig.start_to_stay();
    rig.on_the_wire(&mut daemon).await;
    spoil(disk);
    gate.open();
    daemon.says("the video of job 1 can't be stored; staging takes it").await;
    daemon.says("the video of job 1 is here").await;
    // The submitter looks again and again: still nothing more is paid.
    for _ in 0..3 {
        rig.ring();
        tokio::task::yield_now().await;
    }
    let holds = rig.store(async |store| store.holds().await.unwrap()).await;
    assert!(holds.iter().any(|hold| hold.name == HoldName::Disk), "{holds:?}");
    assert!(rig.sandbox.tasks().len() <= PAID_AT_MOST, "{} jobs are paid", rig.sandbox.tasks().len());

    mend(disk);
    rig.ring();
    for (job, _) in rig.jobs() {
        until("each job is done", async || matches!(rig.state(*job).await, State::Done { .. })).await;
    }
    daemon.signal(Signal::TERM);
    rig.end(daemon).await.exited(0);
    rig.finish().await;
}
