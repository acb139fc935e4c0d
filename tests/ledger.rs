//! The ledger at the level of the store: its upgrade, its sums after arbitrary lives, the caps, and clocks that jump.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{borrow::Cow, path::Path, time::Duration};

use futures_util::future::join_all;
use klingd::{
    domain::{
        AttemptNo, Credits, Event, JobId, Outcome, Request, TaskId, Timestamp,
        event::Source,
        evidence::Evidence,
        gate::{GateNews, GatePolicy},
        job::NewJob,
        plan::{poll::PollPlan, retry::RetryPlan, submit::SubmitPlan},
        request::Draft,
        retry::Dice,
        state::{Charged, Failure, Label},
    },
    store::{
        Access, Store, StoreError,
        budget::Budget,
        enqueue::NewBatch,
        ledger::{Group, Key, Sums},
        open::OpenError,
        person::Resolution,
        submit::{ClaimPolicy, Intent, SubmitOutcome},
        view::Filter,
    },
};
use sqlx::{Connection as _, SqliteConnection, migrate::Migrator};
use tempfile::TempDir;

const GATE: GatePolicy = GatePolicy {
    start_in_flight: 1000,
    max_in_flight: 1000,
    cooldown: Duration::from_secs(2),
    cooldown_max: Duration::from_secs(600),
};
const DAY_MS: i64 = 86_400_000;
/// Midnight of some day, by the clock of these tests.
const MIDNIGHT: Timestamp = Timestamp::from_millis(20_000 * DAY_MS);

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// The start of a day where the local time is UTC.
fn day_of(t: Timestamp) -> Timestamp {
    Timestamp::from_millis(t.as_millis().div_euclid(DAY_MS) * DAY_MS)
}

fn credits(n: u64) -> Credits {
    Credits::new(n)
}

struct Queue {
    store: Store,
    budget: Budget,
    dir: TempDir,
}

impl Queue {
    async fn new(budget: Budget) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("klingd.db"), Access::Use).await.unwrap();
        Self { store, budget, dir }
    }

    async fn sql(&self, statement: &'static str) -> Result<(), sqlx::Error> {
        let url = format!("sqlite://{}", self.dir.path().join("klingd.db").display());
        let mut connection = SqliteConnection::connect(&url).await?;
        sqlx::query(statement).execute(&mut connection).await.map(|_| ())
    }

    /// Queues a job that is expected to cost so much.
    async fn enqueue(&self, estimate: u64, tags: &[&str]) -> JobId {
        let jobs = vec![new_job(estimate, tags)];
        let batch = NewBatch { name: "lighthouse".into(), source: "tests".into(), max_credits: None, jobs };
        self.store.enqueue(batch, MIDNIGHT).await.unwrap()[0].id
    }

    async fn claim(&self, workers: u32, now: Timestamp) -> Vec<Intent> {
        let policy = ClaimPolicy {
            gate: GATE,
            budget: self.budget,
            base_url: "https://kling3api.com".into(),
            key_fingerprint: "0a1b2c3d".into(),
        };
        self.store.claim_submits(workers, &policy, now, day_of(now)).await.unwrap().intents
    }

    async fn answered(&self, job: JobId, event: Event, now: Timestamp) {
        let (Event::Accepted { attempt, .. }
        | Event::SubmitDeferred { attempt, .. }
        | Event::SubmitRefused { attempt, .. }
        | Event::SubmitUnknown { attempt, .. }) = event
        else {
            unreachable!("an answer to a submit")
        };
        let plan = SubmitPlan {
            event,
            due_at: now,
            gate: GateNews::Nothing,
            retry_after: None,
            hold: None,
            error: None,
        };
        let (evidence, dice) = (Evidence::default(), Dice::new(0.5));
        let outcome = SubmitOutcome { job, attempt, plan, evidence, note: None, gate: GATE, now, dice };
        self.store.settle_submit(outcome).await.unwrap();
    }

    /// A submit that is accepted at this price.
    async fn accepted(&self, intent: &Intent, charged: Option<u64>, now: Timestamp) {
        let Intent { job, attempt, .. } = *intent;
        let (task, charged) = (task(job, attempt), charged.map(credits));
        self.answered(job, Event::Accepted { attempt, task, charged, source: Source::Provider }, now).await;
    }

    async fn polled(&self, job: JobId, event: Event, now: Timestamp) {
        let urls = vec!["https://cdn.example.com/a.mp4".to_owned()];
        let plan =
            PollPlan { event: Some(event), urls, due_at: now, quiet_until: None, hold: None, running: false };
        let version = self.store.job(job).await.unwrap().version;
        self.store.settle_poll(job, version, plan, None, None, now).await.unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "the writer of a test")]
