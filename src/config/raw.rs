//! The merged layers before anything is judged: one flat map from a key's path to what somebody wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from; its text is how a message points there.
///
/// Its order is the order in which problems are told: by line of the file, then the variables, then the flags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key; a key that a parser made up has none.
        line: Option<usize>,
    },
    /// An environment variable, by name.
    Variable(String),
    /// A file that `api.key_file` names, or a systemd credential.
    Secret(PathBuf),
    /// A command-line flag, by name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", visible(&path.to_string_lossy())),
            Self::File { path, line: None } | Self::Secret(path) => {
                f.write_str(&visible(&path.to_string_lossy()))
            }
            Self::Variable(name) | Self::Flag(name) => f.write_str(&visible(name)),
        }
    }
}

/// A foreign name as it may stand in a message: without what a terminal would obey.
pub(super) fn visible(name: &str) -> String {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    name.chars().fold(String::with_capacity(name.len()), |mut out, c| {
        if c.is_control() || turns(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    })
}

/// One value somebody wrote. Variables and flags are always text; who reads the key knows its type.
pub(super) struct Entry {
    pub(super) value: toml::Value,
    pub(super) origin: Origin,
}

/// All of them, by whole path (`submit.workers`). A table only appears when it is empty.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Raw {
    /// Takes one key, so that what is left at the end is what nobody knows.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        self.entries.remove(key)
    }
}

/// The path of the n-th table of an array, from 0 but counted as people do.
pub(super) fn nth(path: &str, n: usize) -> String {
    format!("{path}[{}]", n + 1)
}

/// Appends a segment to a path; one that is not a bare TOML key is quoted, so that a key which merely
/// contains a dot (`"submit.workers" = 4`) is never taken for the path it looks like.
pub(super) fn join(path: &str, segment: &str) -> String {
    let bare = !segment.is_empty()
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let segment = if bare { segment.to_owned() } else { format!("{segment:?}") };
    if path.is_empty() { segment } else { format!("{path}.{segment}") }
}
