//! The two calls of the API. A submit becomes [`Evidence`] whatever happens; a status call becomes a [`PollAnswer`].
//!
//! The paid POST leaves at most once: its client follows no redirect, has no retry layer, reuses no idle connection
//! (a stale one fails in a way that looks like a lost answer), and the request's body can be taken only once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{
    Client, ClientBuilder, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;

use super::{
    classify, kept,
    latch::{HeldBack, Latch, LatchLayer},
    retry_after::retry_after,
    text::{chain, clean},
    turns::Turns,
};
use crate::domain::{
    TaskId, Timestamp,
    adopt::Echo,
    evidence::{Evidence, MAX_BODY_BYTES, Phase, TransportFailure},
    gate::{LONGEST_QUIET, SHORTEST_WISH},
    plan::poll::PollAnswer,
};

/// Bytes of a status answer that are read. The page's have about 700; a request with its longest prompt, echoed twice
/// and escaped, and sixteen signed links stay far below.
const MAX_STATUS_BYTES: usize = 1024 * 1024;
/// Idle status connections are dropped before servers with the common 60 s do it under our feet.
const STATUS_IDLE: Duration = Duration::from_secs(30);
/// The task that the key check asks for: no id of the provider looks like this.
const NO_SUCH_TASK: &str = "klingd-key-check";

/// What the two calls need to know. Not `Debug`: a proxy's URL may hold a password.
#[derive(Clone)]
pub struct Settings {
    /// Where jobs are submitted.
    pub base_url: Url,
    /// The API key.
    pub key: SecretString,
    /// Longest time until a connection stands, TLS and proxy included.
    pub connect_timeout: Duration,
    /// Longest time for a whole submit.
    pub submit_timeout: Duration,
    /// Longest time for a whole status call.
    pub status_timeout: Duration,
    /// An HTTP proxy; none of the environment's is used.
    pub proxy: Option<Url>,
}

/// Why the clients can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS without anybody to trust.
    #[error(
        "no certificate authorities were found, so no HTTPS server can be trusted: install the package ca-certificates"
    )]
    NoAuthorities,
    /// A key that is no header value.
    #[error(
        "the API key is empty or has a character that no HTTP header can carry: write the key alone into its file, on one line"
    )]
    Key,
    /// A base URL to which no path can be added.
    #[error(
        "the base URL {0} can't be the address of an API: it needs to look like https://host or https://host/path"
    )]
    BaseUrl(String),
    /// A proxy of another kind.
    #[error("the proxy's scheme is {0}, only http and https proxies are supported")]
    Proxy(String),
    /// Anything else that the TLS or HTTP library objects to.
    #[error("the HTTP client could not be set up: {0}")]
    Client(String),
}

/// An answer to [`Api::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The HTTP status.
    pub status: u16,
    /// Whether the key is taken; `None` where the answer does not tell.
    pub key_works: Option<bool>,
    /// The time by the provider's clock, to the second.
    pub date: Option<Timestamp>,
}

/// The API at its base URL, with its key.
pub struct Api {
    submit: Client,
    status: Client,
    generate_url: Url,
    base_url: String,
    authorization: HeaderValue,
    key: SecretString,
    turns: Arc<Turns>,
    latch: Arc<Latch>,
    submit_timeout: Duration,
    status_timeout: Duration,
}

