//! Whether what is paid can be stored: the one that sets and lifts the `disk` hold.
//!
//! It looks at the output root (is it there, is it the one it was, may it be written to), at the free space for what is
//! under way, and at the reserve beside the database. It moves no file and no job. While it is there, [`Origin`] compares
//! what stands in the root with the database.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use tracing::{info, warn};

use super::{ask::Ask, evidence::Spool, origin::Origin};
use crate::{
    clock::Clock,
    disk::{self, DiskError},
    domain::{
        Timestamp,
        hold::{Hold, HoldName},
        plan::download::expected_bytes,
    },
    store::{Store, StoreError},
};

/// How often the disk is looked at: under load there are hundreds of looks for work a second, and a disk does not fill
/// faster than this by much.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What staging leaves free on the disk of the database: room for the last commits of everything that is under way, with
/// four downloads writing 8 MiB each between two looks.
const STAGING_LEAVES_BYTES: u64 = 64 * 1024 * 1024;

/// The places, and what must stay free.
#[derive(Clone, Debug)]
pub struct RoomSettings {
    /// The root of the videos.
    pub output_root: PathBuf,
    /// Where paid videos wait while the root can't take them.
    pub staging: PathBuf,
    /// Less free space than this, and what is under way, stops submits; 0 stops nothing.
    pub min_free_bytes: u64,
}

/// Watches the places.
pub struct Room {
    store: Store,
    clock: Clock,
    spool: Spool,
    settings: RoomSettings,
    origin: Origin,
    /// The output root, which may be on a share.
    root: Ask,
    seen: Mutex<Seen>,
}

/// What is remembered from look to look.
#[derive(Default)]
struct Seen {
    looked_at: Option<Timestamp>,
    /// When the root was found in its place last; what went wrong since then makes it unknown.
    root_was_there_at: Option<Timestamp>,
    /// Whether the root was one before, and has to have its mark.
    root_is_known: bool,
    /// What could not be stored last: where below the root, and how many bytes.
    refused: (PathBuf, u64),
}

/// Whether what was seen then has to be looked at again, wherever the clock has gone.
fn is_over(then: Timestamp, now: Timestamp) -> bool {
    now.since(then).max(then.since(now)) >= LOOK_EVERY
}

impl Room {
    /// Watches these places; `origin` reads and writes what stands in the root.
    pub fn new(store: Store, clock: Clock, spool: Spool, settings: RoomSettings, origin: Origin) -> Self {
        Self { store, clock, spool, settings, origin, root: Ask::default(), seen: Mutex::default() }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Nothing that can panic runs under this lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where paid videos wait.
    pub fn staging(&self) -> &Path {
        &self.settings.staging
    }

    /// Sets and lifts the `disk` hold, before anything is paid for. Looks at most once a second.
    pub async fn look(&self) -> Result<()> {
        let now = self.clock.now();
        {
            let mut seen = self.seen();
            if seen.looked_at.is_some_and(|last| !is_over(last, now)) {
                return Ok(());
            }
            seen.looked_at = Some(now);
        }
        let held = self.store.holds().await?.into_iter().find(|h| h.name == HoldName::Disk);
        // A hold with a probe was set by a video that could not be stored.
        let refused = held.as_ref().is_some_and(|hold| hold.probe_at.is_some());
        match (self.trouble(refused).await?, held) {
            (Some(why), None) => {
                warn!(hold = "disk", "submits stop: {why}");
                self.hold(why, None, now).await?;
            }
            (None, Some(_)) => {
                info!(hold = "disk", "submits go on: videos can be stored again");
                self.store.disk_is_back(now).await?;
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        Ok(())
    }

    /// Whether videos can go to the output root, as it was within the last second: who makes something there looks at its
    /// mark once more, right before ([`Room::root_is_marked`]).
    pub async fn root(&self) -> Result<(), DiskError> {
        let now = self.clock.now();
        let known = {
            let seen = self.seen();
            if seen.root_was_there_at.is_some_and(|last| !is_over(last, now)) {
                return Ok(());
            }
            seen.root_is_known
        };
        let asked =
            self.ask_root(
                move |root| {
                    if known { disk::root::check(root) } else { disk::space::check_writable(root) }
                },
            );
        let there = asked.await;
        self.seen().root_was_there_at = there.is_ok().then_some(now);
        there
    }

    /// Whether the root was one before, and has to have its mark.
    pub fn root_is_marked(&self) -> bool {
        self.seen().root_is_known
    }

    /// Fails where staging has not got this much room besides what it leaves to the database.
    pub async fn staging_has(&self, bytes: u64) -> Result<(), DiskError> {
        let staging = self.settings.staging.clone();
        let looked = tokio::task::spawn_blocking(move || {
            disk::check_free(&staging, bytes.saturating_add(STAGING_LEAVES_BYTES))
        });
        looked.await.unwrap_or_else(|panic| Err(DiskError::interrupted(panic)))
    }

    /// A video could not be stored in `folder` below the root: nothing more is paid for until one of that size can be.
    pub async fn refuse(&self, folder: &Path, bytes: u64, why: &DiskError) -> Result<(), StoreError> {
        {
            let mut seen = self.seen();
            seen.refused = (folder.to_owned(), bytes);
            seen.root_was_there_at = None;
        }
        let now = self.clock.now();
        self.hold(why.to_string(), Some(now), now).await
    }

    async fn ask_root<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Path) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let root = self.settings.output_root.clone();
        self.root.ask(&self.settings.output_root, move || question(&root)).await
    }

    async fn hold(&self, why: String, probe_at: Option<Timestamp>, now: Timestamp) -> Result<(), StoreError> {
        self.store.hold(Hold { name: HoldName::Disk, since: now, why, until: None, probe_at }).await
    }

    /// Why nothing should be paid for, if so.
    async fn trouble(&self, refused: bool) -> Result<Option<String>> {
        if let Err(error) = self.root_is_usable(refused).await? {
            return Ok(Some(error.to_string()));
        }
        if let Some(why) = self.too_little_space().await? {
            return Ok(Some(why));
        }
        Ok(self.spool.ensure_reserve().await.err())
    }

    async fn root_is_usable(&self, refused: bool) -> Result<Result<(), DiskError>> {
        let name = self.settings.output_root.to_string_lossy().into_owned();
        if !self.seen().root_is_known {
            let known = self.store.knows_root(&name).await?;
            if !known {
                // The mark first, then the row: killed in between, the next start finds a root with a mark.
                if let Err(error) = self.ask_root(disk::root::establish).await {
                    return Ok(Err(error));
                }
                self.store.remember_root(&name).await?;
            }
            self.seen().root_is_known = true;
        }
        let (folder, bytes) = self.seen().refused.clone();
        let checked = self.ask_root(move |root| match refused {
            true => disk::root::probe(root, &folder, bytes),
            false => disk::root::check(root),
        });
        match checked.await {
            // Before a hold is lifted that kept everything back while the root was away.
            Ok(()) => Ok(self.origin.look().await?),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn too_little_space(&self) -> Result<Option<String>> {
        if self.settings.min_free_bytes == 0 {
            return Ok(None);
        }
        let free = match self.ask_root(disk::free_bytes).await {
            Ok(free) => free,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let min_free = self.settings.min_free_bytes;
        let under_way = expected_bytes(self.store.seconds_under_way().await?);
        Ok((free < min_free.saturating_add(under_way)).then(|| {
            let [free, min_free, under_way] = [free, min_free, under_way].map(|bytes| bytes >> 20);
            format!(
                "{free} MiB are free, output.min_free is {min_free} MiB, and {under_way} MiB are expected for what is paid"
            )
        }))
    }
}
