//! `klingd status`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct StatusArgs {}

pub async fn run(_context: Context, _args: StatusArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
