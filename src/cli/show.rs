//! `klingd show`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct ShowArgs {}

pub async fn run(_context: Context, _args: ShowArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
