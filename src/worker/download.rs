//! The download lane: the videos of a finished task, one after the other.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use super::publish::OutputSettings;
use super::{
    Lane, Look,
    clear::clear,
    fetch::{Ended, Fetch, Folder, Stands, Stored, Trouble, on_disk},
    publish::Publish,
    room::Room,
};
use crate::{
    clock::Clock,
    disk::{self, DiskError},
    domain::{
        Event, HoldName, Job, JobId, State, Timestamp,
        label::Label,
        plan::download::{
            self as plan, DownloadPolicy, FetchFacts, FetchPlan, FetchTrouble, UNSAID_SECONDS,
            expected_bytes, failing_since,
        },
        state::Failure,
    },
    provider::Media,
    store::{
        Store, StoreError,
        download::{FetchFailure, Output, Partial},
    },
    vitals::{self, Part},
};

/// How often temporary files of dead jobs are looked for; nobody waits for it.
const CLEAR_EVERY: Duration = Duration::from_secs(5);

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
    /// Whether they can.
    pub room: Arc<Room>,
    /// Transfers at once. As many videos again may be past theirs, on the way to the disk.
    pub workers: usize,
    /// Videos that have come and are not published yet.
    pub storing: AtomicUsize,
    /// Bytes of a video at most.
    pub max_bytes: u64,
    /// A stop ends a download at its next chunk.
    pub stop: CancellationToken,
    /// When temporary files of dead jobs were looked for; never yet, at first.
    pub cleared_at: Mutex<Option<Timestamp>>,
}

impl Lane for DownloadLane {
    type Key = JobId;
    type Work = Job;

    fn part(&self) -> Part {
        Part::Download
    }

    fn width(&self) -> usize {
        // Waiting for the disk must not leave the network idle.
        self.workers + self.storing.load(Ordering::Relaxed).min(self.workers)
    }

    fn longest_step(&self) -> Option<Duration> {
        // A video may come slowly for hours. What is silent is given up by `idle_timeout`; a disk that hangs would hang for
        // the next process, too.
        None
    }

    fn bell(&self) -> &Notify {
        &self.store.bells().download
    }

    async fn look(&self, free: usize, busy: &HashSet<JobId>) -> Result<Look<JobId, Job>> {
        self.room.look().await?;
        let now = self.clock.now();
        self.clear(busy, now).await?;
        let due = self.store.due_downloads(free, busy, now).await?;
        Ok(Look { work: due.jobs.into_iter().map(|j| (j.id, j)).collect(), next_at: due.next_at })
    }

    async fn step(&self, job: Job) -> Result<()> {
        let State::Downloading { missing, .. } = &job.state else { return Ok(()) };
        let root = self.room.root().await;
        let outputs = self.store.outputs(job.id).await?;
        // A job that is followed again misses all its videos; those that have their names already are not fetched again,
        // wherever a person has moved them since.
        if let Some(there) = outputs.iter().find(|o| missing.contains(&o.index) && o.published_at.is_some()) {
            return match self.store.record_published(job.id, there.index, None, self.clock.now()).await {
                Ok(_) | Err(StoreError::Stale { .. } | StoreError::Illegal { .. }) => Ok(()),
                Err(other) => Err(other.into()),
            };
        }
        // One at a time: each published video changes the job, and the next look sees it as it is then. The one in least
        // trouble first: a link that stays dead must not let the others expire. What is here already comes last while the
        // root can't take it.
        let waits = |o: &Output| root.is_err() && o.file.is_some();
        let wanted =
            outputs.iter().filter(|o| missing.contains(&o.index)).min_by_key(|o| (waits(o), o.failures));
        let Some(output) = wanted else { return Ok(()) };
        let brought = match root {
            Err(error) if output.file.is_some() => {
                self.room.refuse(Path::new(""), 0, &error).await?;
                Ok(Brought::Staged)
            }
            root => self.bring(&job, output, root).await,
        };
        match brought {
            Ok(Brought::Published) => {
                self.store.vitals().meter.download(vitals::Download::Published);
                match missing.len() - 1 {
                    0 => info!(job.id = job.id.0, state.to = Label::Done.as_str(), "job {} is done", job.id),
                    left => info!(job.id = job.id.0, left, "a video of job {} is there", job.id),
                }
            }
            Ok(Brought::Staged) => {
                let why = format!("it waits in {}", self.output.staging.display());
                let trouble = Trouble { kind: FetchTrouble::Staged, why, retry_after: None };
                // The next video of the job, if there is one, need not wait for the root.
                let another = outputs
                    .iter()
                    .any(|o| missing.contains(&o.index) && o.index != output.index && o.file.is_none());
                return self.settle(&job, output, trouble, another).await;
            }
            Err(Ended::Disk(error)) => {
                let trouble = Trouble { kind: FetchTrouble::Disk, why: error.to_string(), retry_after: None };
                return self.settle(&job, output, trouble, false).await;
            }
            Err(Ended::Trouble(trouble)) => return self.settle(&job, output, trouble, false).await,
            // Cancelled meanwhile.
            Err(Ended::Store(StoreError::Stale { .. } | StoreError::Illegal { .. })) => {}
            Err(Ended::Store(error)) => return Err(error.into()),
        }
        Ok(())
    }
}

