//! The HTTP skin: takes requests off the wire, asks the model, and puts its answer on the wire exactly as decided.
//!
//! It holds no rule of the provider and makes no choice. hyper speaks HTTP; what HTTP forbids (a body shorter than announced,
//! an RST in its middle, no answer at all) is done by `body` and `line` together.

mod body;
mod line;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::body::AnswerBody;
use self::line::{Line, Wire};
use super::model::{Call, Delivery, End, Reply};
use super::{Error, Sandbox};

/// The listening half of a [`Sandbox`].
#[derive(Debug)]
pub struct Server {
    sandbox: Sandbox,
    listener: TcpListener,
}

/// More connections at once than any test opens; beyond it, new ones wait in the backlog.
const MAX_CONNECTIONS: usize = 4096;
/// A prompt has 2,000 characters; no request needs more.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// `accept` fails when descriptors run out; they come back as connections end.
const PAUSE_AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);

impl Server {
    pub(super) fn new(sandbox: Sandbox, listener: TcpListener) -> Self {
        Self { sandbox, listener }
    }

    /// Answers until `stop`; then every connection is dropped, whatever it was doing.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Error> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => sound(ended)?,
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(converse(self.sandbox.clone(), stream));
                    }
                    Err(error) => {
                        tracing::warn!(?error, "the sandbox could not accept a connection");
                        tokio::time::sleep(PAUSE_AFTER_FAILED_ACCEPT).await;
                    }
                },
            }
        }
        connections.shutdown().await;
        Ok(())
    }
}

fn sound(ended: Result<(), JoinError>) -> Result<(), Error> {
    match ended {
        Err(error) if error.is_panic() => Err(Error::Panicked(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One connection, as many requests as the client sends on it.
async fn converse(sandbox: Sandbox, stream: TcpStream) {
    let line = Arc::new(Line::default());
    let wire = TokioIo::new(Wire::new(stream, Arc::clone(&line)));
    let service = service_fn(|request| answer(&sandbox, &line, request));
    // It ends with an error when the client leaves, and whenever a fault breaks it: both are daily bread here.
    if let Err(error) = hyper::server::conn::http1::Builder::new().serve_connection(wire, service).await {
        tracing::trace!(?error, "a connection of the sandbox ended");
    }
}

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the double hangs up")]
struct HangUp;

async fn answer(
    sandbox: &Sandbox,
    line: &Arc<Line>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, HangUp> {
    let Some(call) = read_call(sandbox, request).await else { return Err(HangUp) };
    let reply = sandbox.handle(&call);
    let delay = sandbox.shared.latency.saturating_add(reply.delay);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match reply.delivery {
        Delivery::Silence(End::Eof) => Err(HangUp),
        Delivery::Silence(End::Reset) => {
            line.reset_when_closed();
            Err(HangUp)
        }
        // hyper drops this when the client leaves.
        Delivery::Silence(End::Hang) => std::future::pending().await,
        Delivery::Whole | Delivery::Broken { .. } | Delivery::Chunked { .. } | Delivery::Drip(_) => {
            Ok(response(reply, line))
        }
    }
}

/// The request, whole; nothing if it broke on the way or is too large.
async fn read_call(sandbox: &Sandbox, request: Request<Incoming>) -> Option<Call> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_REQUEST_BYTES).collect().await.ok()?.to_bytes();
    let query = parts.uri.query().unwrap_or_default();
    let base = match text(&parts.headers, header::HOST) {
        Some(host) => format!("http://{host}"),
        None => sandbox.base_url(),
    };
    Some(Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        base,
        authorization: text(&parts.headers, header::AUTHORIZATION),
        range: text(&parts.headers, header::RANGE),
        if_range: text(&parts.headers, header::IF_RANGE),
        body,
    })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn response(reply: Reply, line: &Arc<Line>) -> Response<AnswerBody> {
    let length = match reply.delivery {
        Delivery::Broken { announced, .. } => Some(announced),
        Delivery::Chunked { .. } => None,
        Delivery::Whole | Delivery::Drip(_) | Delivery::Silence(_) => Some(reply.payload.len()),
    };
    let mut response = Response::new(AnswerBody::new(reply.payload, reply.delivery, Arc::clone(line)));
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or_default();
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(name, value);
        }
    }
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}