impl Api {
    /// Makes both clients; opens no connection.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        Self::with(settings, Arc::default(), Arc::default())
    }

    /// The same for other settings: what an answer to the earlier one said of all requests holds for the later one, too.
    pub fn succeeding(settings: &Settings, earlier: &Self) -> Result<Self, SetupError> {
        Self::with(settings, Arc::clone(&earlier.turns), Arc::clone(&earlier.latch))
    }

    fn with(settings: &Settings, turns: Arc<Turns>, latch: Arc<Latch>) -> Result<Self, SetupError> {
        let key = settings.key.expose_secret();
        let bearer = HeaderValue::from_str(&format!("Bearer {key}")).ok().filter(|_| !key.trim().is_empty());
        let mut authorization = bearer.ok_or(SetupError::Key)?;
        authorization.set_sensitive(true);
        let base_url = settings.base_url.as_str();
        let generate_url =
            endpoint(base_url, "api/generate").ok_or_else(|| SetupError::BaseUrl(base_url.to_owned()))?;
        let plain_http = settings.base_url.scheme() == "http";
        let client = || client(settings.connect_timeout, settings.proxy.as_ref());
        let submit = || {
            let client = client()?.timeout(settings.submit_timeout).pool_max_idle_per_host(0);
            Ok(client.connector_layer(LatchLayer(Arc::clone(&latch))))
        };
        let status = || Ok(client()?.timeout(settings.status_timeout).pool_idle_timeout(STATUS_IDLE));
        Ok(Self {
            submit: build(plain_http, submit)?,
            status: build(plain_http, status)?,
            generate_url,
            base_url: base_url.to_owned(),
            authorization,
            key: settings.key.clone(),
            turns,
            latch,
            submit_timeout: settings.submit_timeout,
            status_timeout: settings.status_timeout,
        })
    }

    /// The longest time for a whole submit.
    pub fn submit_timeout(&self) -> Duration {
        self.submit_timeout
    }

    /// The longest time for a whole status call.
    pub fn status_timeout(&self) -> Duration {
        self.status_timeout
    }

    /// What stops submits at the last moment.
    pub fn latch(&self) -> &Latch {
        &self.latch
    }

    /// Sends one request to make a task, and tells what was seen. This may cost credits: drop the future only if the
    /// process dies. The latch counts the answer: say so when it is [`Latch::committed`].
    pub async fn generate(&self, body: Vec<u8>) -> Evidence {
        let started = Instant::now();
        let mut evidence = self.exchange(body).await;
        evidence.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        evidence
    }

    /// Asks what has become of `task`, at the base URL where it was made; never twice at once.
    pub async fn status(&self, base_url: &str, task: &TaskId) -> (PollAnswer, Echo) {
        let _turn = self.turns.take(task.as_str()).await;
        match self.look(base_url, task.as_str()).await {
            Ok(seen) => classify::status(seen.status, &seen.headers, &seen.body, task),
            Err(why) => (PollAnswer::Unclear { why }, Echo::default()),
        }
    }

    /// Whether the provider takes the key, by a free call; `None` where the answer does not tell.
    pub async fn key_works(&self) -> Option<bool> {
        let seen = self.look(&self.base_url, NO_SUCH_TASK).await.ok()?;
        classify::key_works(seen.status, &seen.body)
    }

    /// What a free call shows of the provider: for whoever looks after the installation.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn probe(&self) -> Result<Probe, String> {
        let seen = self.look(&self.base_url, NO_SUCH_TASK).await?;
        let date = seen.headers.iter().find(|(name, _)| name == "date").map(|(_, value)| value);
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let millis =
            date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_millis());
        Ok(Probe {
            status: seen.status,
            key_works: classify::key_works(seen.status, &seen.body),
            date: millis.and_then(|ms| i64::try_from(ms).ok()).map(Timestamp::from_millis),
        })
    }

    async fn exchange(&self, body: Vec<u8>) -> Evidence {
        if self.latch.holds() {
            self.latch.answered();
            // No need to connect first.
            return unanswered(Phase::Held, HeldBack.to_string());
        }
        let only = OnlyOnce::default();
        let request = self
            .submit
            .post(self.generate_url.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(CONTENT_LENGTH, body.len())
            .body(only.body(body));
        let sent = request.send().await;
        self.latch.answered();
        let error = match sent {
            Ok(response) => return self.evidence(response).await,
            Err(error) => error,
        };
        let phase = match only.take_back() {
            true if HeldBack::caused(&error) => Phase::Held,
            true => Phase::Connect,
            false => Phase::Sent,
        };
        unanswered(phase, self.blot(&chain(&error.without_url())))
    }

    /// What a response shows, read to its end or to [`MAX_BODY_BYTES`].
    async fn evidence(&self, mut response: Response) -> Evidence {
        let status = Some(response.status().as_u16());
        let headers = self.headers(response.headers());
        if let Some(wish) = asked_at_once(&headers) {
            // The body may come late or never: nobody leaves into the quiet meanwhile.
            self.latch.close(wish);
        }
        let (body, failure) = read(&mut response, MAX_BODY_BYTES).await;
        let transport =
            failure.map(|message| TransportFailure { phase: Phase::Body, message: self.blot(&message) });
        let body = kept::body(&body, self.key.expose_secret());
        Evidence { transport, status, headers, body, took_ms: 0 }
    }

    async fn look(&self, base_url: &str, task: &str) -> Result<Seen, String> {
        let mut url = endpoint(base_url, "api/status")
            .ok_or_else(|| clean(&format!("the base URL {base_url} of this task is no address")))?;
        url.query_pairs_mut().append_pair("task_id", task);
        let request = self
            .status
            .get(url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json");
        let failed = |error: reqwest::Error| self.blot(&chain(&error.without_url()));
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let headers = self.headers(response.headers());
        let (body, failure) = read(&mut response, MAX_STATUS_BYTES).await;
        match failure {
            Some(why) => Err(self.blot(&format!("HTTP {status}, but {why}"))),
            None => Ok(Seen { status, headers, body: self.blot(&String::from_utf8_lossy(&body)) }),
        }
    }

    fn headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let all = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        kept::headers(all, self.key.expose_secret())
    }

    fn blot(&self, text: &str) -> String {
        kept::blot(text, self.key.expose_secret())
    }
}

