//! The workers: one loop ([`run`]), and a lane each for submits, status calls, downloads and errands.
//!
//! A lane *looks* (which jobs are due?) and *steps* (one call to the outside world, one report to the store). It holds
//! no state that matters: due times are rows, a wake-up is only a hint. It must not decide what an observation means;
//! that is `domain::plan`.

pub mod answer;
mod ask;
mod clear;
pub mod download;
pub mod errand;
pub mod evidence;
mod fetch;
pub mod hook;
mod money;
pub mod origin;
pub mod poll;
mod publish;
pub mod recover;
mod retry;
pub mod room;
pub mod schedules;
pub mod submit;
mod verify;

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    clock::Clock,
    domain::{JobId, Timestamp, label::Label, state::Failure},
    vitals::{Part, Vitals},
};

/// How long a lane goes without a look, whatever it was told: wake-ups are hints, the table is the truth. Four lanes
/// make this less than one wake-up a second.
const SLOW_LOOK: Duration = Duration::from_secs(5);

/// What a step may take besides its calls: its commits, and room made on a full disk. A writer that hangs for as long is
/// found by its own beat.
const BESIDE_THE_CALLS: Duration = Duration::from_secs(60);

/// What a look found.
pub struct Look<K, W> {
    /// Work to start now.
    pub work: Vec<(K, W)>,
    /// When time alone brings more.
    pub next_at: Option<Timestamp>,
}

/// One kind of work.
pub trait Lane: Send + Sync + 'static {
    /// What is worked on by one step at a time: mostly a job.
    type Key: Clone + Eq + Hash + Send + Sync;
    /// What a look hands to a step.
    type Work: Send + 'static;

    /// Which part of klingd it is.
    fn part(&self) -> Part;

    /// Steps at once. A lane whose width changes rings its bell when it grows.
    fn width(&self) -> usize;

    /// What no step takes longer than, unless it hangs; `None` where nobody can say.
    fn longest_step(&self) -> Option<Duration>;

    /// What wakes it.
    fn bell(&self) -> &Notify;

    /// Finds at most `free` pieces of work, none of what is `busy` in a step.
    fn look(
        &self,
        free: usize,
        busy: &HashSet<Self::Key>,
    ) -> impl Future<Output = Result<Look<Self::Key, Self::Work>>> + Send;

    /// Does one piece of work and reports it. An error is fatal: everything that can be expected is a report.
    fn step(&self, work: Self::Work) -> impl Future<Output = Result<()>> + Send;
}

