//! What other processes do to a job while its POST is on the wire. The double has charged already, the gate holds the
//! answer back; whatever happens in between, the task id is kept, and it is paid once.

use klingd::domain::evidence::Evidence;
use klingd::domain::plan::retry::{RetryPlan, retry};
use klingd::domain::{AttemptNo, JobId, Outcome, State, TaskId};
use klingd::store::StoreError;
use klingd::store::person::{Edit, Resolution};
use klingd::worker::evidence::{Spool, Spooled};

use super::rig::{Daemon, Gate, Rig, Setup, clock};

/// A job whose POST is on the wire, charged and not answered.
struct OnTheWire {
    rig: Rig,
    gate: Gate,
    daemon: Daemon,
    job: JobId,
    /// What the double made of it.
    task: TaskId,
}

const FIRST: AttemptNo = AttemptNo(1);

impl OnTheWire {
    async fn new() -> Self {
        let mut rig = Rig::with_jobs(1, Setup::default()).await;
        let gate = rig.gate().await;
        let mut daemon = rig.start();
        rig.on_the_wire(&mut daemon).await;
        let job = rig.jobs()[0].0;
        let task = TaskId::parse(&rig.sandbox.tasks()[0].id).unwrap();
        Self { rig, gate, daemon, job, task }
    }

    /// Lets the answer through and waits for the daemon to come to rest.
    async fn answered(self) -> (Rig, JobId, TaskId) {
        self.gate.open();
        self.rig.end(self.daemon).await.exited(0);
        self.rig.holds_at_any_instant().await;
        assert_eq!(self.rig.sandbox.charges_for(&self.rig.jobs()[0].1), 1);
        (self.rig, self.job, self.task)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_a_wish_and_the_task_is_kept() {
    let wire = OnTheWire::new().await;
    wire.rig.store(async |store| store.cancel(wire.job, true, clock()).await.unwrap()).await;
    assert!(matches!(wire.rig.state(wire.job).await, State::Submitting { cancel: true, .. }));
    let (rig, job, task) = wire.answered().await;
    assert_eq!(rig.state(job).await, State::Cancelled { task: Some(task) });

    // It is paid: to go after it costs nothing.
    let plan = retry(&rig.state(job).await, true, false);
    assert_eq!(plan, Some(RetryPlan::Follow));
    rig.store(async |store| store.retry(job, plan.unwrap(), clock()).await.unwrap()).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_kept_and_so_is_the_task() {
    let wire = OnTheWire::new().await;
    let edit = Edit { priority: Some(7), name: Some("renamed".to_owned()), ..Edit::default() };
    wire.rig.store(async |store| store.edit(wire.job, edit, clock()).await.unwrap()).await;
    let (rig, job, task) = wire.answered().await;
    let job = rig.store(async |store| store.job(job).await.unwrap()).await;
    assert_eq!((job.priority, job.name.as_deref()), (7, Some("renamed")));
    assert_eq!(job.state, State::Done { task });
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_settles_what_is_still_on_the_wire() {
    let wire = OnTheWire::new().await;
    let other = TaskId::parse("n75someoneelse").unwrap();
    let words =
        [Resolution::NotCharged, Resolution::WriteOff, Resolution::Resubmit, Resolution::Adopt(other)];
    wire.rig
        .store(async |store| {
            for word in words {
                let refused = store.resolve(wire.job, FIRST, word.clone(), None, clock()).await;
                let illegal = matches!(refused, Err(StoreError::Illegal { .. } | StoreError::NotNow { .. }));
                assert!(illegal, "{word:?} was not refused: {refused:?}");
            }
            let attempts = store.attempts(wire.job).await.unwrap();
            assert_eq!(attempts[0].outcome, Outcome::Open);
        })
        .await;
    let (rig, job, task) = wire.answered().await;
    assert_eq!(rig.state(job).await, State::Done { task });
    rig.finish().await;
}

/// The answer turns up in the spool after a person said that there was none: the provider's word wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_evidence_overrules_a_person() {
    let rig = Rig::with_jobs(1, Setup { faults: "generate:hang-after", ..Setup::default() }).await;
    let mut daemon = rig.start();
    rig.on_the_wire(&mut daemon).await;
    rig.kill(daemon).await;
    let (job, prompt) = rig.jobs()[0].clone();
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 1);
    rig.store(async |store| store.resolve(job, FIRST, Resolution::NotCharged, None, clock()).await.unwrap())
        .await;
    assert_eq!(rig.state(job).await, State::Queued);

    let task = rig.sandbox.tasks()[0].id.clone();
    let answer = format!("{{\"code\":200,\"data\":{{\"task_id\":\"{task}\",\"consumed_credits\":240}}}}");
    let evidence = Evidence { status: Some(200), body: answer, ..Evidence::default() };
    let spool = Spool::new(rig.data_dir().join("spool"), rig.data_dir().join("reserve"));
    spool.keep(Spooled { job, attempt: FIRST, evidence }).await.unwrap();

    rig.finish().await;
    assert_eq!(rig.state(job).await, State::Done { task: TaskId::parse(&task).unwrap() });
    assert_eq!(rig.sandbox.charges_for(&prompt), 1);
}
