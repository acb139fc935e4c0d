//! `metrics.listen`: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever looks after the machine. It reads and
//! changes nothing, and nothing waits for it: connections are few and short, and the database is asked once a second at
//! most. No id, name, prompt or URL is on any page.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Result, anyhow};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{error, info, warn};

use super::{
    health::{self, Phase, Wrong},
    lanes::{Ground, Live},
};
use crate::vitals;

/// Connections at once: a Prometheus or two, and somebody who looks.
const MAX_CONNECTIONS: usize = 16;
/// A scrape takes milliseconds; Prometheus itself waits ten seconds.
const LONGEST_CONNECTION: Duration = Duration::from_secs(10);
/// Whoever connects asks at once.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// `accept` fails when descriptors run out; they come back as connections end.
const PAUSE_AFTER_FAILED_ACCEPT: Duration = Duration::from_secs(1);
/// A page is as old as this at most; whoever asks more often gets the same one again.
const FRESH: Duration = Duration::from_secs(1);
/// What the page of the metrics is (OpenMetrics 1.0).
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages are made of.
pub(super) struct Desk {
    pub ground: Ground,
    pub live: watch::Receiver<Arc<Live>>,
    pub phase: watch::Receiver<Phase>,
    metrics: Mutex<Option<(Instant, String)>>,
}

impl Desk {
    pub fn new(ground: Ground, live: watch::Receiver<Arc<Live>>, phase: watch::Receiver<Phase>) -> Self {
        Self { ground, live, phase, metrics: Mutex::default() }
    }
}

/// Listens, if it can: klingd works without anybody who looks.
pub(super) async fn listen(address: SocketAddr) -> Option<TcpListener> {
    match TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok((address, listener)) => {
            info!("metrics and health are served at http://{address}/metrics, /livez and /readyz");
            Some(listener)
        }
        Err(error) => {
            error!("metrics.listen: {address} can't be listened at ({error}); klingd works without it");
            None
        }
    }
}

/// Answers until `over`.
pub(super) async fn serve(listener: TcpListener, desk: Desk, over: CancellationToken) -> Result<()> {
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Arc::new(desk));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = over.cancelled() => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, pages.clone()));
                }
                Err(error) => {
                    warn!("the metrics' socket could not accept a connection: {error}");
                    tokio::time::sleep(PAUSE_AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    }
}

/// One connection, one request. How it ends is the caller's business alone.
async fn converse(stream: TcpStream, pages: Router) {
    let service = service_fn(|request| pages.clone().call(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_SILENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    timeout(LONGEST_CONNECTION, connection).await.map(drop).unwrap_or_default();
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Response {
    match desk.metrics().await {
        Ok(page) => ([(CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
    }
}

async fn livez(State(desk): State<Arc<Desk>>) -> Response {
    let vitals = desk.ground.store.vitals();
    answer(&health::lives(&vitals.signs(), vitals.now()))
}

async fn readyz(State(desk): State<Arc<Desk>>) -> Response {
    let Ground { store, clock, .. } = &desk.ground;
    let phase = *desk.phase.borrow();
    let vitals = store.vitals();
    match store.holds().await {
        Ok(holds) => answer(&health::is_ready(phase, &vitals.signs(), vitals.now(), &holds, clock.now())),
        Err(error) => answer(&vec![format!("the database can't be read: {error}")]),
    }
}

fn answer(wrong: &Wrong) -> Response {
    match wrong.is_empty() {
        true => "ok\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, wrong.join("\n") + "\n").into_response(),
    }
}

impl Desk {
    async fn metrics(&self) -> Result<String> {
        // Whoever asks meanwhile waits for the same page.
        let mut last = self.metrics.lock().await;
        if let Some((made, page)) = &*last
            && made.elapsed() < FRESH
        {
            return Ok(page.clone());
        }
        let Ground { store, clock, .. } = &self.ground;
        let (now, budget) = (clock.now(), self.live.borrow().submit.policy.budget);
        let census = store.census(&budget, now, clock.day_start(now)).await?;
        let page =
            vitals::page(store.vitals(), &census).map_err(|e| anyhow!("the page can't be written: {e}"))?;
        *last = Some((Instant::now(), page.clone()));
        Ok(page)
    }
}
