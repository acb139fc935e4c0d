//! The three folders: whether they can be worked with, and a sentence that says what to do when not.
//!
//! An empty mount point is not an empty inbox. klingd leaves a mark (`.klingd-inbox`) in the folder, and remembers that
//! it did: a folder that had the mark and comes back empty without it is most likely a disk that is not mounted.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::entry::{FileId, is_somebodys_own};
use crate::disk::{self, Access, Clobber, DiskError, shared, space};

/// The name of the mark. Hidden, and no job.
const MARK: &str = ".klingd-inbox";
/// What is in it, for people who find it.
const MARK_TEXT: &str = "klingd watches this folder for job files. It knows by this file that the disk is mounted; leave it here.\n";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder that is watched.
    pub inbox: PathBuf,
    /// Where taken files go.
    pub accepted: PathBuf,
    /// Where refused files go.
    pub rejected: PathBuf,
    /// The data directory: what lies in there is klingd's own to make again.
    pub data_dir: PathBuf,
}

/// A folder that can be worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which folder it is: another one may come in its place, and nobody says so.
    pub id: FileId,
    /// Whether klingd's mark is in it. There may have been no room for it.
    pub marked: bool,
}

/// Makes what is missing and may be made, and looks whether files can be taken. `known`: the mark was in the inbox
/// before. The error is for people.
pub fn prepare(places: &Places, known: bool) -> Result<Ready, String> {
    let Places { inbox, accepted, rejected, data_dir } = places;
    let ours = inbox.starts_with(data_dir);
    // Asked once: a folder that goes away after this line must not be made again by the next one.
    let there = exists(inbox);
    if !there && known && !ours {
        return Err(format!(
            "{} is gone: is its disk mounted? If it was removed for good, make it again (mkdir) or change inbox.path",
            inbox.display()
        ));
    }
    let mark = inbox.join(MARK);
    let mut marked = fs::symlink_metadata(&mark).is_ok();
    // Before anything is made: what is made in a bare mount point is hidden by the disk that comes, and in its way.
    if there && known && !ours && !marked && is_empty(inbox).map_err(|error| unreadable(inbox, &error))? {
        return Err(format!(
            "{} is empty, and klingd's mark ({MARK}) is gone: its disk seems not to be mounted. \
             If the folder is a new one, drop a file and it is watched",
            inbox.display()
        ));
    }
    let missing = [(!there).then_some(inbox), Some(accepted), Some(rejected)];
    for folder in missing.into_iter().flatten() {
        shared::create_shared(folder).map_err(|error| error.to_string())?;
    }
    if !marked {
        match disk::write_atomically(&mark, MARK_TEXT.as_bytes(), Access::Group, Clobber::Replace) {
            Ok(()) => marked = true,
            // A full disk is no reason not to take what is there: renames need no room. Or another klingd on the same
            // share is just doing it.
            Err(DiskError::Full { .. } | DiskError::Busy { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    for folder in [inbox, accepted, rejected] {
        space::check_writable(folder).map_err(|error| error.to_string())?;
    }
    let found = fs::metadata(inbox).map_err(|error| unreadable(inbox, &error))?;
    Ok(Ready { id: FileId { dev: found.dev(), ino: found.ino() }, marked })
}

fn exists(path: &Path) -> bool {
    !matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if !is_somebodys_own(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The sentence for a folder that can't be looked into.
pub fn unreadable(folder: &Path, error: &io::Error) -> String {
    format!("{} can't be read: {error}; klingd's user needs the permission to", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_in_a_bare_mount_point() {
        let disk = tempfile::tempdir().unwrap();
        let at = |name: &str| disk.path().join(name);
        let places = Places {
            inbox: at("inbox"),
            accepted: at("accepted"),
            rejected: at("rejected"),
            data_dir: "/elsewhere".into(),
        };
        fs::create_dir(at("inbox")).unwrap();
        assert!(prepare(&places, true).unwrap_err().contains("seems not to be mounted"));
        assert!(!at("accepted").exists() && !at("rejected").exists() && !at("inbox").join(MARK).exists());
        assert!(prepare(&places, false).unwrap().marked);
        assert!(at("accepted").exists() && at("inbox").join(MARK).exists());
    }
}
