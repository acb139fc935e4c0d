//! `klingd wait`. It looks at the database and writes nothing, so it works with the daemon up or down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use clap::{ArgGroup, Args};

use super::{
    Context, Exit,
    arriving::Arrivals,
    exit::Refusal,
    json,
    progress::{Progress, pause},
    render::{
        list::{notices, rested},
        text::count,
    },
    usual::Usual,
    view::View,
    when,
};
use crate::{
    config::Config,
    domain::{Job, JobId, state::Label},
    store::{Store, view::Filter},
};

/// Flags of `wait`.
#[derive(Args)]
// Not `#[group(id = "which")]`: that takes every flag in, and a lone --timeout would wait for nothing.
#[group(skip)]
#[command(group(ArgGroup::new("which").required(true).multiple(true)))]
pub struct WaitArgs {
    /// The jobs' numbers
    #[arg(value_name = "ID", group = "which")]
    ids: Vec<i64>,
    /// All jobs of this batch
    #[arg(long, group = "which")]
    batch: Option<String>,
    /// All jobs that are not at rest, also those queued meanwhile
    #[arg(long, group = "which")]
    all: bool,
    /// Give up after so long, such as 90s or 2h
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    timeout: Option<Duration>,
}

impl WaitArgs {
    /// For these jobs, however long it takes: `enqueue --wait`.
    pub fn of(jobs: Vec<JobId>) -> Self {
        Self { ids: jobs.into_iter().map(|id| id.0).collect(), batch: None, all: false, timeout: None }
    }
}

/// Waits until jobs rest.
pub async fn run(context: Context, args: WaitArgs) -> Result<Exit> {
    let config = context.config()?;
    let waiting = context.with_store(&config, async |store| {
        let progress = Progress::new(context.shows_progress(), Arrivals::new(&config));
        let mut wait = Wait {
            context: &context,
            config: &config,
            args: &args,
            progress,
            open: args.ids.iter().copied().map(JobId).collect(),
            rested: BTreeMap::new(),
        };
        let ended = tokio::select! {
            ended = wait.until_rest(&store) => ended,
            () = timeout(args.timeout) => Ok(Exit::TimedOut),
            // Without a handler the drawing would stay on the terminal.
            interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| Exit::Interrupted).map_err(Into::into),
        };
        wait.progress.clear();
        if matches!(ended, Ok(Exit::TimedOut)) {
            context.say(&format!("Time ran out; {} not at rest.", are(wait.open.len())));
        }
        ended
    });
    waiting.await
}

async fn timeout(after: Option<Duration>) {
    match after {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

fn are(n: usize) -> String {
    format!("{} {}", count(n, "job"), if n == 1 { "is" } else { "are" })
}

struct Wait<'a> {
    context: &'a Context,
    config: &'a Config,
    args: &'a WaitArgs,
    progress: Progress,
    /// Jobs that were still moving at the last look.
    open: BTreeSet<JobId>,
    /// How each of the others came to rest.
    rested: BTreeMap<JobId, Exit>,
}

impl Wait<'_> {
    async fn until_rest(&mut self, store: &Store) -> Result<Exit> {
        self.find(store, true).await?;
        let mut warned = false;
        loop {
            let open: Vec<JobId> = self.open.iter().copied().collect();
            let (resting, moving): (Vec<Job>, Vec<Job>) =
                store.jobs(&open).await?.into_iter().partition(|job| job.state.at_rest());
            self.report(store, resting).await?;
            if moving.is_empty() {
                return Ok(self.verdict());
            }
            if !warned {
                self.warn(store, &moving).await?;
                warned = true;
            }
            let total = self.open.len() + self.rested.len();
            let usual = Usual::read(store).await?;
            self.progress.update(&moving, total, &usual, self.context.clock.now());
            tokio::time::sleep(pause(moving.len())).await;
            self.find(store, false).await?;
        }
    }

    /// Adds jobs of the batch, or of the whole queue, that are new. At first those of the batch that rest already count.
    async fn find(&mut self, store: &Store, first: bool) -> Result<()> {
        let moving =
            Label::ALL.into_iter().filter(|l| !matches!(l, Label::Done | Label::Failed | Label::Cancelled));
        let moving: Vec<Label> = moving.collect();
        if let Some(batch) = &self.args.batch {
            let states = if first { Vec::new() } else { moving.clone() };
            let filter = Filter { states, batch: Some(batch.clone()), all: true, ..Filter::default() };
            self.add(&store.list(&filter).await?);
            if first && self.open.is_empty() {
                let message = format!("there is no batch {batch:?}");
                return Err(Refusal { exit: Exit::NoSuchJob, message }.into());
            }
        }
        if self.args.all {
            self.add(&store.list(&Filter { states: moving, ..Filter::default() }).await?);
        }
        Ok(())
    }

    fn add(&mut self, jobs: &[Job]) {
        // A job that rested once is waited for no longer, whatever a person does with it then.
        self.open.extend(jobs.iter().map(|job| job.id).filter(|id| !self.rested.contains_key(id)));
    }

    /// Prints jobs as they come to rest.
    async fn report(&mut self, store: &Store, resting: Vec<Job>) -> Result<()> {
        if resting.is_empty() {
            return Ok(());
        }
        let ids: Vec<JobId> = resting.iter().map(|job| job.id).collect();
        let outputs = store.outputs_of(&ids).await?;
        let view = View::read(store, self.config, self.context).await?;
        for job in resting {
            let files = outputs.get(&job.id).map(Vec::as_slice).unwrap_or_default();
            let context = self.context;
            self.progress.suspend(|| match (context.global.json, context.global.quiet) {
                (true, _) => context.print(&json::job(&job, files, &view).to_string()),
                (false, false) => context.print(&rested(&job, files, &view)),
                (false, true) => {}
            });
            self.open.remove(&job.id);
            self.rested.insert(job.id, ended(&job));
        }
        Ok(())
    }

    async fn warn(&self, store: &Store, moving: &[Job]) -> Result<()> {
        let view = View::read(store, self.config, self.context).await?;
        let runs = self.context.daemon_runs(&self.config.data_dir);
        notices(&view, runs, moving).iter().for_each(|notice| self.context.say(notice));
        Ok(())
    }

    fn verdict(&self) -> Exit {
        let any = |exit: Exit| self.rested.values().any(|e| *e == exit);
        match () {
            () if any(Exit::NeedsPerson) => Exit::NeedsPerson,
            () if any(Exit::JobFailed) => Exit::JobFailed,
            () => Exit::Done,
        }
    }
}

/// What a job at rest means for the exit code.
fn ended(job: &Job) -> Exit {
    if job.state.needs_person().is_some() {
        return Exit::NeedsPerson;
    }
    match job.state.label() {
        Label::Failed | Label::Cancelled => Exit::JobFailed,
        Label::Done
        | Label::Queued
        | Label::Submitting
        | Label::InDoubt
        | Label::Generating
        | Label::Downloading => Exit::Done,
    }
}
