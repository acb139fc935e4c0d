//! What people read: pure functions from data to text. Nothing here asks a clock, a terminal or the store.

pub mod budget;
pub mod demo;
pub mod doctor;
pub mod history;
pub mod hold;
pub mod idle;
pub mod list;
#[cfg(test)]
pub(super) mod samples;
pub mod show;
pub mod spend;
pub mod status;
pub mod table;
pub mod text;
pub mod time;
pub mod why;

/// For whom something is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Another program: tab-separated, untruncated.
    Piped,
    /// A person.
    Terminal {
        /// Columns.
        width: u16,
        /// Lines.
        height: u16,
        /// Whether to colour.
        colour: bool,
    },
}
