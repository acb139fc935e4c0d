//! The process: what it looks at, what it sends, and what it makes of answers. It decides nothing itself: `domain` does.
//! It dies at any boundary of an effect, and what is not in the table then is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use klingd::domain::gate::{Admission, GatePolicy};
use klingd::domain::hold::Hold;
use klingd::domain::looks::Looks;
use klingd::domain::plan::download::{DownloadPolicy, FetchFacts, FetchTrouble, RETRY_MAX, failed, given_up};
use klingd::domain::plan::poll::{PollAnswer, PollFacts, PollPolicy, longest_wait, no_fresh_link, seen};
use klingd::domain::plan::submit::{LONGEST_DEFERRAL, SubmitFacts, answered};
use klingd::domain::state::Lane;
use klingd::domain::{AttemptNo, Event, HoldName, JobType, Outcome, RenderKind, Schedule, State, Timestamp};

use super::provider::Said;
use super::table::Table;
use super::world::{CAP, Happens, World};
use super::{Ms, PRICE, SECOND};

const GATE: GatePolicy = GatePolicy {
    start_in_flight: 3,
    max_in_flight: 8,
    cooldown: Duration::from_secs(2),
    cooldown_max: Duration::from_secs(600),
};
const POLL: PollPolicy = PollPolicy {
    first: None,
    every: None,
    slowest: Duration::from_secs(300),
    confirm_failed: Duration::from_secs(30),
};
const DOWNLOAD: DownloadPolicy =
    DownloadPolicy { retry_base: Duration::from_secs(2), give_up: Duration::from_hours(7 * 24) };
/// Status calls a second.
const LOOKS: f64 = 2.0;
const AT_ONCE: u32 = 8;
/// The slow look, which is the guarantee.
const SLOW_LOOK: Ms = 900 * SECOND;
/// Less than this is not slept.
const SHORTEST_SLEEP: Ms = 20;

pub struct Daemon {
    pub life: u32,
    /// Counts its looks, so that there is one to come at a time.
    pub turn: u64,
    looks: Looks,
    schedule: Schedule,
    /// Jobs whose call is under way.
    polls: BTreeSet<usize>,
    fetches: BTreeSet<usize>,
}

impl Daemon {
    /// A start: what was on the wire is recovered before anything else.
    pub fn start(life: u32, recover: fn(&State) -> Option<Event>, table: &mut Table, now: Timestamp) -> Self {
        for id in table.active.clone() {
            if let Some(event) = recover(&table.jobs[id].state) {
                table.step(id, &event, now);
            }
        }
        let mut looks = Looks::new(LOOKS, AT_ONCE, POLL.slowest);
        looks.go_on_from(table.looks.after_restart());
        let kind = RenderKind { job_type: JobType::StdTextToVideo, duration_s: Some(3) };
        let schedule = Schedule::learn(kind, &[]);
        Self { life, turn: 0, looks, schedule, polls: BTreeSet::new(), fetches: BTreeSet::new() }
    }

    /// One look at everything, and the sleep until the next.
    pub fn looks(world: &mut World) {
        let mut wakes = Vec::new();
        let alive =
            Self::submits(world, &mut wakes) && Self::polls(world, &mut wakes) && Self::fetches(world);
        let Some(daemon) = world.daemon.as_ref().filter(|_| alive) else { return };
        let now = world.wall();
        let busy = |id: &usize| daemon.polls.contains(id) || daemon.fetches.contains(id);
        let due = world.table.active.iter().filter(|id| !busy(id)).map(|id| world.table.jobs[*id].due);
        let next = wakes.into_iter().chain(due.filter(|due| *due > now)).filter(|at| *at > now).min();
        let wait = next.map_or(SLOW_LOOK, |at| u64::try_from(at.since(now).as_millis()).unwrap());
        world.look_after(wait.clamp(SHORTEST_SLEEP, SLOW_LOOK));
    }

    /// What may leave now, as the holds say: nothing, one that tries, or all.
    fn most(world: &mut World, now: Timestamp) -> u32 {
        let mut most = u32::MAX;
        for hold in world.table.holds.values_mut() {
            let due = hold.probe_is_due(now);
            if due {
                hold.probe_at = hold.next_probe(now);
            }
            if due && hold.name == HoldName::Key && world.provider.key_works() {
                (hold.until, hold.probe_at) = (Some(hold.since), None);
            }
            let one = hold.is_on_trial(now) || (due && hold.name == HoldName::Credits);
            if one {
                most = most.min(1);
            } else if hold.holds(now) {
                most = 0;
            }
        }
        most
    }

