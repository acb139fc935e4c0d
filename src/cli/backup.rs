//! `klingd backup`: an online copy of the database.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::{Context, Exit, exit::Refusal, render::text::size};

/// Flags of `backup`.
#[derive(Args)]
pub struct BackupArgs {
    /// Where the copy goes; nothing may be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Copies the database, whether a daemon runs or not.
pub async fn run(context: Context, args: BackupArgs) -> Result<Exit> {
    let config = context.config()?;
    let file = args.file;
    // Where that can't be told, opening it says why.
    if matches!(config.database().try_exists(), Ok(false)) {
        return Err(Refusal::usage(format!("there is no queue in {} yet", config.data_dir.display())));
    }
    if file.symlink_metadata().is_ok() {
        let why = "is there already, and nothing is overwritten; name a new file";
        return Err(Refusal::usage(format!("{} {why}", file.display())));
    }
    let now = context.clock.now();
    let bytes = context
        .with_store(&config, async |store| Ok(store.back_up(&file, now).await?))
        .await
        .with_context(|| format!("the queue could not be copied to {}", file.display()))?;
    let mut left_out = vec![config.videos_root().to_owned(), config.staging_dir()];
    if config.inbox.enabled {
        left_out
            .extend([&config.inbox.path, &config.inbox.accepted, &config.inbox.rejected].map(PathBuf::from));
    }
    if context.global.json {
        let whole = json!({
            "path": file, "bytes": bytes, "made_at": now.to_string(), "not_included": left_out,
        });
        context.print(&whole.to_string());
    }
    let left_out: Vec<_> = left_out.iter().map(|path| path.display().to_string()).collect();
    context.say(&format!(
        "{} has the whole queue ({}). Not in it: {}, the configuration and the key.",
        file.display(),
        size(bytes),
        left_out.join(", ")
    ));
    context.say(&format!(
        "To restore it: stop klingd, copy it over {} (which keeps its owner), remove the -wal and -shm beside that, start. \
         It then holds all submits, since what is queued may have been paid meanwhile: klingd resume --hold restored",
        config.database().display()
    ));
    Ok(Exit::Done)
}
