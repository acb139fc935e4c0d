//! The commands that look at the queue, as people and scripts run them: the real binary, a clean environment, a data
//! directory of its own. Jobs are put there through the library.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use klingd::{
    clock::Clock,
    disk::DirLock,
    domain::{
        Credits, Event, HoldName, JobId, JobKey, Request, TaskId,
        attempt::AttemptNo,
        event::Source,
        evidence::Evidence,
        gate::{GateNews, GatePolicy},
        hold::Hold,
        job::NewJob,
        plan::{poll::PollPlan, submit::SubmitPlan},
        request::Draft,
        retry::Dice,
        state::{Charged, Failure},
    },
    store::{
        Access, Store,
        budget::Budget,
        download::OutputFile,
        enqueue::NewBatch,
        submit::{ClaimPolicy, SubmitOutcome},
    },
};
use serde_json::Value;
use tempfile::TempDir;

const GATE: GatePolicy = GatePolicy {
    start_in_flight: 100,
    max_in_flight: 100,
    cooldown: Duration::from_secs(2),
    cooldown_max: Duration::from_secs(600),
};

/// A data directory and its queue.
struct Rig {
    dir: TempDir,
}

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The rows of a tab-separated table, without its header.
    fn rows(&self) -> Vec<Vec<&str>> {
        self.out.lines().skip(1).map(|line| line.split('\t').collect()).collect()
    }

    fn ids(&self) -> Vec<&str> {
        self.rows().iter().map(|row| row[0]).collect()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Rig {
    fn new() -> Self {
        let rig = Self { dir: tempfile::tempdir().unwrap() };
        klingd::disk::create_root(&rig.data_dir()).unwrap();
        rig
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_klingd"));
        command.args(args).env_clear().current_dir(self.dir.path());
        command.env("HOME", self.dir.path()).env("TZ", "UTC").env("KLINGD_DATA_DIR", self.data_dir());
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        assert_cmd::Command::from_std(self.command(args)).output().unwrap().into()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what stands beside the daemon is not the daemon's to spawn"
    )]
    async fn queue(&self) -> Queue {
        let (store, writer) = Store::open(&self.data_dir().join("klingd.db"), Access::Use).await.unwrap();
        tokio::spawn(writer.run());
        Queue(store)
    }
}

/// The queue, and jobs in every state in it.
struct Queue(Store);

fn new_job(name: &str) -> NewJob {
    let draft = Draft {
        job_type: Some("std-text-to-video".into()),
        prompt: Some(format!("A {name}")),
        sound: Some(false),
        ..Draft::default()
    };
    let request = Request::parse(&draft).unwrap();
    NewJob {
        name: Some(name.to_owned()),
        estimate: Credits::new(200),
        key: JobKey::of(&request, Some(name), 1),
        ..NewJob::of(request, "jobs.toml")
    }
}

impl Queue {
    async fn enqueue(&self, batch: &str, jobs: Vec<NewJob>) -> Vec<JobId> {
        let batch = NewBatch { name: batch.into(), source: "jobs.toml".into(), max_credits: None, jobs };
        let queued = self.0.enqueue(batch, Clock.now()).await.unwrap();
        queued.into_iter().map(|job| job.id).collect()
    }

    async fn queued(&self, name: &str) -> JobId {
        self.enqueue("tests", vec![new_job(name)]).await[0]
    }

    /// Submits a job with this outcome. Nothing else may be queued.
    async fn submitted(&self, name: &str, event: impl Fn(AttemptNo) -> Event) -> JobId {
        let id = self.queued(name).await;
        let now = Clock.now();
        let policy = ClaimPolicy {
            gate: GATE,
            budget: Budget::default(),
            base_url: "https://kling3api.com".into(),
            key_fingerprint: "0a1b2c3d".into(),
        };
        let claimed = self.0.claim_submits(1, &policy, now, now).await.unwrap();
        assert_eq!(claimed.intents.iter().map(|i| i.job).collect::<Vec<_>>(), [id]);
        let attempt = claimed.intents[0].attempt;
        let plan = SubmitPlan {
            event: event(attempt),
            due_at: now,
            gate: GateNews::Nothing,
            retry_after: None,
            hold: None,
            error: None,
        };
        let evidence = Evidence { status: Some(200), body: "the raw answer".into(), ..Evidence::default() };
        let (note, gate, dice) = (None, GATE, Dice::new(0.5));
        let outcome = SubmitOutcome { job: id, attempt, plan, evidence, note, gate, now, dice };
        self.0.settle_submit(outcome).await.unwrap();
        id
    }

