//! Every hold, in a real daemon: it stops submits and nothing else, it survives kill -9, and its command lifts it.

use std::process::{Command, Stdio};

use futures_util::future::join_all;
use klingd::domain::hold::{Hold, HoldName};
use klingd::domain::state::Label;

use super::rig::{Rig, Setup, clock, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(debug_assertions), ignore = "the points are in debug builds only")]
async fn every_hold_survives_a_kill_and_is_lifted_by_its_command() {
    join_all(HoldName::ALL.map(held)).await;
}

async fn held(name: HoldName) {
    // One that is paid, whose daemon was killed before anybody saw its video; one that waits behind it.
    let mut rig = Rig::with_jobs(1, Setup::default()).await;
    let paid = rig.jobs()[0].0;
    rig.run_to_its_death("poll.answered").await;
    let waiting = rig.enqueue(1).await[0];
    match name {
        HoldName::Paused => command(&rig, &["pause"]).await,
        // More than any disk has.
        HoldName::Disk => rig.set("KLINGD_OUTPUT__MIN_FREE", "1000000 GiB"),
        HoldName::Key | HoldName::Credits | HoldName::Rate | HoldName::Restored | HoldName::UncleanStop => {
            let hold = Hold::new(name, "a test says so".to_owned(), clock());
            rig.store(async |store| store.hold(hold).await.unwrap()).await;
        }
    }
    let label = async |job| rig.state(job).await.label();

    let daemon = rig.start_to_stay();
    until(&format!("{name:?}: the paid job is done"), async || label(paid).await == Label::Done).await;
    assert_eq!((label(waiting).await, charges(&rig)), (Label::Queued, 1), "{name:?}");
    rig.kill(daemon).await;
    rig.holds_at_any_instant().await;

    let mut daemon = rig.start_to_stay();
    daemon.says("klingd is running").await;
    assert!(daemon.said().contains(name.remedy()), "{name:?}: a start says what holds:\n{}", daemon.said());
    assert_eq!(holds(&rig).await, [name]);
    assert_eq!((label(waiting).await, charges(&rig)), (Label::Queued, 1), "{name:?}");
    match name {
        HoldName::Paused | HoldName::Key | HoldName::Credits | HoldName::Rate => {
            command(&rig, &["resume"]).await;
        }
        HoldName::Restored | HoldName::UncleanStop => {
            command(&rig, &["resume"]).await;
            assert_eq!(holds(&rig).await, [name], "lifted by its name alone");
            command(&rig, &["resume", "--hold", name.as_str()]).await;
        }
        HoldName::Disk => {
            command(&rig, &["resume"]).await;
            assert_eq!(holds(&rig).await, [name], "no word makes room");
            rig.kill(daemon).await;
            rig.set("KLINGD_OUTPUT__MIN_FREE", "0 B");
            daemon = rig.start_to_stay();
        }
    }
    rig.sees(&mut daemon, "the other job", |model| model.charges().len() == 2).await;
    until(&format!("{name:?}: all are done"), async || rig.state(waiting).await.label() == Label::Done).await;
    assert_eq!(holds(&rig).await, []);
    rig.kill(daemon).await;
    rig.finish().await;
}

fn charges(rig: &Rig) -> usize {
    rig.jobs().iter().map(|(_, prompt)| rig.sandbox.charges_for(prompt)).sum()
}

async fn holds(rig: &Rig) -> Vec<HoldName> {
    rig.store(async |store| store.holds().await.unwrap().into_iter().map(|hold| hold.name).collect()).await
}

/// A command of a person, beside the daemon.
async fn command(rig: &Rig, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klingd"));
    command.env_clear().env("KLINGD_CONFIG", rig.data_dir().join("klingd.toml"));
    command
        .arg("--data-dir")
        .arg(rig.data_dir())
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
