//! What follows from a status call (the table is in provider.md), and when the next one is due.

use std::time::Duration;

use super::super::{
    attempt::Refund,
    credits::Credits,
    event::Event,
    hold::HoldName,
    retry::Dice,
    schedule::Schedule,
    state::{Failure, Link, State, Watch},
    time::Timestamp,
};

/// SUCCESS without a URL: so long it may just be late, then a person is needed (provider.md).
const NO_URL_PATIENCE: Duration = Duration::from_secs(600);
/// A task that status does not know: so long it may not be visible yet, then a person is needed (provider.md).
const NOT_FOUND_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How often a task that waits for a person is still looked at.
const HELD_EVERY: Duration = Duration::from_secs(3600);
/// The first look at a task of which not even the type can be read (interface.md, `poll.first`).
pub const FIRST: Duration = Duration::from_secs(40);
/// The shortest time between two looks that the schedule may choose: the gateway may ask its own upstream at each.
const SHORTEST: Duration = Duration::from_secs(2);
/// The time to the next look where nothing is learned: a SUCCESS whose link is late (interface.md, `poll.every`).
const EVERY: Duration = Duration::from_secs(10);
/// Spread of the next look, so that tasks made together are not asked together.
const JITTER: f64 = 0.1;
/// The longest pause of all status calls after a 429.
pub const LONGEST_QUIET: Duration = Duration::from_secs(3600);
/// Videos one task may bring. The page shows one; more than this is not a list of videos.
pub const MAX_OUTPUTS: usize = 16;

/// The part of the configuration that polling obeys. What a person set holds; `None` is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollPolicy {
    /// The first look after the submit.
    pub first: Option<Duration>,
    /// The shortest time between two looks.
    pub every: Option<Duration>,
    /// The longest, while the task is not held; also to the first look, where that is learned.
    pub slowest: Duration,
    /// The second look at a FAILED.
    pub confirm_failed: Duration,
}

impl PollPolicy {
    fn within(&self, wait: Duration) -> Duration {
        let longest = self.slowest.max(self.every.unwrap_or_default());
        wait.clamp(self.every.unwrap_or(SHORTEST).min(longest), longest)
    }

    fn every(&self) -> Duration {
        self.every.unwrap_or(EVERY).min(self.slowest)
    }
}

/// What a status call showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollAnswer {
    /// Under way; also every word that klingd does not know.
    Running {
        /// The provider's word.
        word: String,
    },
    /// Finished; `urls` may be empty.
    Succeeded {
        /// The videos.
        urls: Vec<String>,
        /// What it says it charged.
        charged: Option<Credits>,
    },
    /// The provider says that it failed.
    Failed {
        /// Its words.
        message: String,
        /// What it says it charged.
        charged: Option<Credits>,
    },
    /// 404 or 422.
    NotFound,
    /// 401; 403 while nothing shows that the key works.
    KeyRefused {
        /// The provider's words.
        message: String,
    },
    /// 403, which firewalls and moderation use too: while the key works, it is this task's alone.
    Forbidden {
        /// The provider's words.
        message: String,
    },
    /// 429.
    RateLimited {
        /// The provider's wish.
        retry_after: Option<Duration>,
    },
    /// Anything else: transport, 5xx, HTML, another task's id. It says nothing about the task.
    Unclear {
        /// What was seen.
        why: String,
    },
}

