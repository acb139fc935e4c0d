//! From a whole temporary file to a video under its final name: checked, named, recorded, renamed, told.
//!
//! The order is the promise: the final path is committed before the rename, so that a crash between any two lines can be
//! told apart at the next start by what is on disk.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    fetch::{Ended, Folder, Stored, on_disk},
    verify::{self, Checked, Verdict},
};
use crate::{
    clock::{Clock, local},
    disk::{self, DiskError, Fields, Finished, Named, Sha256, Template},
    domain::{
        Job, JobId, Timestamp,
        plan::download::{FetchTrouble, Verify},
    },
    failpoint::{Point, reach},
    store::{
        Store, StoreError,
        download::{Output, OutputFile},
    },
};

/// Names tried before a taken name is called a fault of the place: nobody has ten thousand videos of one name.
const MAX_NUMBER: u32 = 10_000;

/// Where videos go.
#[derive(Clone, Debug)]
pub struct OutputSettings {
    /// The root of all videos.
    pub root: PathBuf,
    /// Where they wait while the root can't take them.
    pub staging: PathBuf,
    /// The name below the root, where the job has none of its own.
    pub template: Template,
    /// Whether a `NAME.json` goes beside each video.
    pub sidecar: bool,
    /// How a video is checked before it gets its name.
    pub verify: Verify,
}

impl OutputSettings {
    /// The relative path of a job's first video. It depends on nothing but the job: a restart finds the same.
    pub fn relative(&self, job: &Job) -> PathBuf {
        let own = job.output.as_deref().and_then(|t| Template::parse(t).ok());
        let request = &job.request;
        own.as_ref().unwrap_or(&self.template).render(&Fields {
            id: job.id.0,
            name: job.name.as_deref().unwrap_or_default(),
            batch: job.batch.as_deref().unwrap_or_default(),
            job_type: request.job_type().as_str(),
            duration_s: request.duration_s().map(u32::from),
            aspect_ratio: Some(request.aspect_ratio().as_str()),
            take: job.take,
            at: local(job.created_at).datetime(),
            prompt: request.prompt(),
        })
    }

    /// The temporary files that one of a job's videos may have: beside the place where it goes, and in staging.
    pub fn parts(&self, job: &Job, index: u32) -> [PathBuf; 2] {
        let relative = self.relative(job);
        let dir = self.root.join(relative.parent().unwrap_or(Path::new("")));
        [dir, self.staging.clone()].map(|dir| disk::part_path(&dir, &part_name(job.id, index)))
    }
}

/// The name of a temporary file: the job's and the video's alone.
fn part_name(job: JobId, index: u32) -> String {
    format!("klingd-{job}-{index}")
}

/// Whose temporary file has this name, if it is one.
pub(super) fn owner_of_part(name: &str) -> Option<(JobId, u32)> {
    let (job, index) = name.strip_prefix("klingd-")?.split_once('-')?;
    let (job, index) = (JobId(job.parse().ok()?), index.parse().ok()?);
    // Digits can be written in several ways, and ours in one.
    (part_name(job, index) == name).then_some((job, index))
}

/// What publishing needs.
pub(super) struct Publish<'a> {
    pub store: &'a Store,
    pub clock: Clock,
    pub settings: &'a OutputSettings,
    pub stop: &'a CancellationToken,
    pub job: &'a Job,
    pub index: u32,
    /// The folder of the video.
    pub folder: Folder,
    /// Where the job's first video goes.
    pub relative: &'a Path,
}

