//! Room on a disk: how much is left, and the ballast that is thrown off when none is.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::error::DiskError;
use super::open::plain_file;
use super::small::remove_durably;

/// What is written at a time where room cannot be reserved.
const BLOCK_BYTES: u64 = 64 * 1024;

/// The unit in which the system counts the room that a file takes.
const STAT_BLOCK_BYTES: u64 = 512;

/// Bytes that are free for users other than root, on the filesystem of `path`.
pub fn free_bytes(path: &Path) -> Result<u64, DiskError> {
    let numbers = rustix::fs::statvfs(path).map_err(DiskError::at("measure the free space of", path))?;
    Ok(numbers.f_bavail.saturating_mul(numbers.f_frsize))
}

/// Fails as a full disk does where fewer than `bytes` bytes are free: for who has to leave room to others.
pub fn check_free(path: &Path, bytes: u64) -> Result<(), DiskError> {
    if free_bytes(path)? < bytes {
        return Err(DiskError::at("leave enough free space in", path)(Errno::NOSPC));
    }
    Ok(())
}

/// Whether new files can be made in a directory, as far as can be told without making one: it is there, its disk is
/// not read-only, its mode allows it.
pub fn check_writable(dir: &Path) -> Result<(), DiskError> {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(DiskError::at("make files in", dir))
}

/// A file that holds nothing but room, beside the database.
///
/// On a full disk renaming and syncing a directory still work, but SQLite cannot commit: what was just paid
/// for could not be recorded. Then the ballast is released, the last commits go through, and submitting
/// stops. It comes back with [`ensure`](Ballast::ensure) when there is space again.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// Makes sure that the file is there and really takes `bytes` of the disk. When there is no room for it
    /// ([`DiskError::Full`]), nothing is left behind: a piece of it would only make things worse.
    pub fn ensure(path: &Path, bytes: u64) -> Result<Ballast, DiskError> {
        let ballast = Ballast { path: path.to_path_buf() };
        if fs::symlink_metadata(path).is_ok_and(|file| is_room(&file, bytes)) {
            return Ok(ballast);
        }
        remove_durably(path)?;
        let file = plain_file(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        match fill(&file, bytes) {
            Ok(()) => Ok(ballast),
            Err(error) => {
                ballast.release()?;
                Err(DiskError::at("reserve", path)(error))
            }
        }
    }

    /// Gives the room back, at once: a journaling filesystem hands freed blocks out only after the removal is
    /// committed, which syncing the directory forces. Released already is fine.
    pub fn release(&self) -> Result<(), DiskError> {
        remove_durably(&self.path)
    }
}

/// Whether it is a file of that length with blocks behind it, not a hole.
fn is_room(file: &Metadata, bytes: u64) -> bool {
    file.is_file() && file.len() == bytes && file.blocks().saturating_mul(STAT_BLOCK_BYTES) >= bytes
}

/// Reserves the room; where the filesystem can't, or only says it did, writes it.
fn fill(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Zero bytes are invalid to reserve, and need no room.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    file.sync_all()?;
    if is_room(&file.metadata()?, bytes) { Ok(()) } else { write_noise(file, bytes) }
}

/// Zeros could be left out or compressed away.
fn write_noise(mut file: &File, bytes: u64) -> io::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = bytes;
    while left > 0 {
        let mut block = Vec::new();
        for _ in 0..left.min(BLOCK_BYTES).div_ceil(8) {
            // One step of xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend(state.to_le_bytes());
        }
        block.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&block)?;
        left -= block.len() as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::disk::plant;

    const BYTES: u64 = 1_000_001;

    #[test]
    fn there_is_some_space_where_there_is_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).unwrap() > 0);
        assert!(matches!(free_bytes(&dir.path().join("gone")), Err(DiskError::Gone { .. })));
    }

    #[test]
    fn ballast_is_really_there_until_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        let ballast = Ballast::ensure(&path, BYTES).unwrap();
        let file = fs::metadata(&path).unwrap();
        assert!(is_room(&file, BYTES), "{file:?}");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        Ballast::ensure(&path, BYTES).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), file.ino(), "what is there is kept");
        ballast.release().unwrap();
        assert!(!path.exists());
        ballast.release().unwrap();
        Ballast::ensure(&path, 0).unwrap();
    }

    #[test]
    fn holes_and_other_sizes_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        File::create(&path).unwrap().set_len(BYTES).unwrap();
        assert!(!is_room(&fs::metadata(&path).unwrap(), BYTES), "a hole is no room");
        Ballast::ensure(&path, BYTES).unwrap();
        assert!(is_room(&fs::metadata(&path).unwrap(), BYTES));
        plant(&path, b"small");
        Ballast::ensure(&path, BYTES).unwrap();
        assert!(is_room(&fs::metadata(&path).unwrap(), BYTES));
    }

    #[test]
    fn a_link_is_replaced_and_its_target_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("ballast"), dir.path().join("victim"));
        plant(&victim, b"precious");
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        Ballast::ensure(&path, BYTES).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn too_much_ballast_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        Ballast::ensure(&path, 1 << 62).unwrap_err();
        assert!(!path.exists());
    }

    #[test]
    fn noise_has_the_exact_length_and_no_zeros_to_save() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("noise");
        write_noise(&File::create(&path).unwrap(), 100_003).unwrap();
        let noise = fs::read(&path).unwrap();
        assert_eq!(noise.len(), 100_003);
        assert!(noise.chunks(64).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }
}
