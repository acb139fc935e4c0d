//! The schedules of all kinds of render, kept in memory: a look must not cost a query for what changes once a render.
//!
//! The rows are the truth. This process is the only one that adds any, and says so ([`Schedules::learned`]).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::warn;

use crate::{
    domain::{
        RenderKind, Request, Schedule, Timestamp,
        plan::poll::{FIRST, PollPolicy, first_look},
    },
    store::{Result, Store, StoreError},
};

/// How long the number of open tasks is believed: it changes by one task at a time, and counting thousands costs.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// How long a schedule is believed after another render has ended: under load hundreds end in a second, and none of them
/// alone moves a schedule by much.
const LEARN_EVERY: Duration = Duration::from_secs(1);

/// What every look asks; cheap to clone.
#[derive(Clone)]
pub struct Schedules {
    store: Store,
    policy: PollPolicy,
    max_per_second: f64,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    schedules: HashMap<RenderKind, Learned>,
    /// When the open tasks were counted, and how many there were.
    counted: Option<(Timestamp, u64)>,
}

/// What was learned of a kind of render.
struct Learned {
    schedule: Schedule,
    at: Timestamp,
    /// A render that ended since then is not in it.
    outdated: bool,
}

impl Learned {
    fn holds(&self, now: Timestamp) -> bool {
        // What was learned in the future was learned by a clock that has jumped back since.
        !self.outdated || (self.at <= now && now.since(self.at) < LEARN_EVERY)
    }
}

impl Schedules {
    /// Of the renders in `store`, for at most so many status calls a second.
    pub fn new(store: Store, policy: PollPolicy, max_per_second: f64) -> Self {
        Self { store, policy, max_per_second, memory: Arc::default() }
    }

    /// How long after its submit the task of this request's bytes is looked at first. Asked beside a POST, where nothing
    /// may fail: what can't be read is not learned from.
    pub(super) async fn first_look(&self, request: &[u8], now: Timestamp) -> Duration {
        let Ok(request) = serde_json::from_slice::<Request>(request) else {
            return self.policy.first.unwrap_or(FIRST);
        };
        let kind = RenderKind::from(&request);
        let known = async { Ok::<_, StoreError>((self.of(kind, now).await?, self.share(now).await?)) };
        let (schedule, share) = known.await.unwrap_or_else(|error| {
            warn!("what renders taught can't be read ({error}): the known times hold");
            (Schedule::learn(kind, &[]), Duration::ZERO)
        });
        first_look(&self.policy, &schedule, share)
    }

    /// The schedule of a kind.
    pub async fn of(&self, kind: RenderKind, now: Timestamp) -> Result<Schedule> {
        if let Some(learned) = self.memory().schedules.get(&kind).filter(|learned| learned.holds(now)) {
            return Ok(learned.schedule);
        }
        let schedule = Schedule::learn(kind, &self.store.render_times(kind).await?);
        self.memory().schedules.insert(kind, Learned { schedule, at: now, outdated: false });
        Ok(schedule)
    }

    /// A render of this kind was seen to be done.
    pub fn learned(&self, kind: RenderKind) {
        if let Some(learned) = self.memory().schedules.get_mut(&kind) {
            learned.outdated = true;
        }
    }

    /// The time in which every open task could have one look.
    pub async fn share(&self, now: Timestamp) -> Result<Duration> {
        // A count of the future is the word of a clock that has jumped back since.
        let fresh = |(at, _): &(Timestamp, u64)| *at <= now && now.since(*at) < COUNT_EVERY;
        let counted = self.memory().counted.filter(fresh);
        let open = match counted {
            Some((_, open)) => open,
            None => {
                let open = self.store.open_tasks().await?;
                self.memory().counted = Some((now, open));
                open
            }
        };
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        Ok(Duration::try_from_secs_f64(f64::from(open) / self.max_per_second).unwrap_or(Duration::MAX))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // Nothing that can panic runs under this lock; a poisoned one is as good as new.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outdated_schedule_holds_for_a_second() {
        let schedule =
            Schedule::learn(RenderKind { job_type: crate::domain::JobType::ALL[0], duration_s: None }, &[]);
        let at = |ms: i64| Timestamp::from_millis(1_000_000 + ms);
        let learned = |outdated| Learned { schedule, at: at(0), outdated };
        let holds = |outdated| [-5000, 0, 999, 1000, 5000].map(|ms| learned(outdated).holds(at(ms)));
        assert_eq!(holds(false), [true; 5]);
        assert_eq!(holds(true), [false, true, true, false, false]);
    }
}
