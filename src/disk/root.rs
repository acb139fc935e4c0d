//! The output root: is it there, may it be written to, and is it the one it was?
//!
//! The mount point of a disk that is not mounted is an empty directory like any other. So klingd leaves a mark in a root
//! when it first uses it, and misses the mark later. A root that was never used has none to miss: a first run is no fault.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::dir::{create_dirs_durably, create_root};
use super::error::DiskError;
use super::open::plain_file;
use super::part::Part;
use super::small::{Access, Clobber, remove_durably, write_atomically};
use super::space::check_writable;

/// The mark's name.
pub const MARK: &str = ".klingd-root";

/// What a person reads who opens it.
const MARK_TEXT: &[u8] =
    b"klingd knows its output root by this file. Where it is missing, the disk counts as not\n\
    mounted and nothing new is paid for. Make an empty one of this name to make a place the output root.\n";

/// Room that a probe asks for where nobody knows how much is needed.
const PROBE_BYTES: u64 = 1024 * 1024;

/// Makes `root` an output root: creates it with what is missing above it, and leaves the mark.
pub fn establish(root: &Path) -> Result<(), DiskError> {
    create_root(root)?;
    if is_marked(root)? {
        return Ok(());
    }
    match write_atomically(&root.join(MARK), MARK_TEXT, Access::Group, Clobber::Refuse) {
        // Another klingd of the same root was faster.
        Err(DiskError::Exists { .. }) => Ok(()),
        written => written,
    }
}

/// Whether files can be made in a root that was established once, as far as can be told without making one.
pub fn check(root: &Path) -> Result<(), DiskError> {
    match check_writable(root) {
        // Not made anew: what it was mounted on may be gone as well.
        Err(DiskError::Gone { .. }) => return Err(DiskError::Unmounted { root: root.to_path_buf() }),
        writable => writable?,
    }
    check_mark(root)
}

/// Whether a root that was established once is there, for those, too, who only read in it.
pub fn check_mark(root: &Path) -> Result<(), DiskError> {
    if is_marked(root)? { Ok(()) } else { Err(DiskError::Unmounted { root: root.to_path_buf() }) }
}

/// Whether a file of `bytes` bytes can be made in the folder `relative` of a root, by making one and removing it. It
/// finds what nothing else tells: a quota, a folder closed to us, a disk that fails.
pub fn probe(root: &Path, relative: &Path, bytes: u64) -> Result<(), DiskError> {
    check(root)?;
    let path = create_dirs_durably(root, relative)?.join(".klingd-probe.part");
    let probed = Part::resume(&path, 0, u64::MAX).and_then(|mut part| {
        part.reserve(bytes.max(PROBE_BYTES))?;
        // Filesystems that reserve nothing are asked to write.
        part.write(&[0; 4096])?;
        part.sync().map(drop)
    });
    let removed = remove_durably(&path);
    probed.and(removed)
}

/// Any plain file of that name will do, an empty one too: a person's word.
fn is_marked(root: &Path) -> Result<bool, DiskError> {
    match plain_file(&mark(root), OFlags::RDONLY) {
        Ok(_) => Ok(true),
        // Somebody else's mark that we may not read is a mark.
        Err(DiskError::Denied { .. }) => Ok(fs::symlink_metadata(mark(root)).is_ok()),
        Err(DiskError::Gone { .. } | DiskError::Foreign { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

fn mark(root: &Path) -> PathBuf {
    root.join(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::plant;

    #[test]
    fn a_mount_point_without_its_disk_is_not_the_root() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("mnt/videos");
        assert!(matches!(check(&root), Err(DiskError::Unmounted { .. })));
        establish(&root).unwrap();
        establish(&root).unwrap();
        check(&root).unwrap();
        crate::disk::rename_no_clobber(&root, &place.path().join("away")).unwrap();
        assert!(matches!(check(&root), Err(DiskError::Unmounted { .. })));
        fs::create_dir(&root).unwrap();
        let missed = check(&root).unwrap_err();
        assert!(matches!(missed, DiskError::Unmounted { .. }));
        assert!(missed.to_string().contains(".klingd-root"), "{missed}");
        // A person says that this is the place from now on.
        plant(root.join(MARK), b"");
        check(&root).unwrap();
        establish(&root).unwrap();
    }

    #[test]
    fn a_probe_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        establish(root.path()).unwrap();
        probe(root.path(), Path::new("2026-01-31"), 5_000_000).unwrap();
        assert_eq!(fs::read_dir(root.path().join("2026-01-31")).unwrap().count(), 0);
        let outside = probe(root.path(), Path::new("../elsewhere"), 1);
        assert!(matches!(outside, Err(DiskError::Outside { .. })));
        let endless = probe(root.path(), Path::new(""), 1 << 62);
        assert!(endless.is_err(), "no disk has that much room");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "the mark and the folder");
    }
}
