//! Whether this queue is a copy of one that went on elsewhere: the one that sets the hold `restored`.
//!
//! A start compares what the database says of itself with where it is. The tally in the output root is compared before
//! anything is paid for, whenever the root is there, and written after each request: it never runs ahead of the database,
//! so that a crash between the two is not taken for a restored backup.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use tracing::{info, warn};

use super::ask::Ask;
use crate::{
    clock::Clock,
    disk::{self, DiskError},
    domain::{
        HoldName,
        hold::Hold,
        origin::{Here, Identity, Sign, why},
    },
    store::{self, Store, StoreError},
};

/// Where this queue is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its data directory.
    pub data_dir: PathBuf,
    /// The name of the database in it.
    pub database: &'static str,
    /// The root of its videos.
    pub output_root: PathBuf,
    /// The machine and the file.
    pub here: Here,
}

/// Watches for signs of a copy.
pub struct Origin {
    store: Store,
    clock: Clock,
    place: Place,
    /// What the tally says, by what was read or written last: of which queue, how many requests.
    told: Mutex<Option<(String, u64)>>,
    /// The output root, which may be on a share. One question after the other: a write that was late must not come after
    /// the next one, and turn the tally back.
    root: Ask,
}

impl Origin {
    /// Watches this place.
    pub fn new(store: Store, clock: Clock, place: Place) -> Self {
        Self { store, clock, place, told: Mutex::default(), root: Ask::default() }
    }

    /// The start, before anything else: takes along the paths of a data directory that was moved, and holds what is a copy
    /// by its own word, by its machine or by its file.
    pub async fn begin(&self) -> Result<()> {
        let known = self.store.origin().await?;
        let before = known.data_dir.as_deref().map(PathBuf::from);
        let twin = before.as_deref().filter(|before| self.is_another(before));
        let signs = match known.is_real {
            true => signs(&known, &self.place.here, twin),
            false => Vec::new(),
        };
        // The hold first: killed between the two, the next start finds the signs again, or the hold.
        if !signs.is_empty() {
            self.hold(&signs).await?;
        } else if known.is_real && !known.is_held {
            self.keep(&known.identity).await?;
        }
        if before.as_deref() != Some(&*self.place.data_dir) {
            if let Some(before) = &before {
                info!(before = %before.display(), now = %self.place.data_dir.display(), "the data directory was moved");
            }
            self.store.move_data_dir(before.as_deref(), &self.place.data_dir).await?;
        }
        Ok(())
    }

    /// Compares the tally with the database and brings it up to date. The output root is there and has its mark.
    ///
    /// # Errors
    /// The inner one speaks of the root: without its tally nothing more should be paid for.
    pub async fn look(&self) -> Result<Result<(), DiskError>, StoreError> {
        let known = self.store.origin().await?;
        if !known.is_real || known.is_held {
            return Ok(Ok(()));
        }
        // A person may just have taken responsibility for a copy, under a new name.
        self.keep(&known.identity).await?;
        let sent = (known.identity.queue, known.attempts);
        if self.told().as_ref() == Some(&sent) {
            return Ok(Ok(()));
        }
        let (root, (queue, attempts)) = (self.place.output_root.clone(), sent.clone());
        let compared = self.root.ask(&self.place.output_root, move || compare(&root, &queue, attempts));
        match compared.await {
            Ok(0) => *self.told() = Some(sent),
            Ok(by) => self.hold(&[Sign::Behind { by }]).await?,
            Err(error) => return Ok(Err(error)),
        }
        Ok(Ok(()))
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Option<(String, u64)>> {
        // Nothing that can panic runs under this lock.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps where this queue is while it runs.
    async fn keep(&self, known: &Identity) -> Result<(), StoreError> {
        let now = known.now_at(&self.place.here);
        if now == *known { Ok(()) } else { self.store.keep_identity(&now).await }
    }

    async fn hold(&self, signs: &[Sign]) -> Result<(), StoreError> {
        let why = why(signs);
        warn!(
            hold = HoldName::Restored.as_str(),
            why,
            "nothing is submitted: {}",
            HoldName::Restored.remedy()
        );
        let hold =
            Hold { name: HoldName::Restored, since: self.clock.now(), why, until: None, probe_at: None };
        self.store.hold_copy(hold).await
    }

    /// Whether another queue stands in `dir`: not this one, by a link or under another mount.
    fn is_another(&self, dir: &Path) -> bool {
        let file = |dir: &Path| {
            let file = dir.join(self.place.database).metadata().ok()?;
            Some((file.dev(), file.ino()))
        };
        file(dir).is_some_and(|there| Some(there) != file(&self.place.data_dir))
    }
}

/// What a start finds. While the hold stands, only a backup that was put in its place since is news.
fn signs(known: &store::origin::Origin, here: &Here, twin: Option<&Path>) -> Vec<Sign> {
    let stamp = known.stamp.clone().map(Sign::Stamped);
    if known.is_held && stamp.is_none() {
        return Vec::new();
    }
    let moved = known.identity.signs(here);
    let twin = twin.map(|dir| Sign::Twin(dir.display().to_string()));
    stamp.into_iter().chain(moved).chain(twin).collect()
}

/// How many requests the database does not know of; where it knows of all, the tally is brought up to date.
fn compare(root: &Path, queue: &str, attempts: u64) -> Result<u64, DiskError> {
    // Not on a mount point without its disk.
    disk::root::check(root)?;
    let sent = disk::tally::read(root, queue)?;
    match sent {
        Some(sent) if sent > attempts => Ok(sent - attempts),
        Some(sent) if sent == attempts => Ok(0),
        Some(_) | None => disk::tally::write(root, queue, attempts).map(|()| 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::{root, tally},
        store::{Access, World},
    };

    /// A queue in a folder of its own, its writer running.
    async fn queue(dir: &Path, world: World) -> Store {
        let (store, writer) = Store::open(&dir.join("klingd.db"), Access::Use).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "the writer of a test")]
        tokio::spawn(writer.run());
        store.stamp(dir, world).await.unwrap();
        store
    }

    fn origin(store: &Store, dir: &Path, machine: &str, file: u64) -> Origin {
        let here = Here { machine: Some(machine.into()), file: Some(file) };
        let output_root = dir.join("videos");
        let place = Place { data_dir: dir.to_owned(), database: "klingd.db", output_root, here };
        Origin::new(store.clone(), Clock, place)
    }

    async fn held(store: &Store) -> Option<String> {
        let holds = store.holds().await.unwrap();
        assert!(holds.iter().all(|hold| hold.name == HoldName::Restored));
        holds.into_iter().next().map(|hold| hold.why)
    }

    #[tokio::test]
    async fn another_machine_is_held_until_a_person_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = queue(dir.path(), World::Real).await;
        root::establish(&dir.path().join("videos")).unwrap();
        for _ in 0..2 {
            origin(&store, dir.path(), "a", 7).begin().await.unwrap();
            assert_eq!(held(&store).await, None);
        }
        let first = store.origin().await.unwrap().identity;
        for (machine, file, sign) in
            [("b", 7, "ran on another machine"), ("a", 8, "a copied file"), ("b", 8, "a copied file")]
        {
            // Twice: the second start finds the hold, and adds nothing to it.
            for _ in 0..2 {
                origin(&store, dir.path(), machine, file).begin().await.unwrap();
                let why = held(&store).await.unwrap();
                assert!(why.contains(sign) && why.contains("may have been paid"), "{why}");
                assert_eq!(store.origin().await.unwrap().identity, first, "still in doubt");
            }
            // Back on its machine the hold still stands: who knows what the other one did.
            origin(&store, dir.path(), "a", 7).begin().await.unwrap();
            assert!(held(&store).await.is_some());
            store.lift(vec![HoldName::Restored]).await.unwrap();
            store.keep_identity(&first).await.unwrap();
        }
        origin(&store, dir.path(), "b", 8).begin().await.unwrap();
        store.lift(vec![HoldName::Restored]).await.unwrap();
        // A running daemon takes it over at its next look, one that starts at once.
        let there = origin(&store, dir.path(), "b", 8);
        there.look().await.unwrap().unwrap();
        let second = store.origin().await.unwrap().identity;
        assert_ne!(first.queue, second.queue, "two clones do not count as one");
        assert_eq!(tally::read(&dir.path().join("videos"), &second.queue).unwrap(), Some(0));
        origin(&store, dir.path(), "b", 8).begin().await.unwrap();
        assert_eq!(held(&store).await, None);
    }

