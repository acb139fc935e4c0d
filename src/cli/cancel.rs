//! `klingd cancel`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct CancelArgs {}

pub async fn run(_context: Context, _args: CancelArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
