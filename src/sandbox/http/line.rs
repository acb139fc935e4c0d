//! The socket under hyper, and the two things that hyper cannot say to it: end with an RST, and tell when all that was
//! written has left.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What the answering side tells the socket. One task drives both, so the order of its steps is all that matters.
#[derive(Debug, Default)]
pub(super) struct Line {
    reset: AtomicBool,
    flush_asked: AtomicBool,
    flushed: AtomicBool,
}

impl Line {
    /// The connection will end with an RST in place of an orderly close.
    pub fn reset_when_closed(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Ready once every byte that was written before the first call is in the kernel's hands.
    pub fn poll_flushed(&self) -> Poll<()> {
        if self.flushed.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        self.flush_asked.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}

/// A TCP stream that obeys a [`Line`].
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Wire {
    pub fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        // Answers are small and awaited: nothing gains from waiting for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::trace!(?error, "TCP_NODELAY was refused");
        }
        Self { stream, line }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.reset.load(Ordering::Relaxed)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::warn!(?error, "the sandbox could not reset a connection, it closes it");
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes the socket only when its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.line.flush_asked.load(Ordering::Relaxed) && !self.line.flushed.swap(true, Ordering::Relaxed) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
