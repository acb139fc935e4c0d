//! `klingd list`.

use anyhow::Result;
use clap::Args;

use super::{Context, Exit};

#[derive(Args, Default)]
pub struct ListArgs {}

pub async fn run(_context: Context, _args: ListArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
