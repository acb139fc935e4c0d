//! `klingd retry`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct RetryArgs {}

pub async fn run(_context: Context, _args: RetryArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
