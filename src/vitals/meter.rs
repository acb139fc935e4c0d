//! What is counted and timed. Labels are words of ours, each from a fixed list: no id, name, prompt, URL or word of the
//! provider's may become one, for each of them makes another series, and this page is read by more people than the queue.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::domain::state::Label;

/// One label and its word.
pub(super) type Word = [(&'static str, &'static str); 1];

/// Words that a label may have.
macro_rules! words {
    ($(#[doc = $doc:literal] $name:ident($label:literal) { $($variant:ident = $word:literal),+ $(,)? })+) => { $(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each variant is its word")]
        pub enum $name { $($variant),+ }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant),+];

            const fn word(self) -> Word {
                match self { $(Self::$variant => [($label, $word)]),+ }
            }
        }
    )+ };
}

words! {
    /// What became of a submit.
    Submit("outcome") { Accepted = "accepted", Refused = "refused", Deferred = "deferred", Unknown = "unknown" }
    /// What a status call showed.
    Poll("answer") {
        Running = "running", Succeeded = "succeeded", Failed = "failed", NotFound = "not_found",
        RateLimited = "rate_limited", Refused = "refused", Unclear = "unclear",
    }
    /// What a try to fetch a video brought.
    Download("result") {
        Published = "published", Interrupted = "interrupted", LinkDead = "link_dead", WrongBody = "wrong_body",
        Disk = "disk", Staged = "staged", Stopped = "stopped",
    }
    /// What became of a file of the watched folder.
    File("result") { Accepted = "accepted", Rejected = "rejected" }
    /// A call of the API.
    Call("call") { Generate = "generate", Status = "status" }
}

/// Counters and histograms of this process; cheap to write, and shared by reference.
#[derive(Debug)]
pub struct Meter {
    moved: Family<Word, Counter>,
    submits: Family<Word, Counter>,
    rate_limited: Family<Word, Counter>,
    polls: Family<Word, Counter>,
    downloads: Family<Word, Counter>,
    files: Family<Word, Counter>,
    bytes: Counter,
    reloads: Family<Word, Counter>,
    waited: Histogram,
    rendered: Histogram,
    calls: Family<Word, Histogram>,
    commits: Histogram,
}

/// A commit: from a RAM disk to a disk that is dying.
const COMMIT_S: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];
/// A call: `api.submit_timeout` is two minutes by default, and half an hour at most.
const CALL_S: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// A render takes one to five minutes by the provider's page, an edit more.
const RENDER_S: [f64; 10] = [15.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 7200.0];
/// A queue is worked off at once, or over a night, or held for days.
const WAIT_S: [f64; 10] = [0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 14_400.0, 43_200.0, 172_800.0];

impl Default for Meter {
    fn default() -> Self {
        let meter = Self {
            moved: Family::default(),
            submits: Family::default(),
            rate_limited: Family::default(),
            polls: Family::default(),
            downloads: Family::default(),
            files: Family::default(),
            bytes: Counter::default(),
            reloads: Family::default(),
            waited: Histogram::new(WAIT_S),
            rendered: Histogram::new(RENDER_S),
            calls: Family::new_with_constructor(|| Histogram::new(CALL_S)),
            commits: Histogram::new(COMMIT_S),
        };
        // From the start on, every series is there: what has not happened yet is 0 and not absent.
        Label::ALL.iter().for_each(|label| touch(&meter.moved, state(*label)));
        Submit::ALL.iter().for_each(|word| touch(&meter.submits, word.word()));
        Poll::ALL.iter().for_each(|word| touch(&meter.polls, word.word()));
        Download::ALL.iter().for_each(|word| touch(&meter.downloads, word.word()));
        File::ALL.iter().for_each(|word| touch(&meter.files, word.word()));
        Call::ALL.iter().for_each(|word| touch(&meter.rate_limited, word.word()));
        Call::ALL.iter().for_each(|word| drop(meter.calls.get_or_create(&word.word())));
        [true, false].iter().for_each(|ok| touch(&meter.reloads, success(*ok)));
        meter
    }
}

fn touch(family: &Family<Word, Counter>, word: Word) {
    drop(family.get_or_create(&word));
}

fn state(label: Label) -> Word {
    [("state", label.as_str())]
}

const fn success(ok: bool) -> Word {
    [("result", if ok { "done" } else { "refused" })]
}

impl Meter {
    /// So many jobs came into a state, committed by this process.
    pub fn moved(&self, to: Label, times: u64) {
        self.moved.get_or_create(&state(to)).inc_by(times);
    }

    /// A submit had its outcome.
    pub fn submit(&self, outcome: Submit) {
        self.submits.get_or_create(&outcome.word()).inc();
    }

    /// A call was answered with 429.
    pub fn rate_limited(&self, call: Call) {
        self.rate_limited.get_or_create(&call.word()).inc();
    }

    /// A call took so long, whatever came of it.
    pub fn called(&self, call: Call, took: Duration) {
        self.calls.get_or_create(&call.word()).observe(took.as_secs_f64());
    }

    /// A status call showed something.
    pub fn poll(&self, answer: Poll) {
        self.polls.get_or_create(&answer.word()).inc();
    }

    /// A try to fetch a video ended.
    pub fn download(&self, result: Download) {
        self.downloads.get_or_create(&result.word()).inc();
    }

    /// Bytes of videos were written.
    pub fn wrote(&self, bytes: u64) {
        self.bytes.inc_by(bytes);
    }

    /// A file of the watched folder was judged.
    pub fn file(&self, result: File) {
        self.files.get_or_create(&result.word()).inc();
    }

    /// A job was queued for so long before it was submitted for the first time.
    pub fn waited(&self, time: Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    /// A task was seen to be done so long after its submit.
    pub fn rendered(&self, time: Duration) {
        self.rendered.observe(time.as_secs_f64());
    }

    /// A group was committed, or failed to be, in this time.
    pub fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// The configuration was read again.
    pub fn reloaded(&self, ok: bool) {
        self.reloads.get_or_create(&success(ok)).inc();
    }

    /// Puts everything on the list of what is shown.
    pub(super) fn register(&self, to: &mut Registry) {
        let (seconds, bytes) = (|| Unit::Seconds, || Unit::Bytes);
        to.register("jobs_moved", "Jobs that came into a state, moved by this process", self.moved.clone());
        to.register("submits", "Requests that may be paid, by what became of them", self.submits.clone());
        to.register("rate_limited", "Calls of the API that got a 429", self.rate_limited.clone());
        to.register("polls", "Status calls, by what they showed", self.polls.clone());
        to.register("downloads", "Tries to fetch a video, by what they brought", self.downloads.clone());
        to.register_with_unit("downloaded", "Bytes of videos that were fetched", bytes(), self.bytes.clone());
        to.register("inbox_files", "Files of the watched folder, by what became of them", self.files.clone());
        to.register("reloads", "Times that the configuration was read again", self.reloads.clone());
        to.register_with_unit(
            "queue_wait",
            "From a job's queueing to its first submit",
            seconds(),
            self.waited.clone(),
        );
        to.register_with_unit(
            "render",
            "From a submit to the status call that saw its task done",
            seconds(),
            self.rendered.clone(),
        );
        to.register_with_unit(
            "api_call",
            "Calls of the API, to their answer or their end",
            seconds(),
            self.calls.clone(),
        );
        to.register_with_unit(
            "commit",
            "Commits of the database, each with everything that waited for it",
            seconds(),
            self.commits.clone(),
        );
    }
}
