//! The client for result files. It has no key, and sends nothing anywhere but the link.
//!
//! It tells what came and where it belongs in the file; writing, checking and resuming are the worker's and `disk`'s.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
        HeaderValue, IF_RANGE, LOCATION, RANGE,
    },
};
use url::Url;

use super::{
    address::{self, NotPublic, PublicOnly},
    http::{self, SetupError},
    retry_after::retry_after,
    text::{chain, clean},
};
use crate::domain::plan::download::FetchTrouble;

/// Redirects that are followed. A CDN needs one or two.
const MAX_REDIRECTS: u32 = 5;
/// Idle connections kept for the next video from the same CDN: as many as there are download workers, twice.
const MAX_IDLE: usize = 8;
/// Idle connections are dropped before servers do it under our feet.
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);

/// What the client needs to know. Not `Debug`: a proxy's URL may hold a password.
#[derive(Clone)]
pub struct MediaSettings {
    /// Longest time until a connection stands.
    pub connect_timeout: Duration,
    /// Longest time without a byte. There is no total one: a slow link is not a broken one.
    pub idle_timeout: Duration,
    /// Largest file.
    pub max_bytes: u64,
    /// Whether links into private networks are fetched.
    pub allow_private: bool,
    /// An HTTP proxy. It resolves names itself: only literal addresses and local names are checked here then.
    pub proxy: Option<Url>,
}

/// What is on disk already of the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Bytes that are there.
    pub offset: u64,
    /// The strong `ETag` under which they came.
    pub etag: String,
    /// The whole file's length, if it was announced with them.
    pub total: Option<u64>,
}

/// Why a file, or the rest of it, did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct FetchError {
    /// What it means for the link.
    pub trouble: FetchTrouble,
    /// A sentence, without the link: those are signed.
    pub why: String,
    /// The server's wish.
    pub retry_after: Option<Duration>,
}

/// The client.
pub struct Media {
    client: Client,
    max_bytes: u64,
    allow_private: bool,
    idle_timeout: Duration,
}

/// A file that is coming.
pub struct Download {
    /// Where in the file the first chunk belongs: the offset that was asked for, or 0.
    pub offset: u64,
    /// The whole file's length, if the server said it.
    pub total: Option<u64>,
    /// Its strong `ETag`: what a later [`Resume`] needs.
    pub etag: Option<String>,
    response: Response,
    position: u64,
    max_bytes: u64,
}

impl Media {
    /// Makes the client; opens no connection.
    pub fn new(settings: &MediaSettings) -> Result<Self, SetupError> {
        // Through a proxy, its own name is the only one that is resolved here, and it may well be private.
        let checked = !settings.allow_private && settings.proxy.is_none();
        let client = http::build(settings.allow_private, || {
            let builder = http::client(settings.connect_timeout, settings.proxy.as_ref())?
                // From the request to the head, and then between chunks.
                .read_timeout(settings.idle_timeout)
                .pool_max_idle_per_host(MAX_IDLE)
                .pool_idle_timeout(MAX_IDLE_TIME);
            Ok(if checked { builder.dns_resolver(PublicOnly) } else { builder })
        })?;
        let MediaSettings { max_bytes, allow_private, idle_timeout, .. } = *settings;
        Ok(Self { client, max_bytes, allow_private, idle_timeout })
    }

    /// Longest time without a byte.
    pub const fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// Asks for the file at `url`, or for the rest of it. A server that does not give exactly that rest is asked for
    /// the whole file.
    pub async fn open(&self, url: &str, resume: Option<&Resume>) -> Result<Download, FetchError> {
        let url = Url::parse(url).map_err(|e| dead(format!("the link is no URL: {e}")))?;
        if let Some((resume, headers)) = resume.and_then(|resume| Some((resume, range(resume)?))) {
            let response = self.get(url.clone(), headers).await?;
            if let Some(download) = self.rest(response, resume)? {
                return Ok(download);
            }
        }
        let response = self.get(url, HeaderMap::new()).await?;
        self.whole(response)
    }

