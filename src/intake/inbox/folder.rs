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
    let missing = [(!there).then_some(inbox), Some(accepted), Some(rejected)];
    for folder in missing.into_iter().flatten() {
        shared::create_shared(folder).map_err(|error| error.to_string())?;
    }
    let mark = inbox.join(MARK);
    if fs::symlink_metadata(&mark).is_err() {
        if known && !ours && is_empty(inbox).map_err(|error| unreadable(inbox, &error))? {
            return Err(format!(
                "{} is empty, and klingd's mark ({MARK}) is gone: its disk seems not to be mounted. \
                 If the folder is a new one, drop a file and it is watched",
                inbox.display()
            ));
        }
        match disk::write_atomically(&mark, MARK_TEXT.as_bytes(), Access::Group, Clobber::Replace) {
            // A full disk is no reason not to take what is there: renames need no room.
            Ok(()) | Err(DiskError::Full { .. }) => {}
            // Another klingd on the same share is just doing it.
            Err(DiskError::Busy { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    for folder in [inbox, accepted, rejected] {
        space::check_writable(folder).map_err(|error| error.to_string())?;
    }
    let found = fs::metadata(inbox).map_err(|error| unreadable(inbox, &error))?;
    Ok(Ready { id: FileId { dev: found.dev(), ino: found.ino() } })
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
