//! Questions to a filesystem that may never answer: a share whose server is gone keeps whoever asks until it is back.
//! One question at a time, so that it keeps one thread; who asks meanwhile hears that it does not answer.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{sync::Mutex, task, time};

use crate::disk::DiskError;

/// More than a slow moment of a file server; the few questions of one look together are less than what the watchdog takes
/// for a lane that hangs (half of the unit's `WatchdogSec`, a minute).
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Asks, one question after the other.
pub(super) struct Ask {
    turn: Arc<Mutex<()>>,
    within: Duration,
}

impl Default for Ask {
    fn default() -> Self {
        Self { turn: Arc::default(), within: ANSWERED_WITHIN }
    }
}

impl Ask {
    /// What `question` finds out about `path`.
    pub async fn ask<T: Send + 'static>(
        &self,
        path: &Path,
        question: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let answer = async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let asked = task::spawn_blocking(move || {
                let _turn = turn;
                question()
            });
            asked.await.unwrap_or_else(|panic| Err(DiskError::interrupted(panic)))
        };
        time::timeout(self.within, answer).await.unwrap_or_else(|_| Err(DiskError::silent(path)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_keeps_one_thread_and_nobody_waiting() {
        let ask = Ask { within: Duration::from_millis(50), ..Ask::default() };
        let share = Path::new("/share");
        let (server_is_back, gone) = mpsc::channel::<()>();
        let hangs = move || {
            gone.recv().ok();
            Ok(())
        };
        let silent = ask.ask(share, hangs).await.unwrap_err().to_string();
        assert!(silent.contains("/share") && silent.contains("does not answer"), "{silent}");
        ask.ask(share, || Ok(())).await.expect_err("asked beside the first one");
        drop(server_is_back);
        while ask.ask(share, || Ok(())).await.is_err() {}
    }
}
