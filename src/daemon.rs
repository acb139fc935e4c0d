//! The composition root: builds everything, spawns it, supervises it and stops it in order. The only spawner besides the
//! loop in `worker`, which spawns its steps.

mod here;
mod notify;
mod settings;
mod tasks;

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::settings::{api_settings, claim_policy, output_settings};
use self::{
    settings::{
        download_policy, gate_policy, hooks, inbox_settings, media_settings, poll_policy, poll_settings,
        room_settings,
    },
    tasks::Tasks,
};
pub use crate::worker::download::OutputSettings;
use crate::{
    clock::Clock,
    config::{ApiKey, Config, OnInternalError, OnUncleanStop},
    disk::{self, lock::DirLock},
    domain::{
        Timestamp,
        hold::{Hold, HoldName},
    },
    intake::inbox::Inbox,
    provider::{Api, Media},
    store::{
        Access, Store, StoreError, World, doorbell::Doorbell, idle::Rest, open::OpenError,
        submit::ClaimPolicy,
    },
    worker::{
        answer::Answers,
        download::DownloadLane,
        errand::ErrandLane,
        evidence::Spool,
        hook::{Describe, HookLane},
        origin::Origin,
        poll::PollLane,
        recover::{Recovered, recover},
        room::Room,
        schedules::Schedules,
        submit::{SubmitLane, SubmitSettings},
    },
};

/// The shortest time between two questions of `--until-idle` whether anything moves.
const IDLE_PAUSE: Duration = Duration::from_millis(20);
/// The longest, when nothing was committed meanwhile.
const IDLE_LOOK: Duration = Duration::from_millis(500);

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// End when no job can move by itself.
    pub until_idle: bool,
    /// For whom the queue is.
    pub world: World,
    /// How hooks are told of a job.
    pub describe: Describe,
}

/// How a run ended, when it ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A person or systemd stopped it.
    Stopped,
    /// Nothing can move by itself.
    Idle {
        /// Jobs that failed during this run.
        failed: u64,
        /// Jobs that wait for a person.
        needs_person: u64,
    },
}

/// Why a run ended otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It never began, and a restart would not help: a missing key, another daemon, a newer schema.
    #[error("{0:#}")]
    Refused(anyhow::Error),
    /// It broke; a restart may help.
    #[error("{0:#}")]
    Broke(anyhow::Error),
}

/// Runs the daemon until `stop`, or until idle.
pub async fn run(
    config: &Config,
    key: &ApiKey,
    options: Options,
    clock: Clock,
    stop: CancellationToken,
) -> std::result::Result<Ended, Failure> {
    let _lock = lock(&config.data_dir, clock).map_err(at_start)?;
    let (store, writer) = Store::open(&config.database(), Access::Migrate).await.map_err(refused)?;
    let mut tasks = Tasks::new(stop.clone());
    tasks.writer(writer.run());
    let ended = async {
        store.stamp(&config.database(), options.world).await.map_err(refused)?;
        // Before anything asks for a path, or could be paid for.
        origin(config, &store, clock).begin().await.map_err(Failure::Broke)?;
        let lanes = build(config, key, &store, options, clock, &stop).await?;
        serve(lanes, &store, config, options, clock, &mut tasks, &stop).await.map_err(Failure::Broke)
    }
    .await;
    // In order: no new work, the lanes' steps in hand, then the writer that they report to, then the lock.
    stop.cancel();
    let lanes = tasks.join_lanes().await;
    if ended.is_ok() {
        tell_origin(config, &store, clock).await;
    }
    drop(store);
    let writer = tasks.join_writer().await;
    let ended = ended?;
    lanes.and(writer).map_err(Failure::Broke)?;
    info!("klingd has stopped");
    Ok(ended)
}

/// What keeps a run from beginning is a person's to mend, but for a full disk: that passes, and the next start finds out.
fn at_start(error: anyhow::Error) -> Failure {
    let full = |cause: &io::Error| matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    if error.chain().filter_map(|cause| cause.downcast_ref()).any(full) {
        Failure::Broke(error)
    } else {
        Failure::Refused(error)
    }
}

