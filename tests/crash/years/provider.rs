//! A provider for years: pure, by true time, with weather that changes. Its tasks are the truth about money.

use std::collections::BTreeMap;
use std::time::Duration;

use klingd::domain::plan::poll::PollAnswer;
use klingd::domain::plan::submit::{Deferral, SubmitAnswer};
use klingd::domain::state::{Charged, Failure};
use klingd::domain::{Credits, TaskId};

use super::{HOUR, Ms, PRICE, SECOND};

/// A render that was charged.
pub struct Task {
    pub job: usize,
    pub attempt: u32,
    ends_at: Ms,
    fails: bool,
    link_dies_at: Ms,
}

/// What goes wrong for some hours.
pub struct Weather {
    /// Of all calls, those that go wrong in some way.
    share: f64,
    per_second: f64,
    slots: usize,
    offline: bool,
    empty: bool,
    wrong_key: bool,
}

pub struct Provider {
    pub tasks: BTreeMap<String, Task>,
    weather: Weather,
    /// When those end that render.
    running: Vec<Ms>,
    tokens: f64,
    filled_at: Ms,
}

/// An answer to a submit, with its wish for quiet; `None` where nobody will ever know.
pub struct Said {
    pub answer: SubmitAnswer,
    pub retry_after: Option<Duration>,
    pub after: Ms,
}

impl Weather {
    pub const GOOD: Self =
        Self { share: 0.0, per_second: 10.0, slots: 8, offline: false, empty: false, wrong_key: false };

    pub fn drawn(dice: &mut fastrand::Rng) -> Self {
        Self {
            share: *dice.choice(&[0.0, 0.0, 0.02, 0.3]).unwrap(),
            per_second: *dice.choice(&[10.0, 1.0, 0.1]).unwrap(),
            slots: dice.usize(1..8),
            offline: dice.u8(..20) == 0,
            empty: dice.u8(..30) == 0,
            wrong_key: dice.u8(..40) == 0,
        }
    }
}

impl Provider {
    pub fn new() -> Self {
        Self {
            tasks: BTreeMap::new(),
            weather: Weather::GOOD,
            running: Vec::new(),
            tokens: 3.0,
            filled_at: 0,
        }
    }

