//! SIGKILL at every step of a file through the inbox: it is neither lost nor queued twice, and ends in its place with its
//! text beside it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use klingd::clock::{Clock, local};
use klingd::domain::{Job, state::Label};
use klingd::failpoint::Point;
use klingd::store::view::Filter;
use tempfile::TempDir;

use super::points::AT_ONCE;
use super::rig::{Rig, Setup, until};

/// A life: the points at which its daemons are killed, one after the other.
type Life = Vec<Point>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn killed_at_any_step_a_file_is_neither_lost_nor_queued_twice() {
    let once = Point::INBOX.map(|point| vec![point]);
    let twice = Point::INBOX.map(|point| vec![point, point]);
    let lives = once.into_iter().chain(twice).filter(|life| !life.contains(&Point::InboxCommit));
    let lived: Vec<_> = stream::iter(lives.map(|life| async move {
        let held = AssertUnwindSafe(live(&life)).catch_unwind().await.is_ok();
        (life, held)
    }))
    .buffer_unordered(AT_ONCE)
    .collect()
    .await;
    let broken: Vec<_> = lived.iter().filter(|(_, held)| !held).map(|(life, _)| life).collect();
    assert!(broken.is_empty(), "broken, see above: {broken:?}");
}

async fn live(life: &Life) {
    let elsewhere = life.contains(&Point::InboxCopied);
    let Some(mut folder) = Folder::new(elsewhere).await else { return };
    for (n, point) in life.iter().enumerate() {
        folder.drop_files(n);
        let end = folder.rig.end(folder.rig.start_armed(point.name())).await;
        assert!(
            end.was_killed(),
            "{} was never reached: {}; it said:\n{}",
            point.name(),
            end.status,
            end.log
        );
        folder.know_jobs().await;
        folder.rig.holds_at_any_instant().await;
    }
    folder.finishes().await;
}

/// The disk under the queue is full when a file is to be recorded: it waits, and is said; with room it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn what_cant_be_recorded_on_a_full_disk_waits() {
    let Some(mut folder) = Folder::new(false).await else { return };
    folder.drop_files(0);
    let mut daemon = folder.rig.start_armed("inbox.commit=full");
    daemon.says("the inbox: the commit failed").await;
    folder.rig.kill(daemon).await;
    assert!(folder.jobs().await.is_empty());
    folder.finishes().await;
}

/// A share that is full: files are taken, for a rename needs no room; what can't be written beside them comes later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_share_takes_files_and_tells_later() {
    super::disk_full::on_a_small_disk_of("inbox", "full_share");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk that its sibling makes"]
async fn full_share() {
    let Some(disk) = super::disk_full::SmallDisk::here() else { return };
    let data = super::disk_full::elsewhere();
    let mut rig = Rig::new(Setup { data_on: Some(data.path()), ..Setup::default() }).await;
    let share = tempfile::tempdir().unwrap();
    rig.set("KLINGD_INBOX__PATH", share.path().join("inbox").to_str().unwrap());
    let mut folder = Folder::of(rig, share.path().to_owned(), None);
    // The folders and the day's own are there before the disk is full: a new one needs room. klingd's mark is not: an
    // inbox that was just emptied must not be taken for a disk that is not mounted.
    folder.drop_files(0);
    let today = local(Clock.now()).date().to_string();
    fs::create_dir_all(folder.accepted.join(today)).unwrap();
    fs::create_dir(share.path().join("rejected")).unwrap();
    disk.fill();
    let mut daemon = folder.rig.start_to_stay();
    daemon.says("the disk is full").await;
    until("the jobs are there", async || folder.jobs().await.len() == folder.jobs).await;
    disk.make_room();
    daemon.says("the inbox is worked with again").await;
    folder.rig.kill(daemon).await;
    folder.finishes().await;
}

/// The taken files go to a disk of their own, which is full: said once, whatever the number of files and looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_place_is_said_once() {
    super::disk_full::on_a_small_disk_of("inbox", "full_place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs on the small disk that its sibling makes"]
async fn full_place() {
    let Some(disk) = super::disk_full::SmallDisk::here() else { return };
    let (data, share) = (super::disk_full::elsewhere(), super::disk_full::elsewhere());
    let mut rig = Rig::new(Setup { data_on: Some(data.path()), ..Setup::default() }).await;
    rig.set("KLINGD_INBOX__PATH", share.path().join("inbox").to_str().unwrap());
    let small = tempfile::tempdir().unwrap();
    let mut folder = Folder::of(rig, share.path().to_owned(), Some(small));
    (0..4).for_each(|round| folder.drop_files(round));
    disk.fill();
    let mut daemon = folder.rig.start_to_stay();
    daemon.says("the disk is full").await;
    // The status of the jobs that are there says that there have been looks.
    until("the jobs are done", async || {
        folder.jobs().await.iter().filter(|job| job.state.label() == Label::Done).count() == folder.jobs
    })
    .await;
    disk.make_room();
    daemon.says("the inbox is worked with again").await;
    daemon.signal(rustix::process::Signal::KILL);
    let end = folder.rig.end(daemon).await;
    assert_eq!(end.log.matches("the disk is full").count(), 1, "it said:\n{}", end.log);
    folder.finishes().await;
}

