//! What is there to be judged: the queue, the ledger of the double, the files. Gathered, not judged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use klingd::domain::{Event, Job, JobId, State};
use klingd::sandbox::Sandbox;
use klingd::store::download::Output;
use klingd::store::view::{AttemptRow, Filter};
use klingd::store::{Store, StoreError};

use super::{KEY, Rig, with_store};

/// Everything that a promise is about, at one moment.
pub struct Facts {
    pub jobs: Vec<JobFacts>,
    /// What SQLite finds wrong.
    pub damage: Vec<String>,
    /// What stands below the root of the videos.
    pub files: Vec<Found>,
    /// Answers that wait in the spool.
    pub spooled: usize,
    /// Where the key was found, or a signed link where none belongs.
    pub leaks: Vec<String>,
    /// How long the log of writes beside the database is.
    pub wal_bytes: u64,
    /// The most descriptors that any daemon of the rig was seen with.
    pub descriptors: usize,
}

/// One job from all sides.
pub struct JobFacts {
    pub prompt: String,
    /// How often the double took money for it.
    pub charges: usize,
    /// How often a person agreed to pay for it again.
    pub consents: usize,
    /// Nothing if the queue has lost it.
    pub row: Option<Row>,
}

/// One job as the queue has it.
pub struct Row {
    pub job: Job,
    pub replayed: Result<State, StoreError>,
    pub attempts: Vec<AttemptRow>,
    pub outputs: Vec<Output>,
    /// A plain `list` shows it as one that needs a person.
    pub shown_in_need: bool,
}

/// A file below the root of the videos.
pub struct Found {
    pub path: PathBuf,
    pub content: Vec<u8>,
    /// What it must be, if it is the video of a job.
    pub wanted: Option<Vec<u8>>,
}

impl Facts {
    /// The jobs of which nobody knows whether they are paid.
    pub fn in_doubt(&self) -> impl Iterator<Item = &Job> {
        let jobs = self.jobs.iter().filter_map(|job| job.row.as_ref()).map(|row| &row.job);
        jobs.filter(|job| matches!(job.state, State::InDoubt { .. }))
    }
}

/// Looks at everything. The database is looked at in a copy: opening it would recover it, and that is the next
/// daemon's work.
pub async fn facts(rig: &Rig) -> Facts {
    // Not among the temporary files, which may be on a disk that is full on purpose.
    let copy = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("klingd.db{suffix}");
        if rig.data_dir().join(&name).exists() {
            fs::copy(rig.data_dir().join(&name), copy.path().join(&name)).unwrap();
        }
    }
    let wal_bytes = fs::metadata(rig.data_dir().join("klingd.db-wal")).map_or(0, |wal| wal.len());
    let (jobs, damage) = with_store(&copy.path().join("klingd.db"), async |store| {
        let mut jobs = Vec::new();
        for (id, prompt) in rig.jobs() {
            let charges = rig.sandbox.charges_for(prompt);
            let row = row(&store, *id).await;
            jobs.push(JobFacts {
                prompt: prompt.clone(),
                charges,
                consents: consents(&store, *id).await,
                row,
            });
        }
        (jobs, store.check().await.unwrap())
    })
    .await;
    let mut files = files_below(rig.videos());
    // The mark, and the tally of what was sent.
    files.retain(|path| {
        !path.ends_with(klingd::disk::root::MARK) && path.extension().is_none_or(|e| e != "sent")
    });
    files.extend(files_below(&rig.data_dir().join("staging")));
    Facts {
        files: files.into_iter().map(|path| found(path, &jobs, &rig.sandbox)).collect(),
        spooled: files_below(&rig.data_dir().join("spool")).len(),
        leaks: leaks(rig),
        wal_bytes,
        descriptors: rig.most_descriptors(),
        jobs,
        damage,
    }
}

async fn row(store: &Store, id: JobId) -> Option<Row> {
    let shown = store.list(&Filter::default()).await.unwrap();
    Some(Row {
        job: store.job(id).await.ok()?,
        replayed: store.replay(id).await,
        attempts: store.attempts(id).await.unwrap(),
        outputs: store.outputs(id).await.unwrap(),
        shown_in_need: shown.iter().any(|job| job.id == id && job.state.needs_person().is_some()),
    })
}

/// A new render, or a submit that was to be repeated although it may be paid: only a person's command does either.
async fn consents(store: &Store, id: JobId) -> usize {
    let history = store.history(id).await.unwrap_or_default();
    history.iter().filter(|row| matches!(row.event, Event::Requeued | Event::Resubmitted { .. })).count()
}

fn found(path: PathBuf, jobs: &[JobFacts], sandbox: &Sandbox) -> Found {
    // The rig's template names a video by its job; the second of one is called so.
    let stem = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".mp4")).unwrap_or_default();
    let (owner, number) = stem.split_once('-').unwrap_or((stem, "1"));
    let (owner, number) = (owner.parse().ok(), number.parse().unwrap_or(u32::MAX));
    let job = owner.and_then(|owner| {
        jobs.iter().filter_map(|job| job.row.as_ref()).find(|row| row.job.id == JobId(owner))
    });
    let task = job.and_then(|row| row.job.state.task());
    let wanted = task.and_then(|task| sandbox.video(task.as_str(), number));
    Found { content: fs::read(&path).unwrap(), path, wanted }
}

/// The key belongs nowhere; a signed link belongs in the rows, and nowhere else.
fn leaks(rig: &Rig) -> Vec<String> {
    let mut places: BTreeSet<PathBuf> = files_below(rig.data_dir()).into_iter().collect();
    places.extend(files_below(rig.videos()));
    // Videos are compared byte by byte anyway, and the reserve is room and nothing else: 8 MiB to search each time.
    places.retain(|path| {
        !path.ends_with("reserve") && path.extension().is_none_or(|extension| extension != "mp4")
    });
    let mut leaks = Vec::new();
    for path in places {
        let content = fs::read(&path).unwrap();
        leaks.extend(contains(&content, KEY).then(|| format!("the key is in {}", path.display())));
        // A link is in the database, with what surrounds it, and in no file that people read or copy.
        let is_database =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("klingd.db"));
        let signed = !is_database && contains(&content, "sig=");
        leaks.extend(signed.then(|| format!("a signed link is in {}", path.display())));
    }
    let said = rig.said();
    leaks.extend(said.contains(KEY).then(|| "the key is in the log".to_owned()));
    leaks.extend(said.contains("sig=").then(|| "a signed link is in the log".to_owned()));
    leaks
}

fn contains(content: &[u8], part: &str) -> bool {
    content.windows(part.len()).any(|window| window == part.as_bytes())
}

/// All regular files, however deep; none where there is no folder.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}
