//! The provider in this process, out of reach of any kill, and the real daemon and its commands as children.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use klingd::{
    clock::Clock,
    sandbox::{Model, Options, Sandbox},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

use super::{Plan, Result};

const KLINGD: &str = env!("CARGO_BIN_EXE_klingd");
/// Long and odd, so that it is found wherever it leaks to.
pub const KEY: &str = "kling-soak-5d1e7ab093-not-to-be-seen";
/// For the work in hand to end after SIGTERM.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// Each at one call in a hundred: lost answers of both kinds, broken and odd ones, refusals, dead and false videos.
/// Refusals to come back later are few: the gate would learn that so little is allowed, and keep to it. The limits of the
/// provider itself make enough of them. What would keep a task for ever, or ask a person for more than the truth about a
/// doubt, is not among them.
const FAULTS: &str = "generate:reset-before@*%1,generate:close-after@*%1,generate:hang-after@*%1,generate:cut-body@*%1,\
    generate:cut-body-after-id@*%1,generate:not-json@*%1,generate:no-credits-field@*%1,generate:already-success@*%1,\
    generate:500@*%1,generate:503@300-301,generate:429=1@900-901,generate:502-html-charged@*%1,generate:slow=300@*%3,\
    status:reset@*%1,status:hang@*%1,status:cut-body@*%1,status:not-json@*%1,status:502-html@*%1,\
    status:503@*%1,status:429@2000-2001,status:other-task@*%1,status:urls=json-string@*%1,status:lower-case@*%1,status:failed-once@900,status:failed-once@9000,\
    status:stale-in-progress@*%1,status:no-credits-field@*%1,status:slow=500@*%2,\
    video:cut=3000@*%2,video:reset=3000@*%1,video:stall=2000@*%1,video:chunked-cut=2000@*%1,video:html@*%1,\
    video:empty@*%1,video:not-mp4@*%1,video:503@*%1,video:redirect=2@*%1,video:ignore-range@*%50,\
    video:lie-long=10@*%1,video:slow=200@*%2,\
    task:fail@*%1,task:fail-no-refund@*%1,task:settle=100@*%1,task:slow=15000@*%2";

/// The queue's place and the provider.
pub struct World {
    pub dir: PathBuf,
    pub sandbox: Sandbox,
    pub begun: Instant,
    runtime: Handle,
    variables: Vec<(&'static str, String)>,
    daemon: Mutex<Option<Child>>,
    lives: AtomicU32,
    /// Keeps a temporary folder until the end.
    _temporary: Option<tempfile::TempDir>,
}

/// How a command went.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl World {
    /// A fresh queue and a provider that listens.
    pub fn new(plan: &Plan, runtime: &Runtime) -> Result<Self> {
        let (dir, temporary) = match &plan.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let temporary = tempfile::tempdir_in(std::env::current_dir()?.join("target"))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        fs::create_dir_all(dir.join("inbox"))?;
        let options = Options {
            seed: plan.seed,
            balance: 1_000_000_000_000,
            render_time: Duration::from_millis(800)..=Duration::from_secs(4),
            latency: Duration::from_millis(10),
            requests_per_second: Some((150.0, 150)),
            parallel_tasks: Some(70),
            link_life: Duration::from_secs(3),
            faults: FAULTS.parse()?,
            ..Options::new(now)
        };
        let (sandbox, server) = runtime.block_on(Sandbox::bind(options))?;
        runtime.spawn(server.serve(CancellationToken::new()));
        let variables = variables(&dir, &sandbox.base_url());
        let world = Self {
            dir,
            sandbox,
            begun: Instant::now(),
            runtime: runtime.handle().clone(),
            variables,
            daemon: Mutex::default(),
            lives: AtomicU32::new(0),
            _temporary: temporary,
        };
        world.configure(8)?;
        Ok(world)
    }

    /// Looks into the provider's books without a copy of them: the look must not get slower as they grow.
    pub fn books<T: Default>(&self, look: impl Fn(&Model) -> T) -> T {
        let found = std::cell::RefCell::default();
        self.runtime.block_on(self.sandbox.wait_until(|model| {
            found.replace(look(model));
            true
        }));
        found.into_inner()
    }

