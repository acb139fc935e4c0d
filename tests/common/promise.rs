//! The promise of the design, held against the provider's own books after every test.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use klingd::{
    domain::{Credits, Job, Outcome, State, Timestamp, attempt::Charge, state::Failure},
    store::view::Filter,
};

use super::{KEY, Rig};

impl Rig {
    /// The promise: nothing paid twice, nothing paid forgotten, whole files only, and a history that tells the state.
    pub async fn check(&self) {
        assert_eq!(self.store.check().await.unwrap(), [""; 0], "the database");
        let jobs = self.store.list(&Filter { all: true, ..Filter::default() }).await.unwrap();
        let mut files = BTreeSet::new();
        let mut attempts = 0;
        for job in &jobs {
            assert_eq!(self.store.replay(job.id).await.unwrap(), job.state, "job {}: the history", job.id);
            attempts += self.check_money(job).await;
            files.extend(self.check_files(job).await);
        }
        for task in self.sandbox.tasks() {
            assert!(jobs.iter().any(|j| j.request.prompt() == task.prompt), "a paid job is lost: {task:?}");
        }
        assert!(self.posts().len() <= attempts, "a request left that no attempt stands for");
        assert!(self.fetches().iter().all(|f| !f.key_sent), "the key went to the place of the videos");
        self.check_books().await;
        self.check_disk(&jobs, &files);
    }

    /// What klingd counts is never less than what the provider keeps, and its sums agree with each other.
    async fn check_books(&self) {
        let ever = self.store.sums_ever().await.unwrap();
        assert_eq!(ever, self.store.sums(Timestamp::from_millis(i64::MIN)).await.unwrap());
        let kept: i64 = self.sandbox.ledger().iter().map(|charge| charge.kept).sum();
        let counted = i64::try_from(ever.spent().get()).unwrap();
        assert!(counted >= kept, "the provider keeps {kept} credits, klingd counts {ever:?}");
    }

    /// Charged at most once; what was charged is known, or in doubt and shown. Counts the attempts.
    async fn check_money(&self, job: &Job) -> usize {
        let (id, prompt) = (job.id, job.request.prompt());
        let tasks: Vec<_> = self.sandbox.tasks().into_iter().filter(|task| task.prompt == prompt).collect();
        assert!(tasks.len() <= 1, "job {id} was paid {} times", tasks.len());
        let attempts = self.attempts(id).await;
        let in_doubt = attempts.iter().any(|a| a.charge == Charge::InDoubt.as_str());
        for task in &tasks {
            let known = attempts.iter().any(|a| {
                let paid = a.charge == Charge::Charged.as_str() || a.refunded > Credits::ZERO;
                a.task_id.as_deref() == Some(&task.id) && paid
            });
            assert!(known || in_doubt, "job {id} paid for {} and does not know: {attempts:?}", task.id);
        }
        if let Some(task) = job.state.task() {
            assert!(
                tasks.iter().any(|t| t.id == task.as_str()),
                "job {id} follows a task that is not its own"
            );
        }
        for attempt in attempts.iter().filter(|a| a.charge == Charge::Free.as_str()) {
            let told = attempt.evidence.is_some() || attempt.outcome == Outcome::NotCharged;
            assert!(told, "job {id}: who says that attempt {} was not charged?", attempt.n);
        }
        attempts.len()
    }

    /// Every published video is the provider's, byte for byte, with its sidecar. Returns the files.
    async fn check_files(&self, job: &Job) -> Vec<PathBuf> {
        let outputs = self.store.outputs(job.id).await.unwrap();
        let done = matches!(job.state, State::Done { .. });
        assert!(!done || !outputs.is_empty(), "job {} is done without a video", job.id);
        let mut files = Vec::new();
        for output in outputs {
            assert!(!done || output.published_at.is_some(), "job {} is done, {output:?} is not", job.id);
            let (Some(_), Some(file), Some(task)) = (output.published_at, output.file, job.state.task())
            else {
                continue;
            };
            let path = PathBuf::from(file.path);
            let expected = self.sandbox.video(task.as_str(), output.index + 1).unwrap();
            assert!(fs::read(&path).unwrap() == expected, "{} is not the video", path.display());
            assert_eq!(file.bytes, expected.len() as u64);
            let sidecar = path.with_extension("json");
            let told: serde_json::Value = serde_json::from_slice(&fs::read(&sidecar).unwrap()).unwrap();
            assert_eq!((&told["task_id"], &told["sha256"]), (&task.as_str().into(), &file.sha256.into()));
            files.extend([path, sidecar]);
        }
        files
    }

    /// No stray files among the videos, and the key nowhere.
    fn check_disk(&self, jobs: &[Job], expected: &BTreeSet<PathBuf>) {
        let parts: Vec<_> =
            jobs.iter().filter(|j| may_have_parts(j)).map(|j| format!(".klingd-{}-", j.id)).collect();
        let mut all = Vec::new();
        walk(self.dir.path(), &mut all);
        // The reserve holds nothing but room, 8 MiB of it.
        for path in all.iter().filter(|path| !path.ends_with("reserve")) {
            assert!(!contains(&fs::read(path).unwrap_or_default(), KEY.as_bytes()), "{}", path.display());
        }
        for path in all.iter().filter(|path| path.starts_with(self.config.videos_root())) {
            let name = path.file_name().unwrap().to_string_lossy();
            let kept = name == klingd::disk::root::MARK
                || name.contains(".suspect")
                || parts.iter().any(|part| name.starts_with(part));
            assert!(kept || expected.contains(path), "what is {}?", path.display());
        }
    }
}

/// A video is on its way, or will be when somebody says `retry`.
fn may_have_parts(job: &Job) -> bool {
    matches!(&job.state, State::Downloading { .. })
        || matches!(&job.state, State::Failed { failure, .. } if failure.code == Failure::LOST)
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
