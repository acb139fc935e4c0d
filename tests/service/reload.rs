//! SIGHUP: another configuration, checked first, swapped whole.

use klingd::{
    domain::{HoldName, state::Label},
    sandbox::AcceptKeys,
};
use rustix::process::Signal;

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_good_configuration_holds_at_once_and_a_bad_one_not_at_all() {
    let rig = Rig::new("", "budget.per_day = 100").await;
    let job = rig.enqueue("a fox").await;
    let mut daemon = rig.start(&[]);
    rig.hears("READY").await;
    assert_eq!(rig.hears("STATUS").await, "STATUS=1 queued; 0 of 100 credits today\n");

    rig.configure("budget.per_day = \"much\"\nsubmit.workers = 0\nbudget.total = 7");
    daemon.signal(Signal::HUP);
    let reloading = rig.hears("RELOADING").await;
    let (first, second) = reloading.split_once('\n').unwrap();
    assert_eq!(first, "RELOADING=1");
    assert!(second.trim().trim_start_matches("MONOTONIC_USEC=").parse::<u64>().is_ok(), "{second}");
    assert_eq!(rig.hears("READY").await, "READY=1\n");
    let status = rig.hears("STATUS").await;
    assert!(status.starts_with("STATUS=the new configuration is not used ("), "{status}");
    assert!(status.ends_with("; 1 queued; 0 of 100 credits today\n"), "nothing of it holds: {status}");
    let log = daemon.says("the one before holds").await;
    for key in ["budget.per_day", "submit.workers"] {
        let said = log.lines().any(|line| line.contains("ERROR") && line.contains(key));
        assert!(said, "{key}, as the command line says it:\n{log}");
    }

    rig.configure(
        "budget.per_day = 500\nlog.level = \"trace\"\nmetrics.listen = \"9187\"\noutput.template = \"{id}.mp4\"",
    );
    daemon.signal(Signal::HUP);
    daemon.says("changed: budget.per_day, output.template, log.level").await;
    daemon.says("need a restart of klingd: metrics.listen").await;
    daemon.says(&format!("job {job} is done")).await;
    assert!(rig.path("data/videos").join(format!("{job}.mp4")).exists(), "by the new template");
    rig.hears("STATUS=idle; 120 of 500 credits today").await;

    // What waits for a restart is named again for as long as it waits.
    rig.configure("budget.per_day = 500\nlog.level = \"warn\"\nmetrics.listen = \"9187\"");
    daemon.signal(Signal::HUP);
    daemon.says("changed: output.template, log.level").await;
    rig.hears("READY").await;
    let second = rig.enqueue("an owl").await;
    rig.hears("STATUS=idle; 240 of 500 credits today").await;
    let log = daemon.stop().await;
    assert_eq!(log.matches("need a restart of klingd: metrics.listen").count(), 2, "{log}");
    assert!(!log.contains(&format!("job {second} is")), "by the new level:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_tried_at_once() {
    let rig = Rig::new("", "").await;
    rig.sandbox.set_keys(AcceptKeys::Only(vec!["sk-a-third-4f1c0de5ecre7".into()]));
    let job = rig.enqueue("a fox").await;
    let mut daemon = rig.start(&[]);
    daemon.says("submits stop: mend the key").await;
    assert_eq!(rig.holds().await, [HoldName::Key]);
    // By itself it would look in five minutes.
    rig.write("key", "sk-another-4f1c0de5ecre7");
    daemon.signal(Signal::HUP);
    daemon.says("changed: api.key").await;
    daemon.says("the key does not work yet").await;
    rig.write("key", "sk-a-third-4f1c0de5ecre7");
    daemon.signal(Signal::HUP);
    daemon.says("the key works again: one job is tried").await;
    daemon.says(&format!("job {job} is done")).await;
    assert_eq!(rig.label(job).await, Label::Done);
    assert!(rig.holds().await.is_empty());
    let log = daemon.stop().await;
    assert!(!log.contains("sk-"), "{log}");
}
