//! Exit codes (a contract: scripts depend on them) and the one place that maps errors to them.

use std::process::ExitCode;

use super::{Global, aim::Aim};
use crate::{config::ConfigError, daemon::Failure, store::StoreError};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2: wrong use, or a confirmation is needed.
    Usage,
    /// 3: a job file or the configuration is invalid; nothing was queued.
    Invalid,
    /// 4: a job that was waited for failed or was cancelled.
    JobFailed,
    /// 5: time ran out.
    TimedOut,
    /// 7
    NoSuchJob,
    /// 8: refused by a budget or `--max-credits`.
    Budget,
    /// 10: a job that was waited for needs a person.
    NeedsPerson,
    /// 78: `run` can't work, and a restart would not help (EX_CONFIG of sysexits.h).
    Config,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Invalid => 3,
            Exit::JobFailed => 4,
            Exit::TimedOut => 5,
            Exit::NoSuchJob => 7,
            Exit::Budget => 8,
            Exit::NeedsPerson => 10,
            Exit::Config => 78,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error with the exit code that it stands for, where its type does not say so.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The code.
    pub exit: Exit,
    /// The sentence.
    pub message: String,
}

impl Refusal {
    /// Wrong use, or a confirmation is needed.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Usage, message: message.into() }.into()
    }

    /// Refused by a budget.
    pub fn budget(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Budget, message: message.into() }.into()
    }
}

/// Says an error on stderr and gives its exit code.
#[expect(clippy::print_stderr, reason = "errors of commands are said here and nowhere else")]
pub fn report(error: &anyhow::Error, global: &Global) -> Exit {
    eprintln!("klingd: {}", Aim::of(global).at(&sentence(error)));
    exit_of(error)
}

/// The error and its causes. Many of ours end with their cause's words already: those are not said twice.
pub(super) fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.contains(&cause) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&cause);
    }
    said
}

fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return refusal.exit;
        }
        if cause.downcast_ref::<ConfigError>().is_some() {
            return Exit::Invalid;
        }
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return match failure {
                Failure::Refused(_) => Exit::Config,
                Failure::Broke(_) => Exit::Failed,
            };
        }
        if let Some(store) = cause.downcast_ref::<StoreError>() {
            return match store {
                StoreError::NoSuchJob(_) => Exit::NoSuchJob,
                StoreError::TooExpensive { .. } => Exit::Budget,
                StoreError::NotNow { .. }
                | StoreError::Illegal { .. }
                | StoreError::TaskTaken { .. }
                | StoreError::KeyTaken { .. } => Exit::Usage,
                _ => Exit::Failed,
            };
        }
    }
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let denied = || anyhow::anyhow!("permission denied");
        assert_eq!(sentence(&denied().context("no file")), "no file: permission denied");
        let whole = denied().context("no file: permission denied; ask the owner");
        assert_eq!(sentence(&whole), "no file: permission denied; ask the owner");
    }
}
