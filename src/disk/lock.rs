//! One daemon a data directory.
//!
//! The lock is the kernel's, on a file that stays: it ends with its process, however that ends. What is
//! written in the file only says who to a person, and may be stale without harm. The file is never removed:
//! somebody could hold the old one while somebody else locks a new one.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::error::DiskError;
use super::open::plain_file;
use super::small::{Access, set_access};

/// The lock's file in the data directory.
const LOCK_FILE: &str = "klingd.lock";

/// What is shown of the holder; it is written by whoever has access to the directory.
const MAX_HOLDER_BYTES: usize = 200;

/// How often a lock is tried that only probes are holding. A probe takes microseconds, so two in a row that
/// hit one are rare already.
const MAX_TRIES: u32 = 1000;

/// The data directory, held until this is dropped or the process ends.
#[derive(Debug)]
pub struct DirLock {
    /// Holds the lock, and is not read.
    _file: File,
}

/// The data directory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is in use.
    #[error("{} is in use by {by}", dir.display())]
    Held {
        /// The data directory.
        dir: PathBuf,
        /// Who holds it, by their own word.
        by: String,
    },
    /// The lock's file could not be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl DirLock {
    /// Takes the directory for this process, or says who has it. `who` is the sentence that the next one
    /// reads: the command, its process id, since when.
    pub fn acquire(dir: &Path, who: &str) -> Result<DirLock, LockError> {
        DirLock::acquire_between_probes(dir, who, std::thread::yield_now)
    }

    /// Whether somebody holds the directory; without a lock file nobody does. Disturbs nobody who does or
    /// wants to.
    pub fn is_held(dir: &Path) -> Result<bool, DiskError> {
        let path = dir.join(LOCK_FILE);
        let file = match plain_file(&path, OFlags::RDONLY) {
            Ok(file) => file,
            Err(DiskError::Gone { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        // Shared, so that probes don't see each other, and a holder-to-be can tell them from a holder.
        is_refused(file.try_lock_shared()).map_err(DiskError::at("probe", &path))
    }

    fn acquire_between_probes(dir: &Path, who: &str, pause: impl Fn()) -> Result<DirLock, LockError> {
        let path = dir.join(LOCK_FILE);
        let file = plain_file(&path, OFlags::RDWR | OFlags::CREATE)?;
        for _ in 0..MAX_TRIES {
            if !is_refused(file.try_lock()).map_err(DiskError::at("lock", &path))? {
                introduce(&file, who).map_err(DiskError::at("write to", &path))?;
                return Ok(DirLock { _file: file });
            }
            if is_refused(file.try_lock_shared()).map_err(DiskError::at("lock", &path))? {
                break;
            }
            // Only probes have it. To fail for them would end a daemon's start for good.
            file.unlock().map_err(DiskError::at("unlock", &path))?;
            pause();
        }
        Err(LockError::Held { dir: dir.to_path_buf(), by: holder(&file) })
    }
}

fn is_refused(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Not synced: after a power cut nobody holds the lock, and nobody reads this.
fn introduce(mut file: &File, who: &str) -> io::Result<()> {
    // The group may lock, too: its members run commands on the same queue. Only the file's owner can say so.
    set_access(file, Access::GroupWrites)?;
    file.set_len(0)?;
    file.write_all(who.as_bytes())
}

fn holder(file: &File) -> String {
    let mut bytes = [0; MAX_HOLDER_BYTES];
    let length = file.read_at(&mut bytes, 0).unwrap_or_default();
    let text: String =
        String::from_utf8_lossy(&bytes[..length]).chars().filter(|c| !c.is_control()).collect();
    // Between locking and writing, or when the file cannot be read.
    if text.is_empty() { "another process".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::disk::plant;

    fn held_by(refused: Result<DirLock, LockError>) -> String {
        match refused {
            Err(LockError::Held { by, .. }) => by,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_second_one_learns_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!DirLock::is_held(dir.path()).unwrap());
        let first = DirLock::acquire(dir.path(), "klingd run, pid 123").unwrap();
        assert!(DirLock::is_held(dir.path()).unwrap());
        let refused = DirLock::acquire(dir.path(), "another").unwrap_err().to_string();
        assert_eq!(refused, format!("{} is in use by klingd run, pid 123", dir.path().display()));
        assert_eq!(
            held_by(DirLock::acquire(dir.path(), "x")),
            "klingd run, pid 123",
            "asking changes nothing"
        );
        drop(first);
        assert!(!DirLock::is_held(dir.path()).unwrap());
        let _second = DirLock::acquire(dir.path(), "short").unwrap();
        assert_eq!(held_by(DirLock::acquire(dir.path(), "x")), "short");
    }

    #[test]
    fn others_than_the_group_are_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = DirLock::acquire(dir.path(), "x").unwrap();
        let mode = fs::metadata(dir.path().join(LOCK_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{mode:o}");
    }

    #[test]
    fn what_an_earlier_one_left_is_harmless() {
        let dir = tempfile::tempdir().unwrap();
        plant(dir.path().join(LOCK_FILE), "klingd run, pid 1, killed ".repeat(100));
        assert!(!DirLock::is_held(dir.path()).unwrap());
        let lock = DirLock::acquire(dir.path(), "").unwrap();
        assert_eq!(held_by(DirLock::acquire(dir.path(), "x")), "another process");
        drop(lock);
        plant(dir.path().join(LOCK_FILE), "\x1b[2J".repeat(1000));
        let file = plain_file(&dir.path().join(LOCK_FILE), OFlags::RDONLY).unwrap();
        assert!(holder(&file).len() <= MAX_HOLDER_BYTES && !holder(&file).contains('\x1b'));
    }

    #[test]
    fn probes_do_not_keep_a_daemon_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        plant(dir.path().join(LOCK_FILE), b"");
        let probe = Cell::new(Some(plain_file(&dir.path().join(LOCK_FILE), OFlags::RDONLY).unwrap()));
        let shared = probe.take().unwrap();
        shared.lock_shared().unwrap();
        probe.set(Some(shared));
        let tries = Cell::new(0);
        DirLock::acquire_between_probes(dir.path(), "x", || {
            tries.set(tries.get() + 1);
            if tries.get() == 3 {
                drop(probe.take());
            }
        })
        .unwrap();
        assert_eq!(tries.get(), 3);
    }

    #[test]
    fn a_probe_that_never_ends_ends_the_tries() {
        let dir = tempfile::tempdir().unwrap();
        plant(dir.path().join(LOCK_FILE), b"");
        let probe = plain_file(&dir.path().join(LOCK_FILE), OFlags::RDONLY).unwrap();
        probe.lock_shared().unwrap();
        assert_eq!(held_by(DirLock::acquire_between_probes(dir.path(), "x", || {})), "another process");
    }

    #[test]
    fn links_and_missing_directories_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join(LOCK_FILE)).unwrap();
        let refused = DirLock::acquire(dir.path(), "x");
        assert!(matches!(refused, Err(LockError::Disk(DiskError::Foreign { .. }))));
        assert!(!dir.path().join("elsewhere").exists());
        let refused = DirLock::acquire(&dir.path().join("gone"), "x");
        assert!(matches!(refused, Err(LockError::Disk(DiskError::Gone { .. }))));
        assert!(!DirLock::is_held(&dir.path().join("gone")).unwrap());
    }
}
