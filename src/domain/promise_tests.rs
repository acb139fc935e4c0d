//! The promise, held against arbitrary lives of a job: whatever happens in whatever order, late, twice or under the
//! wrong number.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::{
    arbitrary,
    attempt::{self, AttemptNo, Charge, Outcome},
    event::{Event, Source},
    plan::recover,
    state::{Label, State, TaskId},
};

/// A job and its ledger, kept as the store must keep them: a step that `apply` refuses leaves no trace, a new attempt
/// gets the next number, and an attempt changes only as [`Outcome::may_become`] allows.
struct Life {
    state: State,
    ledger: BTreeMap<AttemptNo, Entry>,
    history: Vec<Event>,
    /// The task that it was done with when it began to follow the one that it follows, if it was.
    done_before: Option<TaskId>,
}

struct Entry {
    outcome: Outcome,
    /// Every id it was ever told: the provider's and those that a person brought.
    tasks: BTreeSet<TaskId>,
    /// A person agreed to pay again after this attempt had begun.
    consent: bool,
}

impl Life {
    fn new() -> Self {
        Self {
            state: State::Queued,
            ledger: BTreeMap::new(),
            history: vec![Event::Enqueued],
            done_before: None,
        }
    }

    /// The event as the world can bring it about: attempts are numbered by the ledger, and the provider gives each
    /// attempt one id. `None` for an outcome of an attempt that never was: the store has no row for it.
    fn possible(&self, event: Event) -> Option<Event> {
        let known = |n: &AttemptNo| self.ledger.contains_key(n);
        match event {
            Event::SubmitStarted { .. } => {
                let last = self.ledger.keys().next_back().map_or(0, |n| n.0);
                Some(Event::SubmitStarted { attempt: AttemptNo(last + 1) })
            }
            Event::Accepted { attempt, charged, source: Source::Provider | Source::Salvaged, .. } => {
                let task = TaskId::parse(&format!("n75attempt{attempt}")).unwrap();
                known(&attempt).then_some(Event::Accepted {
                    attempt,
                    task,
                    charged,
                    source: Source::Provider,
                })
            }
            // A person follows what the ledger knows to be paid.
            Event::FollowedOther { task } => {
                let paid = self.ledger.values().any(|entry| entry.tasks.contains(&task));
                paid.then_some(Event::FollowedOther { task })
            }
            Event::TaskFailed { failure, charged, .. } => {
                Some(Event::TaskFailed { failure, charged, done: self.done_before.clone() })
            }
            event => match attempt::settled_by(&event) {
                Some((n, _, _)) => known(&n).then_some(event),
                None => Some(event),
            },
        }
    }

    /// One step; what it did is checked against what it may do.
    fn step(&mut self, event: Event) {
        let Some(event) = self.possible(event) else { return };
        let before = self.state.clone();
        let Ok(after) = before.clone().apply(&event) else { return };
        if matches!(event, Event::SubmitStarted { .. }) {
            self.check_that_it_may_be_paid();
        }
        check_step(&before, &event, &after);
        self.book(&event);
        if after.task() != before.task() {
            self.done_before = match (&before, &event) {
                (State::Done { task }, Event::FollowedOther { .. }) => Some(task.clone()),
                (_, _) => None,
            };
        }
        self.state = after;
        self.history.push(event);
        self.check_ledger();
    }

    /// A crash and the start after it: what was on the wire is in doubt, or follows a task that is known.
    fn crash(&mut self) {
        let on_the_wire = self.state.label() == Label::Submitting;
        if let Some(event) = recover::orphaned(&self.state) {
            assert!(on_the_wire, "a start moved a job that was not on the wire: {:?}", self.history);
            self.step(event);
        }
        let label = self.state.label();
        assert_ne!(label, Label::Submitting, "nothing is on the wire after a start: {:?}", self.history);
        assert!(!on_the_wire || label != Label::Queued, "a lone intent went back: {:?}", self.history);
        assert_eq!(recover::orphaned(&self.state), None, "a second start finds nothing more to do");
    }

