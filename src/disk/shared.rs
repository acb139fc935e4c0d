//! Folders that people share with klingd: made so that the group may drop files, files taken out of them by a rename,
//! and what kind of filesystem they are on.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, OFlags};
use sha2::Digest as _;

use super::dir::{parent, sync_dir};
use super::error::DiskError;
use super::hash::Sha256;
use super::open::plain_file;
use super::part::hash_start;
use super::publish::{already_published, relocate};
use super::small::remove_durably;

/// Of a folder that people write into: owner and group, and new files get the folder's group, so that klingd may read
/// what a member dropped. Others see nothing.
const SHARED_MODE: u32 = 0o2770;

/// Makes a folder for people, durably. What is above it must be there: it may be a disk that is not mounted.
pub fn create_shared(path: &Path) -> Result<(), DiskError> {
    match fs::DirBuilder::new().mode(SHARED_MODE & 0o777).create(path) {
        Ok(()) => {
            // The umask took some away. A filesystem without modes has its own opinion, and keeps it.
            drop(fs::set_permissions(path, fs::Permissions::from_mode(SHARED_MODE)));
            sync_dir(parent(path))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::metadata(path).map_err(DiskError::at("look at", path))?;
            if metadata.is_dir() {
                Ok(())
            } else {
                Err(DiskError::at("create", path)(io::Error::from(rustix::io::Errno::NOTDIR)))
            }
        }
        Err(error) => Err(DiskError::at("create", path)(error)),
    }
}

/// Takes a file by renaming it, within its folder, to a name that only the caller knows. `false`: somebody else was
/// quicker. Not durable before [`sync_names`].
///
/// A plain rename on purpose. Of two that rename one file to names of their own, one finds it gone, on a network
/// filesystem too; link and unlink, which never overwrite, would give it to both.
pub fn take(from: &Path, to: &Path) -> Result<bool, DiskError> {
    let gone = |errno: rustix::io::Errno| errno == rustix::io::Errno::NOENT;
    // What can't be read is not worth taking away from where its owner sees it.
    match rustix::fs::access(from, Access::READ_OK) {
        Err(errno) if gone(errno) => return Ok(false),
        other => other.map_err(DiskError::at("read", from))?,
    }
    match rustix::fs::rename(from, to) {
        Ok(()) => Ok(true),
        // The answer of a file server may get lost, and the second try find the work done.
        Err(errno) if gone(errno) => Ok(fs::symlink_metadata(to).is_ok()),
        Err(errno) => Err(DiskError::at("rename", from)(errno)),
    }
}

/// Makes the names in a folder durable.
pub fn sync_names(folder: &Path) -> Result<(), DiskError> {
    sync_dir(folder)
}

/// Moves a file to a name that must be free, durably; to another filesystem by copying, syncing and removing. Where a
/// kill came before the removal, the copy is recognised by its content.
pub fn move_away(from: &Path, to: &Path) -> Result<(), DiskError> {
    match relocate(from, to) {
        Err(DiskError::Exists { .. }) if is_copied(from, to)? => remove_durably(from),
        other => other,
    }
}

fn is_copied(from: &Path, to: &Path) -> Result<bool, DiskError> {
    let (Ok(one), Ok(other)) = (fs::symlink_metadata(from), fs::symlink_metadata(to)) else {
        return Ok(false);
    };
    if one.dev() == other.dev() || one.len() != other.len() {
        return Ok(false);
    }
    let file = plain_file(from, OFlags::RDONLY)?;
    let content = hash_start(&file, one.len()).map_err(DiskError::at("read", from))?.finalize();
    already_published(to, one.len(), &Sha256::from_bytes(content.into()))
}

/// Whether other machines write to this filesystem without this one noticing; its name, if so.
pub fn network_filesystem(path: &Path) -> Option<&'static str> {
    // From linux/magic.h and the kernel's own sources.
    match rustix::fs::statfs(path).ok()?.f_type as u32 {
        0x6969 => Some("NFS"),
        0xff53_4d42 => Some("CIFS"),
        0xfe53_4d42 | 0x517b => Some("SMB"),
        0x6573_5546 => Some("FUSE"),
        0x0102_1997 => Some("9P"),
        0x00c3_6400 => Some("Ceph"),
        0x5346_414f => Some("AFS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::disk::plant;

    #[test]
    fn one_of_two_gets_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        plant(at("a"), b"x");
        assert!(take(&at("a"), &at("mine")).unwrap());
        assert!(!take(&at("a"), &at("theirs")).unwrap());
        assert_eq!(fs::read(at("mine")).unwrap(), b"x");
        assert!(!at("theirs").exists());
    }

    #[test]
    fn folders_for_people_are_the_groups_too() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("inbox");
        create_shared(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, SHARED_MODE);
        // What is there is a person's to arrange.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        create_shared(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
        assert!(matches!(create_shared(&dir.path().join("disk/inbox")), Err(DiskError::Gone { .. })));
        plant(dir.path().join("file"), b"");
        assert!(matches!(create_shared(&dir.path().join("file")), Err(DiskError::Gone { .. })));
    }

    #[test]
    fn nothing_is_overwritten_and_only_a_copy_elsewhere_is_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        plant(at("a"), b"x");
        plant(at("b"), b"x");
        assert!(matches!(move_away(&at("a"), &at("b")), Err(DiskError::Exists { .. })));
        symlink("nowhere", at("c")).unwrap();
        assert!(matches!(move_away(&at("a"), &at("c")), Err(DiskError::Exists { .. })));
        move_away(&at("a"), &at("d")).unwrap();
        assert!(!at("a").exists());
    }
}
