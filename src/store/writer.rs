//! The one writer: it takes whatever operations wait and commits them together, so that full durability costs one
//! fsync a group and not one a job. Nobody is answered before the commit.
//!
//! A caller that goes away does not undo its operation: it runs in the writer's task, which nobody cancels.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::{
    Bells, Result, Store, StoreError,
    error::{CommitFault, commit_fault},
};
use crate::domain::state::Lane;

/// Operations in one transaction: beyond this the last one waits longer than an fsync saves.
const GROUP: usize = 64;
/// Operations that may wait. Workers wait for their answers, so this is never reached in practice; it bounds memory.
const WAITING: usize = 1024;

/// Whom a group's commit concerns; rung after it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ring {
    submit: bool,
    poll: bool,
    download: bool,
    errand: bool,
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

    /// Wakes the worker that runs errands.
    pub fn errand(&mut self) {
        self.errand = true;
    }

    fn ring(self, bells: &Bells) {
        let all = [
            (self.submit, &bells.submit),
            (self.poll, &bells.poll),
            (self.download, &bells.download),
            (self.errand, &bells.errand),
        ];
        all.into_iter().filter(|(concerned, _)| *concerned).for_each(|(_, bell)| bell.notify_one());
        bells.committed();
    }
}

type Answer = Box<dyn FnOnce(std::result::Result<(), Refusal>) + Send>;
type Operation = Box<
    dyn for<'c> FnOnce(
            &'c mut SqliteConnection,
            &'c mut Ring,
        ) -> BoxFuture<'c, std::result::Result<Answer, Answer>>
        + Send,
>;

/// Why a whole group was not committed.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    message: String,
    fault: CommitFault,
}

/// Where operations wait for the writer.
pub(super) type Inbox = mpsc::Sender<Operation>;

/// The writer's side: `run` it beside the work.
pub struct Writer {
    connection: SqliteConnection,
    waiting: mpsc::Receiver<Operation>,
    bells: Arc<Bells>,
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
        let (reply, answer) = oneshot::channel::<Result<T>>();
        let operation: Operation = Box::new(move |connection, ring| {
            Box::pin(async move {
                match operation(connection, ring).await {
                    Ok(value) => Ok(answer_after_commit(reply, value)),
                    Err(error) => Err(answer_refused(reply, error)),
                }
            })
        });
        self.inbox.send(operation).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

fn answer_after_commit<T: Send + 'static>(reply: oneshot::Sender<Result<T>>, value: T) -> Answer {
    Box::new(move |committed| {
        let result = committed.map(|()| value).map_err(|r| StoreError::Commit(r.message, r.fault));
        // A caller that no longer waits is no error: its operation is committed.
        reply.send(result).ok();
    })
}

fn answer_refused<T: Send + 'static>(reply: oneshot::Sender<Result<T>>, error: StoreError) -> Answer {
    Box::new(move |_| {
        reply.send(Err(error)).ok();
    })
}

impl Writer {
    pub(super) fn new(connection: SqliteConnection, bells: Arc<Bells>) -> (Inbox, Writer) {
        let (inbox, waiting) = mpsc::channel(WAITING);
        (inbox, Writer { connection, waiting, bells })
    }

    /// Commits groups until every handle is gone, then closes the database.
    pub async fn run(mut self) -> Result<()> {
        let mut group = Vec::with_capacity(GROUP);
        while self.waiting.recv_many(&mut group, GROUP).await > 0 {
            self.commit(group.drain(..).collect()).await;
        }
        self.connection.close().await.map_err(StoreError::from)
    }

    async fn commit(&mut self, group: Vec<Operation>) {
        let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
        let mut ring = Ring::default();
        let result = run_group(&mut self.connection, group, &mut answers, &mut ring).await;
        let verdict = result.map_err(|e| Refusal { message: e.to_string(), fault: commit_fault(&e) });
        if verdict.is_ok() {
            ring.ring(&self.bells);
        }
        for answer in answers {
            answer(verdict.clone());
        }
    }
}

async fn run_group(
    connection: &mut SqliteConnection,
    group: Vec<Operation>,
    answers: &mut Vec<Answer>,
    ring: &mut Ring,
) -> std::result::Result<(), sqlx::Error> {
    // IMMEDIATE: a transaction that reads first and writes later would fail at once when another process wrote between.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for operation in group {
        // A savepoint each, so that one refused operation does not take its neighbours down.
        let mut savepoint = transaction.begin().await?;
        match operation(&mut savepoint, ring).await {
            Ok(answer) => {
                answers.push(answer);
                savepoint.commit().await?;
            }
            Err(answer) => {
                answers.push(answer);
                savepoint.rollback().await?;
            }
        }
    }
    transaction.commit().await
}