    #[tokio::test]
    async fn a_database_that_is_behind_the_tally_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let videos = dir.path().join("videos");
        let store = queue(dir.path(), World::Real).await;
        let here = origin(&store, dir.path(), "a", 7);
        here.begin().await.unwrap();
        // An empty mount point is no place for a tally.
        std::fs::create_dir(&videos).unwrap();
        assert!(matches!(here.look().await.unwrap(), Err(DiskError::Unmounted { .. })));
        root::establish(&videos).unwrap();
        here.look().await.unwrap().unwrap();
        let queue = store.origin().await.unwrap().identity.queue;
        assert_eq!(tally::read(&videos, &queue).unwrap(), Some(0));
        tally::write(&videos, &queue, 2).unwrap();
        origin(&store, dir.path(), "a", 7).look().await.unwrap().unwrap();
        assert!(
            held(&store).await.unwrap().starts_with("2 requests were sent that this database does not know")
        );
        here.look().await.unwrap().unwrap();
        assert_eq!(tally::read(&videos, &queue).unwrap(), Some(2), "what is in doubt is not overwritten");
    }

    #[tokio::test]
    async fn a_moved_directory_is_no_copy_and_a_copied_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new, link] = ["old", "new", "link"].map(|name| dir.path().join(name));
        std::fs::create_dir(&old).unwrap();
        let store = queue(&old, World::Real).await;
        origin(&store, &old, "a", 7).begin().await.unwrap();
        // By another name for the same place: the row is rewritten, and nothing is held.
        std::os::unix::fs::symlink(&old, &link).unwrap();
        origin(&store, &link, "a", 7).begin().await.unwrap();
        assert_eq!(held(&store).await, None);
        drop(store);
        disk::rename_no_clobber(&old, &new).unwrap();
        let store = queue(&new, World::Real).await;
        origin(&store, &new, "a", 7).begin().await.unwrap();
        assert_eq!(held(&store).await, None);
        assert_eq!(store.origin().await.unwrap().data_dir.as_deref(), new.to_str());
        // Now the one before still stands.
        std::fs::create_dir(&old).unwrap();
        store.back_up(&old.join("klingd.db"), Clock.now()).await.unwrap();
        let store = queue(&old, World::Real).await;
        origin(&store, &old, "a", 7).begin().await.unwrap();
        assert!(held(&store).await.unwrap().contains(&format!("is still in {}", new.display())));
    }

    #[tokio::test]
    async fn simulated_money_is_never_held() {
        let dir = tempfile::tempdir().unwrap();
        let store = queue(dir.path(), World::Sandbox).await;
        for (machine, file) in [("a", 7), ("b", 8)] {
            let here = origin(&store, dir.path(), machine, file);
            here.begin().await.unwrap();
            here.look().await.unwrap().unwrap();
        }
        assert_eq!(held(&store).await, None);
    }
}
