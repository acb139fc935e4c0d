//! A job that has more than one task in its life: after `resolve --resubmit`, after a new render. Each of them is paid;
//! none is lost, mistaken for another or asked for at the wrong place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::HashSet, time::Duration};

use klingd::{
    clock::Clock,
    domain::{
        AttemptNo, Credits, Event, Job, JobId, Request, Timestamp,
        event::Source,
        evidence::Evidence,
        gate::{GateNews, GatePolicy},
        job::NewJob,
        plan::{poll::PollPlan, retry::RetryPlan, submit::SubmitPlan},
        request::Draft,
        retry::Dice,
        state::{Label, TaskId},
    },
    store::{
        Access, Store,
        budget::Budget,
        download::OutputFile,
        enqueue::NewBatch,
        packed::Packed,
        person::{Edit, Resolution},
        submit::{ClaimPolicy, SubmitOutcome},
    },
};
use tempfile::TempDir;

const GATE: GatePolicy = GatePolicy {
    start_in_flight: 3,
    max_in_flight: 20,
    cooldown: Duration::from_secs(2),
    cooldown_max: Duration::from_secs(600),
};
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const HERE: &str = "https://kling3api.com";
const ELSEWHERE: &str = "https://moved.example.com";

fn task(text: &str) -> TaskId {
    TaskId::parse(text).unwrap()
}

fn now() -> Timestamp {
    Clock.now()
}

struct Queue {
    store: Store,
    id: JobId,
    _dir: TempDir,
}

impl Queue {
    /// A queue with one job.
    #[expect(clippy::disallowed_methods, reason = "the writer of a test")]
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(&dir.path().join("klingd.db"), Access::Use).await.unwrap();
        tokio::spawn(writer.run());
        let id = store.enqueue(batch(), now()).await.unwrap()[0].id;
        Self { store, id, _dir: dir }
    }

    /// Who has the key of the one job.
    async fn holder(&self) -> Option<JobId> {
        let mut same = Packed::default();
        same.push(&batch().jobs[0]).unwrap();
        self.store.holders(&same).await.unwrap()[0]
    }

    async fn job(&self) -> Job {
        self.store.job(self.id).await.unwrap()
    }

    /// Puts the job on the wire.
    async fn submit_to(&self, base_url: &str, key: &str) -> AttemptNo {
        let policy = ClaimPolicy {
            gate: GATE,
            budget: Budget::default(),
            base_url: base_url.into(),
            key_fingerprint: key.into(),
        };
        let claimed = self.store.claim_submits(1, &policy, now(), now()).await.unwrap();
        assert_eq!(claimed.intents.len(), 1);
        claimed.intents[0].attempt
    }

    async fn answered(&self, attempt: AttemptNo, event: Event) {
        let now = now();
        let plan = SubmitPlan {
            event,
            due_at: now,
            gate: GateNews::Nothing,
            retry_after: None,
            hold: None,
            error: None,
        };
        let (evidence, dice) = (Evidence::default(), Dice::new(0.5));
        let outcome =
            SubmitOutcome { job: self.id, attempt, plan, evidence, note: None, gate: GATE, now, dice };
        self.store.settle_submit(outcome).await.unwrap();
    }

    async fn accepted(&self, attempt: AttemptNo, text: &str) {
        let event = Event::Accepted { attempt, task: task(text), charged: None, source: Source::Provider };
        self.answered(attempt, event).await;
    }

    async fn in_doubt(&self, attempt: AttemptNo) {
        self.answered(attempt, Event::SubmitUnknown { attempt, why: "reset".into() }).await;
    }

    async fn refused_for_now(&self, attempt: AttemptNo) {
        let event = Event::SubmitDeferred { attempt, why: "429".into(), reserved: false };
        self.answered(attempt, event).await;
    }

    async fn resubmit(&self, attempt: AttemptNo) {
        self.store.resolve(self.id, attempt, Resolution::Resubmit, None, now()).await.unwrap();
    }

    async fn rendered(&self, url: &str) {
        let event = Some(Event::Succeeded { outputs: 1, charged: None });
        let plan = PollPlan {
            event,
            urls: vec![url.into()],
            due_at: now(),
            quiet_until: None,
            hold: None,
            running: false,
        };
        let version = self.job().await.version;
        self.store.settle_poll(self.id, version, plan, None, None, now()).await.unwrap();
    }

    async fn polled(&self) -> Vec<JobId> {
        let due = self.store.due_polls(10, &HashSet::new(), LONGEST_WAIT, now()).await.unwrap();
        due.jobs.into_iter().map(|job| job.id).collect()
    }
}