    pub fn turns(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// A person has topped the account up and mended the key.
    pub fn mended(&mut self) {
        (self.weather.empty, self.weather.wrong_key) = (false, false);
    }

    /// Whether a free call shows that the key works.
    pub fn key_works(&self) -> bool {
        !self.weather.wrong_key && !self.weather.offline
    }

    fn charge(&mut self, at: Ms, job: usize, attempt: u32, dice: &mut fastrand::Rng) -> TaskId {
        let id = format!("n75job{job}attempt{attempt}");
        let task = Task {
            job,
            attempt,
            ends_at: at + dice.u64(20..900) * SECOND,
            fails: dice.u8(..30) == 0,
            link_dies_at: Ms::MAX,
        };
        self.running.push(task.ends_at);
        assert!(self.tasks.insert(id.clone(), task).is_none(), "one request, one charge");
        TaskId::parse(&id).unwrap()
    }

    /// A request for one render arrives.
    pub fn submit(&mut self, at: Ms, job: usize, attempt: u32, dice: &mut fastrand::Rng) -> Said {
        let wait = dice.u64(100..900);
        let said = |answer| Said { answer, retry_after: None, after: wait };
        let deferred = |why: Deferral| said(SubmitAnswer::Deferred { why, message: format!("{why:?}") });
        if self.weather.offline {
            return deferred(Deferral::NotSent);
        }
        if self.weather.wrong_key {
            return deferred(Deferral::KeyRefused);
        }
        self.tokens =
            (self.tokens + (at - self.filled_at) as f64 / 1000.0 * self.weather.per_second).min(3.0);
        self.filled_at = at;
        if self.tokens < 1.0 {
            let wish = ((1.0 - self.tokens) / self.weather.per_second).ceil().max(1.0);
            let retry_after = dice.bool().then(|| Duration::from_secs_f64(wish));
            return Said { retry_after, ..deferred(Deferral::RateLimited) };
        }
        self.tokens -= 1.0;
        if self.weather.empty {
            return deferred(Deferral::NoCredits);
        }
        if self.tasks.values().rev().take(200).filter(|task| task.ends_at > at).count() >= self.weather.slots
        {
            return deferred(Deferral::SlotsFull);
        }
        if dice.f64() < self.weather.share {
            return self.goes_wrong(at, job, attempt, wait, dice);
        }
        let task = self.charge(at, job, attempt, dice);
        said(SubmitAnswer::Accepted { task, charged: Some(PRICE), salvaged: false })
    }

    fn goes_wrong(&mut self, at: Ms, job: usize, attempt: u32, wait: Ms, dice: &mut fastrand::Rng) -> Said {
        let unknown = || SubmitAnswer::Unknown { why: "no answer".to_owned() };
        let deferred = |why| SubmitAnswer::Deferred { why, message: "later".to_owned() };
        let (answer, retry_after, after) = match dice.u8(..8) {
            0 | 1 => {
                self.charge(at, job, attempt, dice);
                (unknown(), None, 120 * SECOND)
            }
            2 => (unknown(), None, 120 * SECOND),
            3 => {
                let task = self.charge(at, job, attempt, dice);
                (SubmitAnswer::Accepted { task, charged: None, salvaged: true }, None, wait)
            }
            4 => (deferred(Deferral::InternalError), None, wait),
            5 => {
                let wish = *dice.choice(&[5, 60, 1800, 3 * 3600]).unwrap();
                (deferred(Deferral::Unavailable), Some(Duration::from_secs(wish)), wait)
            }
            6 => (deferred(Deferral::NotSent), None, wait),
            _ => {
                let failure =
                    Failure { code: "INVALID_PROMPT".into(), message: "no".into(), charged: Charged::No };
                (SubmitAnswer::Refused(failure), None, wait)
            }
        };
        Said { answer, retry_after, after }
    }

    /// A status call arrives.
    pub fn status(&mut self, at: Ms, id: &TaskId, dice: &mut fastrand::Rng) -> PollAnswer {
        let unclear = || PollAnswer::Unclear { why: "502".to_owned() };
        if self.weather.offline {
            return unclear();
        }
        if self.weather.wrong_key {
            return PollAnswer::KeyRefused { message: "401".to_owned() };
        }
        if dice.f64() < self.weather.share {
            return match dice.u8(..4) {
                0 => PollAnswer::RateLimited { retry_after: dice.bool().then(|| Duration::from_secs(30)) },
                1 => PollAnswer::NotFound,
                2 => PollAnswer::Running { word: "QUEUED".to_owned() },
                _ => unclear(),
            };
        }
        let Some(task) = self.tasks.get_mut(id.as_str()) else { return PollAnswer::NotFound };
        if task.ends_at > at {
            return PollAnswer::Running { word: "IN_PROGRESS".to_owned() };
        }
        if task.fails {
            return PollAnswer::Failed { message: "content".to_owned(), charged: Some(Credits::ZERO) };
        }
        task.link_dies_at = at + HOUR;
        PollAnswer::Succeeded { urls: vec![format!("https://example.com/{id}.mp4")], charged: Some(PRICE) }
    }

    /// A download: whole, or broken on the way, or its link is dead.
    pub fn download(&mut self, at: Ms, id: &TaskId, dice: &mut fastrand::Rng) -> Result<(), bool> {
        let broken = self.weather.offline || dice.f64() < self.weather.share;
        match self.tasks.get(id.as_str()) {
            Some(task) if task.link_dies_at > at => {
                if broken {
                    Err(false)
                } else {
                    Ok(())
                }
            }
            Some(_) | None => Err(true),
        }
    }

    /// The truth about an attempt.
    pub fn task_of(&self, job: usize, attempt: u32) -> Option<TaskId> {
        let id = format!("n75job{job}attempt{attempt}");
        self.tasks.contains_key(&id).then(|| TaskId::parse(&id).unwrap())
    }
}
