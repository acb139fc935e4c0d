//! The rig: a data directory, the provider's double in this process, out of reach of any kill, and the real daemon as a
//! child. The double's ledger is the judge of money; `promise` is the judge of everything else.

mod daemon;
mod facts;
mod gate;
mod promise;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use klingd::clock::Clock;
use klingd::disk;
use klingd::domain::job::NewJob;
use klingd::domain::request::Draft;
use klingd::domain::{JobId, Request, State, TaskId, Timestamp};
use klingd::sandbox::{AcceptKeys, Model, Options, Sandbox};
use klingd::store::enqueue::NewBatch;
use klingd::store::person::Resolution;
use klingd::store::{Access, Store, doorbell};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::tally::Verdict;

pub use self::daemon::{Daemon, End};
pub use self::facts::{Facts, facts};
pub use self::gate::Gate;
pub use self::promise::{at_any_instant, at_rest, broken_at_any_instant, broken_at_rest};

/// How the key begins that the daemon is given. Long and odd, so that it is found wherever it leaks to.
pub const KEY: &str = "kling-rig-0f3a9c71d2-not-to-be-seen";

/// Longer than anything takes on a busy machine; a test that hangs must fail and say where.
const PATIENCE: Duration = Duration::from_secs(100);

/// What differs between rigs.
#[derive(Default)]
pub struct Setup<'a> {
    /// The double's faults.
    pub faults: &'a str,
    /// The double's seed.
    pub seed: u64,
    /// Pads the videos to this size.
    pub video_bytes: Option<u64>,
    /// One job after the other, through every step.
    pub serial: bool,
    /// Where the data directory is made, if not among all temporary files.
    pub data_on: Option<&'a Path>,
    /// Where the videos go, if not into the data directory.
    pub videos_on: Option<&'a Path>,
}

pub struct Rig {
    pub sandbox: Sandbox,
    dir: TempDir,
    videos: PathBuf,
    variables: BTreeMap<&'static str, String>,
    jobs: Vec<(JobId, String)>,
    /// Everything that every daemon has said.
    log: Mutex<String>,
    /// What was checked so far.
    checked: Mutex<Verdict>,
    /// The most descriptors that a daemon was seen with.
    descriptors: AtomicUsize,
}

