//! The sandbox's queue, whose provider dies with the daemon.

use std::{
    io::{BufRead as _, BufReader},
    time::Duration,
};

use crate::rig::{Rig, said};

/// What a newcomer tries first: kill -9, and start again. The new double knows the tasks of the dead one.
#[test]
fn killed_and_started_again_it_brings_the_video() {
    let rig = Rig::new().with("KLINGD_OUTPUT__MIN_FREE", "1 MiB");
    let prompt = ["--sandbox", "enqueue", "--type", "std-text-to-video", "--prompt", "a fox"];
    rig.run(&prompt).is(0);

    let mut daemon = rig.start(&["--sandbox", "run", "--until-idle"]);
    let mut log = BufReader::new(daemon.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("is generating")), "it ended before its task was made");
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    // The bound is for a double that has forgotten: then nothing would ever come to rest.
    let again = rig.command(&["--sandbox", "run", "--until-idle"]);
    said(assert_cmd::Command::from_std(again).timeout(Duration::from_secs(30)).output().unwrap()).is(0);
    let job = rig.run(&["--sandbox", "show", "1", "--json"]).is(0).json().remove(0);
    assert_eq!((job["state"].as_str(), job["paid_attempts"].as_u64()), (Some("done"), Some(1)), "{job}");
    let video = job["outputs"][0]["path"].as_str().unwrap();
    assert_eq!(std::fs::metadata(video).unwrap().len(), job["outputs"][0]["bytes"].as_u64().unwrap());
}