    /// The file that a reload reads again.
    pub fn configure(&self, downloads: u32) -> Result<()> {
        let text = format!(
            "[download]\nworkers = {downloads}\n\n[[hook]]\nname = \"told\"\n\
             on = [\"job.failed\", \"job.in_doubt\"]\nrun = [\"/bin/true\"]\n"
        );
        Ok(fs::write(self.dir.join("klingd.toml"), text)?)
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn videos(&self) -> PathBuf {
        self.dir.join("videos")
    }

    pub fn inbox(&self) -> PathBuf {
        self.dir.join("inbox")
    }

    /// How many files wait in the inbox; klingd's mark, which is hidden, stays there.
    pub fn dropped(&self) -> Result<usize> {
        let names = fs::read_dir(self.inbox())?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<Result<Vec<_>>>()?;
        Ok(names.iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")).count())
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// A command on the queue.
    pub fn klingd(&self, arguments: &[&str]) -> Result<Ran> {
        self.klingd_reads(arguments, "")
    }

    /// A command that reads this from its standard input.
    pub fn klingd_reads(&self, arguments: &[&str], input: &str) -> Result<Ran> {
        let begun = Instant::now();
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let Output { status, stdout, stderr } = child.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { code: status.code(), out: text(stdout), err: text(stderr), took: begun.elapsed() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(KLINGD);
        command.env_clear().envs(self.variables.iter().map(|(k, v)| (*k, v))).args(arguments);
        command
    }

    /// A new life of the daemon.
    pub fn start(&self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.log())?;
        let child = self.command(&["run"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        self.lives.fetch_add(1, SeqCst);
        *self.daemon() = Some(child);
        Ok(())
    }

    /// Counted from one.
    pub fn life(&self) -> u32 {
        self.lives.load(SeqCst)
    }

    /// The daemon's process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.daemon().as_ref().map(Child::id)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).ok_or("no daemon runs")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Killed wherever it stands.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if let Some(mut child) = self.daemon().take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Stopped as a service manager stops it; it must end well.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.daemon().take() else { return Ok(()) };
        let asked = Instant::now();
        while asked.elapsed() < STOPS_WITHIN {
            match child.try_wait()? {
                Some(ended) if ended.success() => return Ok(()),
                Some(ended) => return Err(format!("the daemon ended with {ended}").into()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        child.kill()?;
        child.wait()?;
        Err(format!("the daemon did not stop within {} s", STOPS_WITHIN.as_secs()).into())
    }

    /// How the daemon ended, if it did so by itself.
    pub fn ended(&self) -> Result<Option<String>> {
        let mut daemon = self.daemon();
        let Some(child) = daemon.as_mut() else { return Ok(None) };
        let ended = child.try_wait()?;
        if ended.is_some() {
            *daemon = None;
        }
        Ok(ended.map(|status| status.to_string()))
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing of a run survives it, however it ends.
impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon().take() {
            // It may have ended already; there is nobody to tell here.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(Clock.now().as_millis()).unwrap_or_default()
}

/// Twenty thousand jobs are to pass in an hour: a fast provider, and waits that fit it.
fn variables(dir: &Path, base_url: &str) -> Vec<(&'static str, String)> {
    let path = |name: &str| dir.join(name).display().to_string();
    let all = [
        ("HOME", path("")),
        ("KLINGD_CONFIG", path("klingd.toml")),
        ("KLINGD_DATA_DIR", path("data")),
        ("KLINGD_OUTPUT__ROOT", path("videos")),
        ("KLINGD_INBOX__PATH", path("inbox")),
        ("KLINGD_API__BASE_URL", base_url.to_owned()),
    ];
    let fixed = [
        ("KLINGD_API__KEY", KEY),
        ("KLINGD_API__SUBMIT_TIMEOUT", "3s"),
        ("KLINGD_API__STATUS_TIMEOUT", "3s"),
        ("KLINGD_SUBMIT__WORKERS", "8"),
        ("KLINGD_SUBMIT__START_IN_FLIGHT", "32"),
        ("KLINGD_SUBMIT__MAX_IN_FLIGHT", "100"),
        ("KLINGD_SUBMIT__COOLDOWN", "100ms"),
        ("KLINGD_SUBMIT__COOLDOWN_MAX", "1s"),
        ("KLINGD_POLL__SLOWEST", "5s"),
        ("KLINGD_POLL__MAX_PER_SECOND", "60"),
        ("KLINGD_POLL__CONFIRM_FAILED", "1s"),
        ("KLINGD_DOWNLOAD__IDLE_TIMEOUT", "2s"),
        ("KLINGD_DOWNLOAD__RETRY_BASE", "500ms"),
        ("KLINGD_INBOX__SCAN_EVERY", "5s"),
        ("KLINGD_INBOX__SETTLE", "500ms"),
        ("KLINGD_OUTPUT__TEMPLATE", "{id}.mp4"),
        ("KLINGD_OUTPUT__MIN_FREE", "64 MiB"),
        ("KLINGD_LOG__FORMAT", "text"),
    ];
    all.into_iter().chain(fixed.map(|(name, value)| (name, value.to_owned()))).collect()
}
