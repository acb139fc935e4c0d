//! Power cuts: the daemon and its videos are on a filesystem of their own (ext4 and XFS, in a file), which is shut down at a
//! random moment of the work (FS_IOC_SHUTDOWN): from then on nothing reaches its disk, and what was not synced is gone.
//! Then it is mounted again, and the promise must hold.
//!
//! Only what was acknowledged *before* the cut counts: a job that somebody was told is queued, a task that the log told of, a
//! video that it called done. The double's ledger is out of reach of the cut.
//!
//! Only root can mount; elsewhere it says that it was skipped.

mod image;

use std::fs::File;
use std::future::pending;
use std::io::Write as _;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use klingd::disk;
use klingd::domain::{JobId, State};
use klingd::store::enqueue::NewBatch;
use klingd::store::view::Filter;
use klingd::store::{Access, Store};
use rustix::process::Signal;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use self::image::{Cut, Image, Kind};
use super::calls::shim::{self, Does, Fault};
use super::disk_full::skipped;
use super::ladder::why;
use super::rig::{Facts, Rig, Setup, broken_at_any_instant, clock, facts, new_job, within};
use super::tally::{Tally, Verdict, table};

/// Lives in CI, of one or two cuts each.
const LIVES: u64 = 32;
/// Images at work at once.
const AT_ONCE: usize = 6;
/// Jobs of one life to begin with.
const JOBS: usize = 3;
/// Jobs that are queued meanwhile, one by one.
const MORE: usize = 5;
/// Requests after which a cut comes, at most. A job needs three, or some more.
const REQUESTS: usize = 3 * (JOBS + MORE) - 4;

/// What was said before the cut.
struct Acknowledged {
    /// Somebody was told that these are queued.
    queued: Vec<(JobId, String)>,
    /// The log tells of these tasks.
    tasks: Vec<(JobId, String)>,
    /// The log calls these done.
    done: Vec<JobId>,
}

impl Acknowledged {
    fn count(&self) -> u64 {
        (self.queued.len() + self.tasks.len() + self.done.len()) as u64
    }
}

/// Lives by a dozen seeds.
pub async fn climb(seed: u64, tally: &mut Tally) {
    let first = seed.wrapping_mul(12);
    cuts((0..12).map(|n| first.wrapping_add(n)), tally).await;
}

/// Lives by every seed. Says how much had been acknowledged before the cuts, and was there after them.
async fn cuts(seeds: impl IntoIterator<Item = u64>, tally: &mut Tally) -> u64 {
    let lacking: Vec<String> = Kind::ALL.iter().filter_map(|kind| kind.lacks()).collect();
    lacking.iter().for_each(|why| skipped(&format!("power cuts on {why}")));
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.lacks().is_none()).collect();
    if kinds.is_empty() {
        tally.skipped = Some(lacking.join("; "));
        return 0;
    }
    let lives = seeds.into_iter().map(|seed| {
        let kind = kinds[usize::try_from(seed % kinds.len() as u64).unwrap()];
        // Each filesystem is cut in both ways, most often in the honest one.
        let cut = if seed / 2 % 4 == 3 { Cut::JournalOnly } else { Cut::Nothing };
        async move {
            let lived = AssertUnwindSafe(live(seed, kind, cut)).catch_unwind().await;
            (seed, format!("{kind:?} {cut:?}"), lived)
        }
    });
    let mut kept = 0;
    let mut lived = stream::iter(lives).buffer_unordered(AT_ONCE);
    while let Some((seed, what, lived)) = lived.next().await {
        match lived {
            Ok((at_work, acknowledged, verdict)) => {
                kept += acknowledged;
                tally.fired(&what, at_work);
                tally.lived(&verdict);
            }
            Err(panic) => tally.broke(&format!("seed {seed} ({what})"), &why(&*panic)),
        }
    }
    kept
}

/// How many cuts came while there was work, how much was acknowledged before them, and what was checked.
async fn live(seed: u64, kind: Kind, cut: Cut) -> (u64, u64, Verdict) {
    let mut dice = fastrand::Rng::with_seed(seed);
    // Some videos are written in many pieces, so that some cuts come in the middle of one.
    let video_bytes = dice.bool().then_some(1 << 20);
    let image = Image::new(kind);
    let setup = Setup { seed, video_bytes, data_on: Some(image.path()), ..Setup::default() };
    let mut rig = Rig::with_jobs(JOBS, setup).await;
    println!("seed {seed}: {kind:?}, {cut:?}");
    let (mut at_work, mut count) = (0, 0);
    // The second one may come while the first one is being recovered from.
    for _ in 0..dice.u32(1..=2) {
        let after = dice.usize(1..=REQUESTS);
        let (told, was_at_work) = cut_in_traffic(&rig, &image, cut, after).await;
        at_work += u64::from(was_at_work);
        count += told.count();
        image.comes_back().await;
        know_all(&mut rig, told.queued.clone()).await;
        rig.holds_at_any_instant().await;
        let broken = broken_words(&told, &facts(&rig).await);
        assert!(broken.is_empty(), "{}\nthe log:\n{}", broken.join("\n"), rig.said());
    }
    rig.finish().await;
    (at_work, count, rig.checked())
}

