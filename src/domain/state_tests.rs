use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::*;
use crate::domain::arbitrary;

/// The whole table of a job's life, written from the design and not from the code: a row for each kind of event, a
/// column for each state, the states it may lead to. `-` is illegal, `.` cannot be asked (only a job that waits for
/// an attempt can hear of *this* attempt).
///
/// Rows whose legality hangs on the payload are split: `/this` is the attempt that the job waits for, `/other` any
/// other (late, or wrong), `/its_task` one that made the very task that the job follows; `/none` is SUCCESS without a
/// video, `/unpaid` a retry of a job without a task.
///
/// q queued, s submitting, i in_doubt, g generating, d downloading, D done, f failed, c cancelled
const TABLE: &str = "
                            q    s    i    g    d    D    f    c
enqueued                    -    -    -    -    -    -    -    -
edited                      q    s    -    -    -    -    -    -
submit_started              s    -    -    -    -    -    -    -
submit_deferred/this        .    qgc  qc   .    .    .    .    .
submit_deferred/other       q    s    i    g    d    D    f    c
submit_refused/this         .    fgc  f    .    .    .    .    .
submit_refused/other        q    s    i    g    d    D    f    c
submit_unknown/this         .    ig   i    .    .    .    .    .
submit_unknown/other        q    s    i    g    d    D    f    c
accepted/this               .    gc   gc   .    .    .    .    .
accepted/other              g    s    gc   g    d    D    g    c
watched                     -    -    -    g    -    -    -    -
succeeded                   -    -    -    d    -    -    -    -
succeeded/none              -    -    -    -    -    -    -    -
task_failed                 -    -    -    f    -    -    -    -
task_failed/done_before     -    -    -    D    -    -    -    -
file_published              -    -    -    -    dD   -    -    -
link_expired                -    -    -    -    d    -    -    -
link_renewed                -    -    -    -    d    -    -    -
gave_up                     -    -    -    -    f    -    -    -
cancelled                   c    s    -    c    c    -    -    -
resolved_not_charged/this   .    -    qc   .    .    .    .    .
resolved_not_charged/other  q    s    i    g    d    D    f    c
written_off/this            .    -    f    .    .    .    .    .
written_off/other           q    s    i    g    d    D    f    c
written_off/its_task        .    .    .    gf   d    D    f    c
resubmitted/this            .    -    q    .    .    .    .    .
resubmitted/other           -    -    -    -    -    -    -    -
followed                    -    -    -    -    -    -    g    g
followed/unpaid             -    -    -    -    -    -    -    -
followed_other              -    -    -    -    -    g    g    g
followed_other/its_task     .    -    .    -    -    -    -    -
requeued                    -    -    -    -    -    -    q    q
";

/// What a cell of the table says.
#[derive(Debug, PartialEq, Eq)]
enum Cell {
    CannotBeAsked,
    Illegal,
    LeadsTo(BTreeSet<Label>),
}

fn table() -> BTreeMap<(&'static str, Label), Cell> {
    let letter = |c| match c {
        'q' => Label::Queued,
        's' => Label::Submitting,
        'i' => Label::InDoubt,
        'g' => Label::Generating,
        'd' => Label::Downloading,
        'D' => Label::Done,
        'f' => Label::Failed,
        'c' => Label::Cancelled,
        other => panic!("{other:?} is no state"),
    };
    let cell = |text: &str| match text {
        "." => Cell::CannotBeAsked,
        "-" => Cell::Illegal,
        letters => Cell::LeadsTo(letters.chars().map(letter).collect()),
    };
    let mut rows = TABLE.trim().lines();
    let columns: Vec<Label> =
        rows.next().unwrap().split_whitespace().map(|c| letter(c.chars().next().unwrap())).collect();
    assert_eq!(columns, Label::ALL);
    rows.flat_map(|row| {
        let mut words = row.split_whitespace();
        let name = words.next().unwrap();
        let cells: Vec<_> = words.map(cell).collect();
        assert_eq!(cells.len(), columns.len(), "{name}");
        columns.clone().into_iter().zip(cells).map(move |(label, cell)| ((name, label), cell))
    })
    .collect()
}