/// A video that has come and is not published yet: its worker's place is free for another transfer.
struct Storing<'a>(&'a DownloadLane);

impl<'a> Storing<'a> {
    fn begin(lane: &'a DownloadLane) -> Self {
        lane.storing.fetch_add(1, Ordering::Relaxed);
        lane.bell().notify_one();
        Self(lane)
    }
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        self.0.storing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far a video came.
enum Brought {
    /// It has its name.
    Published,
    /// It is whole and on record, and waits for the output root.
    Staged,
}

impl DownloadLane {
    /// Brings one video under its final name, or into staging while the output root can't take it.
    async fn bring(&self, job: &Job, output: &Output, root: Result<(), DiskError>) -> Result<Brought, Ended> {
        let relative = self.output.relative(job);
        let folder = Folder {
            root: self.output.root.clone(),
            is_marked: self.room.root_is_marked(),
            relative: relative.parent().unwrap_or(Path::new("")).to_owned(),
        };
        let publish = Publish {
            store: &self.store,
            clock: self.clock,
            settings: &self.output,
            stop: &self.stop,
            job,
            index: output.index,
            folder,
            relative: &relative,
        };
        let [beside, staged] = self.output.parts(job, output.index);
        let mut output = output.clone();
        if let Some(file) = &output.file {
            match self.take_up(&publish, &output).await {
                Ok(true) => return Ok(Brought::Published),
                Ok(false) => {}
                Err(Ended::Disk(error)) => return self.wait(&publish, job, file.bytes, error).await,
                Err(other) => return Err(other),
            }
            // What is on disk is not what was verified: nothing of it may stand at the start of another try.
            self.store.forget_progress(job.id, output.index).await?;
            output.partial = None;
        }
        self.leave_elsewhere(job, &mut output, [&beside, &staged]).await?;
        let fetched = match root {
            Ok(()) => match self.fetch_for_root(&publish, &output, beside, &staged).await {
                Err(Ended::Disk(error)) if is_of_the_place(&error) => Err(error),
                fetched => Ok(fetched?),
            },
            Err(error) => Err(error),
        };
        let ((stored, _storing), refused) = match fetched {
            Ok(stored) => (stored, None),
            Err(error) => {
                warn!(
                    job.id = job.id.0,
                    why = error.to_string(),
                    "the video of job {} can't be stored; staging takes it",
                    job.id
                );
                let expected = expected_bytes(job.request.duration_s().unwrap_or(UNSAID_SECONDS).into());
                self.refuse(&publish, expected, &error).await?;
                (self.fetch(&output, job, staged, Stands::Staging(&self.room)).await?, Some(error))
            }
        };
        let (finished, remarks) = publish.check(stored).await?;
        if refused.is_some() {
            publish.stage(&finished).await?;
            return Ok(Brought::Staged);
        }
        match publish.run(&finished, Some(remarks)).await {
            Err(Ended::Disk(error)) => self.wait(&publish, job, finished.bytes, error).await,
            Err(other) => Err(other),
            Ok(()) => Ok(Brought::Published),
        }
    }

