//! The one writer: it takes whatever operations wait and commits them together, so that full durability costs one
//! fsync a group and not one a job. Nobody is answered before the commit.
//!
//! A caller that goes away does not undo its operation: it runs in the writer's task, which nobody cancels.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::{
    Bells, Result, Store, StoreError,
    error::{CommitFault, commit_fault},
    open::{BUSY_TIMEOUT, connect},
};
use crate::{
    domain::state::{Label, Lane},
    vitals::{Part, Vitals},
};

/// Operations in one transaction: beyond this the last one waits longer than an fsync saves.
const GROUP: usize = 64;
/// Operations that may wait. Workers wait for their answers, so this is never reached in practice; it bounds memory.
const WAITING: usize = 1024;
/// The quiet after which a long write-ahead log is emptied: between two steps of a busy queue it would be in the way.
const IDLE: Duration = Duration::from_secs(1);
/// A log that is no burden to anybody: emptying it after each poll of a quiet night would only wear the disk.
const SHORT_LOG_BYTES: u64 = 1024 * 1024;

/// IMMEDIATE: a transaction that reads first and writes later would fail at once when another process wrote between.
const BEGIN: &str = "BEGIN IMMEDIATE";
const BEGIN_SEVERAL: &str = "BEGIN IMMEDIATE; SAVEPOINT operation";

/// Whom a group's commit concerns; rung after it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ring {
    submit: bool,
    poll: bool,
    download: bool,
    errand: bool,
    hook: bool,
    moved: [u32; Label::ALL.len()],
}

impl Ring {
    /// Wakes the worker of this lane.
    pub fn lane(&mut self, lane: Lane) {
        match lane {
            Lane::Submit => self.submit = true,
            Lane::Poll => self.poll = true,
            Lane::Download => self.download = true,
        }
    }

    /// A job came into this state.
    pub fn moved(&mut self, to: Label) {
        self.moved[to as usize] += 1;
    }

    /// Wakes the worker that runs errands.
    pub fn errand(&mut self) {
        self.errand = true;
    }

    /// Wakes the worker that calls hooks.
    pub fn hook(&mut self) {
        self.hook = true;
    }

    fn ring(self, bells: &Bells, vitals: &Vitals) {
        let all = [
            (self.submit, &bells.submit),
            (self.poll, &bells.poll),
            (self.download, &bells.download),
            (self.errand, &bells.errand),
            (self.hook, &bells.hook),
        ];
        all.into_iter().filter(|(concerned, _)| *concerned).for_each(|(_, bell)| bell.notify_one());
        for (label, times) in Label::ALL.into_iter().zip(self.moved).filter(|(_, times)| *times > 0) {
            vitals.meter.moved(label, times.into());
        }
        bells.committed();
    }
}

/// Answers the caller of one operation, once it is known whether its group was committed.
type Answer = Box<dyn FnOnce(std::result::Result<(), Refusal>) + Send>;

/// What waits for the writer: run in a transaction, or refused when there was none.
pub(super) trait Operation: Send {
    /// Runs it; `Err` undoes it alone.
    fn run<'c>(
        self: Box<Self>,
        connection: &'c mut SqliteConnection,
        ring: &'c mut Ring,
    ) -> BoxFuture<'c, std::result::Result<Answer, Answer>>;

    /// Says that it was not run.
    fn refuse(self: Box<Self>, refusal: Refusal);
}

/// An operation and whoever waits for its answer.
struct Waiting<T, F> {
    operation: F,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Operation for Waiting<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection, &'c mut Ring) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    fn run<'c>(
        self: Box<Self>,
        connection: &'c mut SqliteConnection,
        ring: &'c mut Ring,
    ) -> BoxFuture<'c, std::result::Result<Answer, Answer>> {
        let Waiting { operation, reply } = *self;
        Box::pin(async move {
            // A caller that no longer waits is no error: its operation is committed all the same.
            match operation(connection, ring).await {
                Ok(value) => Ok(Box::new(move |committed: std::result::Result<(), Refusal>| {
                    reply.send(committed.map(|()| value).map_err(Refusal::into_error)).ok();
                }) as Answer),
                Err(error) => Err(Box::new(move |_| {
                    reply.send(Err(error)).ok();
                }) as Answer),
            }
        })
    }

    fn refuse(self: Box<Self>, refusal: Refusal) {
        self.reply.send(Err(refusal.into_error())).ok();
    }
}

