//! The rig: the daemon in this process, over real sockets to the provider's double and with a real database.
//!
//! A test queues jobs, runs the daemon ([`Rig::run`] until nothing moves by itself, [`Rig::run_until`] until the double
//! has seen something), asks what became of the jobs, and ends with [`Rig::check`], which holds the promise of the
//! design against the double's own books. Nothing sleeps: a run ends by what happens, and durable waits are cut short
//! as a person would ([`Rig::hurry`], [`Rig::resume`]).

#![allow(dead_code, reason = "each test file uses its part of the rig")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod promise;

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use klingd::{
    clock::Clock,
    config::{ApiKey, Config, Environment, Overrides},
    daemon::{self, Ended},
    domain::{
        Credits, HoldName, Job, JobId, Request, Timestamp,
        hold::Hold,
        job::NewJob,
        job_type::JobType,
        request::Draft,
        state::{Label, TaskId},
    },
    provider::Api,
    sandbox::{AcceptKeys, Model, Options, Sandbox, SeenRequest},
    store::{
        Access, Store, World, doorbell,
        download::Output,
        enqueue::NewBatch,
        person::Edit,
        view::{AttemptRow, HistoryRow},
    },
    worker::{Lane, submit::SubmitLane},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How the key of every rig begins; no artefact may contain it.
pub const KEY: &str = "sk-rig-4f1c0de5ecre7";
/// What [`job`] costs: three silent seconds of the standard model.
pub const PRICE: u64 = 120;
/// A run that has not ended by then hangs. It only bounds a failing test; no passing one waits for it.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// A provider, a data directory and a configuration in which nothing takes long.
pub struct Rig {
    /// The provider.
    pub sandbox: Sandbox,
    /// What the next run goes by.
    pub config: Config,
    /// The key of the next run.
    pub key: ApiKey,
    /// The test's own handle to the queue, as a command has one.
    pub store: Store,
    dir: TempDir,
}

impl Rig {
    /// A rig whose provider has these faults.
    pub async fn new(faults: &str) -> Self {
        Self::with(Options { faults: faults.parse().unwrap(), ..provider() }).await
    }

    /// A rig with this provider, which takes this rig's key alone if it takes any: a daemon that an interrupted run has
    /// left behind gets a 401 at whatever double has its port now.
    pub async fn with(mut options: Options) -> Self {
        let secret = format!("{KEY}-{:016x}", Clock.number());
        if options.keys == AcceptKeys::Any {
            options.keys = AcceptKeys::Only(vec![secret.clone()]);
        }
        let (sandbox, server) = Sandbox::bind(options).await.unwrap();
        spawn(server.serve(CancellationToken::new()));
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir, &sandbox.base_url(), &secret);
        let key = config.require_key().unwrap().clone();
        klingd::disk::create_root(&config.data_dir).unwrap();
        let (store, writer) = Store::open(&config.database(), Access::Use).await.unwrap();
        spawn(writer.run());
        Self { sandbox, config, key, store, dir }
    }

    /// Queues [`job`] with this prompt.
    pub async fn enqueue(&self, prompt: &str) -> JobId {
        self.enqueue_job(job(prompt)).await
    }

    /// Queues a job; a running daemon notices at once.
    pub async fn enqueue_job(&self, job: NewJob) -> JobId {
        let batch = NewBatch { name: "rig".into(), source: "rig".into(), max_credits: None, jobs: vec![job] };
        let queued = self.store.enqueue(batch, now()).await.unwrap();
        assert!(!queued[0].existing, "a test's jobs are all different");
        doorbell::ring(&self.config.doorbell());
        queued[0].id
    }

    /// Runs the daemon until nothing moves by itself.
    pub async fn run(&self) -> Ended {
        let run = self.daemon(true, CancellationToken::new());
        let ended = tokio::time::timeout(HANGS_AFTER, run).await;
        ended.unwrap_or_else(|_| panic!("it still moves: {:#?}", self.sandbox.requests()))
    }

    /// Runs the daemon until the provider has seen this, then stops it. What was on the wire is answered and committed.
    pub async fn run_until(&self, seen: impl Fn(&Model) -> bool) {
        let stop = CancellationToken::new();
        let run = self.daemon(false, stop.clone());
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => panic!("the daemon ended early: {ended:?}"),
            () = self.sandbox.wait_until(seen) => {}
            () = tokio::time::sleep(HANGS_AFTER) => panic!("never seen: {:#?}", self.sandbox.requests()),
        }
        stop.cancel();
        assert_eq!(run.await, Ended::Stopped);
    }

    /// The daemon itself, for tests that do something beside it.
    pub async fn daemon(&self, until_idle: bool, stop: CancellationToken) -> Ended {
        let describe =
            |job: &Job, _: &[Output]| serde_json::json!({ "id": job.id, "state": job.state.label() });
        let options = daemon::Options { until_idle, world: World::Sandbox, describe };
        daemon::run(&self.config, &self.key, options, Clock, stop).await.unwrap()
    }

    /// The submit lane by itself, for tests that stand between its look and its step.
    pub fn submit_lane(&self) -> SubmitLane {
        for dir in [self.config.spool_dir(), self.config.videos_root().to_owned()] {
            klingd::disk::create_root(&dir).unwrap();
        }
        let api = Arc::new(Api::new(&daemon::api_settings(&self.config, &self.key)).unwrap());
        daemon::submit_lane(&self.config, &self.key, &self.store, api, Clock)
    }

    /// One look of the submit lane and its steps, for what the provider never sees. Says how many there were.
    pub async fn submit_step(&self) -> usize {
        let lane = self.submit_lane();
        let work = lane.look(self.config.submit.workers, &HashSet::new()).await.unwrap().work;
        let steps = work.len();
        for (_, intent) in work {
            lane.step(intent).await.unwrap();
        }
        steps
    }

    /// A person's `set --not-before` with a time that has come: a queued job's wait is over.
    pub async fn hurry(&self, id: JobId) {
        let edit = Edit { not_before: Some(now()), ..Edit::default() };
        self.store.edit(id, edit, now()).await.unwrap();
    }

    /// A person's `pause`, or a hold that klingd itself sets.
    pub async fn hold(&self, name: HoldName) {
        let hold = Hold { name, since: now(), why: "a test says so".into(), until: None, probe_at: None };
        self.store.hold(hold).await.unwrap();
    }

    /// A person's `resume`, which must lift exactly this.
    pub async fn resume(&self, hold: HoldName) {
        assert_eq!(self.held().await, [hold]);
        assert_eq!(self.store.lift(vec![hold]).await.unwrap(), [hold]);
    }

    /// The job as it is stored.
    pub async fn job(&self, id: JobId) -> Job {
        self.store.job(id).await.unwrap()
    }

    /// The name of its state.
    pub async fn label(&self, id: JobId) -> Label {
        self.job(id).await.state.label()
    }

    /// The task it follows.
    pub async fn task(&self, id: JobId) -> TaskId {
        self.job(id).await.state.task().expect("a job with a task").clone()
    }

    /// Its attempts.
    pub async fn attempts(&self, id: JobId) -> Vec<AttemptRow> {
        self.store.attempts(id).await.unwrap()
    }

    /// What happened to it.
    pub async fn history(&self, id: JobId) -> Vec<HistoryRow> {
        self.store.history(id).await.unwrap()
    }

    /// The names of the holds.
    pub async fn held(&self) -> Vec<HoldName> {
        self.holds().await.into_iter().map(|hold| hold.name).collect()
    }

    /// The holds.
    pub async fn holds(&self) -> Vec<Hold> {
        self.store.holds().await.unwrap()
    }

    /// Every paid request that arrived, whatever was answered.
    pub fn posts(&self) -> Vec<SeenRequest> {
        self.requests(is_post)
    }

    /// Every status call for a task that arrived; the key check asks for none that exists.
    pub fn polls(&self) -> Vec<SeenRequest> {
        self.requests(is_poll)
    }

    /// Every request for a video that arrived, hops of redirects included.
    pub fn fetches(&self) -> Vec<SeenRequest> {
        self.requests(is_fetch)
    }

    fn requests(&self, of: fn(&SeenRequest) -> bool) -> Vec<SeenRequest> {
        self.sandbox.requests().into_iter().filter(of).collect()
    }

    /// The published videos of a job, in their order.
    pub async fn videos(&self, id: JobId) -> Vec<PathBuf> {
        let outputs = self.store.outputs(id).await.unwrap();
        let published = outputs.into_iter().filter(|output| output.published_at.is_some());
        published.filter_map(|output| Some(PathBuf::from(output.file?.path))).collect()
    }

    /// Every fault that was asked for was seen by the client: a test of a fault that never fired tests nothing.
    pub fn all_fired(&self) {
        let fired = self.sandbox.fired();
        assert!(fired.values().all(|times| *times > 0), "a fault never fired: {fired:?}");
    }
}

