//! Downloads that are cut: what is durable is not fetched again, what does not fit is not put together.

use klingd::sandbox::SeenRequest;
use klingd::store::download::Partial;
use rustix::process::Signal;

use super::rig::{Rig, Setup, until};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_stop_in_a_download_it_goes_on_there_after_the_next_start() {
    let (whole, sent) = (12 * MIB, 9 * MIB + MIB / 2);
    // What came is written a MiB at a time; the last piece waits for more, which never comes.
    let written = sent - MIB;
    let stall = format!("video:stall={sent}");
    let setup = Setup { faults: &stall, video_bytes: Some(whole), ..Setup::default() };
    let mut rig = Rig::with_jobs(1, setup).await;
    // It is the signal that ends the wait, and nothing else.
    rig.set("KLINGD_DOWNLOAD__IDLE_TIMEOUT", "1h");
    let daemon = rig.start();
    let (job, _) = rig.jobs()[0].clone();
    let part = rig.videos().join(format!(".klingd-{job}-0.part"));
    until("the part grows", async || part.metadata().is_ok_and(|part| part.len() >= written)).await;
    daemon.signal(Signal::TERM);
    rig.end(daemon).await.exited(0);
    rig.holds_at_any_instant().await;

    let outputs = rig.store(async |store| store.outputs(job).await.unwrap()).await;
    let Some(Partial { position, .. }) = outputs[0].partial else { panic!("{outputs:?}") };
    assert!((written..=sent).contains(&position), "{position} of {sent} bytes are durable");
    assert_eq!(part.metadata().unwrap().len(), position, "the row says what the file has");

    assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
    let rest = format!("bytes={position}-");
    let asked = |request: &SeenRequest| request.range.as_ref() == Some(&rest);
    assert!(rig.sandbox.requests().iter().any(asked), "only the rest is fetched again");
}

/// After the cut the daemon asks for the rest, and gets something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rest_that_is_not_the_rest_is_never_put_behind_the_start() {
    for other in ["video:etag-changed", "video:ignore-range", "video:wrong-content-range"] {
        let faults = format!("video:cut=50000,{other}");
        let setup = Setup { faults: &faults, video_bytes: Some(100_000), ..Setup::default() };
        let rig = Rig::with_jobs(1, setup).await;
        assert_eq!(rig.run_to_rest().await.in_doubt().count(), 0);
        assert_eq!(rig.sandbox.fired()[other], 1);
    }
}