    /// The answer at the end of the redirects. They are followed here, so that each hop's host is checked.
    async fn get(&self, mut url: Url, headers: HeaderMap) -> Result<Response, FetchError> {
        for _ in 0..=MAX_REDIRECTS {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(dead(format!("the link leads to {}:", url.scheme())));
            }
            if !self.allow_private {
                address::check(&url).map_err(|refused| dead(refused.to_string()))?;
            }
            let request = self.client.get(without_credentials(url.clone())).headers(headers.clone());
            let response = request.header(ACCEPT_ENCODING, "identity").send().await.map_err(broken)?;
            match redirect(&response, &url)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(dead(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// The answer to a request with a range; `None` where it is neither the rest nor the whole file.
    fn rest(&self, response: Response, resume: &Resume) -> Result<Option<Download>, FetchError> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                // A server that ignores `If-Range` shows by its `ETag` that this is the rest of another file.
                let same_file =
                    response.headers().get(ETAG).is_none_or(|etag| etag.as_bytes() == resume.etag.as_bytes());
                let same_length = |range: &ContentRange| {
                    resume.total.zip(range.total).is_none_or(|(one, other)| one == other)
                };
                let fits =
                    |range: &ContentRange| range.start == resume.offset && same_length(range) && same_file;
                match content_range(&response).filter(fits) {
                    Some(range) => {
                        let total = range.total.or(resume.total);
                        let rest = self.download(response, resume.offset, total)?;
                        Ok(Some(Download { etag: Some(resume.etag.clone()), ..rest }))
                    }
                    None => Ok(None),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(None),
            _ => self.whole(response).map(Some),
        }
    }

    fn whole(&self, response: Response) -> Result<Download, FetchError> {
        let status = response.status();
        let why = format!("{} answered HTTP {}", host(&response), status.as_u16());
        match status.as_u16() {
            200 => {
                let total = response.content_length();
                self.download(response, 0, total)
            }
            408 | 425 | 429 | 500..=599 => {
                let header = |name: &str| response.headers().get(name)?.to_str().ok();
                Err(FetchError { retry_after: retry_after(header), ..interrupted(why) })
            }
            400..=499 => Err(dead(why)),
            _ => Err(wrong(why)),
        }
    }

    /// A body that begins at `offset`, unless its head shows that it is no video.
    fn download(&self, response: Response, offset: u64, total: Option<u64>) -> Result<Download, FetchError> {
        let header = |name: HeaderName| response.headers().get(name).map(|value| text(value.as_bytes()));
        let content_type = header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let media_type = content_type.split(';').next().unwrap_or_default();
        if ["html", "xml", "json"].iter().any(|kind| media_type.contains(kind)) {
            return Err(wrong(format!("{} sent {media_type} instead of a video", host(&response))));
        }
        if let Some(encoding) = header(CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
            return Err(wrong(format!("{} sent the file compressed ({encoding})", host(&response))));
        }
        if let Some(total) = total.filter(|total| *total > self.max_bytes) {
            return Err(too_long(total, self.max_bytes));
        }
        let etag = etag(&response);
        Ok(Download { offset, total, etag, response, position: offset, max_bytes: self.max_bytes })
    }
}

impl Download {
    /// The next piece, or `None` when the file is whole as far as HTTP can tell. Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        let Some(chunk) = self.response.chunk().await.map_err(broken)? else {
            return match self.total {
                Some(total) if self.position < total => {
                    Err(interrupted(format!("the file ended after {} of {total} bytes", self.position)))
                }
                Some(_) | None if self.position == 0 => Err(wrong("the file is empty".to_owned())),
                Some(_) | None => Ok(None),
            };
        };
        self.position = self.position.saturating_add(chunk.len() as u64);
        if self.position > self.max_bytes {
            return Err(too_long(self.position, self.max_bytes));
        }
        Ok(Some(chunk))
    }
}

/// The `Content-Range` of a 206.
struct ContentRange {
    start: u64,
    total: Option<u64>,
}

/// `bytes 100-199/200` or `bytes 100-199/*`; `None` for what contradicts itself.
fn content_range(response: &Response) -> Option<ContentRange> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (start.trim().parse().ok()?, last.trim().parse().ok()?);
    let end = last.checked_add(1)?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let length_fits = response.content_length().is_none_or(|length| start.checked_add(length) == Some(end));
    (start < end && length_fits && total.is_none_or(|total| end <= total))
        .then_some(ContentRange { start, total })
}

/// The headers that ask for the rest of a file; `None` where nothing says that it would be the same file's.
fn range(resume: &Resume) -> Option<HeaderMap> {
    let etag = strong(&resume.etag).filter(|_| resume.offset > 0)?;
    let range = HeaderValue::from_str(&format!("bytes={}-", resume.offset)).ok()?;
    Some(HeaderMap::from_iter([(RANGE, range), (IF_RANGE, HeaderValue::from_str(etag).ok()?)]))
}

/// A strong `ETag`: only that says "the same bytes".
fn strong(etag: &str) -> Option<&str> {
    (etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')).then_some(etag)
}

fn etag(response: &Response) -> Option<String> {
    strong(response.headers().get(ETAG)?.to_str().ok()?).map(str::to_owned)
}

/// Where a redirect leads; `None` for any other answer.
fn redirect(response: &Response, from: &Url) -> Result<Option<Url>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location =
        response.headers().get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let next = location.and_then(|location| from.join(location).ok());
    let next = next.ok_or_else(|| dead(format!("{} redirects to nowhere", host(response))))?;
    if from.scheme() == "https" && next.scheme() != "https" {
        return Err(dead(format!("{} redirects from https to {}", host(response), next.scheme())));
    }
    Ok(Some(next))
}

/// The link without `user:password@`, which reqwest would send as `Authorization`.
fn without_credentials(mut url: Url) -> Url {
    // These fail only for URLs without a host, which the scheme rules out.
    url.set_username("").ok();
    url.set_password(None).ok();
    url
}

/// The server's name, for sentences: the rest of a link may be its signature.
fn host(response: &Response) -> &str {
    response.url().host_str().unwrap_or("the server")
}

fn text(value: &[u8]) -> String {
    clean(&String::from_utf8_lossy(value))
}

/// The transport failed: the link may still be good, unless it leads where it must not.
fn broken(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut cause = error.source();
    while let Some(next) = cause {
        if let Some(refused) = next.downcast_ref::<NotPublic>() {
            return dead(refused.to_string());
        }
        cause = next.source();
    }
    interrupted(chain(&error))
}

fn too_long(bytes: u64, max_bytes: u64) -> FetchError {
    wrong(format!("the file has {bytes} bytes or more, download.max_bytes permits {max_bytes}"))
}

fn interrupted(why: String) -> FetchError {
    FetchError { trouble: FetchTrouble::Interrupted, why: clean(&why), retry_after: None }
}

fn dead(why: String) -> FetchError {
    FetchError { trouble: FetchTrouble::LinkDead, ..interrupted(why) }
}

fn wrong(why: String) -> FetchError {
    FetchError { trouble: FetchTrouble::WrongBody, ..interrupted(why) }
}

#[cfg(test)]
#[path = "media_tests.rs"]
mod tests;
