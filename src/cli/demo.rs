//! `klingd demo`: sandbox, daemon and `jobs.example.toml` in one process and a directory of its own.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct DemoArgs {}

pub async fn run(_context: Context, _args: DemoArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
