//! The spool: where the raw answer to a submit goes when the database can't take it. Read at the next start.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    disk::{self, DiskError},
    domain::{AttemptNo, JobId, evidence::Evidence},
};

/// An answer that is not in the database yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spooled {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptNo,
    /// The raw answer.
    pub evidence: Evidence,
}

/// Bytes of a spool file: a body of 64 KiB, escaped six-fold at the worst, with its headers.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The folder of spooled answers, and the reserve that makes room for them on a full disk.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
    reserve: PathBuf,
}

impl Spool {
    /// The spool in `dir`, with the reserve file `reserve`.
    pub fn new(dir: PathBuf, reserve: PathBuf) -> Self {
        Self { dir, reserve }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self, job: JobId, attempt: AttemptNo) -> PathBuf {
        self.dir.join(format!("job-{job}-attempt-{attempt}.json"))
    }

    /// Keeps an answer, durably.
    pub async fn keep(&self, spooled: Spooled) -> Result<(), DiskError> {
        let path = self.file(spooled.job, spooled.attempt);
        blocking(move || {
            let bytes = serde_json::to_vec(&spooled).unwrap_or_default();
            disk::write_atomically(&path, &bytes, disk::Access::Owner, disk::Clobber::Replace)
        })
        .await
    }

    /// Drops an answer that is in the database now. A file that stays is harmless: it is read again and refused.
    pub async fn forget(&self, job: JobId, attempt: AttemptNo) {
        let path = self.file(job, attempt);
        if path.exists() {
            blocking(move || disk::remove_durably(&path)).await.ok();
        }
    }

    /// Frees the reserve beside the database, so that the last commits get through.
    pub async fn release_reserve(&self) {
        let path = self.reserve.clone();
        blocking(move || disk::remove_durably(&path)).await.ok();
    }

    /// Everything that was kept; files that can't be read are named, not dropped. No folder: nothing was ever kept.
    pub fn read_all(&self) -> io::Result<Vec<Result<Spooled, (PathBuf, String)>>> {
        let mut all = Vec::new();
        let entries = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let cut = path.extension().is_some_and(|e| e == "tmp");
            if cut || path.extension().is_some_and(|e| e == "json") {
                let read = if cut { self.complete(&path) } else { read(&path).map(Some) };
                all.extend(read.map_err(|why| (path, why)).transpose());
            }
        }
        Ok(all)
    }

    /// Takes up a file that a kill left between its writing and its renaming: whole, it is an answer like any other;
    /// empty, there was none.
    fn complete(&self, path: &Path) -> Result<Option<Spooled>, String> {
        let said = |e: DiskError| e.to_string();
        if disk::read_bounded(path, MAX_FILE_BYTES).map_err(said)?.is_empty() {
            return disk::remove_durably(path).map(|()| None).map_err(said);
        }
        let spooled = read(path)?;
        match disk::rename_no_clobber(path, &self.file(spooled.job, spooled.attempt)) {
            // The same answer was kept before, and is read by its own name.
            Err(DiskError::Exists { .. }) => disk::remove_durably(path).map(|()| None).map_err(said),
            other => other.map(|()| Some(spooled)).map_err(said),
        }
    }
}

fn read(path: &Path) -> Result<Spooled, String> {
    let bytes = disk::read_bounded(path, MAX_FILE_BYTES).map_err(|e| e.to_string())?;
    serde_json::from_slice(&bytes).map_err(|e| e.to_string())
}

async fn blocking(work: impl FnOnce() -> Result<(), DiskError> + Send + 'static) -> Result<(), DiskError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime is shutting down under us.
        Err(e) => Err(DiskError::Io { doing: "write", path: PathBuf::new(), source: io::Error::other(e) }),
    }
}
