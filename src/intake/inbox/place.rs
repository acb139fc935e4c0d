//! Move, tell: a recorded file goes to its place, and the text beside it is kept current.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Result;
use futures_util::future::join_all;
use tracing::warn;

use super::{Inbox, TELL_EVERY, claim::Claim, on_disk, status, trouble::Area};
use crate::{
    clock::local,
    disk::{self, Access, Clobber, DiskError, numbered, shared},
    domain::Timestamp,
    failpoint::{Point, reach},
    store::inbox::InboxFile,
};

/// What is beside an accepted file.
pub(super) const STATUS: &str = ".status.txt";
/// What is beside a rejected file.
pub(super) const ERRORS: &str = ".errors.txt";
/// Files of one name in one folder. Whoever has more can tell them apart no better than we.
const MAX_NUMBER: u32 = 9_999;
/// Names tried for one file in one step: each miss is somebody else's file that came meanwhile.
const TRIES: usize = 8;

impl Inbox {
    /// Moves what an earlier step, or an earlier run, has recorded only.
    pub(super) async fn place_leftovers(&mut self) -> Result<()> {
        let files = self.store.files_to_place().await;
        match self.tolerate(files)? {
            Some(files) => self.place(files).await,
            None => Ok(()),
        }
    }

    /// Moves recorded files to their places.
    pub(super) async fn place(&mut self, files: Vec<InboxFile>) -> Result<()> {
        let mut placed = Vec::with_capacity(files.len());
        for file in files {
            let id = file.id;
            match self.put(file).await? {
                Placing::Done => placed.push(id),
                Placing::Later => {}
                // For the others there is none either: said once, and not once a file.
                Placing::NoRoom => break,
            }
        }
        reach(Point::InboxMoved);
        if placed.is_empty() {
            return Ok(());
        }
        let committed = self.store.files_placed(placed).await;
        self.tolerate(committed)?;
        reach(Point::InboxPlaced);
        self.tell_at = Some(self.clock.steady());
        Ok(())
    }

    /// Moves one.
    async fn put(&mut self, mut file: InboxFile) -> Result<Placing> {
        for _ in 0..TRIES {
            let (held, place) = (file.held.clone(), file.place.clone());
            match on_disk(move || put(&held, &place)).await? {
                Ok(Put::There) => {
                    self.troubles.clear(Area::Place);
                    return Ok(Placing::Done);
                }
                Ok(Put::Gone) => {
                    warn!(
                        path = file.name,
                        "{} was taken away while klingd had it; its jobs go on", file.name
                    );
                    return Ok(Placing::Done);
                }
                Err(DiskError::Exists { .. }) => {
                    let (folder, name) = (file.place.clone(), file.held.clone());
                    let suffix = if file.accepted { STATUS } else { ERRORS };
                    let place = on_disk(move || another_place(&folder, &name, suffix)).await?;
                    let changed = self.store.change_place(file.id, &place).await;
                    if self.tolerate(changed)?.is_none() {
                        return Ok(Placing::Later);
                    }
                    file.place = place;
                }
                Err(error) => {
                    self.troubles.set(Area::Place, error.to_string());
                    let no_room = matches!(error, DiskError::Full { .. });
                    return Ok(if no_room { Placing::NoRoom } else { Placing::Later });
                }
            }
        }
        Ok(Placing::Later)
    }