/// The one job.
fn batch() -> NewBatch {
    let draft = Draft {
        job_type: Some("std-text-to-video".into()),
        prompt: Some("a boat".into()),
        ..Draft::default()
    };
    let request = Request::parse(&draft).unwrap();
    let job = NewJob { estimate: Credits::new(200), ..NewJob::of(request, "tests") };
    NewBatch { name: "tests".into(), source: "tests".into(), max_credits: None, jobs: vec![job] }
}

/// Spooled evidence of the first attempt is read at a start that finds the second one on the wire.
#[tokio::test]
async fn a_task_that_turned_up_is_followed_after_a_kill() {
    let queue = Queue::new().await;
    let first = queue.submit_to(HERE, "key").await;
    queue.in_doubt(first).await;
    queue.resubmit(first).await;
    queue.submit_to(HERE, "key").await;
    queue.accepted(first, "n75first").await;
    queue.store.orphan(queue.job().await, now()).await.unwrap();
    assert_eq!(queue.job().await.state.task(), Some(&task("n75first")));
    assert_eq!(queue.polled().await, [queue.id], "a paid task that nobody asks for is lost");
}

/// The files of a task are not those of the next one: that is paid on top, and what it made is fetched.
#[tokio::test]
async fn a_new_render_does_not_end_with_the_old_video() {
    let queue = Queue::new().await;
    let first = queue.submit_to(HERE, "key").await;
    queue.accepted(first, "n75first").await;
    queue.rendered("https://cdn.example.com/first.mp4").await;
    let (id, store) = (queue.id, &queue.store);
    let file = OutputFile { path: "/videos/first.mp4".into(), bytes: 42, sha256: "5e".repeat(32) };
    store.record_verified(id, 0, "/videos/part".into(), file).await.unwrap();
    store.cancel(id, true, now()).await.unwrap();
    // The same task asked once more: its file is still its file.
    store.retry(id, RetryPlan::Follow, now()).await.unwrap();
    queue.rendered("https://cdn.example.com/first.mp4").await;
    assert!(store.outputs(id).await.unwrap()[0].file.is_some());
    store.cancel(id, true, now()).await.unwrap();

    store.retry(id, RetryPlan::Render, now()).await.unwrap();
    let second = queue.submit_to(HERE, "key").await;
    queue.accepted(second, "n75second").await;
    queue.rendered("https://cdn.example.com/second.mp4").await;
    let outputs = store.outputs(id).await.unwrap();
    assert_eq!(outputs[0].url, "https://cdn.example.com/second.mp4");
    assert_eq!(outputs[0].file, None, "the first task's file would be taken for the second one's");
    assert_eq!(outputs[0].partial, None);
}

/// Identity is recorded at submit: a task of an earlier attempt is asked for where that attempt was made.
#[tokio::test]
async fn a_task_is_asked_for_where_its_attempt_was_made() {
    let queue = Queue::new().await;
    let first = queue.submit_to(HERE, "old key").await;
    queue.in_doubt(first).await;
    queue.resubmit(first).await;
    let second = queue.submit_to(ELSEWHERE, "new key").await;
    queue.refused_for_now(second).await;
    let found = Resolution::Adopt(task("n75first"));
    queue.store.resolve(queue.id, first, found, None, now()).await.unwrap();
    let job = queue.job().await;
    assert_eq!(job.state.label(), Label::Generating);
    let made = job.made_with.unwrap();
    assert_eq!((made.base_url.as_str(), made.key_fingerprint.as_str()), (HERE, "old key"));
}

/// A key that was freed by an end without a charge is taken again when a task turns up after all: the same file would pay
/// once more.
#[tokio::test]
async fn a_task_that_turns_up_takes_its_key_back() {
    let queue = Queue::new().await;
    let first = queue.submit_to(HERE, "key").await;
    queue.in_doubt(first).await;
    let (id, store) = (queue.id, &queue.store);
    store.resolve(id, first, Resolution::NotCharged, None, now()).await.unwrap();
    store.cancel(id, false, now()).await.unwrap();
    assert_eq!(queue.holder().await, None, "an end that is provably uncharged");
    store.resolve(id, first, Resolution::Adopt(task("n75first")), None, now()).await.unwrap();
    assert_eq!(queue.holder().await, Some(id));
    store.retry(id, RetryPlan::Follow, now()).await.unwrap();
    assert_eq!(queue.holder().await, Some(id));
}

