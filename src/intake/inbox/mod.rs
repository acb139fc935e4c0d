//! The watched folder: drop a file, find the video.
//!
//! ```text
//! settled ─claim─► .klingd-…~NAME ─record─► row + jobs ─move─► accepted/DATE/NAME ─tell─► NAME.status.txt
//!          rename, sync     one transaction       rename, sync    rejected/NAME          NAME.errors.txt
//! ```
//!
//! Each arrow is durable before the next, and each can be found half done: a claim without a row is judged again, a row
//! that is not placed is moved, one that is not told is told. The claim's number is unique in the database, so that the
//! same taking queues once. Events are hints, the scan is truth. Nothing is deleted and nothing is overwritten.
//!
//! | file | owns |
//! |---|---|
//! | [`entry`] | what to do with one entry: pure |
//! | [`claim`] | the name of a taken file: pure |
//! | [`judge`] | a file's bytes → its jobs, or what is wrong: pure |
//! | [`status`] | the text beside a taken file: pure |
//! | [`folder`] | whether the folders can be worked with, and what to do when not |
//! | `scan` | one look |
//! | `watch` | the kernel's events |
//! | `take` | claim, judge, record |
//! | `place` | move, tell |

pub mod claim;
pub mod entry;
pub mod folder;
pub mod judge;
mod place;
mod scan;
pub mod status;
mod take;
mod trouble;
mod watch;

use std::{
    collections::HashMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    claim::Claim,
    entry::{Arrival, Decision, Entry, FileId, Seen, decide, decide_anothers_claim, decide_own_claim},
    folder::{Places, Ready},
    judge::Rules,
    trouble::{Area, Troubles},
    watch::Watch,
};
use crate::{
    clock::Clock,
    disk::shared,
    store::{Store, StoreError},
    vitals::Part,
};

/// The shortest time between two looks, however many events come: a large copy makes thousands.
const HINT_GAP: Duration = Duration::from_millis(100);
/// How many times as long as a look takes there is none, for events come all the while that a large file is copied.
const QUIET_FACTOR: u32 = 20;
/// The shortest time between two writes of one status file.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long a file that has nothing left to tell is remembered.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

/// What the configuration says.
pub struct Settings {
    /// Where the folders are.
    pub places: Places,
    /// How long a file must rest before it is taken.
    pub settle: Duration,
    /// How often the folder is read whatever the events said.
    pub scan_every: Duration,
    /// What a file may hold.
    pub rules: Rules,
}

/// The watcher of the folder: one task, whose steps follow one another.
pub struct Inbox {
    settings: Arc<Settings>,
    /// Where other settings come from; the places stay.
    news: Receiver<Arc<Settings>>,
    store: Store,
    clock: Clock,
    /// The name under which this queue claims.
    queue: u32,
    /// Whether the folder was seen with klingd's mark.
    known: bool,
    watch: Watch,
    /// Which folder the events' absence was told of.
    without_events: Option<FileId>,
    seen: HashMap<FileId, Seen>,
    /// What is left where it lies, and the reason that was given.
    left: HashMap<PathBuf, String>,
    troubles: Troubles,
    /// When to look, and when the last look was; by our steady clock, as all times here.
    scan_at: Duration,
    scanned_at: Duration,
    /// The time without a look, however many events come.
    quiet: Duration,
    tell_at: Option<Duration>,
    /// Whether files are about to be taken: until then a daemon that ends when idle is not idle.
    waiting: Sender<bool>,
}

/// A file to be taken now.
#[derive(Clone, Debug)]
struct Candidate {
    entry: Entry,
    /// What it is called, without the claim.
    name: OsString,
    /// The claim, if an earlier run has it already.
    claim: Option<Claim>,
    what: Decision,
}

impl Inbox {
    /// A watcher. `waiting` is true until a look has found nothing that is about to be taken.
    pub async fn open(
        store: Store,
        clock: Clock,
        mut news: Receiver<Arc<Settings>>,
        waiting: Sender<bool>,
    ) -> Result<Self> {
        let settings = Arc::clone(&news.borrow_and_update());
        let queue = store.inbox_queue(fresh(clock)).await?;
        let known = store.inbox_is_known(&settings.places.inbox).await?;
        store.forget_files(clock.now() - REMEMBERED).await?;
        let now = clock.steady();
        Ok(Self {
            settings,
            news,
            store,
            clock,
            queue,
            known,
            watch: Watch::default(),
            without_events: None,
            seen: HashMap::new(),
            left: HashMap::new(),
            troubles: Troubles::default(),
            scan_at: now,
            scanned_at: now,
            quiet: HINT_GAP,
            tell_at: Some(now),
            waiting,
        })
    }

