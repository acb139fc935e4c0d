//! The errand lane: free status calls for commands (the daemon has the key, they may not), and the slow probe that
//! finds out whether a refused key works again.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::sync::Notify;
use tracing::info;

use super::{BESIDE_THE_CALLS, Lane, Look, poll::PollLane};
use crate::{
    clock::Clock,
    domain::hold::{Hold, HoldName},
    provider::Api,
    store::{
        Store,
        errand::{Errand, ErrandAnswer},
    },
    vitals::{Call, Part},
};

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
    /// Find out by a free call whether the key of this hold works again.
    ProbeKey(Hold),
}

impl Lane for ErrandLane {
    // With a width of one nothing can be taken twice.
    type Key = ();
    type Work = Work;

    fn part(&self) -> Part {
        Part::Errand
    }

    fn width(&self) -> usize {
        1
    }

    fn longest_step(&self) -> Option<Duration> {
        // Its turn, which the poller may have, and the call.
        Some(self.api.status_timeout() * 2 + BESIDE_THE_CALLS)
    }

    fn bell(&self) -> &Notify {
        &self.store.bells().errand
    }

    async fn look(&self, _: usize, _: &HashSet<()>) -> Result<Look<(), Work>> {
        if let Some(errand) = self.store.open_errands().await?.into_iter().next() {
            return Ok(Look { work: vec![((), Work::Ask(errand))], next_at: None });
        }
        let now = self.clock.now();
        let key = self.store.holds().await?.into_iter().find(|hold| hold.name == HoldName::Key);
        match key.filter(|hold| hold.holds(now)) {
            Some(hold) if hold.probe_is_due(now) => {
                Ok(Look { work: vec![((), Work::ProbeKey(hold))], next_at: None })
            }
            hold => Ok(Look { work: Vec::new(), next_at: hold.and_then(|hold| hold.probe_at) }),
        }
    }

    async fn step(&self, work: Work) -> Result<()> {
        self.polls.counts_another();
        match work {
            Work::Ask(errand) => {
                let asked = tokio::time::Instant::now();
                let (answer, echo) = self.api.status(&errand.base_url, &errand.task).await;
                self.store.vitals().meter.called(Call::Status, asked.elapsed());
                self.store.answer(errand.id, ErrandAnswer::of(&answer, echo), self.clock.now()).await?;
            }
            Work::ProbeKey(hold) => self.probe_key(&hold).await?,
        }
        Ok(())
    }
}

impl ErrandLane {
    async fn probe_key(&self, hold: &Hold) -> Result<()> {
        let works = self.api.key_works().await == Some(true);
        let now = self.clock.now();
        if works {
            self.store.try_key().await?;
            info!(hold = "key", since = %hold.since, "the key works again: one job is tried, then the others");
        } else if let Some(at) = hold.next_probe(now) {
            self.store.probe_hold_later(HoldName::Key, at).await?;
            info!(hold = "key", since = %hold.since, next = %at, "the key does not work yet: {}", hold.name.remedy());
        }
        Ok(())
    }
}
