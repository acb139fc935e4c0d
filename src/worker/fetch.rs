//! One video from its link to a whole temporary file, which [`Received::finish`] makes durable.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    retry::Waits,
    room::Room,
    verify::{Structure, structure},
};
use crate::{
    disk::{self, DiskError, Finished, Part, part::Durable},
    domain::{JobId, plan::download::FetchTrouble},
    failpoint::{Point, reach},
    provider::{FetchError, Media, Resume},
    store::{
        Store, StoreError,
        download::{Output, Partial},
    },
};

/// Bytes gathered before they are written: one hop to a blocking thread each.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Pieces gathered at most: a server that drips must not fill the memory with bookkeeping.
const BLOCK_PIECES: usize = 1024;
/// Bytes between two durable positions.
const DURABLE_EVERY_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes that may be written without being durable: beyond it the download waits for the disk. What a crash costs at most,
/// besides what came within [`RECORD_EVERY`]. A sync that takes its time must not stop the transfer: with twice the distance
/// of two positions it did at every one.
const UNSYNCED_MAX_BYTES: u64 = 8 * DURABLE_EVERY_BYTES;
/// The same in staging, which shares its disk with the database: little is written between two looks at its room.
const UNSYNCED_MAX_STAGED_BYTES: u64 = 2 * DURABLE_EVERY_BYTES;
/// The shortest time between two recorded positions: a fast download is not slowed down by its own bookkeeping.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// A wish to come back later than this is not waited for here: the worker is free for another video meanwhile.
const LONGEST_WISH: Duration = Duration::from_secs(1);

/// Why a video is not here yet.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What the plan goes by.
    pub kind: FetchTrouble,
    /// For people.
    pub why: String,
    /// The server's wish.
    pub retry_after: Option<Duration>,
}

/// An error that ends a try: something to plan for, our own disk's, or the store's.
pub(super) enum Ended {
    /// The video's.
    Trouble(Trouble),
    /// The disk's.
    Disk(DiskError),
    /// The database's.
    Store(StoreError),
}

impl Ended {
    pub(super) fn trouble(kind: FetchTrouble, why: impl Into<String>) -> Self {
        Ended::Trouble(Trouble { kind, why: why.into(), retry_after: None })
    }
}

impl From<StoreError> for Ended {
    fn from(e: StoreError) -> Self {
        Ended::Store(e)
    }
}

impl From<DiskError> for Ended {
    fn from(e: DiskError) -> Self {
        match e {
            DiskError::TooLarge { .. } => Ended::trouble(FetchTrouble::WrongBody, e.to_string()),
            DiskError::Exists { .. }
            | DiskError::Full { .. }
            | DiskError::Gone { .. }
            | DiskError::Denied { .. }
            | DiskError::Foreign { .. }
            | DiskError::Busy { .. }
            | DiskError::Outside { .. }
            | DiskError::Unmounted { .. }
            | DiskError::Io { .. } => Ended::Disk(e),
        }
    }
}

impl From<FetchError> for Ended {
    fn from(e: FetchError) -> Self {
        Ended::Trouble(Trouble { kind: e.trouble, why: e.why, retry_after: e.retry_after })
    }
}

/// What a fetch needs.
pub(super) struct Fetch<'a> {
    pub store: &'a Store,
    pub media: &'a Media,
    pub stop: &'a CancellationToken,
    pub job: JobId,
    /// Which of the job's videos.
    pub index: u32,
    /// The temporary file.
    pub part: PathBuf,
    pub max_bytes: u64,
    /// Where it stands.
    pub stands: Stands<'a>,
}

