//! The temporary file of a download.
//!
//! A part grows at its end only, knows the SHA-256 of what it holds, never exceeds its cap, and can be taken
//! up again after a crash at the last offset that was both synced and recorded. It stands in the directory of
//! its target, under a hidden name and closed to everybody else, so that nobody takes it for a video.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use sha2::Digest;

use super::dir::{parent, sync_dir};
use super::error::DiskError;
use super::hash::Sha256;
use super::open::plain_file;
use super::small::{Access, set_access};

/// What is read at a time to hash a file: large enough that system calls don't count.
const HASH_BLOCK_BYTES: usize = 256 * 1024;

/// A download in progress. Dropped without [`finish`](Part::finish), the file stays, to be resumed.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    hasher: sha2::Sha256,
    written_bytes: u64,
    durable_bytes: u64,
    /// The length that room was asked for; 0 when it was not.
    reserved_bytes: u64,
    cap_bytes: u64,
    /// Whether a power cut would leave the name. A small video gets its final one before anybody needs to know.
    name_is_durable: bool,
}

/// How much of a part was synced beside its writing.
#[derive(Debug)]
pub struct Durable {
    bytes: u64,
}

/// A part that is complete and durable, still under its temporary name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The temporary name.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The hash of its content.
    pub sha256: Sha256,
}

/// Where the part called `name` stands: `DIR/.NAME.part`.
///
/// `name` has to be the caller's alone (a job's id in it): two jobs may render the same final name, and must
/// not write into one file.
#[must_use]
pub fn part_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.part"))
}

/// How far a part is, for who only looks at its directory: its length, and the one that was reserved for it, to the block.
/// `None` where there is no part.
pub fn growth(path: &Path) -> Option<(u64, Option<u64>)> {
    /// The unit in which the system counts the room that a file takes.
    const STAT_BLOCK_BYTES: u64 = 512;
    let part = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let reserved = part.blocks().saturating_mul(STAT_BLOCK_BYTES);
    Some((part.len(), (reserved > part.len()).then_some(reserved)))
}

/// The parts in `dir`: their paths, and the names they were made with ([`part_path`]). Folders, links and files of other
/// names are left out.
pub fn parts_in(dir: &Path) -> Result<Vec<(PathBuf, String)>, DiskError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(DiskError::at("list", dir))? {
        let entry = entry.map_err(DiskError::at("list", dir))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(".part"));
        if let (true, Some(name)) = (is_file, name) {
            found.push((entry.path(), name.to_owned()));
        }
    }
    Ok(found)
}

