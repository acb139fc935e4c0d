//! Which filesystem a path is on: what klingd may believe of it, and what people should know of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::DiskError;

/// A filesystem, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// A local one that gives a file one number for its whole life.
    Local(&'static str),
    /// Shared over a network: SQLite's locks and shared memory can't be relied on there.
    Network(&'static str),
    /// Any other.
    Other,
}

/// The numbers of statfs(2) for those that we know something about.
const KNOWN: [(u64, Filesystem); 14] = [
    (0xef53, Filesystem::Local("ext4")),
    (0x5846_5342, Filesystem::Local("XFS")),
    (0x9123_683e, Filesystem::Local("Btrfs")),
    (0x2fc1_2fc1, Filesystem::Local("ZFS")),
    (0xf2f5_2010, Filesystem::Local("F2FS")),
    (0xca45_1a4e, Filesystem::Local("bcachefs")),
    (0x0102_1994, Filesystem::Local("tmpfs")),
    (0x6969, Filesystem::Network("NFS")),
    (0xff53_4d42, Filesystem::Network("SMB")),
    (0xfe53_4d42, Filesystem::Network("SMB")),
    (0x517b, Filesystem::Network("SMB")),
    (0x00c3_6400, Filesystem::Network("Ceph")),
    (0x0102_1997, Filesystem::Network("9P")),
    // Anything may be behind it; most often it is sshfs, a cloud or a virtual machine's share.
    (0x6573_5546, Filesystem::Network("FUSE")),
];

impl Filesystem {
    /// The one that `path` is on.
    pub fn of(path: &Path) -> Result<Self, DiskError> {
        let found = rustix::fs::statfs(path).map_err(DiskError::at("look at the filesystem of", path))?;
        // The type of the field differs between architectures; the number has 32 bits on all of them.
        let number = (found.f_type as u64) & 0xffff_ffff;
        let known = KNOWN.iter().find(|(known, _)| *known == number);
        Ok(known.map_or(Filesystem::Other, |(_, filesystem)| *filesystem))
    }
}

/// The number that tells the file at `path` from a copy of it; `None` where numbers may change while the file stays.
pub fn lasting_number(path: &Path) -> Result<Option<u64>, DiskError> {
    match Filesystem::of(path)? {
        Filesystem::Local(_) => {
            fs::metadata(path).map(|file| Some(file.ino())).map_err(DiskError::at("look at", path))
        }
        Filesystem::Network(_) | Filesystem::Other => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{plant, rename_no_clobber};

    #[test]
    fn a_copy_has_another_number_and_a_moved_file_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (file, copy, moved) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        plant(&file, b"1");
        fs::copy(&file, &copy).unwrap();
        let number = lasting_number(&file).unwrap();
        // Where numbers do not last (a test on a network share) there is nothing to compare.
        assert!(number.is_none() || number != lasting_number(&copy).unwrap());
        rename_no_clobber(&file, &moved).unwrap();
        assert_eq!(lasting_number(&moved).unwrap(), number);
        assert!(matches!(lasting_number(&file), Err(DiskError::Gone { .. })));
    }
}