    fn submits(world: &mut World, wakes: &mut Vec<Timestamp>) -> bool {
        let now = world.wall();
        let most = Self::most(world, now);
        let flight = world.table.flight();
        let admitted = match world.table.gate.admits(flight, &GATE, now) {
            _ if world.plan.deaf => 8,
            Admission::Go(n) => n,
            Admission::ClosedUntil(at) => {
                wakes.push(at);
                0
            }
            Admission::Full => {
                wakes.extend(world.table.gate.opens_at(now));
                0
            }
        };
        let trial = if most == 1 && flight.on_the_wire > 0 { 0 } else { most };
        let due = |at: Timestamp| at <= now || at.since(now) > LONGEST_DEFERRAL;
        let queued = world.table.active.iter().copied().filter(|id| {
            let job = &world.table.jobs[*id];
            job.state == State::Queued && due(job.due)
        });
        for id in queued.take(admitted.min(trial) as usize).collect::<Vec<_>>() {
            if !world.plan.spendthrift && !world.table.has_budget(CAP, now) {
                break;
            }
            let attempt = world.table.intend(id, now, world.now);
            world.table.gate = world.table.gate.take(1, now);
            if world.dies() {
                return false;
            }
            let Some(life) = world.daemon.as_ref().map(|daemon| daemon.life) else { return false };
            world.forgives_a_jump();
            world.leaves();
            world.after(50, Happens::PostArrives { life, job: id, attempt });
            if world.dies() {
                return false;
            }
        }
        true
    }

    pub fn post_answered(world: &mut World, id: usize, attempt: AttemptNo, said: &Said) {
        if world.dies() {
            return;
        }
        let (now, dice) = (world.wall(), world.draw());
        let earlier = &world.table.jobs[id].attempts;
        let internal_errors = earlier.iter().filter(|a| a.outcome == Outcome::InternalError).count();
        let facts = SubmitFacts {
            attempt,
            internal_errors: u32::try_from(internal_errors).unwrap(),
            retry_after: said.retry_after,
            key_works: None,
            hold_on_internal_error: false,
            poll_first: Duration::from_secs(40),
        };
        let plan = answered(&said.answer, &facts, now, dice);
        world.told.refused += u64::from(matches!(plan.event, Event::SubmitDeferred { .. }));
        world.table.step(id, &plan.event, now);
        let job = &mut world.table.jobs[id];
        (job.due, job.submitted) = (plan.due_at, now);
        let flight = world.table.flight();
        let dice = world.draw();
        world.table.gate = world.table.gate.hear(plan.gate, plan.retry_after, flight, &GATE, now, dice);
        if matches!(plan.event, Event::Accepted { .. }) {
            world.table.holds.remove(&HoldName::Key);
            world.table.holds.remove(&HoldName::Credits);
        }
        if let Some((name, why, until)) = plan.hold {
            Self::hold(world, Hold { until, ..Hold::new(name, why, now) }, now);
        }
        if !world.dies() {
            world.wake();
        }
    }

    fn hold(world: &mut World, hold: Hold, _: Timestamp) {
        let hold = match world.table.holds.get(&hold.name) {
            Some(earlier) => hold.renewing(earlier),
            None => hold,
        };
        world.table.holds.insert(hold.name, hold);
    }

    fn polls(world: &mut World, wakes: &mut Vec<Timestamp>) -> bool {
        let now = world.wall();
        let Some(daemon) = world.daemon.as_mut() else { return false };
        let longest = longest_wait(&POLL);
        let due = |at: Timestamp| at <= now || at.since(now) > longest;
        let jobs = &world.table.jobs;
        let all = world.table.active.iter().copied().filter(|id| {
            let job = &jobs[*id];
            job.state.lane() == Some(Lane::Poll) && due(job.due) && !daemon.polls.contains(id)
        });
        let all: Vec<usize> = all.collect();
        if all.is_empty() {
            return true;
        }
        let on_the_wire = u32::try_from(daemon.polls.len()).unwrap();
        let got = match daemon.looks.take(all.len(), on_the_wire, now) {
            Ok(got) => got,
            Err(again) => {
                wakes.extend(again);
                return true;
            }
        };
        if got < all.len() {
            wakes.push(now + Duration::from_millis(500));
        }
        let life = daemon.life;
        daemon.polls.extend(&all[..got]);
        for id in &all[..got] {
            let Some(task) = world.table.jobs[*id].state.task().cloned() else { continue };
            world.looks_at();
            let wait = world.dice.u64(50..600);
            world.after(wait, Happens::PollArrives { life, job: *id, task });
        }
        !world.dies()
    }

