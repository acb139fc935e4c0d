//! `klingd wait`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct WaitArgs {}

pub async fn run(_context: Context, _args: WaitArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