    async fn in_doubt(&self, name: &str) -> JobId {
        self.submitted(name, |attempt| Event::SubmitUnknown { attempt, why: "reset".into() }).await
    }

    async fn failed(&self, name: &str) -> JobId {
        let failure = Failure {
            code: "INVALID_PROMPT".into(),
            message: "the \u{1b}[31mprompt\nis refused".into(),
            charged: Charged::No,
        };
        self.submitted(name, |attempt| Event::SubmitRefused { attempt, failure: failure.clone() }).await
    }

    async fn generating(&self, name: &str) -> JobId {
        let task = TaskId::parse(&format!("n75{name}")).unwrap();
        let charged = Some(Credits::new(200));
        let accepted =
            |attempt| Event::Accepted { attempt, task: task.clone(), charged, source: Source::Provider };
        self.submitted(name, accepted).await
    }

    async fn done(&self, name: &str) -> JobId {
        let (id, now) = (self.generating(name).await, Clock.now());
        let event = Some(Event::Succeeded { outputs: 1, charged: Some(Credits::new(210)) });
        let urls = vec!["https://cdn.example.com/a.mp4".to_owned()];
        let plan = PollPlan { event, urls, due_at: now, quiet_until: None, hold: None, running: false };
        let version = self.0.job(id).await.unwrap().version;
        self.0.settle_poll(id, version, plan, None, None, now).await.unwrap();
        let file = OutputFile { path: format!("/videos/{name}.mp4"), bytes: 42, sha256: "5e".repeat(32) };
        self.0.record_verified(id, 0, "/videos/part".into(), file).await.unwrap();
        self.0.record_published(id, 0, None, now).await.unwrap();
        id
    }
}

#[tokio::test]
async fn an_empty_queue_is_a_header_and_no_error() {
    let rig = Rig::new();
    let said = rig.run(&[]).is(0);
    assert_eq!(said.out, "ID\tSTATE\tNAME\tTYPE\tCREDITS\tAGE\tNOTE\n");
    assert_eq!(rig.run(&["ls"]).is(0).out, said.out, "bare klingd is list");
    assert_eq!(rig.run(&["list", "--json"]).is(0).out, "");
}

#[tokio::test]
async fn list_says_why_and_what_to_do() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    let (doubt, failed, done) = (queue.in_doubt("a").await, queue.failed("b").await, queue.done("c").await);
    let waits = queue.queued("the \u{1b}[31mred\u{202e} fox").await;
    queue.0.hold(hold(HoldName::Paused)).await.unwrap();
    let said = rig.run(&["list"]).is(0);
    let rows = said.rows();
    let note = |id: JobId| *rows.iter().find(|row| row[0] == id.to_string()).unwrap().last().unwrap();
    assert_eq!(note(doubt), format!("in doubt, 200 credits: klingd resolve {doubt}"));
    assert_eq!(note(failed), "INVALID_PROMPT: the \\u{1b}[31mprompt is refused");
    assert_eq!(note(done), "/videos/c.mp4");
    assert_eq!(note(waits), "paused: klingd resume");
    assert!(said.out.contains("the \\u{1b}[31mred\\u{202e} fox"), "{}", said.out);
    assert!(said.err.contains("Nothing is submitted: paused"), "{}", said.err);
    assert!(said.err.contains("No daemon is running"), "{}", said.err);
    assert_eq!(rig.run(&["list", "-q"]).is(0).err, "");
}

fn hold(name: HoldName) -> Hold {
    Hold { name, since: Clock.now(), why: "a person said so".into(), until: None, probe_at: None }
}

