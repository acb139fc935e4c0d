//! What a job's `reason` depends on besides the job: read once for a whole list, so that its rows agree.

use std::collections::HashMap;

use anyhow::Result;
use jiff::tz::TimeZone;

use super::{Context, aim::Aim, arriving::Arriving, usual::Usual};
use crate::{
    clock::local,
    config::Config,
    daemon::claim_policy,
    domain::{
        Job, JobId, Reason, State, Timestamp,
        gate::Gate,
        hold::{Hold, HoldName},
        looks::{KeptLooks, PauseCause},
        state::Lane,
    },
    store::{
        Store,
        budget::{Budget, Cap, Spent},
    },
};

/// The queue around a job, as it stands at `now`.
#[derive(Clone, Debug)]
pub struct View {
    /// The holds that stand, expired ones included.
    pub holds: Vec<Hold>,
    /// The gate's memory.
    pub gate: Gate,
    /// The tasks that may be in flight, when so many are.
    pub full_slots: Option<u32>,
    /// What is known of the limit on status calls.
    pub looks: KeptLooks,
    /// The caps.
    pub budget: Budget,
    /// What counts against them.
    pub spent: Spent,
    /// Jobs that went on while an attempt of theirs is in doubt.
    pub doubts: Vec<JobId>,
    /// Jobs that have ended while an attempt of theirs keeps its credits reserved.
    pub withheld: Vec<JobId>,
    /// Jobs with a paid task that they never followed.
    pub unfollowed: Vec<JobId>,
    /// How long what is under way usually takes.
    pub usual: Usual,
    /// How far downloads are, of the jobs that somebody looked after.
    pub arriving: HashMap<JobId, Arriving>,
    /// Whether the queue is the sandbox's.
    pub sandbox: bool,
    /// The flags that lead a command to it.
    pub aim: Aim,
    /// When this was read.
    pub now: Timestamp,
    /// Where its reader is.
    pub zone: TimeZone,
}

impl View {
    /// Reads it.
    pub async fn read(store: &Store, config: &Config, context: &Context) -> Result<Self> {
        let clock = context.clock;
        let now = clock.now();
        // The base URL and the key of the policy have no say in what may be spent.
        let policy = claim_policy(config, "");
        let budget = policy.budget;
        let gate = store.gate().await?;
        let slots = gate.slots(&policy.gate);
        Ok(Self {
            holds: store.holds().await?,
            full_slots: (store.in_flight().await? >= slots).then_some(slots),
            gate,
            looks: store.looks().await?,
            spent: store.spent(&budget, clock.day_start(now)).await?,
            budget,
            doubts: store.open_doubts().await?,
            withheld: store.withheld().await?,
            unfollowed: store.unfollowed().await?,
            usual: Usual::read(store).await?,
            arriving: HashMap::new(),
            sandbox: config.sandbox,
            aim: context.aim(),
            now,
            zone: local(now).time_zone().clone(),
        })
    }

    /// Nothing around it: enough for a job whose reason, if it has one, is its own.
    pub fn alone(now: Timestamp) -> Self {
        Self {
            holds: Vec::new(),
            gate: Gate::default(),
            full_slots: None,
            looks: KeptLooks::default(),
            budget: Budget::default(),
            spent: Spent::default(),
            doubts: Vec::new(),
            withheld: Vec::new(),
            unfollowed: Vec::new(),
            usual: Usual::default(),
            arriving: HashMap::new(),
            sandbox: false,
            aim: Aim::default(),
            now,
            zone: TimeZone::UTC,
        }
    }

    /// The command that starts a daemon for this queue.
    pub fn start(&self) -> &'static str {
        start(self.sandbox)
    }

    /// Why a job does not move, if it does not.
    pub fn reason(&self, job: &Job) -> Option<Reason> {
        let own = job.reason(&self.holds, self.cap(job).is_some(), self.now);
        // While the gate is closed every queued job waits for it, not only the one that was refused.
        own.or_else(|| {
            (matches!(job.state, State::Queued) && self.closed_until().is_some()).then_some(Reason::Rate)
        })
    }

    /// Whether a task of the job is paid and was never followed.
    pub fn has_second_task(&self, job: &Job) -> bool {
        self.unfollowed.contains(&job.id)
    }

    /// The cap that stops a job, if one does.
    pub fn cap(&self, job: &Job) -> Option<Cap> {
        self.spent.stopped_by(job.estimate, job.max_credits, &self.budget)
    }

    /// The hold that a queued job shows.
    pub fn hold(&self) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.holds(self.now))
    }

    /// Until when the gate is closed, if it is: by its own memory or by a hold on the rate, whichever is later.
    pub fn closed_until(&self) -> Option<Timestamp> {
        let rate = self.holds.iter().filter(|hold| hold.name == HoldName::Rate && hold.holds(self.now));
        rate.filter_map(|hold| hold.until).chain(self.gate.closed(self.now)).max()
    }

    /// Until when nothing is looked at, if status calls pause.
    pub fn no_look_before(&self) -> Option<Timestamp> {
        self.looks.pause(self.now).map(|(until, _)| until)
    }

    /// When a job is worked on next: a look that is due waits for the end of a pause.
    pub fn next_at(&self, job: &Job) -> Option<Timestamp> {
        let pause = self.no_look_before().filter(|_| job.state.lane() == Some(Lane::Poll));
        job.due_at.map(|due| pause.map_or(due, |until| due.max(until)))
    }

    /// What a hold stops, as a sentence begins: a key that status calls were refused with stops them, too.
    pub fn stopped_by(&self, hold: &Hold) -> &'static str {
        match (hold.name, self.looks.pause(self.now)) {
            (HoldName::Key, Some((_, PauseCause::Key))) => "Nothing is submitted or looked at",
            (_, _) => "Nothing is submitted",
        }
    }
}

/// The warning of commands after which jobs could be submitted.
pub fn no_daemon(sandbox: bool) -> String {
    let service = if sandbox { "" } else { " (or systemctl start klingd)" };
    format!(
        "warning: no daemon serves this queue, so nothing is submitted yet; start one: {}{service}",
        start(sandbox)
    )
}

/// The command that starts a daemon. `klingd run` would not serve the sandbox's queue, but submit what waits in the real one.
pub fn start(sandbox: bool) -> &'static str {
    if sandbox { "klingd run --sandbox" } else { "klingd run" }
}
