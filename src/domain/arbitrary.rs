//! Arbitrary states and events for the property tests, small on purpose: four attempts and few task ids, so that
//! numbers collide and late evidence meets the attempt it belongs to as often as another.

use proptest::{option, prelude::*};

use super::{
    attempt::AttemptNo,
    credits::Credits,
    event::{Event, Source},
    state::{Charged, Failure, Label, Link, State, TaskId, Watch},
    time::Timestamp,
};

/// Now, in every test that needs one.
pub const T0: Timestamp = Timestamp::from_millis(1_770_000_000_000);

/// So many cases in an ordinary run; `PROPTEST_CASES` asks for more, for a long one.
pub fn at_least(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(cases), ..config }
}

/// A point within two days of [`T0`], on both sides: clocks jump.
pub fn near_now() -> impl Strategy<Value = Timestamp> {
    const TWO_DAYS_MS: i64 = 2 * 24 * 3600 * 1000;
    (-TWO_DAYS_MS..TWO_DAYS_MS).prop_map(|ms| Timestamp::from_millis(T0.as_millis() + ms))
}

pub fn attempt() -> impl Strategy<Value = AttemptNo> {
    (1u32..=4).prop_map(AttemptNo)
}

pub fn task() -> impl Strategy<Value = TaskId> {
    (0u8..4).prop_map(|n| TaskId::parse(&format!("n75task{n}")).unwrap())
}

pub fn failure() -> impl Strategy<Value = Failure> {
    let code = prop_oneof![
        Just(Failure::LOST),
        Just(Failure::TASK_FAILED),
        Just(Failure::WRITTEN_OFF),
        Just("INVALID_PROMPT"),
    ];
    let charged = prop_oneof![Just(Charged::No), Just(Charged::Yes), Just(Charged::Unknown)];
    (code, "\\PC{0,8}", charged).prop_map(|(code, message, charged)| Failure {
        code: code.to_owned(),
        message,
        charged,
    })
}

pub fn watch() -> impl Strategy<Value = Watch> {
    prop_oneof![
        Just(Watch::Running),
        (near_now(), "\\PC{0,8}").prop_map(|(since, message)| Watch::Failing { since, message }),
        (near_now(), any::<bool>()).prop_map(|(since, held)| Watch::NoUrl { since, held }),
        (near_now(), any::<bool>()).prop_map(|(since, held)| Watch::NotFound { since, held }),
        near_now().prop_map(|since| Watch::OtherKey { since }),
    ]
}

/// A state of each label, in the order of [`Label::ALL`].
pub fn states() -> Vec<BoxedStrategy<State>> {
    Label::ALL.into_iter().map(state_of).collect()
}

pub fn state() -> impl Strategy<Value = State> {
    proptest::strategy::Union::new(states())
}

fn state_of(label: Label) -> BoxedStrategy<State> {
    match label {
        Label::Queued => Just(State::Queued).boxed(),
        Label::Submitting => (attempt(), any::<bool>(), option::of(task()))
            .prop_map(|(attempt, cancel, accepted)| State::Submitting { attempt, cancel, accepted })
            .boxed(),
        Label::InDoubt => (attempt(), any::<bool>())
            .prop_map(|(attempt, cancel)| State::InDoubt { attempt, cancel })
            .boxed(),
        Label::Generating => {
            (task(), watch()).prop_map(|(task, watch)| State::Generating { task, watch }).boxed()
        }
        Label::Downloading => {
            let missing = proptest::collection::btree_set(0u32..4, 1..4);
            let link = prop_oneof![Just(Link::Fresh), Just(Link::Wanted)];
            (task(), missing, link)
                .prop_map(|(task, missing, link)| State::Downloading { task, missing, link })
                .boxed()
        }
        Label::Done => task().prop_map(|task| State::Done { task }).boxed(),
        Label::Failed => (failure(), option::of(task()))
            .prop_map(|(failure, task)| State::Failed { failure, task })
            .boxed(),
        Label::Cancelled => option::of(task()).prop_map(|task| State::Cancelled { task }).boxed(),
    }
}

/// One strategy for each kind of event.
pub fn events() -> Vec<BoxedStrategy<Event>> {
    let mut all = evidence();
    all.extend(of_tasks());
    all.extend(of_the_queue());
    all
}

fn why() -> impl Strategy<Value = String> {
    "\\PC{0,8}"
}

fn charged() -> impl Strategy<Value = Option<Credits>> {
    option::of((0u64..1000).prop_map(Credits::new))
}

/// What becomes of an attempt.
pub fn evidence() -> Vec<BoxedStrategy<Event>> {
    let source = prop_oneof![Just(Source::Provider), Just(Source::Salvaged), Just(Source::Person)];
    vec![
        (attempt(), why(), any::<bool>())
            .prop_map(|(attempt, why, reserved)| Event::SubmitDeferred { attempt, why, reserved })
            .boxed(),
        (attempt(), failure())
            .prop_map(|(attempt, failure)| Event::SubmitRefused { attempt, failure })
            .boxed(),
        (attempt(), why()).prop_map(|(attempt, why)| Event::SubmitUnknown { attempt, why }).boxed(),
        (attempt(), task(), charged(), source)
            .prop_map(|(attempt, task, charged, source)| Event::Accepted { attempt, task, charged, source })
            .boxed(),
    ]
}

fn of_tasks() -> Vec<BoxedStrategy<Event>> {
    vec![
        watch().prop_map(|watch| Event::Watched { watch }).boxed(),
        (0u32..4, charged()).prop_map(|(outputs, charged)| Event::Succeeded { outputs, charged }).boxed(),
        (failure(), charged(), proptest::option::of(task()))
            .prop_map(|(failure, charged, done)| Event::TaskFailed { failure, charged, done })
            .boxed(),
        (0u32..4).prop_map(|output| Event::FilePublished { output }).boxed(),
        why().prop_map(|why| Event::LinkExpired { why }).boxed(),
        Just(Event::LinkRenewed).boxed(),
        failure().prop_map(|failure| Event::GaveUp { failure }).boxed(),
    ]
}

fn of_the_queue() -> Vec<BoxedStrategy<Event>> {
    vec![
        Just(Event::Enqueued).boxed(),
        why().prop_map(|what| Event::Edited { what }).boxed(),
        attempt().prop_map(|attempt| Event::SubmitStarted { attempt }).boxed(),
        Just(Event::Cancelled).boxed(),
        attempt().prop_map(|attempt| Event::ResolvedNotCharged { attempt }).boxed(),
        (attempt(), option::of(task()))
            .prop_map(|(attempt, task)| Event::WrittenOff { attempt, task })
            .boxed(),
        attempt().prop_map(|attempt| Event::Resubmitted { attempt }).boxed(),
        Just(Event::Followed).boxed(),
        task().prop_map(|task| Event::FollowedOther { task }).boxed(),
        Just(Event::Requeued).boxed(),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    proptest::strategy::Union::new(events())
}
