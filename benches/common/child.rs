//! Processes of a harness: what one used from start to end, what a running one uses, and a provider's double of its own.
//! All of them end with whoever started them.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::Result;

pub const KLINGD: &str = env!("CARGO_BIN_EXE_klingd");
/// A process that has not started or ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// `USER_HZ`, on every Linux that Rust runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// A klingd whose configuration is this data directory and nothing else.
pub fn klingd(data: &Path) -> Command {
    let mut command = Command::new(KLINGD);
    command.env_clear().env("KLINGD_DATA_DIR", data).env("HOME", data);
    command
}

/// This very program in another part.
pub fn itself(part: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--as", part]);
    Ok(command)
}

/// What a process used from its start to its end, and what it wrote to stdout.
#[derive(Clone, Debug)]
pub struct Cost {
    pub wall_s: f64,
    pub cpu_s: f64,
    /// The most memory it had.
    pub rss_mb: f64,
    pub said: String,
}

impl Cost {
    /// The number that the process said behind this word: a program may know better what of its time counts.
    pub fn said(&self, name: &str) -> Option<f64> {
        self.said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

/// Runs it to its end, which must be a good one.
pub fn measure(command: &mut Command) -> Result<Cost> {
    let start = Instant::now();
    let child = command.stdout(Stdio::piped()).spawn()?;
    let mut running = Running(child);
    let (pid, over) = (running.pid(), AtomicBool::new(false));
    let (wall_s, cpu_s, rss_mb, said) = thread::scope(|scope| {
        // Memory can only be asked for while the process lives.
        let peak = scope.spawn(|| peak_mb(pid, &over));
        let ended = to_its_end(&mut running, start);
        over.store(true, Ordering::Relaxed);
        let (wall_s, cpu_s, said) = ended?;
        Ok::<_, Box<dyn std::error::Error>>((wall_s, cpu_s, peak.join().unwrap_or(f64::NAN), said))
    })?;
    let status = running.0.wait()?;
    if status.success() {
        Ok(Cost { wall_s, cpu_s, rss_mb, said })
    } else {
        Err(format!("{command:?}: {status}").into())
    }
}

fn to_its_end(running: &mut Running, start: Instant) -> Result<(f64, f64, String)> {
    let mut said = String::new();
    if let Some(mut stdout) = running.0.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    // Not taken away yet: a process that has ended still tells its time.
    let pid = Pid::from_raw(running.pid().cast_signed()).ok_or("a process without a number")?;
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    Ok((start.elapsed().as_secs_f64(), cpu_s(running.pid()), said))
}

fn peak_mb(pid: u32, over: &AtomicBool) -> f64 {
    let (start, mut peak) = (Instant::now(), 0.0_f64);
    while !over.load(Ordering::Relaxed) {
        peak = peak.max(memory_mb(pid, "VmHWM:"));
        // Short processes are looked at often; nobody's core is taken for long ones.
        thread::sleep((start.elapsed() / 50).clamp(Duration::from_micros(200), Duration::from_millis(20)));
    }
    peak
}

/// CPU seconds of all its threads so far, in steps of 10 ms.
pub fn cpu_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold spaces; user and system time are the 12th and 13th number behind it (proc(5)).
    let behind = stat.rsplit(')').next().unwrap_or_default();
    behind.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>()
        / TICKS_A_SECOND
}

/// `VmRSS:` is what it has now, `VmHWM:` the most it had; nothing when it is gone.
pub fn memory_mb(pid: u32, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kb =
        status.lines().find_map(|l| l.strip_prefix(what)?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}

/// What the threads of a process did, exactly, even of those that end meanwhile, if it is looked at often.
#[derive(Default)]
pub struct Threads {
    first: HashMap<String, Thread>,
    last: HashMap<String, Thread>,
}

#[derive(Clone, Default)]
struct Thread {
    name: String,
    cpu_ns: u64,
    wake_ups: u64,
}

impl Threads {
    /// Looks. A thread that appears later counts from its start.
    pub fn look(&mut self, pid: u32) -> Result<()> {
        let begins = self.last.is_empty();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path();
            let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
            let status = read("status");
            let number = |line: &str| line.trim().parse().ok();
            let wake_ups = status.lines().find_map(|l| number(l.strip_prefix("voluntary_ctxt_switches:")?));
            let cpu_ns = read("schedstat").split(' ').next().and_then(number);
            let (Some(wake_ups), Some(cpu_ns)) = (wake_ups, cpu_ns) else { continue };
            let now = Thread { name: read("comm").trim().to_owned(), cpu_ns, wake_ups };
            let id = path.to_string_lossy().into_owned();
            self.last.insert(id.clone(), now.clone());
            if begins {
                self.first.insert(id, now);
            }
        }
        Ok(())
    }

    /// CPU seconds and wake-ups between the first look and the last: by thread, the busiest first.
    pub fn since(&self) -> Vec<(String, f64, u64)> {
        let nothing = Thread::default();
        let since = |(id, last): (&String, &Thread)| {
            let first = self.first.get(id).unwrap_or(&nothing);
            (last.name.clone(), (last.cpu_ns - first.cpu_ns) as f64 / 1e9, last.wake_ups - first.wake_ups)
        };
        let mut all: Vec<_> = self.last.iter().map(since).collect();
        all.sort_by_key(|(_, _, wake_ups)| std::cmp::Reverse(*wake_ups));
        all
    }
}

/// A process that runs until it is dropped.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn()?))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, as a service manager does, and waits.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.pid().cast_signed()).ok_or("a process without a number")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("it ended with {status}").into()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A provider's double in a process of its own, with these flags; and its address.
pub fn double(flags: &[&str]) -> Result<(Running, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(KLINGD);
    command.args(["sandbox", "--listen", &address, "--balance", "100000000"]).args(flags);
    let running = Running::start(command.stderr(Stdio::null()))?;
    let start = Instant::now();
    while TcpStream::connect(&address).is_err() {
        if start.elapsed() > PATIENCE {
            return Err("the double does not listen".into());
        }
        thread::yield_now();
    }
    Ok((running, format!("http://{address}")))
}
