//! `klingd set`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct SetArgs {}

pub async fn run(_context: Context, _args: SetArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
