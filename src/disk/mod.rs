//! The only place that writes files.
//!
//! It owns the recipe by which a file that was paid for reaches its final name whole or not at all, and
//! everything else of ours on a disk: names, locks, small files, free space. Its callers bring bytes and
//! paths; it knows nothing of jobs, of the network or of the database, and it never asks for the time.
//!
//! Everything here blocks; async callers wrap it in `spawn_blocking`.
//!
//! | file | owns |
//! |---|---|
//! | [`part`] | the temporary file of a download: counted, hashed, capped, resumable |
//! | [`publish`] | giving a finished file its final name, never over another file |
//! | [`small`] | whole small files: written at once, read with a limit, removed |
//! | `open` | never through a link, only plain files |
//! | [`dir`] | directories: made durably, and never outside their root |
//! | [`name`] | the output template: from a job's fields to a relative path |
//! | [`safe`] | text of strangers made fit for a file name |
//! | [`mp4`] | whether a file is a whole video, and what it says of itself |
//! | [`root`] | whether the output root is there, and is the one it was |
//! | [`tally`] | how many requests were sent, kept beside the videos |
//! | [`unnamed`] | a file that somebody else writes, named when it is whole |
//! | [`filesystem`] | which filesystem a path is on |
//! | [`scratch`] | a file without a name, for what does not fit into memory |
//! | [`shared`] | folders that people write into: files taken by a rename, moved without overwriting |
//! | [`space`] | free bytes, and the ballast for a full disk |
//! | [`lock`] | one daemon a data directory |
//! | [`hash`] | a SHA-256 as a value |
//! | [`error`] | what can go wrong, sorted by what the caller does about it |

pub mod dir;
pub mod error;
pub mod filesystem;
pub mod hash;
pub mod lock;
pub mod mp4;
pub mod name;
mod open;
pub mod part;
pub mod publish;
pub mod root;
pub mod safe;
pub mod scratch;
pub mod shared;
pub mod small;
pub mod space;
pub mod tally;
pub mod unnamed;

pub use dir::{below_root, create_dirs_durably, create_root};
pub use error::{DiskError, passes};
pub use hash::Sha256;
pub use lock::{DirLock, LockError};
pub use mp4::{Mp4Error, Mp4Info};
pub use name::{Fields, Template, TemplateError, numbered};
pub use part::{Finished, Part, part_path};
pub use publish::{
    Named, already_published, make_durable, move_in, publish, relocate, rename_no_clobber, set_aside,
};
pub use scratch::scratch;
pub use small::{Access, Clobber, read_bounded, remove_durably, write_atomically, write_named};
pub use space::{Ballast, check_free, free_bytes};

/// Puts a file where a stranger, a crash or an older run may have left one.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a stranger does not write by our recipe")]
fn plant(path: impl AsRef<std::path::Path>, bytes: impl AsRef<[u8]>) {
    std::fs::write(path, bytes).unwrap();
}
