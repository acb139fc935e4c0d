//! The same bytes by the download lane: hashed, checked, fsynced, published, with every step in the database.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use klingd::{
    clock::Clock,
    config::{Config, Environment, Overrides},
    daemon,
    domain::{
        AttemptNo, Credits, Event, JobId, Request,
        event::Source,
        evidence::Evidence,
        gate::{GateNews, GatePolicy},
        job::NewJob,
        plan::{poll::PollPlan, submit::SubmitPlan},
        request::Draft,
        retry::Dice,
        state::{Label, TaskId},
    },
    store::{Access, Store, enqueue::NewBatch, submit::SubmitOutcome},
    worker,
};
use tokio_util::sync::CancellationToken;

use super::{AT_ONCE, Result};

/// Downloads `files` times `url` into `dir`; each with its sidecar, if `sidecar`.
#[expect(clippy::print_stdout, reason = "the parent reads what of the time counts")]
pub fn run(url: &str, dir: &Path, files: u64, sidecar: bool) -> Result<()> {
    let config = config(dir, sidecar)?;
    klingd::disk::create_root(&config.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (store, writer) = Store::open(&config.database(), Access::Migrate).await?;
        let writer = tokio::spawn(writer.run());
        for first in (0..files).step_by(500) {
            rendered(&store, &config, url, first, files.min(first + 500)).await?;
        }
        let stop = CancellationToken::new();
        let (started, used) = (Instant::now(), cpu_seconds());
        let room = daemon::room(&config, &store, Clock);
        let lane = Arc::new(daemon::download_lane(&config, &store, room, Clock, &stop)?);
        let (vitals, stopped) = (Arc::clone(store.vitals()), stop.clone());
        let run =
            tokio::spawn(async move { worker::run(|| Arc::clone(&lane), &vitals, Clock, stopped).await });
        let mut commits = store.bells().commits.subscribe();
        while store.depth().await? != [(Label::Done, files)] {
            tokio::time::timeout(Duration::from_millis(200), commits.changed()).await.ok();
            // Not at every commit: counting jobs is work, too.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("wall {}", started.elapsed().as_secs_f64());
        println!("cpu {}", cpu_seconds() - used);
        stop.cancel();
        run.await??;
        drop(store);
        writer.await??;
        Ok(())
    })
}

/// What this process has used so far; filling the queue is no part of a download.
fn cpu_seconds() -> f64 {
    /// `USER_HZ`, on every Linux that Rust runs on.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold spaces; user and system time are the 12th and 13th number behind it.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_A_SECOND
}

fn config(dir: &Path, sidecar: bool) -> Result<Config> {
    let variables = [
        ("KLINGD_API__BASE_URL", "http://127.0.0.1:1".to_owned()),
        ("KLINGD_API__KEY", "bench".to_owned()),
        ("KLINGD_SUBMIT__MAX_IN_FLIGHT", "10000".to_owned()),
        ("KLINGD_SUBMIT__START_IN_FLIGHT", "10000".to_owned()),
        ("KLINGD_DOWNLOAD__WORKERS", AT_ONCE.to_string()),
        ("KLINGD_OUTPUT__MIN_FREE", "0 B".to_owned()),
        ("KLINGD_OUTPUT__SIDECAR", sidecar.to_string()),
        ("KLINGD_OUTPUT__TEMPLATE", "{id}.mp4".to_owned()),
    ];
    let variables: BTreeMap<OsString, OsString> = variables.map(|(k, v)| (k.into(), v.into())).into();
    let environment = Environment {
        variables,
        home: Some(dir.to_owned()),
        current_dir: dir.to_owned(),
        ..Environment::default()
    };
    let overrides = Overrides { data_dir: Some(dir.join("data")), ..Overrides::default() };
    Ok(Config::load(&overrides, &environment)?)
}

/// Jobs whose tasks have succeeded, as the submitter and the poller leave them.
async fn rendered(store: &Store, config: &Config, url: &str, first: u64, end: u64) -> Result<()> {
    let jobs = (first..end).map(new_job).collect::<Result<Vec<_>>>()?;
    let count = jobs.len();
    let batch = NewBatch { name: "bench".into(), source: "bench".into(), max_credits: None, jobs };
    store.enqueue(batch, Clock.now()).await?;
    let policy = daemon::claim_policy(config, "bench");
    let claimed = store.claim_submits(u32::try_from(count)?, &policy, Clock.now(), Clock.now()).await?;
    if claimed.intents.len() != count {
        return Err(format!("{} of {count} jobs left", claimed.intents.len()).into());
    }
    let mut all = tokio::task::JoinSet::new();
    for intent in claimed.intents {
        let (store, url, gate) = (store.clone(), url.to_owned(), policy.gate);
        all.spawn(async move {
            succeeded(&store, intent.job, intent.attempt, url, gate).await.map_err(|e| e.to_string())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    Ok(())
}

async fn succeeded(
    store: &Store,
    job: JobId,
    attempt: AttemptNo,
    url: String,
    gate: GatePolicy,
) -> Result<()> {
    let now = Clock.now();
    let task = TaskId::parse(&format!("n75bench{job}")).ok_or("no task id")?;
    let event = Event::Accepted { attempt, task, charged: Some(Credits::new(1)), source: Source::Provider };
    let plan = SubmitPlan {
        event,
        due_at: now,
        gate: GateNews::Nothing,
        retry_after: None,
        hold: None,
        error: None,
    };
    let (evidence, dice) = (Evidence::default(), Dice::new(0.5));
    store.settle_submit(SubmitOutcome { job, attempt, plan, evidence, note: None, gate, now, dice }).await?;
    let event = Some(Event::Succeeded { outputs: 1, charged: None });
    let url = format!("{url}?{job}");
    let plan =
        PollPlan { event, urls: vec![url], due_at: now, quiet_until: None, hold: None, running: false };
    let version = store.job(job).await?.version;
    store.settle_poll(job, version, plan, None, None, now).await?;
    Ok(())
}

fn new_job(n: u64) -> Result<NewJob> {
    let draft = Draft {
        job_type: Some("std-text-to-video".into()),
        prompt: Some(format!("bench {n}")),
        sound: Some(false),
        duration: Some(10),
        ..Draft::default()
    };
    let request = Request::parse(&draft).map_err(|problems| format!("{problems:?}"))?;
    Ok(NewJob::of(request, "bench"))
}
