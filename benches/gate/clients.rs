//! Those who meet the limits: klingd's own gate, and the two ways that are common elsewhere.

use std::time::Duration;

use klingd::domain::{
    Timestamp,
    gate::{Admission, Flight, Gate, GateNews, GatePolicy},
    retry::Dice,
};

use super::sim::{Answer, Client, Ms, POOL};

/// The real gate, with the default cooldowns.
pub struct Klingd {
    gate: Gate,
    policy: GatePolicy,
    busy: [bool; POOL],
    rng: fastrand::Rng,
}

impl Klingd {
    pub fn new(seed: u64, start_in_flight: u32) -> Self {
        let policy = GatePolicy {
            start_in_flight,
            max_in_flight: 100,
            cooldown: Duration::from_secs(2),
            cooldown_max: Duration::from_secs(600),
        };
        Self { gate: Gate::default(), policy, busy: [false; POOL], rng: fastrand::Rng::with_seed(!seed) }
    }

    fn flight(&self, tasks: u32) -> Flight {
        let on_the_wire = self.busy.iter().filter(|busy| **busy).count() as u32;
        Flight { on_the_wire, tasks }
    }
}

impl Client for Klingd {
    fn look(&mut self, now: Ms, tasks: u32) -> (Vec<usize>, Option<Ms>) {
        let at = time(now);
        let free: Vec<usize> = (0..POOL).filter(|worker| !self.busy[*worker]).collect();
        if free.is_empty() {
            return (free, None);
        }
        match self.gate.admits(self.flight(tasks), &self.policy, at) {
            Admission::Go(n) => {
                let send: Vec<usize> = free.into_iter().take(n as usize).collect();
                send.iter().for_each(|worker| self.busy[*worker] = true);
                self.gate = self.gate.take(send.len() as u32, at);
                (send, Some(now + 1))
            }
            Admission::ClosedUntil(until) => (Vec::new(), Some(now + until.since(at).as_millis() as Ms)),
            Admission::Full => {
                let opens = self.gate.opens_at(at);
                (Vec::new(), opens.map(|until| now + until.since(at).as_millis() as Ms))
            }
        }
    }

    fn hear(&mut self, worker: usize, answer: Answer, now: Ms, tasks: u32) {
        self.busy[worker] = false;
        let (news, wish) = match answer {
            Answer::Passed => (GateNews::Passed, None),
            Answer::TooFast { retry_after } => (GateNews::TooFast, retry_after),
            Answer::SlotsFull => (GateNews::SlotsFull, None),
        };
        let dice = Dice::new(self.rng.f64());
        self.gate = self.gate.hear(news, wish, self.flight(tasks), &self.policy, time(now), dice);
    }
}

fn time(now: Ms) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + now as i64)
}

/// When each worker of a pool that backs off by itself sends again.
struct Retries {
    rng: fastrand::Rng,
    /// `None` while its call is on the wire.
    ready_at: [Option<Ms>; POOL],
    tries: [u32; POOL],
    /// The longest wait of the exponential backoff.
    longest_s: f64,
}

impl Retries {
    fn new(seed: u64, longest_s: f64) -> Self {
        let rng = fastrand::Rng::with_seed(!seed);
        Self { rng, ready_at: [Some(0); POOL], tries: [0; POOL], longest_s }
    }

    fn hear(&mut self, worker: usize, answer: Answer, now: Ms) {
        let wait_s = match answer {
            Answer::Passed => {
                self.tries[worker] = 0;
                0.0
            }
            Answer::TooFast { retry_after } => {
                let wait = 2f64.powi(self.tries[worker].min(20) as i32).min(self.longest_s) * self.rng.f64();
                self.tries[worker] += 1;
                wait.max(retry_after.map_or(0.0, |wish| wish.as_secs_f64()))
            }
            Answer::SlotsFull => {
                let wait = 2f64.powi(self.tries[worker].min(20) as i32).min(self.longest_s) * self.rng.f64();
                self.tries[worker] += 1;
                wait
            }
        };
        self.ready_at[worker] = Some(now + (wait_s * 1000.0) as Ms);
    }

    fn next(&self) -> Option<Ms> {
        self.ready_at.iter().flatten().min().copied()
    }
}

/// Exponential backoff with full jitter (1 s doubled up to 20 s), each request for itself; `Retry-After` is obeyed.
pub struct Naive(Retries);

impl Naive {
    pub fn new(seed: u64) -> Self {
        Self(Retries::new(seed, 20.0))
    }
}

