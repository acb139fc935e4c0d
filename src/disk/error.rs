//! What can go wrong with a file, sorted by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A file operation that did not happen.
///
/// [`Full`](Self::Full), [`Gone`](Self::Gone) and [`Denied`](Self::Denied) speak of the place, not of the
/// file: another place may work. The rest speak of the file.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The final name is taken. The caller picks another one, or adopts the file when it is its own.
    #[error("{} exists already, and nothing is ever overwritten", path.display())]
    Exists {
        /// The name that is taken.
        path: PathBuf,
    },
    /// No room, or the quota is used up.
    #[error("cannot {doing} {}: the disk is full; free some space and it goes on", path.display())]
    Full {
        /// The verb of what was tried.
        doing: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file or its directory is not there.
    #[error("cannot {doing} {}: {source}; does it exist, is its disk mounted?", path.display())]
    Gone {
        /// The verb of what was tried.
        doing: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A read-only disk or a lack of permission.
    #[error("cannot {doing} {}: {source}; {}", path.display(), denied(source))]
    Denied {
        /// The verb of what was tried.
        doing: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More bytes than the caller allowed.
    #[error("{} is larger than the {cap_bytes} bytes allowed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit it broke.
        cap_bytes: u64,
    },
    /// A link or a special file stands where a file of ours should be. Writing to it could harm another file.
    #[error("{} is a link or not a regular file; move it out of the way", path.display())]
    Foreign {
        /// Where it stands.
        path: PathBuf,
    },
    /// Somebody else is writing this file at this moment.
    #[error("{} is being written by somebody else; try again later", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The output root without its mark.
    #[error(
        "{} has no file {}: its disk is not mounted, it seems; mount it, or make that file if this is a new place",
        root.display(),
        super::root::MARK
    )]
    Unmounted {
        /// The root.
        root: PathBuf,
    },
    /// The path would leave the directory it has to stay in.
    #[error("{} leads out of {}", path.display(), root.display())]
    Outside {
        /// The path that leaves.
        path: PathBuf,
        /// Where it has to stay.
        root: PathBuf,
    },
    /// Anything else. Of a failed sync nothing may be assumed: resume from what was durable before.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The verb of what was tried.
        doing: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whether the trouble may pass without anybody's help: a full disk, one that fails or is silent at the moment, a system
/// that is short of something.
pub fn passes(error: &io::Error) -> bool {
    let passing = |errno: Errno| {
        matches!(
            errno,
            Errno::NOSPC
                | Errno::DQUOT
                | Errno::IO
                | Errno::STALE
                | Errno::NFILE
                | Errno::MFILE
                | Errno::NOMEM
        )
    };
    error.kind() == io::ErrorKind::TimedOut || Errno::from_io_error(error).is_some_and(passing)
}

/// What would allow it.
fn denied(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable",
        _ => "klingd's user needs the permission to",
    }
}

impl DiskError {
    /// Work on a disk that ended before it could say how.
    pub fn interrupted(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DiskError {
        DiskError::Io {
            doing: "finish the work on",
            path: PathBuf::from("a disk"),
            source: io::Error::other(why),
        }
    }

    /// A disk that says nothing at all: a share whose server is gone.
    pub fn silent(path: &Path) -> DiskError {
        let source = io::Error::new(io::ErrorKind::TimedOut, "its disk does not answer");
        DiskError::Io { doing: "look at", path: path.to_path_buf(), source }
    }

    /// A file that its disk does not give back.
    pub fn unreadable(path: &Path, source: io::Error) -> DiskError {
        DiskError::at("read", path)(source)
    }

    /// Sorts a system error, for `map_err`.
    pub(super) fn at<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> DiskError {
        move |error| {
            let (path, source) = (path.to_path_buf(), error.into());
            match Errno::from_io_error(&source) {
                Some(Errno::EXIST) => DiskError::Exists { path },
                Some(Errno::NOSPC | Errno::DQUOT) => DiskError::Full { doing, path, source },
                Some(Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NOTCONN | Errno::NODEV) => {
                    DiskError::Gone { doing, path, source }
                }
                Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => DiskError::Denied { doing, path, source },
                // What open() with O_NOFOLLOW says of a link.
                Some(Errno::LOOP) => DiskError::Foreign { path },
                _ => DiskError::Io { doing, path, source },
            }
        }
    }
}