/// Where a temporary file stands.
pub(super) enum Stands<'a> {
    /// Beside the place of its video.
    Beside(&'a Folder),
    /// In staging, whose room this watches.
    Staging(&'a Room),
}

/// The folder of a video, which may have to be made.
#[derive(Clone)]
pub(super) struct Folder {
    pub root: PathBuf,
    /// Whether the root has to have its mark.
    pub is_marked: bool,
    /// Below the root.
    pub relative: PathBuf,
}

impl Folder {
    /// Makes it, unless its root is not there; blocks.
    pub(super) fn make(&self) -> Result<(), DiskError> {
        if self.is_marked {
            // Looked at right before: nothing may be written where a disk is not mounted.
            disk::root::check_mark(&self.root)?;
        }
        disk::create_dirs_durably(&self.root, &self.relative).map(drop)
    }
}

/// A video that has come whole. Its last block is not written yet: the connection is free for another video meanwhile.
pub(super) struct Received {
    part: Part,
    rest: Block,
}

/// A video that is on the disk, and what its structure tells.
pub(super) struct Stored {
    pub finished: Finished,
    pub structure: Structure,
}

impl Received {
    /// Writes the rest, makes the part durable and looks into it: a small video needs no other hop to a blocking thread.
    pub(super) async fn finish(self) -> Result<Stored, Ended> {
        let Self { mut part, rest } = self;
        on_disk(move || {
            rest.write_to(&mut part)?;
            let finished = part.finish()?;
            reach(Point::DownloadFinished);
            let structure = structure(&finished.path, finished.bytes)?;
            Ok(Stored { finished, structure })
        })
        .await
    }
}

impl Fetch<'_> {
    /// Fetches `output`, with a few tries in a row when the connection is cut.
    pub(super) async fn run(&self, output: &Output) -> Result<Received, Ended> {
        let here = self.part.to_string_lossy();
        let mut partial = output.partial.clone().filter(|partial| partial.path == here);
        // From the first failure on, and anew after progress: a long download is not out of patience before its first cut.
        let mut waits: Option<(u64, Waits)> = None;
        loop {
            match self.once(&output.url, &mut partial).await {
                Err(Ended::Trouble(t)) if may_pass_soon(&t) => {
                    let position = partial.as_ref().map_or(0, |partial| partial.position);
                    let (_, tries) = match waits.take() {
                        Some(waits) if waits.0 == position => waits,
                        Some(_) | None => (position, Waits::new()),
                    };
                    let (_, tries) = waits.insert((position, tries));
                    let Some(wait) = tries.next() else { return Err(Ended::Trouble(t)) };
                    debug!(job.id = self.job.0, why = ?t.why, "the download is tried again");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.stop.cancelled() => return Err(stopped()),
                    }
                }
                ended => return ended,
            }
        }
    }

    async fn once(&self, url: &str, partial: &mut Option<Partial>) -> Result<Received, Ended> {
        let (position, etag, total) = match partial {
            Some(Partial { position, etag: Some(etag), total, .. }) => {
                (*position, Some(etag.clone()), *total)
            }
            Some(Partial { etag: None, .. }) | None => (0, None, None),
        };
        let mut part = self.take_up(position).await?;
        reach(Point::DownloadCreated);
        let resume = etag.filter(|_| part.written_bytes() > 0).map(|etag| Resume {
            offset: part.written_bytes(),
            etag,
            total,
        });
        let mut body = self.media.open(url, resume.as_ref()).await?;
        if body.offset == 0 {
            self.forget(partial).await?;
        }
        if body.offset != part.written_bytes() {
            // The whole comes again: another version, or a server without ranges. The part has a lock, which it would
            // hold against itself.
            drop(part);
            part = self.take_up(0).await?;
        }
        let rest = body.total.map_or(0, |total| total.saturating_sub(part.written_bytes()));
        // Before the room is taken: what is reserved is as gone for the database as what is written.
        self.leave_room(rest).await?;
        let mut room = body.total;
        let mut progress = Progress {
            fetch: self,
            etag: body.etag.clone(),
            total: body.total,
            partial,
            syncing: None,
            recorded_at: None,
        };
        let mut hand = Hand::Free(part);
        let mut block = Block::default();
        let mut looked_at = Instant::now();
        loop {
            let chunk = tokio::select! {
                chunk = body.chunk() => chunk.map_err(Ended::from),
                () = self.stop.cancelled() => Err(stopped()),
            };
            match chunk {
                Ok(Some(bytes)) => {
                    self.store.vitals().meter.wrote(bytes.len() as u64);
                    block.push(bytes);
                    self.still_wanted(&mut looked_at).await?;
                }
                Ok(None) => break,
                Err(ended) => {
                    let part = hand.write(block, None).await?.free().await?;
                    progress.keep(part).await?;
                    return Err(ended);
                }
            }
            if block.is_full() {
                let part = progress.advance(hand.free().await?).await?;
                hand = Hand::Free(part).write(std::mem::take(&mut block), room.take()).await?;
            }
        }
        let part = hand.free().await?;
        progress.finish().await?;
        Ok(Received { part, rest: block })
    }

    /// A server that drips never comes to a position that is recorded, where a cancelled download ends: it ends no later
    /// than one that is silent.
    async fn still_wanted(&self, looked_at: &mut Instant) -> Result<(), Ended> {
        if looked_at.elapsed() < self.media.idle_timeout() {
            return Ok(());
        }
        *looked_at = Instant::now();
        match self.store.wants_videos(self.job).await? {
            true => Ok(()),
            false => Err(StoreError::Stale { job: self.job }.into()),
        }
    }

    async fn take_up(&self, position: u64) -> Result<Part, Ended> {
        let (path, cap) = (self.part.clone(), self.max_bytes);
        let folder = match self.stands {
            Stands::Beside(folder) => Some(folder.clone()),
            Stands::Staging(_) => None,
        };
        on_disk(move || {
            folder.map_or(Ok(()), |folder| folder.make())?;
            Part::resume(&path, position, cap)
        })
        .await
    }

    /// The file begins anew: a position that is on record was another beginning's, and no rest may ever be put behind
    /// this one by that one's validator.
    async fn forget(&self, partial: &mut Option<Partial>) -> Result<(), Ended> {
        if partial.take().is_some() {
            self.store.forget_progress(self.job, self.index).await?;
        }
        Ok(())
    }

    /// A part in staging must not take the database's last room with the bytes to come.
    async fn leave_room(&self, bytes: u64) -> Result<(), Ended> {
        match self.stands {
            Stands::Staging(room) => Ok(room.staging_has(bytes).await?),
            Stands::Beside(_) => Ok(()),
        }
    }
}

