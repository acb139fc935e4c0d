//! A provider, a data directory, a configuration file, a service manager's socket, and the daemon as a child.

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use klingd::{
    clock::Clock,
    domain::{HoldName, JobId, Request, job::NewJob, request::Draft, state::Label},
    sandbox::{Options, Sandbox},
    store::{Access, Store, World, doorbell, enqueue::NewBatch},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    net::{UnixDatagram, unix::pipe},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The key of the daemon's first configuration; no artefact may contain it.
pub const KEY: &str = "sk-service-4f1c0de5ecre7";
/// Nothing takes that long; a test that hangs must fail and say where.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub sandbox: Sandbox,
    pub dir: TempDir,
    pub variables: Vec<(&'static str, String)>,
    manager: UnixDatagram,
}

impl Rig {
    /// A rig whose provider has these faults, and whose configuration is this text and the places.
    pub async fn new(faults: &str, config: &str) -> Self {
        let render_time = Duration::ZERO..=Duration::ZERO;
        let options = Options { faults: faults.parse().unwrap(), render_time, ..Options::new(now) };
        let (sandbox, server) = Sandbox::bind(options).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "no daemon here that could spawn it")]
        tokio::spawn(server.serve(CancellationToken::new()));
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("notify.sock")).unwrap();
        let mut rig = Self { sandbox, dir, variables: Vec::new(), manager };
        rig.write("key", KEY);
        rig.configure(config);
        let (socket, config) = (rig.path("notify.sock"), rig.path("klingd.toml"));
        rig.variables.push(("NOTIFY_SOCKET", socket.to_str().unwrap().to_owned()));
        rig.variables.push(("KLINGD_CONFIG", config.to_str().unwrap().to_owned()));
        rig.variables.push(("KLINGD_DATA_DIR", rig.path("data").to_str().unwrap().to_owned()));
        // Beside the file, so that every test says in its own only what it is about.
        for (name, value) in [
            ("KLINGD_API__BASE_URL", rig.sandbox.base_url().as_str()),
            ("KLINGD_OUTPUT__MIN_FREE", "0 B"),
            ("KLINGD_POLL__FIRST", "100ms"),
            ("KLINGD_POLL__EVERY", "100ms"),
            ("KLINGD_POLL__SLOWEST", "200ms"),
            ("KLINGD_SUBMIT__COOLDOWN", "100ms"),
            ("KLINGD_POLL__MAX_PER_SECOND", "1000"),
            ("KLINGD_INBOX__SETTLE", "100ms"),
        ] {
            rig.variables.push((name, value.to_owned()));
        }
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::io::Write::write_all(&mut std::fs::File::create(self.path(name)).unwrap(), text.as_bytes())
            .unwrap();
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) {
        self.write("klingd.toml", &format!("api.key_file = {:?}\n{text}", self.path("key")));
    }

    /// Starts `klingd run` and reads its stderr as it comes.
    pub fn start(&self, arguments: &[&str]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_klingd"));
        command.env_clear().env("HOME", self.dir.path()).args(arguments).arg("run");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let stderr = OwnedFd::from(child.stderr.take().unwrap());
        let stderr = pipe::Receiver::from_owned_fd(stderr).unwrap();
        let (said, log) = watch::channel(String::new());
        #[expect(clippy::disallowed_methods, reason = "no daemon here that could spawn it")]
        tokio::spawn(listen(stderr, said));
        Daemon { child, log }
    }

    /// The next datagram to the service manager that has these words.
    pub async fn hears(&self, words: &str) -> String {
        loop {
            let Ok(text) = timeout(PATIENCE, self.heard()).await else { panic!("never heard {words:?}") };
            if text.contains(words) {
                return text;
            }
        }
    }

    /// The next datagram to the service manager.
    pub async fn heard(&self) -> String {
        let mut bytes = vec![0; 8192];
        let n = self.manager.recv(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    }

    pub async fn store(&self) -> Store {
        let data = self.path("data");
        klingd::disk::create_root(&data).unwrap();
        let (store, writer) = Store::open(&data.join("klingd.db"), Access::Use).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "no daemon here that could spawn it")]
        tokio::spawn(writer.run());
        store.stamp(&data.join("klingd.db"), World::Real).await.unwrap();
        store
    }

    /// Queues a job, as a command does.
    pub async fn enqueue(&self, prompt: &str) -> JobId {
        let queued = self.store().await.enqueue(batch(prompt), Clock.now()).await.unwrap();
        doorbell::ring(&self.path("data").join("doorbell.sock"));
        queued[0].id
    }

    /// A person's `pause`, or a hold that klingd itself sets.
    pub async fn holds(&self) -> Vec<HoldName> {
        self.store().await.holds().await.unwrap().into_iter().map(|hold| hold.name).collect()
    }

    pub async fn label(&self, job: JobId) -> Label {
        self.store().await.job(job).await.unwrap().state.label()
    }
}

/// A running daemon. It is killed when a failing test drops it.
pub struct Daemon {
    child: Child,
    log: watch::Receiver<String>,
}

impl Daemon {
    /// Waits until it has said these words; gives all that it has said.
    pub async fn says(&mut self, words: &str) -> String {
        self.says_often(words, 1).await
    }

    /// The same, so many times.
    pub async fn says_often(&mut self, words: &str, times: usize) -> String {
        let mut log = self.log.clone();
        match timeout(PATIENCE, log.wait_for(|log| log.matches(words).count() >= times)).await {
            Ok(Ok(log)) => log.clone(),
            Ok(Err(_)) => panic!("it ended without saying {words:?}; it said:\n{}", self.said()),
            Err(_) => panic!("it never said {words:?}; it said:\n{}", self.said()),
        }
    }

    pub fn said(&self) -> String {
        self.log.borrow().clone()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its end: the exit code, if it was not killed, and everything it said.
    pub async fn end(mut self) -> (Option<i32>, String) {
        let gone = async { while self.log.changed().await.is_ok() {} };
        let ended = timeout(PATIENCE, gone).await.is_ok();
        assert!(ended, "it does not end; it said:\n{}", self.said());
        (self.child.wait().unwrap().code(), self.said())
    }

    /// SIGTERM, and its end.
    pub async fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (code, said) = self.end().await;
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Neither does anything to a child that was reaped already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn listen(mut stderr: pipe::Receiver, said: watch::Sender<String>) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        let text = String::from_utf8_lossy(&chunk[..count]).into_owned();
        said.send_modify(|log| log.push_str(&text));
    }
}

fn batch(prompt: &str) -> NewBatch {
    let draft = Draft {
        job_type: Some("std-text-to-video".into()),
        prompt: Some(prompt.into()),
        duration: Some(3),
        sound: Some(false),
        ..Draft::default()
    };
    let request = Request::parse(&draft).unwrap();
    let job = NewJob::of(request, "rig");
    NewBatch { name: "rig".into(), source: "rig".into(), max_credits: None, jobs: vec![job] }
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(Clock.now().as_millis()).unwrap()
}
