//! What can go wrong with the database, by what the caller can do about it.

use crate::domain::{
    job::JobId,
    key::JobKey,
    state::{Illegal, Label, TaskId},
};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The job changed since it was read: look again.
    #[error("job {job} has changed meanwhile")]
    Stale {
        /// The job.
        job: JobId,
    },
    /// No such job.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// No such attempt.
    #[error("job {job} has no attempt {attempt} that can be settled so")]
    NoSuchAttempt {
        /// The job.
        job: JobId,
        /// The number.
        attempt: u32,
    },
    /// The state does not allow it.
    #[error("job {job}: {why}")]
    Illegal {
        /// The job.
        job: JobId,
        /// Which state, which event.
        why: Illegal,
    },
    /// A job that was to be queued again, while a newer one has its key.
    #[error("job {job} can't be queued again: job {holder} has the same key ({key}); cancel that one first")]
    KeyTaken {
        /// The job.
        job: JobId,
        /// The key.
        key: JobKey,
        /// Who has it.
        holder: JobId,
    },
    /// A task that a person wants to adopt belongs to another job.
    #[error("task {task} already belongs to job {owner}")]
    TaskTaken {
        /// The task.
        task: TaskId,
        /// Whose it is.
        owner: JobId,
    },
    /// Together the new jobs cost more than the caller allowed.
    #[error("these jobs cost {estimate} credits together, max_credits allows {allowed}")]
    TooExpensive {
        /// What they cost.
        estimate: crate::domain::Credits,
        /// What was allowed.
        allowed: crate::domain::Credits,
    },
    /// A command that does not fit the job's state.
    #[error("job {job} is {state}: {why}")]
    NotNow {
        /// The job.
        job: JobId,
        /// Its state.
        state: Label,
        /// What to do instead.
        why: &'static str,
    },
    /// The disk, or a quota, is full.
    #[error("the database can't be written: the disk is full")]
    Full(#[source] sqlx::Error),
    /// Another process kept the database locked for longer than the busy timeout.
    #[error("the database stayed locked by another process")]
    Busy(#[source] sqlx::Error),
    /// Reading or writing failed; what was being committed is unknown.
    #[error("the database failed: {0}")]
    Failed(#[source] sqlx::Error),
    /// The commit of a group failed; nothing of it may be taken for granted.
    #[error("the commit failed: {0}")]
    Commit(String, CommitFault),
    /// A row that does not parse: damaged, or written by something else.
    #[error("the database holds something klingd can't read: {0}")]
    Corrupt(String),
    /// Jobs that wait in a file to be queued can't be read back.
    #[error("what was to be queued can't be read back: {0}")]
    Spool(#[source] std::io::Error),
    /// A copy of the database can't be made.
    #[error(transparent)]
    Copy(#[from] crate::disk::DiskError),
    /// The writer has ended; the process is stopping.
    #[error("klingd is stopping, nothing more is written")]
    Closed,
    /// Something about the database as a whole.
    #[error(transparent)]
    Open(#[from] super::open::OpenError),
}

/// Why a group's commit failed, by what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// The disk is full: release the reserve and try once more.
    Full,
    /// Anything else.
    Other,
}

impl StoreError {
    /// Whether room on the disk would help.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Full(_) | StoreError::Commit(_, CommitFault::Full))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match primary_code(&error) {
            // SQLITE_FULL and SQLITE_BUSY (https://sqlite.org/rescode.html).
            Some(13) => StoreError::Full(error),
            Some(5) => StoreError::Busy(error),
            _ => StoreError::Failed(error),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        StoreError::Corrupt(error.to_string())
    }
}

/// SQLite's primary result code: the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|c| c & 0xff)
}

/// Whether the trouble may pass by itself: SQLITE_BUSY, SQLITE_IOERR and SQLITE_FULL speak of the moment, not of the
/// database.
pub(super) fn passes(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(5 | 10 | 13))
}

/// SQLITE_CANTOPEN: the database or a file beside it, for any reason.
pub(super) fn cant_open(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(14)
}

/// Whether the file is no whole database: SQLITE_CORRUPT and SQLITE_NOTADB.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(11 | 26))
}

pub(super) fn commit_fault(error: &sqlx::Error) -> CommitFault {
    if primary_code(error) == Some(13) { CommitFault::Full } else { CommitFault::Other }
}