fn refused(error: StoreError) -> Failure {
    match error {
        StoreError::Open(OpenError::NotNow { .. }) => Failure::Broke(error.into()),
        StoreError::Open(_) => Failure::Refused(error.into()),
        other => Failure::Broke(other.into()),
    }
}

/// Takes the data directory for this process.
pub fn lock(data_dir: &Path, clock: Clock) -> Result<DirLock> {
    disk::create_root(data_dir)?;
    let who = format!("klingd, process {}, since {}", std::process::id(), clock.now());
    Ok(DirLock::acquire(data_dir, &who)?)
}

struct Lanes {
    submit: Arc<SubmitLane>,
    poll: Arc<PollLane>,
    download: Arc<DownloadLane>,
    errand: Arc<ErrandLane>,
    hook: Option<Arc<HookLane>>,
}

async fn build(
    config: &Config,
    key: &ApiKey,
    store: &Store,
    options: Options,
    clock: Clock,
    stop: &CancellationToken,
) -> std::result::Result<Lanes, Failure> {
    disk::create_root(&config.spool_dir()).map_err(|e| at_start(e.into()))?;
    disk::create_root(&config.staging_dir()).map_err(|e| at_start(e.into()))?;
    if !store.knows_root(&config.videos_root().to_string_lossy()).await.map_err(refused)? {
        // A root that was one before and is gone is waited for; one that can't be made is a mistake in the configuration.
        disk::create_root(config.videos_root()).map_err(|e| at_start(e.into()))?;
    }
    let api = Arc::new(Api::new(&api_settings(config, key)).map_err(|e| at_start(e.into()))?);
    let submit = submit_lane(config, key, store, Arc::clone(&api), clock);
    // What one lane learns the other knows.
    let schedules = submit.answers.schedules.clone();
    let polls = poll_settings(config, key);
    let poll = Arc::new(PollLane::new(store.clone(), Arc::clone(&api), clock, schedules, polls));
    let room = Arc::clone(&submit.room);
    let download = download_lane(config, store, room, clock, stop).map_err(at_start)?;
    Ok(Lanes {
        submit: Arc::new(submit),
        poll: Arc::clone(&poll),
        download: Arc::new(download),
        errand: Arc::new(ErrandLane { store: store.clone(), api, clock, polls: poll }),
        hook: hook_lane(config, store, options, clock, stop),
    })
}

/// The hook lane, where somebody wants to be told something.
fn hook_lane(
    config: &Config,
    store: &Store,
    options: Options,
    clock: Clock,
    stop: &CancellationToken,
) -> Option<Arc<HookLane>> {
    let hooks = hooks(config);
    let lane = || HookLane {
        store: store.clone(),
        clock,
        hooks,
        directory: config.data_dir.clone(),
        describe: options.describe,
        sandbox: options.world == World::Sandbox,
        stop: stop.clone(),
    };
    (!config.hooks.is_empty()).then(|| Arc::new(lane()))
}

/// What watches the places of the videos.
pub fn room(config: &Config, store: &Store, clock: Clock) -> Arc<Room> {
    let origin = origin(config, store, clock);
    Arc::new(Room::new(store.clone(), clock, spool(config), room_settings(config), origin))
}

fn origin(config: &Config, store: &Store, clock: Clock) -> Origin {
    Origin::new(store.clone(), clock, here::place(config))
}

/// The last requests of a run are told, too: a copy that is put in the database's place now lacks them.
async fn tell_origin(config: &Config, store: &Store, clock: Clock) {
    let told = async { anyhow::Ok(origin(config, store, clock).look().await??) };
    if let Err(why) = told.await {
        warn!("the output root does not know of the last requests: {why:#}");
    }
}