/// A daemon at work, somebody who queues more jobs, and the cut when the double has seen so many more requests; whether
/// that was before the daemon was at rest.
async fn cut_in_traffic(rig: &Rig, image: &Image, cut: Cut, after: usize) -> (Acknowledged, bool) {
    let last = rig.sandbox.requests().len() + after;
    let mut daemon = rig.start();
    let queued = Mutex::new(rig.jobs().to_vec());
    let more = async {
        queue_more(rig, &queued).await;
        pending().await
    };
    let reached = within(|| format!("request {last}, or rest"), async {
        tokio::select! {
            () = rig.sandbox.wait_until(|model| model.requests().len() >= last) => true,
            () = daemon.gone() => false,
            () = more => false,
        }
    });
    let at_work = reached.await;
    // In this order: what was said is read before the power goes.
    let said = daemon.said();
    let queued = queued.into_inner().unwrap_or_else(PoisonError::into_inner);
    image.cut(cut);
    daemon.signal(Signal::KILL);
    let end = rig.end(daemon).await;
    assert!(!end.log.contains("panicked"), "{}", end.log);
    (Acknowledged { queued, tasks: tasks_of(&said), done: numbers_before(&said, " is done") }, at_work)
}

/// Queues one job after every other request, until it is refused: the power is gone then.
async fn queue_more(rig: &Rig, acknowledged: &Mutex<Vec<(JobId, String)>>) {
    let Ok((store, writer)) = Store::open(&rig.data_dir().join("klingd.db"), Access::Use).await else {
        return;
    };
    let (known, seen) = (rig.jobs().len(), rig.sandbox.requests().len());
    let work = async move {
        for n in 1..=MORE {
            rig.sandbox.wait_until(|model| model.requests().len() >= seen + 2 * n - 1).await;
            let prompt = format!("job {} of the rig", known + n);
            let jobs = vec![new_job(&prompt)];
            let batch =
                NewBatch { name: "more".to_owned(), source: "rig".to_owned(), max_credits: None, jobs };
            let Ok(queued) = store.enqueue(batch, clock()).await else { return };
            acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((queued[0].id, prompt));
            rig.ring();
        }
    };
    // After a cut the writer breaks: that is no news.
    tokio::join!(writer.run(), work).0.ok();
}

/// The judge looks at what was acknowledged, and at what was on its way and came through.
async fn know_all(rig: &mut Rig, mut jobs: Vec<(JobId, String)>) {
    let all = Filter { all: true, ..Filter::default() };
    let found = rig.store(async |store| store.list(&all).await.unwrap()).await;
    let fresh = found.iter().filter(|job| jobs.iter().all(|(id, _)| *id != job.id));
    let fresh: Vec<_> = fresh.map(|job| (job.id, job.request.prompt().to_owned())).collect();
    jobs.extend(fresh);
    rig.knows(jobs);
}

/// What was told before the cut and is not so after it.
fn broken_words(told: &Acknowledged, facts: &Facts) -> Vec<String> {
    let state = |id: JobId| {
        let rows = facts.jobs.iter().filter_map(|job| job.row.as_ref());
        rows.map(|row| &row.job).find(|job| job.id == id).map(|job| &job.state)
    };
    let mut broken = Vec::new();
    for (id, task) in &told.tasks {
        if state(*id).and_then(State::task).is_none_or(|found| found.as_str() != task) {
            broken.push(format!("task {task} of job {id} was told of, and is forgotten: {:?}", state(*id)));
        }
    }
    for id in &told.done {
        let is_there = facts.files.iter().any(|file| file.path.ends_with(format!("{id}.mp4")));
        if !matches!(state(*id), Some(State::Done { .. })) || !is_there {
            broken.push(format!("job {id} was called done: its file is there: {is_there}, {:?}", state(*id)));
        }
    }
    broken
}

/// Every N of "job N…" with these words behind it.
fn numbers_before(said: &str, words: &str) -> Vec<JobId> {
    let ends = said.split(words).collect::<Vec<_>>();
    let numbers = ends[..ends.len() - 1].iter().filter_map(|text| text.rsplit_once("job ")?.1.parse().ok());
    numbers.map(JobId).collect()
}

