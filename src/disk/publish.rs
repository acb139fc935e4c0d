//! Giving a finished file its final name: whole, durable, and never over another file.
//!
//! The order is what makes it safe: content synced, then renamed, then the directory synced. Any other order
//! leaves an empty file under the final name, or none, after a power cut.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::Digest;

use super::dir::{parent, sync_dir};
use super::error::DiskError;
use super::hash::Sha256;
use super::open::plain_file;
use super::part::{Finished, Part, hash_start, part_path};
use super::small::remove_durably;
use crate::failpoint::{Point, reach};

/// What is copied at a time between filesystems.
const COPY_BLOCK_BYTES: usize = 256 * 1024;

/// A new name that a power cut may still take, until [`make_durable`] has ended.
#[derive(Debug)]
#[must_use = "a power cut may take the name"]
pub struct Named {
    from: PathBuf,
    to: PathBuf,
    /// The old name stands, too: the file was linked where it could not be renamed.
    is_linked: bool,
}

impl Named {
    /// A rename that nothing can be in the way of.
    pub(super) fn renamed(from: &Path, to: &Path) -> Named {
        Named { from: from.to_path_buf(), to: to.to_path_buf(), is_linked: false }
    }

    /// Makes it durable.
    pub fn durable(self) -> Result<(), DiskError> {
        make_durable(&[self])
    }
}

/// Makes names durable, with one sync of each directory.
pub fn make_durable(names: &[Named]) -> Result<(), DiskError> {
    sync_each(names.iter().map(|name| parent(&name.to)))?;
    // A link leaves the old name. It goes when the new one is durable, not before.
    for name in names.iter().filter(|name| name.is_linked) {
        fs::remove_file(&name.from).map_err(DiskError::at("remove", &name.from))?;
    }
    let left = |name: &&Named| name.is_linked || parent(&name.from) != parent(&name.to);
    sync_each(names.iter().filter(left).map(|name| parent(&name.from)))
}

fn sync_each<'a>(dirs: impl Iterator<Item = &'a Path>) -> Result<(), DiskError> {
    dirs.collect::<BTreeSet<_>>().into_iter().try_for_each(sync_dir)
}

/// Gives the part its final name, readable by owner and group. When this returns, a power cut leaves it
/// there.
///
/// [`DiskError::Exists`] when the name is taken: by a stranger, or by ourselves before a crash, which
/// [`already_published`] tells apart.
pub fn publish(part_path: &Path, final_path: &Path) -> Result<(), DiskError> {
    name_part(part_path, final_path)?.durable()
}

fn name_part(part_path: &Path, final_path: &Path) -> Result<Named, DiskError> {
    // What `Part::finish` ended is on the disk already, with its mode; only a plain file may get the name.
    plain_file(part_path, OFlags::RDONLY)?;
    name_no_clobber(part_path, final_path)
}

