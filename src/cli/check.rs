//! `klingd check`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct CheckArgs {}

pub async fn run(_context: Context, _args: CheckArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