/// The quiet that the head of an answer asks for, as far as the gate keeps it.
fn asked_at_once(headers: &[(String, String)]) -> Option<Duration> {
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    retry_after(header).filter(|wish| *wish >= SHORTEST_WISH).map(|wish| wish.min(LONGEST_QUIET))
}

/// No answer was seen.
fn unanswered(phase: Phase, message: String) -> Evidence {
    Evidence { transport: Some(TransportFailure { phase, message }), ..Evidence::default() }
}

/// An answer to a status call.
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// A client without anything that would send a request twice or elsewhere.
pub(super) fn client(connect_timeout: Duration, proxy: Option<&Url>) -> Result<ClientBuilder, SetupError> {
    // The one way this fails is that another client was first.
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = Client::builder()
        .user_agent(concat!("klingd/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .no_proxy()
        .connect_timeout(connect_timeout);
    match proxy {
        None => Ok(builder),
        Some(url) if matches!(url.scheme(), "http" | "https") => {
            let proxy = reqwest::Proxy::all(url.clone());
            Ok(builder.proxy(proxy.map_err(|e| SetupError::Client(chain(&e.without_url())))?))
        }
        Some(url) => Err(SetupError::Proxy(url.scheme().to_owned())),
    }
}

/// Builds it. Where plain HTTP may be all that is spoken (a sandbox on this machine, perhaps without
/// ca-certificates), nobody to trust is no obstacle: HTTPS then fails when it is tried.
pub(super) fn build(
    plain_http: bool,
    make: impl Fn() -> Result<ClientBuilder, SetupError>,
) -> Result<Client, SetupError> {
    match make()?.build() {
        Ok(client) => Ok(client),
        // rustls has no kind for this.
        Err(error) if !chain(&error).contains("No CA certificates") => {
            Err(SetupError::Client(chain(&error.without_url())))
        }
        Err(_) if !plain_http => Err(SetupError::NoAuthorities),
        Err(_) => {
            let trusting_nobody = make()?.tls_certs_only([]).build();
            trusting_nobody.map_err(|error| SetupError::Client(chain(&error.without_url())))
        }
    }
}

/// A request body that is given out at most once: to the connection, which sends it, or back to us.
///
/// Taken back, not one byte of it was or will be sent, whatever the error was. That proves more than reqwest's
/// `is_connect`, which covers DNS, connect, connect timeout, TLS and proxy handshakes (hyper-util makes that error
/// around the whole connector, before a connection gets the request), but neither a submit timeout during these nor a
/// server that hangs up between handshake and request. Taken by the connection, it counts as sent.
#[derive(Default)]
struct OnlyOnce {
    taken: Arc<AtomicBool>,
}

impl OnlyOnce {
    /// `body` as a stream of one piece. A stream, since reqwest and hyper can't copy it to send it again.
    fn body(&self, body: Vec<u8>) -> reqwest::Body {
        let taken = Arc::clone(&self.taken);
        reqwest::Body::wrap_stream(stream::once(async move {
            if taken.swap(true, Ordering::AcqRel) { Err(Withdrawn) } else { Ok(Bytes::from(body)) }
        }))
    }

    /// Whether nobody took it; nobody will any more.
    fn take_back(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }
}

/// Nobody waits for the request any more.
#[derive(Debug, thiserror::Error)]
#[error("the request was given up before it was sent")]
struct Withdrawn;

/// Reads a body to its end or to `limit` bytes: what came, and why it is not whole.
async fn read(response: &mut Response, limit: usize) -> (Vec<u8>, Option<String>) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = limit - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return (body, Some(format!("it is longer than {limit} bytes")));
                }
            }
            Ok(None) => return (body, None),
            Err(error) => return (body, Some(chain(&error.without_url()))),
        }
    }
}

/// `path` below the base URL, which may have a path of its own.
fn endpoint(base_url: &str, path: &str) -> Option<Url> {
    let base = base_url.trim_end_matches('/');
    let url = Url::parse(&format!("{base}/{path}")).ok()?;
    // reqwest would make an `Authorization` of its own from a user name.
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(url)
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
