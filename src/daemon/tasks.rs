//! Everything that was spawned, and its orderly end.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    store::{Bells, StoreError, doorbell::Doorbell},
    vitals::Vitals,
    worker::{self, Lane},
};

/// Everything that was spawned. The unexpected end of any of them stops the daemon with an error.
pub(super) struct Tasks {
    lanes: JoinSet<(&'static str, Result<()>)>,
    /// Those who tell others how klingd is, until the lanes have ended.
    witnesses: JoinSet<(&'static str, Result<()>)>,
    /// Ends them.
    over: CancellationToken,
    writer: JoinSet<Result<(), StoreError>>,
    stop: CancellationToken,
}

impl Tasks {
    pub fn new(stop: CancellationToken) -> Self {
        let (witnesses, over) = (JoinSet::new(), CancellationToken::new());
        Self { lanes: JoinSet::new(), witnesses, over, writer: JoinSet::new(), stop }
    }

    pub fn writer(&mut self, run: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        self.writer.spawn(run);
    }

    /// A lane; the closure gives the one that holds now.
    pub fn lane<L: Lane>(
        &mut self,
        lane: impl Fn() -> Arc<L> + Send + 'static,
        vitals: &Arc<Vitals>,
        clock: Clock,
    ) {
        let (name, vitals, stop) = (lane().part().as_str(), Arc::clone(vitals), self.stop.clone());
        self.lanes.spawn(async move { (name, worker::run(lane, &vitals, clock, stop).await) });
    }

    /// Something that tells others how klingd is; it goes on while the lanes finish, until the token it is given ends it.
    pub fn witness<F>(&mut self, name: &'static str, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let run = run(self.over.clone());
        self.witnesses.spawn(async move { (name, run.await) });
    }

    /// Something beside the lanes that ends when they are stopped.
    pub fn beside(&mut self, name: &'static str, run: impl Future<Output = Result<()>> + Send + 'static) {
        self.lanes.spawn(async move { (name, run.await) });
    }

    pub fn answer_doorbell(&mut self, doorbell: Doorbell, bells: Arc<Bells>) {
        let stop = self.stop.clone();
        self.lanes.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return ("doorbell", Ok(())),
                    rung = doorbell.rung() => match rung {
                        Ok(()) => bells.ring_all(),
                        Err(error) => return ("doorbell", Err(error.into())),
                    },
                }
            }
        });
    }

    /// The first end of anything, which nobody asked for. Cancel safe.
    pub async fn first_end(&mut self) -> anyhow::Error {
        tokio::select! {
            Some(ended) = self.lanes.join_next() => unexpected(ended),
            Some(ended) = self.witnesses.join_next() => unexpected(ended),
            Some(ended) = self.writer.join_next() => match ended {
                Ok(Ok(())) => anyhow!("the writer ended"),
                Ok(Err(error)) => anyhow!(error).context("the writer failed"),
                Err(panic) => anyhow!("the writer ended unexpectedly: {panic}"),
            },
            else => anyhow!("nothing is running"),
        }
    }

    pub async fn join_lanes(&mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some(ended) = self.lanes.join_next().await {
            if let Ok((_, Ok(()))) = ended {
                continue;
            }
            result = Err(unexpected(ended));
        }
        result
    }

    /// Ends the witnesses. What is wrong with them is no reason for klingd to fail.
    pub async fn join_witnesses(&mut self) {
        self.over.cancel();
        while let Some(ended) = self.witnesses.join_next().await {
            if let Err(panic) = ended {
                tracing::warn!("a task ended unexpectedly: {panic}");
            }
        }
    }

    pub async fn join_writer(&mut self) -> Result<()> {
        while let Some(ended) = self.writer.join_next().await {
            ended.map_err(|panic| anyhow!("the writer ended unexpectedly: {panic}"))??;
        }
        Ok(())
    }
}

fn unexpected(
    ended: std::result::Result<(&'static str, Result<()>), tokio::task::JoinError>,
) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("the {name} task ended without being asked to"),
        Ok((_, Err(error))) => error,
        Err(panic) => anyhow!("a task ended unexpectedly: {panic}"),
    }
}