/// The attempt that a job in this state waits for.
fn awaited(state: &State) -> Option<AttemptNo> {
    match state {
        State::Submitting { attempt, .. } | State::InDoubt { attempt, .. } => Some(*attempt),
        State::Queued
        | State::Generating { .. }
        | State::Downloading { .. }
        | State::Done { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => None,
    }
}

/// The row of the table for this event in this state.
fn row(state: &State, event: &Event) -> String {
    let name = event.name();
    let split = match event {
        Event::WrittenOff { task: Some(task), .. }
            if awaited(state).is_none() && state.task() == Some(task) =>
        {
            "/its_task"
        }
        Event::SubmitDeferred { attempt, .. }
        | Event::SubmitRefused { attempt, .. }
        | Event::SubmitUnknown { attempt, .. }
        | Event::Accepted { attempt, .. }
        | Event::ResolvedNotCharged { attempt }
        | Event::WrittenOff { attempt, .. }
        | Event::Resubmitted { attempt } => {
            if awaited(state) == Some(*attempt) {
                "/this"
            } else {
                "/other"
            }
        }
        Event::FollowedOther { task } if state.task() == Some(task) => "/its_task",
        Event::Succeeded { outputs: 0, .. } => "/none",
        Event::TaskFailed { done: Some(_), .. } => "/done_before",
        Event::Followed if state.task().is_none() => "/unpaid",
        Event::Enqueued
        | Event::Edited { .. }
        | Event::SubmitStarted { .. }
        | Event::Watched { .. }
        | Event::Succeeded { .. }
        | Event::TaskFailed { done: None, .. }
        | Event::FilePublished { .. }
        | Event::LinkExpired { .. }
        | Event::LinkRenewed
        | Event::GaveUp { .. }
        | Event::Cancelled
        | Event::Followed
        | Event::FollowedOther { .. }
        | Event::Requeued => "",
    };
    format!("{name}{split}")
}

/// Every pair of a state's label and a kind of event, a few hundred times with other payloads. The runner's seed is
/// fixed, so that the second half of the test, which looks at what was reached, does not hang on luck.
#[test]
fn apply_is_the_table_no_more_and_no_less() {
    const ROUNDS: usize = 400;
    let table = table();
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    let (states, events) = (arbitrary::states(), arbitrary::events());
    for _ in 0..ROUNDS {
        for (state, event) in states.iter().flat_map(|s| events.iter().map(move |e| (s, e))) {
            let state = state.new_tree(&mut runner).unwrap().current();
            let event = event.new_tree(&mut runner).unwrap().current();
            let (row, from) = (row(&state, &event), state.label());
            let cell = table
                .get(&(row.as_str(), from))
                .unwrap_or_else(|| panic!("the table has no row for {row} of a job that is {from}"));
            match (state.clone().apply(&event), cell) {
                (Ok(next), Cell::LeadsTo(labels)) => {
                    assert!(labels.contains(&next.label()), "{state:?} + {event:?} -> {next:?}");
                    reached.insert((row, from, Some(next.label())));
                }
                (Err(illegal), Cell::Illegal) => {
                    assert_eq!(illegal, Illegal { state: from, event: event.name() });
                    reached.insert((row, from, None));
                }
                (got, expected) => panic!("{state:?} + {event:?}: {got:?}, the table says {expected:?}"),
            }
        }
    }
    let names: BTreeSet<&str> = table.keys().filter_map(|(row, _)| row.split('/').next()).collect();
    assert_eq!(names.len(), events.len(), "each kind of event is in the table and is asked");
    for ((row, from), cell) in &table {
        let expected: Vec<Option<Label>> = match cell {
            Cell::CannotBeAsked => vec![],
            Cell::Illegal => vec![None],
            Cell::LeadsTo(labels) => labels.iter().copied().map(Some).collect(),
        };
        // `followed` needs a task, so its illegal cells in states without one are the row `/unpaid`, and the other
        // way round.
        let askable = |to: &Option<Label>| to.is_some() || !row.starts_with("followed");
        for to in expected.into_iter().filter(askable) {
            assert!(
                reached.contains(&((*row).to_owned(), *from, to)),
                "no {from} job ever became {to:?} by {row}: the table promises what the code does not do"
            );
        }
    }
}

proptest! {
    #![proptest_config(arbitrary::at_least(512))]

    #[test]
    fn a_state_survives_its_row(state in arbitrary::state()) {
        let text = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(&serde_json::from_str::<State>(&text).unwrap(), &state);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value["state"].as_str(), Some(state.label().as_str()));
    }

    #[test]
    fn an_event_survives_its_row_under_its_name(event in arbitrary::event()) {
        let text = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Event>(&text).unwrap(), &event);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value["event"].as_str(), Some(event.name()));
    }

    /// The spool may be replayed by a start that is killed before it forgets the file.
    #[test]
    fn evidence_heard_twice_changes_nothing_more(
        state in arbitrary::state(),
        event in proptest::strategy::Union::new(arbitrary::evidence()),
    ) {
        let once = state.apply(&event).unwrap();
        prop_assert_eq!(once.clone().apply(&event).unwrap(), once);
    }

    #[test]
    fn who_moves_a_job_and_who_must(state in arbitrary::state()) {
        // The contract: at rest = done, failed, cancelled, or in need of a person; in_doubt always needs one.
        let ended = matches!(state.label(), Label::Done | Label::Failed | Label::Cancelled);
        prop_assert_eq!(state.at_rest(), ended || state.needs_person().is_some());
        if state.label() == Label::InDoubt {
            prop_assert_eq!(state.needs_person(), Some(Reason::InDoubt));
        }
        // Besides doubt, only a job that is paid but stuck needs a person: something of it can be lost.
        if let Some(reason) = state.needs_person() {
            let stuck = matches!(reason, Reason::UnknownTask | Reason::NoUrl | Reason::Lost | Reason::Key);
            prop_assert!(reason == Reason::InDoubt || stuck, "{:?}", reason);
        }
        // What can rest for weeks must not hold a slot that others wait for.
        prop_assert!(!state.at_rest() || !state.in_flight(), "{:?}", state);
        // A paid task that waits for a person is still asked about: the provider may mend it meanwhile.
        let expected = match state.label() {
            Label::Queued => Some(Lane::Submit),
            Label::Generating => Some(Lane::Poll),
            Label::Downloading => state.lane().filter(|lane| *lane != Lane::Submit).or(Some(Lane::Poll)),
            Label::Submitting | Label::InDoubt | Label::Done | Label::Failed | Label::Cancelled => None,
        };
        prop_assert_eq!(state.lane(), expected);
    }
}

