//! The latch: what keeps a submit that is about to leave from leaving into a quiet that another one was just asked for.
//!
//! The gate's row is the truth, but between reading a 429 and committing it there are intents that were admitted before:
//! the latch closes the moment the answer's head is read (its body may take as long as a submit may), and is looked at when
//! the connection stands and nothing is left but to write the request. What it stops certainly never left. A person's lift
//! reaches it by the row: while the row still asks for quiet nobody claims past the latch, so a job that was claimed after
//! everything here was committed was let go by a row without a quiet, and the latch opens. A row whose quiet a clock has
//! jumped over opens nothing.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// Shared by all submits of a process.
#[derive(Debug, Default)]
pub struct Latch(Mutex<Quiet>);

#[derive(Debug, Default)]
struct Quiet {
    /// By the monotonic clock: a jump of the wall clock opens nothing.
    until: Option<Instant>,
    /// Answers that were read, or are, and are not in the gate's row yet.
    uncommitted: u32,
    committed: Knowledge,
}

/// How many answers the gate's row knew when a claim began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Knowledge(u64);

impl Latch {
    /// What a claim that begins now knows.
    pub fn knowledge(&self) -> Knowledge {
        self.quiet().committed
    }

    /// The head of an answer came, or nothing will. Counted once for each submit, whatever it says, so that the count can't
    /// depend on how two places read it.
    pub(super) fn answered(&self) {
        let mut quiet = self.quiet();
        quiet.uncommitted = quiet.uncommitted.saturating_add(1);
    }

    /// The provider asked for quiet.
    pub fn close(&self, wait: Duration) {
        let mut quiet = self.quiet();
        // A wait beyond the clock's range is for the hold that comes with it.
        let until = Instant::now().checked_add(wait);
        quiet.until = quiet.until.max(until);
    }

    /// The row knows of one answer more.
    pub fn committed(&self) {
        let mut quiet = self.quiet();
        quiet.uncommitted = quiet.uncommitted.saturating_sub(1);
        quiet.committed.0 += 1;
    }

    /// A job is about to be sent whose claim knew so much: if that was everything, the row has opened again.
    pub fn admitted(&self, knew: Knowledge) {
        let mut quiet = self.quiet();
        if quiet.uncommitted == 0 && knew >= quiet.committed {
            quiet.until = None;
        }
    }

    /// Whether nothing may leave.
    pub fn holds(&self) -> bool {
        self.holds_for().is_some()
    }

    /// For how long nothing may leave, if nothing may.
    pub fn holds_for(&self) -> Option<Duration> {
        let left = self.quiet().until?.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero())
    }

    fn quiet(&self) -> MutexGuard<'_, Quiet> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request did not leave.
#[derive(Debug, thiserror::Error)]
#[error("held back before it was sent: another request was told to wait")]
pub(super) struct HeldBack;

impl HeldBack {
    /// Whether this is the reason somewhere in a chain of causes.
    pub(super) fn caused(error: &(dyn Error + 'static)) -> bool {
        std::iter::successors(Some(error), |&e| e.source()).any(|e| e.is::<HeldBack>())
    }
}

/// Looks at the latch once a connection stands.
#[derive(Clone)]
pub(super) struct LatchLayer(pub Arc<Latch>);

impl<S> Layer<S> for LatchLayer {
    type Service = Latched<S>;
    fn layer(&self, connector: S) -> Latched<S> {
        Latched { connector, latch: Arc::clone(&self.0) }
    }
}

/// A connector behind the latch.
#[derive(Clone)]
pub(super) struct Latched<S> {
    connector: S,
    latch: Arc<Latch>,
}

impl<S, R> Service<R> for Latched<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let connecting = self.connector.call(to);
        let latch = Arc::clone(&self.latch);
        Box::pin(async move {
            let connection = connecting.await?;
            if latch.holds() { Err(HeldBack.into()) } else { Ok(connection) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn it_holds_whoever_did_not_know_and_lets_go_whoever_did() {
        let latch = Latch::default();
        let before = latch.knowledge();
        latch.admitted(before);
        assert!(!latch.holds());
        latch.answered();
        latch.close(MINUTE);
        latch.admitted(before);
        assert!(latch.holds(), "read, not committed");
        latch.committed();
        latch.admitted(before);
        assert!(latch.holds(), "claimed before it was committed");
        latch.admitted(latch.knowledge());
        assert!(!latch.holds(), "claimed after: the row has opened again");
    }

    #[test]
    fn two_refusals_are_both_awaited() {
        let latch = Latch::default();
        latch.answered();
        latch.close(MINUTE);
        latch.answered();
        latch.close(Duration::ZERO);
        latch.committed();
        latch.admitted(latch.knowledge());
        assert!(latch.holds(), "the other is not committed");
        latch.committed();
        latch.admitted(latch.knowledge());
        assert!(!latch.holds());
    }

    #[test]
    fn no_wait_is_too_long() {
        let latch = Latch::default();
        latch.close(Duration::MAX);
        latch.close(MINUTE);
        assert!(latch.holds());
    }
}
