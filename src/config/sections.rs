//! The sections of the configuration as checked values. Their keys, defaults and bounds stand in `resolve`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::domain::Credits;
use crate::domain::hook::HookEvent;
use crate::domain::job_type::{JobType, Price};
use crate::domain::plan::download::Verify;

/// `[api]`: how the provider is reached.
#[derive(Debug, Clone)]
pub struct Api {
    /// Always with a trailing slash, so that `Url::join("api/generate")` works; `https`, or loopback.
    pub base_url: Url,
    /// Until the connection stands; nothing has been paid before that.
    pub connect_timeout: Duration,
    /// How long the answer to a paid request is waited for.
    pub submit_timeout: Duration,
    /// How long the answer to a status call is waited for.
    pub status_timeout: Duration,
    /// The proxy for calls of the API, if any.
    pub proxy: Option<Proxy>,
}

/// A proxy's address; its `Debug` hides the password it may carry.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(pub(super) Url);

impl Proxy {
    /// The whole address, password included.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.0.username().is_empty() { "" } else { "…@" };
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{user}{host}", self.0.scheme())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// `[submit]`: the paid step.
#[derive(Debug, Clone)]
pub struct Submit {
    /// Paid requests on the wire at once.
    pub workers: usize,
    /// Accepted tasks at once, to begin with.
    pub start_in_flight: u32,
    /// Accepted tasks at once, at most.
    pub max_in_flight: u32,
    /// First pause after a 429 without `Retry-After`.
    pub cooldown: Duration,
    /// Longest such pause.
    pub cooldown_max: Duration,
    /// What follows a stop that was not clean.
    pub on_unclean_stop: OnUncleanStop,
    /// What follows the provider's documented `INTERNAL_ERROR`.
    pub on_internal_error: OnInternalError,
}

/// `submit.on_unclean_stop`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUncleanStop {
    /// Go on submitting; what was on the wire is in doubt anyway.
    Go,
    /// Hold the submitter until a person resumes it.
    Hold,
}

/// `submit.on_internal_error`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInternalError {
    /// Take the provider's "try again later" at its word.
    Retry,
    /// Treat it as an unknown outcome at once.
    Hold,
}

/// `[poll]`: asking for the state of tasks.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Age of a task at its first poll; `None` is learned.
    pub first: Option<Duration>,
    /// Shortest pause between polls of one task; `None` is learned.
    pub every: Option<Duration>,
    /// Longest pause between polls of one task.
    pub slowest: Duration,
    /// Status calls a second, over all tasks.
    pub max_per_second: f64,
    /// Pause before the second look that makes a FAILED true.
    pub confirm_failed: Duration,
}

/// `[budget]`; `None` is no cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// For one job.
    pub per_job: Option<Credits>,
    /// For one local day.
    pub per_day: Option<Credits>,
    /// For the life of this queue.
    pub total: Option<Credits>,
    /// The CLI asks before queueing more than this at once; 0 asks always.
    pub confirm_above: Credits,
}

/// `[prices]`: what each request type costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prices {
    /// The day the prices were read, such as `2026-01-31`.
    pub as_of: String,
    /// What differs from the provider's page.
    pub overrides: BTreeMap<JobType, Price>,
}

impl Prices {
    /// The price that holds.
    pub fn of(&self, job_type: JobType) -> Price {
        self.overrides.get(&job_type).copied().unwrap_or(job_type.price())
    }
}

/// `[inbox]`: the watched folder.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// Whether it is watched at all.
    pub enabled: bool,
    /// The folder.
    pub path: PathBuf,
    /// Where taken files go.
    pub accepted: PathBuf,
    /// Where refused files go.
    pub rejected: PathBuf,
    /// How long a file must rest before it is taken.
    pub settle: Duration,
    /// How often the folder is read whatever the events said.
    pub scan_every: Duration,
    /// Jobs of one file, after expansion.
    pub max_jobs_per_file: usize,
    /// What one file may cost; `None` is no cap.
    pub max_credits_per_file: Option<Credits>,
}

/// `[output]`: where videos go.
#[derive(Debug, Clone)]
pub struct Output {
    /// Every video stays below it.
    pub root: PathBuf,
    /// The name of a video below the root, not yet parsed.
    pub template: String,
    /// Whether a `.json` is written beside each video.
    pub sidecar: bool,
    /// How a video is checked before it gets its name.
    pub verify: Verify,
    /// Below this much free space, and what is under way, nothing is submitted; 0 stops nothing.
    pub min_free_bytes: u64,
}

/// `[download]`: fetching videos.
#[derive(Debug, Clone)]
pub struct Download {
    /// Videos fetched at once.
    pub workers: usize,
    /// A connection silent for this long is given up and resumed.
    pub idle_timeout: Duration,
    /// First pause after a failure; doubles from there.
    pub retry_base: Duration,
    /// When dead links of a paid video need a person.
    pub give_up: Duration,
    /// The largest file taken.
    pub max_bytes: u64,
    /// Whether links may lead to private, loopback or link-local addresses.
    pub allow_private: bool,
}

/// `[metrics]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// The address of the endpoint; `None` is off.
    pub listen: Option<SocketAddr>,
}

/// `[[hook]]`: a program that is told what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// By which messages and its waiting calls know it; no two have the same.
    pub name: String,
    /// What it is told.
    pub on: Vec<HookEvent>,
    /// The program, by its whole path.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// After this long it is killed.
    pub timeout: Duration,
}

/// `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// What is worth a line.
    pub level: LogLevel,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `journald` where stderr is the journal, else `text`.
    Auto,
    /// Time, level, sentence, fields.
    Text,
    /// One JSON object a line.
    Json,
    /// Text without time and colour: the journal adds its own.
    Journald,
}

/// `log.level`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happened to jobs.
    Info,
    /// And why.
    Debug,
    /// And everything else.
    Trace,
}

impl LogLevel {
    /// All of them, from the fewest lines to the most.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
