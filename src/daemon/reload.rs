//! The configuration, read again while klingd runs (SIGHUP): checked first, swapped whole, and the old one kept on any
//! mistake. What is under way is finished as it began.

use std::{fmt::Write as _, sync::Arc};

use anyhow::Result;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::{
    lanes::{Ground, Live, hook_names},
    notify,
};
use crate::{
    config::{ApiKey, Config},
    domain::HoldName,
    intake::inbox,
    telemetry,
};

/// How the configuration is read again, and when.
pub struct Reload {
    /// Somebody asks for it.
    pub asked: Arc<Notify>,
    /// Reads everything as the start did: the file, the variables and flags of this process, the key.
    pub load: Box<dyn Fn() -> Result<(Config, ApiKey)> + Send + Sync>,
}

impl Reload {
    /// For those who have nothing to read again.
    pub fn never() -> Self {
        Self { asked: Arc::default(), load: Box::new(|| anyhow::bail!("there is nothing to read again")) }
    }
}

/// Where a configuration goes when it holds.
pub(super) struct Swap {
    pub live: watch::Sender<Arc<Live>>,
    pub inbox: watch::Sender<Arc<inbox::Settings>>,
    /// Why the last one was refused, for those who ask how klingd is.
    pub refused: watch::Sender<Option<String>>,
}

/// Reads the configuration again whenever somebody asks.
pub(super) async fn run(reload: Reload, swap: Swap, ground: Ground) -> Result<()> {
    loop {
        tokio::select! {
            () = ground.stop.cancelled() => return Ok(()),
            () = reload.asked.notified() => {}
        }
        notify::reloading().await;
        let taken = match (reload.load)() {
            Ok((config, key)) => swap.take(config, &key, &ground).await,
            Err(error) => Err(error),
        };
        ground.store.vitals().meter.reloaded(taken.is_ok());
        let refused = taken.err().map(|error| refusal(&error));
        swap.refused.send_replace(refused);
        notify::ready().await;
    }
}

impl Swap {
    async fn take(&self, mut config: Config, key: &ApiKey, ground: &Ground) -> Result<()> {
        let old = Arc::clone(&self.live.borrow());
        let changed = changed(&config, &old.config);
        let waiting = keep_what_needs_a_restart(&mut config, &old.config);
        let live = old.succeeding(&config, key, ground)?;
        let level = config.log.level;
        let another_key = key.fingerprint() != old.key.fingerprint();
        for warning in &config.warnings {
            warn!("{warning}");
        }
        // What is told of is known before a new hook is called.
        ground.store.keep_hooks(hook_names(&config)).await?;
        self.inbox.send_replace(Arc::clone(&live.inbox));
        self.live.send_replace(Arc::new(live));
        if another_key && let Some(hold) = hold_on_the_key(ground).await? {
            // A free call finds out now, and not when its next probe is due.
            ground.store.probe_hold_later(hold, ground.clock.now()).await?;
        }
        // Whoever waits goes by the new one.
        ground.store.bells().ring_all();
        let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
        info!(changed, "the configuration was read again; changed: {changed}");
        if !waiting.is_empty() {
            let waiting = waiting.join(", ");
            warn!(waiting, "these keys have changed, too, and need a restart of klingd: {waiting}");
        }
        telemetry::set_level(level);
        Ok(())
    }
}

async fn hold_on_the_key(ground: &Ground) -> Result<Option<HoldName>> {
    let now = ground.clock.now();
    let holds = ground.store.holds().await?;
    Ok(holds.iter().find(|hold| hold.name == HoldName::Key && hold.holds(now)).map(|hold| hold.name))
}

/// Says what is wrong as the command line does, one line each, and gives the sentence for `systemctl status`.
fn refusal(error: &anyhow::Error) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    write!(text, "{error:#}").unwrap_or_default();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    error!("the configuration that was read is not used, the one before holds: {first}");
    lines.clone().for_each(|line| error!("{line}"));
    match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more lines in the log)"),
    }
}

/// A key that holds from a start to its end: whether it differs, and how the old one is kept.
type NeedsRestart = (&'static str, fn(&Config, &Config) -> bool, fn(&mut Config, &Config));

macro_rules! needs_restart {
    ($($key:literal: $section:ident $(. $field:ident)?),+ $(,)?) => {
        &[$((
            $key,
            |new, old| new.$section $(.$field)? != old.$section $(.$field)?,
            |new, old| new.$section $(.$field)?.clone_from(&old.$section $(.$field)?),
        )),+]
    };
}

/// The places, which are locked, watched or known by their mark; the listening socket; the log's format.
const NEEDS_RESTART: &[NeedsRestart] = needs_restart![
    "data_dir": data_dir,
    "inbox.enabled": inbox.enabled,
    "inbox.path": inbox.path,
    "inbox.accepted": inbox.accepted,
    "inbox.rejected": inbox.rejected,
    "output.root": output.root,
    "metrics.listen": metrics.listen,
    "log.format": log.format,
];

/// Keeps the old values of the keys that need a restart; says which of them would have changed.
fn keep_what_needs_a_restart(new: &mut Config, old: &Config) -> Vec<&'static str> {
    let mut waiting = Vec::new();
    for (key, differs, keep) in NEEDS_RESTART {
        if differs(new, old) {
            waiting.push(*key);
            keep(new, old);
        }
    }
    waiting
}

/// The keys whose values differ, without those that need a restart. Their values stay unsaid: a default may be a prompt.
fn changed(new: &Config, old: &Config) -> Vec<String> {
    let waits = |key: &str| NEEDS_RESTART.iter().any(|(waits, ..)| *waits == key);
    let before = |key: &str| old.show().iter().find(|row| row.key == key).map(|row| &row.value);
    let mut keys: Vec<String> = new
        .show()
        .iter()
        .filter(|row| !waits(&row.key) && before(&row.key) != Some(&row.value))
        .map(|row| row.key.clone())
        .collect();
    let gone = |row: &&crate::config::Row| !new.show().iter().any(|now| now.key == row.key);
    keys.extend(old.show().iter().filter(gone).map(|row| row.key.clone()));
    keys
}
