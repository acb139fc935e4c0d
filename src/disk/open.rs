//! The one way a file is opened here: never through a link, never waiting for a pipe, and only plain files.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::DiskError;

/// Opens a plain file; `how` says for what, and whether to create it. A new one is its owner's alone.
pub(super) fn plain_file(path: &Path, how: OFlags) -> Result<File, DiskError> {
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(DiskError::at("open", path))?;
    let file = File::from(fd);
    if file.metadata().map_err(DiskError::at("look at", path))?.is_file() {
        Ok(file)
    } else {
        Err(DiskError::Foreign { path: path.to_path_buf() })
    }
}