    fn book(&mut self, event: &Event) {
        if matches!(event, Event::Resubmitted { .. } | Event::Requeued) {
            self.ledger.values_mut().for_each(|e| e.consent = true);
        }
        let Some((n, outcome, _)) = attempt::settled_by(event) else { return };
        if outcome == Outcome::Open {
            let fresh = Entry { outcome, tasks: BTreeSet::new(), consent: false };
            assert!(self.ledger.insert(n, fresh).is_none(), "an attempt's number is used once");
            return;
        }
        let entry = self.ledger.get_mut(&n).unwrap();
        if entry.outcome.may_become(outcome, self.state.has_ended()) {
            check_settlement(entry.outcome, event);
            entry.outcome = outcome;
        }
        if let Event::Accepted { task, .. } = event {
            entry.tasks.insert(task.clone());
        }
    }

    /// Promise 2: nothing is paid twice without a person saying so.
    fn check_that_it_may_be_paid(&self) {
        for (n, entry) in &self.ledger {
            match entry.outcome.charge() {
                Charge::Free => {}
                // The provider's documented "try again later": retried by policy, bounded by the plan.
                Charge::Reserved => assert_eq!(entry.outcome, Outcome::InternalError, "attempt {n}"),
                Charge::Charged | Charge::InDoubt => {
                    assert!(entry.consent, "paid again behind attempt {n}: {:?}", self.history);
                }
            }
        }
    }

