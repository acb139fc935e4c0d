//! Durable transitions alone, without HTTP and files: whole lives of jobs through the store (intent, accepted, succeeded,
//! verified, published), each step with its history row, its money and its fences. Beside it what the same SQLite does on
//! the same disk with rows of the same length and full fsync: groups of eight updates without a history, by a statement
//! each and by one statement for all eight. In turns; ratios and their spread.
//!
//! `cargo bench --bench transitions -- [--jobs 1000] [--rounds 5]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and spawns its callers")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use klingd::{
    clock::Clock,
    domain::{
        Credits, Event, Request, TaskId, Timestamp,
        event::Source,
        evidence::Evidence,
        gate::{GateNews, GatePolicy},
        job::NewJob,
        plan::{poll::PollPlan, submit::SubmitPlan},
        request::Draft,
        retry::Dice,
    },
    store::{
        Access, Store,
        budget::Budget,
        download::OutputFile,
        enqueue::NewBatch,
        submit::{ClaimPolicy, Intent, SubmitOutcome},
    },
};
use sqlx::{ConnectOptions, sqlite};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Steps of a life that have a history row.
const STEPS: usize = 4;
/// Updates in one of SQLite's own transactions.
const GROUP: usize = 8;
const GATE: GatePolicy = GatePolicy {
    start_in_flight: 1_000_000,
    max_in_flight: 1_000_000,
    cooldown: Duration::from_secs(2),
    cooldown_max: Duration::from_secs(600),
};

#[tokio::main]
async fn main() -> Result<()> {
    let (jobs, rounds) = (argument("--jobs", 1_000), argument("--rounds", 5));
    let dir = tempfile::tempdir_in(std::env::current_dir()?.join("target"))?;
    for callers in [8, 32] {
        let (mut ours, mut each, mut together) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let place = dir.path().join(format!("{callers}-{round}"));
            std::fs::create_dir(&place)?;
            ours.push(lives(&place, jobs, callers).await?);
            each.push(updates(&place.join("each.db"), jobs * STEPS, false).await?);
            together.push(updates(&place.join("together.db"), jobs * STEPS, true).await?);
            std::fs::remove_dir_all(place)?;
        }
        println!("{callers} callers, {jobs} jobs, {rounds} rounds: medians");
        let base = median(&each).rate;
        report("  SQLite, eight updates a commit", &each, base);
        report("  SQLite, one statement for eight", &together, base);
        report("  klingd, transitions with history", &ours, base);
    }
    Ok(())
}