/// When another job has taken the freed key, the task is kept all the same: it is paid.
#[tokio::test]
async fn a_key_that_another_job_took_does_not_refuse_a_task() {
    let queue = Queue::new().await;
    let (id, store) = (queue.id, &queue.store);
    let first = queue.submit_to(HERE, "key").await;
    queue.in_doubt(first).await;
    store.resolve(id, first, Resolution::NotCharged, None, now()).await.unwrap();
    store.cancel(id, false, now()).await.unwrap();
    let other = store.enqueue(batch(), now()).await.unwrap()[0].id;
    queue.accepted(first, "n75first").await;
    assert_eq!(
        (queue.job().await.state.task(), queue.holder().await),
        (Some(&task("n75first")), Some(other))
    );
}

/// A clock that was a month ahead, and was set right: what it called due in a month is due now.
#[tokio::test]
async fn a_clock_that_jumps_back_does_not_stop_following() {
    let queue = Queue::new().await;
    let attempt = queue.submit_to(HERE, "key").await;
    queue.accepted(attempt, "n75first").await;
    let ahead = now() + Duration::from_secs(30 * 24 * 3600);
    let look = |event, due_at| PollPlan {
        event,
        urls: Vec::new(),
        due_at,
        quiet_until: None,
        hold: None,
        running: false,
    };
    let version = queue.job().await.version;
    queue.store.settle_poll(queue.id, version, look(None, ahead), None, None, ahead).await.unwrap();
    assert_eq!(queue.polled().await, [queue.id]);

    let event = Some(Event::Succeeded { outputs: 1, charged: None });
    let plan = PollPlan { urls: vec!["https://cdn.example.com/a.mp4".into()], ..look(event, ahead) };
    queue.store.settle_poll(queue.id, version, plan, None, None, ahead).await.unwrap();
    let due = queue.store.due_downloads(10, &HashSet::new(), now()).await.unwrap();
    assert_eq!(due.jobs.len(), 1);
}

/// Two attempts, both paid after all: the job follows one, and says of the other.
#[tokio::test]
async fn a_second_paid_task_is_said() {
    let queue = Queue::new().await;
    let first = queue.submit_to(HERE, "key").await;
    queue.in_doubt(first).await;
    queue.resubmit(first).await;
    let second = queue.submit_to(HERE, "key").await;
    queue.accepted(second, "n75second").await;
    queue.accepted(first, "n75first").await;
    let job = queue.job().await;
    assert_eq!(job.state.task(), Some(&task("n75second")));
    assert_eq!(job.notes, ["task n75first of attempt 1 is paid too, and not followed"]);
    assert_eq!(job.paid_attempts, 2);
    assert_eq!(queue.store.unfollowed().await.unwrap(), [queue.id]);
    // A person gives it up: nothing is left to say, and the job goes on.
    queue.store.resolve(queue.id, first, Resolution::WriteOff, None, now()).await.unwrap();
    assert_eq!(queue.store.unfollowed().await.unwrap(), []);
    assert_eq!(queue.job().await.state.task(), Some(&task("n75second")));
}

/// The first task turned up while the second POST was on the wire, and that one made a task of its own.
#[tokio::test]
async fn the_first_of_two_paid_tasks_is_said_too() {
    let queue = Queue::new().await;
    let first = queue.submit_to(HERE, "key").await;
    queue.in_doubt(first).await;
    queue.resubmit(first).await;
    let second = queue.submit_to(HERE, "key").await;
    queue.accepted(first, "n75first").await;
    assert_eq!(queue.store.unfollowed().await.unwrap(), [], "followed as soon as the second is answered");
    queue.accepted(second, "n75second").await;
    let unfollowed: Vec<_> =
        queue.store.attempts(queue.id).await.unwrap().iter().map(|attempt| attempt.unfollowed).collect();
    assert_eq!(unfollowed, [true, false]);
}

/// A person's `set --not-before` while the request is on the wire holds for what comes back to the queue, and only for
/// that: a task is paid and looked at when its time comes.
#[tokio::test]
async fn a_time_set_on_the_wire_holds_for_the_queue_alone() {
    let tomorrow = now() + std::time::Duration::from_secs(24 * 3600);
    for (accepted, due_later) in [(true, false), (false, true)] {
        let queue = Queue::new().await;
        let attempt = queue.submit_to(HERE, "key").await;
        let edit = Edit { not_before: Some(tomorrow), ..Edit::default() };
        queue.store.edit(queue.id, edit, now()).await.unwrap();
        if accepted {
            queue.accepted(attempt, "n75first").await;
        } else {
            queue.refused_for_now(attempt).await;
        }
        assert_eq!(queue.job().await.due_at.unwrap() >= tomorrow, due_later, "accepted: {accepted}");
    }
}