impl Publish<'_> {
    /// Judges a part that is on the disk; gives it back with remarks about it.
    pub(super) async fn check(&self, stored: Stored) -> Result<(Finished, Vec<String>), Ended> {
        let Stored { finished, structure } = stored;
        let Verdict { checked, info } =
            verify::check(self.settings.verify, &finished.path, structure, self.stop).await?;
        let differences = info.map(|info| verify::differences(&self.job.request, &info)).unwrap_or_default();
        let numbered = disk::numbered(self.relative, self.index + 1);
        let kept = finished.path.with_file_name(numbered.file_name().unwrap_or_default());
        let (why, may_be_so) = match checked {
            Checked::Good(remarks) => return Ok((finished, [remarks, differences].concat())),
            Checked::Bad(why) => (why, false),
            Checked::Odd(why) => (why, true),
        };
        let file = finished.clone();
        // Kept for a person to look at; never a reason to pay again.
        let same_again = on_disk(move || {
            let mut suspect = kept.as_os_str().to_owned();
            suspect.push(".suspect");
            if may_be_so && disk::already_published(Path::new(&suspect), file.bytes, &file.sha256)? {
                return disk::remove_durably(Path::new(&suspect)).map(|()| true);
            }
            disk::set_aside(&file.path, &kept).map(|_| false)
        });
        if same_again.await? {
            // It came twice, byte for byte: that is what was made and paid for.
            return Ok((finished, [vec![why], differences].concat()));
        }
        Err(Ended::trouble(FetchTrouble::WrongBody, why))
    }

    /// Publishes a checked part, with the remarks of its check if that was just now.
    pub(super) async fn run(&self, finished: &Finished, remarks: Option<Vec<String>>) -> Result<(), Ended> {
        for n in self.index + 1..MAX_NUMBER {
            let relative = disk::numbered(self.relative, n);
            let path = self.settings.root.join(&relative);
            self.record(finished, &path).await?;
            reach(Point::DownloadVerified);
            if let Some(told) = self.name_it(finished, relative, &path).await? {
                let remarks = self.remarks(remarks, &path, finished.bytes).await?;
                return self.commit(told, remarks).await;
            }
        }
        let why = format!("{MAX_NUMBER} videos are named like {} already", self.relative.display());
        Err(Ended::trouble(FetchTrouble::Disk, why))
    }

    /// Takes up a file that an earlier run verified and may or may not have renamed. `false` when nothing of it is left.
    pub(super) async fn take_up(&self, output: &Output, file: &OutputFile) -> Result<bool, Ended> {
        let Ok(sha256) = file.sha256.parse::<Sha256>() else { return Ok(false) };
        let (path, bytes) = (PathBuf::from(&file.path), file.bytes);
        let there = path.clone();
        if on_disk(move || disk::already_published(&there, bytes, &sha256)).await? {
            self.take_over(&path, bytes, &sha256).await?;
            return Ok(true);
        }
        let Some(part) = output.partial.as_ref().map(|partial| PathBuf::from(&partial.path)) else {
            return Ok(false);
        };
        let there = part.clone();
        if on_disk(move || disk::already_published(&there, bytes, &sha256)).await? {
            self.run(&Finished { path: part, bytes, sha256 }, None).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Records a checked part that waits in staging, under the name that it is meant to get.
    pub(super) async fn stage(&self, finished: &Finished) -> Result<(), Ended> {
        let path = self.settings.root.join(disk::numbered(self.relative, self.index + 1));
        self.record(finished, &path).await?;
        reach(Point::DownloadStaged);
        Ok(())
    }

    /// Gives the part this name, with its sidecar beside, and makes both durable at once. `None` where it is taken.
    async fn name_it(
        &self,
        finished: &Finished,
        relative: PathBuf,
        path: &Path,
    ) -> Result<Option<Told>, Ended> {
        let (root, from, to, sha256) =
            (self.settings.root.clone(), finished.path.clone(), path.to_owned(), finished.sha256);
        let parts = self.settings.parts(self.job, self.index);
        let at = self.clock.now();
        let sidecar = self.sidecar(path, finished.bytes, &sha256, at);
        on_disk(move || {
            disk::below_root(&root, &relative)?;
            let named = match disk::move_in(&from, &to, &parts[0], &sha256) {
                Err(DiskError::Exists { .. }) => return Ok(None),
                named => named?,
            };
            reach(Point::DownloadPublished);
            tell(sidecar, Some(named), &parts, at).map(Some)
        })
        .await
    }

    /// A file that has its name already, as far as the disk knows.
    async fn take_over(&self, path: &Path, bytes: u64, sha256: &Sha256) -> Result<(), Ended> {
        let parts = self.settings.parts(self.job, self.index);
        let at = self.clock.now();
        let sidecar = self.sidecar(path, bytes, sha256, at);
        let told = on_disk(move || tell(sidecar, None, &parts, at)).await?;
        let remarks = self.remarks(None, path, bytes).await?;
        self.commit(told, remarks).await
    }

    async fn record(&self, finished: &Finished, path: &Path) -> Result<(), Ended> {
        let file = OutputFile {
            path: path.to_string_lossy().into_owned(),
            bytes: finished.bytes,
            sha256: finished.sha256.to_string(),
        };
        let part = finished.path.to_string_lossy().into_owned();
        let job = self.job.id;
        match self.store.record_verified(job, self.index, part, file).await? {
            true => Ok(()),
            // Cancelled meanwhile: the part is cleared with the job's others.
            false => Err(StoreError::Stale { job }.into()),
        }
    }

    async fn remarks(
        &self,
        known: Option<Vec<String>>,
        path: &Path,
        bytes: u64,
    ) -> Result<Vec<String>, Ended> {
        match known {
            Some(remarks) => Ok(remarks),
            None => verify::remarks(&self.job.request, path.to_owned(), bytes).await,
        }
    }

    fn sidecar(&self, path: &Path, bytes: u64, sha256: &Sha256, now: Timestamp) -> Option<Sidecar> {
        self.settings.sidecar.then(|| Sidecar {
            path: path.with_extension("json"),
            text: sidecar_text(self.job, path, bytes, sha256, now),
            task: self.job.state.task().map(ToString::to_string).unwrap_or_default(),
        })
    }

    /// Commits the end. Then what a way through staging leaves may go: the original of a copy, and what was fetched before
    /// the root went away.
    async fn commit(&self, told: Told, mut remarks: Vec<String>) -> Result<(), Ended> {
        if told.sidecar_is_foreign {
            remarks.push("no sidecar: a file of that name is somebody else's".to_owned());
        }
        let note = (!remarks.is_empty()).then(|| remarks.join("; "));
        self.store.record_published(self.job.id, self.index, note, told.at).await?;
        reach(Point::DownloadCommitted);
        if told.left.is_empty() {
            return Ok(());
        }
        on_disk(move || told.left.iter().try_for_each(|part| disk::remove_durably(part))).await
    }
}

/// What is written beside a video.
struct Sidecar {
    path: PathBuf,
    text: String,
    task: String,
}

/// A video that has its name, durably, and all that is to be beside it.
struct Told {
    at: Timestamp,
    /// No sidecar was written.
    sidecar_is_foreign: bool,
    /// Temporary files that have no use any more.
    left: Vec<PathBuf>,
}

/// Writes the sidecar and makes it durable together with the name of the video; blocks.
fn tell(
    sidecar: Option<Sidecar>,
    video: Option<Named>,
    parts: &[PathBuf],
    at: Timestamp,
) -> Result<Told, DiskError> {
    let mut names: Vec<Named> = video.into_iter().collect();
    let mut sidecar_is_foreign = false;
    if let Some(sidecar) = sidecar {
        match sidecar.write()? {
            Some(named) => names.push(named),
            None => sidecar_is_foreign = true,
        }
        reach(Point::DownloadSidecar);
    }
    disk::make_durable(&names)?;
    let left = parts.iter().filter(|part| part.exists()).cloned().collect();
    Ok(Told { at, sidecar_is_foreign, left })
}

fn sidecar_text(job: &Job, path: &Path, bytes: u64, sha256: &Sha256, now: Timestamp) -> String {
    let text = json!({
        "job": job.id,
        "name": job.name,
        "batch": job.batch,
        "tags": job.tags,
        "take": job.take,
        "task_id": job.state.task(),
        "request": job.request,
        "estimated_credits": job.estimate,
        "charged_credits": job.charged,
        "created_at": job.created_at.to_string(),
        "submitted_at": job.submitted_at.map(|t| t.to_string()),
        "finished_at": now.to_string(),
        "file": path.file_name().map(|n| n.to_string_lossy()),
        "bytes": bytes,
        "sha256": sha256.to_string(),
    });
    format!("{text:#}\n")
}

impl Sidecar {
    /// `None` when the name is a stranger's: nothing is ever overwritten but our own earlier text of the same task.
    fn write(&self) -> Result<Option<Named>, DiskError> {
        /// Bytes of a sidecar: a request is a few kB.
        const MAX_BYTES: u64 = 1024 * 1024;
        let (path, text) = (&self.path, self.text.as_bytes());
        match disk::write_named(path, text, disk::Access::Group, disk::Clobber::Refuse) {
            Err(DiskError::Exists { .. }) => {}
            named => return named.map(Some),
        }
        let old = disk::read_bounded(path, MAX_BYTES).unwrap_or_default();
        let ours = serde_json::from_slice::<serde_json::Value>(&old).is_ok_and(|v| v["task_id"] == self.task);
        if !ours {
            return Ok(None);
        }
        disk::write_named(path, text, disk::Access::Group, disk::Clobber::Replace).map(Some)
    }
}
