//! Signals from outside, while the daemon waits for an answer that it pays for; and a second daemon.

use klingd::domain::State;
use klingd::sandbox::Model;
use rustix::process::Signal;

use super::rig::{Rig, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_provider_is_silent_it_asks_a_person_and_pays_nothing_again() {
    for (fault, charged) in [("generate:hang-before~\"job 2\"", 0), ("generate:hang-after~\"job 2\"", 1)] {
        let rig = Rig::with_jobs(3, Setup { faults: fault, ..Setup::default() }).await;
        let mut daemon = rig.start();
        let silent = |model: &Model| model.fired().values().any(|times| *times == 1);
        rig.sees(&mut daemon, "the POST that it leaves unanswered", silent).await;
        rig.kill(daemon).await;
        rig.holds_at_any_instant().await;

        let (second, prompt) = rig.jobs()[1].clone();
        let facts = rig.run_to_rest().await;
        assert!(facts.in_doubt().any(|job| job.id == second), "{fault}");
        assert_eq!(rig.sandbox.charges_for(&prompt), charged, "{fault}");
        rig.tell_the_truth().await;
        rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_stop_it_waits_for_the_answer_it_pays_for() {
    let mut rig = Rig::with_jobs(2, Setup { serial: true, ..Setup::default() }).await;
    let gate = rig.gate().await;
    let mut daemon = rig.start();
    rig.on_the_wire(&mut daemon).await;
    daemon.signal(Signal::TERM);
    daemon.says("klingd stops").await;
    gate.open();
    rig.end(daemon).await.exited(0);
    rig.holds_at_any_instant().await;

    let [(first, _), (second, _)] = rig.jobs() else { panic!("two jobs") };
    assert!(matches!(rig.state(*first).await, State::Generating { .. }), "the answer is on record");
    assert_eq!(rig.state(*second).await, State::Queued, "nothing new was begun");
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_twice_it_stops_at_once_and_the_next_start_says_what_is_in_doubt() {
    let mut rig = Rig::with_jobs(1, Setup::default()).await;
    let gate = rig.gate().await;
    let mut daemon = rig.start();
    rig.on_the_wire(&mut daemon).await;
    daemon.signal(Signal::TERM);
    daemon.says("klingd stops").await;
    daemon.signal(Signal::INT);
    // The gate is still closed: nothing but the second signal can end it.
    rig.end(daemon).await.exited(130);
    rig.holds_at_any_instant().await;

    gate.open();
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 1);
    assert_eq!(rig.sandbox.charges_for(&rig.jobs()[0].1), 1);
    rig.tell_the_truth().await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_is_told_who_has_the_queue() {
    let mut rig = Rig::with_jobs(1, Setup::default()).await;
    let gate = rig.gate().await;
    let mut first = rig.start();
    rig.on_the_wire(&mut first).await;

    let second = rig.end(rig.start()).await;
    second.exited(78);
    let holder = format!("in use by klingd, process {},", first.pid());
    assert!(second.log.contains(&holder), "{}", second.log);

    gate.open();
    rig.end(first).await.exited(0);
    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
}
