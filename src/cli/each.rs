//! Several ids of one command: each is tried, errors are said, and the worst exit code counts.

use anyhow::Result;

use super::{Context, Exit, exit::report, json, view::View};
use crate::{config::Config, domain::JobId, store::Store};

/// Tries each id once, in the order in which they were named. The worst is the highest exit code.
pub async fn each<F: Future<Output = Result<Exit>>>(
    context: &Context,
    ids: &[i64],
    mut work: impl FnMut(JobId) -> F,
) -> Exit {
    let mut worst = Exit::Done;
    for (i, id) in ids.iter().enumerate() {
        if ids[..i].contains(id) {
            continue;
        }
        let exit = work(JobId(*id)).await.unwrap_or_else(|error| report(&error, &context.global));
        if exit.code() > worst.code() {
            worst = exit;
        }
    }
    worst
}

/// Says what a command did to a job; with `--json`, prints what it is now.
pub async fn changed(
    context: &Context,
    config: &Config,
    store: &Store,
    id: JobId,
    sentence: &str,
) -> Result<Exit> {
    context.say(sentence);
    if context.global.json {
        let view = View::read(store, config, context).await?;
        let (job, outputs) = (store.job(id).await?, store.outputs(id).await?);
        context.print(&json::job(&job, &outputs, &view).to_string());
    }
    Ok(Exit::Done)
}