    /// With another template or root than before, what was begun has another place, where nobody would look for it again.
    async fn leave_elsewhere(&self, job: &Job, output: &mut Output, places: [&Path; 2]) -> Result<(), Ended> {
        let elsewhere = |partial: &Partial| places.iter().all(|place| **place != *partial.path);
        let Some(partial) = output.partial.take_if(|partial| elsewhere(partial)) else { return Ok(()) };
        let old = PathBuf::from(partial.path);
        if let Err(Ended::Disk(error)) = on_disk(move || disk::remove_durably(&old)).await {
            warn!(job.id = job.id.0, why = %error, "a temporary file of job {} stays behind", job.id);
        }
        self.store.forget_progress(job.id, output.index).await?;
        Ok(())
    }

    async fn take_up(&self, publish: &Publish<'_>, output: &Output) -> Result<bool, Ended> {
        let Some(file) = &output.file else { return Ok(false) };
        let folder = publish.folder.clone();
        on_disk(move || folder.make()).await?;
        publish.take_up(output, file).await
    }

    /// Fetches beside the place of the video; what was begun in staging is ended there, as far as that has room.
    async fn fetch_for_root(
        &self,
        publish: &Publish<'_>,
        output: &Output,
        beside: PathBuf,
        staged: &Path,
    ) -> Result<(Stored, Storing<'_>), Ended> {
        let begun_in_staging =
            output.partial.as_ref().is_some_and(|partial| Path::new(&partial.path) == staged);
        if begun_in_staging {
            match self.fetch(output, publish.job, staged.to_owned(), Stands::Staging(&self.room)).await {
                Err(Ended::Disk(_)) => {}
                ended => return ended,
            }
        }
        self.fetch(output, publish.job, beside, Stands::Beside(&publish.folder)).await
    }

    async fn fetch(
        &self,
        output: &Output,
        job: &Job,
        part: PathBuf,
        stands: Stands<'_>,
    ) -> Result<(Stored, Storing<'_>), Ended> {
        let (store, media, stop) = (&self.store, &*self.media, &self.stop);
        let (job, index, max_bytes) = (job.id, output.index, self.max_bytes);
        let fetch = Fetch { store, media, stop, job, index, part, max_bytes, stands };
        let received = fetch.run(output).await?;
        let storing = Storing::begin(self);
        Ok((received.finish().await?, storing))
    }

    /// A verified video that the place does not take waits for it; one with a fault of its own is tried again.
    async fn wait(
        &self,
        publish: &Publish<'_>,
        job: &Job,
        bytes: u64,
        error: DiskError,
    ) -> Result<Brought, Ended> {
        if !is_of_the_place(&error) {
            return Err(Ended::Disk(error));
        }
        warn!(job.id = job.id.0, why = %error, "the video of job {} can't be stored; it is kept where it is", job.id);
        self.refuse(publish, bytes, &error).await?;
        Ok(Brought::Staged)
    }

    async fn refuse(&self, publish: &Publish<'_>, bytes: u64, error: &DiskError) -> Result<(), Ended> {
        Ok(self.room.refuse(&publish.folder.relative, bytes, error).await?)
    }

