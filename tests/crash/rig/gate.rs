//! A gate between the daemon and the provider's double: the double answers at once, and the daemon gets the answers to
//! its POSTs when the test says so. "While the request is on the wire" is then a place in the test and not a time.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use klingd::sandbox::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The handle. Dropping it leaves the gate as it is.
pub struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Gate {
    /// A closed gate before `sandbox`.
    pub async fn before(sandbox: &Sandbox) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, opened) = watch::channel(false);
        let sandbox: SocketAddr = sandbox.base_url().strip_prefix("http://").unwrap().parse().unwrap();
        #[expect(clippy::disallowed_methods, reason = "no daemon here that could spawn it")]
        tokio::spawn(admit(listener, sandbox, opened));
        Self { address, open }
    }

    /// What the daemon takes for the provider's base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets the answers through, those that wait and those to come.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn admit(listener: TcpListener, sandbox: SocketAddr, open: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        let open = open.clone();
        #[expect(clippy::disallowed_methods, reason = "no daemon here that could spawn it")]
        tokio::spawn(async move {
            // A connection that breaks, breaks for both sides.
            carry(client, sandbox, open).await.ok();
        });
    }
}

async fn carry(mut client: TcpStream, sandbox: SocketAddr, open: watch::Receiver<bool>) -> io::Result<()> {
    let mut server = TcpStream::connect(sandbox).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let paid = AtomicBool::new(false);
    tokio::select! {
        ended = forth(from_client, to_server, &paid) => ended,
        ended = back(from_server, to_client, &paid, open) => ended,
    }
}

async fn forth(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, paid: &AtomicBool) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        if chunk.starts_with(b"POST ") {
            paid.store(true, Ordering::SeqCst);
        }
        to.write_all(&chunk[..count]).await?;
    }
}

async fn back(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    paid: &AtomicBool,
    mut open: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        // The double has decided and charged; whether the daemon ever hears of it is the test's choice.
        if paid.load(Ordering::SeqCst) && open.wait_for(|open| *open).await.is_err() {
            return Ok(());
        }
        to.write_all(&chunk[..count]).await?;
    }
}
