//! Those who use the queue: customers who hand over jobs, a person who settles doubts truthfully and changes their mind, an
//! operator who prunes, reloads, stops and kills.

mod customers;
mod operator;
mod person;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Plan, Result, judge::Offer, world::World};

/// How often somebody who has nothing to do looks again.
const LOOK: Duration = Duration::from_millis(200);

pub struct Traffic<'a> {
    world: &'a World,
    jobs: usize,
    lasts: Duration,
    seed: u64,
    book: Mutex<Book>,
    /// Every job is handed over.
    pub handed_over: Flag,
    /// Everybody goes home.
    pub over: Flag,
}

/// What was said and done.
#[derive(Default)]
pub struct Book {
    pub offered: BTreeMap<String, Offer>,
    /// Jobs queued by a command, whose POST is waited for: when the command began, in milliseconds.
    pub probes: HashMap<String, i64>,
    /// What should not have happened to those who used it.
    pub complaints: Vec<String>,
    /// How often what was done.
    pub done: BTreeMap<&'static str, u64>,
}

impl<'a> Traffic<'a> {
    pub fn new(world: &'a World, plan: &Plan) -> Self {
        Self {
            world,
            jobs: plan.jobs,
            lasts: plan.lasts(),
            seed: plan.seed,
            book: Mutex::default(),
            handed_over: Flag::default(),
            over: Flag::default(),
        }
    }

    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what should not have happened.
    pub fn complain(&self, what: String) {
        self.book().complaints.push(what);
    }

    /// Notes that this was done.
    fn did(&self, what: &'static str) {
        *self.book().done.entry(what).or_default() += 1;
    }

    /// A command that must go well, whatever happens to the daemon. Its standard output.
    fn must(&self, what: &'static str, arguments: &[&str]) -> Result<String> {
        let ran = self.world.klingd(arguments)?;
        self.did(what);
        if ran.code != Some(0) {
            let said = ran.err.lines().last().unwrap_or_default().to_owned();
            self.complain(format!("klingd {} ended with {:?}: {said}", arguments.join(" "), ran.code));
        }
        Ok(ran.out)
    }

    /// Waits until nothing moves any more; false when that took too long.
    pub fn wait_for_rest(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        let mut quiet = 0;
        while begun.elapsed() < patience {
            quiet = if self.rests().unwrap_or(false) { quiet + 1 } else { 0 };
            if quiet == 3 {
                return true;
            }
            self.over.wait_at_most(Duration::from_secs(1));
        }
        false
    }

    fn rests(&self) -> Result<bool> {
        if self.world.dropped()? > 0 {
            return Ok(false);
        }
        let status: serde_json::Value = serde_json::from_str(&self.world.klingd(&["status", "--json"])?.out)?;
        let moving = ["queued", "submitting", "in_doubt", "generating", "downloading"];
        Ok(moving.iter().all(|state| status["jobs"][state] == 0) && status["needs_person"] == 0)
    }
}

/// Something that happens once, and can be waited for.
#[derive(Default)]
pub struct Flag {
    up: Mutex<bool>,
    raised: Condvar,
}

impl Flag {
    pub fn set(&self) {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.raised.notify_all();
    }

    /// Whether it has happened by then.
    pub fn wait_at_most(&self, patience: Duration) -> bool {
        let up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.raised.wait_timeout_while(up, patience, |up| !*up);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
