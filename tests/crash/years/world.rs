//! The world: true time, events in its order, a clock that may be wrong, weather, crashes, and a person.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use klingd::domain::event::Source;
use klingd::domain::retry::Dice;
use klingd::domain::state::Failure;
use klingd::domain::{AttemptNo, Charge, Event, HoldName, State, TaskId, Timestamp};

use super::daemon::Daemon;
use super::provider::{Provider, Said, Weather};
use super::table::Table;
use super::{DAY, HOUR, Ms, Plan, SECOND};

/// When the simulation begins, by a clock that is right: at midnight, so that a true day is a budget's.
const T0: Ms = 20_486 * DAY;
/// What a day may cost. Generous: what was paid while the clock was ahead by a year is counted in the ninety days before
/// that date comes, so that a budget that is just enough would be used up in some of them.
pub const CAP: u64 = 30 * super::PRICE.get();
/// Once the faults have stopped, everything rests after so long: a full backlog is worth three days' budgets.
const REST_WITHIN: Ms = 8 * DAY;
/// One boundary of an effect in so many is a crash.
const CRASH: u32 = 700;
/// Submits and status calls that may leave within one second.
const MOST_SUBMITS: usize = 10;
const MOST_LOOKS: usize = 4;

/// What happens at some true time.
pub enum Happens {
    Jobs,
    WeatherTurns,
    ClockJumps,
    ClockIsRight,
    Person,
    Starts,
    /// The daemon of this life looks around, if nothing has made it look since.
    Looks {
        life: u32,
        turn: u64,
    },
    PostArrives {
        life: u32,
        job: usize,
        attempt: AttemptNo,
    },
    PostAnswered {
        life: u32,
        job: usize,
        attempt: AttemptNo,
        said: Said,
    },
    PollArrives {
        life: u32,
        job: usize,
        task: TaskId,
    },
    Fetched {
        life: u32,
        job: usize,
        task: TaskId,
    },
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub digest: u64,
    pub jobs: u64,
    pub charges: u64,
    pub crashes: u64,
    pub jumps: u64,
    pub doubts: u64,
    pub refused: u64,
    pub broken: Vec<String>,
}

