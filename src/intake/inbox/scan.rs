//! One look into the folder and the folders in it. It only looks: nothing is opened but directories.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    claim::Claim,
    entry::{Entry, FileId, Kind, is_entered},
};
use crate::intake::jobfile::Format;

/// Entries of one look: it bounds the memory. Job files beyond come with a later look, when others have left.
const MAX_ENTRIES: usize = 50_000;

/// What a look found.
#[derive(Debug, Default)]
pub struct Found {
    /// Everything but the folders that were looked into.
    pub entries: Vec<Entry>,
    /// What could not be looked at, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Whether there are more job files than were looked at.
    pub more: bool,
}

/// Looks. `home` is the folder's own filesystem, which is not left; links are not followed. An error is about the
/// folder itself.
pub fn scan(root: &Path, home: u64) -> io::Result<Found> {
    scan_at_most(MAX_ENTRIES, root, home)
}

fn scan_at_most(max: usize, root: &Path, home: u64) -> io::Result<Found> {
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
            let path = match name {
                Ok(name) => folder.join(name.file_name()),
                // The folder went away under the look, or its disk did.
                Err(error) => {
                    found.unreadable.push((folder.clone(), error.to_string()));
                    break;
                }
            };
            // What is no job file stays, however often it is looked at: it must not stand in the way of one that is.
            let (full, crowded) = (found.entries.len() >= 2 * max, found.entries.len() >= max);
            if full {
                found.more = true;
                return Ok(found);
            }
            if crowded && !may_be_taken(&path) {
                continue;
            }
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

/// By its name.
fn may_be_taken(path: &Path) -> bool {
    Format::of_path(path).is_some() || path.file_name().is_some_and(|name| Claim::parse(name).is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &Path, name: &str) {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join(name),
            rustix::fs::FileType::RegularFile,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    }

    #[test]
    fn what_stays_does_not_hide_what_can_be_taken() {
        let dir = tempfile::tempdir().unwrap();
        let home = fs::metadata(dir.path()).unwrap().dev();
        (0..10).for_each(|n| make(dir.path(), &format!("{n}.mp4")));
        for n in 0..3 {
            make(dir.path(), &format!("{n}.toml"));
            let found = scan_at_most(4, dir.path(), home).unwrap();
            let job_files = found.entries.iter().filter(|entry| may_be_taken(&entry.path)).count();
            assert_eq!((job_files, found.more), (n + 1, false));
        }
        (3..9).for_each(|n| make(dir.path(), &format!("{n}.toml")));
        let found = scan_at_most(4, dir.path(), home).unwrap();
        assert_eq!((found.entries.len(), found.more), (8, true));
    }
}
