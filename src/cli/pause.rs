//! `klingd pause` and `klingd resume`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args)]
pub struct PauseArgs {}

#[derive(Args)]
pub struct ResumeArgs {}

pub async fn pause(_context: Context, _args: PauseArgs) -> Result<Exit> {
    Ok(Exit::Done)
}

pub async fn resume(_context: Context, _args: ResumeArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
