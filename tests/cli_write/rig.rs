//! A data directory, the real binary, and what stands beside it.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use klingd::{
    clock::Clock,
    config::{ApiKey, Config, Environment, Overrides},
    daemon,
    disk::DirLock,
    domain::{AttemptNo, Job, JobId, state::Label},
    sandbox::{Options, Sandbox},
    store::{Access, Store, World, view::Filter},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Two jobs of 200 credits each.
pub const TWO_JOBS: &str = r#"
[defaults]
type = "std-text-to-video"
sound = false
[[job]]
name = "harbour"
prompt = "A harbour"
[[job]]
name = "pier"
prompt = "A pier"
"#;

/// A data directory, and what the commands see of the world.
pub struct Rig {
    pub dir: TempDir,
    pub variables: Vec<(String, String)>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    pub fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "{words:?} is not in:\n{}", self.err);
        self
    }

    /// stdout as the JSON lines it promises to be.
    pub fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Rig {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_klingd"));
        command.args(args).env_clear().current_dir(self.dir.path());
        command.env("HOME", self.dir.path()).env("PATH", "/usr/bin:/bin");
        command.env("KLINGD_DATA_DIR", self.data_dir());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, "")
    }

    pub fn run_with(&self, args: &[&str], stdin: &str) -> Said {
        let mut command = assert_cmd::Command::from_std(self.command(args));
        // Only a failing test waits so long.
        let output = command.timeout(Duration::from_secs(60)).write_stdin(stdin).output().unwrap();
        said(output)
    }

    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        std::fs::File::create(self.dir.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
        name.to_owned()
    }

    /// Queues a job of 200 credits by the command.
    pub fn enqueue(&self, prompt: &str) -> JobId {
        let args = ["enqueue", "--json", "--type", "std-text-to-video", "--no-sound", "--prompt", prompt];
        let said = self.run(&args).is(0);
        JobId(said.json()[0]["id"].as_i64().unwrap())
    }

    pub async fn store(&self) -> Store {
        klingd::disk::create_root(&self.data_dir()).unwrap();
        let (store, writer) = Store::open(&self.data_dir().join("klingd.db"), Access::Use).await.unwrap();
        spawn(writer.run());
        store
    }

    pub async fn jobs(&self) -> Vec<Job> {
        self.store().await.list(&Filter { all: true, ..Filter::default() }).await.unwrap()
    }

    pub async fn label(&self, id: JobId) -> Label {
        self.store().await.job(id).await.unwrap().state.label()
    }

    /// The configuration of the commands.
    pub fn config(&self) -> Config {
        let environment = Environment {
            variables: self.variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            home: Some(self.dir.path().to_owned()),
            current_dir: self.dir.path().to_owned(),
            etc: self.dir.path().join("etc"),
        };
        let overrides = Overrides { data_dir: Some(self.data_dir()), ..Overrides::default() };
        let mut config = Config::load(&overrides, &environment).unwrap();
        config.output.min_free_bytes = 0;
        config
    }

    /// Puts a queued job on the wire, as a daemon does before it is killed.
    pub async fn on_the_wire(&self, id: JobId) -> AttemptNo {
        let store = self.store().await;
        let policy = daemon::claim_policy(&self.config(), "0a1b2c3d");
        let now = Clock.now();
        let claimed = store.claim_submits(1, &policy, now, Clock.day_start(now)).await.unwrap();
        assert_eq!(claimed.intents.iter().map(|i| i.job).collect::<Vec<_>>(), [id]);
        claimed.intents[0].attempt
    }
}

pub fn said(output: std::process::Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[expect(clippy::disallowed_methods, reason = "what stands beside the daemon is not the daemon's to spawn")]
pub fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

/// The daemon's key, which the commands are not given.
pub const KEY: &str = "sk-daemon-4f1c0de5ecre7";

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(Clock.now().as_millis()).unwrap()
}

/// A provider with these faults, and commands that know where it is.
pub async fn provider(faults: &str) -> (Sandbox, Rig) {
    let render_time = Duration::ZERO..=Duration::ZERO;
    let options = Options { faults: faults.parse().unwrap(), render_time, ..Options::new(now) };
    let (sandbox, server) = Sandbox::bind(options).await.unwrap();
    spawn(server.serve(CancellationToken::new()));
    let rig = Rig::new().with("KLINGD_API__BASE_URL", sandbox.base_url());
    (sandbox, rig)
}

/// A daemon in this process, with patience for nothing.
pub struct Daemon {
    stop: CancellationToken,
    run: JoinHandle<()>,
}

impl Daemon {
    pub async fn start(rig: &Rig) -> Self {
        let stop = CancellationToken::new();
        let (mut config, stopped) = (rig.config(), stop.clone());
        let soon = Duration::from_millis(20);
        (config.poll.first, config.poll.every, config.poll.slowest) = (Some(soon), Some(soon), soon);
        (config.poll.confirm_failed, config.poll.max_per_second) = (soon, 1000.0);
        let key = ApiKey::parse(KEY).unwrap();
        let run = spawn(async move {
            let describe = |_: &_, _: &[_]| serde_json::Value::Null;
            let options = daemon::Options { until_idle: false, world: World::Real, describe };
            daemon::run(&config, &key, options, Clock, stopped).await.unwrap();
        });
        while !DirLock::is_held(&rig.data_dir()).unwrap() {
            tokio::task::yield_now().await;
        }
        Self { stop, run }
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.run.await.unwrap();
    }
}