/// Whether another try at once makes sense.
fn may_pass_soon(trouble: &Trouble) -> bool {
    trouble.kind == FetchTrouble::Interrupted && trouble.retry_after.is_none_or(|wish| wish <= LONGEST_WISH)
}

fn stopped() -> Ended {
    Ended::trouble(FetchTrouble::Stopped, "klingd is stopping")
}

/// What was received and is not written yet, in the pieces in which it came: none is copied.
#[derive(Default)]
struct Block {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Block {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push(piece);
    }

    fn is_full(&self) -> bool {
        self.bytes >= BLOCK_BYTES || self.pieces.len() >= BLOCK_PIECES
    }

    fn write_to(&self, part: &mut Part) -> Result<(), DiskError> {
        self.pieces.iter().try_for_each(|piece| part.write(piece))
    }
}

/// The part: in hand, or on a thread that writes and hashes one block while the next one is received.
enum Hand {
    Free(Part),
    Busy(JoinHandle<Result<Part, DiskError>>),
}

impl Hand {
    async fn free(self) -> Result<Part, Ended> {
        match self {
            Hand::Free(part) => Ok(part),
            Hand::Busy(writing) => joined(writing.await),
        }
    }

    /// Asks for `room` before. A video that comes whole in one block has no use for that: writing it takes its room, or
    /// fails, at once.
    async fn write(self, block: Block, room: Option<u64>) -> Result<Self, Ended> {
        let mut part = self.free().await?;
        if block.bytes == 0 {
            return Ok(Hand::Free(part));
        }
        Ok(Hand::Busy(tokio::task::spawn_blocking(move || {
            room.map_or(Ok(()), |total| part.reserve(total))?;
            block.write_to(&mut part)?;
            Ok(part)
        })))
    }
}