impl Rig {
    pub async fn new(setup: Setup<'_>) -> Self {
        // Each rig's own: a daemon that an interrupted run has left behind gets a 401 at whatever double has its port now.
        let key = format!("{KEY}-{:016x}", Clock.number());
        let options = Options {
            seed: setup.seed,
            render_time: Duration::ZERO..=Duration::ZERO,
            video_bytes: setup.video_bytes,
            faults: setup.faults.parse().unwrap(),
            keys: AcceptKeys::Only(vec![key.clone()]),
            ..Options::new(now)
        };
        let (sandbox, server) = Sandbox::bind(options).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "no daemon here that could spawn it")]
        tokio::spawn(server.serve(CancellationToken::new()));
        let dir = match setup.data_on {
            Some(place) => tempfile::tempdir_in(place),
            None => tempfile::tempdir(),
        };
        let dir = dir.unwrap();
        let videos = setup.videos_on.map_or_else(|| dir.path().join("videos"), Path::to_owned);
        let mut variables = variables(&sandbox.base_url(), &key, &videos);
        // An empty file of its own: the configuration of this machine is none of its business.
        let config = dir.path().join("klingd.toml");
        File::create(&config).unwrap();
        variables.insert("KLINGD_CONFIG", config.to_str().unwrap().to_owned());
        if setup.serial {
            let one =
                ["KLINGD_SUBMIT__WORKERS", "KLINGD_SUBMIT__START_IN_FLIGHT", "KLINGD_SUBMIT__MAX_IN_FLIGHT"];
            variables.extend(
                one.into_iter().chain(["KLINGD_DOWNLOAD__WORKERS"]).map(|name| (name, "1".to_owned())),
            );
        }
        Self {
            sandbox,
            dir,
            videos,
            variables,
            jobs: Vec::new(),
            log: Mutex::default(),
            checked: Mutex::default(),
            descriptors: AtomicUsize::new(0),
        }
    }

    /// A rig with so many jobs in its queue.
    pub async fn with_jobs(count: usize, setup: Setup<'_>) -> Self {
        let mut rig = Self::new(setup).await;
        rig.enqueue(count).await;
        rig
    }

    /// Changes one variable of the daemons to come.
    pub fn set(&mut self, variable: &'static str, value: impl Into<String>) {
        self.variables.insert(variable, value.into());
    }

    /// Puts a closed gate between the daemons to come and the double.
    pub async fn gate(&mut self) -> Gate {
        let gate = Gate::before(&self.sandbox).await;
        self.set("KLINGD_API__BASE_URL", gate.base_url());
        gate
    }

    /// Queues so many more jobs, each with a prompt of its own, and gives their numbers.
    pub async fn enqueue(&mut self, count: usize) -> Vec<JobId> {
        let first = self.jobs.len() + 1;
        let prompts: Vec<String> = (first..first + count).map(|n| format!("job {n} of the rig")).collect();
        let batch = NewBatch {
            name: "rig".to_owned(),
            source: "rig".to_owned(),
            max_credits: None,
            jobs: prompts.iter().map(|prompt| new_job(prompt)).collect(),
        };
        let queued = self.store(async |store| store.enqueue(batch, clock()).await.unwrap()).await;
        let ids: Vec<JobId> = queued.iter().map(|job| job.id).collect();
        self.jobs.extend(ids.iter().copied().zip(prompts));
        ids
    }

    /// Makes jobs that others have queued the rig's own.
    pub fn knows(&mut self, jobs: Vec<(JobId, String)>) {
        self.jobs = jobs;
    }

    /// The jobs and their prompts.
    pub fn jobs(&self) -> &[(JobId, String)] {
        &self.jobs
    }

    /// Works on the queue as any other command would, the daemon up or down, and rings its doorbell.
    pub async fn store<T>(&self, work: impl AsyncFnOnce(Store) -> T) -> T {
        disk::create_root(self.data_dir()).unwrap();
        let value = with_store(&self.data_dir().join("klingd.db"), work).await;
        self.ring();
        value
    }

    /// Makes the daemon look at its queue.
    pub fn ring(&self) {
        doorbell::ring(&self.data_dir().join("doorbell.sock"));
    }

    /// Where one job is.
    pub async fn state(&self, job: JobId) -> State {
        self.store(async |store| store.job(job).await.unwrap().state).await
    }

    /// As if the disk of the videos were unmounted: they are gone, and where they were is an empty folder.
    pub async fn take_the_videos_away(&self) {
        disk::root::establish(&self.videos).unwrap();
        let root = self.videos.to_str().unwrap().to_owned();
        self.store(async |store| store.remember_root(&root).await.unwrap()).await;
        disk::rename_no_clobber(&self.videos, &self.away()).unwrap();
        std::fs::create_dir(&self.videos).unwrap();
    }

    /// As if it were mounted again. Nothing may stand where it was.
    pub fn bring_the_videos_back(&self) {
        if self.away().exists() {
            std::fs::remove_dir(&self.videos).expect("nothing was written where a disk is not mounted");
            disk::rename_no_clobber(&self.away(), &self.videos).unwrap();
        }
    }

    fn away(&self) -> PathBuf {
        self.videos.with_extension("away")
    }

    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn videos(&self) -> &Path {
        &self.videos
    }

    /// A daemon that ends when nothing moves any more.
    pub fn start(&self) -> Daemon {
        self.start_with(&["--until-idle"], "")
    }

    /// A daemon that stays.
    pub fn start_to_stay(&self) -> Daemon {
        self.start_with(&[], "")
    }

    /// A daemon in which these points are armed.
    pub fn start_armed(&self, points: &str) -> Daemon {
        self.start_with(&["--until-idle"], points)
    }

    /// A daemon that ends when nothing moves any more, with more in its environment.
    pub fn start_under(&self, environment: &[(&str, OsString)]) -> Daemon {
        let mut command = self.daemon(&["--until-idle"]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Daemon::start(command)
    }

    fn daemon(&self, arguments: &[&str]) -> Command {
        let mut command = self.verb("run");
        command.args(arguments);
        command
    }

    /// A command on this queue.
    pub fn verb(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_klingd"));
        command.env_clear().envs(&self.variables).arg("--data-dir").arg(self.data_dir()).arg(verb);
        command
    }

    fn start_with(&self, arguments: &[&str], points: &str) -> Daemon {
        let mut command = self.daemon(arguments);
        if !points.is_empty() {
            command.env(klingd::failpoint::VARIABLE, points);
        }
        Daemon::start(command)
    }

    /// A command of a person or a program, to its end.
    pub async fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_klingd"));
        command.env_clear().envs(&self.variables).args(arguments).arg("--data-dir").arg(self.data_dir());
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        within(|| format!("{arguments:?}"), command.output()).await.unwrap()
    }

    /// Waits until the double sees something, which only a daemon that lives can make it see.
    pub async fn sees(&self, daemon: &mut Daemon, what: &str, seen: impl Fn(&Model) -> bool) {
        let came = within(|| format!("the double sees {what}"), async {
            tokio::select! {
                () = self.sandbox.wait_until(seen) => true,
                () = daemon.gone() => false,
            }
        });
        let came = came.await;
        assert!(came, "the daemon ended before the double saw {what}; it said:\n{}", daemon.said());
    }

    /// Waits until a POST has reached the double, which has decided about the money then.
    pub async fn on_the_wire(&self, daemon: &mut Daemon) {
        let paid = |model: &Model| model.requests().iter().any(|request| request.method == "POST");
        self.sees(daemon, "a POST", paid).await;
    }

    /// Waits for a daemon's end and keeps what it said.
    pub async fn end(&self, daemon: Daemon) -> End {
        let end = daemon.end().await;
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push_str(&end.log);
        end
    }

    /// Kills a daemon wherever it stands.
    pub async fn kill(&self, daemon: Daemon) {
        daemon.signal(rustix::process::Signal::KILL);
        let end = self.end(daemon).await;
        assert!(end.was_killed(), "{}; it said:\n{}", end.status, end.log);
    }

    /// Runs a daemon in which a point is armed; the kill must come. What holds at any instant must hold then.
    pub async fn run_to_its_death(&self, points: &str) {
        let end = self.end(self.start_armed(points)).await;
        assert!(end.was_killed(), "{points} was never reached: {}; it said:\n{}", end.status, end.log);
        self.holds_at_any_instant().await;
    }

    /// Runs a daemon until nothing moves, and checks the whole promise.
    pub async fn run_to_rest(&self) -> Facts {
        let end = self.end(self.start()).await;
        let facts = facts(self).await;
        // 10: a person is needed; only doubt may need one here.
        end.exited(if facts.in_doubt().next().is_some() { 10 } else { 0 });
        self.judge(at_rest(&facts, |_| false), &end.log);
        facts
    }

    /// Checks what must hold even with the daemon killed a moment ago.
    pub async fn holds_at_any_instant(&self) {
        self.judge(at_any_instant(&facts(self).await), &self.said());
    }

    /// Counts what was checked; fails with every broken line of the promise, and with what led there.
    #[track_caller]
    pub fn judge(&self, verdict: Verdict, log: &str) {
        assert!(verdict.broken.is_empty(), "{}\nthe log:\n{log}", verdict.broken.join("\n"));
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).add(&verdict);
    }

    /// What was checked so far.
    pub fn checked(&self) -> Verdict {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the descriptors of a daemon that lives.
    pub fn count_descriptors(&self, daemon: &Daemon) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count);
        self.descriptors.fetch_max(open, Ordering::Relaxed);
    }

    /// The most that were ever counted.
    pub fn most_descriptors(&self) -> usize {
        self.descriptors.load(Ordering::Relaxed)
    }

    /// What every daemon of this rig has said.
    pub fn said(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A person looks at the provider's panel and settles every doubt truthfully.
    pub async fn tell_the_truth(&self) {
        let tasks = self.sandbox.tasks();
        let truth = |prompt: &str| match tasks.iter().find(|task| task.prompt == prompt) {
            Some(task) => Resolution::Adopt(TaskId::parse(&task.id).unwrap()),
            None => Resolution::NotCharged,
        };
        self.store(async |store| {
            for (id, prompt) in &self.jobs {
                if let State::InDoubt { attempt, .. } = store.job(*id).await.unwrap().state {
                    store.resolve(*id, attempt, truth(prompt), None, clock()).await.unwrap();
                }
            }
        })
        .await;
    }

    /// Settles what is in doubt and runs again, until every job is done; each was charged once then.
    pub async fn finish(&self) {
        /// Faults that are still armed may put a job in doubt again.
        const ROUNDS: usize = 10;
        for _ in 0..ROUNDS {
            if self.run_to_rest().await.in_doubt().next().is_none() {
                for (_, prompt) in &self.jobs {
                    assert_eq!(self.sandbox.charges_for(prompt), 1, "{prompt}");
                }
                return;
            }
            self.tell_the_truth().await;
        }
        panic!("there was always a job in doubt, after {ROUNDS} rounds of the truth");
    }
}

