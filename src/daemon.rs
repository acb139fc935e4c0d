//! The composition root: builds everything, spawns it, supervises it and stops it in order. The only spawner besides the
//! loop in `worker`, which spawns its steps.

mod endpoint;
mod health;
mod here;
mod lanes;
mod notify;
mod reload;
mod settings;
mod tasks;
mod watchdog;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    endpoint::Desk,
    health::Phase,
    lanes::{Ground, Live, answers, hook_names, origin},
    notify::News,
    reload::Swap,
    tasks::Tasks,
    watchdog::Hung,
};
pub use self::{
    lanes::{download_lane, room, submit_lane, unread_answers},
    reload::Reload,
    settings::{api_settings, claim_policy, output_settings},
};
pub use crate::worker::download::OutputSettings;
use crate::{
    clock::Clock,
    config::{ApiKey, Config, OnUncleanStop},
    disk::{self, lock::DirLock},
    domain::{
        Timestamp,
        hold::{Hold, HoldName},
    },
    intake::inbox::{self, Inbox},
    provider::Api,
    store::{Access, Store, StoreError, World, doorbell::Doorbell, idle::Rest, open::OpenError},
    worker::{
        answer::Answers,
        hook::Describe,
        recover::{Recovered, recover},
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
    #[error(transparent)]
    Refused(anyhow::Error),
    /// It broke; a restart may help.
    #[error(transparent)]
    Broke(anyhow::Error),
}

/// Runs the daemon until `stop`, or until idle, with this configuration to its end.
pub async fn run(
    config: &Config,
    key: &ApiKey,
    options: Options,
    clock: Clock,
    stop: CancellationToken,
) -> std::result::Result<Ended, Failure> {
    run_reloading(config, key, options, Reload::never(), clock, stop).await
}

/// The same, and reads the configuration again when it is asked to.
pub async fn run_reloading(
    config: &Config,
    key: &ApiKey,
    options: Options,
    reload: Reload,
    clock: Clock,
    stop: CancellationToken,
) -> std::result::Result<Ended, Failure> {
    let _lock = lock(&config.data_dir, clock).map_err(at_start)?;
    let (store, writer) = Store::open(&config.database(), Access::Migrate).await.map_err(refused)?;
    let mut tasks = Tasks::new(stop.clone());
    tasks.writer(writer.run());
    let ground = Ground { store, clock, stop };
    let ended = async {
        ground.store.stamp(&config.database(), options.world).await.map_err(refused)?;
        // Before anything that is told: a copy is held, recovery puts jobs in doubt.
        ground.store.keep_hooks(hook_names(config)).await.map_err(refused)?;
        // Before anything asks for a path, or could be paid for.
        origin(config, &ground.store, clock).begin().await.map_err(Failure::Broke)?;
        let live = Live::begin(config, key, options, &ground).await?;
        serve(live, &ground, options, reload, &mut tasks).await.map_err(Failure::Broke)
    }
    .await;
    // In order: no new work, the lanes' steps in hand and who tells of them, then the writer that they report to, then the
    // lock.
    ground.stop.cancel();
    let lanes = tasks.join_lanes().await;
    tasks.join_witnesses().await;
    if ended.is_ok() {
        tell_origin(config, &ground.store, clock).await;
    }
    drop(ground);
    let writer = tasks.join_writer().await;
    let ended = ended?;
    lanes.and(writer).map_err(Failure::Broke)?;
    info!("klingd has stopped");
    Ok(ended)
}

/// What keeps a run from beginning is a person's to mend, but for what passes, a full disk first of all: the next start finds
/// out.
fn at_start(error: anyhow::Error) -> Failure {
    if error.chain().filter_map(|cause| cause.downcast_ref()).any(disk::passes) {
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

/// The last requests of a run are told, too: a copy that is put in the database's place now lacks them.
async fn tell_origin(config: &Config, store: &Store, clock: Clock) {
    let told = async { anyhow::Ok(origin(config, store, clock).look().await??) };
    if let Err(why) = told.await {
        warn!("the output root does not know of the last requests: {why:#}");
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

/// What a run tells others, and hears from them.
struct Wires {
    live: watch::Sender<Arc<Live>>,
    inbox: watch::Sender<Arc<inbox::Settings>>,
    refused: watch::Sender<Option<String>>,
    phase: watch::Sender<Phase>,
    hung: watch::Sender<Hung>,
}

async fn serve(
    live: Live,
    ground: &Ground,
    options: Options,
    reload: Reload,
    tasks: &mut Tasks,
) -> Result<Ended> {
    let Ground { store, clock, stop } = ground;
    let (started, config) = (clock.now(), live.config.clone());
    let wires = Wires {
        inbox: watch::Sender::new(Arc::clone(&live.inbox)),
        live: watch::Sender::new(Arc::new(live)),
        refused: watch::Sender::new(None),
        phase: watch::Sender::new(Phase::Recovering),
        hung: watch::Sender::new(None),
    };
    let now = wires.live.subscribe();
    open_endpoint(&config, ground, &wires, tasks).await;
    let answers = &Arc::clone(&now.borrow().submit).answers;
    recover_and_hold(answers, &config).await?;
    // A disk that has room by now must not look, to whoever asks whether anything moves, like one that is full.
    let room = Arc::clone(&now.borrow().submit.room);
    room.look().await?;
    for Hold { name, since, why, .. } in store.holds().await?.into_iter().filter(|h| h.holds(started)) {
        warn!(hold = name.as_str(), %since, why, "nothing is submitted: {}", name.remedy());
    }
    let files_wait = start(&config, ground, &wires, tasks).await?;
    let (mut hung, phase) = (wires.hung.subscribe(), wires.phase.clone());
    tell_the_manager(ground, &wires, tasks);
    let Wires { live, inbox, refused, .. } = wires;
    tasks.beside("reload", reload::run(reload, Swap { live, inbox, refused }, ground.clone()));
    phase.send_replace(Phase::Serving);
    info!(data_dir = %config.data_dir.display(), base_url = %config.api.base_url, "klingd is running");
    let ended = tokio::select! {
        // First, since a stop also ends the tasks: whoever looked at them before would call that unexpected.
        biased;
        () = stop.cancelled() => Ok(Ended::Stopped),
        Ok(hung) = hung.wait_for(Hung::is_some) => {
            Err(anyhow!("{}", hung.as_deref().unwrap_or_default()))
        }
        error = tasks.first_end() => Err(error),
        idle = idle(store, now, files_wait, started, *clock), if options.until_idle => idle,
    };
    phase.send_replace(Phase::Stopping);
    ended
}

async fn open_endpoint(config: &Config, ground: &Ground, wires: &Wires, tasks: &mut Tasks) {
    let Some(address) = config.metrics.listen else { return };
    let Some(listener) = endpoint::listen(address).await else { return };
    let desk = Desk::new(ground.clone(), wires.live.subscribe(), wires.phase.subscribe());
    tasks.witness("metrics", |over| endpoint::serve(listener, desk, over));
}

/// Starts the work; says whether files of the inbox are about to be taken.
async fn start(
    config: &Config,
    ground: &Ground,
    wires: &Wires,
    tasks: &mut Tasks,
) -> Result<watch::Receiver<bool>> {
    let Ground { store, clock, stop } = ground;
    let doorbell = Doorbell::hang(&config.doorbell());
    if let Err(error) = &doorbell {
        warn!("no doorbell ({error}): commands of other processes are noticed within seconds, not at once");
    }
    let (waiting, files_wait) = watch::channel(config.inbox.enabled);
    if config.inbox.enabled {
        let inbox = Inbox::open(store.clone(), *clock, wires.inbox.subscribe(), waiting).await?;
        tasks.beside("inbox", inbox.run(stop.clone()));
    }
    let live = || wires.live.subscribe();
    let (submit, poll, download, errand, hook) = (live(), live(), live(), live(), live());
    let vitals = store.vitals();
    tasks.lane(move || Arc::clone(&submit.borrow().submit), vitals, *clock);
    tasks.lane(move || Arc::clone(&poll.borrow().poll), vitals, *clock);
    tasks.lane(move || Arc::clone(&download.borrow().download), vitals, *clock);
    tasks.lane(move || Arc::clone(&errand.borrow().errand), vitals, *clock);
    tasks.lane(move || Arc::clone(&hook.borrow().hook), vitals, *clock);
    if let Ok(doorbell) = doorbell {
        tasks.answer_doorbell(doorbell, Arc::clone(store.bells()));
    }
    Ok(files_wait)
}

/// The service manager, where there is one.
fn tell_the_manager(ground: &Ground, wires: &Wires, tasks: &mut Tasks) {
    if !notify::is_asked_for() {
        return;
    }
    let (live, refused, hung) = (wires.live.subscribe(), wires.refused.subscribe(), wires.hung.subscribe());
    let news = News { live, refused, hung };
    tasks.witness("notify", |over| notify::run(ground.clone(), news, over));
    if let Some(interval) = notify::watchdog_interval() {
        let (vitals, hung) = (Arc::clone(ground.store.vitals()), wires.hung.clone());
        tasks.witness("watchdog", |over| watchdog::run(vitals, interval, hung, over));
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
    live: watch::Receiver<Arc<Live>>,
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
        let policy = live.borrow().submit.policy.clone();
        match store.rest(&policy, since, now, clock.day_start(now)).await? {
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