/// A rig with files that are dropped into its folder.
pub struct Folder {
    pub rig: Rig,
    /// Where the three folders are.
    share: PathBuf,
    accepted: PathBuf,
    /// Keeps the other filesystem's directory.
    _elsewhere: Option<TempDir>,
    /// How many jobs the dropped files bring, and the names of the files.
    jobs: usize,
    good: Vec<String>,
    bad: Vec<String>,
}

impl Folder {
    /// With the taken files on another filesystem, if asked for; nothing where there is none.
    async fn new(elsewhere: bool) -> Option<Self> {
        let rig = Rig::new(Setup::default()).await;
        let share = rig.data_dir().to_owned();
        let other = tempfile::tempdir_in("/dev/shm").ok().filter(|_| elsewhere);
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        if elsewhere && other.as_ref().is_none_or(|other| device(other.path()) == device(&share)) {
            println!("SKIPPED: /dev/shm is no other filesystem here");
            return None;
        }
        Some(Self::of(rig, share, other))
    }

    /// In the data directory, which is made in this place.
    pub async fn in_place(place: &Path) -> Self {
        let rig = Rig::new(Setup { serial: true, data_on: Some(place), ..Setup::default() }).await;
        let share = rig.data_dir().to_owned();
        Self::of(rig, share, None)
    }

    fn of(mut rig: Rig, share: PathBuf, elsewhere: Option<TempDir>) -> Self {
        rig.set("KLINGD_INBOX__SETTLE", "100ms");
        rig.set("KLINGD_INBOX__SCAN_EVERY", "100ms");
        let accepted =
            elsewhere.as_ref().map_or(share.clone(), |other| other.path().to_owned()).join("accepted");
        rig.set("KLINGD_INBOX__ACCEPTED", accepted.to_str().unwrap());
        Self { rig, share, accepted, _elsewhere: elsewhere, jobs: 0, good: Vec::new(), bad: Vec::new() }
    }

    /// Two good files and a bad one, with names that only this round has.
    pub fn drop_files(&mut self, round: usize) {
        // Paid again whatever the keys say: only the claim keeps it from being queued twice.
        let job = |what: &str| {
            format!(
                r#"{{"type": "pro-text-to-video", "prompt": "{what} of round {round}", "duration": 3, "again": true}}"#
            )
        };
        let bad = job("bad").replace("duration", "durashion");
        for (name, text) in [
            (format!("one-{round}.json"), job("one")),
            (format!("two-{round}.jsonl"), format!("{}\n{}\n", job("first"), job("second"))),
            (format!("bad-{round}.json"), bad),
        ] {
            let path = self.share.join("inbox").join(&name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
            if name.starts_with("bad") { &mut self.bad } else { &mut self.good }.push(name);
        }
        self.jobs += 3;
    }

    async fn jobs(&self) -> Vec<Job> {
        let all = Filter { all: true, ..Filter::default() };
        self.rig.store(async |store| store.list(&all).await.unwrap()).await
    }

    /// Lets the judge know which jobs have come through the folder.
    pub async fn know_jobs(&mut self) {
        let jobs = self.jobs().await;
        self.rig.knows(jobs.iter().map(|job| (job.id, job.request.prompt().to_owned())).collect());
    }

    /// A daemon without trouble brings everything to its end.
    pub async fn finishes(&mut self) {
        // 10: a kill may have come while its jobs were on the wire.
        let end = self.rig.end(self.rig.start()).await;
        assert!(matches!(end.status.code(), Some(0 | 10)), "{}; it said:\n{}", end.status, end.log);
        self.know_jobs().await;
        self.rig.finish().await;
        assert_eq!(self.rig.jobs().len(), self.jobs, "each job once");

        let mut expected = BTreeMap::new();
        for name in &self.good {
            expected.extend([(name.clone(), 1), (format!("{name}.status.txt"), 1)]);
        }
        assert_eq!(names_below(&self.accepted), expected);
        let mut expected = BTreeMap::new();
        for name in &self.bad {
            expected.extend([(name.clone(), 1), (format!("{name}.errors.txt"), 1)]);
        }
        assert_eq!(names_below(&self.share.join("rejected")), expected);
        assert_eq!(names_below(&self.share.join("inbox")), [(".klingd-inbox".to_owned(), 1)].into());
        for name in &self.good {
            let status = find(&self.accepted, &format!("{name}.status.txt"));
            let done = fs::read_to_string(status).unwrap().matches("  done").count();
            assert_eq!(done, if name.starts_with("two") { 2 } else { 1 }, "{name}");
        }
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// How often each name is there, whatever the day's folder.
fn names_below(folder: &Path) -> BTreeMap<String, usize> {
    files_below(folder).iter().fold(BTreeMap::new(), |mut names, path| {
        *names.entry(name_of(path)).or_default() += 1;
        names
    })
}

fn find(folder: &Path, name: &str) -> PathBuf {
    files_below(folder).into_iter().find(|path| name_of(path) == name).unwrap()
}
