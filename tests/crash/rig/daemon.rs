//! The real binary as a child process: started, signalled, read and reaped without a thread and without a race.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::within;

/// A running daemon. It is killed when a failing test drops it.
pub struct Daemon {
    child: Child,
    /// Grows with its stderr, and is closed by its end: the daemon alone writes there.
    log: watch::Receiver<String>,
}

/// How it ended, and everything it said.
#[derive(Debug)]
pub struct End {
    pub status: ExitStatus,
    pub log: String,
}

impl Daemon {
    /// Starts a prepared command and reads its stderr as it comes.
    pub fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the daemon's binary starts");
        let stderr = child.stderr.take().unwrap();
        let stderr = pipe::Receiver::from_owned_fd(OwnedFd::from(stderr)).unwrap();
        let (said, log) = watch::channel(String::new());
        #[expect(clippy::disallowed_methods, reason = "no daemon here that could spawn it")]
        tokio::spawn(listen(stderr, said));
        Self { child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. Nobody has reaped it yet, so its number is still its own.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Everything it has said so far.
    pub fn said(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until it has said these words.
    pub async fn says(&mut self, words: &str) {
        let heard =
            within(|| format!("the daemon says {words:?}"), self.log.wait_for(|log| log.contains(words)))
                .await
                .is_ok();
        assert!(heard, "the daemon ended without saying {words:?}; it said:\n{}", self.said());
    }

    /// Waits for its end. Cancel safe.
    pub async fn gone(&mut self) {
        while self.log.changed().await.is_ok() {}
    }

    /// Its end.
    pub async fn end(mut self) -> End {
        let log = self.log.clone();
        let what = || format!("the daemon ends; it said:\n{}", log.borrow().as_str());
        within(what, self.gone()).await;
        let log = self.log.borrow().clone();
        End { status: self.child.wait().unwrap(), log }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Neither does anything to a child that was reaped already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl End {
    /// It was killed by SIGKILL: nothing it could have tidied up was tidied up.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// Asserts how it exited.
    #[track_caller]
    pub fn exited(&self, code: i32) {
        assert_eq!(self.status.code(), Some(code), "{}; it said:\n{}", self.status, self.log);
    }
}

async fn listen(mut stderr: pipe::Receiver, said: watch::Sender<String>) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        let text = String::from_utf8_lossy(&chunk[..count]).into_owned();
        said.send_modify(|log| log.push_str(&text));
    }
}
