//! `klingd resolve`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct ResolveArgs {}

pub async fn run(_context: Context, _args: ResolveArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
