//! The keys that name places: where they are by default, what `--sandbox` does to them, and which may
//! not lie inside which.

use std::path::{Path, PathBuf};

use super::error::Complaint;
use super::reader::Reader;
use super::sections::{Inbox, Output};
use super::units::text;
use super::{Environment, Origin};

/// The data directory: flag, variable, file, systemd's, the user's. The sandbox has one below it.
pub(super) fn data_dir(read: &mut Reader, environment: &Environment, sandbox: bool) -> PathBuf {
    const KEY: &str = "data_dir";
    let default = environment.state_directory().or_else(|| Some(environment.data_home()?.join("klingd")));
    let path = read.path(KEY, default.unwrap_or_default());
    if path.as_os_str().is_empty() {
        read.complain(KEY, "cannot be guessed without a home directory", "name one with --data-dir");
    }
    if !sandbox {
        return path;
    }
    let below = path.join("sandbox");
    read.show_as(KEY, below.display().to_string());
    below
}

/// The watched folder and its two companions.
pub(super) struct InboxPaths {
    pub(super) path: PathBuf,
    pub(super) accepted: PathBuf,
    pub(super) rejected: PathBuf,
}

pub(super) fn inbox(read: &mut Reader, data_dir: &Path, sandbox: bool) -> InboxPaths {
    let path = place(read, "inbox.path", data_dir.join("inbox"), sandbox);
    let accepted = place(read, "inbox.accepted", path.with_file_name("accepted"), sandbox);
    let rejected = place(read, "inbox.rejected", path.with_file_name("rejected"), sandbox);
    InboxPaths { path, accepted, rejected }
}

pub(super) fn output_root(read: &mut Reader, data_dir: &Path, sandbox: bool) -> PathBuf {
    place(read, "output.root", data_dir.join("videos"), sandbox)
}

/// A place that the sandbox keeps to itself: simulated videos do not belong among paid ones, and the
/// files of the real inbox are not its to take.
fn place(read: &mut Reader, key: &str, default: PathBuf, sandbox: bool) -> PathBuf {
    if sandbox {
        read.fixed(key, default.display().to_string());
        return default;
    }
    read.path(key, default)
}

/// The file of the key. Never relative: what looks like a relative path here is mostly the key itself,
/// pasted into the wrong setting, and must not come back in a message.
pub(super) fn key_file(read: &mut Reader, environment: &Environment) -> Option<(PathBuf, Origin)> {
    let show =
        |path: &Option<PathBuf>| path.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
    let path = read.read("api.key_file", None, show, |entry| {
        let written = text(&entry.value).map_err(Complaint::hiding_value)?;
        let path = environment.absolute(written).ok_or_else(|| {
            let instead = "write it from / or from ~/; it names a file that holds the key";
            Complaint::new("is not a whole path", instead).hiding_value()
        })?;
        Ok(Some(path))
    })?;
    Some((path, read.origin("api.key_file")))
}

/// What klingd writes must not lie in what it watches: it would take its own files for jobs.
pub(super) fn refuse_loops(read: &mut Reader, data_dir: &Path, inbox: &Inbox, output: &Output) {
    let written = [
        ("inbox.accepted", inbox.accepted.as_path()),
        ("inbox.rejected", inbox.rejected.as_path()),
        ("output.root", output.root.as_path()),
        ("data_dir", data_dir),
    ];
    for (key, path) in written {
        if !path.as_os_str().is_empty() && path.starts_with(&inbox.path) {
            let why = format!("lies in the watched folder {}", inbox.path.display());
            read.complain(key, why, "name a place outside of inbox.path");
        }
    }
}
