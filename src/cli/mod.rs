//! The command line: one file a verb. Verbs read what the user typed, call the store or the daemon, and render; rendering
//! is pure and lives in [`render`]. stdout carries results only, stderr everything said to people.

mod aim;
mod arriving;
mod backup;
mod cancel;
mod check;
mod config;
mod context;
mod demo;
mod doctor;
mod each;
mod enqueue;
mod exit;
mod expanded;
mod job_files;
mod json;
mod list;
mod manual;
mod pause;
mod pile;
mod price;
mod progress;
mod prune;
pub mod render;
mod resolve;
mod retry;
mod run;
mod sandbox;
mod set;
mod show;
mod spend;
mod status;
mod usual;
mod view;
mod wait;
mod when;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use context::Context;
pub use exit::{Exit, report};

/// A durable job queue for the Kling 3.0 video API: no job lost, nothing paid twice, no torn file.
#[derive(Parser)]
#[command(name = "klingd", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// The verb; `list` when there is none.
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Use the sandbox's queue (DATA/sandbox): simulated, without a key, without cost
    #[arg(long, global = true)]
    pub sandbox: bool,
    /// The configuration file [env: KLINGD_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory: database and videos [env: KLINGD_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// One JSON object a line on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Say less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more (-vv: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// Answer every question with yes
    #[arg(short, long, global = true)]
    pub yes: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "each variant is its word")]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the daemon in the foreground
    Run(run::RunArgs),
    /// See it work: simulated provider, real queue, real files; no key, no cost
    Demo(demo::DemoArgs),
    /// Queue jobs from files, stdin or flags
    #[command(visible_alias = "add")]
    Enqueue(Box<enqueue::EnqueueArgs>),
    /// Every error of job files, and the price; no network, no queue
    Check(check::CheckArgs),
    /// Active jobs and the last few finished
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Everything about one job
    Show(show::ShowArgs),
    /// Wait until jobs rest
    Wait(wait::WaitArgs),
    /// Change jobs that are not submitted yet
    Set(set::SetArgs),
    /// The failed step again; a paid task is fetched again for free
    Retry(retry::RetryArgs),
    /// Cancel jobs
    Cancel(cancel::CancelArgs),
    /// Settle a job that needs a person: the only way out of doubt
    Resolve(resolve::ResolveArgs),
    /// Stop submitting; polling and downloads go on
    Pause(pause::PauseArgs),
    /// Submit again; lifts holds
    Resume(pause::ResumeArgs),
    /// The daemon, holds, queue depth, credits
    Status(status::StatusArgs),
    /// Credits by day, type, tag or batch, and what is left of the budgets
    Spend(spend::SpendArgs),
    /// Check the installation, one line each
    Doctor(doctor::DoctorArgs),
    /// Forget old finished jobs that carry no open money; videos and credits stay
    Prune(prune::PruneArgs),
    /// Copy the queue's database, while the daemon runs or not
    Backup(backup::BackupArgs),
    /// The configuration
    Config(config::ConfigArgs),
    /// The provider's double as a server
    Sandbox(sandbox::SandboxArgs),
}

/// Runs the verb.
pub async fn dispatch(cli: Cli) -> Result<Exit> {
    let verb = cli.verb.unwrap_or(Verb::List(list::ListArgs::default()));
    let context = Context::new(cli.global);
    match verb {
        Verb::Run(args) => run::run(context, args).await,
        Verb::Demo(args) => demo::run(context, args).await,
        Verb::Enqueue(args) => enqueue::run(context, *args).await,
        Verb::Check(args) => check::run(context, args).await,
        Verb::List(args) => list::run(context, args).await,
        Verb::Show(args) => show::run(context, args).await,
        Verb::Wait(args) => wait::run(context, args).await,
        Verb::Set(args) => set::run(context, args).await,
        Verb::Retry(args) => retry::run(context, args).await,
        Verb::Cancel(args) => cancel::run(context, args).await,
        Verb::Resolve(args) => resolve::run(context, args).await,
        Verb::Pause(args) => pause::pause(context, args).await,
        Verb::Resume(args) => pause::resume(context, args).await,
        Verb::Status(args) => status::run(context, args).await,
        Verb::Spend(args) => spend::run(context, args).await,
        Verb::Doctor(args) => doctor::run(context, args).await,
        Verb::Prune(args) => prune::run(context, args).await,
        Verb::Backup(args) => backup::run(context, args).await,
        Verb::Config(args) => config::run(context, args).await,
        Verb::Sandbox(args) => sandbox::run(context, args).await,
    }
}
