//! Seeded chaos of the provider: every fault of the vocabulary mixed, with limits on requests and on tasks, links that
//! live shortly, an empty account and a wrong key. The daemon runs in this process, over real sockets and with a real
//! database; a person mends what only a person can, and tells the truth about what is in doubt.

mod person;
mod weather;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use klingd::daemon::Ended;
use klingd::domain::State;
use klingd::domain::job_type::{JobType, Task};
use klingd::domain::request::Draft;
use klingd::sandbox::{self, AcceptKeys, Model, SeenRequest, TaskState, faults};
use tokio_util::sync::CancellationToken;

use self::weather::Weather;
use super::common::{Rig, is_poll, is_post, ms, new_job};
use super::ladder::why;
use super::tally::{Invariant, Tally, Verdict};

/// Seeds in an ordinary run.
const SEEDS: u64 = 300;
/// Seeds of the long one.
const MANY_SEEDS: u64 = 20_000;
/// Lives of one climb.
const CLIMB: u64 = 60;
/// Lives at once: they mostly wait.
const AT_ONCE: usize = 24;
/// Runs of one life at most, each followed by a look of the person.
const MAX_RUNS: usize = 60;
/// A run that has not ended by then hangs. It only bounds a failing test.
const HANGS_AFTER: Duration = Duration::from_secs(100);
/// Status calls for a task that has not ended, until a person gives it up.
const ENOUGH_POLLS: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promise_holds_in_any_weather() {
    prove(0..SEEDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "twenty thousand seeds: half an hour"]
async fn the_promise_holds_in_much_more_weather() {
    prove(SEEDS..SEEDS + MANY_SEEDS).await;
}

/// The list of the faults is by hand, the vocabulary may grow: whatever it has is in the list.
#[test]
fn every_fault_of_the_vocabulary_is_in_the_weather() {
    for word in faults::vocabulary() {
        let listed = match word.point {
            faults::Point::Generate => weather::GENERATE,
            faults::Point::Status => weather::STATUS,
            faults::Point::Video => weather::VIDEO,
            faults::Point::Task => weather::TASK,
        };
        let named = |fault: &&str| fault.trim_start_matches('!').split('=').next() == Some(word.name);
        assert!(listed.iter().any(named), "{}:{} is in no weather", word.point, word.name);
    }
}

/// A rung of the ladder: so many lives by this seed.
pub async fn climb(seed: u64, tally: &mut Tally) {
    let first = seed.wrapping_mul(CLIMB);
    lives((0..CLIMB).map(|n| first.wrapping_add(n)), tally).await;
}

async fn prove(seeds: std::ops::Range<u64>) {
    let mut tally = Tally::of("3 weather");
    lives(seeds, &mut tally).await;
    println!("{}", super::tally::table(std::slice::from_ref(&tally)));
    assert!(tally.verdict.broken.is_empty(), "broken, see above");
    assert!(tally.silent().is_empty(), "never fired: {:?}", tally.silent());
}

async fn lives(seeds: impl IntoIterator<Item = u64>, tally: &mut Tally) {
    let lives = seeds.into_iter().map(|seed| async move {
        let lived = AssertUnwindSafe(live(seed)).catch_unwind().await;
        (seed, lived)
    });
    let mut lived = stream::iter(lives).buffer_unordered(AT_ONCE);
    while let Some((seed, lived)) = lived.next().await {
        match lived {
            Ok((verdict, fired)) => {
                tally.lived(&verdict);
                fired.iter().for_each(|(fault, times)| tally.fired(fault, *times));
            }
            Err(panic) => tally.broke(&format!("seed {seed}"), &why(&*panic)),
        }
    }
}

/// One life, to its rest: what was checked, and what fired.
async fn live(seed: u64) -> (Verdict, BTreeMap<String, u64>) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let weather = Weather::of(seed, &mut dice);
    println!("seed {seed}: {}", weather.rules.join(","));
    let mut rig = Rig::with(weather.options).await;
    if weather.wrong_key {
        rig.sandbox.set_keys(AcceptKeys::Only(vec!["another".to_owned()]));
    }
    if weather.hangs {
        (rig.config.api.submit_timeout, rig.config.api.status_timeout) = (ms(400), ms(200));
        rig.config.download.idle_timeout = ms(300);
    }
    if weather.rules.iter().any(|rule| rule.starts_with("generate:duplicate-task-id")) {
        // An id that the other one's answer has not brought yet, or never will, is indistinguishable from the own one.
        rig.config.submit.workers = 1;
    }
    for n in 0..dice.u64(4..=8) {
        rig.enqueue_job(new_job(&draft(n, &mut dice))).await;
    }
    for run in 0.. {
        if run == MAX_RUNS {
            panic!("it does not come to rest: {}", person::sees(&rig).await);
        }
        let idle = run_until_a_person_is_needed(&rig, weather.impatient).await;
        let acted = person::acts(&rig).await;
        if idle && !acted {
            break;
        }
    }
    rig.check().await;
    (checked(&rig).await, rig.sandbox.fired())
}

