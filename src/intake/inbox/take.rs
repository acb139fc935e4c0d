//! Claim, judge, record: from a file at rest to its jobs in the queue.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use anyhow::Result;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Candidate, Inbox, Settings,
    claim::Claim,
    entry::{Decision, cap_bytes},
    judge::{self, Verdict},
    on_disk,
    place::free_place,
    scan,
    trouble::Area,
};
use crate::{
    clock::local,
    disk::{self, DiskError, shared},
    failpoint::{Point, reach},
    store::{
        CommitFault, StoreError,
        inbox::{InboxFile, NewFile},
    },
    vitals::{File, Part},
};

/// Files of one step. They are queued in one transaction, which the writer shares with the lanes: a thousand jobs each
/// hold up a submit by a second at most.
const BATCH: usize = 16;

/// A file that is ours by its name.
#[derive(Debug)]
struct Claimed {
    candidate: Candidate,
    claim: Claim,
    held: PathBuf,
}

/// A file whose content was judged.
struct Judged {
    file: NewFile,
    /// Where it stands now, which a row of an earlier run may not know.
    held: PathBuf,
}

impl Inbox {
    /// Takes the files, a batch after the other, so that the lanes get their turns.
    pub(super) async fn take(&mut self, all: Vec<Candidate>, stop: &CancellationToken) -> Result<()> {
        for batch in all.chunks(BATCH) {
            let vitals = self.store.vitals();
            vitals.beat(Part::Inbox).turn(vitals.now(), None);
            // Files are not hidden from their owners before there is a chance that they are queued and moved.
            let works = !self.troubles.has(Area::Place) && self.database_works().await?;
            if stop.is_cancelled() || !works {
                return Ok(());
            }
            let claimed = self.claim(batch.to_vec()).await?;
            let judged = self.judge(claimed).await?;
            let recorded = self.record(judged).await?;
            self.place(recorded).await?;
        }
        Ok(())
    }

    /// Whether a write goes through, if the last one did not.
    async fn database_works(&mut self) -> Result<bool> {
        if !self.troubles.has(Area::Database) {
            return Ok(true);
        }
        let tried = self.store.know_inbox(&self.settings.places.inbox).await;
        Ok(self.tolerate(tried)?.is_some())
    }

    async fn claim(&mut self, batch: Vec<Candidate>) -> Result<Vec<Claimed>> {
        let settings = Arc::clone(&self.settings);
        let (queue, clock) = (self.queue, self.clock);
        let tried = on_disk(move || {
            let claim = |candidate| claim_one(&settings, candidate, || Claim::new(queue, clock.number()));
            let tried: Vec<_> = batch.into_iter().map(claim).collect();
            let folders: BTreeSet<_> = tried
                .iter()
                .filter_map(|tried| tried.as_ref().ok()?.as_ref()?.held.parent())
                .map(PathBuf::from)
                .collect();
            // Before anything is queued: a power cut must not give the file its old name back.
            let synced = folders.iter().try_for_each(|folder| shared::sync_names(folder));
            (tried, synced)
        });
        let (tried, synced) = tried.await?;
        reach(Point::InboxClaimed);
        if let Err(error) = synced {
            self.troubles.set(Area::Folder, error.to_string());
            return Ok(Vec::new());
        }
        let mut claimed = Vec::with_capacity(tried.len());
        for one in tried {
            match one {
                Ok(one) => claimed.extend(one),
                Err((path, error)) => self.leave(&path, error.to_string()),
            }
        }
        Ok(claimed)
    }

    async fn judge(&mut self, claimed: Vec<Claimed>) -> Result<Vec<Judged>> {
        let (settings, now) = (Arc::clone(&self.settings), self.clock.now());
        let date = local(now).date().to_string();
        let judged = on_disk(move || {
            claimed.into_iter().map(|one| judge_one(&settings, one, &date)).collect::<Vec<_>>()
        });
        let mut sound = Vec::new();
        for one in judged.await? {
            match one {
                Ok(one) => sound.extend(one),
                Err((path, error)) => self.leave(&path, error.to_string()),
            }
        }
        Ok(sound)
    }