fn argument(name: &str, default: usize) -> usize {
    let mut all = std::env::args();
    all.find(|a| a == name).and_then(|_| all.next()).and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The whole lives of so many jobs, by so many callers that each wait for their own step's commit.
async fn lives(dir: &Path, jobs: usize, callers: usize) -> Result<Cost> {
    let (store, writer) = Store::open(&dir.join("klingd.db"), Access::Migrate).await?;
    let writer = tokio::spawn(writer.run());
    let new = |n: usize| {
        let draft = Draft {
            job_type: Some("std-text-to-video".to_owned()),
            prompt: Some(format!("A lighthouse at dusk, slow pan, number {n}")),
            ..Draft::default()
        };
        Request::parse(&draft).ok().map(|request| NewJob::of(request, "bench"))
    };
    let (name, source) = ("bench".to_owned(), "bench".to_owned());
    let batch = NewBatch { name, source, max_credits: None, jobs: (0..jobs).filter_map(new).collect() };
    store.enqueue(batch, Clock.now()).await?;
    let watch = Watch::start()?;
    let callers = (0..callers).map(|_| tokio::spawn(call(store.clone()))).collect::<Vec<_>>();
    let mut done = 0;
    for caller in callers {
        done += caller.await??;
    }
    let cost = watch.stop(done * STEPS)?;
    drop(store);
    writer.await??;
    if done == jobs { Ok(cost) } else { Err(format!("{done} of {jobs} jobs are done").into()) }
}

/// Takes jobs through their lives until none is left; says how many.
async fn call(store: Store) -> Result<usize> {
    let policy = ClaimPolicy {
        gate: GATE,
        budget: Budget::default(),
        base_url: "http://127.0.0.1:9".to_owned(),
        key_fingerprint: "bench".to_owned(),
    };
    let mut done = 0;
    loop {
        let now = Clock.now();
        let Some(intent) = store.claim_submits(1, &policy, now, now).await?.intents.pop() else {
            return Ok(done);
        };
        live(&store, intent, now).await?;
        done += 1;
    }
}

async fn live(store: &Store, intent: Intent, now: Timestamp) -> Result<()> {
    let Intent { job, attempt, estimate, .. } = intent;
    let task = TaskId::parse(&format!("task-{job}")).ok_or("no task id")?;
    let event = Event::Accepted { attempt, task, charged: Some(estimate), source: Source::Provider };
    let plan =
        SubmitPlan { event, due_at: now, gate: GateNews::Passed, retry_after: None, hold: None, error: None };
    let body = format!("{{\"code\":200,\"message\":\"success\",\"data\":{{\"task_id\":\"task-{job}\"}}}}");
    let evidence = Evidence { transport: None, status: Some(200), headers: Vec::new(), body, took_ms: 3 };
    let (gate, dice) = (GATE, Dice::new(0.5));
    let outcome = SubmitOutcome { job, attempt, plan, evidence, note: None, gate, now, dice };
    let accepted = store.settle_submit(outcome).await?;
    let event = Some(Event::Succeeded { outputs: 1, charged: Some(Credits::new(estimate.get())) });
    let urls = vec![format!("https://cdn.example.com/{job}.mp4")];
    let plan = PollPlan { event, urls, due_at: now, quiet_until: None, hold: None, running: false };
    store.settle_poll(job, accepted.version, plan, None, None, now).await?;
    let file = OutputFile { path: format!("/videos/{job}.mp4"), bytes: 20_000, sha256: "0".repeat(64) };
    store.record_verified(job, 0, format!("/videos/.{job}.part"), file).await?;
    store.record_published(job, 0, None, now).await?;
    Ok(())
}

/// So many updates by SQLite itself, in transactions of [`GROUP`].
async fn updates(path: &Path, updates: usize, together: bool) -> Result<Cost> {
    let options = sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlite::SqliteSynchronous::Full)
        .disable_statement_logging();
    let mut c = options.connect().await?;
    sqlx::query("CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER, state TEXT, due_at INTEGER, data TEXT) STRICT")
        .execute(&mut c)
        .await?;
    sqlx::query("CREATE INDEX due ON t (due_at)").execute(&mut c).await?;
    let rows = i64::try_from(updates)?;
    sqlx::query(
        "WITH n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT +?)
         INSERT INTO t SELECT n, 1, 'queued', n, printf('%.300c', 'x') FROM n",
    )
    .bind(rows)
    .execute(&mut c)
    .await?;
    let watch = Watch::start()?;
    for first in (1..=rows).step_by(GROUP) {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut c).await?;
        let group: Vec<i64> = (first..).take(GROUP).collect();
        if together {
            sqlx::query(
                "UPDATE t SET version = version + 1, state = 'done', due_at = due_at + 1000
                 WHERE id IN (SELECT value FROM json_each(?))",
            )
            .bind(serde_json::to_string(&group)?)
            .execute(&mut c)
            .await?;
        } else {
            for id in group {
                sqlx::query(
                    "UPDATE t SET version = version + 1, state = 'done', due_at = due_at + 1000 WHERE id = ?",
                )
                .bind(id)
                .execute(&mut c)
                .await?;
            }
        }
        sqlx::query("COMMIT").execute(&mut c).await?;
    }
    watch.stop(updates)
}

#[derive(Clone, Copy)]
struct Cost {
    rate: f64,
    cpu_us: f64,
}

/// Time and this process's CPU, by /proc.
struct Watch {
    at: Instant,
    cpu_s: f64,
}

impl Watch {
    fn start() -> Result<Self> {
        Ok(Self { at: Instant::now(), cpu_s: cpu_s()? })
    }

    fn stop(self, n: usize) -> Result<Cost> {
        let n = n as f64;
        Ok(Cost { rate: n / self.at.elapsed().as_secs_f64(), cpu_us: (cpu_s()? - self.cpu_s) / n * 1e6 })
    }
}

/// Fields 14 and 15, counted after the command's closing parenthesis (proc(5)), in ticks of 10 ms.
fn cpu_s() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn median(costs: &[Cost]) -> Cost {
    let mut sorted = costs.to_vec();
    sorted.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    sorted[sorted.len() / 2]
}

fn report(what: &str, costs: &[Cost], base: f64) {
    let Cost { rate, cpu_us } = median(costs);
    let least = costs.iter().map(|c| c.rate).fold(f64::INFINITY, f64::min);
    let most = costs.iter().map(|c| c.rate).fold(0.0, f64::max);
    println!(
        "{what:34} {rate:7.0}/s ({least:.0}–{most:.0}), {:.2} of the first; CPU {cpu_us:.0} µs each",
        rate / base
    );
}
