//! What people and programs do beside a daemon that may be killed at any instant: commands, and files dropped into the
//! inbox. What was acknowledged is remembered, and must be there whatever is killed afterwards.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use klingd::store::view::Filter;

use super::rig::Rig;
use super::tally::{Invariant, Verdict};

/// The traffic of one life, by the dice of its seed.
pub struct Traffic {
    dice: fastrand::Rng,
    inbox: PathBuf,
    /// Prompts that a command has acknowledged, and that are in a file which was dropped whole.
    acknowledged: BTreeSet<String>,
    dropped: BTreeSet<String>,
    /// How often each kind was done.
    pub done: Vec<&'static str>,
    next: u32,
}

impl Traffic {
    /// Beside this rig, whose daemons get an inbox.
    pub fn beside(rig: &mut Rig, seed: u64) -> Self {
        let inbox = rig.data_dir().join("inbox");
        rig.set("KLINGD_INBOX__PATH", inbox.to_str().unwrap());
        rig.set("KLINGD_INBOX__SETTLE", "100ms");
        rig.set("KLINGD_INBOX__SCAN_EVERY", "100ms");
        Self {
            dice: fastrand::Rng::with_seed(seed ^ 0x7261_6666_6963),
            inbox,
            acknowledged: BTreeSet::new(),
            dropped: BTreeSet::new(),
            done: Vec::new(),
            next: 0,
        }
    }

    /// So many things, one after the other.
    pub async fn flows(&mut self, rig: &Rig, things: usize) {
        for _ in 0..things {
            let last = i64::from(self.next) + rig.jobs().len() as i64;
            let job = self.dice.i64(1..=last.max(1)).to_string();
            let prompt = self.prompt();
            match self.dice.u8(..10) {
                0 | 1 => self.drop_at_once(&prompt),
                2 => self.drop_slowly(rig, &prompt).await,
                3 | 4 => self.enqueue(rig, &prompt).await,
                5 => self.says(rig, "cli:cancel", &["cancel", &job, "--yes"]).await,
                6 => self.says(rig, "cli:set", &["set", &job, "--priority", "7"]).await,
                7 => self.says(rig, "cli:list", &["list", "--json"]).await,
                8 => {
                    self.says(rig, "cli:pause", &["pause"]).await;
                    self.says(rig, "cli:resume", &["resume"]).await;
                }
                _ => {
                    self.says(rig, "cli:retry", &["retry", &job]).await;
                    self.says(rig, "cli:prune", &["prune", "--older-than", "30d", "--yes"]).await;
                }
            }
        }
    }

    fn prompt(&mut self) -> String {
        self.next += 1;
        format!("thing {} of the traffic", self.next)
    }

    /// Its code says whether it was done; what is refused (a job that is done can't be cancelled) is no fault.
    async fn says(&mut self, rig: &Rig, kind: &'static str, arguments: &[&str]) {
        let output = rig.command(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some_and(|code| code != 101), "{arguments:?} panicked: {said}");
        self.done.push(kind);
    }

    async fn enqueue(&mut self, rig: &Rig, prompt: &str) {
        let what = ["enqueue", "--type", "pro-text-to-video", "--duration", "3", "--prompt", prompt];
        let output = rig.command(&what).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.acknowledged.insert(prompt.to_owned());
        self.done.push("cli:enqueue");
    }

    /// Written beside, then renamed: whole from the first moment.
    fn drop_at_once(&mut self, prompt: &str) {
        fs::create_dir_all(&self.inbox).unwrap();
        let aside = self.inbox.join(format!(".drop-{}", self.next));
        File::create(&aside).unwrap().write_all(text(prompt).as_bytes()).unwrap();
        klingd::disk::rename_no_clobber(&aside, &self.inbox.join(self.name())).unwrap();
        self.dropped.insert(prompt.to_owned());
        self.done.push("inbox:at once");
    }

    /// Copied in over a slow line: its second half comes after another command.
    async fn drop_slowly(&mut self, rig: &Rig, prompt: &str) {
        fs::create_dir_all(&self.inbox).unwrap();
        let text = text(prompt);
        let (first, second) = text.split_at(text.len() / 2);
        let mut file = File::create(self.inbox.join(self.name())).unwrap();
        file.write_all(first.as_bytes()).unwrap();
        self.says(rig, "cli:list", &["list"]).await;
        // Once taken, the half is rejected, and what is written then goes into the rejected file: nothing was promised.
        file.write_all(second.as_bytes()).unwrap();
        self.done.push("inbox:slowly");
    }

    fn name(&self) -> String {
        format!("drop-{}.json", self.next)
    }

    /// Lets the rig know the jobs that came this way, and holds what was acknowledged against what is there.
    pub async fn is_kept(&self, rig: &mut Rig) {
        let all = Filter { all: true, ..Filter::default() };
        let jobs = rig.store(async |store| store.list(&all).await.unwrap()).await;
        let jobs: Vec<_> = jobs.iter().map(|job| (job.id, job.request.prompt().to_owned())).collect();
        let there: BTreeSet<_> = jobs.iter().map(|(_, prompt)| prompt.clone()).collect();
        let waiting = texts_below(&self.inbox);
        let mut verdict = Verdict::default();
        let lost = |prompt: &&String, waits: bool| {
            (!there.contains(*prompt) && !waits).then(|| format!("{prompt} was acknowledged and is lost"))
        };
        for prompt in &self.acknowledged {
            verdict.check(Invariant::Kept, lost(&prompt, false));
        }
        for prompt in &self.dropped {
            verdict.check(Invariant::Kept, lost(&prompt, waiting.iter().any(|text| text.contains(prompt))));
        }
        let twice = jobs.len() - there.len();
        verdict.check(Invariant::PaidOnce, (twice > 0).then(|| format!("{twice} jobs were queued twice")));
        rig.judge(verdict, &rig.said());
        rig.knows(jobs);
    }

    /// Whether everything that was dropped whole has been taken.
    pub fn is_taken(&self) -> bool {
        let waiting = texts_below(&self.inbox);
        !self.dropped.iter().any(|prompt| waiting.iter().any(|text| text.contains(prompt)))
    }
}

fn text(prompt: &str) -> String {
    format!(r#"{{"type": "pro-text-to-video", "prompt": "{prompt}", "duration": 3}}"#)
}

/// What the files hold that stand in the folder, those that klingd has claimed included.
fn texts_below(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => texts.extend(texts_below(&entry.path())),
            // It may be moved this very moment.
            false => texts.extend(fs::read_to_string(entry.path()).ok()),
        }
    }
    texts
}