    /// Writes the texts that are no longer true.
    pub(super) async fn tell(&mut self) -> Result<()> {
        self.tell_at = None;
        let (steady, now) = (self.clock.steady(), self.clock.now());
        if self.troubles.has(Area::Folder) {
            return Ok(());
        }
        let files = self.store.files_to_tell().await;
        let files = self.tolerate(files)?.unwrap_or_default();
        let all = files.len();
        let due: Vec<_> = files.into_iter().filter(|file| may_be_told(file.told_at, now)).collect();
        let (mut told, mut failed) = (Vec::with_capacity(due.len()), None);
        for file in due {
            let text = self.text(&file).await?;
            let place = file.place.clone();
            let suffix = if file.accepted { STATUS } else { ERRORS };
            match on_disk(move || write_beside(&place, suffix, &text)).await? {
                Ok(()) => told.push(file),
                // Tried, and nothing told: the others come first the next time.
                Err(error) => {
                    failed = Some(error);
                    told.push(InboxFile { changes: 0, ..file });
                }
            }
            reach(Point::InboxTold);
        }
        let store = self.store.clone();
        for kept in join_all(told.iter().map(|file| store.file_told(file, now))).await {
            self.tolerate(kept)?;
        }
        self.tell_at = match failed {
            Some(error) => {
                self.troubles.set(Area::Status, error.to_string());
                Some(steady + self.settings.scan_every)
            }
            None if all == 0 => None,
            None => {
                self.troubles.clear(Area::Status);
                // What was not due was written less than a second ago.
                let more = told.len() == all;
                Some(if more { steady } else { steady + TELL_EVERY })
            }
        };
        Ok(())
    }

    async fn text(&self, file: &InboxFile) -> Result<String> {
        if !file.accepted {
            return Ok(status::errors(file, &self.settings.places.inbox));
        }
        let jobs = self.store.jobs_of_file(file.id).await?;
        let now = self.clock.now();
        Ok(status::status(file, &jobs, now, local(now).time_zone()))
    }
}

/// Whether a text that was written at `told_at` may be written anew.
fn may_be_told(told_at: Timestamp, now: Timestamp) -> bool {
    // A clock that was set back must not silence anything.
    told_at > now || now.since(told_at) >= TELL_EVERY
}

/// What became of a file that was to be moved.
enum Placing {
    Done,
    /// It has to be tried again.
    Later,
    /// The disk of the taken files is full.
    NoRoom,
}

/// Where a file stands after a move.
enum Put {
    There,
    /// In neither place: a person took it.
    Gone,
}

fn put(held: &Path, place: &Path) -> Result<Put, DiskError> {
    if is_absent(held) {
        // Moved before a kill: nobody else moves it, and its place was committed before.
        return Ok(if is_absent(place) { Put::Gone } else { Put::There });
    }
    if let Some(folder) = place.parent() {
        shared::create_shared(folder)?;
    }
    shared::move_away(held, place).map(|()| Put::There)
}

fn is_absent(path: &Path) -> bool {
    matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// A text is kept beside its file for as long as the file is there: who clears the folder away is done with it.
fn write_beside(place: &Path, suffix: &str, text: &str) -> Result<(), DiskError> {
    if is_absent(place) {
        return Ok(());
    }
    disk::write_atomically(&beside(place, suffix), text.as_bytes(), Access::Group, Clobber::Replace)
}

fn beside(place: &Path, suffix: &str) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    place.with_file_name(name)
}

/// The first name, by number, that neither a file nor a text has.
pub(super) fn free_place(folder: &Path, name: &OsStr, suffix: &str) -> PathBuf {
    let first = folder.join(name);
    let free = |place: &PathBuf| is_absent(place) && is_absent(&beside(place, suffix));
    (1..=MAX_NUMBER).map(|n| numbered(&first, n)).find(free).unwrap_or(first)
}

/// Another name in the same folder, from what the file was called.
fn another_place(place: &Path, held: &Path, suffix: &str) -> PathBuf {
    let held = held.file_name().unwrap_or_default();
    let name = Claim::parse(held).map_or(held, |(_, name)| name);
    free_place(place.parent().unwrap_or(place), name, suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_once_a_second_at_most() {
        let ms = Timestamp::from_millis;
        assert!(!may_be_told(ms(5_000), ms(5_000)) && !may_be_told(ms(5_000), ms(5_999)));
        assert!(may_be_told(ms(5_000), ms(6_000)) && may_be_told(ms(0), ms(5_000)));
        assert!(may_be_told(ms(5_000), ms(4_999)), "the clock was set back");
    }
}
