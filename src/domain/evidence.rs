//! The raw answer to a submit, kept whole, so that a misreading can be seen and mended later.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes of an answer's body that are kept. The page's answers have a few hundred; an HTML error page fits too.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How far a request certainly got before the transport failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was stopped when all that was left was to send it, since the provider had just asked for quiet.
    Held,
    /// No connection was made (DNS, connect, TLS or proxy handshake): not one byte of the request left.
    Connect,
    /// The request may have been sent, no answer's head was seen.
    Sent,
    /// The answer's head was seen, its body ended early.
    Body,
}

/// Why the transport failed, and in which phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportFailure {
    /// The phase.
    pub phase: Phase,
    /// The whole chain of causes, without URLs.
    pub message: String,
}

/// What was seen of an answer to `POST /api/generate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The transport's failure, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<TransportFailure>,
    /// The HTTP status, if an answer's head was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The answer's headers without secrets (no cookies), names in lower case.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body as text, at most [`MAX_BODY_BYTES`]; bytes that are no UTF-8 are replaced.
    #[serde(default)]
    pub body: String,
    /// How long the answer took, in ms.
    #[serde(default)]
    pub took_ms: u64,
}

impl Evidence {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// How long the answer took.
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms)
    }
}
