//! Named points at which a test kills the process or makes an effect fail. They exist in debug builds only: in a
//! release build [`reach`] is nothing at all.
//!
//! `KILL_KLINGD_AT=submit.answered` kills (SIGKILL) when the point is first reached; `submit.answered:3` the third
//! time; `submit.commit=full` makes the effect behind the point fail as on a full disk; `submit.before_intent=hang` never
//! returns, as a call into a dead disk. A comma arms several points:
//! `submit.commit=full,submit.spooled` is the only way to the second one.

/// A point on the way of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its name")]
pub enum Point {
    SubmitBeforeIntent,
    SubmitIntent,
    SubmitAnswered,
    SubmitCommit,
    SubmitSpooled,
    SubmitCommitted,
    PollAnswered,
    PollCommitted,
    DownloadCreated,
    DownloadProgress,
    DownloadFinished,
    DownloadVerified,
    DownloadStaged,
    DownloadPublished,
    DownloadSidecar,
    DownloadCommitted,
    RecoverReplayed,
    RecoverOrphaned,
    InboxClaimed,
    InboxCommit,
    InboxRecorded,
    InboxCopied,
    InboxMoved,
    InboxPlaced,
    InboxTold,
}

impl Point {
    /// All points, in the order of a job's life.
    pub const ALL: [Point; 18] = [
        Point::SubmitBeforeIntent,
        Point::SubmitIntent,
        Point::SubmitAnswered,
        Point::SubmitCommit,
        Point::SubmitSpooled,
        Point::SubmitCommitted,
        Point::PollAnswered,
        Point::PollCommitted,
        Point::DownloadCreated,
        Point::DownloadProgress,
        Point::DownloadFinished,
        Point::DownloadVerified,
        Point::DownloadStaged,
        Point::DownloadPublished,
        Point::DownloadSidecar,
        Point::DownloadCommitted,
        Point::RecoverReplayed,
        Point::RecoverOrphaned,
    ];

    /// All points on the way of a file through the inbox, in its order.
    pub const INBOX: [Point; 7] = [
        Point::InboxClaimed,
        Point::InboxCommit,
        Point::InboxRecorded,
        Point::InboxCopied,
        Point::InboxMoved,
        Point::InboxPlaced,
        Point::InboxTold,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Point::SubmitBeforeIntent => "submit.before_intent",
            Point::SubmitIntent => "submit.intent",
            Point::SubmitAnswered => "submit.answered",
            Point::SubmitCommit => "submit.commit",
            Point::SubmitSpooled => "submit.spooled",
            Point::SubmitCommitted => "submit.committed",
            Point::PollAnswered => "poll.answered",
            Point::PollCommitted => "poll.committed",
            Point::DownloadCreated => "download.created",
            Point::DownloadProgress => "download.progress",
            Point::DownloadFinished => "download.finished",
            Point::DownloadVerified => "download.verified",
            Point::DownloadStaged => "download.staged",
            Point::DownloadPublished => "download.published",
            Point::DownloadSidecar => "download.sidecar",
            Point::DownloadCommitted => "download.committed",
            Point::RecoverReplayed => "recover.replayed",
            Point::RecoverOrphaned => "recover.orphaned",
            Point::InboxClaimed => "inbox.claimed",
            Point::InboxCommit => "inbox.commit",
            Point::InboxRecorded => "inbox.recorded",
            Point::InboxCopied => "inbox.copied",
            Point::InboxMoved => "inbox.moved",
            Point::InboxPlaced => "inbox.placed",
            Point::InboxTold => "inbox.told",
        }
    }
}

/// The environment variable that arms a point. It does not begin with `KLINGD_`: it is no configuration.
pub const VARIABLE: &str = "KILL_KLINGD_AT";

/// Passes a point: nothing happens, unless a test armed it. `true` asks the caller to fail as on a full disk.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: Point) -> bool {
    false
}

/// Passes a point: nothing happens, unless a test armed it. `true` asks the caller to fail as on a full disk.
#[cfg(debug_assertions)]
pub fn reach(point: Point) -> bool {
    armed::reach(point)
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };

    struct Armed {
        name: String,
        what: What,
        left: AtomicU32,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum What {
        Kill,
        Fail,
        Hang,
    }

    static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

    pub(super) fn reach(point: super::Point) -> bool {
        let Some(armed) = ARMED.get_or_init(read).iter().find(|a| a.name == point.name()) else {
            return false;
        };
        if armed.what == What::Fail {
            return true;
        }
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            if armed.what == What::Kill {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
            }
            // A signal is on its way; nothing may happen after the point.
            loop {
                std::thread::park();
            }
        }
        false
    }

    #[expect(clippy::disallowed_methods, reason = "a test's switch is no configuration")]
    fn read() -> Vec<Armed> {
        std::env::var(super::VARIABLE).map(|text| text.split(',').map(arm).collect()).unwrap_or_default()
    }

    fn arm(text: &str) -> Armed {
        let (name, what) = match text.split_once('=') {
            Some((name, "full")) => (name, What::Fail),
            Some((name, "hang")) => (name, What::Hang),
            Some(_) | None => (text, What::Kill),
        };
        let (name, nth) = name.split_once(':').unwrap_or((name, "1"));
        Armed { name: name.to_owned(), what, left: AtomicU32::new(nth.parse().unwrap_or(1)) }
    }
}
