//! `klingd prune`: old jobs that carry no open money are forgotten.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{Context, Exit, exit::Refusal, render::text::counted, when};
use crate::{
    config::{Config, show_duration},
    daemon,
    domain::{Timestamp, state::Label},
    store::{
        Store,
        prune::{Prunable, Reached},
    },
};

/// Flags of `prune`.
#[derive(Args)]
pub struct PruneArgs {
    /// Only jobs that ended longer ago than this
    #[arg(long, value_name = "AGE", default_value = "90d", value_parser = when::duration)]
    older_than: Duration,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

/// Forgets old jobs.
pub async fn run(context: Context, args: PruneArgs) -> Result<Exit> {
    let config = context.config()?;
    refuse_unread_answers(&config)?;
    let before = context.clock.now() - args.older_than;
    context.with_store(&config, async |store| prune(&context, &args, &store, before).await).await
}

/// An answer that is not in the database yet may be of a job that looks finished there.
fn refuse_unread_answers(config: &Config) -> Result<()> {
    match daemon::unread_answers(config)? {
        0 => Ok(()),
        n => Err(Refusal::usage(format!(
            "{} in {} not in the database yet; start klingd once, it takes them in",
            if n == 1 { "an answer is".to_owned() } else { format!("{n} answers are") },
            config.spool_dir().display()
        ))),
    }
}

async fn prune(context: &Context, args: &PruneArgs, store: &Store, before: Timestamp) -> Result<Exit> {
    let Prunable { jobs, kept } = store.prunable(before).await?;
    let all: u64 = jobs.iter().map(|(_, n)| n).sum();
    let age = show_duration(args.older_than);
    if all > 0 && !args.dry_run {
        let question = format!(
            "Forget {} that ended more than {age} ago ({})? Videos, credits and keys stay.",
            counted(all, "job"),
            by_state(&jobs)
        );
        if !context.confirm(&question)? {
            context.say("nothing is forgotten");
            return Ok(Exit::Usage);
        }
    }
    let gone = if args.dry_run { jobs.into_iter().collect() } else { forget(store, before).await? };
    let n: u64 = gone.values().sum();
    if context.global.json {
        let whole = json!({
            "dry_run": args.dry_run, "before": before.to_string(), "pruned": n, "by_state": gone, "kept": kept,
        });
        context.print(&whole.to_string());
    }
    let would = if args.dry_run { "would be forgotten" } else { "forgotten" };
    let of =
        if n > 0 { format!(" ({})", by_state(&gone.into_iter().collect::<Vec<_>>())) } else { String::new() };
    context.say(&format!("{} {would}{of}; what they cost stays in klingd spend", counted(n, "job")));
    if kept > 0 {
        context.say(&format!("{} as old: money, a file or a person's decision is open", stay(kept)));
    }
    Ok(Exit::Done)
}

/// A few at a time, so that the daemon's commits go on in between.
async fn forget(store: &Store, before: Timestamp) -> Result<BTreeMap<Label, u64>> {
    let (mut gone, mut reached) = (BTreeMap::new(), Reached::default());
    loop {
        let forgotten = store.prune(before, &mut reached).await?;
        let Some(forgotten) = forgotten else { return Ok(gone) };
        for job in forgotten {
            *gone.entry(job.state).or_default() += 1;
        }
    }
}

fn by_state(jobs: &[(Label, u64)]) -> String {
    jobs.iter().map(|(state, n)| format!("{n} {state}")).collect::<Vec<_>>().join(", ")
}

fn stay(kept: u64) -> String {
    if kept == 1 {
        "1 job stays though it is".to_owned()
    } else {
        format!("{kept} jobs stay though they are")
    }
}