pub struct World {
    pub plan: Plan,
    pub now: Ms,
    end: Ms,
    pub dice: fastrand::Rng,
    pub table: Table,
    pub provider: Provider,
    /// The process; nothing while it is down.
    pub daemon: Option<Daemon>,
    life: u32,
    events: BinaryHeap<Reverse<(Ms, u64)>>,
    what: BTreeMap<u64, Happens>,
    next: u64,
    /// How wrong the clock is, and when it was last changed.
    offset: i64,
    jumped_at: Ms,
    jump_days: BTreeSet<Ms>,
    /// The end of the longest quiet that was heard of.
    quiet_until: Ms,
    submits: Vec<Ms>,
    looks: Vec<Ms>,
    spent: BTreeMap<Ms, u64>,
    pub told: Told,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut world = Self {
            plan,
            now: 0,
            end: plan.days * DAY,
            dice: fastrand::Rng::with_seed(plan.seed),
            table: Table::default(),
            provider: Provider::new(),
            daemon: None,
            life: 0,
            events: BinaryHeap::new(),
            what: BTreeMap::new(),
            next: 0,
            offset: 0,
            jumped_at: 0,
            jump_days: BTreeSet::new(),
            quiet_until: 0,
            submits: Vec::new(),
            looks: Vec::new(),
            spent: BTreeMap::new(),
            told: Told::default(),
        };
        for first in
            [Happens::Starts, Happens::Jobs, Happens::WeatherTurns, Happens::ClockJumps, Happens::Person]
        {
            world.after(0, first);
        }
        world
    }

    pub fn live(mut self) -> Told {
        let mut faults_stopped = false;
        while let Some(Reverse((at, key))) = self.events.pop() {
            self.now = at;
            if self.is_over() && !faults_stopped {
                faults_stopped = true;
                self.provider.turns(Weather::GOOD);
                (self.offset, self.jumped_at) = (0, at);
                self.jump_days.insert(at / DAY);
            }
            if at > self.end + REST_WITHIN || (self.is_over() && self.table.active.is_empty()) {
                break;
            }
            let Some(what) = self.what.remove(&key) else { continue };
            self.happens(what);
        }
        self.judge()
    }

    pub fn is_over(&self) -> bool {
        self.now >= self.end
    }

    pub fn after(&mut self, wait: Ms, what: Happens) {
        self.next += 1;
        self.events.push(Reverse((self.now + wait, self.next)));
        self.what.insert(self.next, what);
    }

    /// What the clock says.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(T0 + self.now).unwrap() + self.offset)
    }

    pub fn draw(&mut self) -> Dice {
        Dice::new(self.dice.f64())
    }

    /// A boundary of an effect: says whether the process dies here.
    pub fn dies(&mut self) -> bool {
        if self.is_over() || self.dice.u32(..CRASH) != 0 {
            return false;
        }
        self.told.crashes += 1;
        self.daemon = None;
        let down = self.dice.u64(1..120) * SECOND;
        self.after(down, Happens::Starts);
        true
    }

    fn happens(&mut self, what: Happens) {
        let over = self.is_over();
        match what {
            Happens::Jobs if !over => {
                let now = self.wall();
                let batch = if self.dice.u8(..20) == 0 { 45 } else { self.dice.u32(1..8) };
                (0..batch).for_each(|_| self.table.enqueue(now));
                self.wake();
                let wait = self.dice.u64(HOUR..48 * HOUR);
                self.after(wait, Happens::Jobs);
            }
            Happens::WeatherTurns if !over => {
                let weather = Weather::drawn(&mut self.dice);
                self.provider.turns(weather);
                let wait = self.dice.u64(HOUR..24 * HOUR);
                self.after(wait, Happens::WeatherTurns);
            }
            Happens::ClockJumps if !over => self.clock_jumps(),
            Happens::ClockIsRight => self.set_clock(0),
            Happens::Person => {
                self.person();
                self.after(8 * HOUR, Happens::Person);
            }
            Happens::Starts => {
                self.life += 1;
                let now = self.wall();
                self.daemon = Some(Daemon::start(self.life, self.plan.recover, &mut self.table, now));
                self.wake();
            }
            Happens::Looks { life, turn }
                if self.daemon.as_ref().is_some_and(|d| (d.life, d.turn) == (life, turn)) =>
            {
                Daemon::looks(self);
            }
            Happens::PostArrives { life, job, attempt } => self.post_arrives(life, job, attempt),
            Happens::PostAnswered { life, job, attempt, said } if self.is_alive(life) => {
                self.hears_of_quiet(said.retry_after);
                Daemon::post_answered(self, job, attempt, &said);
            }
            Happens::PollArrives { life, job, task } => {
                let answer = self.provider.status(self.now, &task, &mut self.dice);
                if self.is_alive(life) {
                    Daemon::poll_answered(self, job, &answer);
                }
            }
            Happens::Fetched { life, job, task } if self.is_alive(life) => {
                let fetched = self.provider.download(self.now, &task, &mut self.dice);
                Daemon::fetched(self, job, fetched);
            }
            Happens::Jobs
            | Happens::WeatherTurns
            | Happens::ClockJumps
            | Happens::Looks { .. }
            | Happens::PostAnswered { .. }
            | Happens::Fetched { .. } => {}
        }
    }

    fn is_alive(&self, life: u32) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.life == life)
    }

    /// The doorbell.
    pub fn wake(&mut self) {
        self.look_after(1);
    }

    /// The next look of the daemon, in place of the one that was to come.
    pub fn look_after(&mut self, wait: Ms) {
        if let Some(daemon) = &mut self.daemon {
            daemon.turn += 1;
            let (life, turn) = (daemon.life, daemon.turn);
            self.after(wait, Happens::Looks { life, turn });
        }
    }

    fn clock_jumps(&mut self) {
        let hour = i64::try_from(HOUR).unwrap();
        let year = 365 * 24 * hour;
        let offset = *self.dice.choice(&[hour, -hour, year, -year]).unwrap();
        self.set_clock(offset);
        let wrong = self.dice.u64(HOUR..DAY);
        self.after(wrong, Happens::ClockIsRight);
        let wait = self.dice.u64(2 * DAY..40 * DAY);
        self.after(wait, Happens::ClockJumps);
    }

    fn set_clock(&mut self, offset: i64) {
        if self.is_over() || offset == self.offset {
            return;
        }
        self.told.jumps += 1;
        (self.offset, self.jumped_at) = (offset, self.now);
        self.jump_days.insert(self.now / DAY);
        self.wake();
    }

    /// A request is about to leave: by true time, is it allowed to?
    pub fn leaves(&mut self) {
        // An end that was noted before the clock jumped is worth nothing after it, and a person may lift it.
        if self.now < self.quiet_until {
            self.table
                .broken
                .push(format!("at {}: a submit left inside a quiet that was asked for", self.now));
            self.quiet_until = 0;
        }
        flood(&mut self.submits, self.now, MOST_SUBMITS, "submits", &mut self.table.broken);
    }

    pub fn looks_at(&mut self) {
        flood(&mut self.looks, self.now, MOST_LOOKS, "status calls", &mut self.table.broken);
    }

    fn hears_of_quiet(&mut self, wish: Option<Duration>) {
        let wish = wish.map_or(0, |wish| u64::try_from(wish.as_millis()).unwrap());
        // What was sent before keeps to it as well, but not what a clock's jump has cut short.
        self.quiet_until = self.quiet_until.max(self.now + wish);
    }

    fn post_arrives(&mut self, life: u32, job: usize, attempt: AttemptNo) {
        let said = self.provider.submit(self.now, job, attempt.0, &mut self.dice);
        if self.provider.task_of(job, attempt.0).is_some() {
            let day = self.table.jobs[job].attempts[attempt.0 as usize - 1].left / DAY;
            *self.spent.entry(day).or_default() += super::PRICE.get();
        }
        self.after(said.after, Happens::PostAnswered { life, job, attempt, said });
    }

    /// Three times a day somebody tells the truth about doubts, mends what only a person can, and wants things.
    fn person(&mut self) {
        let now = self.wall();
        self.provider.mended();
        for hold in [HoldName::Key, HoldName::Credits] {
            self.table.holds.remove(&hold);
        }
        for id in self.table.active.clone() {
            let wish = self.dice.u32(..100);
            let event = match &self.table.jobs[id].state {
                State::InDoubt { attempt, .. } => {
                    self.told.doubts += 1;
                    match self.provider.task_of(id, attempt.0) {
                        _ if wish == 0 && !self.is_over() => Event::Resubmitted { attempt: *attempt },
                        _ if wish == 1 => Event::WrittenOff { attempt: *attempt, task: None },
                        Some(task) => {
                            Event::Accepted { attempt: *attempt, task, charged: None, source: Source::Person }
                        }
                        None => Event::ResolvedNotCharged { attempt: *attempt },
                    }
                }
                State::Generating { task, watch } if watch.needs_person().is_some() => {
                    let attempt = AttemptNo(1);
                    Event::Accepted { attempt, task: task.clone(), charged: None, source: Source::Person }
                }
                State::Queued | State::Submitting { .. } | State::Generating { .. } if wish == 2 => {
                    Event::Cancelled
                }
                _ => continue,
            };
            self.table.step(id, &event, now);
            self.table.jobs[id].due = now;
        }
        let last = self.table.jobs.len().saturating_sub(40);
        for id in last..self.table.jobs.len() {
            let event = match &self.table.jobs[id].state {
                State::Failed { failure, task: Some(_) } if failure.code == Failure::LOST => Event::Followed,
                State::Failed { .. } if self.dice.u32(..20) == 0 && !self.is_over() => Event::Requeued,
                _ => continue,
            };
            self.table.step(id, &event, now);
            self.table.jobs[id].due = now;
        }
        self.wake();
    }

    fn judge(mut self) -> Told {
        let mut charges = vec![0_usize; self.table.jobs.len()];
        self.provider.tasks.values().for_each(|task| charges[task.job] += 1);
        let mut broken = Vec::new();
        for (id, job) in self.table.jobs.iter().enumerate() {
            if charges[id] > 1 + job.consents {
                broken.push(format!("job {id} was charged {} times", charges[id]));
            }
        }
        broken.append(&mut self.table.broken);
        for task in self.provider.tasks.values() {
            let outcome = self.table.jobs[task.job].attempts[task.attempt as usize - 1].outcome;
            let counted = matches!(outcome.charge(), Charge::Charged | Charge::InDoubt);
            if !counted && !self.table.active.contains(&task.job) {
                broken.push(format!(
                    "job {}: attempt {} was charged and is {outcome:?}",
                    task.job, task.attempt
                ));
            }
        }
        for id in &self.table.active {
            let job = &self.table.jobs[*id];
            broken.push(format!("job {id} never came to rest: {:?}, due {}", job.state, job.due));
        }
        for (day, spent) in &self.spent {
            let jumped =
                [day.saturating_sub(1), *day, day + 1].iter().any(|day| self.jump_days.contains(day));
            if *spent > CAP && !jumped {
                broken.push(format!("day {day} cost {spent}, more than its budget"));
            }
        }
        Told {
            digest: self.table.digest,
            jobs: self.table.jobs.len() as u64,
            charges: self.provider.tasks.len() as u64,
            broken,
            ..self.told
        }
    }

    /// A quiet that was noted by another clock, or lifted: nobody has to keep it.
    pub fn forgives_a_jump(&mut self) {
        if self.jumped_at + 4 * HOUR > self.now {
            self.quiet_until = 0;
        }
    }
}

/// Notes that one left; more than so many within a second are a flood.
fn flood(times: &mut Vec<Ms>, now: Ms, most: usize, what: &str, broken: &mut Vec<String>) {
    times.retain(|at| at + SECOND > now);
    times.push(now);
    if times.len() > most {
        broken.push(format!("at {now}: {} {what} within a second", times.len()));
        times.clear();
    }
}