    /// Reports a try that brought no file. `at_once` says that the job has another video to fetch.
    async fn settle(&self, job: &Job, output: &Output, trouble: Trouble, at_once: bool) -> Result<()> {
        self.store.vitals().meter.download(brought(trouble.kind));
        let now = self.clock.now();
        // As it is now: a try that made progress has ended the run of failures before it.
        let outputs = self.store.outputs(job.id).await?;
        let output = outputs.iter().find(|o| o.index == output.index).unwrap_or(output);
        let counts = match trouble.kind {
            FetchTrouble::Interrupted | FetchTrouble::LinkDead | FetchTrouble::WrongBody => true,
            FetchTrouble::Stopped | FetchTrouble::Disk | FetchTrouble::Staged => false,
        };
        let holds = self.store.holds().await?;
        let still_since = holds.iter().find(|hold| hold.name == HoldName::Disk).map(|hold| hold.since);
        let facts = FetchFacts {
            failures: output.failures + u32::from(counts),
            failing_since: failing_since(output.failing_since.unwrap_or(now), still_since, now),
            retry_after: trouble.retry_after,
            policy: self.policy,
        };
        let mut plan = plan::failed(trouble.kind, &trouble.why, &facts, now, self.clock.dice());
        if at_once {
            plan.due_at = now;
        }
        let error = match trouble.kind {
            FetchTrouble::Stopped => None,
            FetchTrouble::Interrupted
            | FetchTrouble::LinkDead
            | FetchTrouble::WrongBody
            | FetchTrouble::Disk
            | FetchTrouble::Staged => Some(Failure::not_fetched(trouble.why.clone())),
        };
        let failed = FetchFailure { plan: plan.clone(), counts, error };
        match self.store.settle_fetch_failure(job.id, job.version, output.index, failed, now).await {
            Ok(()) => report(job.id, &trouble, &plan),
            Err(StoreError::Stale { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    /// Removes temporary files of dead jobs, now and then.
    async fn clear(&self, busy: &HashSet<JobId>, now: Timestamp) -> Result<()> {
        let first = {
            // Nothing that can panic runs under this lock.
            let mut last = self.cleared_at.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.since(last).max(last.since(now)) < CLEAR_EVERY) {
                return Ok(());
            }
            last.replace(now).is_none()
        };
        // A file on a disk that is not there can't be removed: it waits for its disk.
        if self.room.root().await.is_err() {
            return Ok(());
        }
        clear(&self.store, &self.output, busy, first, now).await
    }
}

fn report(id: JobId, trouble: &Trouble, plan: &FetchPlan) {
    let why = &trouble.why;
    match (&plan.event, trouble.kind) {
        (Some(Event::GaveUp { failure }), _) => super::report_lost(id, failure),
        (Some(_), _) => {
            let state = Label::Generating.as_str();
            info!(
                job.id = id.0,
                state.to = state,
                ?why,
                "the link of job {id} is dead; a fresh one is asked for"
            );
        }
        (None, FetchTrouble::Stopped) => {}
        (None, FetchTrouble::Staged) => info!(job.id = id.0, "the video of job {id} is here: {why}"),
        (None, FetchTrouble::Disk) => {
            warn!(job.id = id.0, ?why, next = %plan.due_at, "the video of job {id} can't be stored");
        }
        (None, FetchTrouble::Interrupted | FetchTrouble::LinkDead | FetchTrouble::WrongBody) => {
            warn!(job.id = id.0, ?why, next = %plan.due_at, "the video of job {id} did not arrive");
        }
    }
}

const fn brought(trouble: FetchTrouble) -> vitals::Download {
    match trouble {
        FetchTrouble::Interrupted => vitals::Download::Interrupted,
        FetchTrouble::LinkDead => vitals::Download::LinkDead,
        FetchTrouble::WrongBody => vitals::Download::WrongBody,
        FetchTrouble::Stopped => vitals::Download::Stopped,
        FetchTrouble::Disk => vitals::Download::Disk,
        FetchTrouble::Staged => vitals::Download::Staged,
    }
}

/// Whether an error speaks of the place, so that no other video could be stored there either.
fn is_of_the_place(error: &DiskError) -> bool {
    match error {
        DiskError::Full { .. }
        | DiskError::Gone { .. }
        | DiskError::Denied { .. }
        | DiskError::Outside { .. }
        | DiskError::Unmounted { .. }
        | DiskError::Io { .. } => true,
        DiskError::Exists { .. }
        | DiskError::TooLarge { .. }
        | DiskError::Foreign { .. }
        | DiskError::Busy { .. } => false,
    }
}
