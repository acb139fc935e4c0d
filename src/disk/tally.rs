//! The tally: how many requests a queue has sent, kept beside its videos and not in its database. A database that has sent
//! fewer was restored from a copy.
//!
//! One file a queue, since several queues may share an output root.

use std::path::{Path, PathBuf};

use super::error::DiskError;
use super::small::{Access, Clobber, read_bounded, write_atomically};

/// Far more than klingd writes.
const MAX_BYTES: u64 = 4096;

/// What the tally of this queue says; `None` where there is none.
pub fn read(root: &Path, queue: &str) -> Result<Option<u64>, DiskError> {
    let path = path(root, queue);
    let text = match read_bounded(&path, MAX_BYTES) {
        Ok(text) => text,
        Err(DiskError::Gone { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = String::from_utf8_lossy(&text).lines().next().and_then(|line| line.trim().parse().ok());
    // A tally that can't be read is none that says "nothing was sent".
    number.map(Some).ok_or(DiskError::Foreign { path })
}

/// Writes the tally of this queue, durably.
pub fn write(root: &Path, queue: &str, requests: u64) -> Result<(), DiskError> {
    let text = format!(
        "{requests}\nSo many requests has the klingd queue {queue} sent. It knows by this file when its database was\n\
         restored from an older copy; leave it here.\n"
    );
    write_atomically(&path(root, queue), text.as_bytes(), Access::Group, Clobber::Replace)
}

fn path(root: &Path, queue: &str) -> PathBuf {
    root.join(format!(".klingd-{queue}.sent"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::plant;

    #[test]
    fn each_queue_has_its_own() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path(), "a").unwrap(), None);
        write(root.path(), "a", 12).unwrap();
        write(root.path(), "a", 13).unwrap();
        write(root.path(), "b", 1).unwrap();
        assert_eq!((read(root.path(), "a").unwrap(), read(root.path(), "b").unwrap()), (Some(13), Some(1)));
        plant(path(root.path(), "a"), b"");
        assert!(matches!(read(root.path(), "a"), Err(DiskError::Foreign { .. })));
        assert!(write(&root.path().join("gone"), "a", 1).is_err());
    }
}
