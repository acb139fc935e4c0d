//! One look into the folder and the folders in it. It only looks: nothing is opened but directories.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::entry::{Entry, FileId, Kind, is_entered};

/// Entries of one look: it bounds the memory. What is beyond comes with a later look, when others have left.
const MAX_ENTRIES: usize = 50_000;

/// What a look found.
#[derive(Debug, Default)]
pub struct Found {
    /// Everything but the folders that were looked into.
    pub entries: Vec<Entry>,
    /// What could not be looked at, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Whether there is more than was looked at.
    pub more: bool,
}

/// Looks. `home` is the folder's own filesystem, which is not left; links are not followed. An error is about the
/// folder itself.
pub fn scan(root: &Path, home: u64) -> io::Result<Found> {
    let mut found = Found::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let names = match fs::read_dir(root.join(&folder)) {
            Ok(names) => names,
            Err(error) if folder.as_os_str().is_empty() => return Err(error),
            // Renamed or removed since it was listed: the next look knows better.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                found.unreadable.push((folder, error.to_string()));
                continue;
            }
        };
        for name in names {
            if found.entries.len() >= MAX_ENTRIES {
                found.more = true;
                return Ok(found);
            }
            let path = match name {
                Ok(name) => folder.join(name.file_name()),
                // The folder went away under the look, or its disk did.
                Err(error) => {
                    found.unreadable.push((folder.clone(), error.to_string()));
                    break;
                }
            };
            let entry = match look_at(root, path.clone(), home) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(error) => {
                    found.unreadable.push((path, error.to_string()));
                    continue;
                }
            };
            if is_entered(&entry) {
                folders.push(entry.path);
            } else {
                found.entries.push(entry);
            }
        }
    }
    Ok(found)
}

/// An entry; `None` when it went away meanwhile.
pub fn look_at(root: &Path, path: PathBuf, home: u64) -> io::Result<Option<Entry>> {
    match fs::symlink_metadata(root.join(&path)) {
        Ok(metadata) => Ok(Some(entry(path, &metadata, home))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn entry(path: PathBuf, metadata: &Metadata, home: u64) -> Entry {
    let kind = metadata.file_type();
    Entry {
        path,
        kind: if kind.is_symlink() {
            Kind::Link
        } else if kind.is_dir() {
            Kind::Folder
        } else if kind.is_file() {
            Kind::File
        } else {
            Kind::Special
        },
        id: FileId { dev: metadata.dev(), ino: metadata.ino() },
        bytes: metadata.len(),
        links: metadata.nlink(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        at_home: metadata.dev() == home,
    }
}