/// Runs a lane until `stop`: looks, starts steps, waits. Once stopping, or after an error, it takes nothing new and lets
/// the steps in hand finish, for a POST on the wire is never dropped.
///
/// `lane` gives the lane as it is now: another one (a configuration that was read again) takes the next look, and what the
/// earlier one has in hand is finished as it began.
pub async fn run<L: Lane>(
    lane: impl Fn() -> Arc<L>,
    vitals: &Vitals,
    clock: Clock,
    stop: CancellationToken,
) -> Result<()> {
    let part = lane().part();
    let beat = vitals.beat(part);
    let mut hands = Hands::new();
    let mut outcome = Ok(());
    loop {
        let lane = lane();
        beat.turn(vitals.now(), hands.due());
        // The bell is registered before the look: a ring in between is not lost.
        let bell = lane.bell().notified();
        tokio::pin!(bell);
        bell.as_mut().enable();
        let taking = outcome.is_ok() && !stop.is_cancelled();
        let free = lane.width().saturating_sub(hands.len());
        let mut next_at = None;
        if taking && free > 0 {
            match lane.look(free, &hands.busy()).await {
                Ok(look) => {
                    next_at = look.next_at;
                    for (key, work) in look.work {
                        let due = lane.longest_step().map(|longest| vitals.now() + longest);
                        hands.start(&lane, key, work, due);
                    }
                }
                Err(error) => {
                    outcome = Err(error.context(format!("the {} can't look for work", part.as_str())))
                }
            }
        }
        if hands.is_empty() && (outcome.is_err() || stop.is_cancelled()) {
            beat.rest();
            return outcome;
        }
        let taking = outcome.is_ok() && !stop.is_cancelled();
        let may_take = taking && hands.len() < lane.width();
        tokio::select! {
            finished = hands.finished(), if !hands.is_empty() => {
                if outcome.is_ok() {
                    outcome = finished.with_context(|| format!("the {}", part.as_str()));
                }
            }
            // Heard with full hands, too: a lane may have grown wider.
            () = &mut bell, if taking => {}
            () = clock.sleep_until(next_at, SLOW_LOOK.min(vitals.turn_every())), if may_take => {}
            () = tokio::time::sleep(vitals.turn_every()), if !may_take => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
    }
}

/// A paid task whose links stayed dead: both lanes that may find out say it alike.
fn report_lost(id: JobId, failure: &Failure) {
    let (state, why) = (Label::Failed.as_str(), &failure.message);
    warn!(
        job.id = id.0,
        state.to = state,
        ?why,
        "job {id} is lost though paid; retry is free: klingd retry {id}"
    );
}

/// The steps that a lane has in hand.
struct Hands<K> {
    steps: JoinSet<Result<()>>,
    in_hand: HashMap<Id, InHand<K>>,
}

/// A step that was started.
struct InHand<K> {
    key: K,
    /// When it must have ended.
    due: Option<Duration>,
}

impl<K: Clone + Eq + Hash> Hands<K> {
    fn new() -> Self {
        Self { steps: JoinSet::new(), in_hand: HashMap::new() }
    }

    fn len(&self) -> usize {
        self.steps.len()
    }

    fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn busy(&self) -> HashSet<K> {
        self.in_hand.values().map(|step| step.key.clone()).collect()
    }

    /// When the first of them must have ended.
    fn due(&self) -> Option<Duration> {
        self.in_hand.values().filter_map(|step| step.due).min()
    }

    fn start<L: Lane<Key = K>>(&mut self, lane: &Arc<L>, key: K, work: L::Work, due: Option<Duration>) {
        let lane = Arc::clone(lane);
        let step = self.steps.spawn(async move { lane.step(work).await });
        self.in_hand.insert(step.id(), InHand { key, due });
    }

    /// The next step that ends, and with it those that ended meanwhile. Cancel safe. A panic is an error like any other.
    async fn finished(&mut self) -> Result<()> {
        let mut next = self.steps.join_next_with_id().await;
        while let Some(ended) = next {
            match ended {
                Ok((id, result)) => {
                    self.in_hand.remove(&id);
                    result?;
                }
                Err(panic) => {
                    self.in_hand.remove(&panic.id());
                    anyhow::bail!("a step ended unexpectedly: {panic}");
                }
            }
            next = self.steps.try_join_next_with_id();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use super::*;
    use crate::domain::JobId;

    /// A lane with room for one step, which makes room for another and ends after that one.
    struct Growing {
        width: AtomicUsize,
        jobs: AtomicI64,
        bell: Notify,
        second: Notify,
        stop: CancellationToken,
    }

    impl Lane for Growing {
        type Key = JobId;
        type Work = JobId;

        fn part(&self) -> Part {
            Part::Download
        }

        fn longest_step(&self) -> Option<Duration> {
            None
        }

        fn width(&self) -> usize {
            self.width.load(Ordering::Relaxed)
        }

        fn bell(&self) -> &Notify {
            &self.bell
        }

        async fn look(&self, free: usize, _busy: &HashSet<JobId>) -> Result<Look<JobId, JobId>> {
            assert_eq!(free, 1);
            let job = JobId(self.jobs.fetch_add(1, Ordering::Relaxed));
            Ok(Look { work: vec![(job, job)], next_at: None })
        }

        async fn step(&self, job: JobId) -> Result<()> {
            if job == JobId(1) {
                self.width.store(2, Ordering::Relaxed);
                self.bell.notify_one();
                self.second.notified().await;
                self.stop.cancel();
            } else {
                self.second.notify_one();
                self.stop.cancelled().await;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_full_lane_that_grows_takes_more_at_once() {
        let stop = CancellationToken::new();
        let (width, jobs) = (AtomicUsize::new(1), AtomicI64::new(1));
        let (bell, second) = (Notify::new(), Notify::new());
        let lane = Arc::new(Growing { width, jobs, bell, second, stop: stop.clone() });
        let ended = tokio::time::timeout(
            Duration::from_secs(60),
            run(|| Arc::clone(&lane), &Vitals::default(), Clock, stop),
        )
        .await;
        ended.expect("the second step never began").unwrap();
    }
}
