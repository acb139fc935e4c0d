//! Directories: made so that a power cut doesn't take them, and never outside the root they belong to.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::error::DiskError;

/// Of a new directory: others than owner and group see nothing.
const DIRECTORY_MODE: u32 = 0o750;

/// Creates the directories of `relative` below `root`, which has to exist, and gives the whole path.
///
/// A missing root is an error on purpose: it may be a disk that isn't mounted, and the directory below its
/// mount point is not the place for videos.
pub fn create_dirs_durably(root: &Path, relative: &Path) -> Result<PathBuf, DiskError> {
    check_stays_below(root, relative)?;
    let mut here = root.to_path_buf();
    for component in relative.components() {
        let above = here.clone();
        here.push(component);
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&here) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(DiskError::at("create", &here)(error));
            }
            // Also synced when it was there: whoever made it may have been killed before this line.
            Ok(()) | Err(_) => sync_dir(&above)?,
        }
    }
    let metadata = fs::metadata(&here).map_err(DiskError::at("look at", &here))?;
    if metadata.is_dir() { Ok(here) } else { Err(DiskError::at("create", &here)(Errno::NOTDIR)) }
}

/// Creates `path` itself with whatever is missing above it: for the data directory and its fixed folders.
pub fn create_root(path: &Path) -> Result<(), DiskError> {
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("."));
    let missing = path.strip_prefix(existing).unwrap_or(path);
    create_dirs_durably(existing, missing).map(|_| ())
}

/// The path of the file `relative` in `root`, if it stays there: no `..`, and no link on the way that leads
/// outside.
///
/// Links within the root are a person's to make. The file itself is not looked at: nothing here writes
/// through a link. This finds mistakes; it cannot stop somebody with write access to the root who swaps links
/// meanwhile.
pub fn below_root(root: &Path, relative: &Path) -> Result<PathBuf, DiskError> {
    match (relative.parent(), relative.file_name()) {
        (Some(folder), Some(_)) => check_stays_below(root, folder)?,
        (Some(_) | None, _) => return Err(outside(root, relative)),
    }
    Ok(root.join(relative))
}

fn check_stays_below(root: &Path, folder: &Path) -> Result<(), DiskError> {
    let real_root = fs::canonicalize(root).map_err(DiskError::at("open", root))?;
    let mut here = real_root.clone();
    for component in folder.components() {
        let Component::Normal(name) = component else { return Err(outside(root, folder)) };
        here.push(name);
        match fs::symlink_metadata(&here) {
            Ok(metadata) if metadata.is_symlink() => {
                here = fs::canonicalize(&here).map_err(DiskError::at("follow", &here))?;
                if !here.starts_with(&real_root) {
                    return Err(outside(root, folder));
                }
            }
            Ok(_) => {}
            // Nothing below can exist either, but it still may not climb.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DiskError::at("look at", &here)(error)),
        }
    }
    Ok(())
}

fn outside(root: &Path, relative: &Path) -> DiskError {
    DiskError::Outside { path: root.join(relative), root: root.to_path_buf() }
}

/// Makes the names in a directory durable. A filesystem that cannot sync a directory (some network ones) is
/// taken at its word that it need not.
pub(super) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    let synced = File::open(dir).and_then(|handle| handle.sync_all());
    match synced {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
        other => other.map_err(DiskError::at("sync", dir)),
    }
}

/// The directory a file stands in; for a bare name that is the current one.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::disk::plant;

    #[test]
    fn directories_are_made_once_and_closed_to_others() {
        let root = tempfile::tempdir().unwrap();
        let made = create_dirs_durably(root.path(), Path::new("a/b")).unwrap();
        assert_eq!(made, root.path().join("a/b"));
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o007, 0);
        assert_eq!(create_dirs_durably(root.path(), Path::new("a/b")).unwrap(), made);
        assert_eq!(create_dirs_durably(root.path(), Path::new("")).unwrap(), root.path());
    }

    #[test]
    fn a_missing_root_is_not_made() {
        let root = tempfile::tempdir().unwrap();
        let unmounted = root.path().join("disk");
        assert!(matches!(create_dirs_durably(&unmounted, Path::new("a")), Err(DiskError::Gone { .. })));
        assert!(matches!(below_root(&unmounted, Path::new("a")), Err(DiskError::Gone { .. })));
        assert!(!unmounted.exists());
        create_root(&unmounted.join("deeper")).unwrap();
        assert!(unmounted.join("deeper").is_dir());
        create_root(&unmounted.join("deeper")).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        plant(root.path().join("a"), b"");
        assert!(matches!(create_dirs_durably(root.path(), Path::new("a")), Err(DiskError::Gone { .. })));
        assert!(matches!(create_dirs_durably(root.path(), Path::new("a/b")), Err(DiskError::Gone { .. })));
    }

    #[test]
    fn paths_that_climb_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for path in ["..", "../a", "a/../../b", "/etc/passwd", "/", "", "a/.."] {
            let refused = below_root(root.path(), Path::new(path));
            assert!(matches!(refused, Err(DiskError::Outside { .. })), "{path}: {refused:?}");
        }
        for path in ["..", "a/..", "/etc"] {
            let refused = create_dirs_durably(root.path(), Path::new(path));
            assert!(matches!(refused, Err(DiskError::Outside { .. })), "{path}: {refused:?}");
        }
        assert_eq!(below_root(root.path(), Path::new("new/a.mp4")).unwrap(), root.path().join("new/a.mp4"));
    }

    #[test]
    fn links_may_lead_around_inside_but_not_out() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(root.path().join("real")).unwrap();
        symlink(root.path().join("real"), root.path().join("inside")).unwrap();
        symlink("real/../inside", root.path().join("twice")).unwrap();
        symlink(elsewhere.path(), root.path().join("outside")).unwrap();
        symlink(root.path().join("nowhere"), root.path().join("dangling")).unwrap();
        symlink("..", root.path().join("real/up")).unwrap();

        below_root(root.path(), Path::new("inside/a.mp4")).unwrap();
        below_root(root.path(), Path::new("twice/a.mp4")).unwrap();
        create_dirs_durably(root.path(), Path::new("inside/new")).unwrap();
        assert!(root.path().join("real/new").is_dir());
        assert!(matches!(
            below_root(root.path(), Path::new("outside/a.mp4")),
            Err(DiskError::Outside { .. })
        ));
        assert!(matches!(
            below_root(root.path(), Path::new("real/up/outside/deep/a.mp4")),
            Err(DiskError::Outside { .. })
        ));
        assert!(matches!(
            create_dirs_durably(root.path(), Path::new("outside")),
            Err(DiskError::Outside { .. })
        ));
        assert!(below_root(root.path(), Path::new("dangling/a.mp4")).is_err());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_root_that_is_a_link_itself_is_fine() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("disk")).unwrap();
        symlink("disk", parent.path().join("videos")).unwrap();
        create_dirs_durably(&parent.path().join("videos"), Path::new("a")).unwrap();
        assert!(parent.path().join("disk/a").is_dir());
    }
}