impl Part {
    /// Starts a new, empty part; [`DiskError::Exists`] when there is one.
    pub fn create(dir: &Path, name: &str, cap_bytes: u64) -> Result<Part, DiskError> {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(DiskError::Outside { path: dir.join(name), root: dir.to_path_buf() });
        }
        Part::create_at(&part_path(dir, name), cap_bytes)
    }

    /// Takes up the part at `path` where it was durable; what stands behind that offset is dropped.
    ///
    /// A part that is missing, or shorter than it should be, starts from zero: see
    /// [`written_bytes`](Part::written_bytes).
    pub fn resume(path: &Path, durable_bytes: u64, cap_bytes: u64) -> Result<Part, DiskError> {
        let file = match plain_file(path, OFlags::RDWR) {
            Err(DiskError::Gone { .. }) => return Part::create_at(path, cap_bytes),
            opened => opened?,
        };
        let length = claim(&file, path)?;
        let kept_bytes = if length < durable_bytes { 0 } else { durable_bytes };
        if kept_bytes > cap_bytes {
            return Err(DiskError::TooLarge { path: path.to_path_buf(), cap_bytes });
        }
        file.set_len(kept_bytes).map_err(DiskError::at("truncate", path))?;
        let hasher = hash_start(&file, kept_bytes).map_err(DiskError::at("read", path))?;
        Ok(Part {
            file,
            path: path.to_path_buf(),
            hasher,
            written_bytes: kept_bytes,
            durable_bytes: kept_bytes,
            reserved_bytes: 0,
            cap_bytes,
            name_is_durable: kept_bytes > 0,
        })
    }

    /// Asks for the room of the whole file now, so that a full disk shows before the download and not in it.
    ///
    /// The length of the file stays as it is, so that no reserved zeros pass for content. Filesystems that
    /// cannot reserve are left alone: there the disk fills while writing.
    pub fn reserve(&mut self, total_bytes: u64) -> Result<(), DiskError> {
        if total_bytes <= self.written_bytes {
            return Ok(());
        }
        self.reserved_bytes = self.reserved_bytes.max(total_bytes);
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, total_bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(DiskError::at("reserve room for", &self.path)(error)),
        }
    }

    /// Appends. After an error the part holds what it held before, so the same bytes may be written again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let end = self.written_bytes.saturating_add(bytes.len() as u64);
        if end > self.cap_bytes {
            return Err(DiskError::TooLarge { path: self.path.clone(), cap_bytes: self.cap_bytes });
        }
        self.file.write_all_at(bytes, self.written_bytes).map_err(DiskError::at("write to", &self.path))?;
        self.hasher.update(bytes);
        self.written_bytes = end;
        Ok(())
    }

    /// Makes durable what was written, and gives the part back; [`durable_bytes`](Part::durable_bytes) may
    /// then be recorded.
    ///
    /// A sync that fails takes the part with it: the kernel may have dropped the data and would report
    /// success the next time. The way on is [`resume`](Part::resume) from the offset recorded before.
    pub fn sync(mut self) -> Result<Part, DiskError> {
        self.file.sync_data().map_err(DiskError::at("sync", &self.path))?;
        if !self.name_is_durable {
            // An offset recorded as durable is worth nothing when the name is lost.
            sync_dir(parent(&self.path))?;
            self.name_is_durable = true;
        }
        self.durable_bytes = self.written_bytes;
        Ok(self)
    }

    /// As [`sync`](Part::sync), while the part goes on being written: gives the work for another thread, whose result is
    /// for [`is_durable`](Part::is_durable). If it fails, nothing of the part may be trusted, as there.
    pub fn sync_beside(
        &self,
    ) -> Result<impl FnOnce() -> Result<Durable, DiskError> + Send + 'static + use<>, DiskError> {
        let file = self.file.try_clone().map_err(DiskError::at("sync", &self.path))?;
        let (path, bytes, name_is_durable) = (self.path.clone(), self.written_bytes, self.name_is_durable);
        Ok(move || {
            file.sync_data().map_err(DiskError::at("sync", &path))?;
            if !name_is_durable {
                sync_dir(parent(&path))?;
            }
            Ok(Durable { bytes })
        })
    }

    /// Takes note of a sync beside the writing.
    pub fn is_durable(&mut self, durable: Durable) {
        self.durable_bytes = self.durable_bytes.max(durable.bytes);
        self.name_is_durable = true;
    }

    /// Ends the download: all of it is on the disk when this returns, readable by owner and group as it will be under
    /// its final name.
    pub fn finish(self) -> Result<Finished, DiskError> {
        if self.reserved_bytes > self.written_bytes {
            // What was not used of it goes back.
            self.file.set_len(self.written_bytes).map_err(DiskError::at("truncate", &self.path))?;
        }
        set_access(&self.file, Access::Group).map_err(DiskError::at("set the mode of", &self.path))?;
        self.file.sync_all().map_err(DiskError::at("sync", &self.path))?;
        let sha256 = Sha256::from_bytes(self.hasher.finalize().into());
        Ok(Finished { path: self.path, bytes: self.written_bytes, sha256 })
    }

    /// The temporary name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How much the part holds: the offset to ask the server for.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// How much of it survives a power cut: the offset to record.
    #[must_use]
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes
    }

    fn create_at(path: &Path, cap_bytes: u64) -> Result<Part, DiskError> {
        let file = plain_file(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        claim(&file, path)?;
        Ok(Part {
            file,
            path: path.to_path_buf(),
            hasher: sha2::Sha256::new(),
            written_bytes: 0,
            durable_bytes: 0,
            reserved_bytes: 0,
            cap_bytes,
            name_is_durable: false,
        })
    }
}

