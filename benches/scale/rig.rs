//! The provider in this process; the daemon and its commands as children, measured from outside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use klingd::{
    clock::Clock,
    sandbox::{Options, Sandbox},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::Result;

const KLINGD: &str = env!("CARGO_BIN_EXE_klingd");
/// What the provider is waited for; it only bounds a run that hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// A provider that renders for so long.
pub fn provider(runtime: &Runtime, render: Duration) -> Result<Sandbox> {
    let options = Options {
        balance: 1_000_000_000_000,
        render_time: render..=render,
        ..Options::new(|| jiff::Timestamp::from_millisecond(Clock.now().as_millis()).unwrap_or_default())
    };
    let (sandbox, server) = runtime.block_on(Sandbox::bind(options))?;
    runtime.spawn(server.serve(CancellationToken::new()));
    Ok(sandbox)
}

/// One queue and how commands on it are set up.
pub struct Queue {
    pub dir: PathBuf,
    variables: Vec<(&'static str, String)>,
}

/// How long a process took, and the most memory it had.
#[derive(Clone, Copy)]
pub struct Cost {
    pub ms: f64,
    pub rss_mib: f64,
}

impl Queue {
    pub fn new(dir: &Path, sandbox: &Sandbox, settings: &[(&'static str, &str)]) -> Result<Self> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("klingd.toml"), "")?;
        let path = |name: &str| dir.join(name).display().to_string();
        let mut variables = vec![
            ("HOME", path("")),
            ("KLINGD_CONFIG", path("klingd.toml")),
            ("KLINGD_DATA_DIR", path("data")),
            ("KLINGD_OUTPUT__MIN_FREE", "0 B".to_owned()),
            ("KLINGD_OUTPUT__TEMPLATE", "{id}.mp4".to_owned()),
            ("KLINGD_API__BASE_URL", sandbox.base_url()),
            ("KLINGD_API__KEY", "bench".to_owned()),
        ];
        variables.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Ok(Self { dir: dir.to_owned(), variables })
    }

    pub fn database(&self) -> PathBuf {
        self.dir.join("data/klingd.db")
    }

    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    /// A command, from its start to its end; its output goes nowhere.
    pub fn run(&self, arguments: &[&str]) -> Result<Cost> {
        let mut command = self.command(KLINGD);
        command.args(arguments);
        measure(command, &arguments.join(" "))
    }

    /// The same as a person sees it, in a terminal of `script`, whose memory is not klingd's.
    pub fn run_in_terminal(&self, arguments: &str) -> Result<Cost> {
        let mut command = self.command("script");
        command.args(["-qec", &format!("{KLINGD} {arguments}"), "/dev/null"]).env("TERM", "xterm");
        measure(command, arguments)
    }

    pub fn daemon(&self, arguments: &[&str]) -> Result<Daemon> {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("daemon.log"))?;
        let child =
            self.command(KLINGD).arg("run").args(arguments).stdout(Stdio::null()).stderr(log).spawn()?;
        Ok(Daemon(child))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.variables.iter().map(|(k, v)| (*k, v)));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }
}

fn measure(mut command: Command, what: &str) -> Result<Cost> {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut rss_mib: f64 = 0.0;
    loop {
        if let Some(ended) = child.try_wait()? {
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            return if ended.success() {
                Ok(Cost { ms, rss_mib })
            } else {
                Err(format!("{what}: {ended}").into())
            };
        }
        rss_mib = rss_mib.max(memory(child.id(), "VmHWM:"));
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A line of `/proc/PID/status`, in MiB.
fn memory(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// A daemon; it does not survive its handle.
pub struct Daemon(Child);

impl Daemon {
    pub fn rss_mib(&self) -> f64 {
        memory(self.0.id(), "VmRSS:")
    }

    pub fn peak_rss_mib(&self) -> f64 {
        memory(self.0.id(), "VmHWM:")
    }

    /// Seconds of CPU so far.
    pub fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        // Fields 14 and 15, counted after the command's closing parenthesis (proc(5)), in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, r)| r).split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / 100.0
    }

    /// Waits for its own end.
    pub fn end(mut self) -> Result<()> {
        let ended = self.0.wait()?;
        if ended.success() { Ok(()) } else { Err(format!("the daemon ended with {ended}").into()) }
    }

    /// Stops it; the milliseconds that it took.
    pub fn stop(self) -> Result<f64> {
        let begun = Instant::now();
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
            kill_process(pid, Signal::TERM)?;
        }
        self.end()?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has mostly ended; there is nobody to tell here.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until the provider has made so many tasks.
pub fn wait_for_tasks(runtime: &Runtime, sandbox: &Sandbox, count: usize) -> Result<()> {
    let seen = sandbox.wait_until(|model| model.tasks().len() >= count);
    let seen = runtime.block_on(async { tokio::time::timeout(PATIENCE, seen).await });
    seen.map_err(|_| format!("the provider never had {count} tasks").into())
}
