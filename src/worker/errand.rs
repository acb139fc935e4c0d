//! The errand lane: free status calls for commands (the daemon has the key, they may not), and the slow probe that
//! finds out whether a refused key works again.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::sync::Notify;
use tracing::info;

use super::{Lane, Look, poll::PollLane};
use crate::{
    clock::Clock,
    domain::{JobId, hold::HoldName},
    provider::Api,
    store::{
        Store,
        errand::{Errand, ErrandAnswer},
    },
};

/// How often a refused key is tried again, by a call that costs nothing.
const KEY_PROBE_EVERY: Duration = Duration::from_secs(300);

/// Runs errands.
pub struct ErrandLane {
    /// The database.
    pub store: Store,
    /// The provider.
    pub api: Arc<Api>,
    /// The clock.
    pub clock: Clock,
    /// Errands do not wait for their turn among thousands of polls, but they count against `poll.max_per_second`.
    pub polls: Arc<PollLane>,
}

/// One errand.
pub enum Work {
    /// Ask about a task.
    Ask(Errand),
    /// Try the key.
    ProbeKey,
}

impl Lane for ErrandLane {
    type Work = Work;

    fn name(&self) -> &'static str {
        "errand"
    }

    fn width(&self) -> usize {
        1
    }

    fn bell(&self) -> &Notify {
        &self.store.bells().errand
    }

    async fn look(&self, _: usize, _: &HashSet<JobId>) -> Result<Look<Work>> {
        // An errand belongs to no job; with a width of one nothing can be taken twice.
        let nobody = JobId(0);
        if let Some(errand) = self.store.open_errands().await?.into_iter().next() {
            return Ok(Look { work: vec![(nobody, Work::Ask(errand))], next_at: None });
        }
        let key = self.store.holds().await?.into_iter().find(|h| h.name == HoldName::Key);
        let probe_at = key.and_then(|hold| hold.probe_at);
        match probe_at {
            Some(at) if at <= self.clock.now() => {
                Ok(Look { work: vec![(nobody, Work::ProbeKey)], next_at: None })
            }
            next_at => Ok(Look { work: Vec::new(), next_at }),
        }
    }

    async fn step(&self, work: Work) -> Result<()> {
        self.polls.counts_another();
        match work {
            Work::Ask(errand) => {
                let (answer, echo) = self.api.status(&errand.base_url, &errand.task).await;
                self.store.answer(errand.id, ErrandAnswer::of(&answer, echo), self.clock.now()).await?;
            }
            Work::ProbeKey => {
                if self.api.key_works().await == Some(true) {
                    self.store.lift(vec![HoldName::Key]).await?;
                    info!(hold = "key", "the key works again: submits go on");
                } else {
                    self.store.probe_hold_later(HoldName::Key, self.clock.now() + KEY_PROBE_EVERY).await?;
                }
            }
        }
        Ok(())
    }
}
