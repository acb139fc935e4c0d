//! One video from its link to a whole, durable temporary file.

use std::path::PathBuf;

use bytes::BytesMut;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::retry::Waits;
use crate::{
    disk::{DiskError, Finished, Part},
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
/// Bytes between two durable positions: what a crash costs at most.
const DURABLE_EVERY_BYTES: u64 = 8 * 1024 * 1024;

/// Why a video is not here yet.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What the plan goes by.
    pub kind: FetchTrouble,
    /// For people.
    pub why: String,
}

/// An error that ends a try: something to plan for, or the store's.
pub(super) enum Ended {
    /// The video's.
    Trouble(Trouble),
    /// The database's.
    Store(StoreError),
}

impl Ended {
    pub(super) fn trouble(kind: FetchTrouble, why: impl Into<String>) -> Self {
        Ended::Trouble(Trouble { kind, why: why.into() })
    }
}

impl From<StoreError> for Ended {
    fn from(e: StoreError) -> Self {
        Ended::Store(e)
    }
}

impl From<DiskError> for Ended {
    fn from(e: DiskError) -> Self {
        let kind = match &e {
            DiskError::TooLarge { .. } => FetchTrouble::WrongBody,
            DiskError::Exists { .. }
            | DiskError::Full { .. }
            | DiskError::Gone { .. }
            | DiskError::Denied { .. }
            | DiskError::Foreign { .. }
            | DiskError::Busy { .. }
            | DiskError::Outside { .. }
            | DiskError::Io { .. } => FetchTrouble::Disk,
        };
        Ended::trouble(kind, e.to_string())
    }
}

impl From<FetchError> for Ended {
    fn from(e: FetchError) -> Self {
        Ended::trouble(e.trouble, e.why)
    }
}

/// What a fetch needs.
pub(super) struct Fetch<'a> {
    pub store: &'a Store,
    pub media: &'a Media,
    pub stop: &'a CancellationToken,
    pub job: JobId,
    /// The temporary file.
    pub part: PathBuf,
    pub max_bytes: u64,
}

impl Fetch<'_> {
    /// Fetches `output`, with a few tries in a row when the connection is cut.
    pub(super) async fn run(&self, output: &Output) -> Result<Finished, Ended> {
        let mut partial = output.partial.clone();
        let mut waits = Waits::new();
        loop {
            match self.once(output, &mut partial).await {
                Err(Ended::Trouble(t)) if t.kind == FetchTrouble::Interrupted => {
                    let Some(wait) = waits.next() else { return Err(Ended::Trouble(t)) };
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

    async fn once(&self, output: &Output, partial: &mut Option<Partial>) -> Result<Finished, Ended> {
        let (position, etag) = match partial {
            Some(Partial { position, etag: Some(etag), .. }) => (*position, Some(etag.clone())),
            Some(Partial { etag: None, .. }) | None => (0, None),
        };
        let mut part = self.take_up(position).await?;
        reach(Point::DownloadCreated);
        let resume = etag
            .filter(|_| part.written_bytes() > 0)
            .map(|etag| Resume { offset: part.written_bytes(), etag });
        let mut body = self.media.open(&output.url, resume.as_ref()).await?;
        if body.offset != part.written_bytes() {
            // The whole comes again: another version, or a server without ranges. The part has a lock, which it would
            // hold against itself.
            drop(part);
            part = self.take_up(0).await?;
        }
        if let Some(total) = body.total {
            part = on_disk(move || part.reserve(total).map(|()| part)).await?;
        }
        let etag = body.etag.clone();
        let mut block = BytesMut::with_capacity(BLOCK_BYTES / 8);
        loop {
            let chunk = tokio::select! {
                chunk = body.chunk() => chunk,
                () = self.stop.cancelled() => {
                    part = write(part, &mut block).await?;
                    self.make_durable(part, output.index, etag.as_deref(), partial).await?;
                    return Err(stopped());
                }
            };
            match chunk {
                Ok(Some(bytes)) => block.extend_from_slice(&bytes),
                Ok(None) => break,
                Err(error) => {
                    part = write(part, &mut block).await?;
                    self.make_durable(part, output.index, etag.as_deref(), partial).await?;
                    return Err(error.into());
                }
            }
            if block.len() >= BLOCK_BYTES {
                part = write(part, &mut block).await?;
                if part.written_bytes() - part.durable_bytes() >= DURABLE_EVERY_BYTES {
                    part = self.make_durable(part, output.index, etag.as_deref(), partial).await?;
                    reach(Point::DownloadProgress);
                }
            }
        }
        part = write(part, &mut block).await?;
        let finished = on_disk(move || part.finish()).await?;
        reach(Point::DownloadFinished);
        Ok(finished)
    }

    async fn take_up(&self, position: u64) -> Result<Part, Ended> {
        let (path, cap) = (self.part.clone(), self.max_bytes);
        on_disk(move || Part::resume(&path, position, cap)).await
    }

    /// Syncs, then records: never the other way round.
    async fn make_durable(
        &self,
        part: Part,
        index: u32,
        etag: Option<&str>,
        partial: &mut Option<Partial>,
    ) -> Result<Part, Ended> {
        let part = on_disk(move || part.sync()).await?;
        let now = Partial {
            path: part.path().to_string_lossy().into_owned(),
            position: part.durable_bytes(),
            etag: etag.map(str::to_owned),
        };
        // Without a strong validator the rest can't be asked for; without progress there is nothing to say.
        let before = partial.as_ref().map_or((0, None), |p| (p.position, p.etag.as_deref()));
        if now.etag.is_some() && (now.position, now.etag.as_deref()) != before && now.position > 0 {
            self.store.record_progress(self.job, index, now.clone()).await?;
            *partial = Some(now);
        }
        Ok(part)
    }
}

fn stopped() -> Ended {
    Ended::trouble(FetchTrouble::Stopped, "klingd is stopping")
}

async fn write(mut part: Part, block: &mut BytesMut) -> Result<Part, Ended> {
    if block.is_empty() {
        return Ok(part);
    }
    let bytes = block.split().freeze();
    on_disk(move || part.write(&bytes).map(|()| part)).await
}

/// Runs blocking work on the disk without holding up the runtime.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, Ended> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Ended::from),
        Err(e) => Err(Ended::trouble(FetchTrouble::Stopped, e.to_string())),
    }
}
