//! What the process was started with, as a value: everything else in `config` is a function of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The process environment and the places of the OS. The default is an empty one, for tests and tools.
///
/// It has no `Debug`: one of the variables may be the API key.
#[derive(Clone, Default)]
pub struct Environment {
    /// The variables.
    pub variables: BTreeMap<OsString, OsString>,
    /// The home directory, if the user has one.
    pub home: Option<PathBuf>,
    /// What relative paths of flags and variables are relative to.
    pub current_dir: PathBuf,
    /// `/etc`, or what stands for it.
    pub etc: PathBuf,
}

impl Environment {
    /// The one reader of the real environment.
    pub fn from_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            home: std::env::home_dir().filter(|home| home.is_absolute()),
            // A deleted working directory leaves relative paths relative: the OS then says why they fail.
            current_dir: std::env::current_dir().unwrap_or_default(),
            etc: PathBuf::from("/etc"),
        }
    }

    /// Whether stderr is the journal itself. The variable alone says nothing: a terminal that a user's
    /// service started inherits it too.
    pub fn stderr_is_journal(&self) -> bool {
        let Some(journal) = self.variable("JOURNAL_STREAM").and_then(OsStr::to_str) else { return false };
        let stderr = rustix::fs::fstat(std::io::stderr());
        stderr.is_ok_and(|stderr| journal == format!("{}:{}", stderr.st_dev, stderr.st_ino))
    }

    /// Whether `NO_COLOR` asks for no colours (https://no-color.org: set and not empty).
    pub fn no_colour(&self) -> bool {
        self.variable("NO_COLOR").is_some_and(|v| !v.is_empty())
    }

    /// A variable that is set and not empty: `NAME=` is how a compose file says "not given".
    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A directory from a variable; a relative one counts as unset, as the XDG specification demands.
    pub(super) fn directory(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// A whole path as somebody wrote it: from `/`, or from `~/` when the home directory is known.
    pub(super) fn absolute(&self, written: &str) -> Option<PathBuf> {
        let path = match written.strip_prefix("~/") {
            Some(below) => self.home.as_ref()?.join(below),
            None => PathBuf::from(written),
        };
        path.is_absolute().then_some(path)
    }

    /// Where this user's configuration files live.
    pub(super) fn config_home(&self) -> Option<PathBuf> {
        self.directory("XDG_CONFIG_HOME").or_else(|| Some(self.home.as_ref()?.join(".config")))
    }

    /// Where this user's data lives.
    pub(super) fn data_home(&self) -> Option<PathBuf> {
        self.directory("XDG_DATA_HOME").or_else(|| Some(self.home.as_ref()?.join(".local/share")))
    }

    /// systemd's `STATE_DIRECTORY`: the first, when the unit names several.
    pub(super) fn state_directory(&self) -> Option<PathBuf> {
        let all = self.variable("STATE_DIRECTORY")?;
        std::env::split_paths(all).next().filter(|path| path.is_absolute())
    }

    /// The file of a systemd credential, whether it exists or not.
    pub(super) fn credential(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory("CREDENTIALS_DIRECTORY")?.join(name))
    }
}
