//! How a double behaves, as a value: what the model and the server are made with.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::faults::Faults;

/// How the double behaves. All of it is deterministic, given the seed and the order of the calls.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Decides task ids, render times and every percentage in `faults`.
    pub seed: u64,
    /// The API keys that are accepted.
    pub keys: AcceptKeys,
    /// The credits in the account.
    pub balance: i64,
    /// How long a task renders.
    pub render_time: RangeInclusive<Duration>,
    /// How long each answer takes, before any fault.
    pub latency: Duration,
    /// The limit on API requests: how many a second in the long run, and how many at once.
    pub requests_per_second: Option<(f64, u32)>,
    /// The limit on tasks that render at the same time.
    pub parallel_tasks: Option<u32>,
    /// Whether a 429 of the limit on requests says when to come back.
    pub retry_after: bool,
    /// How long a link to a video works. The next status call gives a new one.
    pub link_life: Duration,
    /// Pads every video to this size; a video never gets smaller than it is.
    pub video_bytes: Option<u64>,
    /// What goes wrong.
    pub faults: Faults,
    /// The clock.
    pub now: fn() -> jiff::Timestamp,
}

impl Options {
    /// A provider on a good day: any key, a million credits, renders of a few seconds, no limits.
    pub fn new(now: fn() -> jiff::Timestamp) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 0,
            keys: AcceptKeys::Any,
            balance: 1_000_000,
            render_time: Duration::from_secs(2)..=Duration::from_secs(6),
            latency: Duration::ZERO,
            requests_per_second: None,
            parallel_tasks: None,
            retry_after: false,
            link_life: Duration::from_hours(24),
            video_bytes: None,
            faults: Faults::none(),
            now,
        }
    }
}

/// Which API keys are accepted.
#[derive(Clone, PartialEq, Eq)]
pub enum AcceptKeys {
    /// Any that is not empty.
    Any,
    /// These.
    Only(Vec<String>),
}

impl AcceptKeys {
    pub(super) fn accept(&self, key: &str) -> bool {
        match self {
            Self::Any => !key.is_empty(),
            Self::Only(keys) => keys.iter().any(|accepted| accepted == key),
        }
    }
}

/// People start the sandbox with their real key in the environment: it is never printed.
impl fmt::Debug for AcceptKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Only(keys) => write!(f, "Only({} keys)", keys.len()),
        }
    }
}
