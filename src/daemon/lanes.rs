//! The lanes of one configuration, and how those of another one take over from them.

use std::sync::{Arc, Mutex, atomic::AtomicUsize};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use super::{
    Failure, Options, at_start, here, refused,
    settings::{
        api_settings, claim_policy, download_policy, gate_policy, hooks, inbox_settings, media_settings,
        output_settings, poll_policy, poll_settings, room_settings,
    },
};
use crate::{
    clock::Clock,
    config::{ApiKey, Config, OnInternalError},
    disk,
    domain::hook::HookEvent,
    intake::inbox,
    provider::{Api, Media},
    store::{Store, World},
    worker::{
        answer::Answers,
        download::DownloadLane,
        errand::ErrandLane,
        evidence::Spool,
        hook::HookLane,
        origin::Origin,
        poll::PollLane,
        room::Room,
        schedules::Schedules,
        submit::{SubmitLane, SubmitSettings},
    },
};

/// What the lanes are made with besides the configuration; it outlives every one of them.
#[derive(Clone)]
pub(super) struct Ground {
    pub store: Store,
    pub clock: Clock,
    pub stop: CancellationToken,
}

/// A configuration that holds, and what is made of it. A look begins with one of them and ends with it.
pub(super) struct Live {
    pub config: Config,
    pub key: ApiKey,
    pub submit: Arc<SubmitLane>,
    pub poll: Arc<PollLane>,
    pub download: Arc<DownloadLane>,
    pub errand: Arc<ErrandLane>,
    pub hook: Arc<HookLane>,
    pub inbox: Arc<inbox::Settings>,
    options: Options,
    api: Arc<Api>,
}

impl Live {
    /// The first one, with the folders it needs.
    pub async fn begin(
        config: &Config,
        key: &ApiKey,
        options: Options,
        ground: &Ground,
    ) -> Result<Self, Failure> {
        disk::create_root(&config.spool_dir()).map_err(|e| at_start(e.into()))?;
        disk::create_root(&config.staging_dir()).map_err(|e| at_start(e.into()))?;
        if !ground.store.knows_root(&config.videos_root().to_string_lossy()).await.map_err(refused)? {
            // A root that was one before and is gone is waited for; one that can't be made is a mistake in the
            // configuration.
            disk::create_root(config.videos_root()).map_err(|e| at_start(e.into()))?;
        }
        let api = Api::new(&api_settings(config, key)).map_err(|e| at_start(e.into()))?;
        Self::build(config, key, api, None, options, ground).map_err(at_start)
    }

    /// The next one, for another configuration or key: what was heard of the provider holds on.
    pub fn succeeding(&self, config: &Config, key: &ApiKey, ground: &Ground) -> Result<Self> {
        let api = Api::succeeding(&api_settings(config, key), &self.api)?;
        Self::build(config, key, api, Some(&self.poll), self.options, ground)
    }

    fn build(
        config: &Config,
        key: &ApiKey,
        api: Api,
        earlier: Option<&PollLane>,
        options: Options,
        ground: &Ground,
    ) -> Result<Self> {
        let Ground { store, clock, stop } = ground;
        let (clock, api) = (*clock, Arc::new(api));
        let submit = Arc::new(submit_lane(config, key, store, Arc::clone(&api), clock));
        let download = Arc::new(download_lane(config, store, Arc::clone(&submit.room), clock, stop)?);
        // What one lane learns the other knows.
        let schedules = submit.answers.schedules.clone();
        let polls = poll_settings(config, key);
        let poll = PollLane::new(store.clone(), Arc::clone(&api), clock, schedules, polls);
        // Last: from here on the earlier one goes by what this one may.
        let poll = Arc::new(match earlier {
            Some(earlier) => poll.succeeding(earlier),
            None => poll,
        });
        let errand = Arc::new(ErrandLane {
            store: store.clone(),
            api: Arc::clone(&api),
            clock,
            polls: Arc::clone(&poll),
        });
        let hook = Arc::new(hook_lane(config, options, ground));
        let inbox = Arc::new(inbox_settings(config));
        let (config, key) = (config.clone(), key.clone());
        Ok(Self { config, key, submit, poll, download, errand, hook, inbox, options, api })
    }
}

/// The hook lane, which may have nobody to call.
fn hook_lane(config: &Config, options: Options, ground: &Ground) -> HookLane {
    let Ground { store, clock, stop } = ground.clone();
    let (directory, sandbox) = (config.data_dir.clone(), options.world == World::Sandbox);
    HookLane { store, clock, hooks: hooks(config), directory, describe: options.describe, sandbox, stop }
}

/// The hooks as the database knows them: by which name what is told.
pub(super) fn hook_names(config: &Config) -> Vec<(String, Vec<HookEvent>)> {
    config.hooks.iter().map(|hook| (hook.name.clone(), hook.on.clone())).collect()
}

/// What watches the places of the videos.
pub fn room(config: &Config, store: &Store, clock: Clock) -> Arc<Room> {
    let origin = origin(config, store, clock);
    Arc::new(Room::new(store.clone(), clock, spool(config), room_settings(config), origin))
}

/// What tells this queue from a copy of it.
pub(super) fn origin(config: &Config, store: &Store, clock: Clock) -> Origin {
    Origin::new(store.clone(), clock, here::place(config))
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

pub(super) fn answers(config: &Config, store: &Store, api: Option<Arc<Api>>, clock: Clock) -> Answers {
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