    /// Watches until `stop`. An error is fatal: what is wrong with files and folders is said, and waited for.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let inbox = self.settings.places.inbox.display();
        info!(path = %inbox, "job files that are dropped into {inbox} are queued");
        let hints = Arc::clone(self.watch.hints());
        let mut commits = self.store.bells().commits.subscribe();
        while !stop.is_cancelled() {
            let vitals = Arc::clone(self.store.vitals());
            vitals.beat(Part::Inbox).turn(vitals.now(), None);
            self.step(&stop).await.context("the inbox")?;
            let now = self.clock.steady();
            let wake_at = self.tell_at.map_or(self.scan_at, |tell_at| tell_at.min(self.scan_at));
            tokio::select! {
                () = stop.cancelled() => {}
                () = hints.bell.notified() => {
                    self.scan_at = self.scan_at.min(self.scanned_at + self.quiet);
                }
                // A status file may have changed. Seldom looked at, whatever the number of commits.
                _ = commits.changed(), if self.tell_at.is_none() => self.tell_at = Some(now + TELL_EVERY),
                Ok(()) = self.news.changed() => {
                    self.settings = Arc::clone(&self.news.borrow_and_update());
                    self.scan_at = now;
                }
                () = tokio::time::sleep(wake_at.saturating_sub(now).min(vitals.turn_every())) => {}
            }
        }
        self.store.vitals().beat(Part::Inbox).rest();
        Ok(())
    }

    /// Does what is due: looks, takes, tells.
    async fn step(&mut self, stop: &CancellationToken) -> Result<()> {
        if self.scan_at <= self.clock.steady() {
            self.look(stop).await?;
        }
        if self.tell_at.is_some_and(|at| at <= self.clock.steady()) {
            self.tell().await?;
        }
        if let Some(trouble) = self.troubles.news() {
            let noted = self.store.note_inbox_trouble(trouble, self.clock.now()).await;
            self.tolerate(noted)?;
        }
        Ok(())
    }

    async fn look(&mut self, stop: &CancellationToken) -> Result<()> {
        self.scanned_at = self.clock.steady();
        self.scan_at = self.scanned_at + self.settings.scan_every;
        let Some(ready) = self.prepare().await? else {
            self.waiting.send_replace(false);
            return Ok(());
        };
        self.arm(ready);
        // It changes when this queue is found to be a copy, and when a person takes responsibility for one.
        let queue = self.store.inbox_queue(fresh(self.clock)).await;
        self.queue = self.tolerate(queue)?.unwrap_or(self.queue);
        self.place_leftovers().await?;
        let arrived = self.watch.hints().arrived();
        let settings = Arc::clone(&self.settings);
        let begun = self.clock.steady();
        let found = on_disk(move || scan::scan(&settings.places.inbox, ready.id.dev)).await?;
        let took = self.clock.steady().saturating_sub(begun);
        self.quiet = (took * QUIET_FACTOR).clamp(HINT_GAP, self.settings.scan_every.max(HINT_GAP));
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.troubles.set(Area::Folder, folder::unreadable(&self.settings.places.inbox, &error));
                return Ok(());
            }
        };
        let more = found.more;
        let (candidates, next) = self.plan(found, |path| match arrived.contains(path) {
            true => Arrival::RenamedIn,
            false => Arrival::Silent,
        });
        self.take(candidates, stop).await?;
        if more {
            self.scan_at = self.scanned_at + self.quiet;
        }
        if let Some(next) = next {
            self.scan_at = self.scan_at.min(next);
        }
        self.waiting.send_replace(more || next.is_some());
        Ok(())
    }

    /// Whether the folders can be worked with now.
    async fn prepare(&mut self) -> Result<Option<Ready>> {
        let (settings, known) = (Arc::clone(&self.settings), self.known);
        match on_disk(move || folder::prepare(&settings.places, known)).await? {
            Ok(ready) => {
                if self.troubles.clear(Area::Folder) {
                    self.tell_at = Some(self.clock.steady());
                }
                if ready.marked && !self.known {
                    let known = self.store.know_inbox(&self.settings.places.inbox).await;
                    self.known = self.tolerate(known)?.is_some();
                }
                Ok(Some(ready))
            }
            Err(trouble) => {
                self.troubles.set(Area::Folder, trouble);
                Ok(None)
            }
        }
    }

    /// Asks for events, which may not be had.
    fn arm(&mut self, ready: Ready) {
        let inbox = &self.settings.places.inbox;
        let armed = self.watch.arm(inbox, ready.id);
        let every = self.settings.scan_every.as_secs_f64();
        let why = match (armed, shared::network_filesystem(inbox)) {
            (Err(error), _) => error.to_string(),
            (Ok(()), Some(kind)) => format!("it is on {kind}"),
            (Ok(()), None) => return,
        };
        if self.without_events.replace(ready.id) != Some(ready.id) {
            info!(path = %inbox.display(), "what others drop into the inbox may not be noticed at once ({why}): it is found within {every} s");
        }
    }

    /// Decides about everything that was found: what is to be taken, in the order in which it was written, and when
    /// time alone brings more.
    fn plan(
        &mut self,
        found: scan::Found,
        arrival: impl Fn(&Path) -> Arrival,
    ) -> (Vec<Candidate>, Option<Duration>) {
        let (now, settle) = (self.clock.steady(), self.settings.settle);
        let (mut seen, mut left) = (HashMap::new(), HashMap::new());
        let (mut candidates, mut next) = (Vec::new(), None::<Duration>);
        for (path, why) in found.unreadable {
            left.insert(path, format!("it can't be looked at: {why}; klingd's user needs the permission to"));
        }
        for entry in found.entries {
            let looks = Seen::of(&entry, self.seen.get(&entry.id).copied(), now);
            seen.insert(entry.id, looks);
            let name = entry.path.file_name().unwrap_or_default();
            let (what, name, claim) = match Claim::parse(name) {
                Some((claim, name)) if claim.is_of(self.queue) => {
                    (decide_own_claim(&entry, looks, name, now, settle), name.to_owned(), Some(claim))
                }
                Some((_, name)) => (decide_anothers_claim(looks, now), name.to_owned(), None),
                None => {
                    let arrival = arrival(&self.settings.places.inbox.join(&entry.path));
                    (decide(&entry, looks, arrival, now, settle), name.to_owned(), None)
                }
            };
            match what {
                Decision::Ignore => {}
                Decision::Leave(why) => {
                    left.insert(entry.path, why.to_string());
                }
                Decision::Wait(until) => next = Some(next.map_or(until, |next| next.min(until))),
                Decision::Take(_) | Decision::Refuse(_) => {
                    // Why it could not be taken the last time, so as not to say it again.
                    left.extend(
                        self.left.get_key_value(&entry.path).map(|(path, why)| (path.clone(), why.clone())),
                    );
                    candidates.push(Candidate { entry, name, claim, what });
                }
            }
        }
        self.seen = seen;
        // What stays is said when it is found, and not at every look.
        let before = std::mem::take(&mut self.left);
        for (path, why) in left.iter().filter(|(path, why)| before.get(*path) != Some(why)) {
            warn!(path = %path.display(), "{} stays in the inbox: {why}", path.display());
        }
        self.left = left;
        candidates.sort_by(|a, b| (a.entry.modified, &a.entry.path).cmp(&(b.entry.modified, &b.entry.path)));
        (candidates, next)
    }

    /// Says once that a file stays, and why.
    fn leave(&mut self, path: &Path, why: String) {
        if self.left.get(path) != Some(&why) {
            warn!(path = %path.display(), "{} stays in the inbox: {why}", path.display());
        }
        self.left.insert(path.to_owned(), why);
    }

    /// What a full disk or another process keeps from being written now is tried again with the next look.
    fn tolerate<T>(&mut self, result: std::result::Result<T, StoreError>) -> Result<Option<T>> {
        match result {
            Ok(value) => {
                self.troubles.clear(Area::Database);
                Ok(Some(value))
            }
            Err(error) if error.is_full() || matches!(error, StoreError::Busy(_)) => {
                self.troubles.set(Area::Database, error.to_string());
                Ok(None)
            }
            Err(StoreError::Closed) => {
                debug!("the inbox stops: nothing more is written");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A name for a queue that has none yet.
fn fresh(clock: Clock) -> u32 {
    u32::try_from(clock.number() >> 32).unwrap_or_default()
}

/// Runs blocking work on the disk without holding up the runtime.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("work on the disk ended unexpectedly")
}