/// `work` on a database, beside the writer that it needs.
async fn with_store<T>(database: &Path, work: impl AsyncFnOnce(Store) -> T) -> T {
    let (store, writer) = Store::open(database, Access::Use).await.unwrap();
    let (written, value) = tokio::join!(writer.run(), work(store));
    written.unwrap();
    value
}

/// `future`, or a failure that says what was waited for.
pub async fn within<T>(what: impl Fn() -> String, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain: {}", PATIENCE.as_secs(), what()),
    }
}

/// Looks again and again until it is so. For what the daemon announces to nobody outside: rows and files.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    within(|| what.to_owned(), async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub fn clock() -> Timestamp {
    Clock.now()
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(clock().as_millis()).unwrap()
}

fn variables(base_url: &str, key: &str, videos: &Path) -> BTreeMap<&'static str, String> {
    let fast = "100ms";
    let all = [
        ("KLINGD_API__BASE_URL", base_url),
        ("KLINGD_API__KEY", key),
        ("KLINGD_POLL__FIRST", fast),
        ("KLINGD_POLL__EVERY", fast),
        ("KLINGD_POLL__SLOWEST", "200ms"),
        ("KLINGD_POLL__MAX_PER_SECOND", "100"),
        ("KLINGD_SUBMIT__COOLDOWN", fast),
        ("KLINGD_SUBMIT__COOLDOWN_MAX", "1s"),
        ("KLINGD_DOWNLOAD__RETRY_BASE", fast),
        ("KLINGD_DOWNLOAD__IDLE_TIMEOUT", "1s"),
        ("KLINGD_OUTPUT__TEMPLATE", "{id}.mp4"),
        ("KLINGD_OUTPUT__MIN_FREE", "0 B"),
        ("KLINGD_LOG__FORMAT", "text"),
        ("KLINGD_LOG__LEVEL", "debug"),
    ];
    let root = ("KLINGD_OUTPUT__ROOT", videos.to_str().unwrap());
    all.into_iter().chain([root]).map(|(name, value)| (name, value.to_owned())).collect()
}

/// A job with this prompt.
pub fn new_job(prompt: &str) -> NewJob {
    let draft = Draft {
        job_type: Some("pro-text-to-video".to_owned()),
        prompt: Some(prompt.to_owned()),
        duration: Some(3),
        ..Draft::default()
    };
    let request = Request::parse(&draft).unwrap();
    NewJob::of(request, "rig")
}
