//! `resolve`: each way out of doubt, by a daemon's key, by a key of one's own, and without any.

use std::io::{BufRead as _, BufReader, Write as _};

use klingd::{
    clock::Clock,
    daemon,
    domain::{
        AttemptNo, Event, JobId, Outcome, Reason, State, TaskId,
        evidence::Evidence,
        plan::poll::PollPlan,
        state::{Label, Watch},
    },
    provider::Api,
};

use crate::rig::{Daemon, KEY, Rig, provider, said};

/// What the provider made of a request that klingd never heard of again.
async fn lost_task(rig: &Rig, body: &[u8]) -> TaskId {
    let config = rig.config();
    let key = klingd::config::ApiKey::parse(KEY).unwrap();
    let api = Api::new(&daemon::api_settings(&config, &key)).unwrap();
    let evidence = api.generate(body.to_vec()).await;
    let answer: serde_json::Value = serde_json::from_str(&evidence.body).unwrap();
    TaskId::parse(answer["data"]["task_id"].as_str().unwrap()).unwrap()
}

/// A job in doubt whose task the provider has made.
async fn in_doubt(rig: &Rig, prompt: &str) -> (JobId, TaskId) {
    let id = rig.enqueue(prompt);
    rig.on_the_wire(id).await;
    let store = rig.store().await;
    let body = store.attempts(id).await.unwrap().pop().unwrap().request;
    store.orphan(store.job(id).await.unwrap(), Clock.now()).await.unwrap();
    (id, lost_task(rig, &body).await)
}