#[tokio::test]
async fn list_filters() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    queue.failed("first").await;
    let tagged = |name: &str| NewJob { tags: vec!["night".into()], ..new_job(name) };
    queue.enqueue("evening", vec![tagged("second"), new_job("third")]).await;
    let ids = |args: &[&str]| rig.run(&[&["list"], args].concat()).is(0).ids().join(" ");
    assert_eq!(ids(&[]), "1 2 3");
    assert_eq!(ids(&["--state", "failed"]), "1");
    assert_eq!(ids(&["--state", "failed", "--state", "queued"]), "1 2 3");
    assert_eq!(ids(&["--tag", "night"]), "2");
    assert_eq!(ids(&["--batch", "evening"]), "2 3");
    assert_eq!(ids(&["-n", "2"]), "2 3", "the newest");
    assert_eq!(ids(&["--since", "1h"]), "1 2 3");
    assert_eq!(ids(&["--since", "2999-01-01T00:00:00Z"]), "");
    let said = rig.run(&["list", "--state", "faild"]).is(2);
    assert!(said.err.contains("'failed'"), "a suggestion: {}", said.err);
    assert!(rig.run(&["list", "--since", "yesterday"]).is(2).err.contains("2h or 3d"));
    assert_eq!(rig.run(&["list", "-n", "0"]).code, 2);
}

#[tokio::test]
async fn a_plain_list_has_the_last_few_that_ended_and_all_of_them_on_request() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    let ids = queue.enqueue("many", (0..1005).map(|n| new_job(&format!("n{n}"))).collect()).await;
    for id in &ids[..30] {
        queue.0.cancel(*id, false, Clock.now()).await.unwrap();
    }
    let listed = |args: &[&str]| rig.run(args).is(0).out.lines().count();
    assert_eq!(listed(&["list"]), 1 + 975 + 10);
    assert_eq!(listed(&["list", "--all"]), 1 + 1005, "over several pages, with one header");
    assert_eq!(listed(&["list", "--all", "--json"]), 1005);
}

#[tokio::test]
async fn json_has_every_key_of_the_contract() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    let done = queue.done("b").await;
    queue.queued("a").await;
    let said = rig.run(&["list", "--json", "--state", "done"]).is(0);
    let [job] = said.json().try_into().unwrap();
    let keys: Vec<&str> = job.as_object().unwrap().keys().map(String::as_str).collect();
    let contract = "id name state reason needs_person type request batch tags priority take key not_before task_id \
                    paid_attempts polls estimated_credits charged_credits created_at submitted_at finished_at due_at usual_ms \
                    error outputs notes source";
    assert_eq!(keys, contract.split_whitespace().collect::<Vec<_>>());
    assert_eq!(job["id"], done.0);
    assert_eq!(job["outputs"][0]["path"], "/videos/b.mp4");
    assert_eq!(job["charged_credits"], 210);
    assert!(job["finished_at"].as_str().unwrap().ends_with('Z'));
    let [shown] = rig.run(&["show", &done.to_string(), "--json"]).is(0).json().try_into().unwrap();
    let events: Vec<&str> =
        shown["history"].as_array().unwrap().iter().map(|h| h["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["enqueued", "submit_started", "accepted", "succeeded", "file_published"]);
    assert_eq!(shown["attempts"][0]["evidence"]["body"], "the raw answer");
}

#[tokio::test]
async fn show_tells_everything_and_the_next_command() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    let id = queue.in_doubt("a").await;
    let page = rig.run(&["show", &id.to_string()]).is(0).out;
    for words in [
        "klingd resolve 1 --not-charged",
        "attempt 1 may have been charged",
        "200 credits in doubt",
        "A a",
        "jobs.toml",
    ] {
        assert!(page.contains(words), "{words:?} is not in:\n{page}");
    }
    let said = rig.run(&["show", "99"]).is(7);
    assert!(said.err.contains("there is no job 99"), "{}", said.err);
}

#[tokio::test]
async fn wait_ends_as_the_jobs_did() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    let done = queue.done("done").await.to_string();
    let failed = queue.failed("failed").await.to_string();
    let doubt = queue.in_doubt("doubt").await.to_string();
    let said = rig.run(&["wait", &done]).is(0);
    assert_eq!(said.out, format!("{done} done: done, /videos/done.mp4\n"));
    rig.run(&["wait", &done, &failed]).is(4);
    rig.run(&["wait", &done, &failed, &doubt]).is(10);
    rig.run(&["wait", "--all"]).is(10);
    rig.run(&["wait", "--batch", "tests"]).is(10);
    rig.run(&["wait", "99"]).is(7);
    rig.run(&["wait", "--batch", "nothing"]).is(7);
    rig.run(&["wait"]).is(2);
    // It names no job: it must not say at once that all is done.
    rig.run(&["wait", "--timeout", "1s"]).is(2);
    assert_eq!(rig.run(&["wait", &done, "-q"]).is(0).out, "");
    assert_eq!(rig.run(&["wait", &done, "--json"]).is(0).json()[0]["state"], "done");
}