/// Why a whole group was not committed.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    message: String,
    fault: CommitFault,
}

impl Refusal {
    fn into_error(self) -> StoreError {
        StoreError::Commit(self.message, self.fault)
    }
}

/// Where operations wait for the writer.
pub(super) type Inbox = mpsc::Sender<Box<dyn Operation>>;

/// The writer's side: `run` it beside the work.
pub struct Writer {
    connection: SqliteConnection,
    /// How to get another one.
    options: SqliteConnectOptions,
    waiting: mpsc::Receiver<Box<dyn Operation>>,
    bells: Arc<Bells>,
    vitals: Arc<Vitals>,
}

impl Store {
    /// Runs `operation` in the writer's next transaction and answers after its commit. An `Err` undoes this operation
    /// alone, not its neighbours.
    pub(super) async fn write<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection, &'c mut Ring) -> BoxFuture<'c, Result<T>>
            + Send
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Box::new(Waiting { operation, reply })).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Writer {
    pub(super) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        bells: Arc<Bells>,
        vitals: Arc<Vitals>,
    ) -> (Inbox, Writer) {
        let (inbox, waiting) = mpsc::channel(WAITING);
        (inbox, Writer { connection, options, waiting, bells, vitals })
    }

    /// Commits groups until every handle is gone, then closes the database.
    pub async fn run(mut self) -> Result<()> {
        let mut group = Vec::with_capacity(GROUP);
        // Looked at when it starts, too: a killed run leaves its log as it was.
        let mut log_is_short = false;
        loop {
            tokio::select! {
                biased;
                received = self.waiting.recv_many(&mut group, GROUP) => match received {
                    0 => break,
                    _ => {
                        let began = self.vitals.now();
                        self.vitals.beat(Part::Writer).turn(began, None);
                        self.commit(&mut group).await;
                        self.vitals.meter.committed(self.vitals.now().saturating_sub(began));
                        self.vitals.beat(Part::Writer).rest();
                        log_is_short = false;
                    }
                },
                () = tokio::time::sleep(IDLE), if !log_is_short => log_is_short = self.shorten_log().await,
            }
        }
        // For others who go on: the last one to close the database removes it anyway.
        self.shorten_log().await;
        self.connection.close().await.map_err(StoreError::from)
    }

    /// Moves a long write-ahead log into the database and cuts it to nothing: SQLite by itself keeps it as long as it ever
    /// was. `false` when somebody else is reading or writing at this moment: the next quiet will do.
    async fn shorten_log(&mut self) -> bool {
        if self.log_bytes() <= SHORT_LOG_BYTES {
            return true;
        }
        match checkpoint(&mut self.connection).await {
            Ok(done) => done,
            Err(error) => {
                debug!("the write-ahead log stays as it is for now: {error}");
                false
            }
        }
    }

    fn log_bytes(&self) -> u64 {
        let mut log = self.options.get_filename().as_os_str().to_owned();
        log.push("-wal");
        std::fs::metadata(log).map_or(0, |file| file.len())
    }

    async fn commit(&mut self, group: &mut Vec<Box<dyn Operation>>) {
        let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
        let mut ring = Ring::default();
        let mut operations = group.drain(..);
        let result = run_group(&mut self.connection, &mut operations, &mut answers, &mut ring).await;
        let verdict = result.map_err(|e| Refusal { message: e.to_string(), fault: commit_fault(&e) });
        if let Err(refusal) = &verdict {
            operations.for_each(|operation| operation.refuse(refusal.clone()));
            self.connect_again().await;
        } else {
            ring.ring(&self.bells, &self.vitals);
        }
        for answer in answers {
            answer(verdict.clone());
        }
    }

    /// After a failed commit the next group, for which room may have been made meanwhile, gets another connection: what
    /// the failure left in this one is nobody's to guess.
    async fn connect_again(&mut self) {
        // Nothing to roll back is what SQLite says when it has done so by itself.
        sqlx::query("ROLLBACK").execute(&mut self.connection).await.ok();
        let path = self.options.get_filename().to_owned();
        match connect(&path, &self.options).await {
            Ok(connection) => self.connection = connection,
            // The next group fails as this one did, and tries again.
            Err(error) => warn!("the database can't be opened again after a failed commit: {error}"),
        }
    }
}