fn tasks_of(said: &str) -> Vec<(JobId, String)> {
    let lines = said.lines().filter(|line| line.contains(" is generating"));
    let task = |line: &str| {
        let id = numbers_before(line, " is generating").first().copied()?;
        let task = line.split_once("task.id=")?.1.split(' ').next()?;
        Some((id, task.trim_matches('"').to_owned()))
    };
    lines.map(|line| task(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

async fn prove(seeds: Range<u64>) {
    let mut tally = Tally::of("5 power");
    let kept = cuts(seeds, &mut tally).await;
    println!("{kept} acknowledgements were kept\n{}", table(std::slice::from_ref(&tally)));
    assert!(tally.verdict.broken.is_empty(), "broken, see above");
    let (fired, lives) = (tally.fired.values().sum::<u64>(), tally.lives);
    assert!(fired >= lives, "only {fired} cuts in {lives} lives came while there was work");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_cut() {
    prove(0..LIVES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "some fifteen hundred more cuts: ten minutes"]
async fn what_was_acknowledged_survives_many_more_power_cuts() {
    prove(LIVES..LIVES + 1000).await;
}

/// An image of each kind that can be had here, one after the other.
async fn on_each(work: impl AsyncFn(Image)) {
    for kind in Kind::ALL {
        match kind.lacks() {
            Some(why) => skipped(&format!("the control of power cuts on {why}")),
            None => work(Image::new(kind)).await,
        }
    }
}

/// The control: a cut takes what was not synced, and leaves what was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_takes_a_file_that_was_not_synced() {
    on_each(async |image| {
        let here = image.path();
        for (name, is_synced) in [("synced", true), ("not", false)] {
            let part = here.join(format!("{name}.part"));
            let mut file = File::create_new(&part).unwrap();
            file.write_all(&[7; 5000]).unwrap();
            if is_synced {
                file.sync_all().unwrap();
                disk::publish(&part, &here.join(name)).unwrap();
            } else {
                rustix::fs::rename(&part, here.join(name)).unwrap();
            }
        }
        image.cut(Cut::Nothing);
        image.comes_back().await;
        let length = |name: &str| here.join(name).metadata().map_or(0, |file| file.len());
        assert_eq!((length("synced"), length("not")), (5000, 0));
    })
    .await;
}

/// The control of the database: without syncs its acknowledged rows are lost, with them none is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_takes_rows_that_were_not_synced() {
    const ROWS: i64 = 50;
    on_each(async |image| {
        let lasting = rows_after_a_cut(&image, SqliteSynchronous::Full, ROWS).await;
        let careless = rows_after_a_cut(&image, SqliteSynchronous::Off, ROWS).await;
        assert_eq!(lasting, ROWS);
        assert!(careless < ROWS, "without a sync {careless} rows are left");
    })
    .await;
}

async fn rows_after_a_cut(image: &Image, synchronous: SqliteSynchronous, rows: i64) -> i64 {
    let path = image.path().join(format!("{synchronous:?}.db"));
    let options = |synchronous: SqliteSynchronous| {
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        options.journal_mode(SqliteJournalMode::Wal).synchronous(synchronous)
    };
    let mut made = options(SqliteSynchronous::Full).connect().await.unwrap();
    sqlx::query("CREATE TABLE kept (n INTEGER)").execute(&mut made).await.unwrap();
    made.close().await.unwrap();
    let mut writer = options(synchronous).connect().await.unwrap();
    for n in 0..rows {
        sqlx::query("INSERT INTO kept VALUES (?)").bind(n).execute(&mut writer).await.unwrap();
    }
    image.cut(Cut::Nothing);
    writer.close().await.ok();
    image.comes_back().await;
    let mut reader = options(SqliteSynchronous::Full).connect().await.unwrap();
    let count = sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&mut reader).await.unwrap();
    reader.close().await.unwrap();
    count
}

/// The control of the whole: the same daemon, whose syncs do nothing, breaks its promise, and the judge says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_syncs_are_lies_is_noticed() {
    on_each(async |image| {
        let setup = Setup { data_on: Some(image.path()), ..Setup::default() };
        let rig = Rig::with_jobs(JOBS, setup).await;
        let report = tempfile::NamedTempFile::new().unwrap();
        let lies = Fault { does: Does::NoSync, at: 1 };
        rig.end(rig.start_under(&shim::before(&rig, report.path(), Some(lies)))).await.exited(0);
        image.cut(Cut::Nothing);
        image.comes_back().await;
        let broken = broken_at_any_instant(&facts(&rig).await);
        assert!(broken.iter().any(|line| line.contains("it was charged and is queued")), "{broken:?}");
    })
    .await;
}

/// The words of the log that a life goes by.
#[test]
fn the_log_is_read() {
    let said = "T  INFO job 1 is generating job.id=1 task.id=n75kling3 state.to=\"generating\"\nT  INFO job 12 is done x";
    assert_eq!(tasks_of(said), [(JobId(1), "n75kling3".to_owned())]);
    assert_eq!(numbers_before(said, " is done"), [JobId(12)]);
}
