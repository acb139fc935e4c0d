//! `klingd status`.

use anyhow::Result;
use clap::Args;

use super::{
    Context, Exit,
    render::status::{Status, status, status_json},
    view::View,
};
use crate::{config::Config, daemon::claim_policy, disk, store::Store};

/// Flags of `status`.
#[derive(Args)]
pub struct StatusArgs {}

/// Bytes of the lock's text; klingd writes fewer.
const HOLDER_BYTES: u64 = 400;

/// Shows the daemon and its queue.
pub async fn run(context: Context, _args: StatusArgs) -> Result<Exit> {
    let config = context.config()?;
    let found = context.with_store(&config, async |store| read(&context, &config, &store).await).await?;
    let text =
        if context.global.json { status_json(&found).to_string() } else { context.aim().at(&status(&found)) };
    context.print(&text);
    Ok(Exit::Done)
}

async fn read(context: &Context, config: &Config, store: &Store) -> Result<Status> {
    let view = View::read(store, config, context).await?;
    let slots = view.gate.slots(&claim_policy(config, "").gate);
    let today = context.clock.day_start(view.now);
    let inbox = match config.inbox.enabled {
        true => Some((config.inbox.path.clone(), store.inbox_view(today).await?)),
        false => None,
    };
    let stopped = store.stopped(&view.budget, &view.spent).await?;
    Ok(Status {
        inbox,
        stopped,
        data_dir: config.data_dir.clone(),
        holder: holder(context, config),
        world: store.world().await?,
        slots,
        depth: store.depth().await?.into_iter().collect(),
        in_need: store.in_need().await?,
        today: store.sums(today).await?,
        latest_intent: store.latest_intent().await?,
        oldest_waiting: store.oldest_waiting().await?,
        view,
    })
}

/// Who holds the data directory, as the lock's file says; the lock itself says whether that still holds.
fn holder(context: &Context, config: &Config) -> Option<String> {
    if !context.daemon_runs(&config.data_dir) {
        return None;
    }
    let text = disk::read_bounded(&config.lock_file(), HOLDER_BYTES).unwrap_or_default();
    Some(String::from_utf8_lossy(&text).into_owned())
}
