//! Whole small files: sidecars, status files, spooled evidence. Written at once or not at all, read with a
//! limit.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::dir::{parent, sync_dir};
use super::error::DiskError;
use super::open::plain_file;
use super::part::claim;
use super::publish::{Named, name_no_clobber};

/// Who may read a new file. Others than owner and group never may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// 0600: evidence, anything that may hold a signed URL.
    Owner,
    /// 0640: what people of the group are meant to see.
    Group,
    /// 0660: what people of the group write as well.
    GroupWrites,
    /// 0644: what is the same on every machine.
    World,
}

/// What happens to a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clobber {
    /// It stays, and the write is refused with [`DiskError::Exists`].
    Refuse,
    /// It is replaced, in one step: a reader sees the old content or the new.
    Replace,
}

/// Writes a file whole: after a crash at any point the name holds the old content or the new, never a piece.
///
/// The temporary name is one for each target, so that a crash leaves one leftover at most, which the next
/// write takes up. Two writers of one target are a mistake, and the second one is told so
/// ([`DiskError::Busy`]).
pub fn write_atomically(
    path: &Path,
    bytes: &[u8],
    access: Access,
    clobber: Clobber,
) -> Result<(), DiskError> {
    let named = write_named(path, bytes, access, clobber)?.durable();
    if named.is_err() {
        drop(fs::remove_file(temporary_path(path)));
    }
    named
}

/// As [`write_atomically`], for who makes the name durable together with others.
pub fn write_named(path: &Path, bytes: &[u8], access: Access, clobber: Clobber) -> Result<Named, DiskError> {
    let temporary = temporary_path(path);
    let file = open_temporary(&temporary)?;
    let named =
        write_and_sync(&file, bytes, access).map_err(DiskError::at("write", &temporary)).and_then(|()| {
            match clobber {
                Clobber::Refuse => name_no_clobber(&temporary, path),
                Clobber::Replace => rustix::fs::rename(&temporary, path)
                    .map_err(DiskError::at("rename", &temporary))
                    .map(|()| Named::renamed(&temporary, path)),
            }
        });
    if named.is_err() {
        // A full disk is no place for leftovers. The first error is the one worth telling.
        drop(fs::remove_file(&temporary));
    }
    named
}

/// Reads a plain file of at most `max_bytes`; links are not followed.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    // The length is not trusted: the file may grow meanwhile.
    plain_file(path, OFlags::RDONLY)?
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(DiskError::at("read", path))?;
    if bytes.len() as u64 > max_bytes {
        return Err(DiskError::TooLarge { path: path.to_path_buf(), cap_bytes: max_bytes });
    }
    Ok(bytes)
}

/// Removes a file so that it stays removed. One that is not there is fine: the last try may have been cut
/// short.
pub fn remove_durably(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::at("remove", path)(error)),
        Ok(()) | Err(_) => sync_dir(parent(path)),
    }
}

/// Sets the mode, whatever the umask left of it.
pub(super) fn set_access(file: &File, access: Access) -> io::Result<()> {
    let mode = match access {
        Access::Owner => Mode::RUSR | Mode::WUSR,
        Access::Group => Mode::RUSR | Mode::WUSR | Mode::RGRP,
        Access::GroupWrites => Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP,
        Access::World => Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH,
    };
    match rustix::fs::fchmod(file, mode) {
        // Filesystems without modes get theirs from the mount; files are made narrow, so nothing is left
        // open.
        Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!(".{name}.tmp"))
}

/// A temporary of our own: new, or the leftover of a crash.
fn open_temporary(path: &Path) -> Result<File, DiskError> {
    let file = plain_file(path, OFlags::RDWR | OFlags::CREATE)?;
    claim(&file, path)?;
    // Another writer may have renamed it to its target before we got the lock: then this is that file, not
    // ours.
    let (ours, named) = (file.metadata(), fs::symlink_metadata(path));
    match (ours, named) {
        (Ok(ours), Ok(named)) if (ours.dev(), ours.ino()) == (named.dev(), named.ino()) => Ok(file),
        (Ok(_) | Err(_), _) => Err(DiskError::Busy { path: path.to_path_buf() }),
    }
}

fn write_and_sync(mut file: &File, bytes: &[u8], access: Access) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(bytes)?;
    set_access(file, access)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::disk::plant;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_written_whole_with_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.txt");
        write_atomically(&path, b"one", Access::Group, Clobber::Refuse).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"one".to_vec(), 0o640));
        let refused = write_atomically(&path, b"two", Access::Group, Clobber::Refuse);
        assert!(matches!(refused, Err(DiskError::Exists { path: taken }) if taken == path));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomically(&path, b"2", Access::Owner, Clobber::Replace).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"2".to_vec(), 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary stays");
    }

    #[test]
    fn the_leftover_of_a_crash_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        plant(temporary_path(&path), b"a longer leftover");
        fs::set_permissions(temporary_path(&path), fs::Permissions::from_mode(0o640)).unwrap();
        write_atomically(&path, b"new", Access::Owner, Clobber::Refuse).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new".to_vec(), 0o600));
    }

    #[test]
    fn a_second_writer_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let first = open_temporary(&temporary_path(&path)).unwrap();
        let second = write_atomically(&path, b"second", Access::Owner, Clobber::Replace);
        assert!(matches!(second, Err(DiskError::Busy { .. })));
        assert!(temporary_path(&path).exists(), "the first one's temporary is left alone");
        drop(first);
        write_atomically(&path, b"second", Access::Owner, Clobber::Replace).unwrap();
    }

    #[test]
    fn links_are_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        plant(&victim, b"precious");
        let path = dir.path().join("a.json");
        symlink(&victim, temporary_path(&path)).unwrap();
        let refused = write_atomically(&path, b"new", Access::Owner, Clobber::Replace);
        assert!(matches!(refused, Err(DiskError::Foreign { .. })));
        fs::remove_file(temporary_path(&path)).unwrap();

        symlink(&victim, &path).unwrap();
        assert!(matches!(read_bounded(&path, 100), Err(DiskError::Foreign { .. })));
        write_atomically(&path, b"new", Access::Owner, Clobber::Replace).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(read_bounded(&path, 100).unwrap(), b"new");
    }

    #[test]
    fn reading_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        plant(&path, b"12345");
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(matches!(read_bounded(&path, 4), Err(DiskError::TooLarge { cap_bytes: 4, .. })));
        assert!(matches!(read_bounded(&dir.path().join("b"), 4), Err(DiskError::Gone { .. })));
        assert!(matches!(read_bounded(dir.path(), 4), Err(DiskError::Foreign { .. })));
    }

    #[test]
    fn removing_is_done_once_and_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        plant(&path, b"");
        remove_durably(&path).unwrap();
        assert!(!path.exists());
        remove_durably(&path).unwrap();
        assert!(matches!(remove_durably(&dir.path().join("b/c")), Err(DiskError::Gone { .. })));
    }
}