/// Runs the daemon to its rest, or until somebody should have a look. Says whether it rests.
async fn run_until_a_person_is_needed(rig: &Rig, impatient: bool) -> bool {
    let failed = |model: &Model| {
        let posts = model.requests().iter().filter(|request| is_post(request)).count();
        posts.saturating_sub(model.charges().len())
    };
    let seen = rig.posts().len().saturating_sub(rig.sandbox.ledger().len());
    let given_up = person::given_up(rig).await;
    let stop = CancellationToken::new();
    let run = rig.daemon(true, stop.clone());
    tokio::pin!(run);
    let look = rig.sandbox.wait_until(|model| {
        let stuck = || stuck_tasks(model.tasks(), model.requests().iter());
        (impatient && failed(model) > seen) || stuck().iter().any(|task| !given_up.contains(task))
    });
    let work = async {
        tokio::select! {
            ended = &mut run => return ended,
            () = look => stop.cancel(),
        }
        run.await
    };
    let ended = tokio::time::timeout(HANGS_AFTER, work).await;
    let Ok(ended) = ended else { panic!("it still moves: {}", person::sees(rig).await) };
    matches!(ended, Ended::Idle { .. })
}

/// Tasks that were asked about often enough and have not ended.
fn stuck_tasks<'a>(
    tasks: &[sandbox::Task],
    requests: impl Iterator<Item = &'a SeenRequest> + Clone,
) -> Vec<String> {
    let running = tasks.iter().filter(|task| task.state == TaskState::InProgress);
    let polls =
        |id: &str| requests.clone().filter(|r| is_poll(r) && r.task_id.as_deref() == Some(id)).count();
    running.filter(|task| polls(&task.id) > ENOUGH_POLLS).map(|task| task.id.clone()).collect()
}

/// What `Rig::check` has held, counted.
async fn checked(rig: &Rig) -> Verdict {
    let jobs = person::jobs(rig).await;
    let count = jobs.len() as u64;
    let done = jobs.iter().filter(|job| matches!(job.state, State::Done { .. })).count() as u64;
    let mut verdict = Verdict::default();
    for (invariant, times) in [
        (Invariant::Kept, count),
        (Invariant::PaidOnce, count),
        (Invariant::OnRecord, count),
        (Invariant::Whole, done),
        (Invariant::Sound, count),
        (Invariant::Secret, 1),
        (Invariant::Clean, 1),
    ] {
        verdict.count(invariant, times);
    }
    let moving = jobs.iter().filter(|job| !job.state.has_ended());
    verdict.check(Invariant::Rests, moving.map(|job| format!("job {} is {:?} at rest", job.id, job.state)));
    verdict
}

/// A job of any type.
fn draft(n: u64, dice: &mut fastrand::Rng) -> Draft {
    let job_type = dice.choice(JobType::ALL).unwrap();
    let url = |file: &str| Some(format!("https://example.com/{file}"));
    let draft = Draft {
        job_type: Some(job_type.as_str().to_owned()),
        prompt: Some(format!("job {n} of this life")),
        ..Draft::default()
    };
    let duration = Some(dice.i64(3..=5));
    match job_type.task() {
        Task::Text => Draft { duration, ..draft },
        Task::Image => Draft { duration, image: url("start.png"), ..draft },
        Task::Reference => Draft { duration, images: url("a.png").map(|image| vec![image]), ..draft },
        Task::Edit => Draft { video: url("input.mp4"), ..draft },
    }
}
