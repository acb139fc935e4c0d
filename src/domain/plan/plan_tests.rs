//! What every plan owes: a step that the state machine allows, at a time that neither floods nor stalls.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};

use super::{
    download::{self, DownloadPolicy, FetchFacts, FetchTrouble},
    poll::{self, PollAnswer, PollFacts, PollPolicy},
    recover,
    submit::{self, Deferral, SubmitAnswer, SubmitFacts},
};
use crate::domain::{
    arbitrary::{self, T0},
    attempt::{self, AttemptNo, Charge, Outcome},
    credits::Credits,
    event::Event,
    job_type::JobType,
    retry::Dice,
    schedule::{RenderKind, RenderTime, Schedule},
    state::{Label, Lane, Link, State, TaskId, Watch},
    time::Timestamp,
};

const HOUR: Duration = Duration::from_secs(3600);

fn secs(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn retry_after() -> impl Strategy<Value = Option<Duration>> {
    option::of(prop_oneof![secs(0..100_000), Just(Duration::MAX)])
}

fn poll_answer() -> impl Strategy<Value = PollAnswer> {
    let charged = || option::of((0u64..1000).prop_map(Credits::new));
    let urls = vec(Just("https://cdn.example/v.mp4".to_owned()), 0..40);
    prop_oneof![
        Just(PollAnswer::Running { word: "IN_PROGRESS".to_owned() }),
        (urls, charged()).prop_map(|(urls, charged)| PollAnswer::Succeeded { urls, charged }),
        charged().prop_map(|charged| PollAnswer::Failed { message: "their words".to_owned(), charged }),
        Just(PollAnswer::NotFound),
        Just(PollAnswer::KeyRefused { message: "401".to_owned() }),
        Just(PollAnswer::Forbidden { message: "403".to_owned() }),
        retry_after().prop_map(|retry_after| PollAnswer::RateLimited { retry_after }),
        Just(PollAnswer::Unclear { why: "502".to_owned() }),
    ]
}

/// What any runs could teach, a clock's absurd ones among them.
fn schedule() -> impl Strategy<Value = Schedule> {
    let time = || prop_oneof![4 => 0u64..600_000, 1 => 0u64..100_000_000].prop_map(Duration::from_millis);
    let runs = vec((time(), time()).prop_map(|(after, by)| RenderTime { after, by }), 0..20);
    let kind = RenderKind { job_type: JobType::StdTextToVideo, duration_s: Some(5) };
    runs.prop_map(move |runs| Schedule::learn(kind, &runs))
}

prop_compose! {
    fn poll_facts()(
        submitted_at in arbitrary::near_now(),
        same_key in any::<bool>(),
        counted in 0u64..1000,
        first in option::of(secs(1..3000)),
        every in option::of(secs(1..60)),
        slowest in secs(60..3000),
        confirm_failed in secs(1..3600),
        schedule in schedule(),
        share in secs(0..10_000),
    ) -> PollFacts {
        let policy = PollPolicy { first, every, slowest, confirm_failed };
        PollFacts { submitted_at, same_key, counted: Credits::new(counted), policy, schedule, share }
    }
}

/// What the poller may be asked about.
fn polled() -> impl Strategy<Value = State> {
    let wanted = |task| State::Downloading { task, missing: [0, 2].into(), link: Link::Wanted };
    prop_oneof![
        4 => (arbitrary::task(), arbitrary::watch())
            .prop_map(|(task, watch)| State::Generating { task, watch }),
        1 => arbitrary::task().prop_map(wanted),
    ]
}

fn dice() -> impl Strategy<Value = Dice> {
    (0.0f64..1.0).prop_map(Dice::new)
}

fn submit_answer() -> impl Strategy<Value = SubmitAnswer> {
    let why = prop_oneof![
        Just(Deferral::NotSent),
        Just(Deferral::Held),
        Just(Deferral::RateLimited),
        Just(Deferral::SlotsFull),
        Just(Deferral::Unavailable),
        Just(Deferral::InternalError),
        Just(Deferral::NoCredits),
        Just(Deferral::KeyRefused),
        Just(Deferral::Forbidden),
        Just(Deferral::Moved),
    ];
    prop_oneof![
        (arbitrary::task(), any::<bool>()).prop_map(|(task, salvaged)| SubmitAnswer::Accepted {
            task,
            charged: None,
            salvaged
        }),
        arbitrary::failure().prop_map(SubmitAnswer::Refused),
        why.prop_map(|why| SubmitAnswer::Deferred { why, message: "their words".to_owned() }),
        Just(SubmitAnswer::Unknown { why: "reset".to_owned() }),
    ]
}

prop_compose! {
    fn submit_facts()(
        attempt in arbitrary::attempt(),
        internal_errors in 0u32..5,
        retry_after in retry_after(),
        key_works in option::of(any::<bool>()),
        hold_on_internal_error in any::<bool>(),
        poll_first in secs(1..3000),
    ) -> SubmitFacts {
        SubmitFacts {
            attempt,
            internal_errors,
            retry_after,
            key_works,
            hold_on_internal_error,
            poll_first,
        }
    }
}

fn trouble() -> impl Strategy<Value = FetchTrouble> {
    prop_oneof![
        Just(FetchTrouble::Interrupted),
        Just(FetchTrouble::LinkDead),
        Just(FetchTrouble::WrongBody),
        Just(FetchTrouble::Disk),
        Just(FetchTrouble::Stopped),
    ]
}

proptest! {
    #![proptest_config(arbitrary::at_least(1000))]

    #[test]
    fn a_look_leads_to_a_legal_step_and_a_next_look(
        state in polled(), answer in poll_answer(), facts in poll_facts(), dice in dice(),
    ) {
        let now = T0;
        let plan = poll::seen(&state, &answer, &facts, now, dice);
        prop_assert!(plan.due_at >= now, "in the past: {:?}", plan);
        prop_assert!(plan.due_at <= now + HOUR, "beyond an hour: {:?}", plan);
        if let Some(quiet) = plan.quiet_until {
            prop_assert!(quiet >= now && quiet <= now + HOUR, "{:?}", plan);
        }
        prop_assert_eq!(
            plan.urls.is_empty(),
            !matches!(plan.event, Some(Event::Succeeded { .. } | Event::LinkRenewed)),
            "links come with the event that announces them"
        );
        prop_assert!(plan.urls.len() <= poll::MAX_OUTPUTS);
        let next = match &plan.event {
            Some(event) => state.clone().apply(event).expect("a legal step"),
            None => state.clone(),
        };
        if next.lane() == Some(Lane::Poll) {
            prop_assert!(plan.due_at > now, "asked again at once: {:?}", plan);
        }
        // Absence proves nothing: only FAILED, said twice, ends a task.
        if next.has_ended() {
            prop_assert!(matches!(answer, PollAnswer::Failed { .. }), "{:?}", answer);
            let failing = matches!(&state, State::Generating { watch: Watch::Failing { .. }, .. });
            prop_assert!(failing, "{:?}", state);
        }
        prop_assert_eq!(next.task(), state.task(), "no look changes whose task it is");
        // Our key is everybody's: whichever task shows that it is refused.
        let refused = matches!(answer, PollAnswer::KeyRefused { .. }) && facts.same_key;
        prop_assert_eq!(plan.hold.is_some(), refused);
    }

    /// Whatever the clock does between the looks, and whatever they show: without FAILED, said twice, a paid task is
    /// followed, and looked at again before long.
    #[test]
    fn no_clock_turns_a_paid_task_into_a_failed_one(
        facts in poll_facts(),
        looks in vec((poll_answer(), any::<i64>(), dice()), 1..40),
        small in vec(-100_000i64..100_000, 40),
    ) {
        let task = TaskId::parse("n75a").unwrap();
        let mut state = State::Generating { task: task.clone(), watch: Watch::Running };
        let mut failed = 0;
        for ((answer, jump, dice), step) in looks.iter().zip(&small) {
            // Half of them anywhere in time, half around the truth.
            let now = Timestamp::from_millis(if jump % 2 == 0 { *jump } else { T0.as_millis() + step });
            failed += u32::from(matches!(answer, PollAnswer::Failed { .. }));
            let plan = poll::seen(&state, answer, &facts, now, *dice);
            prop_assert!(plan.due_at <= now + poll::longest_wait(&facts.policy), "{:?} at {:?}", plan, now);
            if let Some(event) = &plan.event {
                state = state.apply(event).expect("a legal step");
            }
            prop_assert_eq!(state.task(), Some(&task));
            prop_assert!(failed >= 2 || !state.has_ended(), "{:?} after {} times FAILED", state, failed);
            if state.lane() != Some(Lane::Poll) {
                break;
            }
        }
    }

    #[test]
    fn an_answer_to_a_submit_leads_to_a_legal_step(
        answer in submit_answer(), facts in submit_facts(), cancel in any::<bool>(), dice in dice(),
    ) {
        let plan = submit::answered(&answer, &facts, T0, dice);
        prop_assert!(plan.due_at >= T0 && plan.due_at <= T0 + HOUR, "{:?}", plan.due_at);
        let state = State::Submitting { attempt: facts.attempt, cancel, accepted: None };
        let next = state.apply(&plan.event).expect("a legal step");
        let settled = attempt::settled_by(&plan.event);
        let (attempt, outcome, _) = settled.expect("a submit's answer settles its attempt");
        prop_assert_eq!(attempt, facts.attempt);
        let money = outcome.charge();
        match (&answer, next.label()) {
            (SubmitAnswer::Accepted { .. }, Label::Generating) => prop_assert_eq!(money, Charge::Charged),
            (SubmitAnswer::Accepted { .. }, Label::Cancelled) => {
                prop_assert!(cancel && money == Charge::Charged);
            }
            (SubmitAnswer::Refused(_), Label::Failed) => prop_assert_eq!(money, Charge::Free),
            (SubmitAnswer::Unknown { .. }, Label::InDoubt) => prop_assert_eq!(money, Charge::InDoubt),
            (SubmitAnswer::Deferred { why, .. }, Label::Queued | Label::Cancelled) => {
                let by_their_word = *why == Deferral::InternalError;
                let expected = if by_their_word { Charge::Reserved } else { Charge::Free };
                prop_assert_eq!(money, expected);
                prop_assert_eq!(cancel, next.label() == Label::Cancelled);
                if by_their_word {
                    prop_assert!(!facts.hold_on_internal_error);
                    prop_assert!(facts.internal_errors < submit::MAX_INTERNAL_ERRORS, "a third time");
                }
            }
            (SubmitAnswer::Deferred { why: Deferral::InternalError, .. }, Label::InDoubt) => {
                prop_assert_eq!(money, Charge::InDoubt);
            }
            (SubmitAnswer::Deferred { why: Deferral::Forbidden, .. }, Label::Failed) => {
                prop_assert_eq!((money, facts.key_works), (Charge::Free, Some(true)));
            }
            (answer, label) => prop_assert!(false, "{:?} made it {}", answer, label),
        }
    }

    #[test]
    fn a_failed_fetch_leads_to_a_legal_step_and_never_to_a_submit(
        trouble in trouble(), failures in 1u32..500, since in arbitrary::near_now(), dice in dice(),
        retry_base in secs(1..60), give_up in secs(60..100_000),
    ) {
        let policy = DownloadPolicy { retry_base, give_up };
        let facts = FetchFacts { failures, failing_since: since, retry_after: None, policy };
        let plan = download::failed(trouble, "404", &facts, T0, dice);
        prop_assert!(plan.due_at >= T0 && plan.due_at <= T0 + HOUR);
        let task = TaskId::parse("n75a").unwrap();
        let state = State::Downloading { task, missing: [0].into(), link: Link::Fresh };
        let next = match &plan.event {
            Some(event) => state.clone().apply(event).expect("a legal step"),
            None => state.clone(),
        };
        prop_assert_eq!(next.task(), state.task());
        if next.has_ended() {
            prop_assert!(T0.since(since) >= give_up);
            prop_assert!(failures >= 5, "given up after {} tries", failures);
            prop_assert!(!matches!(trouble, FetchTrouble::Disk | FetchTrouble::Stopped));
        } else if !matches!(trouble, FetchTrouble::Stopped) {
            prop_assert!(plan.due_at > T0, "a dead link is not hammered");
        }
    }

    #[test]
    fn a_start_doubts_exactly_what_was_on_the_wire(state in arbitrary::state()) {
        match (recover::orphaned(&state), &state) {
            (Some(event), State::Submitting { attempt, accepted, .. }) => {
                prop_assert_eq!(attempt::settled_by(&event), Some((*attempt, Outcome::Unknown, None)));
                let next = state.clone().apply(&event).unwrap();
                let expected = if accepted.is_some() { Label::Generating } else { Label::InDoubt };
                prop_assert_eq!(next.label(), expected);
                prop_assert_eq!(recover::orphaned(&next), None, "a second start changes nothing");
            }
            (None, state) => prop_assert_ne!(state.label(), Label::Submitting),
            (Some(event), state) => prop_assert!(false, "{:?} for {:?}", event, state),
        }
    }
}

#[test]
fn the_attempt_of_a_doubled_task_is_doubted() {
    let task = TaskId::parse("n75a").unwrap();
    let event = submit::claimed_twice(AttemptNo(2), &task, crate::domain::JobId(7));
    let state = State::Submitting { attempt: AttemptNo(2), cancel: false, accepted: None };
    assert_eq!(state.apply(&event).unwrap(), State::InDoubt { attempt: AttemptNo(2), cancel: false });
}