async fn open(path: &Path, access: Access) -> Result<Store, StoreError> {
    let (store, writer) = Store::open(path, access).await?;
    tokio::spawn(writer.run());
    Ok(store)
}

fn new_job(estimate: u64, tags: &[&str]) -> NewJob {
    let draft = Draft {
        job_type: Some("std-text-to-video".into()),
        prompt: Some("a boat".into()),
        ..Draft::default()
    };
    let request = Request::parse(&draft).unwrap();
    NewJob {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        again: true,
        estimate: credits(estimate),
        ..NewJob::of(request, "tests")
    }
}

fn task(job: JobId, attempt: AttemptNo) -> TaskId {
    TaskId::parse(&format!("n75j{job}a{attempt}")).unwrap()
}

fn task_failed(charged: Option<u64>) -> Event {
    let (code, message) = (Failure::TASK_FAILED.to_owned(), String::new());
    let failure = Failure { code, message, charged: Charged::Unknown };
    Event::TaskFailed { failure, charged: charged.map(credits), done: None }
}

/// A database of the first schema with an attempt in every outcome is brought over, row by row; only the daemon does it.
#[tokio::test]
async fn a_queue_of_the_first_schema_keeps_its_money() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("klingd.db");
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut old = SqliteConnection::connect(&url).await.unwrap();
    let all = sqlx::migrate!();
    let first = Migrator { migrations: Cow::Owned(vec![all.migrations[0].clone()]), ..Migrator::DEFAULT };
    first.run_direct(None, &mut old, false).await.unwrap();
    sqlx::raw_sql(
        r#"INSERT INTO batches VALUES (1, 'lighthouse', 'tests', 0);
           INSERT INTO jobs (version, state, data, needs_person, in_flight, priority, batch_id, tags, take, key, type,
               request, estimate, created_at, source)
           VALUES (1, 'queued', '{"state":"queued"}', 0, 0, 0, 1, '["night"]', 1, 'k', 'std-text-to-video', '{}', 200, 0, 't')"#,
    )
    .execute(&mut old)
    .await
    .unwrap();
    for (n, outcome) in (1..).zip(Outcome::ALL) {
        let said = (outcome == Outcome::Accepted).then_some(210);
        sqlx::query(
            "INSERT INTO attempts (job_id, n, started_at, request, request_sha256, base_url, key_fingerprint, estimate,
                 outcome, charge, charged, answered_at, evidence)
             VALUES (1, ?, ?, x'7b7d', 'h', 'https://kling3api.com', 'f', 200, ?, ?, ?, 5, ?)",
        )
        .bind(n)
        .bind(i64::from(n) * 1000)
        .bind(outcome.as_str())
        .bind(outcome.charge().as_str())
        .bind(said)
        .bind(said.map(|_| r#"{"took_ms":7}"#))
        .execute(&mut old)
        .await
        .unwrap();
    }
    old.close().await.unwrap();

    let refused = open(&path, Access::Use).await.err().expect("only the daemon migrates");
    assert!(matches!(refused, StoreError::Open(OpenError::OlderSchema { found: 1, .. })), "{refused}");
    let store = open(&path, Access::Migrate).await.unwrap();
    assert!(path.with_extension("schema-1.bak").exists(), "a copy was made first");
    assert_eq!(store.check().await.unwrap(), [""; 0]);
    let attempts = store.attempts(JobId(1)).await.unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|a| (a.outcome, a.charge.as_str(), a.estimate.get(), a.charged.map(Credits::get), a.started_at))
        .collect();
    let expected: Vec<_> = (1..)
        .zip(Outcome::ALL)
        .map(|(n, outcome)| {
            let charged = (outcome == Outcome::Accepted).then_some(210);
            (outcome, outcome.charge().as_str(), 200, charged, Timestamp::from_millis(n * 1000))
        })
        .collect();
    assert_eq!(told, expected);
    let answered = attempts.iter().filter(|a| a.answered_at.is_some()).map(|a| a.outcome);
    assert_eq!(answered.collect::<Vec<_>>(), [Outcome::Accepted], "only where an answer was kept");
    let sums = Sums {
        charged: credits(210 + 200),
        refunded: Credits::ZERO,
        reserved: credits(400),
        in_doubt: credits(200),
    };
    assert_eq!(store.sums_ever().await.unwrap(), sums);
    let [batch] = &store.spending(Group::Batch, None).await.unwrap()[..] else { panic!("one batch") };
    assert_eq!((&batch.key, batch.sums, batch.attempts), (&Key::Batch("lighthouse".into()), sums, 5));
}