    fn check_ledger(&self) {
        let open: Vec<_> =
            self.ledger.iter().filter(|(_, e)| e.outcome == Outcome::Open).map(|(n, _)| *n).collect();
        match &self.state {
            State::Submitting { attempt, .. } => assert_eq!(open, [*attempt], "{:?}", self.history),
            State::InDoubt { attempt, .. } => {
                assert_eq!(self.ledger[attempt].outcome, Outcome::Unknown, "{:?}", self.history);
                assert!(open.is_empty());
            }
            State::Queued
            | State::Generating { .. }
            | State::Downloading { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => assert!(open.is_empty(), "{open:?}: {:?}", self.history),
        }
        // Promise 3: a task id is never forgotten, and what has one counts as paid.
        for (n, entry) in self.ledger.iter().filter(|(_, e)| !e.tasks.is_empty()) {
            assert_eq!(entry.outcome, Outcome::Accepted, "attempt {n}: {:?}", self.history);
        }
        if let Some(task) = self.state.task() {
            assert!(
                self.ledger.values().any(|e| e.tasks.contains(task)),
                "{task} belongs to no attempt: {:?}",
                self.history
            );
        }
    }
}

/// What one step may do to a state.
fn check_step(before: &State, event: &Event, after: &State) {
    let said = || format!("{before:?} + {event:?} -> {after:?}");
    if before.task().is_some() && after.label() == Label::Queued {
        assert!(matches!(event, Event::Requeued), "a paid job was queued again: {}", said());
    }
    if let State::InDoubt { attempt: doubted, .. } = before
        && after != before
    {
        let resolved = match event {
            // A task id is evidence, whichever attempt it belongs to.
            Event::Accepted { .. } => true,
            Event::SubmitRefused { attempt, .. }
            | Event::SubmitDeferred { attempt, .. }
            | Event::ResolvedNotCharged { attempt }
            | Event::WrittenOff { attempt, .. }
            | Event::Resubmitted { attempt } => attempt == doubted,
            _ => false,
        };
        assert!(resolved, "doubt went away by itself: {}", said());
    }
    // Accepted from every state: the job knows that it has a task, whatever a person did meanwhile.
    if matches!(event, Event::Accepted { .. }) {
        assert!(after.task().is_some(), "a task id left no trace: {}", said());
    }
    // A task gives way to another task, or to a person's new render: never to nothing.
    if let Some(task) = before.task()
        && after.task() != Some(task)
    {
        let replaced = matches!(event, Event::Accepted { task: new, .. } if after.task() == Some(new));
        let other = matches!(event, Event::FollowedOther { task } if after.task() == Some(task));
        // It has failed, and the videos of the one before are there.
        let back = matches!(event, Event::TaskFailed { done, .. } if after.task() == done.as_ref());
        let again = matches!(event, Event::Requeued);
        assert!(replaced || other || back || again, "a task was forgotten: {}", said());
    }
}

/// Money that may be gone is free again only by the provider's word about this attempt, or a person's.
fn check_settlement(before: Outcome, event: &Event) {
    let (_, after, _) = attempt::settled_by(event).unwrap();
    if before.charge() == Charge::Charged {
        assert_eq!(after.charge(), Charge::Charged, "{event:?} undid a charge");
    }
    if before.charge() == Charge::InDoubt && after.charge() == Charge::Free {
        assert!(matches!(
            event,
            Event::SubmitRefused { .. } | Event::SubmitDeferred { .. } | Event::ResolvedNotCharged { .. }
        ));
    }
}

/// Lives that get somewhere: the common ways often, everything else now and then.
fn life() -> impl Strategy<Value = Vec<Event>> {
    let start = Just(Event::SubmitStarted { attempt: AttemptNo(0) });
    let away_from_the_queue = prop_oneof![
        arbitrary::attempt().prop_map(|attempt| Event::SubmitUnknown { attempt, why: String::new() }),
        arbitrary::attempt().prop_map(|attempt| Event::Resubmitted { attempt }),
        Just(Event::Requeued),
        Just(Event::Cancelled),
    ];
    let to_the_file = prop_oneof![
        Just(Event::Succeeded { outputs: 1, charged: None }),
        Just(Event::FilePublished { output: 0 }),
    ];
    vec(prop_oneof![2 => start, 2 => away_from_the_queue, 1 => to_the_file, 5 => arbitrary::event()], 0..80)
}

proptest! {
    #![proptest_config(arbitrary::at_least(1500))]

    #[test]
    fn the_promise_holds_in_every_life(events in life()) {
        let mut life = Life::new();
        for event in events {
            life.step(event);
        }
    }

    /// Killed after any effect, and started again: the promise holds, whatever is heard or wanted afterwards.
    #[test]
    fn a_start_after_any_step_keeps_the_promise(
        events in life(),
        crashes in vec(any::<bool>(), 80),
    ) {
        let mut life = Life::new();
        for (event, crash) in events.into_iter().zip(crashes) {
            life.step(event);
            // What it would find, if it were killed here.
            if let Some(found) = recover::orphaned(&life.state) {
                let started = life.state.clone().apply(&found).unwrap();
                prop_assert!(!matches!(started.label(), Label::Queued | Label::Submitting), "{:?}", started);
            }
            if crash {
                life.crash();
            }
        }
    }

    /// A history is rows of JSON; read back and replayed it gives the stored state.
    #[test]
    fn a_history_replays_to_the_same_state(events in life()) {
        let mut life = Life::new();
        events.into_iter().for_each(|event| life.step(event));
        let rows: Vec<String> = life.history.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
        let read: Vec<Event> = rows.iter().map(|r| serde_json::from_str(r).unwrap()).collect();
        prop_assert_eq!(&read[0], &Event::Enqueued, "the first row of every history");
        let replayed = read[1..].iter().try_fold(State::Queued, |state, event| state.apply(event));
        prop_assert_eq!(replayed, Ok(life.state));
    }
}

/// The property above is worth something only if lives get everywhere.
#[test]
fn lives_reach_every_state_and_several_attempts() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut labels, mut most) = (BTreeSet::new(), 0);
    for _ in 0..400 {
        let mut one = Life::new();
        for event in life().new_tree(&mut runner).unwrap().current() {
            one.step(event);
            labels.insert(one.state.label());
        }
        most = most.max(one.ledger.len());
    }
    assert_eq!(labels.len(), Label::ALL.len(), "{labels:?}");
    assert!(most >= 4, "at most {most} attempts in one life");
}