/// Makes sure that writing to this plain file harms nobody: it has this name only, and no other writer has it (a step that was given up may still be at work on its thread). Gives its length.
///
/// A second name would be the published one, after a cut between link and unlink.
pub(super) fn claim(file: &File, path: &Path) -> Result<u64, DiskError> {
    let metadata = file.metadata().map_err(DiskError::at("look at", path))?;
    if metadata.nlink() != 1 {
        return Err(DiskError::Foreign { path: path.to_path_buf() });
    }
    match file.try_lock() {
        Ok(()) => Ok(metadata.len()),
        Err(std::fs::TryLockError::WouldBlock) => Err(DiskError::Busy { path: path.to_path_buf() }),
        // Some network filesystems have no locks. The daemon's own lock is the first guard, this one the
        // second.
        Err(std::fs::TryLockError::Error(error))
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS)
            ) =>
        {
            Ok(metadata.len())
        }
        Err(std::fs::TryLockError::Error(error)) => Err(DiskError::at("lock", path)(error)),
    }
}

/// Hashes the first `length` bytes.
pub(super) fn hash_start(file: &File, length: u64) -> io::Result<sha2::Sha256> {
    let mut hasher = sha2::Sha256::new();
    let mut block = vec![0; HASH_BLOCK_BYTES];
    let mut offset = 0;
    while offset < length {
        let wanted = usize::try_from(length - offset).map_or(block.len(), |left| left.min(block.len()));
        file.read_exact_at(&mut block[..wanted], offset)?;
        hasher.update(&block[..wanted]);
        offset += wanted as u64;
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::disk::plant;

    const CAP: u64 = 1000;

    fn sha256(bytes: &[u8]) -> Sha256 {
        Sha256::from_bytes(sha2::Sha256::digest(bytes).into())
    }

    #[test]
    fn a_part_is_hidden_closed_to_others_and_whole_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = Part::create(dir.path(), "a-1.mp4", CAP).unwrap();
        let path = dir.path().join(".a-1.mp4.part");
        assert_eq!(part.path(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        part.reserve(1 << 20).unwrap();
        let (grown, reserved) = growth(&path).unwrap();
        assert!(grown == 0 && reserved.is_none_or(|bytes| bytes >= 1 << 20), "{reserved:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0, "reserved room must not pass for content");
        part.write(b"hello ").unwrap();
        assert_eq!((part.written_bytes(), part.durable_bytes()), (6, 0));
        part = part.sync().unwrap();
        assert_eq!(part.durable_bytes(), 6);
        part.write(b"world").unwrap();
        let finished = part.finish().unwrap();
        assert_eq!(finished, Finished { path: path.clone(), bytes: 11, sha256: sha256(b"hello world") });
        assert_eq!(fs::read(&path).unwrap(), b"hello world");
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 19, "unused room goes back");
    }

    #[test]
    fn there_is_one_part_and_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part::create(dir.path(), "a", CAP).unwrap();
        assert!(matches!(Part::create(dir.path(), "a", CAP), Err(DiskError::Exists { .. })));
        assert!(matches!(Part::resume(part.path(), 0, CAP), Err(DiskError::Busy { .. })));
        let path = part.path().to_path_buf();
        drop(part);
        Part::resume(&path, 0, CAP).unwrap();
    }

    #[test]
    fn the_cap_holds_and_spoils_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = Part::create(dir.path(), "a", 4).unwrap();
        part.write(b"abc").unwrap();
        assert!(matches!(part.write(b"de"), Err(DiskError::TooLarge { cap_bytes: 4, .. })));
        part.write(b"d").unwrap();
        assert_eq!(part.finish().unwrap().sha256, sha256(b"abcd"));
    }

    #[test]
    fn resuming_drops_what_was_not_durable() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = Part::create(dir.path(), "a", CAP).unwrap();
        part.write(b"durable").unwrap();
        part = part.sync().unwrap();
        part.write(b" and not").unwrap();
        let (path, durable_bytes) = (part.path().to_path_buf(), part.durable_bytes());
        drop(part);

        let mut part = Part::resume(&path, durable_bytes, CAP).unwrap();
        assert_eq!((part.written_bytes(), part.durable_bytes()), (7, 7));
        part.write(b"!").unwrap();
        assert_eq!(part.finish().unwrap().sha256, sha256(b"durable!"));
        assert_eq!(fs::read(&path).unwrap(), b"durable!");
    }

    #[test]
    fn a_part_shorter_than_recorded_or_missing_starts_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = part_path(dir.path(), "a");
        plant(&path, b"short");
        assert_eq!(Part::resume(&path, 6, CAP).unwrap().written_bytes(), 0);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        fs::remove_file(&path).unwrap();
        let part = Part::resume(&path, 6, CAP).unwrap();
        assert_eq!((part.written_bytes(), part.finish().unwrap().sha256), (0, sha256(b"")));
    }

    #[test]
    fn a_large_part_is_hashed_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..700_001_u32).map(|n| (n % 251) as u8).collect();
        let path = part_path(dir.path(), "a");
        plant(&path, &content);
        let part = Part::resume(&path, 700_001, 700_001).unwrap();
        assert_eq!(part.finish().unwrap().sha256, sha256(&content));
    }

    #[test]
    fn a_recorded_offset_above_the_cap_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = part_path(dir.path(), "a");
        plant(&path, b"12345");
        assert!(matches!(Part::resume(&path, 5, 4), Err(DiskError::TooLarge { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"12345");
    }

    #[test]
    fn links_and_special_files_at_the_temporary_name_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        plant(&victim, b"precious");

        let path = part_path(dir.path(), "a");
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert!(matches!(Part::create(dir.path(), "a", CAP), Err(DiskError::Exists { .. })));
        assert!(matches!(Part::resume(&path, 0, CAP), Err(DiskError::Foreign { .. })));

        let path = part_path(dir.path(), "b");
        fs::hard_link(&victim, &path).unwrap();
        assert!(matches!(Part::resume(&path, 0, CAP), Err(DiskError::Foreign { .. })));

        let path = part_path(dir.path(), "c");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        assert!(matches!(Part::resume(&path, 0, CAP), Err(DiskError::Foreign { .. })));

        let path = part_path(dir.path(), "d");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &path).unwrap();
        assert!(Part::resume(&path, 0, CAP).is_err());
        assert!(!dir.path().join("nowhere").exists());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "../a", "a/b", "/a", "a/"] {
            assert!(matches!(Part::create(dir.path(), name, CAP), Err(DiskError::Outside { .. })), "{name}");
        }
    }

    #[test]
    fn a_missing_directory_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("not-mounted");
        assert!(matches!(Part::create(&missing, "a", CAP), Err(DiskError::Gone { .. })));
        assert!(matches!(Part::resume(&part_path(&missing, "a"), 9, CAP), Err(DiskError::Gone { .. })));
    }

    #[test]
    fn a_full_disk_is_named() {
        // /dev/full answers every write with ENOSPC.
        let full = Path::new("/dev/full");
        let mut part = Part {
            file: File::options().write(true).open(full).unwrap(),
            path: full.to_path_buf(),
            hasher: sha2::Sha256::new(),
            written_bytes: 0,
            durable_bytes: 0,
            reserved_bytes: 0,
            cap_bytes: CAP,
            name_is_durable: false,
        };
        let error = part.write(b"x").unwrap_err();
        assert!(matches!(error, DiskError::Full { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "cannot write to /dev/full: the disk is full; free some space and it goes on"
        );
        assert_eq!(part.written_bytes(), 0);
    }

    #[test]
    fn more_room_than_there_is_cannot_be_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = Part::create(dir.path(), "a", u64::MAX).unwrap();
        // Which error depends on the filesystem (its largest file or its size comes first); it is never
        // silent, except where nothing can be reserved at all.
        let refused = part.reserve(1 << 62).is_err();
        let cannot_reserve =
            rustix::fs::fallocate(&part.file, FallocateFlags::KEEP_SIZE, 0, 1) == Err(Errno::OPNOTSUPP);
        assert!(refused || cannot_reserve);
    }
}
