//! `klingd demo`: the simulated provider, the real daemon and the example's jobs, in one process and a directory of its
//! own.
//!
//! A second demo beside the first gets a fresh directory, as a newcomer expects: everything happens again, nothing of the
//! first run is touched. (In the first one's queue the same jobs would be recognised and not rendered again; and what an
//! interrupted demo left behind belongs to a provider that is gone.)

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Exit, json, progress,
    render::demo::{Made, after, before},
    run::{in_sandbox, signals},
    view::View,
};
use crate::{
    config::{Config, Environment, Overrides},
    daemon::{Ended, Options, Reload},
    disk::Template,
    domain::{Job, JobId, State, request::Draft},
    intake::jobfile::{self, Format},
    store::{Store, World, download::Output, enqueue::NewBatch},
};

/// The jobs, as anybody may write them.
const EXAMPLE: &str = include_str!("../../jobs.example.toml");
/// Where it happens, unless `--data-dir` says otherwise.
const DIRECTORY: &str = "klingd-demo";
/// Demos beside one another, before somebody should tidy up.
const MOST: u32 = 1000;

/// Flags of `demo`.
#[derive(Args)]
pub struct DemoArgs {}

/// Runs the demo.
pub async fn run(context: Context, _args: DemoArgs) -> Result<Exit> {
    let config = config(&context)?;
    let batch = example()?;
    context.say(&before(batch.jobs.len(), &config.data_dir, &context.environment.current_dir));
    let stop = CancellationToken::new();
    tokio::select! {
        ended = play(&context, &config, batch, &stop) => ended,
        interrupted = signals(&stop, None) => interrupted.map(|()| Exit::Interrupted),
    }
}

/// The sandbox's defaults, whatever is configured for real work: the demo shows the same everywhere, and touches nothing.
fn config(context: &Context) -> Result<Config> {
    let current_dir = context.environment.current_dir.clone();
    let wanted = context.global.data_dir.clone().unwrap_or_else(|| PathBuf::from(DIRECTORY));
    let data_dir = fresh(&current_dir.join(wanted))?;
    // No variables, no home, no /etc: no configuration file is found.
    let environment = Environment { current_dir, etc: PathBuf::from("/dev/null"), ..Environment::default() };
    let overrides = Overrides {
        config: context.global.config.clone(),
        data_dir: Some(data_dir.clone()),
        sandbox: true,
        log_level: None,
    };
    let mut config = Config::load(&overrides, &environment)?;
    // Without the sub-directory of `--sandbox`: this queue has no real one beside it.
    config.output.root = data_dir.join("videos");
    config.inbox.enabled = false;
    // A full disk stops paid submits, and these are a hundred kilobytes of nothing paid.
    config.output.min_free_bytes = 0;
    config.data_dir = data_dir;
    Ok(config)
}

/// `wanted`, or the first of `wanted-2`, `wanted-3` … that no queue lives in.
fn fresh(wanted: &Path) -> Result<PathBuf> {
    let name = wanted.file_name().context("the demo needs a directory with a name")?.to_string_lossy();
    let beside = (2..MOST).map(|n| wanted.with_file_name(format!("{name}-{n}")));
    let mut all = std::iter::once(wanted.to_owned()).chain(beside);
    all.find(|dir| !dir.join("klingd.db").exists())
        .with_context(|| format!("{MOST} demos lie beside {}: remove some", wanted.display()))
}

fn example() -> Result<NewBatch> {
    let context = jobfile::Context {
        defaults: &Draft::default(),
        price: &|job_type| job_type.price(),
        check_template: &|template| Template::parse(template).map(drop).map_err(|e| e.to_string()),
        max_jobs: None,
    };
    let name = "jobs.example.toml";
    let file = jobfile::read(EXAMPLE.as_bytes(), Format::Toml, name, &context)
        .map_err(|errors| anyhow!("the example is broken: {}", jobfile::render_plain(&errors)))?;
    let batch = file.batch.unwrap_or_else(|| name.to_owned());
    Ok(NewBatch {
        name: batch,
        source: name.to_owned(),
        max_credits: file.batch_max_credits,
        jobs: file.jobs,
    })
}

/// Queue, daemon, result. The queue is opened before the daemon opens it, and stays so to draw what the daemon does.
async fn play(context: &Context, config: &Config, batch: NewBatch, stop: &CancellationToken) -> Result<Exit> {
    let playing = context.with_store(config, async |store| {
        let ids = queue(context, config, &store, batch).await?;
        let ended = CancellationToken::new();
        let daemon = async {
            let options = Options { until_idle: true, world: World::Sandbox, describe: json::told };
            let result = in_sandbox(context, config.clone(), "", options, Reload::never(), stop).await;
            ended.cancel();
            result
        };
        let visible = context.shows_progress();
        let drawing = progress::show(&store, config, &ids, visible, context.clock, ended.clone());
        let (daemon, drawn) = tokio::join!(daemon, drawing);
        drawn?;
        match daemon? {
            Ended::Stopped => {
                context.say("The demo was interrupted; klingd demo begins another one.");
                Ok(Exit::Interrupted)
            }
            Ended::Idle { .. } => present(context, config, &store, &ids).await,
        }
    });
    playing.await
}

async fn queue(context: &Context, config: &Config, store: &Store, batch: NewBatch) -> Result<Vec<JobId>> {
    // First of all: these jobs must never meet a real key.
    store.stamp(&config.database(), World::Sandbox).await?;
    let queued = store.enqueue(batch, context.clock.now()).await?;
    Ok(queued.into_iter().map(|job| job.id).collect())
}

async fn present(context: &Context, config: &Config, store: &Store, ids: &[JobId]) -> Result<Exit> {
    let mut outputs = store.outputs_of(ids).await?;
    let jobs: Vec<(Job, Vec<Output>)> = store
        .jobs(ids)
        .await?
        .into_iter()
        .map(|job| {
            let outputs = outputs.remove(&job.id).unwrap_or_default();
            (job, outputs)
        })
        .collect();
    let view = View::read(store, config, context).await?;
    if context.global.json {
        jobs.iter().for_each(|(job, outputs)| context.print(&json::job(job, outputs, &view).to_string()));
    } else {
        let (current_dir, data_dir) = (&context.environment.current_dir, &config.data_dir);
        context.print(&after(&Made { jobs: &jobs, view: &view, current_dir, data_dir }, context.look()));
    }
    let done = jobs.iter().all(|(job, _)| matches!(job.state, State::Done { .. }));
    Ok(if done { Exit::Done } else { Exit::JobFailed })
}
