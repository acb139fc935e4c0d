//! `klingd check`: every error of job files, and the price. It opens neither the queue nor the network.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{
    Context, Exit,
    exit::Refusal,
    expanded,
    job_files::{self, Batch, Findings, Reading},
    price,
    render::{table::table, text::count},
};
use crate::domain::Credits;

/// Flags of `check`.
#[derive(Args)]
pub struct CheckArgs {
    /// Job files (.toml, .json, .jsonl), or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show every job, matrix cells and takes expanded
    #[arg(long)]
    expand: bool,
}

/// Checks.
pub async fn run(context: Context, args: CheckArgs) -> Result<Exit> {
    let config = context.config()?;
    let scratch = std::env::temp_dir();
    let reading = Reading { context: &context, config: &config, scratch: &scratch, change: &|_| {} };
    let Findings { batches, errors, .. } = job_files::read(reading, &args.files)?;
    let jobs = || batches.iter().flat_map(|batch| batch.jobs.priced());
    if args.expand && (errors == 0 || context.global.json) {
        expand(&context, &batches)?;
    }
    if context.global.json {
        batches.iter().for_each(|batch| print_price(&context, batch));
    } else if errors == 0 {
        context.print(&price::table(jobs(), context.look()));
    }
    if errors > 0 {
        let message = format!("{} in {}", count(errors, "error"), count(args.files.len(), "file"));
        return Err(Refusal { exit: Exit::Invalid, message }.into());
    }
    // The files are right; what `enqueue` would say of them all the same is worth knowing now.
    if let Err(refused) = price::refuse_what_never_fits(jobs(), &config.budget, Credits::ZERO) {
        context.say(&format!("warning: {refused}"));
    }
    Ok(Exit::Done)
}

fn expand(context: &Context, batches: &[Batch]) -> Result<()> {
    let mut rows = Vec::new();
    for batch in batches {
        for pack in batch.jobs.packs() {
            for job in pack?.jobs()? {
                if context.global.json {
                    context.print(&expanded::as_json(&batch.name, &job).to_string());
                } else {
                    rows.push(expanded::row(&job, context.look()));
                }
            }
        }
    }
    if !context.global.json {
        context.print(&table(&expanded::COLUMNS, &rows, context.look()));
        context.print("");
    }
    Ok(())
}

fn print_price(context: &Context, Batch { source, jobs, .. }: &Batch) {
    for (job_type, (count, cost)) in price::by_type(jobs.priced().iter()) {
        let line = json!({ "file": source, "type": job_type, "jobs": count, "estimated_credits": cost });
        context.print(&line.to_string());
    }
}
