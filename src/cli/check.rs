//! `klingd check`: every error of job files, and the price. It opens neither the queue nor the network.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{
    Context, Exit,
    exit::Refusal,
    job_files::{self, Findings},
    price,
    render::text::count,
};
use crate::{domain::Credits, store::enqueue::NewBatch};

/// Flags of `check`.
#[derive(Args)]
pub struct CheckArgs {
    /// Job files (.toml, .json, .jsonl), or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Checks.
pub async fn run(context: Context, args: CheckArgs) -> Result<Exit> {
    let config = context.config()?;
    let Findings { batches, errors, .. } = job_files::read(&context, &config, &args.files);
    if context.global.json {
        batches.iter().for_each(|batch| print_price(&context, batch));
    } else if errors == 0 {
        let jobs = batches.iter().flat_map(|batch| &batch.jobs);
        context.print(&price::table(jobs, context.look()));
    }
    if errors > 0 {
        let message = format!("{} in {}", count(errors, "error"), count(args.files.len(), "file"));
        return Err(Refusal { exit: Exit::Invalid, message }.into());
    }
    // The files are right; what `enqueue` would say of them all the same is worth knowing now.
    let jobs = batches.iter().flat_map(|batch| &batch.jobs);
    if let Err(refused) = price::refuse_what_never_fits(jobs, &config.budget, Credits::ZERO) {
        context.say(&format!("warning: {refused}"));
    }
    Ok(Exit::Done)
}

fn print_price(context: &Context, NewBatch { source, jobs, .. }: &NewBatch) {
    for (job_type, (count, cost)) in price::by_type(jobs.iter()) {
        let line = json!({ "file": source, "type": job_type, "jobs": count, "estimated_credits": cost });
        context.print(&line.to_string());
    }
}