impl Client for Naive {
    fn look(&mut self, now: Ms, _: u32) -> (Vec<usize>, Option<Ms>) {
        let due = |at: Option<Ms>| at.is_some_and(|at| at <= now);
        let send: Vec<usize> = (0..POOL).filter(|worker| due(self.0.ready_at[*worker])).collect();
        send.iter().for_each(|worker| self.0.ready_at[*worker] = None);
        (send, self.0.next())
    }

    fn hear(&mut self, worker: usize, answer: Answer, now: Ms, _: u32) {
        self.0.hear(worker, answer, now);
    }
}

/// The adaptive mode of the AWS SDKs as their reference describes it: exponential backoff as above, and in front of it a
/// client-side token bucket whose rate follows CUBIC, from the measured rate of sending.
pub struct AwsAdaptive {
    retries: Retries,
    enabled: bool,
    fill_rate: f64,
    capacity: f64,
    tokens: f64,
    filled_at_s: f64,
    measured: f64,
    counted: f64,
    counted_at_s: f64,
    last_max_rate: f64,
    throttled_at_s: f64,
}

/// The constants of that description.
const AWS_BETA: f64 = 0.7;
const AWS_SCALE: f64 = 0.4;
const AWS_SMOOTH: f64 = 0.8;
const AWS_MIN_FILL_RATE: f64 = 0.5;
const AWS_MIN_CAPACITY: f64 = 1.0;

impl AwsAdaptive {
    pub fn new(seed: u64) -> Self {
        Self {
            retries: Retries::new(seed, 20.0),
            enabled: false,
            fill_rate: 0.0,
            capacity: 0.0,
            tokens: 0.0,
            filled_at_s: 0.0,
            measured: 0.0,
            counted: 0.0,
            counted_at_s: 0.0,
            last_max_rate: 0.0,
            throttled_at_s: 0.0,
        }
    }

    fn refill(&mut self, now_s: f64) {
        self.tokens = (self.tokens + (now_s - self.filled_at_s) * self.fill_rate).min(self.capacity);
        self.filled_at_s = now_s;
    }

    /// Every answer counts; the rate is taken each half second and smoothed.
    fn measure(&mut self, now_s: f64) {
        let bucket = (now_s * 2.0).floor() / 2.0;
        self.counted += 1.0;
        if bucket > self.counted_at_s {
            let current = self.counted / (bucket - self.counted_at_s);
            self.measured = current * AWS_SMOOTH + self.measured * (1.0 - AWS_SMOOTH);
            self.counted = 0.0;
            self.counted_at_s = bucket;
        }
    }

    fn time_window(&self) -> f64 {
        (self.last_max_rate * (1.0 - AWS_BETA) / AWS_SCALE).cbrt()
    }

    fn adapt(&mut self, refused: bool, now_s: f64) {
        self.measure(now_s);
        let calculated = if refused {
            let rate = if self.enabled { self.measured.min(self.fill_rate) } else { self.measured };
            self.last_max_rate = rate;
            self.throttled_at_s = now_s;
            self.enabled = true;
            rate * AWS_BETA
        } else {
            AWS_SCALE * (now_s - self.throttled_at_s - self.time_window()).powi(3) + self.last_max_rate
        };
        self.refill(now_s);
        self.fill_rate = calculated.min(2.0 * self.measured).max(AWS_MIN_FILL_RATE);
        self.capacity = self.fill_rate.max(AWS_MIN_CAPACITY);
        self.tokens = self.tokens.min(self.capacity);
    }
}

impl Client for AwsAdaptive {
    fn look(&mut self, now: Ms, _: u32) -> (Vec<usize>, Option<Ms>) {
        let now_s = now as f64 / 1000.0;
        self.refill(now_s);
        let mut send = Vec::new();
        let mut wake = None;
        for worker in 0..POOL {
            if self.retries.ready_at[worker].is_none_or(|at| at > now) {
                continue;
            }
            if self.enabled {
                if self.tokens < 1.0 {
                    wake = Some(now + 1 + ((1.0 - self.tokens) / self.fill_rate * 1000.0) as Ms);
                    break;
                }
                self.tokens -= 1.0;
            }
            self.retries.ready_at[worker] = None;
            send.push(worker);
        }
        let later = self.retries.ready_at.iter().flatten().filter(|at| **at > now).min().copied();
        (send, [wake, later].into_iter().flatten().min())
    }

    fn hear(&mut self, worker: usize, answer: Answer, now: Ms, _: u32) {
        self.adapt(answer != Answer::Passed, now as f64 / 1000.0);
        self.retries.hear(worker, answer, now);
    }
}
