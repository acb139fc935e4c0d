//! The hook lane: runs the programs that are told what happened, the calls of each in turn. A hook that fails, hangs or is
//! missing costs a warning and a few tries, and never changes a job.

mod program;

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::program::Ended;
use super::{Lane, Look};
use crate::{
    clock::Clock,
    domain::{Job, Timestamp, hook::next_try},
    store::{Store, StoreError, download::Output, hook::HookCall},
    vitals::Part,
};

/// How often a full disk is tried again for what is to be recorded of a call.
const RECORD_AGAIN: Duration = Duration::from_secs(10);

/// A program that is told what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// By which its calls know it.
    pub name: String,
    /// The program, by its whole path.
    pub program: String,
    /// Its arguments; no shell reads them.
    pub arguments: Vec<String>,
    /// After this long it is killed.
    pub timeout: Duration,
}

/// The JSON of a job, as commands print it.
pub type Describe = fn(&Job, &[Output]) -> Value;

/// Calls hooks.
pub struct HookLane {
    /// The database.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// All of them, each by a name of its own.
    pub hooks: Vec<Arc<Hook>>,
    /// Where they run.
    pub directory: PathBuf,
    /// How a job is told.
    pub describe: Describe,
    /// Whether the queue is the sandbox's: whoever is told must be able to tell.
    pub sandbox: bool,
    /// Ends programs that run: a stop does not wait for them.
    pub stop: CancellationToken,
}

impl Lane for HookLane {
    // The calls of one hook are made one after the other: no script needs a lock, and the order is that of what happened.
    type Key = String;
    type Work = (Arc<Hook>, HookCall);

    fn part(&self) -> Part {
        Part::Hook
    }

    fn width(&self) -> usize {
        self.hooks.len()
    }

    fn longest_step(&self) -> Option<Duration> {
        // Each program has its own time, after which it is killed; none of them is a reason to start klingd again.
        None
    }

    fn bell(&self) -> &Notify {
        &self.store.bells().hook
    }

    async fn look(&self, _: usize, busy: &HashSet<String>) -> Result<Look<String, Self::Work>> {
        let now = self.clock.now();
        let mut work = Vec::new();
        for hook in self.hooks.iter().filter(|hook| !busy.contains(&hook.name)) {
            if let Some(call) = self.store.next_hook_call(&hook.name, now).await? {
                work.push((hook.name.clone(), (Arc::clone(hook), call)));
            }
        }
        Ok(Look { work, next_at: self.store.next_hook_call_at(now).await? })
    }

    async fn step(&self, (hook, call): Self::Work) -> Result<()> {
        let Some(event) = self.event(&call).await? else {
            // Its job was pruned meanwhile: there is nothing left to tell.
            return self.record(call.id, None).await;
        };
        let ended = program::run(&hook, &self.directory, call.event, &event, &self.stop).await;
        let (name, word, job) = (&hook.name, call.event.as_str(), call.job.map(|job| job.0));
        let why = match ended {
            Ended::Well => {
                debug!(hook = name, event = word, job.id = job, "hook {name} was told of {word}");
                return self.record(call.id, None).await;
            }
            // As if it had not begun: the next start calls it again.
            Ended::Stopped => return Ok(()),
            Ended::Badly(why) => why,
        };
        let again = next_try(call.failures + 1, self.clock.now());
        match again {
            Some(at) => {
                warn!(hook = name, event = word, job.id = job, error = ?why, "hook {name} failed on {word}; it is called again at {at}");
            }
            None => {
                warn!(hook = name, event = word, job.id = job, error = ?why, "hook {name} failed on {word} for the last time: it is not told of this any more");
            }
        }
        self.record(call.id, again).await
    }
}

impl HookLane {
    /// Records that a call is over, or when it is made again. On a full disk it waits: a hook is no reason to stop, and a
    /// program that was heard is not run at every start until there is room.
    async fn record(&self, id: i64, again: Option<Timestamp>) -> Result<()> {
        loop {
            let recorded = match again {
                Some(at) => self.store.put_off_hook_call(id, at).await,
                None => self.store.end_hook_call(id).await,
            };
            match recorded {
                Err(error) if error.is_full() => {
                    debug!("the end of a hook's call can't be recorded yet: {error}");
                }
                recorded => return Ok(recorded?),
            }
            tokio::select! {
                () = tokio::time::sleep(RECORD_AGAIN) => {}
                // The next start calls it once more.
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// What the program reads; nothing when its job is gone.
    async fn event(&self, call: &HookCall) -> Result<Option<Value>> {
        let mut event = json!({
            "event": call.event.as_str(),
            "id": call.id,
            "at": call.at.to_string(),
            "hook": call.hook,
            "try": call.failures + 1,
            "sandbox": self.sandbox,
        });
        if let Some(id) = call.job {
            match self.store.job(id).await {
                Ok(job) => event["job"] = (self.describe)(&job, &self.store.outputs(id).await?),
                Err(StoreError::NoSuchJob(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        if let (Value::Object(event), Some(Value::Object(detail))) = (&mut event, call.detail.clone()) {
            event.extend(detail);
        }
        Ok(Some(event))
    }
}
