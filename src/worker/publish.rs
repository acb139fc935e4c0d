//! From a whole temporary file to a video under its final name: checked, named, recorded, renamed, told.
//!
//! The order is the promise: the final path is committed before the rename, so that a crash between any two lines can be
//! told apart at the next start by what is on disk.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::fetch::{Ended, on_disk};
use crate::{
    clock::{Clock, local},
    disk::{self, DiskError, Fields, Finished, Mp4Info, Sha256, Template},
    domain::{Job, Timestamp, plan::download::FetchTrouble, request::Request},
    failpoint::{Point, reach},
    store::{Store, download::OutputFile},
};

/// Names tried before a taken name is called a fault of the place: nobody has ten thousand videos of one name.
const MAX_NUMBER: u32 = 10_000;
/// A difference to the length asked for that is worth a remark (provider.md: 0.1 s off is normal).
const LENGTH_TOLERANCE_MS: u64 = 500;

/// Where videos go.
#[derive(Clone, Debug)]
pub struct OutputSettings {
    /// The root of all videos.
    pub root: PathBuf,
    /// The name below it, where the job has none of its own.
    pub template: Template,
    /// Whether a `NAME.json` goes beside each video.
    pub sidecar: bool,
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

    /// The temporary file of one of a job's videos, beside the place where it goes.
    pub fn part(&self, relative: &Path, job: &Job, index: u32) -> PathBuf {
        let dir = self.root.join(relative.parent().unwrap_or(Path::new("")));
        disk::part_path(&dir, &format!("klingd-{}-{index}", job.id))
    }
}

/// What publishing needs.
pub(super) struct Publish<'a> {
    pub store: &'a Store,
    pub clock: Clock,
    pub settings: &'a OutputSettings,
    pub job: &'a Job,
    pub index: u32,
}

impl Publish<'_> {
    /// Checks and publishes a finished part.
    pub(super) async fn run(&self, relative: &Path, finished: Finished) -> Result<(), Ended> {
        let (path, bytes) = (finished.path.clone(), finished.bytes);
        let checked = on_disk(move || Ok(disk::mp4::check(&path, Some(bytes)))).await?;
        let info = match checked {
            Ok(info) => info,
            Err(why) => {
                // Kept for a person to look at; never a reason to pay again.
                let suspect = self.settings.root.join(relative);
                let part = finished.path.clone();
                on_disk(move || disk::set_aside(&part, &suspect)).await?;
                return Err(Ended::trouble(FetchTrouble::WrongBody, why.to_string()));
            }
        };
        let path = self.name_it(relative, &finished).await?;
        reach(Point::DownloadPublished);
        self.tell(&path, finished.bytes, &finished.sha256, Some(&info)).await
    }

    /// Takes up a file that an earlier run verified and may or may not have renamed. `false` when nothing of it is left.
    pub(super) async fn take_up(
        &self,
        relative: &Path,
        part: PathBuf,
        file: &OutputFile,
    ) -> Result<bool, Ended> {
        let Ok(sha256) = file.sha256.parse::<Sha256>() else { return Ok(false) };
        let (path, bytes) = (PathBuf::from(&file.path), file.bytes);
        let (there, hash) = (path.clone(), sha256);
        if on_disk(move || disk::already_published(&there, bytes, &hash)).await? {
            self.tell(&path, bytes, &sha256, None).await?;
            return Ok(true);
        }
        let (there, hash) = (part.clone(), sha256);
        if on_disk(move || disk::already_published(&there, bytes, &hash)).await? {
            self.run(relative, Finished { path: part, bytes, sha256 }).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Gives the part the first free name: `name.mp4` for the first video, `name-2.mp4` for the second …
    async fn name_it(&self, relative: &Path, finished: &Finished) -> Result<PathBuf, Ended> {
        for n in self.index + 1..MAX_NUMBER {
            let (root, relative) = (self.settings.root.clone(), disk::numbered(relative, n));
            let path = on_disk(move || disk::below_root(&root, &relative)).await?;
            let file = OutputFile {
                path: path.to_string_lossy().into_owned(),
                bytes: finished.bytes,
                sha256: finished.sha256.to_string(),
            };
            let part = finished.path.to_string_lossy().into_owned();
            self.store.record_verified(self.job.id, self.index, part, file).await?;
            reach(Point::DownloadVerified);
            let (from, to) = (finished.path.clone(), path.clone());
            let named = on_disk(move || match disk::publish(&from, &to) {
                Ok(()) => Ok(true),
                Err(DiskError::Exists { .. }) => Ok(false),
                Err(other) => Err(other),
            });
            if named.await? {
                return Ok(path);
            }
        }
        let why = format!("{MAX_NUMBER} videos are named like {} already", relative.display());
        Err(Ended::trouble(FetchTrouble::Disk, why))
    }

    /// Writes the sidecar and commits the end.
    async fn tell(
        &self,
        path: &Path,
        bytes: u64,
        sha256: &Sha256,
        info: Option<&Mp4Info>,
    ) -> Result<(), Ended> {
        let now = self.clock.now();
        let mut note = info.and_then(|info| differs(&self.job.request, info));
        if self.settings.sidecar {
            let sidecar = path.with_extension("json");
            let text = sidecar_text(self.job, path, bytes, sha256, now);
            let task = self.job.state.task().map(ToString::to_string).unwrap_or_default();
            if !on_disk(move || write_sidecar(&sidecar, &text, &task)).await? {
                note = Some("no sidecar: a file of that name is somebody else's".to_owned());
            }
            reach(Point::DownloadSidecar);
        }
        self.store.record_published(self.job.id, self.index, note, now).await?;
        reach(Point::DownloadCommitted);
        Ok(())
    }
}

/// What the video is otherwise than asked: a remark, never a reason to refuse it.
fn differs(request: &Request, info: &Mp4Info) -> Option<String> {
    if request.sound() && !info.has_audio() {
        return Some("no sound track, although sound was asked for".to_owned());
    }
    let asked_ms = u64::from(request.duration_s()?) * 1000;
    let is_ms = info.duration_ms;
    (is_ms.abs_diff(asked_ms) > LENGTH_TOLERANCE_MS).then(|| {
        format!("{:.1} s long, {:.1} s were asked for", is_ms as f64 / 1000.0, asked_ms as f64 / 1000.0)
    })
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
