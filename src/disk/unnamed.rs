//! A file that somebody else writes (SQLite, for a copy of the database): it gets its name when it is whole.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::dir::{parent, sync_dir};
use super::error::DiskError;
use super::open::plain_file;
use super::publish::rename_no_clobber;
use super::small::{Access, Clobber, remove_durably, set_access};

/// A file on its way: an empty one for its owner alone, beside the name that it will get. Dropped before it has it, it is
/// removed.
#[derive(Debug)]
pub struct Unnamed {
    temporary: PathBuf,
    target: PathBuf,
}

impl Unnamed {
    /// Makes one for `target`, which may stand already only where [`Unnamed::name_it`] may replace it.
    pub fn beside(target: &Path) -> Result<Self, DiskError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = parent(target).join(format!(".{name}.{}.tmp", std::process::id()));
        // Of a process that was killed and had our number.
        if temporary.symlink_metadata().is_ok() {
            remove_durably(&temporary)?;
        }
        plain_file(&temporary, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        Ok(Self { temporary, target: target.to_path_buf() })
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives it its name, durably, when its writer has closed it. Says how long it is.
    pub fn name_it(self, clobber: Clobber) -> Result<u64, DiskError> {
        let file = plain_file(&self.temporary, OFlags::RDWR)?;
        set_access(&file, Access::Owner).map_err(DiskError::at("set the mode of", &self.temporary))?;
        file.sync_all().map_err(DiskError::at("sync", &self.temporary))?;
        let bytes = file.metadata().map_err(DiskError::at("look at", &self.temporary))?.len();
        match clobber {
            Clobber::Refuse => rename_no_clobber(&self.temporary, &self.target)?,
            Clobber::Replace => {
                rustix::fs::rename(&self.temporary, &self.target)
                    .map_err(DiskError::at("rename", &self.temporary))?;
                sync_dir(parent(&self.target))?;
            }
        }
        Ok(bytes)
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        // With its name it is gone from here. A failure leaves a file that says by its name what it is.
        fs::remove_file(&self.temporary).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::disk::plant;

    #[test]
    fn it_has_its_name_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("copy.db");
        let dropped = Unnamed::beside(&target).unwrap();
        plant(dropped.path(), b"half");
        drop(dropped);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let file = Unnamed::beside(&target).unwrap();
        plant(file.path(), b"whole");
        assert!(!target.exists());
        assert_eq!(file.name_it(Clobber::Refuse).unwrap(), 5);
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);

        let second = Unnamed::beside(&target).unwrap();
        assert!(matches!(second.name_it(Clobber::Refuse), Err(DiskError::Exists { .. })));
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        let third = Unnamed::beside(&target).unwrap();
        plant(third.path(), b"newer");
        third.name_it(Clobber::Replace).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"newer");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
