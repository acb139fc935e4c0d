//! Job files: TOML, JSON with the same keys, and JSON Lines, read into jobs or into every error at once.
//!
//! ```text
//! bytes ── toml.rs, json.rs ──► tree ── walk.rs, job.rs, matrix.rs ──► Spec ── spec.rs ──► NewJob
//!            (syntax)                     (keys, types, layers)          (rules, price, key, takes)
//! ```
//!
//! Pure: bytes in, data out. It opens no file, asks no clock and does not know which jobs exist already.

use std::{ops::Range, path::Path};

use crate::domain::{
    credits::Credits,
    job::NewJob,
    job_type::{JobType, Price},
    request::Draft,
};

pub(super) mod diagnostic;
mod encoding;
mod job;
mod json;
mod lines;
mod matrix;
mod render;
pub(super) mod rules;
mod schema;
pub(super) mod spec;
mod toml;
mod tree;
mod walk;

pub use diagnostic::{Code, Diagnostic, Faults, MAX_ERRORS, Severity};
pub use lines::LineReader;
pub use render::{render_line, render_plain, render_terminal};
pub use schema::schema;

use diagnostic::Report;
use walk::{Known, Walk};

/// Reads a whole job file. Either every job of it is right, or nothing is and the errors are all here (with the
/// warnings; sorted as they stand in the file): the first [`MAX_ERRORS`] of them, and how many there are.
pub fn read(
    bytes: &[u8],
    format: Format,
    file_name: &str,
    context: &Context<'_>,
) -> Result<File, Vec<Diagnostic>> {
    read_counted(bytes, format, file_name, context).map_err(Faults::into_shown)
}

/// The same, with the number of errors as a number.
pub fn read_counted(
    bytes: &[u8],
    format: Format,
    file_name: &str,
    context: &Context<'_>,
) -> Result<File, Faults> {
    let read_root = match format {
        Format::Toml => toml::read,
        Format::Json => json::read,
        Format::JsonLines => return lines::read(bytes, file_name, context),
    };
    let mut report = Report::new(bytes, file_name);
    let Some(text) = encoding::utf8(bytes, &mut report) else { return Err(report.finish()) };
    let mut known = Known::default();
    let mut walk = Walk::new(context, file_name, &mut known, report);
    if let Some(root) = read_root(text, walk.report()) {
        walk.document(&root);
    }
    walk.finish()
}

/// What a job file says, right in every job.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// The batch's own name.
    pub batch: Option<String>,
    /// What the jobs of the file may cost all together. Already checked against their estimates.
    pub batch_max_credits: Option<Credits>,
    /// The jobs in the order of the file, matrix cells and takes expanded.
    pub jobs: Vec<NewJob>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Diagnostic>,
}

impl File {
    /// What all jobs together will cost by the price table.
    pub fn estimate(&self) -> Credits {
        self.jobs.iter().map(|job| job.estimate).sum()
    }
}

/// What reading a job file needs to know besides the file.
pub struct Context<'a> {
    /// The configuration's `defaults.*`. A job takes from them what its type takes.
    pub defaults: &'a Draft,
    /// What a type costs: the page's price or the user's override.
    pub price: &'a dyn Fn(JobType) -> Price,
    /// Says what is wrong with an output template.
    pub check_template: &'a dyn Fn(&str) -> Result<(), String>,
    /// Jobs one file may hold after expansion; `None` for the CLI, where a person sees the price first.
    pub max_jobs: Option<usize>,
}

/// How a job file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.toml`
    Toml,
    /// `.json`, with the keys of the TOML.
    Json,
    /// `.jsonl`, one job a line.
    JsonLines,
}

impl Format {
    /// By the file's extension, in any case; `None` when it is not a job file.
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "toml" => Some(Format::Toml),
            "json" => Some(Format::Json),
            "jsonl" => Some(Format::JsonLines),
            _ => None,
        }
    }

    /// By the text itself, for standard input: JSON begins with a brace, and several objects are JSON Lines.
    pub fn guess(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}').trim();
        if let Some(rest) = text.strip_prefix('[')
            && rest.trim_start().starts_with(['{', ']'])
        {
            // A list of jobs is no job file, but JSON is what the sentence should speak of.
            return Format::Json;
        }
        if !text.starts_with('{') {
            return Format::Toml;
        }
        match json::lines(text).next().map(|first: Range<usize>| &text[first]) {
            Some(first) if first.len() < text.len() && first.trim_end().ends_with('}') => Format::JsonLines,
            Some(_) | None => Format::Json,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
