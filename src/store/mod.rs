//! The database: the only place with sqlx and SQL. Signatures speak in domain types only.
//!
//! | file | the durable operation |
//! |---|---|
//! | [`open`] | open, pragmas, version checks, migrations, the stamp of the world |
//! | [`copy`] | copies: a backup, and what is kept before a migration |
//! | [`origin`] | whether this database is a copy; where its data directory was |
//! | [`inspect`] | a look at a database that changes nothing |
//! | [`prune`] | old jobs that carry no open money are forgotten |
//! | [`writer`] | one writer that commits many waiting operations in one transaction |
//! | [`step`] | the one write path: an event moves a job, with its history row; `batch` takes it to SQLite in one piece |
//! | [`enqueue`] | new jobs, not twice by accident; [`packed`] is how they wait for it |
//! | `keys` | who holds a key, and who gets it back |
//! | [`inbox`] | files of the watched folder, with their jobs |
//! | [`submit`] | intents through the gate, and the outcomes of attempts |
//! | [`ledger`] | what each attempt costs or may cost: the only money |
//! | [`budget`] | the caps, and what counts against them |
//! | [`stopped`] | how many jobs each cap stops |
//! | [`poll`] | due status calls and what they showed |
//! | [`download`] | due downloads, their progress, their end |
//! | [`person`] | what commands do: cancel, edit, retry, resolve |
//! | [`recover`] | what a start finds on the wire |
//! | [`control`] | holds, the gate's memory |
//! | [`hook`] | calls of hooks, and whether they were heard |
//! | [`errand`] | status calls that a command asks the daemon for |
//! | [`idle`] | whether anything can still move by itself |
//! | [`pulse`] | the queue at a glance, at any length |
//! | [`census`] | what the metrics show, at any length |
//! | [`render_times`] | how long renders took |
//! | [`view`] | reads: jobs, history, attempts, sums |
//! | [`doorbell`] | wakes the daemon after another process's commit |
//!
//! It must not decide: every choice is a function of `domain`.

mod batch;
pub mod budget;
pub mod census;
pub mod control;
pub mod copy;
pub mod doorbell;
pub mod download;
pub mod enqueue;
pub mod errand;
mod error;
pub mod hook;
pub mod idle;
pub mod inbox;
pub mod inspect;
mod keys;
pub mod ledger;
pub mod looks;
mod meta;
pub mod open;
pub mod origin;
pub mod packed;
pub mod person;
pub mod poll;
pub mod prune;
pub mod pulse;
pub mod recover;
pub mod render_times;
mod row;
pub mod step;
pub mod stopped;
pub mod submit;
pub mod view;
pub mod writer;

use std::sync::Arc;

use sqlx::SqlitePool;
use tokio::sync::{Notify, watch};

pub use error::{CommitFault, StoreError};
pub use open::{Access, World};
pub use writer::Writer;

use crate::vitals::Vitals;

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A handle to the database: cheap to clone, used by every worker and command. Writes go through the one [`Writer`],
/// which somebody must run; when all handles are dropped, it ends.
#[derive(Clone)]
pub struct Store {
    inbox: writer::Inbox,
    readers: SqlitePool,
    bells: Arc<Bells>,
    vitals: Arc<Vitals>,
}

/// Wakes the lanes after a commit that concerns them. Each keeps one permit, so that a ring between a worker's look
/// and its wait is not lost.
#[derive(Debug, Default)]
pub struct Bells {
    /// Something may be submitted.
    pub submit: Notify,
    /// Something may be polled.
    pub poll: Notify,
    /// Something may be fetched.
    pub download: Notify,
    /// Somebody asks for a status call.
    pub errand: Notify,
    /// A hook is to be called.
    pub hook: Notify,
    /// Counts the commits, for bystanders (progress, `--until-idle`).
    pub commits: watch::Sender<u64>,
}

impl Bells {
    /// Wakes everybody: another process committed something.
    pub fn ring_all(&self) {
        for bell in [&self.submit, &self.poll, &self.download, &self.errand, &self.hook] {
            bell.notify_one();
        }
        self.committed();
    }

    fn committed(&self) {
        self.commits.send_modify(|n| *n = n.wrapping_add(1));
    }
}

impl Store {
    /// The bells of this process.
    pub fn bells(&self) -> &Arc<Bells> {
        &self.bells
    }

    /// The vital signs of this process: every part of it has a handle to the store.
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }
}

#[cfg(test)]
mod tests {
    /// SQLite looks at the value behind a bare `LIMIT ?` to plan by it, and so prepares such a statement anew at every
    /// call (`sqlite3ExprIsInteger`): for a claim or a look that took longer than the statement itself. A plus ends that.
    #[test]
    fn no_limit_makes_sqlite_prepare_a_statement_at_every_call() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
        let bare = concat!("LIMIT", " ?");
        let mut limits = 0;
        for file in std::fs::read_dir(here).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            limits += text.matches("LIMIT +?").count();
            let without_this = text.replace("bare `LIMIT ?`", "");
            assert!(!without_this.contains(bare), "{}: say LIMIT +?", path.display());
        }
        assert!(limits > 10, "the test reads the right files");
    }
}
