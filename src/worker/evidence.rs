//! The spool: where the raw answer to a submit goes when the database can't take it. Read at the next start.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    disk::{self, Ballast, DiskError},
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

/// Room that is kept beside the database, so that the last commits get through on a full disk: a thousand answers.
const RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a spool file: a body of 64 KiB, escaped six-fold at the worst, with its headers.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The extension of an answer, and of one whose writing was cut (the temporary names of `disk`).
const WHOLE: &str = "json";
const CUT: &str = "tmp";

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

    /// Keeps an answer, durably. On a full disk the reserve makes room for it.
    pub async fn keep(&self, spooled: Spooled) -> Result<(), DiskError> {
        let path = self.file(spooled.job, spooled.attempt);
        let reserve = self.reserve.clone();
        blocking(move || {
            let bytes = serde_json::to_vec(&spooled).unwrap_or_default();
            let write = || disk::write_atomically(&path, &bytes, disk::Access::Owner, disk::Clobber::Replace);
            match write() {
                Err(DiskError::Full { .. }) => {
                    disk::remove_durably(&reserve)?;
                    write()
                }
                done => done,
            }
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

    /// Makes sure of the reserve, before anything is paid for: without it an answer may find no place at all. It is not
    /// taken from the last room: another answer may be on its way into it.
    pub async fn ensure_reserve(&self) -> Result<(), String> {
        let path = self.reserve.clone();
        let ensured = tokio::task::spawn_blocking(move || {
            let dir = path.parent().unwrap_or(Path::new("."));
            let no_room = |why| format!("there is no room for the reserve beside the database: {why}");
            let failed = |e| match e {
                DiskError::Full { .. } => no_room(e.to_string()),
                other => format!("the reserve beside the database can't be made: {other}"),
            };
            let free = disk::free_bytes(dir).map_err(failed)?;
            if !path.exists() && free < 2 * RESERVE_BYTES {
                return Err(no_room(format!("{free} bytes are free in {}", dir.display())));
            }
            Ballast::ensure(&path, RESERVE_BYTES).map(drop).map_err(failed)
        });
        ensured.await.map_err(|e| e.to_string()).flatten()
    }

    /// Frees the reserve beside the database, so that the last commits get through.
    pub async fn release_reserve(&self) {
        let path = self.reserve.clone();
        blocking(move || disk::remove_durably(&path)).await.ok();
    }

    /// Everything that was kept, also what a kill left under its temporary name; files that can't be read are named, not
    /// dropped. No folder: nothing was ever kept.
    pub fn read_all(&self) -> io::Result<Vec<Result<Spooled, (PathBuf, String)>>> {
        let cut = self.files(CUT)?.into_iter().filter(|path| !is_empty(path));
        let all = self.files(WHOLE)?.into_iter().chain(cut);
        Ok(all.map(|path| read(&path).map_err(|why| (path, why))).collect())
    }

    /// Ends what a kill cut between the writing of a file and its renaming: a whole one is an answer like any other, of
    /// an empty one nothing was written. The caller holds the data directory's lock, for a daemon may be writing.
    pub fn complete_cut_files(&self) -> io::Result<()> {
        for path in self.files(CUT)? {
            let done = match read(&path) {
                Ok(spooled) => disk::rename_no_clobber(&path, &self.file(spooled.job, spooled.attempt)),
                Err(_) if is_empty(&path) => disk::remove_durably(&path),
                // It stays, to be looked at by a person.
                Err(_) => Ok(()),
            };
            match done {
                // The answer was kept before, whole.
                Err(DiskError::Exists { .. }) => disk::remove_durably(&path).map_err(io::Error::other)?,
                other => other.map_err(io::Error::other)?,
            }
        }
        Ok(())
    }

    fn files(&self, extension: &str) -> io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == extension)).collect())
    }
}

fn is_empty(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() == 0)
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
