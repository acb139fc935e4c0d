//! `klingd doctor`: looks at the installation and changes nothing. [`facts`] gathers, [`judge`] decides (pure),
//! `render::doctor` prints.

pub mod facts;
pub mod judge;

use anyhow::Result;
use clap::Args;

use super::{
    Context, Exit,
    render::doctor::{doctor, doctor_json},
};
use crate::config::Config;

/// Flags of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Also ask the provider, by a free call: is the key accepted, do the clocks agree
    #[arg(long)]
    online: bool,
}

/// Checks, and says what to do; succeeds when klingd can work.
pub async fn run(context: Context, args: DoctorArgs) -> Result<Exit> {
    let program = facts::program().await?;
    let checks = match context.config() {
        Ok(config) => checks(&context, &config, args.online).await,
        Err(error) => vec![judge::no_config(&error)],
    };
    let text = match context.global.json {
        true => doctor_json(&program, &checks),
        false => context.aim().at(&doctor(&program, &checks, context.look())),
    };
    context.print(&text);
    Ok(if checks.iter().any(judge::Check::is_problem) { Exit::Failed } else { Exit::Done })
}

async fn checks(context: &Context, config: &Config, online: bool) -> Vec<judge::Check> {
    judge::judge(&facts::gather(context, config, online).await)
}
