//! The daemon in a process of its own, from a full queue until it is idle.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

use klingd::{
    clock::Clock,
    config::{Config, Environment, Overrides},
    daemon::{self, Ended, Options},
    domain::{Request, job::NewJob, request::Draft, state::Label},
    store::{Access, Store, World, enqueue::NewBatch},
};
use tokio_util::sync::CancellationToken;

use super::{AT_ONCE, Result};
use crate::common::child::cpu_s;

#[tokio::main]
pub async fn run(dir: &Path, url: &str, jobs: u64) -> Result<()> {
    let config = config(dir, url)?;
    klingd::disk::create_root(&config.data_dir)?;
    let (store, writer) = Store::open(&config.database(), Access::Migrate).await?;
    let batch = NewBatch {
        name: "bench".to_owned(),
        source: "bench".to_owned(),
        max_credits: None,
        jobs: new_jobs(jobs),
    };
    let start = Instant::now();
    let enqueue = async move { store.enqueue(batch, Clock.now()).await };
    let (written, queued) = tokio::join!(writer.run(), enqueue);
    written?;
    if queued?.len() as u64 != jobs {
        return Err("not all are queued".into());
    }
    println!("queued {}", start.elapsed().as_secs_f64());

    let (start, used) = (Instant::now(), cpu_s(std::process::id()));
    let describe = |_: &_, _: &[_]| serde_json::Value::Null;
    let options = Options { until_idle: true, world: World::Real, describe };
    let ended = daemon::run(&config, config.require_key()?, options, Clock, CancellationToken::new()).await?;
    println!("wall {}", start.elapsed().as_secs_f64());
    println!("cpu {}", cpu_s(std::process::id()) - used);

    let (store, writer) = Store::open(&config.database(), Access::Use).await?;
    let depth = async move { store.depth().await };
    let (written, depth) = tokio::join!(writer.run(), depth);
    written?;
    let all_done = depth? == [(Label::Done, jobs)];
    if ended == (Ended::Idle { failed: 0, needs_person: 0 }) && all_done {
        Ok(())
    } else {
        Err(format!("{ended:?}, and not all jobs are done").into())
    }
}

fn config(dir: &Path, url: &str) -> Result<Config> {
    let variables = [
        ("KLINGD_API__BASE_URL", url.to_owned()),
        ("KLINGD_API__KEY", "bench".to_owned()),
        ("KLINGD_SUBMIT__WORKERS", AT_ONCE.to_string()),
        ("KLINGD_SUBMIT__START_IN_FLIGHT", "64".to_owned()),
        ("KLINGD_SUBMIT__MAX_IN_FLIGHT", "64".to_owned()),
        ("KLINGD_DOWNLOAD__WORKERS", AT_ONCE.to_string()),
        ("KLINGD_OUTPUT__MIN_FREE", "1 MiB".to_owned()),
    ];
    let variables: BTreeMap<OsString, OsString> = variables.map(|(k, v)| (k.into(), v.into())).into();
    let environment = Environment {
        variables,
        home: Some(dir.to_owned()),
        current_dir: dir.to_owned(),
        ..Environment::default()
    };
    let overrides = Overrides { data_dir: Some(dir.join("data")), ..Overrides::default() };
    let mut config = Config::load(&overrides, &environment)?;
    // No person may configure this; the double has every task ready at once.
    config.poll.first = Some(Duration::ZERO);
    config.poll.max_per_second = 1e6;
    Ok(config)
}

fn new_jobs(n: u64) -> Vec<NewJob> {
    let job = |i: u64| {
        let draft = Draft {
            job_type: Some("std-text-to-video".to_owned()),
            prompt: Some(format!("A lighthouse at dusk, slow pan, number {i}")),
            ..Draft::default()
        };
        let request = Request::parse(&draft).ok()?;
        Some(NewJob::of(request, "bench"))
    };
    (0..n).filter_map(job).collect()
}
