//! The provider's name of a task: proof that something was paid.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The provider's id of a task (`n75…`, `n71…`), kept as it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(String);

impl TaskId {
    /// Longest id that is believed to be one; the page's have 15 characters.
    pub const MAX_CHARS: usize = 200;

    /// An id that can be one: not empty, visible ASCII without quotes or blanks, not longer than
    /// [`TaskId::MAX_CHARS`].
    pub fn parse(text: &str) -> Option<Self> {
        let plausible = !text.is_empty()
            && text.len() <= Self::MAX_CHARS
            && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'>'));
        plausible.then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