/// The download lane by itself.
///
/// # Errors
/// A template with a mistake, or an HTTP client that can't be made.
pub fn download_lane(
    config: &Config,
    store: &Store,
    room: Arc<Room>,
    clock: Clock,
    stop: &CancellationToken,
) -> Result<DownloadLane> {
    Ok(DownloadLane {
        store: store.clone(),
        media: Arc::new(Media::new(&media_settings(config))?),
        clock,
        policy: download_policy(config),
        output: output_settings(config)?,
        room,
        workers: config.download.workers,
        max_bytes: config.download.max_bytes,
        stop: stop.clone(),
        storing: AtomicUsize::default(),
        cleared_at: Mutex::default(),
    })
}

/// The submit lane by itself.
pub fn submit_lane(config: &Config, key: &ApiKey, store: &Store, api: Arc<Api>, clock: Clock) -> SubmitLane {
    SubmitLane {
        answers: answers(config, store, Some(Arc::clone(&api)), clock),
        api,
        policy: claim_policy(config, &key.fingerprint()),
        settings: SubmitSettings { workers: config.submit.workers },
        room: room(config, store, clock),
    }
}

fn spool(config: &Config) -> Spool {
    Spool::new(config.spool_dir(), config.data_dir.join("reserve"))
}

/// How many answers to submits are not in the database yet.
///
/// # Errors
/// The folder can't be looked through: what is in it may matter.
pub fn unread_answers(config: &Config) -> Result<usize> {
    let answers = spool(config).read_all().with_context(|| {
        format!(
            "{} can't be looked through for answers; try it as the daemon's user",
            config.spool_dir().display()
        )
    })?;
    Ok(answers.len())
}

fn answers(config: &Config, store: &Store, api: Option<Arc<Api>>, clock: Clock) -> Answers {
    Answers {
        store: store.clone(),
        clock,
        spool: spool(config),
        api,
        gate: gate_policy(config),
        hold_on_internal_error: config.submit.on_internal_error == OnInternalError::Hold,
        schedules: Schedules::new(store.clone(), poll_policy(config), config.poll.max_per_second),
    }
}

/// What a start does first, for a command that finds no daemon: spooled answers are replayed, and what was on the wire
/// is put in doubt. Works without a key. Refuses while somebody holds the data directory, and while there is an answer
/// that this user can't read: it may say what a person is about to decide.
pub async fn recover_alone(config: &Config, store: &Store, clock: Clock) -> Result<Recovered> {
    // A key that can't be used is as good as none: most answers are read without one.
    let api = config.api_key.as_ref().and_then(|key| Api::new(&api_settings(config, key)).ok());
    let answers = answers(config, store, api.map(Arc::new), clock);
    let spooled = answers.spool.read_all().with_context(|| {
        format!(
            "{} can't be looked through for answers; try it as the daemon's user",
            config.spool_dir().display()
        )
    })?;
    if let Some(Err((path, why))) = spooled.iter().find(|spooled| spooled.is_err()) {
        let path = path.display();
        return Err(anyhow!(
            "{path} may hold the answer and can't be read ({why}); try it as the daemon's user, or move it away"
        ));
    }
    if spooled.is_empty() && store.on_the_wire().await?.is_empty() {
        // The lock is not touched without need: a daemon that starts in that moment would be refused.
        return Ok(Recovered::default());
    }
    let _lock = lock(&config.data_dir, clock)?;
    recover_and_hold(&answers, config).await
}

