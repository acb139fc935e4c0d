//! What the service manager hears of a daemon, over a real socket.

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;

use crate::rig::Rig;

/// The next datagram that has these words; what came before it is no part of what is waited for.
async fn hears(socket: &UnixDatagram, words: &str) -> String {
    let mut bytes = vec![0; 4096];
    loop {
        let heard = tokio::time::timeout(std::time::Duration::from_secs(60), socket.recv(&mut bytes)).await;
        assert!(heard.is_ok(), "never heard {words:?}");
        let n = heard.unwrap().unwrap();
        let text = String::from_utf8(bytes[..n].to_vec()).unwrap();
        if text.contains(words) {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_what_matters() {
    let rig = Rig::new();
    let path = rig.dir.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let rig = rig.with("NOTIFY_SOCKET", path.to_str().unwrap()).with("KLINGD_BUDGET__PER_DAY", "20000");
    let job = ["--sandbox", "enqueue", "--type", "std-text-to-video", "--no-sound", "--prompt", "a fox"];
    rig.run(&job).is(0);
    let mut daemon = rig.start(&["run", "--sandbox", "--faults", "generate:402"]);
    assert_eq!(hears(&socket, "READY").await, "READY=1\n", "once recovery is done, and once");
    let status = hears(&socket, "held").await;
    assert!(
        status.starts_with("STATUS=1 queued; 0 of 20,000 credits today; held: credits (HTTP 402"),
        "{status}"
    );
    assert!(status.ends_with("top up the account, then klingd resume)\n"), "{status}");
    assert_eq!(status.lines().count(), 1);
    rig.run(&["--sandbox", "resume"]).is(0);
    hears(&socket, "STATUS=1 generating; 200 of 20,000 credits today").await;
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    assert_eq!(hears(&socket, "STOPPING").await, "STOPPING=1\n");
    assert!(daemon.wait().unwrap().success());
}
