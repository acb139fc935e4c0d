//! What survives a crash: the jobs with their attempts, the gate, what is known of status calls, and the holds. A step is
//! legal or it is a finding; the history is a digest.

use std::collections::{BTreeMap, BTreeSet};

use klingd::domain::attempt::settled_by;
use klingd::domain::gate::{Flight, Gate};
use klingd::domain::hold::{Hold, HoldName};
use klingd::domain::looks::KeptLooks;
use klingd::domain::{AttemptNo, Charge, Event, Outcome, State, Timestamp};

use super::{DAY, Ms, PRICE};

pub struct Attempt {
    pub outcome: Outcome,
    /// By true time.
    pub left: Ms,
}

pub struct Job {
    pub state: State,
    pub due: Timestamp,
    pub attempts: Vec<Attempt>,
    pub submitted: Timestamp,
    pub failures: u32,
    pub failing_since: Option<Timestamp>,
    /// How often a person agreed to pay again.
    pub consents: usize,
}

#[derive(Default)]
pub struct Table {
    pub jobs: Vec<Job>,
    /// Those that have not ended.
    pub active: BTreeSet<usize>,
    pub gate: Gate,
    pub looks: KeptLooks,
    pub holds: BTreeMap<HoldName, Hold>,
    pub broken: Vec<String>,
    /// Of every step: the job, the event, the time.
    pub digest: u64,
    /// Attempts by the time that they are dated.
    ledger: BTreeMap<(Timestamp, usize, usize), ()>,
}

impl Table {
    pub fn enqueue(&mut self, now: Timestamp) {
        self.active.insert(self.jobs.len());
        self.jobs.push(Job {
            state: State::Queued,
            due: now,
            attempts: Vec::new(),
            submitted: now,
            failures: 0,
            failing_since: None,
            consents: 0,
        });
    }

    /// One step of a job, as the store takes it: fenced by the state machine alone, and on record.
    pub fn step(&mut self, id: usize, event: &Event, now: Timestamp) {
        let job = &mut self.jobs[id];
        match job.state.clone().apply(event) {
            Ok(state) => job.state = state,
            Err(illegal) => return self.broken.push(format!("job {id}: {illegal}")),
        }
        if matches!(event, Event::Requeued | Event::Resubmitted { .. }) {
            job.consents += 1;
        }
        if let Some((n, outcome, _)) = settled_by(event)
            && outcome != Outcome::Open
        {
            let attempt = &mut job.attempts[n.0 as usize - 1];
            if attempt.outcome.may_become(outcome, job.state.has_ended()) {
                attempt.outcome = outcome;
            }
        }
        if job.state.has_ended() {
            self.active.remove(&id)
        } else {
            self.active.insert(id)
        };
        for byte in format!("{id} {} {now}", event.name()).bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The intent: the next attempt of a job is on record before anything leaves.
    pub fn intend(&mut self, id: usize, now: Timestamp, left: Ms) -> AttemptNo {
        let job = &mut self.jobs[id];
        let open = job.attempts.iter().any(|a| a.outcome == Outcome::Open);
        job.attempts.push(Attempt { outcome: Outcome::Open, left });
        let n = job.attempts.len();
        self.ledger.insert((now, id, n - 1), ());
        if open {
            self.broken.push(format!("job {id}: a second attempt while one is open"));
        }
        let attempt = AttemptNo(u32::try_from(n).unwrap());
        self.step(id, &Event::SubmitStarted { attempt }, now);
        attempt
    }

    /// Whether the day's budget has room for one more render.
    pub fn has_budget(&self, cap: u64, now: Timestamp) -> bool {
        let midnight = now.as_millis().div_euclid(DAY as i64) * DAY as i64;
        let (from, to) =
            (Timestamp::from_millis(midnight), Timestamp::from_millis(midnight + 90 * DAY as i64));
        let counts = |(_, id, n): &(Timestamp, usize, usize)| {
            self.jobs[*id].attempts[*n].outcome.charge() != Charge::Free
        };
        let spent =
            self.ledger.range((from, 0, 0)..(to, 0, 0)).filter(|(row, ())| counts(row)).count() as u64;
        (spent + 1) * PRICE.get() <= cap
    }

    /// What holds the provider's slots, or may.
    pub fn flight(&self) -> Flight {
        let states = || self.active.iter().map(|id| &self.jobs[*id].state);
        let wire = states().filter(|state| matches!(state, State::Submitting { .. })).count();
        let all = states().filter(|state| state.in_flight()).count();
        let count = |n: usize| u32::try_from(n).unwrap();
        Flight { on_the_wire: count(wire), tasks: count(all - wire) }
    }
}
