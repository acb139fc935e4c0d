//! The download lane: the videos of a finished task, one after the other.

use std::{collections::HashSet, sync::Arc};

use anyhow::Result;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use super::publish::OutputSettings;
use super::{
    Lane, Look,
    fetch::{Ended, Fetch, Trouble, on_disk},
    publish::Publish,
};
use crate::{
    clock::Clock,
    disk,
    domain::{
        Job, JobId, State,
        hold::{Hold, HoldName},
        plan::download::{self as plan, DownloadPolicy, FetchFacts, FetchTrouble},
    },
    provider::Media,
    store::{Store, StoreError, download::Output},
};

/// Downloads videos.
pub struct DownloadLane {
    /// The database.
    pub store: Store,
    /// The keyless client.
    pub media: Arc<Media>,
    /// The clock.
    pub clock: Clock,
    /// When to try again and when to give up.
    pub policy: DownloadPolicy,
    /// Where videos go.
    pub output: OutputSettings,
    /// Downloads at once.
    pub workers: usize,
    /// Bytes of a video at most.
    pub max_bytes: u64,
    /// A stop ends a download at its next chunk.
    pub stop: CancellationToken,
}

impl Lane for DownloadLane {
    type Work = Job;

    fn name(&self) -> &'static str {
        "download"
    }

    fn width(&self) -> usize {
        self.workers
    }

    fn bell(&self) -> &Notify {
        &self.store.bells().download
    }

    async fn look(&self, free: usize, busy: &HashSet<JobId>) -> Result<Look<Job>> {
        let due = self.store.due_downloads(free, busy, self.clock.now()).await?;
        Ok(Look { work: due.jobs.into_iter().map(|j| (j.id, j)).collect(), next_at: due.next_at })
    }

    async fn step(&self, job: Job) -> Result<()> {
        let State::Downloading { missing, .. } = &job.state else { return Ok(()) };
        let outputs = self.store.outputs(job.id).await?;
        // One at a time: each published video changes the job, and the next look sees it as it is then. The one in least
        // trouble first: a link that stays dead must not let the others expire.
        let wanted = outputs.iter().filter(|o| missing.contains(&o.index)).min_by_key(|o| o.failures);
        let Some(output) = wanted else { return Ok(()) };
        let holds = self.store.holds().await?;
        match self.bring(&job, output).await {
            Ok(()) => {}
            // Cancelled meanwhile.
            Err(Ended::Store(StoreError::Stale { .. } | StoreError::Illegal { .. })) => return Ok(()),
            Err(Ended::Store(error)) => return Err(error.into()),
            Err(Ended::Trouble(trouble)) => return self.settle(&job, output, trouble).await,
        }
        match missing.len() - 1 {
            0 => info!(job.id = job.id.0, "job {} is done", job.id),
            left => info!(job.id = job.id.0, left, "a video of job {} is there", job.id),
        }
        if holds.iter().any(|h| h.name == HoldName::Disk && h.probe_at.is_some()) {
            info!(hold = "disk", "submits go on: videos can be stored again");
        }
        Ok(())
    }
}

impl DownloadLane {
    /// Brings one video under its final name.
    async fn bring(&self, job: &Job, output: &Output) -> Result<(), Ended> {
        let relative = self.output.relative(job);
        let (root, dir) = (self.output.root.clone(), relative.parent().map(std::path::Path::to_owned));
        on_disk(move || disk::create_dirs_durably(&root, &dir.unwrap_or_default())).await?;
        let part = self.output.part(&relative, job, output.index);
        let publish = Publish {
            store: &self.store,
            clock: self.clock,
            settings: &self.output,
            job,
            index: output.index,
        };
        let mut output = output.clone();
        if let Some(file) = &output.file {
            if publish.take_up(&relative, part.clone(), file).await? {
                return Ok(());
            }
            // What is on disk is not what was verified: nothing of it may stand at the start of another try.
            self.store.forget_progress(job.id, output.index).await?;
            output.partial = None;
        }
        let fetch = Fetch {
            store: &self.store,
            media: &self.media,
            stop: &self.stop,
            job: job.id,
            part: part.clone(),
            max_bytes: self.max_bytes,
        };
        let finished = fetch.run(&output).await?;
        if !matches!(self.store.job(job.id).await?.state, State::Downloading { .. }) {
            on_disk(move || disk::remove_durably(&part)).await?;
            return Err(StoreError::Stale { job: job.id }.into());
        }
        publish.run(&relative, finished).await
    }

    /// Reports a try that brought no file.
    async fn settle(&self, job: &Job, output: &Output, trouble: Trouble) -> Result<()> {
        let now = self.clock.now();
        let counts = !matches!(trouble.kind, FetchTrouble::Stopped | FetchTrouble::Disk);
        let facts = FetchFacts {
            failures: output.failures + u32::from(counts),
            failing_since: output.failing_since.unwrap_or(now),
            policy: self.policy,
        };
        let plan = plan::failed(trouble.kind, &trouble.why, &facts, now, self.clock.dice());
        match trouble.kind {
            FetchTrouble::Stopped => {}
            FetchTrouble::Disk => {
                warn!(job.id = job.id.0, why = ?trouble.why, "the video of job {} can't be stored", job.id);
                let hold = Hold {
                    name: HoldName::Disk,
                    since: now,
                    why: trouble.why.clone(),
                    until: None,
                    probe_at: Some(plan.due_at),
                };
                self.store.hold(hold).await?;
            }
            FetchTrouble::Interrupted | FetchTrouble::LinkDead | FetchTrouble::WrongBody => {
                warn!(job.id = job.id.0, why = ?trouble.why, next = %plan.due_at, "the video of job {} did not arrive", job.id);
            }
        }
        match self.store.settle_fetch_failure(job.id, job.version, output.index, plan, counts, now).await {
            Ok(()) | Err(StoreError::Stale { .. }) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}