async fn outcomes(rig: &Rig, id: JobId) -> Vec<Outcome> {
    rig.store().await.attempts(id).await.unwrap().iter().map(|attempt| attempt.outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_checks_the_task_for_those_who_have_no_key() {
    let (sandbox, rig) = provider("").await;
    let (fox, its_task) = in_doubt(&rig, "A fox").await;
    let (_, other_task) = in_doubt(&rig, "A crow").await;
    let daemon = Daemon::start(&rig).await;
    let said = rig.run(&["resolve", "1", "--task-id", other_task.as_str()]).is(2);
    said.says("`prompt` is \"A crow\" there, \"A fox\" was sent").says("--force");
    rig.run(&["resolve", "1", "--task-id", "n75nobodysown"]).is(2).says("the provider does not know it");
    assert_eq!(rig.label(fox).await, Label::InDoubt);
    rig.run(&["resolve", "1", "--task-id", its_task.as_str(), "--note", "from the panel"])
        .is(0)
        .says("it follows task");
    rig.run(&["resolve", "2", "--task-id", its_task.as_str(), "--force"])
        .is(2)
        .says("already belongs to job 1");
    assert!(!matches!(rig.label(fox).await, Label::InDoubt | Label::Queued));
    let attempt = rig.store().await.attempts(fox).await.unwrap().pop().unwrap();
    assert_eq!((attempt.outcome, attempt.note.as_deref()), (Outcome::Accepted, Some("from the panel")));
    daemon.end().await;
    assert_eq!(sandbox.charges_for("A fox"), 1, "nothing was paid twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn force_takes_a_task_that_looks_wrong_and_keeps_what_was_against_it() {
    let (_sandbox, rig) = provider("").await;
    let (fox, _) = in_doubt(&rig, "A fox").await;
    let stranger = lost_task(&rig, br#"{"type":"std-text-to-video","prompt":"A crow","duration":3}"#).await;
    let rig = rig.with("KLINGD_API__KEY", KEY);
    let args = ["resolve", "1", "--task-id", stranger.as_str()];
    rig.run(&args).is(2).says("`duration` is 3 there, 5 was sent").says("nothing was changed");
    rig.run(&[&args[..], &["--force"]].concat()).is(0).says("taken all the same");
    assert_eq!(rig.label(fox).await, Label::Generating);
    let note = rig.store().await.attempts(fox).await.unwrap().pop().unwrap().note.unwrap();
    assert!(note.contains("--force") && note.contains("A crow"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_ones_own_does_when_no_daemon_runs_and_without_any_there_is_a_sentence() {
    let (_sandbox, mut rig) = provider("").await;
    let (fox, task) = in_doubt(&rig, "A fox").await;
    let args = ["resolve", "1", "--task-id", task.as_str()];
    rig.run(&args).is(1).says("no daemon runs that could ask").says("KLINGD_API__KEY is not set");
    assert_eq!(rig.label(fox).await, Label::InDoubt);
    rig.variables.push(("KLINGD_API__KEY".to_owned(), KEY.to_owned()));
    let job = &rig.run(&[&args[..], &["--json"]].concat()).is(0).json()[0];
    assert_eq!((&job["state"], &job["task_id"]), (&"generating".into(), &task.as_str().into()));
    rig.run(&args).is(2).says("no attempt of it is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ways_without_a_task() {
    let rig = Rig::new();
    let doubt = async |prompt| {
        let id = rig.enqueue(prompt);
        // No daemon runs: the command itself finds the orphan, without any key.
        rig.on_the_wire(id).await;
        id
    };
    let free = doubt("free").await;
    rig.run(&["resolve", "1", "--not-charged"])
        .is(0)
        .says("job 1 is queued again; attempt 1 counts as not charged");
    assert_eq!(
        (rig.label(free).await, outcomes(&rig, free).await),
        (Label::Queued, vec![Outcome::NotCharged])
    );
    rig.run(&["cancel", "1"]).is(0);
    let unwanted = doubt("unwanted").await;
    rig.run(&["cancel", "2"]).is(0).says("once the answer is there");
    rig.run(&["resolve", "2", "--not-charged"]).is(0).says("job 2 is cancelled, as was asked");
    assert_eq!(rig.label(unwanted).await, Label::Cancelled);
    let gone = doubt("gone").await;
    rig.run(&["resolve", "3", "--write-off"]).is(0).says("its 200 credits count as spent");
    assert_eq!(
        (rig.label(gone).await, outcomes(&rig, gone).await),
        (Label::Failed, vec![Outcome::WrittenOff])
    );
    let again = doubt("again").await;
    rig.run(&["resolve", "4", "--resubmit"])
        .is(2)
        .says("may be charged already (200 credits)")
        .says("say --yes");
    assert_eq!(rig.label(again).await, Label::InDoubt);
    rig.run(&["resolve", "4", "--resubmit", "--yes"]).is(0).says("stays in doubt until you settle it");
    assert_eq!(
        (rig.label(again).await, outcomes(&rig, again).await),
        (Label::Queued, vec![Outcome::Unknown])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_open_attempts_are_listed_and_one_is_named() {
    let rig = Rig::new();
    let id = rig.enqueue("x");
    rig.on_the_wire(id).await;
    rig.run(&["resolve", "1", "--resubmit", "--yes"]).is(0);
    rig.on_the_wire(id).await;
    let said = rig.run(&["resolve", "1", "--not-charged"]).is(2);
    said.says("several attempts").says("--attempt 1: begun").says("--attempt 2: begun");
    rig.run(&["resolve", "1", "--not-charged", "--attempt", "3"]).is(2).says("no attempt 3");
    rig.run(&["resolve", "1", "--write-off", "--attempt", "1"]).is(0).says("job 1 stays in_doubt");
    rig.run(&["resolve", "1", "--not-charged"]).is(0).says("job 1 is queued again");
    assert_eq!(outcomes(&rig, id).await, [Outcome::WrittenOff, Outcome::NotCharged]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spooled_answer_is_read_before_a_persons_word_counts() {
    let rig = Rig::new();
    let id = rig.enqueue("x");
    let attempt = rig.on_the_wire(id).await;
    let body = r#"{"code":200,"message":"success","data":{"task_id":"n75spooled","status":"IN_PROGRESS","consumed_credits":200}}"#;
    let evidence = Evidence { status: Some(200), body: body.to_owned(), ..Evidence::default() };
    let spool = rig.data_dir().join("spool");
    klingd::disk::create_root(&spool).unwrap();
    let file = spool.join(format!("job-{id}-attempt-{attempt}.json"));
    let spooled = serde_json::json!({ "job": id, "attempt": attempt, "evidence": evidence });
    std::fs::File::create(&file).unwrap().write_all(b"{ torn").unwrap();
    rig.run(&["resolve", "1", "--not-charged"]).is(1).says("can't be read").says(file.to_str().unwrap());
    assert_eq!(rig.label(id).await, Label::Submitting, "nobody decides over an answer that nobody read");
    std::fs::File::create(&file).unwrap().write_all(spooled.to_string().as_bytes()).unwrap();
    rig.run(&["resolve", "1", "--not-charged"]).is(2).says("was read first").says("job 1 is generating");
    assert_eq!(rig.store().await.job(id).await.unwrap().state.task().unwrap().as_str(), "n75spooled");
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_request_is_on_the_wire_it_says_so_and_waits() {
    let rig = Rig::new();
    let id = rig.enqueue("x");
    rig.on_the_wire(id).await;
    // Somebody holds the data directory, as the daemon does that waits for the answer.
    let lock = daemon::lock(&rig.data_dir(), Clock).unwrap();
    let mut child = rig.start(&["resolve", "1", "--not-charged"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("on the wire") && line.contains("at most 2m"), "{line}");
    let store = rig.store().await;
    store.orphan(store.job(id).await.unwrap(), Clock.now()).await.unwrap();
    said(child.wait_with_output().unwrap()).is(0);
    assert!(lines.next().unwrap().unwrap().contains("job 1 is queued again"));
    drop(lock);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_status_does_not_know_is_replaced() {
    let (_sandbox, rig) = provider("").await;
    let rig = rig.with("KLINGD_API__KEY", KEY);
    let (id, task) = in_doubt(&rig, "A fox").await;
    rig.run(&["resolve", "1", "--task-id", "n75typedwrong", "--force"])
        .is(0)
        .says("the provider does not know it");
    rig.run(&["resolve", "1", "--task-id", task.as_str()]).is(2);
    let store = rig.store().await;
    let job = store.job(id).await.unwrap();
    let watch = Watch::NotFound { since: Clock.now(), held: true };
    let plan = PollPlan {
        event: Some(Event::Watched { watch }),
        urls: Vec::new(),
        due_at: Clock.now(),
        quiet_until: None,
        hold: None,
        running: false,
    };
    store.settle_poll(id, job.version, plan, None, None, Clock.now()).await.unwrap();
    assert_eq!(store.job(id).await.unwrap().state.needs_person(), Some(Reason::UnknownTask));
    rig.run(&["resolve", "1", "--not-charged"]).is(2).says("--write-off");
    rig.run(&["resolve", "1", "--task-id", task.as_str()]).is(0).says("it follows task");
    assert_eq!(
        store.job(id).await.unwrap().state,
        State::Generating { task: task.clone(), watch: Watch::Running }
    );
    let attempt = store.attempts(id).await.unwrap().pop().unwrap();
    assert_eq!((attempt.n, attempt.task_id.as_deref()), (AttemptNo(1), Some(task.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_2() {
    let rig = Rig::new();
    rig.enqueue("x");
    rig.run(&["resolve", "1"]).is(2);
    rig.run(&["resolve", "1", "--not-charged", "--write-off"]).is(2);
    rig.run(&["resolve", "1", "--not-charged", "--force"]).is(2);
    rig.run(&["resolve", "1", "2", "--task-id", "n75abc"]).is(2).says("a task belongs to one job");
    rig.run(&["resolve", "1", "--task-id", "n75 abc"]).is(2).says("can't be a task id");
    rig.run(&["resolve", "1", "--not-charged"]).is(2).says("job 1 is queued");
    rig.run(&["resolve", "1", "99", "--write-off"]).is(7).says("there is no job 99");
}

/// Every view names `klingd resolve ID` as the next command: typed as it stands, it says how to go on.
#[test]
fn without_a_way_it_names_the_ways() {
    let mut said = Rig::new().run(&["resolve", "12"]).is(2);
    for way in ["--task-id", "--not-charged", "--write-off", "--resubmit"] {
        said = said.says(&format!("klingd resolve 12 {way}"));
    }
}
