//! `klingd cancel`.

use anyhow::Result;
use clap::Args;

use super::{
    Context, Exit,
    each::{changed, each},
    exit::Refusal,
};
use crate::{
    config::Config,
    domain::{Charge, JobId, State, state::Label},
    store::{Store, StoreError},
};

/// Flags of `cancel`.
#[derive(Args)]
pub struct CancelArgs {
    /// Jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
}

/// Cancels.
pub async fn run(context: Context, args: CancelArgs) -> Result<Exit> {
    let config = context.config()?;
    context
        .with_store(&config, |store| async {
            // Owned here, so that the last handle goes with the work and the writer ends.
            let store = store;
            Ok(each(&context, &args.ids, |id| cancel(&context, &config, &store, id)).await)
        })
        .await
}

async fn cancel(context: &Context, config: &Config, store: &Store, id: JobId) -> Result<Exit> {
    let moved = match store.cancel(id, false, context.clock.now()).await {
        Err(StoreError::NotNow { state: Label::Generating | Label::Downloading, .. }) => {
            let job = store.job(id).await?;
            let paid = job.charged.unwrap_or(job.estimate);
            let question = format!(
                "Job {id} is {} and paid ({paid} credits): cancelling gives nothing back, klingd only stops following it. Cancel it?",
                job.state.label()
            );
            if !context.confirm(&question)? {
                context.say(&format!("job {id} goes on"));
                return Ok(Exit::Usage);
            }
            store.cancel(id, true, context.clock.now()).await?
        }
        Err(StoreError::NotNow { state: Label::InDoubt, .. }) => {
            return Err(Refusal::usage(format!(
                "job {id} is in doubt: it may be paid, and is not dropped silently; say what became of it: klingd resolve {id}"
            )));
        }
        Err(StoreError::Illegal { why, .. }) if why.state == Label::Cancelled => {
            return changed(context, config, store, id, &format!("job {id} is cancelled already")).await;
        }
        other => other?,
    };
    let sentence = if let State::Submitting { attempt, .. } = moved.to {
        format!(
            "job {id} is on the wire (attempt {attempt}): it is cancelled once the answer is there; what that charges stays charged"
        )
    } else if let Some(task) = moved.to.task() {
        format!("job {id} is cancelled; its task {task} is paid, klingd retry {id} follows it again for free")
    } else if maybe_paid(store, id).await? {
        format!("job {id} is cancelled; an earlier attempt of it may have been charged: klingd show {id}")
    } else {
        format!("job {id} is cancelled; nothing was charged")
    };
    changed(context, config, store, id, &sentence).await
}

/// Whether any attempt counts as paid, held back or in doubt.
async fn maybe_paid(store: &Store, id: JobId) -> Result<bool> {
    Ok(store.attempts(id).await?.iter().any(|attempt| attempt.charge != Charge::Free.as_str()))
}