async fn serve(
    lanes: Lanes,
    store: &Store,
    config: &Config,
    options: Options,
    clock: Clock,
    tasks: &mut Tasks,
    stop: &CancellationToken,
) -> Result<Ended> {
    let started = clock.now();
    // Before recovery: what it puts in doubt is told.
    store.keep_hooks(config.hooks.iter().map(|hook| (hook.name.clone(), hook.on.clone())).collect()).await?;
    recover_and_hold(&lanes.submit.answers, config).await?;
    // A disk that has room by now must not look, to whoever asks whether anything moves, like one that is full.
    lanes.submit.room.look().await?;
    for Hold { name, since, why, .. } in store.holds().await?.into_iter().filter(|h| h.holds(started)) {
        warn!(hold = name.as_str(), %since, why, "nothing is submitted: {}", name.remedy());
    }
    let policy = lanes.submit.policy.clone();
    let doorbell = Doorbell::hang(&config.doorbell());
    if let Err(error) = &doorbell {
        warn!("no doorbell ({error}): commands of other processes are noticed within seconds, not at once");
    }
    let (waiting, files_wait) = watch::channel(config.inbox.enabled);
    if config.inbox.enabled {
        let inbox = Inbox::open(store.clone(), clock, inbox_settings(config), waiting).await?;
        tasks.beside("inbox", inbox.run(stop.clone()));
    }
    tasks.lane(lanes.submit, clock);
    tasks.lane(lanes.poll, clock);
    tasks.lane(lanes.download, clock);
    tasks.lane(lanes.errand, clock);
    if let Some(hook) = lanes.hook {
        tasks.lane(hook, clock);
    }
    if let Ok(doorbell) = doorbell {
        tasks.answer_doorbell(doorbell, Arc::clone(store.bells()));
    }
    if notify::is_asked_for() {
        let per_day = config.budget.per_day;
        tasks.beside("notify", notify::run(store.clone(), per_day, clock, stop.clone()));
    }
    info!(data_dir = %config.data_dir.display(), base_url = %config.api.base_url, "klingd is running");
    tokio::select! {
        // First, since a stop also ends the tasks: whoever looked at them before would call that unexpected.
        biased;
        () = stop.cancelled() => Ok(Ended::Stopped),
        error = tasks.first_end() => Err(error),
        idle = idle(store, &policy, files_wait, started, clock), if options.until_idle => idle,
    }
}

/// Recovery, and what it means for submits. The hold stands before the first job leaves the wire: killed in between, the
/// next start would find nobody there.
async fn recover_and_hold(answers: &Answers, config: &Config) -> Result<Recovered> {
    let store = &answers.store;
    let on_the_wire = store.on_the_wire().await?.len();
    let stands = store.holds().await?.iter().any(|h| h.name == HoldName::UncleanStop);
    let holds = on_the_wire > 0 && !stands && config.submit.on_unclean_stop == OnUncleanStop::Hold;
    if holds {
        let why = format!("{on_the_wire} jobs were on the wire when klingd was killed");
        let since = answers.clock.now();
        store.hold(Hold { name: HoldName::UncleanStop, since, why, until: None, probe_at: None }).await?;
    }
    let recovered = recover(answers).await.context("recovery at the start failed")?;
    let Recovered { replayed, in_doubt } = recovered;
    if replayed + in_doubt > 0 {
        warn!(replayed, in_doubt, "the last run ended while requests were on the wire");
    }
    if holds && in_doubt == 0 {
        // Evidence settled every one of them.
        store.lift(vec![HoldName::UncleanStop]).await?;
    }
    Ok(recovered)
}

async fn idle(
    store: &Store,
    policy: &ClaimPolicy,
    mut files_wait: watch::Receiver<bool>,
    since: Timestamp,
    clock: Clock,
) -> Result<Ended> {
    let mut commits = store.bells().commits.subscribe();
    loop {
        commits.mark_unchanged();
        let now = clock.now();
        // Before the queue is asked: it then knows the jobs of every file that has stopped waiting.
        let files_waited = *files_wait.borrow_and_update();
        match store.rest(policy, since, now, clock.day_start(now)).await? {
            Rest::Still { failed, needs_person } => {
                // After it: what the last jobs came to is still to be written beside their files.
                if !files_waited && !store.files_pending().await? && !store.hooks_wait().await? {
                    return Ok(Ended::Idle { failed, needs_person });
                }
            }
            Rest::Moving => {}
        }
        // Not at every commit: under load there are thousands a second, and the last one is waited for all the same.
        tokio::time::sleep(IDLE_PAUSE).await;
        tokio::select! {
            changed = commits.changed() => changed.context("the writer is gone")?,
            Ok(()) = files_wait.changed() => {}
            () = tokio::time::sleep(IDLE_LOOK) => {}
        }
    }
}
