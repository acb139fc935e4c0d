//! The world of the simulation: a provider whose limits nobody knows, a pool of workers with more jobs than can ever
//! leave, and a clock that jumps from event to event. No network, no threads: a seed is a run.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// Milliseconds since the start.
pub type Ms = u64;

/// The calls that may be under way at once, for every client.
pub const POOL: usize = 8;
/// A call's latency, all of it before the provider decides: the hard case for pacing, since its jitter counts in full.
const LATENCY_MS: std::ops::Range<Ms> = 210..391;

/// A way to meet 429s.
pub trait Client {
    /// Which workers send now, and when to ask again if nothing happens before. `tasks` are in flight besides the calls.
    fn look(&mut self, now: Ms, tasks: u32) -> (Vec<usize>, Option<Ms>);
    /// The answer to a worker's call. `tasks` are in flight besides it and the other calls.
    fn hear(&mut self, worker: usize, answer: Answer, now: Ms, tasks: u32);
}

/// The provider's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Passed,
    TooFast { retry_after: Option<Duration> },
    SlotsFull,
}

/// A token bucket, as providers have it.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub per_second: f64,
    pub burst: f64,
    /// Whether a 429 says when to come back.
    pub retry_after: bool,
    /// Whether a refused call costs a token too, down to an empty bucket's worth of debt.
    pub refusals_cost: bool,
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub seed: u64,
    pub limit: Option<Limit>,
    /// When the rate becomes another one, and by which factor.
    pub change: Option<(Ms, f64)>,
    /// Parallel tasks, and how long each takes.
    pub slots: Option<(u32, Ms)>,
    pub end: Ms,
}

/// When calls passed, and when they were refused.
#[derive(Debug, Default)]
pub struct Log {
    pub passed: Vec<Ms>,
    pub refused: Vec<Ms>,
}

impl Log {
    fn between(times: &[Ms], from: Ms, to: Ms) -> f64 {
        times.iter().filter(|t| (from..to).contains(*t)).count() as f64
    }

    /// Passed calls a second, as a share of `per_second`.
    pub fn goodput(&self, from: Ms, to: Ms, per_second: f64) -> f64 {
        Self::between(&self.passed, from, to) / (per_second * (to - from) as f64 / 1000.0)
    }

    /// Refused calls.
    pub fn refusals(&self, from: Ms, to: Ms) -> f64 {
        Self::between(&self.refused, from, to)
    }

    /// The share of calls that were refused.
    pub fn refused_share(&self, from: Ms, to: Ms) -> f64 {
        let refused = self.refusals(from, to);
        refused / (refused + Self::between(&self.passed, from, to)).max(1.0)
    }

    /// The share of the slots' time that tasks had.
    pub fn slots_used(&self, from: Ms, to: Ms, slots: u32, task: Ms) -> f64 {
        let used: Ms =
            self.passed.iter().map(|start| (start + task).min(to).saturating_sub((*start).max(from))).sum();
        used as f64 / (f64::from(slots) * (to - from) as f64)
    }
}

struct Provider {
    limit: Option<Limit>,
    tokens: f64,
    filled_at: Ms,
    slots: Option<u32>,
    tasks: u32,
}

impl Provider {
    fn answer(&mut self, now: Ms) -> Answer {
        if let Some(limit) = self.limit {
            self.tokens =
                (self.tokens + limit.per_second * (now - self.filled_at) as f64 / 1000.0).min(limit.burst);
            self.filled_at = now;
            if self.tokens < 1.0 {
                if limit.refusals_cost {
                    self.tokens = (self.tokens - 1.0).max(-limit.burst);
                }
                let wait = ((1.0 - self.tokens) / limit.per_second).ceil().max(1.0);
                let retry_after = limit.retry_after.then(|| Duration::from_secs_f64(wait));
                return Answer::TooFast { retry_after };
            }
        }
        if self.slots.is_some_and(|slots| self.tasks >= slots) {
            return Answer::SlotsFull;
        }
        self.tokens -= 1.0;
        self.tasks += 1;
        Answer::Passed
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    TaskEnds,
    Arrives(usize),
}

/// Runs a client against the world.
pub fn run(world: World, client: &mut dyn Client) -> Log {
    let mut rng = fastrand::Rng::with_seed(world.seed);
    let burst = world.limit.map_or(0.0, |limit| limit.burst);
    let slots = world.slots.map(|(slots, _)| slots);
    let mut provider = Provider { limit: world.limit, tokens: burst, filled_at: 0, slots, tasks: 0 };
    let mut change = world.change;
    let mut log = Log::default();
    let mut events = BinaryHeap::new();
    let mut now = 0;
    loop {
        let (send, wake) = client.look(now, provider.tasks);
        for worker in send {
            events.push(Reverse((now + rng.u64(LATENCY_MS), Event::Arrives(worker))));
        }
        let next = events.peek().map(|Reverse((at, _))| *at);
        let Some(at) = [next, wake.map(|at| at.max(now + 1))].into_iter().flatten().min() else { break };
        now = at;
        if now >= world.end {
            break;
        }
        if let (Some((at, factor)), Some(limit)) = (change, &mut provider.limit)
            && now >= at
        {
            limit.per_second *= factor;
            change = None;
        }
        if next != Some(now) {
            continue;
        }
        match events.pop() {
            Some(Reverse((_, Event::TaskEnds))) => provider.tasks -= 1,
            Some(Reverse((_, Event::Arrives(worker)))) => {
                let tasks = provider.tasks;
                let answer = provider.answer(now);
                client.hear(worker, answer, now, tasks);
                if answer == Answer::Passed {
                    log.passed.push(now);
                    match world.slots {
                        Some((_, task)) => events.push(Reverse((now + task, Event::TaskEnds))),
                        None => provider.tasks -= 1,
                    }
                } else {
                    log.refused.push(now);
                }
            }
            None => {}
        }
    }
    log
}