/// How far a download is durable. What is synced is recorded, never the other way round; both happen beside the download.
struct Progress<'f, 'p> {
    fetch: &'f Fetch<'f>,
    /// Without a strong validator the rest can't be asked for, and a position is worth nothing.
    etag: Option<String>,
    /// The announced length.
    total: Option<u64>,
    partial: &'p mut Option<Partial>,
    syncing: Option<JoinHandle<Result<Durable, DiskError>>>,
    recorded_at: Option<Instant>,
}

impl Progress<'_, '_> {
    /// Takes note of a sync that has ended, and starts the next one where it is time.
    async fn advance(&mut self, mut part: Part) -> Result<Part, Ended> {
        let unsynced = part.written_bytes() - part.durable_bytes();
        let unsynced_max = match self.fetch.stands {
            Stands::Staging(_) => UNSYNCED_MAX_STAGED_BYTES,
            Stands::Beside(_) => UNSYNCED_MAX_BYTES,
        };
        if self.syncing.as_ref().is_some_and(|sync| sync.is_finished() || unsynced >= unsynced_max) {
            self.finish().await?.into_iter().for_each(|durable| part.is_durable(durable));
            if self.recorded_at.is_none_or(|last| last.elapsed() >= RECORD_EVERY) {
                self.fetch.leave_room(0).await?;
                self.record(part.durable_bytes()).await?;
                reach(Point::DownloadProgress);
            }
        }
        let due = part.written_bytes() - part.durable_bytes() >= DURABLE_EVERY_BYTES;
        if due && self.syncing.is_none() && self.etag.is_some() {
            let sync = part.sync_beside()?;
            self.syncing = Some(tokio::task::spawn_blocking(sync));
        }
        Ok(part)
    }

    /// Waits for the sync that is under way, if one is.
    async fn finish(&mut self) -> Result<Option<Durable>, Ended> {
        match self.syncing.take() {
            Some(syncing) => joined(syncing.await).map(Some),
            None => Ok(None),
        }
    }

    /// Makes all that was written durable and records it: the download ends here, for now.
    async fn keep(&mut self, part: Part) -> Result<(), Ended> {
        self.finish().await?;
        let part = on_disk(move || part.sync()).await?;
        self.record(part.durable_bytes()).await
    }

    async fn record(&mut self, position: u64) -> Result<(), Ended> {
        let now = Partial {
            path: self.fetch.part.to_string_lossy().into_owned(),
            position,
            etag: self.etag.clone(),
            total: self.total,
        };
        let before = self.partial.as_ref().map_or((0, None), |p| (p.position, p.etag.as_deref()));
        if position == 0 || now.etag.is_none() || (now.position, now.etag.as_deref()) == before {
            return Ok(());
        }
        let job = self.fetch.job;
        if !self.fetch.store.record_progress(job, self.fetch.index, now.clone()).await? {
            return Err(StoreError::Stale { job }.into());
        }
        self.recorded_at = Some(Instant::now());
        *self.partial = Some(now);
        Ok(())
    }
}

fn joined<T>(ended: Result<Result<T, DiskError>, tokio::task::JoinError>) -> Result<T, Ended> {
    ended.unwrap_or_else(|panic| Err(DiskError::interrupted(panic))).map_err(Ended::from)
}

/// Runs blocking work on the disk without holding up the runtime.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, Ended> {
    joined(tokio::task::spawn_blocking(work).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lane knows the root as it was up to a second ago.
    #[test]
    fn nothing_is_made_where_a_disk_was_unmounted_a_moment_ago() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("videos");
        disk::root::establish(&root).unwrap();
        let folder = Folder { root: root.clone(), is_marked: true, relative: "2026-01-31".into() };
        folder.make().unwrap();
        disk::rename_no_clobber(&root, &dir.path().join("away")).unwrap();
        disk::create_root(&root).unwrap();
        assert!(matches!(folder.make(), Err(DiskError::Unmounted { .. })));
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
    }
}