    pub fn poll_answered(world: &mut World, id: usize, answer: &PollAnswer) {
        if world.dies() {
            return;
        }
        let (now, dice) = (world.wall(), world.draw());
        let open = world.table.active.len();
        let job = &world.table.jobs[id];
        let Some(daemon) = world.daemon.as_mut() else { return };
        daemon.polls.remove(&id);
        let facts = PollFacts {
            submitted_at: job.submitted,
            same_key: true,
            counted: PRICE,
            policy: POLL,
            schedule: daemon.schedule,
            share: Duration::from_secs_f64(open as f64 / LOOKS),
        };
        let plan = seen(&job.state, answer, &facts, now, dice);
        if daemon.looks.hear(answer, now, dice) {
            world.table.looks = daemon.looks.kept();
        }
        if let Some(until) = plan.quiet_until {
            daemon.looks.key_refused(until);
            world.table.looks = daemon.looks.kept();
        }
        if job.state.lane() != Some(Lane::Poll) {
            return;
        }
        let dead = no_fresh_link(&job.state, answer, true);
        if let Some(event) = &plan.event {
            world.table.step(id, event, now);
        }
        world.table.jobs[id].due = plan.due_at;
        if let Some(why) = dead
            && let Some(event) = given_up(&why, &Self::failing(world, id, now), now)
        {
            world.table.step(id, &event, now);
        }
        if let Some((name, why)) = plan.hold {
            Self::hold(world, Hold::new(name, why, now), now);
        }
        if !world.dies() {
            world.wake();
        }
    }

    /// One more failure of a video.
    fn failing(world: &mut World, id: usize, now: Timestamp) -> FetchFacts {
        let job = &mut world.table.jobs[id];
        job.failures += 1;
        let failing_since = *job.failing_since.get_or_insert(now);
        FetchFacts { failures: job.failures, failing_since, retry_after: None, policy: DOWNLOAD }
    }

    fn fetches(world: &mut World) -> bool {
        let now = world.wall();
        let Some(daemon) = world.daemon.as_mut() else { return false };
        let due = |at: Timestamp| at <= now || at.since(now) > RETRY_MAX;
        let life = daemon.life;
        for id in world.table.active.clone() {
            let job = &world.table.jobs[id];
            let Some(daemon) = world.daemon.as_mut() else { return false };
            if job.state.lane() == Some(Lane::Download) && due(job.due) && daemon.fetches.insert(id) {
                let Some(task) = job.state.task().cloned() else { continue };
                let wait = world.dice.u64(SECOND..30 * SECOND);
                world.after(wait, Happens::Fetched { life, job: id, task });
            }
        }
        true
    }

    pub fn fetched(world: &mut World, id: usize, fetched: Result<(), bool>) {
        if world.dies() {
            return;
        }
        let (now, dice) = (world.wall(), world.draw());
        let Some(daemon) = world.daemon.as_mut() else { return };
        daemon.fetches.remove(&id);
        let State::Downloading { missing, .. } = &world.table.jobs[id].state else { return };
        let missing = missing.clone();
        match fetched {
            Ok(()) => {
                for output in missing {
                    world.table.step(id, &Event::FilePublished { output }, now);
                }
                (world.table.jobs[id].failures, world.table.jobs[id].failing_since) = (0, None);
            }
            Err(dead) => {
                let trouble = if dead { FetchTrouble::LinkDead } else { FetchTrouble::Interrupted };
                let facts = Self::failing(world, id, now);
                let plan = failed(trouble, "cut", &facts, now, dice);
                if let Some(event) = &plan.event {
                    world.table.step(id, event, now);
                }
                world.table.jobs[id].due = plan.due_at;
            }
        }
        if !world.dies() {
            world.wake();
        }
    }
}