#[tokio::test]
async fn wait_gives_up_after_its_timeout_and_says_why_nothing_moves() {
    let rig = Rig::new();
    let id = rig.queue().await.queued("a").await.to_string();
    let said = rig.run(&["wait", &id, "--timeout", "300ms"]).is(5);
    assert!(said.err.contains("No daemon is running"), "{}", said.err);
    assert!(said.err.contains("1 job is not at rest"), "{}", said.err);
}

#[tokio::test]
async fn wait_notices_what_others_do() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    let id = queue.queued("a").await;
    let args = ["wait", &id.to_string()];
    let child = rig.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    queue.0.cancel(id, false, Clock.now()).await.unwrap();
    let said = Said::from(child.wait_with_output().unwrap()).is(4);
    assert!(said.out.contains("cancelled"), "{}", said.out);
}

#[tokio::test]
async fn status_tells_the_daemon_and_its_queue() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    queue.done("a").await;
    queue.in_doubt("b").await;
    queue.queued("c").await;
    queue.0.hold(hold(HoldName::Key)).await.unwrap();
    let [status] = rig.run(&["status", "--json"]).is(0).json().try_into().unwrap();
    assert_eq!(status["running"], false);
    assert_eq!((&status["jobs"]["done"], &status["jobs"]["queued"]), (&1.into(), &1.into()));
    assert_eq!(status["needs_person"], 1);
    assert_eq!(status["today"]["charged_credits"], 210);
    assert_eq!(status["today"]["in_doubt_credits"], 200);
    assert_eq!(status["holds"][0]["name"], "key");
    assert!(status["oldest_waiting"].is_string());
    let lock = DirLock::acquire(&rig.data_dir(), "klingd, process 42").unwrap();
    let said = rig.run(&["status"]).is(0);
    assert!(said.out.contains("running (klingd, process 42)"), "{}", said.out);
    assert!(said.out.contains("mend the key, then klingd resume"), "{}", said.out);
    drop(lock);
}

#[tokio::test]
async fn looking_changes_nothing() {
    let rig = Rig::new();
    let queue = rig.queue().await;
    let id = queue.in_doubt("a").await;
    let before = queue.0.job(id).await.unwrap();
    for args in [&["list"][..], &["show", "1"], &["status"], &["wait", "1"]] {
        rig.run(args);
    }
    assert_eq!(queue.0.job(id).await.unwrap(), before);
    assert_eq!(queue.0.replay(id).await.unwrap(), before.state);
    assert_eq!(queue.0.world().await.unwrap(), None, "no run has stamped it");
}

#[test]
fn the_demo_makes_playable_videos_and_a_second_one_does_so_again() {
    let rig = Rig::new();
    let said = rig.run(&["demo"]).is(0);
    assert!(said.err.starts_with("This is a demo with a SIMULATED provider"), "{}", said.err);
    let videos: Vec<&str> = said.out.lines().filter(|line| line.contains(".mp4")).collect();
    assert_eq!(videos.len(), 7, "{}", said.out);
    for line in videos {
        let path = line.trim().split("  ").next().unwrap();
        assert!(path.starts_with("klingd-demo/videos/"), "{path}");
        klingd::disk::mp4::check(&rig.dir.path().join(path), None).unwrap();
    }
    assert!(said.out.contains("klingd config init"), "{}", said.out);
    let again = rig.run(&["demo", "--json"]).is(0);
    let jobs = again.json();
    assert_eq!(jobs.len(), 7);
    for job in jobs {
        assert_eq!(job["state"], "done");
        assert!(job["outputs"][0]["path"].as_str().unwrap().contains("/klingd-demo-2/videos/"), "{job}");
    }
    let listed = rig.run(&["--data-dir", "klingd-demo", "list", "--all"]).is(0);
    assert_eq!(listed.ids().len(), 7, "the first one's queue is as it was");
}

#[test]
fn a_real_queue_is_no_place_for_a_demo() {
    let rig = Rig::new();
    rig.run(&["list"]).is(0);
    let data_dir = rig.data_dir();
    rig.run(&["--data-dir", data_dir.to_str().unwrap(), "demo"]).is(0);
    assert_eq!(rig.run(&["list", "--all"]).is(0).ids().len(), 0);
    assert!(rig.dir.path().join("data-2/klingd.db").exists());
}