#[test]
fn a_task_under_way_holds_a_slot_and_a_stuck_one_does_not() {
    let since = arbitrary::T0;
    let holds = |watch| State::Generating { task: TaskId::parse("n75a").unwrap(), watch }.in_flight();
    assert!(holds(Watch::Running));
    assert!(holds(Watch::NotFound { since, held: false }), "not visible yet");
    assert!(!holds(Watch::NotFound { since, held: true }));
    assert!(!holds(Watch::NoUrl { since, held: false }), "SUCCESS was seen");
    assert!(!holds(Watch::OtherKey { since }), "another account's slot");
    assert!(State::Submitting { attempt: AttemptNo(1), cancel: true, accepted: None }.in_flight());
}

#[test]
fn each_need_of_a_person_has_its_word() {
    let since = arbitrary::T0;
    let generating = |watch| {
        State::Generating { task: TaskId::parse("n75a").unwrap(), watch }.needs_person().map(Reason::as_str)
    };
    assert_eq!(generating(Watch::NoUrl { since, held: true }), Some("no_url"));
    assert_eq!(generating(Watch::NotFound { since, held: true }), Some("unknown_task"));
    assert_eq!(generating(Watch::OtherKey { since }), Some("key"));
    for patient in [
        Watch::Running,
        Watch::Failing { since, message: String::new() },
        Watch::NoUrl { since, held: false },
        Watch::NotFound { since, held: false },
    ] {
        assert_eq!(generating(patient), None);
    }
}

#[test]
fn what_is_on_the_wire_can_not_be_resolved() {
    let (this, other) = (AttemptNo(2), AttemptNo(1));
    let state = State::Submitting { attempt: this, cancel: false, accepted: None };
    for event in
        [Event::ResolvedNotCharged { attempt: this }, Event::WrittenOff { attempt: this, task: None }]
    {
        assert!(state.clone().apply(&event).is_err(), "{event:?}");
    }
    for event in
        [Event::ResolvedNotCharged { attempt: other }, Event::WrittenOff { attempt: other, task: None }]
    {
        assert_eq!(state.clone().apply(&event), Ok(state.clone()), "an older attempt in doubt is settled");
    }
}

#[test]
fn a_person_may_bring_another_id_for_every_task_that_is_stuck() {
    let since = arbitrary::T0;
    let task = |id: &str| TaskId::parse(id).unwrap();
    let brought = Event::Accepted {
        attempt: AttemptNo(1),
        task: task("n75right"),
        charged: None,
        source: crate::domain::event::Source::Person,
    };
    for watch in
        [Watch::NoUrl { since, held: true }, Watch::NotFound { since, held: true }, Watch::OtherKey { since }]
    {
        let stuck = State::Generating { task: task("n75wrong"), watch };
        assert!(stuck.needs_person().is_some());
        assert_eq!(stuck.apply(&brought).unwrap().task(), Some(&task("n75right")));
    }
}