/// Whether the log was emptied. It waits for nobody: who commits meanwhile would wait with it.
async fn checkpoint(connection: &mut SqliteConnection) -> std::result::Result<bool, sqlx::Error> {
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
    let busy = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    // Pragmas take no parameters.
    let patient = format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(patient)).execute(connection).await?;
    busy.map(|busy: i64| busy == 0)
}

/// Transaction and savepoints are begun and ended by their own words and not by sqlx's guards, which would take a round
/// trip for each end and each beginning.
async fn run_group(
    connection: &mut SqliteConnection,
    operations: &mut impl ExactSizeIterator<Item = Box<dyn Operation>>,
    answers: &mut Vec<Answer>,
    ring: &mut Ring,
) -> std::result::Result<(), sqlx::Error> {
    // A savepoint each, so that one refused operation does not take its neighbours down. One alone needs none.
    let alone = operations.len() == 1;
    sqlx::query(if alone { BEGIN } else { BEGIN_SEVERAL }).execute(&mut *connection).await?;
    while let Some(operation) = operations.next() {
        let before = *ring;
        match operation.run(connection, ring).await {
            Ok(answer) => answers.push(answer),
            Err(answer) => {
                answers.push(answer);
                *ring = before;
                let undo = if alone { "ROLLBACK" } else { "ROLLBACK TO operation" };
                sqlx::query(undo).execute(&mut *connection).await?;
                if alone {
                    return Ok(());
                }
            }
        }
        if operations.len() > 0 {
            sqlx::query("RELEASE operation; SAVEPOINT operation").execute(&mut *connection).await?;
        }
    }
    sqlx::query("COMMIT").execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Timestamp, hold::Hold, hold::HoldName},
        store::Access,
    };

    /// After a burst beside a reader, which keeps SQLite from reusing its log.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the writer of a test")]
    async fn a_long_log_is_emptied_in_the_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("klingd.db");
        let (store, writer) = Store::open(&path, Access::Use).await.unwrap();
        tokio::spawn(writer.run());
        let log = || std::fs::metadata(dir.path().join("klingd.db-wal")).map_or(0, |file| file.len());
        let hold = |n: usize| {
            let why = "a long reason ".repeat(20_000 + n);
            store.hold(Hold::new(HoldName::Paused, why, Timestamp::from_millis(0)))
        };
        let mut reader = store.readers.begin().await.unwrap();
        let seen: i64 =
            sqlx::query_scalar("SELECT count(*) FROM holds").fetch_one(&mut *reader).await.unwrap();
        for n in 0..20 {
            hold(n).await.unwrap();
        }
        assert!(log() > 4 * SHORT_LOG_BYTES, "{}", log());
        // While somebody reads the log stays, and nobody waits for that.
        hold(20).await.unwrap();
        let again: i64 =
            sqlx::query_scalar("SELECT count(*) FROM holds").fetch_one(&mut *reader).await.unwrap();
        assert_eq!((seen, again), (0, 0));
        drop(reader);
        while log() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.holds().await.unwrap().len(), 1);
    }
}
