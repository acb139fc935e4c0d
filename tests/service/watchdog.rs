//! The service manager's watchdog, and what a stop asks of it.

use std::time::Duration;

use klingd::domain::state::Label;
use rustix::process::Signal;
use tokio::time::timeout;

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_well_says_so() {
    let mut rig = Rig::new("", "").await;
    rig.variables.push(("WATCHDOG_USEC", "10000000".into()));
    // Somebody else's watchdog is not fed.
    rig.variables.push(("WATCHDOG_PID", "1".into()));
    let daemon = rig.start(&[]);
    assert_eq!(rig.hears("READY").await, "READY=1\n");
    assert_eq!(rig.hears("STATUS").await, "STATUS=idle; 0 credits today\n");
    daemon.signal(Signal::TERM);
    let mut last = rig.heard().await;
    while !last.contains("STOPPING") {
        assert!(!last.contains("WATCHDOG"), "{last}");
        last = rig.heard().await;
    }
    daemon.end().await;

    rig.variables.retain(|(name, _)| *name != "WATCHDOG_PID");
    let daemon = rig.start(&[]);
    rig.hears("READY").await;
    assert_eq!(rig.hears("WATCHDOG").await, "WATCHDOG=1\n");
    rig.hears("WATCHDOG").await;
    daemon.stop().await;
}

/// The test is the manager: it kills what does not feed its watchdog in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_hangs_is_no_longer_vouched_for() {
    const INTERVAL: Duration = Duration::from_secs(1);
    let mut rig = Rig::new("", "").await;
    let usec = INTERVAL.as_micros().to_string();
    rig.variables.push(("WATCHDOG_USEC", usec));
    let armed = (klingd::failpoint::VARIABLE, "submit.before_intent:2=hang".to_owned());
    rig.variables.push(armed);
    let mut daemon = rig.start(&[]);
    rig.hears("READY").await;
    // Nobody hears it: what would ring the lane's bell hangs with it.
    let job = rig.enqueue("a fox").await;
    let status = rig.hears("STATUS=hung").await;
    assert!(status.contains("the submit lane has not moved for"), "{status}");
    let log = daemon.says("nothing new is begun").await;
    assert!(log.contains("the submit lane has not moved for"), "{log}");
    let fed = timeout(INTERVAL, rig.hears("WATCHDOG=1")).await;
    assert!(fed.is_err(), "fed although a lane hangs");
    daemon.signal(Signal::ABORT);
    let (code, _) = daemon.end().await;
    assert_eq!(code, None, "it hung to its end, and was killed");

    // The next start finds everything as it was, and works.
    rig.variables.retain(|(name, _)| *name != klingd::failpoint::VARIABLE);
    let mut daemon = rig.start(&[]);
    daemon.says(&format!("job {job} is done")).await;
    daemon.stop().await;
    assert_eq!(rig.sandbox.tasks().len(), 1, "paid once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_asks_for_the_time_that_a_request_on_the_wire_takes() {
    let rig = Rig::new("generate:hang-before", "api.submit_timeout = \"2s\"").await;
    let daemon = rig.start(&[]);
    rig.hears("READY").await;
    let job = rig.enqueue("a fox").await;
    rig.sandbox.wait_until(|model| !model.requests().is_empty()).await;
    daemon.signal(Signal::TERM);
    rig.hears("STOPPING=1").await;
    let more = rig.hears("EXTEND_TIMEOUT_USEC=").await;
    let usec: u64 = more.trim().trim_start_matches("EXTEND_TIMEOUT_USEC=").parse().unwrap();
    assert!((2_000_000..200_000_000).contains(&usec), "{usec}");
    assert_eq!(rig.heard().await, "STATUS=stopping: 1 requests on the wire, finished first\n");
    let (code, log) = daemon.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(rig.label(job).await, Label::InDoubt, "its outcome is on record before the end");
}

/// A manager that hangs: its socket fills up, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_does_not_read_keeps_nobody_from_working_or_stopping() {
    let rig = Rig::new("", "").await;
    let mut daemon = rig.start(&[]);
    daemon.says("klingd is running").await;
    // A socket holds some ten messages, and each time that the configuration is read brings two.
    for n in 1..=6 {
        rig.configure(&format!("budget.total = {n}00000"));
        daemon.signal(Signal::HUP);
        daemon.says_often("changed: budget.total", n).await;
    }
    let job = rig.enqueue("a fox").await;
    daemon.says(&format!("job {job} is done")).await;
    daemon.stop().await;
}