/// What stands in the ledger stands there for ever, whatever becomes of its job.
#[tokio::test]
async fn the_ledger_is_never_pruned() {
    let queue = Queue::new(Budget::default()).await;
    let id = queue.enqueue(200, &[]).await;
    queue.claim(1, MIDNIGHT).await;
    let refused = queue.sql("DELETE FROM ledger").await.unwrap_err();
    assert!(refused.to_string().contains("never pruned"), "{refused}");
    queue.sql("DELETE FROM attempts").await.unwrap();
    queue.sql("DELETE FROM jobs").await.unwrap();
    assert!(queue.store.job(id).await.is_err());
    assert_eq!(queue.store.sums_ever().await.unwrap().reserved, credits(200));
}

/// An attempt that nobody answered has no time of an answer, and what a person says of it is none either.
#[tokio::test]
async fn an_orphan_was_not_answered() {
    let queue = Queue::new(Budget::default()).await;
    let id = queue.enqueue(200, &[]).await;
    queue.claim(1, MIDNIGHT).await;
    queue.store.orphan(queue.store.job(id).await.unwrap(), MIDNIGHT).await.unwrap();
    assert_eq!(queue.store.attempts(id).await.unwrap()[0].answered_at, None);
    queue.store.resolve(id, AttemptNo(1), Resolution::NotCharged, None, MIDNIGHT).await.unwrap();
    assert_eq!(queue.store.attempts(id).await.unwrap()[0].answered_at, None);
    let [second] = &queue.claim(1, MIDNIGHT).await[..] else { panic!("it is queued again") };
    queue.accepted(second, None, MIDNIGHT).await;
    assert_eq!(queue.store.attempts(id).await.unwrap()[1].answered_at, Some(MIDNIGHT));
}

/// The task of an attempt is replaced by a person: what the old one was charged, and given back, says nothing of it.
#[tokio::test]
async fn another_task_is_counted_anew() {
    let queue = Queue::new(Budget::default()).await;
    let id = queue.enqueue(200, &[]).await;
    let intents = queue.claim(1, MIDNIGHT).await;
    queue.accepted(&intents[0], Some(210), MIDNIGHT).await;
    queue.polled(id, task_failed(Some(0)), MIDNIGHT).await;
    assert_eq!(queue.store.sums_ever().await.unwrap().spent(), Credits::ZERO);
    let other = TaskId::parse("n75other").unwrap();
    queue.store.resolve(id, AttemptNo(1), Resolution::Adopt(other), None, MIDNIGHT).await.unwrap();
    assert_eq!(queue.store.job(id).await.unwrap().state.label(), Label::Generating);
    let sums = queue.store.sums_ever().await.unwrap();
    assert_eq!((sums.charged, sums.refunded), (credits(200), Credits::ZERO));
}

