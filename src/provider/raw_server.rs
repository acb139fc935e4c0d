//! A server that says exactly the bytes it is told, for tests: what no HTTP library would send must be met too.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What one request is answered with.
pub struct Reply {
    bytes: Vec<u8>,
    end: End,
}

/// What happens to the connection then.
#[derive(Clone, Copy)]
pub enum End {
    /// It stays open for the next request.
    Keep,
    /// It ends in order.
    Close,
    /// It is reset.
    Reset,
    /// It stays open and silent.
    Hang,
}

impl Reply {
    /// These bytes, then `end`.
    pub fn raw(bytes: impl Into<Vec<u8>>, end: End) -> Self {
        Self { bytes: bytes.into(), end }
    }

    /// A whole answer with its length, on a connection that stays open.
    pub fn http(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(
            format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}"),
            End::Keep,
        )
    }
}

/// The running server. It stops when dropped.
pub struct RawServer {
    /// Its address, as `127.0.0.1:port`.
    pub address: String,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

impl RawServer {
    /// Answers the first request with the first reply, and so on; hangs up when there is none left.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<Vec<_>>().into_iter()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let mut running = JoinSet::new();
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        running.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (replies, log) = (Arc::clone(&replies), Arc::clone(&log));
                served.spawn(async move {
                    let next = || replies.lock().unwrap().next();
                    serve(stream, next, &log).await;
                });
            }
        });
        Self { address, seen, connections, _running: running }
    }

    /// `http://127.0.0.1:port` and `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests that came, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The connections that came.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, mut next: impl FnMut() -> Option<Reply>, log: &Mutex<Vec<String>>) {
    while let Some(request) = read_request(&mut stream).await {
        log.lock().unwrap().push(request);
        let Some(reply) = next() else { return };
        if stream.write_all(&reply.bytes).await.is_err() {
            return;
        }
        match reply.end {
            End::Keep => {}
            End::Close => return,
            End::Reset => return stream.set_zero_linger().unwrap(),
            End::Hang => std::future::pending().await,
        }
    }
}

/// One request, or `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