/// Whether it is a paid request.
pub fn is_post(request: &SeenRequest) -> bool {
    request.method == "POST" && request.path == "/api/generate"
}

/// Whether it asks for a task.
pub fn is_poll(request: &SeenRequest) -> bool {
    request.path == "/api/status" && request.task_id.as_deref().is_some_and(|id| id.starts_with("n7"))
}

/// Whether it asks for a video.
pub fn is_fetch(request: &SeenRequest) -> bool {
    request.path.starts_with("/videos/")
}

/// How many requests of this kind the provider has seen, for [`Rig::run_until`].
pub fn seen(model: &Model, of: fn(&SeenRequest) -> bool) -> usize {
    model.requests().iter().filter(|request| of(request)).count()
}

/// A provider that renders at once and answers at once.
pub fn provider() -> Options {
    Options { render_time: Duration::ZERO..=Duration::ZERO, seed: 7, ..Options::new(provider_now) }
}

/// The cheapest job, with this prompt.
pub fn job(prompt: &str) -> NewJob {
    let draft = Draft { duration: Some(3), sound: Some(false), ..draft(prompt) };
    new_job(&draft)
}

/// The fields that every job of a test has.
pub fn draft(prompt: &str) -> Draft {
    Draft {
        job_type: Some(JobType::StdTextToVideo.as_str().into()),
        prompt: Some(prompt.into()),
        ..Draft::default()
    }
}