    /// Queues the jobs of these files, each file by itself.
    async fn record(&mut self, judged: Vec<Judged>) -> Result<Vec<InboxFile>> {
        let now = self.clock.now();
        let taken = judged.into_iter().map(|Judged { file, held }| {
            let (store, settings) = (self.store.clone(), Arc::clone(&self.settings));
            async move {
                if reach(Point::InboxCommit) {
                    let why = "a full disk, as a test asked for".to_owned();
                    return Err(StoreError::Commit(why, CommitFault::Full));
                }
                let recorded = match store.take_file(file.clone(), now).await {
                    Err(error @ StoreError::TooExpensive { .. }) => {
                        let place = settings.places.rejected.join(file.place.file_name().unwrap_or_default());
                        let remarks = format!("error: {error}\n");
                        store.take_file(NewFile { brings: None, remarks, place, ..file }, now).await
                    }
                    other => other,
                };
                recorded.map(|file| InboxFile { held, ..file })
            }
        });
        let mut recorded = Vec::new();
        for one in join_all(taken).await {
            if let Some(file) = self.tolerate(one)? {
                self.store.vitals().meter.file(if file.accepted { File::Accepted } else { File::Rejected });
                if file.accepted {
                    info!(path = file.name, "{} is queued", file.name);
                } else {
                    warn!(path = file.name, "{} is rejected: {}", file.name, first_line(&file.remarks));
                }
                recorded.push(file);
            }
        }
        reach(Point::InboxRecorded);
        Ok(recorded)
    }
}

/// Gives a file its claimed name, unless it has one or another klingd was quicker.
fn claim_one(
    settings: &Settings,
    candidate: Candidate,
    fresh: impl FnOnce() -> Claim,
) -> Result<Option<Claimed>, (PathBuf, DiskError)> {
    let inbox = &settings.places.inbox;
    let path = inbox.join(&candidate.entry.path);
    if let Some(claim) = candidate.claim.clone() {
        return Ok(Some(Claimed { candidate, claim, held: path }));
    }
    let claim = fresh();
    let held = path.with_file_name(claim.name_for(&candidate.name));
    match disk::below_root(inbox, &candidate.entry.path).and_then(|_| shared::take(&path, &held)) {
        Ok(true) => Ok(Some(Claimed { candidate, claim, held })),
        Ok(false) => Ok(None),
        Err(error) => Err((candidate.entry.path, error)),
    }
}

/// Reads and judges a file; `None` when it is no longer what was seen: it is looked at again as a claim without a row.
fn judge_one(
    settings: &Settings,
    Claimed { candidate, claim, held }: Claimed,
    date: &str,
) -> Result<Option<Judged>, (PathBuf, DiskError)> {
    let Candidate { entry, what, .. } = candidate;
    // As it would have been named on its own, for people: without the claim.
    let name = Claim::parse(held.file_name().unwrap_or_default())
        .map_or(entry.path.clone(), |(_, name)| entry.path.with_file_name(name));
    let verdict = match what {
        Decision::Refuse(refusal) => judge::refuse(&name, refusal),
        Decision::Take(format) => {
            let bytes = match disk::read_bounded(&held, cap_bytes(format)) {
                Err(DiskError::TooLarge { .. }) => return Ok(None),
                other => other.map_err(|error| (entry.path.clone(), error))?,
            };
            let after = held.strip_prefix(&settings.places.inbox).unwrap_or(&held).to_owned();
            let after = scan::look_at(&settings.places.inbox, after, entry.id.dev).ok().flatten();
            let same = after.is_some_and(|after| {
                (after.id, after.bytes, after.modified, after.links)
                    == (entry.id, entry.bytes, entry.modified, entry.links)
            });
            if !same || bytes.len() as u64 != entry.bytes {
                return Ok(None);
            }
            judge::judge(&settings.rules, &name, format, &bytes)
        }
        Decision::Ignore | Decision::Leave(_) | Decision::Wait(_) => return Ok(None),
    };
    let (folder, suffix) = match &verdict {
        Verdict::Accepted { .. } => (settings.places.accepted.join(date), super::place::STATUS),
        Verdict::Rejected { .. } => (settings.places.rejected.clone(), super::place::ERRORS),
    };
    let place = free_place(&folder, name.file_name().unwrap_or_default(), suffix);
    let (brings, remarks) = match verdict {
        Verdict::Accepted { batch, warnings } => (Some(batch), warnings),
        Verdict::Rejected { errors } => (None, errors),
    };
    let file = NewFile {
        claim: claim.as_str().to_owned(),
        name: name.to_string_lossy().into_owned(),
        held: held.clone(),
        place,
        brings,
        remarks,
    };
    Ok(Some(Judged { file, held }))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