#[test]
fn a_write_off_ends_the_need_of_a_person() {
    let task = TaskId::parse("n75a").unwrap();
    let failure =
        Failure { code: Failure::LOST.to_owned(), message: "dead links".to_owned(), charged: Charged::Yes };
    let lost = State::Failed { failure, task: Some(task.clone()) };
    assert_eq!(lost.needs_person(), Some(Reason::Lost));
    let write_off = |task| lost.clone().apply(&Event::WrittenOff { attempt: AttemptNo(1), task }).unwrap();
    assert_eq!(write_off(None), lost, "an attempt without a task is not the lost one");
    let written_off = write_off(Some(task.clone()));
    assert_eq!(written_off.needs_person(), None);
    assert_eq!(written_off.task(), Some(&task), "it can still be fetched for free");
}

#[test]
fn a_task_that_leads_nowhere_can_be_given_up_and_no_other() {
    let (since, attempt) = (arbitrary::T0, AttemptNo(2));
    let id = |id: &str| TaskId::parse(id).unwrap();
    let generating = |watch| State::Generating { task: id("n75its"), watch };
    let its = Event::WrittenOff { attempt, task: Some(id("n75its")) };
    let other = Event::WrittenOff { attempt: AttemptNo(1), task: Some(id("n75other")) };
    let nobodys = Event::WrittenOff { attempt: AttemptNo(1), task: None };
    for watch in
        [Watch::NoUrl { since, held: true }, Watch::NotFound { since, held: true }, Watch::OtherKey { since }]
    {
        let stuck = generating(watch);
        let ended = stuck.clone().apply(&its).unwrap();
        let State::Failed { failure, task: Some(task) } = &ended else { panic!("{ended:?}") };
        assert_eq!((failure.code.as_str(), failure.charged), (Failure::WRITTEN_OFF, Charged::Yes));
        assert_eq!((task, ended.needs_person()), (&id("n75its"), None));
        for older in [&other, &nobodys] {
            assert_eq!(stuck.clone().apply(older), Ok(stuck.clone()), "an older attempt in doubt is settled");
        }
    }
    for well in [Watch::Running, Watch::NoUrl { since, held: false }, Watch::NotFound { since, held: false }]
    {
        let followed = generating(well);
        assert_eq!(followed.clone().apply(&its), Ok(followed), "nothing paid is dropped while it may come");
    }
}

#[test]
fn a_word_of_a_state_is_its_word_everywhere() {
    let words: BTreeSet<_> = Label::ALL.iter().map(|l| l.as_str()).collect();
    assert_eq!(words.len(), Label::ALL.len());
    for label in Label::ALL {
        assert_eq!(Label::parse(label.as_str()), Some(label));
        assert_eq!(serde_json::to_value(label).unwrap(), label.as_str());
    }
    assert_eq!(Label::parse("Queued"), None);
}

#[test]
fn a_task_id_is_visible_ascii() {
    assert!(TaskId::parse("n75abc123kling3").is_some());
    let longest = "n".repeat(TaskId::MAX_CHARS);
    assert!(TaskId::parse(&longest).is_some());
    for bad in ["", "a b", "a\"b", "a\nb", "é", &format!("{longest}n")] {
        assert_eq!(TaskId::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn a_wish_to_cancel_outlives_doubt() {
    let attempt = AttemptNo(1);
    let on_the_wire = State::Submitting { attempt, cancel: true, accepted: None };
    let doubt = on_the_wire.apply(&Event::SubmitUnknown { attempt, why: String::new() }).unwrap();
    assert_eq!(doubt, State::InDoubt { attempt, cancel: true });
    // Evidence that it was not charged must not queue a cancelled job again: it would be paid.
    for uncharged in [
        Event::SubmitDeferred { attempt, why: String::new(), reserved: false },
        Event::ResolvedNotCharged { attempt },
    ] {
        assert_eq!(doubt.clone().apply(&uncharged).unwrap(), State::Cancelled { task: None });
    }
    let accepted =
        |source| Event::Accepted { attempt, task: TaskId::parse("n75abc").unwrap(), charged: None, source };
    assert_eq!(doubt.clone().apply(&accepted(Source::Provider)).unwrap().label(), Label::Cancelled);
    assert_eq!(doubt.apply(&accepted(Source::Person)).unwrap().label(), Label::Generating);
}
