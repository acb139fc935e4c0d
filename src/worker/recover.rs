//! The start: spooled evidence is replayed, and what an earlier run left on the wire is put in doubt.

use anyhow::Result;
use tracing::{error, info, warn};

use super::{
    answer::{Answers, Reader},
    evidence::Spooled,
};
use crate::{
    domain::{Outcome, State, label::Label},
    failpoint::{Point, reach},
    store::{StoreError, step::Moved},
};

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Answers that were spooled and are now in the database.
    pub replayed: u32,
    /// Jobs that are in doubt since: nobody saw their answer, or it does not tell.
    pub in_doubt: u32,
}

/// Recovers. The caller holds the data directory's lock and has not started any lane.
pub async fn recover(answers: &Answers) -> Result<Recovered> {
    let mut found = Recovered::default();
    answers.spool.complete_cut_files()?;
    for spooled in answers.spool.read_all()? {
        match spooled {
            Ok(spooled) => {
                let Some(moved) = replay(answers, spooled).await? else { continue };
                found.replayed += 1;
                found.in_doubt += u32::from(matches!(moved.to, State::InDoubt { .. }));
            }
            Err((path, why)) => {
                error!(path = %path.display(), why, "a spooled answer can't be read; the file stays where it is");
            }
        }
    }
    for job in answers.store.on_the_wire().await? {
        let id = job.id;
        answers.store.orphan(job, answers.clock.now()).await?;
        found.in_doubt += 1;
        warn!(
            job.id = id.0,
            state.to = Label::InDoubt.as_str(),
            "job {id} is in doubt: klingd stopped while it was on the wire; klingd resolve {id}"
        );
        reach(Point::RecoverOrphaned);
    }
    Ok(found)
}

/// What the answer did to its job; nothing when it was there already, or when nobody knows its attempt.
async fn replay(answers: &Answers, spooled: Spooled) -> Result<Option<Moved>> {
    let Spooled { job, attempt, evidence } = spooled;
    let attempts = answers.store.attempts(job).await?;
    let Some(row) = attempts.iter().find(|a| a.n == attempt) else {
        warn!(job.id = job.0, "a spooled answer is for an attempt that the database does not know; it stays");
        return Ok(None);
    };
    let earlier = attempts.iter().filter(|a| a.n < attempt && a.outcome == Outcome::InternalError).count();
    let reader = Reader {
        attempt,
        internal_errors: u32::try_from(earlier).unwrap_or(u32::MAX),
        estimate: row.estimate,
        first_look: answers.schedules.first_look(&row.request, answers.clock.now()).await,
    };
    let outcome = answers.read(job, &reader, evidence).await?;
    let replayed = match answers.store.settle_submit(outcome).await {
        Ok(moved) => {
            let state = moved.to.label().as_str();
            info!(job.id = job.0, state.to = state, "the answer to job {job} was spooled; it is {state} now");
            Some(moved)
        }
        // It got into the database after all, before the file could be removed.
        Err(StoreError::NoSuchAttempt { .. }) => None,
        Err(StoreError::NoSuchJob(_)) => {
            warn!(job.id = job.0, "a spooled answer is for job {job}, which was pruned; it stays");
            return Ok(None);
        }
        Err(other) => return Err(other.into()),
    };
    reach(Point::RecoverReplayed);
    answers.spool.forget(job, attempt).await;
    Ok(replayed)
}