/// A job for these fields.
pub fn new_job(draft: &Draft) -> NewJob {
    let request = Request::parse(draft).unwrap();
    NewJob::of(request, "rig")
}

/// Now, by the clock of everybody here.
pub fn now() -> Timestamp {
    Clock.now()
}

/// So many milliseconds.
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// So many [`PRICE`]s.
pub fn prices(n: u64) -> Credits {
    Credits::new(PRICE).times(n)
}

/// When the provider saw it, on klingd's scale.
pub fn at(request: &SeenRequest) -> Timestamp {
    request.at.into()
}

fn provider_now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(Clock.now().as_millis()).unwrap()
}

/// As a person would set it up, then waits that suit a test: they are below what a configuration may say.
fn config(dir: &TempDir, base_url: &str, secret: &str) -> Config {
    let environment = Environment {
        variables: [("KLINGD_API__KEY", secret), ("KLINGD_API__BASE_URL", base_url)]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        home: Some(dir.path().join("home")),
        current_dir: dir.path().to_owned(),
        etc: dir.path().join("etc"),
    };
    let overrides = Overrides { data_dir: Some(dir.path().join("data")), ..Overrides::default() };
    let mut config = Config::load(&overrides, &environment).unwrap();
    assert!(config.download.allow_private, "the API itself is on a loopback address");
    config.output.min_free_bytes = 0;
    (config.submit.cooldown, config.submit.cooldown_max) = (ms(20), ms(50));
    (config.poll.first, config.poll.every, config.poll.slowest) = (Some(ms(20)), Some(ms(20)), ms(50));
    (config.poll.confirm_failed, config.poll.max_per_second) = (ms(40), 1000.0);
    config.download.retry_base = ms(20);
    config
}

#[expect(clippy::disallowed_methods, reason = "what stands beside the daemon is not the daemon's to spawn")]
fn spawn<T: Send + 'static>(beside: impl Future<Output = T> + Send + 'static) {
    tokio::spawn(beside);
}
