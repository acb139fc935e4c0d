//! `klingd config`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct ConfigArgs {}

pub async fn run(_context: Context, _args: ConfigArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