/// Whether exactly this file stands under its final name already: after a crash between publishing and
/// recording. If so, it is durable when this returns.
pub fn already_published(final_path: &Path, bytes: u64, sha256: &Sha256) -> Result<bool, DiskError> {
    let file = match plain_file(final_path, OFlags::RDONLY) {
        Ok(file) => file,
        Err(DiskError::Gone { .. } | DiskError::Foreign { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let length = file.metadata().map_err(DiskError::at("look at", final_path))?.len();
    if length != bytes {
        return Ok(false);
    }
    let found = hash_start(&file, length).map_err(DiskError::at("read", final_path))?;
    if found.finalize().as_slice() != sha256.as_bytes() {
        return Ok(false);
    }
    // The rename may have been the last thing before the kill; it is not yet known to be durable.
    file.sync_all().map_err(DiskError::at("sync", final_path))?;
    sync_dir(parent(final_path))?;
    Ok(true)
}

/// Moves a file within its filesystem, durably, to a name that must be free. Content and mode stay untouched.
pub fn rename_no_clobber(from: &Path, to: &Path) -> Result<(), DiskError> {
    name_no_clobber(from, to)?.durable()
}

/// As [`rename_no_clobber`], for who makes the name durable together with others.
pub(super) fn name_no_clobber(from: &Path, to: &Path) -> Result<Named, DiskError> {
    let named = match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Filesystems that don't know the flag (NFS among them) do know links, which never replace anything.
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(from, to).map(|()| true),
        other => other.map(|()| false).map_err(io::Error::from),
    };
    let is_linked = match named {
        Ok(is_linked) => is_linked,
        // A crash came between link and unlink, or the answer of a network filesystem was lost.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && are_two_names_of_one(from, to) => true,
        Err(error) => return Err(DiskError::at("rename a file to", to)(error)),
    };
    Ok(Named { from: from.to_path_buf(), to: to.to_path_buf(), is_linked })
}

/// As [`rename_no_clobber`], but also to another filesystem: there it copies, publishes, then removes the
/// original.
///
/// Killed between the last two, both files stand, and the next call says [`DiskError::Exists`]; nothing is
/// lost.
pub fn relocate(from: &Path, to: &Path) -> Result<(), DiskError> {
    match rename_no_clobber(from, to) {
        Err(DiskError::Io { source, .. }) if Errno::from_io_error(&source) == Some(Errno::XDEV) => {}
        other => return other,
    }
    copy_and_publish(from, to)?;
    reach(Point::InboxCopied);
    remove_durably(from)
}

/// Moves a finished file to its final name, which must be free, also to another filesystem: there it is copied to `copy`,
/// which stands beside the final name, hashed on the way and published from there. A copy leaves the original in its
/// place: it is the caller's to remove when the move is on record. The name is the caller's to make durable.
pub fn move_in(from: &Path, to: &Path, copy: &Path, sha256: &Sha256) -> Result<Named, DiskError> {
    match name_part(from, to) {
        Err(DiskError::Io { source, .. }) if Errno::from_io_error(&source) == Some(Errno::XDEV) => {}
        other => return other,
    }
    let source = plain_file(from, OFlags::RDONLY)?;
    let length = source.metadata().map_err(DiskError::at("look at", from))?.len();
    // What an earlier try left of it is started over.
    let copied = fill_from(Part::resume(copy, 0, length)?, &source, length)?;
    if copied.sha256 != *sha256 {
        let changed = io::Error::other("the copy is not what was verified");
        return Err(DiskError::at("copy to", copy)(changed));
    }
    name_part(copy, to)
}

/// Keeps a file that failed its check as `FINAL.suspect`, for a person to look at, and gives that path.
///
/// Only the latest is kept: every further attempt would otherwise add one until the disk is full.
pub fn set_aside(part_path: &Path, final_path: &Path) -> Result<PathBuf, DiskError> {
    let mut suspect = final_path.as_os_str().to_owned();
    suspect.push(".suspect");
    let suspect = PathBuf::from(suspect);
    rustix::fs::rename(part_path, &suspect).map_err(DiskError::at("rename", part_path))?;
    sync_dir(parent(&suspect))?;
    Ok(suspect)
}

/// Two links of one file. The same path twice is not, nor are two spellings of it on a disk that ignores
/// case.
fn are_two_names_of_one(one: &Path, other: &Path) -> bool {
    match (fs::symlink_metadata(one), fs::symlink_metadata(other)) {
        (Ok(a), Ok(b)) => one != other && a.nlink() > 1 && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn copy_and_publish(from: &Path, to: &Path) -> Result<(), DiskError> {
    let source = plain_file(from, OFlags::RDONLY)?;
    let length = source.metadata().map_err(DiskError::at("look at", from))?.len();
    // Not a name that a download of the same video could have.
    let name = format!("{}.copy", to.file_name().unwrap_or_default().to_string_lossy());
    let part_path = part_path(parent(to), &name);
    // A part left by an earlier try that was cut is started over.
    let part = Part::resume(&part_path, 0, length)?;
    let published = fill_from(part, &source, length).and_then(|_| publish(&part_path, to));
    if published.is_err() {
        // A full disk is no place for leftovers. The first error is the one worth telling.
        drop(fs::remove_file(&part_path));
    }
    published
}

fn fill_from(mut part: Part, source: &File, length: u64) -> Result<Finished, DiskError> {
    part.reserve(length)?;
    let mut block = vec![0; COPY_BLOCK_BYTES];
    loop {
        let count = source
            .read_at(&mut block, part.written_bytes())
            .map_err(DiskError::at("copy to", part.path()))?;
        if count == 0 {
            return part.finish();
        }
        part.write(&block[..count])?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::disk::plant;

    fn finished(dir: &Path, content: &[u8]) -> Finished {
        let mut part = Part::create(dir, "video.mp4", 1000).unwrap();
        part.write(content).unwrap();
        part.finish().unwrap()
    }

    #[test]
    fn a_published_file_has_one_name_and_the_mode_of_the_group() {
        let dir = tempfile::tempdir().unwrap();
        let part = finished(dir.path(), b"content");
        let target = dir.path().join("video.mp4");
        publish(&part.path, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"content");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!part.path.exists());
        assert!(already_published(&target, part.bytes, &part.sha256).unwrap());
    }

    #[test]
    fn a_taken_name_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let part = finished(dir.path(), b"content");
        let (file, link, folder) = (dir.path().join("f"), dir.path().join("l"), dir.path().join("d"));
        plant(&file, b"theirs");
        symlink("nowhere", &link).unwrap();
        fs::create_dir(&folder).unwrap();
        for taken in [&file, &link, &folder] {
            let refused = publish(&part.path, taken);
            assert!(matches!(&refused, Err(DiskError::Exists { path }) if path == taken), "{refused:?}");
            assert!(!already_published(taken, part.bytes, &part.sha256).unwrap());
        }
        assert_eq!(fs::read(&file).unwrap(), b"theirs");
        assert!(part.path.exists());
    }

    #[test]
    fn only_exactly_our_file_counts_as_published() {
        let dir = tempfile::tempdir().unwrap();
        let part = finished(dir.path(), b"content");
        let target = dir.path().join("video.mp4");
        assert!(!already_published(&target, part.bytes, &part.sha256).unwrap());
        plant(&target, b"contenT");
        assert!(!already_published(&target, part.bytes, &part.sha256).unwrap());
        plant(&target, b"content and more");
        assert!(!already_published(&target, part.bytes, &part.sha256).unwrap());
        plant(&target, b"content");
        assert!(already_published(&target, part.bytes, &part.sha256).unwrap());
    }

    #[test]
    fn a_cut_between_link_and_unlink_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let part = finished(dir.path(), b"content");
        let target = dir.path().join("video.mp4");
        fs::hard_link(&part.path, &target).unwrap();
        publish(&part.path, &target).unwrap();
        assert!(!part.path.exists());
        assert_eq!(fs::read(&target).unwrap(), b"content");
    }

    #[test]
    fn names_become_durable_together_each_as_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir_in(dir.path()).unwrap();
        let names = ["renamed", "linked", "moved"].map(|name| {
            let from =
                if name == "moved" { elsewhere.path() } else { dir.path() }.join("old-".to_owned() + name);
            let to = dir.path().join(name);
            plant(&from, name);
            if name == "linked" {
                // As where nothing can be renamed without replacing.
                fs::hard_link(&from, &to).unwrap();
            }
            (from, to)
        });
        let named = names.each_ref().map(|(from, to)| name_no_clobber(from, to));
        make_durable(&named.map(Result::unwrap)).unwrap();
        for (from, to) in names {
            assert!(!from.exists(), "{from:?}");
            assert_eq!(fs::read(&to).unwrap(), to.file_name().unwrap().as_encoded_bytes());
        }
    }

    #[test]
    fn a_file_is_not_moved_onto_itself_and_lost() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        plant(&file, b"content");
        fs::create_dir(dir.path().join("d")).unwrap();
        let detour = dir.path().join("d/../f");
        for to in [&file, &detour] {
            assert!(matches!(rename_no_clobber(&file, to), Err(DiskError::Exists { .. })));
            assert_eq!(fs::read(&file).unwrap(), b"content");
        }
    }

    #[test]
    fn what_is_not_a_plain_file_is_not_published() {
        let dir = tempfile::tempdir().unwrap();
        let part = finished(dir.path(), b"content");
        let link = dir.path().join("link");
        symlink(&part.path, &link).unwrap();
        let target = dir.path().join("video.mp4");
        assert!(matches!(publish(&link, &target), Err(DiskError::Foreign { .. })));
        assert!(matches!(publish(dir.path(), &target), Err(DiskError::Foreign { .. })));
        assert!(matches!(publish(&dir.path().join("missing"), &target), Err(DiskError::Gone { .. })));
        assert!(!target.exists());
    }

    #[test]
    fn a_move_keeps_content_and_mode() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (one.path().join("job.toml"), other.path().join("job.toml"));
        plant(&from, b"job");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o604)).unwrap();
        relocate(&from, &to).unwrap();
        assert!(!from.exists());
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o604);
        plant(&from, b"another");
        assert!(matches!(relocate(&from, &to), Err(DiskError::Exists { .. })));
        assert_eq!(
            (fs::read(&from).unwrap(), fs::read(&to).unwrap()),
            (b"another".to_vec(), b"job".to_vec())
        );
    }

    /// Shared memory is another filesystem than most others; where it is not, renaming is what is tested.
    #[test]
    fn a_video_moves_to_another_filesystem_whole() {
        let elsewhere = Path::new("/dev/shm");
        let staging = tempfile::tempdir().unwrap();
        let root = if elsewhere.is_dir() { tempfile::tempdir_in(elsewhere) } else { tempfile::tempdir() };
        let root = root.unwrap();
        let (to, copy) = (root.path().join("video.mp4"), root.path().join(".klingd-1-0.part"));
        plant(&copy, b"left by a kill, and longer than the video");
        let part = finished(staging.path(), b"content");
        let other = Sha256::from_bytes([0; 32]);
        let across = fs::metadata(staging.path()).unwrap().dev() != fs::metadata(root.path()).unwrap().dev();
        if across {
            let refused = move_in(&part.path, &to, &copy, &other).unwrap_err();
            assert!(refused.to_string().contains("not what was verified"), "{refused}");
            assert!(!to.exists() && part.path.exists());
        }
        move_in(&part.path, &to, &copy, &part.sha256).unwrap().durable().unwrap();
        assert!(already_published(&to, part.bytes, &part.sha256).unwrap());
        assert_eq!(part.path.exists(), across, "a copy leaves the original to its owner");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_copy_takes_up_what_an_earlier_one_left() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
        let (from, to) = (dir.path().join("staged"), dir.path().join("video.mp4"));
        plant(&from, &content);
        plant(part_path(dir.path(), "video.mp4.copy"), b"left by a kill");
        copy_and_publish(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), content);
        let refused = copy_and_publish(&from, &to);
        assert!(matches!(refused, Err(DiskError::Exists { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left of a refused copy");
    }

    #[test]
    fn the_latest_suspect_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("video.mp4");
        for content in [b"first", b"later"] {
            let part = finished(dir.path(), content);
            let suspect = set_aside(&part.path, &target).unwrap();
            assert_eq!(suspect, dir.path().join("video.mp4.suspect"));
            assert_eq!(fs::read(&suspect).unwrap(), content);
            assert!(!part.path.exists() && !target.exists());
        }
    }
}
