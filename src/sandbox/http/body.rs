//! The body of an answer, produced a piece at a time and ended as the model decided.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::line::Line;
use crate::sandbox::model::{Delivery, End, Payload};

/// A body on its way.
pub(super) struct AnswerBody {
    payload: Payload,
    /// What is still to be sent.
    rest: Range<u64>,
    /// Whether the length is announced and kept.
    exact: bool,
    end: Option<End>,
    pause: Option<Pause>,
    line: Arc<Line>,
}

/// A wait between pieces.
struct Pause {
    length: Duration,
    sleep: Pin<Box<Sleep>>,
}

/// The pieces of a dripping body.
const DRIP_BYTES: u64 = 1024;

/// The body is broken off here.
#[derive(Debug, thiserror::Error)]
#[error("the double breaks this answer off")]
pub(super) struct BrokenOff;

impl AnswerBody {
    pub fn new(payload: Payload, delivery: Delivery, line: Arc<Line>) -> Self {
        let length = payload.len();
        let (sent, exact, end, pause) = match delivery {
            Delivery::Whole => (length, true, None, None),
            Delivery::Drip(pause) => (length, true, None, Some(pause)),
            Delivery::Chunked { sent } => (sent.min(length), false, None, None),
            Delivery::Broken { sent, end, .. } => (sent.min(length), false, Some(end), None),
            Delivery::Silence(end) => (0, false, Some(end), None),
        };
        let pause = pause.map(|length| Pause { length, sleep: Box::pin(tokio::time::sleep(length)) });
        Self { payload, rest: 0..sent, exact, end, pause, line }
    }

    fn next_piece(&mut self) -> Bytes {
        let mut wanted = self.rest.clone();
        if self.pause.is_some() {
            wanted.end = wanted.end.min(wanted.start + DRIP_BYTES);
        }
        let piece = self.payload.chunk(wanted);
        self.rest.start += piece.len() as u64;
        piece
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if !self.rest.is_empty() {
            if let Some(pause) = &mut self.pause {
                ready!(pause.sleep.as_mut().poll(cx));
                *pause = Pause { length: pause.length, sleep: Box::pin(tokio::time::sleep(pause.length)) };
            }
            return Poll::Ready(Some(Ok(Frame::data(self.next_piece()))));
        }
        let Some(end) = self.end else { return Poll::Ready(None) };
        // The client is to see every byte up to the break: hyper drops what it still holds when a body fails.
        ready!(self.line.poll_flushed());
        match end {
            End::Hang => Poll::Pending,
            End::Eof => Poll::Ready(Some(Err(BrokenOff))),
            End::Reset => {
                self.line.reset_when_closed();
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.exact { SizeHint::with_exact(self.rest.end - self.rest.start) } else { SizeHint::default() }
    }
}