/// What the plan needs to know besides the answer.
#[derive(Clone, Copy, Debug)]
pub struct PollFacts {
    /// When the task was made.
    pub submitted_at: Timestamp,
    /// Whether the task was made with the key in use.
    pub same_key: bool,
    /// What the ledger counts for the task.
    pub counted: Credits,
    /// The policy.
    pub policy: PollPolicy,
    /// What its kind of render has taught.
    pub schedule: Schedule,
    /// The time in which every open task could have one look.
    pub share: Duration,
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub struct PollPlan {
    /// What happened, or `None` when only the next look moves.
    pub event: Option<Event>,
    /// The videos that the event brings.
    pub urls: Vec<String>,
    /// The next look, or the download's start.
    pub due_at: Timestamp,
    /// No status call at all before this time, since the key is refused.
    pub quiet_until: Option<Timestamp>,
    /// A hold on all submits.
    pub hold: Option<(HoldName, String)>,
    /// The task was still under way: it ends after this look.
    pub running: bool,
}

/// The plan for what a status call showed of a job in `state`.
pub fn seen(state: &State, answer: &PollAnswer, facts: &PollFacts, now: Timestamp, dice: Dice) -> PollPlan {
    let later = next_look(facts, now, dice);
    let running = matches!(answer, PollAnswer::Running { .. });
    let stay =
        PollPlan { event: None, urls: Vec::new(), due_at: later, quiet_until: None, hold: None, running };
    match (answer, state) {
        // A 429 concerns all looks, and says nothing of this task: see `domain/looks.rs`.
        (PollAnswer::Unclear { .. } | PollAnswer::RateLimited { .. }, _) => stay,
        // Our key is every task's key: whichever task shows first that it is refused.
        (PollAnswer::KeyRefused { message }, _) if facts.same_key => {
            let due_at = now + facts.policy.slowest;
            let hold = Some((HoldName::Key, message.clone()));
            PollPlan { hold, due_at, quiet_until: Some(due_at), ..stay }
        }
        (PollAnswer::Succeeded { urls, .. }, State::Downloading { .. }) if !urls.is_empty() => {
            PollPlan { event: Some(Event::LinkRenewed), urls: bounded(urls), due_at: now, ..stay }
        }
        // For this task alone, and a person may have to help: no reason to ask at the pace of a task that is rendered.
        (PollAnswer::KeyRefused { .. } | PollAnswer::Forbidden { .. }, State::Downloading { .. }) => {
            PollPlan { due_at: now + facts.policy.slowest, ..stay }
        }
        // Once SUCCESS, always SUCCESS: whatever a stale cache says, the paid video is asked for again later.
        (_, State::Downloading { link: Link::Fresh | Link::Wanted, .. }) => stay,
        (answer, State::Generating { watch, .. }) => generating(watch, answer, facts, now, stay),
        // A person moved the job while the call was under way; the store's fence would refuse an event anyway.
        (_, _) => stay,
    }
}

fn generating(
    watch: &Watch,
    answer: &PollAnswer,
    facts: &PollFacts,
    now: Timestamp,
    stay: PollPlan,
) -> PollPlan {
    let policy = &facts.policy;
    let becomes = |watch: Watch, due_at: Timestamp| PollPlan {
        event: Some(Event::Watched { watch }),
        due_at,
        ..stay.clone()
    };
    match answer {
        PollAnswer::Succeeded { urls, charged } if !urls.is_empty() => {
            let urls = bounded(urls);
            let outputs = u32::try_from(urls.len()).unwrap_or(1);
            PollPlan {
                event: Some(Event::Succeeded { outputs, charged: *charged }),
                urls,
                due_at: now,
                ..stay
            }
        }
        PollAnswer::Succeeded { .. } => match watch {
            Watch::NoUrl { since, held } => without_url(*since, *held, policy, now, stay),
            Watch::Running | Watch::Failing { .. } | Watch::NotFound { .. } | Watch::OtherKey { .. } => {
                becomes(Watch::NoUrl { since: now, held: false }, now + policy.every())
            }
        },
        PollAnswer::Failed { message, charged } => match watch {
            Watch::Failing { since, .. } if now.since(*since) >= policy.confirm_failed => {
                let refund = Refund::of(facts.counted, *charged);
                let failure = Failure {
                    code: Failure::TASK_FAILED.to_owned(),
                    message: message.clone(),
                    charged: refund.charged(),
                };
                let event = Event::TaskFailed { failure, charged: *charged, done: None };
                PollPlan { event: Some(event), due_at: now, ..stay }
            }
            // Not later than a whole wait from now: `since` lies in the future after a clock that jumped back.
            Watch::Failing { since, .. } => {
                PollPlan { due_at: (*since).min(now) + policy.confirm_failed, ..stay }
            }
            Watch::Running | Watch::NoUrl { .. } | Watch::NotFound { .. } | Watch::OtherKey { .. } => {
                becomes(Watch::Failing { since: now, message: message.clone() }, now + policy.confirm_failed)
            }
        },
        PollAnswer::NotFound => match watch {
            Watch::NotFound { held: true, .. } => PollPlan { due_at: now + HELD_EVERY, ..stay },
            Watch::NotFound { since, held: false } if now.since(*since) >= NOT_FOUND_PATIENCE => {
                becomes(Watch::NotFound { since: *since, held: true }, now + HELD_EVERY)
            }
            Watch::NotFound { held: false, .. } => stay,
            // A task that was known and is not any more: SUCCESS seen once is never unseen.
            Watch::NoUrl { since, held } => without_url(*since, *held, policy, now, stay),
            Watch::Running | Watch::Failing { .. } | Watch::OtherKey { .. } => {
                becomes(Watch::NotFound { since: now, held: false }, stay.due_at)
            }
        },
        PollAnswer::KeyRefused { .. } | PollAnswer::Forbidden { .. } => match watch {
            Watch::OtherKey { .. } => PollPlan { due_at: now + HELD_EVERY, ..stay },
            Watch::Running | Watch::Failing { .. } | Watch::NoUrl { .. } | Watch::NotFound { .. } => {
                becomes(Watch::OtherKey { since: now }, now + HELD_EVERY)
            }
        },
        PollAnswer::Running { .. } => match watch {
            Watch::Running => stay,
            // SUCCESS is sticky even before its URL came.
            Watch::NoUrl { since, held } => without_url(*since, *held, policy, now, stay),
            Watch::Failing { .. } | Watch::NotFound { .. } | Watch::OtherKey { .. } => {
                becomes(Watch::Running, stay.due_at)
            }
        },
        PollAnswer::RateLimited { .. } | PollAnswer::Unclear { .. } => stay,
    }
}

/// SUCCESS was seen and its URL is still not there, whatever the answer calls it now: it ages until a person is told.
fn without_url(
    since: Timestamp,
    held: bool,
    policy: &PollPolicy,
    now: Timestamp,
    stay: PollPlan,
) -> PollPlan {
    if held {
        return PollPlan { due_at: now + HELD_EVERY, ..stay };
    }
    if now.since(since) < NO_URL_PATIENCE {
        return PollPlan { due_at: now + policy.every(), ..stay };
    }
    let event = Some(Event::Watched { watch: Watch::NoUrl { since, held: true } });
    PollPlan { event, due_at: now + HELD_EVERY, ..stay }
}

/// Why there is no other link for a job whose link is dead, if an answer says so: a try that counts towards giving up. A
/// key that is refused for all tasks, a 429 or a broken connection says nothing about links.
pub fn no_fresh_link(state: &State, answer: &PollAnswer, same_key: bool) -> Option<String> {
    let State::Downloading { link: Link::Wanted, .. } = state else { return None };
    match answer {
        PollAnswer::Running { .. }
        | PollAnswer::Succeeded { .. }
        | PollAnswer::Failed { .. }
        | PollAnswer::NotFound => Some("status has no fresh link".to_owned()),
        PollAnswer::Forbidden { message } => Some(format!("status is refused for its task alone: {message}")),
        PollAnswer::KeyRefused { .. } if same_key => None,
        PollAnswer::KeyRefused { message } => {
            Some(format!("it was made with another API key, and today's is refused for it: {message}"))
        }
        PollAnswer::RateLimited { .. } | PollAnswer::Unclear { .. } => None,
    }
}

/// The longest wait that any plan asks for. A look that is due later was put there by a clock that has jumped back since,
/// and is due now: links do not live for ever.
pub fn longest_wait(policy: &PollPolicy) -> Duration {
    let waits = [
        policy.first.unwrap_or_default(),
        policy.slowest,
        policy.every(),
        policy.confirm_failed,
        HELD_EVERY,
        LONGEST_QUIET,
    ];
    waits.into_iter().max().unwrap_or(HELD_EVERY).mul_f64(1.0 + 2.0 * JITTER)
}

/// How long after its submit a task is looked at first.
pub fn first_look(policy: &PollPolicy, schedule: &Schedule, share: Duration) -> Duration {
    policy.first.unwrap_or_else(|| policy.within(schedule.wait(Duration::ZERO, share)))
}

/// When to look again at a task that shows nothing new.
pub fn next_look(facts: &PollFacts, now: Timestamp, dice: Dice) -> Timestamp {
    let policy = &facts.policy;
    let first = policy.first.unwrap_or_default();
    let first_at = facts.submitted_at + first;
    if now < first_at && first_at.since(now) <= first {
        return first_at;
    }
    let age = now.since(facts.submitted_at);
    now + dice.around(policy.within(facts.schedule.wait(age, facts.share)), JITTER)
}

fn bounded(urls: &[String]) -> Vec<String> {
    urls.iter().take(MAX_OUTPUTS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{job_type::JobType, schedule::RenderKind, state::TaskId};

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn facts() -> PollFacts {
        let policy = PollPolicy {
            first: None,
            every: None,
            slowest: Duration::from_secs(300),
            confirm_failed: Duration::from_secs(30),
        };
        let kind = RenderKind { job_type: JobType::StdTextToVideo, duration_s: Some(5) };
        let schedule = Schedule::learn(kind, &[]);
        PollFacts {
            submitted_at: T0,
            same_key: true,
            counted: Credits::new(200),
            policy,
            schedule,
            share: Duration::ZERO,
        }
    }

    /// Looks at a job again and again with the same answer; returns the state and how long it took to settle.
    fn look(mut state: State, answer: &PollAnswer, facts: &PollFacts, until: Duration) -> State {
        let mut now = T0 + Duration::from_secs(60);
        while now.since(T0) < until {
            let plan = seen(&state, answer, facts, now, Dice::new(0.5));
            if let Some(event) = &plan.event {
                state = state.apply(event).unwrap();
            }
            assert!(
                plan.due_at > now || state.lane() != Some(super::super::super::state::Lane::Poll),
                "no busy loop"
            );
            if state.lane() != Some(super::super::super::state::Lane::Poll) {
                break;
            }
            now = plan.due_at;
        }
        state
    }

    fn running() -> State {
        State::Generating { task: TaskId::parse("n75abc").unwrap(), watch: Watch::Running }
    }

    #[test]
    fn a_dead_link_whose_task_is_refused_alone_is_asked_for_slowly_and_not_for_ever() {
        let wanted = State::Downloading {
            task: TaskId::parse("n75abc").unwrap(),
            missing: [0].into(),
            link: Link::Wanted,
        };
        let refused = PollAnswer::KeyRefused { message: "no".into() };
        let forbidden = PollAnswer::Forbidden { message: "no".into() };
        for (answer, same_key) in [(&forbidden, true), (&forbidden, false), (&refused, false)] {
            let plan = seen(&wanted, answer, &PollFacts { same_key, ..facts() }, T0, Dice::new(0.5));
            assert_eq!((plan.event, plan.hold), (None, None), "{answer:?}");
            assert_eq!(plan.due_at, T0 + facts().policy.slowest, "{answer:?}");
            assert!(no_fresh_link(&wanted, answer, same_key).is_some(), "{answer:?}");
        }
        // Today's key is everybody's: that says nothing about this link.
        assert_eq!(no_fresh_link(&wanted, &refused, true), None);
        assert_eq!(no_fresh_link(&running(), &forbidden, true), None);
    }

    #[test]
    fn failed_needs_a_second_look() {
        let failed = PollAnswer::Failed { message: "content policy".into(), charged: None };
        let once = seen(&running(), &failed, &facts(), T0, Dice::new(0.5));
        assert_eq!(once.due_at, T0 + Duration::from_secs(30));
        assert!(matches!(once.event, Some(Event::Watched { watch: Watch::Failing { .. } })));
        let state = look(running(), &failed, &facts(), Duration::from_secs(600));
        let State::Failed { failure, task: Some(_) } = state else { panic!("{state:?}") };
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("TASK_FAILED", "content policy"));
    }

    #[test]
    fn a_failure_that_goes_away_was_none() {
        let failing = State::Generating {
            task: TaskId::parse("n75abc").unwrap(),
            watch: Watch::Failing { since: T0, message: "x".into() },
        };
        let plan = seen(
            &failing,
            &PollAnswer::Running { word: "IN_PROGRESS".into() },
            &facts(),
            T0 + Duration::from_secs(60),
            Dice::new(0.5),
        );
        assert_eq!(plan.event, Some(Event::Watched { watch: Watch::Running }));
    }

    #[test]
    fn no_clock_turns_a_paid_task_into_a_failed_one() {
        let year = Duration::from_secs(365 * 24 * 3600);
        for answer in [
            PollAnswer::Running { word: "IN_PROGRESS".into() },
            PollAnswer::NotFound,
            PollAnswer::KeyRefused { message: "no".into() },
            PollAnswer::Forbidden { message: "no".into() },
            PollAnswer::RateLimited { retry_after: None },
            PollAnswer::Unclear { why: "502".into() },
            PollAnswer::Succeeded { urls: vec![], charged: None },
        ] {
            for same_key in [true, false] {
                let state = look(running(), &answer, &PollFacts { same_key, ..facts() }, year);
                assert!(matches!(state, State::Generating { .. }), "{answer:?}: {state:?}");
            }
        }
    }

    #[test]
    fn what_stays_odd_is_held_for_a_person() {
        let after = |answer: &PollAnswer, s: u64| {
            look(running(), answer, &facts(), Duration::from_secs(s)).needs_person().map(|r| r.as_str())
        };
        let no_url = PollAnswer::Succeeded { urls: vec![], charged: None };
        assert_eq!(after(&no_url, 300), None);
        assert_eq!(after(&no_url, 1200), Some("no_url"));
        assert_eq!(after(&PollAnswer::NotFound, 3600), None);
        assert_eq!(after(&PollAnswer::NotFound, 100_000), Some("unknown_task"));
    }

    #[test]
    fn a_success_without_a_url_reaches_a_person_whatever_is_said_later() {
        let state = State::Generating {
            task: TaskId::parse("n75abc").unwrap(),
            watch: Watch::NoUrl { since: T0, held: false },
        };
        for answer in [
            PollAnswer::Succeeded { urls: vec![], charged: None },
            PollAnswer::NotFound,
            PollAnswer::Running { word: "IN_PROGRESS".into() },
        ] {
            let told = look(state.clone(), &answer, &facts(), Duration::from_secs(1200)).needs_person();
            assert_eq!(told.map(|r| r.as_str()), Some("no_url"), "{answer:?}");
        }
    }

    #[test]
    fn a_refused_key_holds_whichever_task_shows_it() {
        let downloading = State::Downloading {
            task: TaskId::parse("n75abc").unwrap(),
            missing: [0].into(),
            link: Link::Wanted,
        };
        let refused = PollAnswer::KeyRefused { message: "401".into() };
        for state in [running(), downloading] {
            let plan = seen(&state, &refused, &facts(), T0, Dice::new(0.5));
            assert!(matches!(plan.hold, Some((HoldName::Key, _))), "{state:?}");
            assert_eq!(plan.event, None, "{state:?}: it is not the task's fault");
        }
    }

    #[test]
    fn a_second_look_is_near_even_when_the_clock_jumped_back() {
        let state = State::Generating {
            task: TaskId::parse("n75abc").unwrap(),
            watch: Watch::Failing { since: T0 + Duration::from_secs(86_400), message: "x".into() },
        };
        let failed = PollAnswer::Failed { message: "x".into(), charged: None };
        assert_eq!(seen(&state, &failed, &facts(), T0, Dice::new(0.5)).due_at, T0 + Duration::from_secs(30));
    }

    #[test]
    fn success_is_sticky() {
        let downloading = State::Downloading {
            task: TaskId::parse("n75abc").unwrap(),
            missing: [0].into(),
            link: Link::Wanted,
        };
        for answer in [
            PollAnswer::Running { word: "IN_PROGRESS".into() },
            PollAnswer::Failed { message: "x".into(), charged: None },
            PollAnswer::NotFound,
        ] {
            assert_eq!(seen(&downloading, &answer, &facts(), T0, Dice::new(0.5)).event, None, "{answer:?}");
        }
    }
}
