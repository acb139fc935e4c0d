//! From a whole temporary file to a video under its final name: checked, named, recorded, renamed, told.
//!
//! The order is the promise: the final path is committed before the rename, so that a crash between any two lines can be
//! told apart at the next start by what is on disk.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    fetch::{Ended, on_disk},
    verify::{self, Checked, Verdict},
};
use crate::{
    clock::{Clock, local},
    disk::{self, DiskError, Fields, Finished, Sha256, Template},
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
    /// Where the job's first video goes.
    pub relative: &'a Path,
}

impl Publish<'_> {
    /// Makes the folder of the video.
    pub(super) async fn prepare(&self) -> Result<(), Ended> {
        let (root, folder) = (self.settings.root.clone(), self.folder().to_owned());
        on_disk(move || disk::create_dirs_durably(&root, &folder).map(drop)).await
    }

    /// The folder of the video below the root.
    pub(super) fn folder(&self) -> &Path {
        self.relative.parent().unwrap_or(Path::new(""))
    }

    /// Looks into a finished part; gives remarks about it.
    pub(super) async fn check(&self, finished: &Finished) -> Result<Vec<String>, Ended> {
        let Verdict { checked, info } =
            verify::check(self.settings.verify, &finished.path, finished.bytes, self.stop).await?;
        let differences = info.map(|info| verify::differences(&self.job.request, &info)).unwrap_or_default();
        let numbered = disk::numbered(self.relative, self.index + 1);
        let kept = finished.path.with_file_name(numbered.file_name().unwrap_or_default());
        let (why, may_be_so) = match checked {
            Checked::Good(remarks) => return Ok([remarks, differences].concat()),
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
            return Ok([vec![why], differences].concat());
        }
        Err(Ended::trouble(FetchTrouble::WrongBody, why))
    }

    /// Publishes a checked part, with the remarks of its check if that was just now.
    pub(super) async fn run(&self, finished: &Finished, remarks: Option<Vec<String>>) -> Result<(), Ended> {
        let path = self.name_it(finished).await?;
        reach(Point::DownloadPublished);
        self.tell(&path, finished.bytes, &finished.sha256, remarks).await
    }

    /// Takes up a file that an earlier run verified and may or may not have renamed. `false` when nothing of it is left.
    pub(super) async fn take_up(&self, output: &Output, file: &OutputFile) -> Result<bool, Ended> {
        let Ok(sha256) = file.sha256.parse::<Sha256>() else { return Ok(false) };
        let (path, bytes) = (PathBuf::from(&file.path), file.bytes);
        let there = path.clone();
        if on_disk(move || disk::already_published(&there, bytes, &sha256)).await? {
            self.tell(&path, bytes, &sha256, None).await?;
            self.tidy().await?;
            return Ok(true);
        }
        let Some(part) = output.partial.as_ref().map(|partial| PathBuf::from(&partial.path)) else {
            return Ok(false);
        };
        let there = part.clone();
        if on_disk(move || disk::already_published(&there, bytes, &sha256)).await? {
            self.run(&Finished { path: part, bytes, sha256 }, None).await?;
            self.tidy().await?;
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

    /// Gives the part the first free name: `name.mp4` for the first video, `name-2.mp4` for the second …
    async fn name_it(&self, finished: &Finished) -> Result<PathBuf, Ended> {
        let [copy, _] = self.settings.parts(self.job, self.index);
        for n in self.index + 1..MAX_NUMBER {
            let (root, relative) = (self.settings.root.clone(), disk::numbered(self.relative, n));
            let path = match on_disk(move || disk::below_root(&root, &relative)).await {
                Err(error @ Ended::Disk(_)) => {
                    // The root went away meanwhile. What is whole stays so, wherever it stands.
                    self.stage(finished).await?;
                    return Err(error);
                }
                other => other?,
            };
            self.record(finished, &path).await?;
            reach(Point::DownloadVerified);
            let (from, to, copy, sha256) =
                (finished.path.clone(), path.clone(), copy.clone(), finished.sha256);
            let named = on_disk(move || match disk::move_in(&from, &to, &copy, &sha256) {
                Ok(()) => Ok(true),
                Err(DiskError::Exists { .. }) => Ok(false),
                Err(other) => Err(other),
            });
            if named.await? {
                return Ok(path);
            }
        }
        let why = format!("{MAX_NUMBER} videos are named like {} already", self.relative.display());
        Err(Ended::trouble(FetchTrouble::Disk, why))
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

    /// Writes the sidecar and commits the end.
    async fn tell(
        &self,
        path: &Path,
        bytes: u64,
        sha256: &Sha256,
        remarks: Option<Vec<String>>,
    ) -> Result<(), Ended> {
        let now = self.clock.now();
        let mut remarks = match remarks {
            Some(remarks) => remarks,
            None => verify::remarks(&self.job.request, path.to_owned(), bytes).await?,
        };
        if self.settings.sidecar {
            let sidecar = path.with_extension("json");
            let text = sidecar_text(self.job, path, bytes, sha256, now);
            let task = self.job.state.task().map(ToString::to_string).unwrap_or_default();
            if !on_disk(move || write_sidecar(&sidecar, &text, &task)).await? {
                remarks.push("no sidecar: a file of that name is somebody else's".to_owned());
            }
            reach(Point::DownloadSidecar);
        }
        let note = (!remarks.is_empty()).then(|| remarks.join("; "));
        self.store.record_published(self.job.id, self.index, note, now).await?;
        reach(Point::DownloadCommitted);
        Ok(())
    }

    /// Removes what a way through staging leaves: the original of a copy, and what was fetched before the root went away.
    pub(super) async fn tidy(&self) -> Result<(), Ended> {
        let parts = self.settings.parts(self.job, self.index);
        on_disk(move || {
            parts.iter().filter(|part| part.exists()).try_for_each(|part| disk::remove_durably(part))
        })
        .await
    }
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

/// `false` when the name is a stranger's: nothing is ever overwritten but our own earlier text of the same task.
fn write_sidecar(path: &Path, text: &str, task: &str) -> Result<bool, DiskError> {
    /// Bytes of a sidecar: a request is a few kB.
    const MAX_BYTES: u64 = 1024 * 1024;
    match disk::write_atomically(path, text.as_bytes(), disk::Access::Group, disk::Clobber::Refuse) {
        Ok(()) => Ok(true),
        Err(DiskError::Exists { .. }) => {
            let old = disk::read_bounded(path, MAX_BYTES).unwrap_or_default();
            let ours = serde_json::from_slice::<serde_json::Value>(&old).is_ok_and(|v| v["task_id"] == task);
            if ours {
                disk::write_atomically(path, text.as_bytes(), disk::Access::Group, disk::Clobber::Replace)?;
            }
            Ok(ours)
        }
        Err(other) => Err(other),
    }
}