/// A clock that is set back does not open yesterday's budget again; today's spending counts until its day has come.
#[tokio::test]
async fn a_clock_that_jumps_back_opens_no_budget() {
    let queue = Queue::new(Budget { per_day: credits(400), ..Budget::default() }).await;
    for _ in 0..6 {
        queue.enqueue(200, &[]).await;
    }
    let noon = MIDNIGHT + hours(12);
    let claimed = async |now| queue.claim(10, now).await.len();
    assert_eq!(claimed(noon).await, 2, "the day's cap");
    for back in [1, 13, 24, 6 * 24, 80 * 24] {
        assert_eq!(claimed(noon - hours(back)).await, 0, "{back} hours back");
    }
    assert_eq!(claimed(MIDNIGHT + hours(24)).await, 2, "a new day");
    assert_eq!(queue.store.latest_intent().await.unwrap(), Some(MIDNIGHT + hours(24)));
}

/// A clock that was once ahead by years stops nothing for years: what it dated counts in its own day and in the total.
#[tokio::test]
async fn a_clock_that_was_wrong_by_years_locks_no_budget() {
    let budget = Budget { per_day: credits(400), total: credits(1000), ..Budget::default() };
    let queue = Queue::new(budget).await;
    for _ in 0..8 {
        queue.enqueue(200, &[]).await;
    }
    assert_eq!(queue.claim(10, MIDNIGHT + hours(3 * 365 * 24)).await.len(), 2);
    assert_eq!(queue.claim(10, MIDNIGHT).await.len(), 2, "today's own budget");
    assert_eq!(queue.claim(10, MIDNIGHT + hours(24)).await.len(), 1, "the total knows no clock");
}

/// However many jobs in front cost more than is left, those behind them that fit are paid for, in order, to the last
/// credit that is left; and when none fits, the queue says that nothing moves.
#[tokio::test]
async fn what_does_not_fit_starves_nobody_behind_it() {
    let queue = Queue::new(Budget { total: credits(700), ..Budget::default() }).await;
    queue.enqueue(400, &[]).await;
    assert_eq!(queue.claim(1, MIDNIGHT).await.len(), 1);
    for _ in 0..60 {
        queue.enqueue(400, &[]).await;
    }
    let [first, _, cheap] =
        [queue.enqueue(200, &[]).await, queue.enqueue(150, &[]).await, queue.enqueue(100, &[]).await];
    let claimed: Vec<_> = queue.claim(3, MIDNIGHT).await.iter().map(|intent| intent.job).collect();
    assert_eq!(claimed, [first, cheap], "the first reservation leaves no room for the one between them");
    assert_eq!(queue.claim(3, MIDNIGHT).await.len(), 0);
    assert_eq!(queue.store.sums_ever().await.unwrap().reserved, credits(700));
}

const CAPS: Budget =
    Budget { per_job: Credits::new(400), per_day: Credits::new(1000), total: Credits::new(3000) };

/// Arbitrary lives: several workers claim at once, everything happens to what they claimed, and the clock goes on by
/// hours. At every instant each cap holds; at the end the running total is the sum of the rows, and both are what the
/// attempts say one by one.
#[tokio::test]
async fn no_life_overshoots_a_cap_and_the_sums_stay_true() {
    for seed in 0..3 {
        println!("seed {seed}");
        let mut dice = fastrand::Rng::with_seed(seed);
        let queue = Queue::new(CAPS).await;
        let mut now = MIDNIGHT;
        let mut fullest = (Credits::ZERO, Credits::ZERO);
        for _ in 0..30 {
            for _ in 0..dice.usize(1..4) {
                queue.enqueue(dice.u64(1..=420), &[]).await;
            }
            let workers = (0..3).map(|_| queue.claim(2, now));
            let mut intents: Vec<_> = join_all(workers).await.into_iter().flatten().collect();
            // Which worker was first is chance; what becomes of a job is the seed's.
            intents.sort_unstable_by_key(|intent| intent.job);
            for intent in intents {
                assert!(intent.estimate <= CAPS.per_job, "seed {seed}");
                answer(&queue, &intent, &mut dice, now).await;
            }
            for job in queue.store.list(&Filter { all: true, ..Filter::default() }).await.unwrap() {
                live_on(&queue, job.id, &mut dice, now).await;
            }
            let today = queue.store.sums(day_of(now)).await.unwrap().spent();
            let ever = queue.store.sums_ever().await.unwrap().spent();
            assert!(today <= CAPS.per_day && ever <= CAPS.total, "seed {seed}: {today} today, {ever} in all");
            fullest = (fullest.0.max(today), fullest.1.max(ever));
            now = now + hours(dice.u64(0..5));
        }
        assert!(
            fullest.0 > credits(800) && fullest.1 > credits(2500),
            "seed {seed}: {fullest:?} is near no cap"
        );
        assert_eq!(queue.store.check().await.unwrap(), [""; 0], "seed {seed}");
        assert_eq!(one_by_one(&queue.store).await, queue.store.sums_ever().await.unwrap(), "seed {seed}");
    }
}

