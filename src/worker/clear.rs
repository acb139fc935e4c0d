//! The temporary files of videos that nobody fetches any more. Only files that klingd made are removed: those whose names
//! it recorded, and those that have the name of a job's temporary file in the place of that job's temporary file.

use std::{collections::HashSet, path::PathBuf};

use anyhow::Result;
use tracing::{debug, warn};

use super::publish::{OutputSettings, owner_of_part};
use crate::{
    disk::{self, DiskError, part::parts_in},
    domain::{JobId, State, Timestamp},
    store::{Store, StoreError},
};

/// Jobs cleared at once: the rest waits for the next time.
const AT_ONCE: u32 = 100;

/// Clears what is left of dead jobs; the `first` time in staging too, where a kill may have left the original of a copy.
pub(super) async fn clear(
    store: &Store,
    output: &OutputSettings,
    busy: &HashSet<JobId>,
    first: bool,
    now: Timestamp,
) -> Result<()> {
    for (job, outputs) in store.to_clear(AT_ONCE).await? {
        if busy.contains(&job.id) {
            continue;
        }
        let mut parts: Vec<PathBuf> = outputs.iter().flat_map(|o| output.parts(&job, o.index)).collect();
        // Where the template or the root was another one then.
        parts.extend(outputs.iter().filter_map(|o| o.partial.as_ref()).map(|p| PathBuf::from(&p.path)));
        match remove(parts).await? {
            Ok(()) => store.record_cleared(job.id, now).await?,
            Err(error) => {
                debug!(job.id = job.id.0, why = %error, "temporary files of job {} stay for now", job.id)
            }
        }
    }
    if first {
        clear_staging(store, output).await?;
    }
    Ok(())
}

async fn clear_staging(store: &Store, output: &OutputSettings) -> Result<()> {
    let staging = output.staging.clone();
    let parts = match tokio::task::spawn_blocking(move || parts_in(&staging)).await? {
        Ok(parts) => parts,
        Err(DiskError::Gone { .. }) => return Ok(()),
        Err(error) => {
            warn!(why = %error, "staging can't be looked through");
            return Ok(());
        }
    };
    for (path, name) in parts {
        let Some((job, index)) = owner_of_part(&name) else { continue };
        if !is_wanted(store, job, index).await? {
            remove(vec![path])
                .await?
                .unwrap_or_else(|error| warn!(why = %error, "a file in staging can't be removed"));
        }
    }
    Ok(())
}

/// Whether a video is fetched, or will be when a person says so.
async fn is_wanted(store: &Store, job: JobId, index: u32) -> Result<bool> {
    let job = match store.job(job).await {
        Ok(job) => job,
        Err(StoreError::NoSuchJob(_)) => return Ok(false),
        Err(other) => return Err(other.into()),
    };
    Ok(match &job.state {
        State::Downloading { missing, .. } => missing.contains(&index),
        // Followed again: what is whole already need not be fetched again.
        State::Queued | State::Submitting { .. } | State::InDoubt { .. } | State::Generating { .. } => true,
        // Lost: a person may say so.
        State::Failed { .. } => job.state.needs_person().is_some(),
        State::Done { .. } | State::Cancelled { .. } => false,
    })
}

async fn remove(parts: Vec<PathBuf>) -> Result<Result<(), DiskError>> {
    let removed = tokio::task::spawn_blocking(move || {
        let there = parts.iter().filter(|part| part.symlink_metadata().is_ok_and(|file| file.is_file()));
        there.into_iter().try_for_each(|part| disk::remove_durably(part))
    });
    Ok(removed.await?)
}
