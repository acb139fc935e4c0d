//! Flags, `KLINGD_` variables, the configuration file and the defaults → one checked [`Config`].
//!
//! Owns the names of the keys, their defaults and bounds, and the reading of the environment, of the
//! file and of the API key. Must not create anything, print, look at the network or judge what belongs
//! to others: the output template is `disk`'s to parse, request fields and the page's prices are `domain`'s.
//!
//! The way of a value: `load` merges the layers into a flat `raw::Raw`, `resolve` reads every key
//! from it once through a `reader::Reader`, which checks, remembers where the value came from and
//! gathers every problem, so that a person mends a file in one go.

mod api_key;
mod endpoint;
mod environment;
mod error;
mod file;
mod hooks;
mod load;
mod paths;
mod raw;
mod reader;
mod resolve;
mod sections;
mod tables;
mod units;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::domain::request::Draft;

pub use api_key::{ApiKey, KeyError};
pub use environment::Environment;
pub use error::{ConfigError, Problem, SyntaxProblem};
pub use file::place;
pub use raw::Origin;
pub use sections::{
    Api, Budget, Download, Hook, Inbox, Log, LogFormat, LogLevel, Metrics, OnInternalError, OnUncleanStop,
    Output, Poll, Prices, Proxy, Submit,
};
pub use units::{show_duration, show_size};

/// The commented file with every key that `config init` writes.
pub const EXAMPLE: &str = include_str!("../../klingd.example.toml");

/// The name of the database in the data directory.
pub const DATABASE: &str = "klingd.db";

/// Everything that can be set, checked and bounded: nothing left to default, parse or doubt.
///
/// The fields are public, since `sandbox` and `demo` change some (`api.base_url`, `api_key`) before
/// anything is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// With the built-in provider: no key, no cost, a queue of its own.
    pub sandbox: bool,
    /// Where the queue lives; with `sandbox` this is already `DATA/sandbox`.
    pub data_dir: PathBuf,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// How the provider is reached.
    pub api: Api,
    /// The API key; `None` when none was found (see [`Config::require_key`]) and always with `sandbox`.
    pub api_key: Option<ApiKey>,
    /// The paid step.
    pub submit: Submit,
    /// Asking for the state of tasks.
    pub poll: Poll,
    /// What may be spent.
    pub budget: Budget,
    /// What each request type costs.
    pub prices: Prices,
    /// Request fields for jobs that do not set them: of the right types, not yet checked.
    pub defaults: Draft,
    /// The watched folder.
    pub inbox: Inbox,
    /// Where videos go.
    pub output: Output,
    /// Fetching videos.
    pub download: Download,
    /// The metrics endpoint.
    pub metrics: Metrics,
    /// Programs that are told what happened.
    pub hooks: Vec<Hook>,
    /// The log.
    pub log: Log,
    /// Sentences a person should read once; nothing here keeps klingd from working.
    pub warnings: Vec<String>,
    /// Why `api_key` is `None`, when it is.
    missing_key: KeyError,
    rows: Vec<Row>,
}

/// What the command line says about the configuration; flags win over everything.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--sandbox`
    pub sandbox: bool,
    /// `-v` and `-q` of `run`
    pub log_level: Option<LogLevel>,
}

/// One line of `config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key's whole path, such as `submit.workers`.
    pub key: String,
    /// The effective value as a person would write it; secrets only as a fingerprint.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Config {
    /// Reads every source and checks every key.
    ///
    /// A key that cannot be read is no error here: `list`, `enqueue` and most other verbs work without
    /// one. Who needs it asks [`Config::require_key`].
    ///
    /// # Errors
    /// A named file that is absent, a file that cannot be read or parsed, or every invalid value at once.
    pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Self, ConfigError> {
        let layers = load::layers(overrides, environment)?;
        resolve::resolve(layers, overrides, environment)
    }

    /// The API key, for those who cannot go on without it.
    ///
    /// # Errors
    /// Where the key was looked for, what was wrong there, and the three ways to give one.
    pub fn require_key(&self) -> Result<&ApiKey, KeyError> {
        self.api_key.as_ref().ok_or_else(|| self.missing_key.clone())
    }

    /// Each key with its effective value as it was loaded, in the order of the documentation.
    pub fn show(&self) -> &[Row] {
        &self.rows
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join(DATABASE)
    }

    /// The lock that makes one daemon per data directory.
    pub fn lock_file(&self) -> PathBuf {
        self.data_dir.join("klingd.lock")
    }

    /// Answers to submits that the database could not take.
    pub fn spool_dir(&self) -> PathBuf {
        self.data_dir.join("spool")
    }

    /// The datagram socket that wakes the daemon.
    pub fn doorbell(&self) -> PathBuf {
        self.data_dir.join("doorbell.sock")
    }

    /// Paid videos while `output.root` is full or gone.
    pub fn staging_dir(&self) -> PathBuf {
        self.data_dir.join("staging")
    }

    /// The root that every video stays below.
    pub fn videos_root(&self) -> &Path {
        &self.output.root
    }
}