/// Any answer but a price above the estimate: no cap can know of that one in time.
async fn answer(queue: &Queue, intent: &Intent, dice: &mut fastrand::Rng, now: Timestamp) {
    let Intent { job, attempt, estimate, .. } = *intent;
    let (code, message) = ("INVALID_PROMPT".to_owned(), String::new());
    let event = match dice.u8(0..8) {
        0 => return,
        1 => Event::SubmitDeferred { attempt, why: "429".into(), reserved: false },
        2 => Event::SubmitDeferred { attempt, why: "500".into(), reserved: true },
        3 => Event::SubmitRefused { attempt, failure: Failure { code, message, charged: Charged::No } },
        4 => Event::SubmitUnknown { attempt, why: "reset".into() },
        _ => {
            let charged = dice.bool().then(|| dice.u64(0..=estimate.get()));
            return queue.accepted(intent, charged, now).await;
        }
    };
    queue.answered(job, event, now).await;
}

/// Something happens to a job, or nothing; what its state does not allow is refused.
async fn live_on(queue: &Queue, id: JobId, dice: &mut fastrand::Rng, now: Timestamp) {
    let job = queue.store.job(id).await.unwrap();
    let store = &queue.store;
    match (job.state.label(), dice.u8(0..6)) {
        (Label::Generating, 0) => {
            let known = store.counted(id, job.state.task().unwrap()).await.unwrap().get();
            queue.polled(id, task_failed(dice.bool().then(|| dice.u64(0..=known))), now).await;
        }
        (Label::Generating, 1) => {
            let known = store.counted(id, job.state.task().unwrap()).await.unwrap().get();
            let charged = dice.bool().then(|| credits(dice.u64(0..=known)));
            queue.polled(id, Event::Succeeded { outputs: 1, charged }, now).await;
        }
        (Label::InDoubt, n @ 0..4) => {
            let ways = [
                Resolution::NotCharged,
                Resolution::WriteOff,
                Resolution::Resubmit,
                Resolution::Adopt(TaskId::parse(&format!("n75person{id}x{}", dice.u32(..))).unwrap()),
            ];
            let attempt = AttemptNo(u32::try_from(store.attempts(id).await.unwrap().len()).unwrap());
            store.resolve(id, attempt, ways[usize::from(n)].clone(), None, now).await.unwrap();
        }
        (Label::Failed | Label::Cancelled, 0) => {
            store.retry(id, RetryPlan::Render, now).await.ok();
        }
        (Label::Downloading | Label::Generating, 2) => {
            store.cancel(id, true, now).await.unwrap();
        }
        (_, _) => {}
    }
}

/// The sums by another way: from what is shown of each attempt.
async fn one_by_one(store: &Store) -> Sums {
    let mut sums = Sums::default();
    for job in store.list(&Filter { all: true, ..Filter::default() }).await.unwrap() {
        for a in store.attempts(job.id).await.unwrap() {
            let amount = a.charged.unwrap_or(a.estimate);
            match a.charge.as_str() {
                "reserved" => sums.reserved = sums.reserved + a.estimate,
                "in_doubt" => sums.in_doubt = sums.in_doubt + a.estimate,
                "charged" => sums.charged = sums.charged + amount,
                _ if a.refunded > Credits::ZERO => sums.charged = sums.charged + amount,
                _ => {}
            }
            sums.refunded = sums.refunded + a.refunded;
        }
    }
    sums
}
