//! What can be wrong with a configuration, said so that a person can mend it without the manual.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::raw::Origin;

/// Why there is no configuration. `run` ends with 78 on it, the other verbs with 3.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file that was named, or found, could not be read.
    #[error("the configuration file {} cannot be read: {source}; {instead}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the OS said.
        source: io::Error,
        /// What to do.
        instead: &'static str,
    },
    /// The file is not TOML. All places at once.
    #[error("{}", lines(.0))]
    Syntax(Vec<SyntaxProblem>),
    /// Values that cannot be used. All of them at once.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
    /// The layers did not merge; figment's own words.
    #[error("the configuration could not be merged: {0}")]
    Merge(String),
}

/// One place that is not TOML.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}:{line}:{column}: {message}\n    {text}", path.display())]
pub struct SyntaxProblem {
    /// The file.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What the parser expected.
    pub message: String,
    /// The line itself, without what may be a secret.
    pub text: String,
}

/// One value that cannot be used: where, what, why, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{key}{} {why}; {instead}", place(origin), shown(value.as_deref()))]
pub struct Problem {
    /// The key's whole path.
    pub key: String,
    /// Where it was set.
    pub origin: Origin,
    /// The value, unless it may be a secret.
    pub value: Option<String>,
    /// Why it cannot be used.
    pub why: String,
    /// What to write.
    pub instead: String,
}

/// Half a [`Problem`]: what a parser knows, before anybody says which key it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) why: String,
    pub(super) instead: String,
    pub(super) hide_value: bool,
}

impl Complaint {
    pub(super) fn new(why: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { why: why.into(), instead: instead.into(), hide_value: false }
    }

    /// For values that may hold a secret, by mistake or not.
    pub(super) fn hiding_value(self) -> Self {
        Self { hide_value: true, ..self }
    }

    pub(super) fn about(self, key: &str, value: &toml::Value, origin: &Origin) -> Problem {
        if self.hide_value {
            return self.about_hidden(key, origin);
        }
        Problem { value: Some(brief(value)), ..self.about_hidden(key, origin) }
    }

    pub(super) fn about_hidden(self, key: &str, origin: &Origin) -> Problem {
        Problem {
            key: key.to_owned(),
            origin: origin.clone(),
            value: None,
            why: self.why,
            instead: self.instead,
        }
    }
}

/// A value as a message repeats it: on one line, without control characters, and short.
fn brief(value: &toml::Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        toml::Value::String(text) => format!("{text:?}"),
        other => format!("{:?}", other.to_string()).trim_matches('"').to_owned(),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

fn place(origin: &Origin) -> String {
    if *origin == Origin::Default { String::new() } else { format!("{origin}: ") }
}

fn shown(value: Option<&str>) -> String {
    value.map(|value| format!(" = {value}")).unwrap_or_default()
}

fn lines(problems: &[impl ToString]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
