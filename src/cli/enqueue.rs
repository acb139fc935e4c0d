//! `klingd enqueue`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct EnqueueArgs {}

pub async fn run(_context: Context, _args: EnqueueArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
