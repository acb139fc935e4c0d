//! The whole way of many jobs through real HTTP: submit, status, download, fsynced files. The provider's double runs as a
//! process of its own, so that this process's CPU and memory are the daemon's.
//!
//! `cargo bench --bench drain -- [--jobs 10000] [--bytes 20000]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use klingd::{
    clock::Clock,
    config::{Config, Environment, Overrides},
    daemon::{self, Ended, Options},
    domain::{Request, job::NewJob, request::Draft, state::Label},
    store::{Access, Store, World, enqueue::NewBatch},
};
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let (jobs, bytes) = (argument("--jobs", 10_000), argument("--bytes", 20_000));
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut double = sandbox(port, bytes)?;
    let result = drain(dir.path(), port, jobs);
    double.kill()?;
    double.wait()?;
    result
}

fn argument(name: &str, default: u64) -> u64 {
    let mut all = std::env::args();
    all.find(|a| a == name).and_then(|_| all.next()).and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn sandbox(port: u16, bytes: u64) -> Result<Child> {
    let child = Command::new(env!("CARGO_BIN_EXE_klingd"))
        .args(["sandbox", "--render", "0", "--balance", "100000000"])
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .arg("--video-bytes")
        .arg(bytes.to_string())
        .stderr(Stdio::null())
        .spawn()?;
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    let patience = Instant::now() + Duration::from_secs(10);
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    while TcpStream::connect(("127.0.0.1", port)).is_err() && Instant::now() < patience {
        std::thread::yield_now();
    }
    Ok(child)
}

fn config(dir: &Path, port: u16) -> Result<Config> {
    let variables = [
        ("KLINGD_API__BASE_URL", format!("http://127.0.0.1:{port}")),
        ("KLINGD_API__KEY", "bench".to_owned()),
        ("KLINGD_SUBMIT__WORKERS", "8".to_owned()),
        ("KLINGD_SUBMIT__START_IN_FLIGHT", "64".to_owned()),
        ("KLINGD_SUBMIT__MAX_IN_FLIGHT", "64".to_owned()),
        ("KLINGD_DOWNLOAD__WORKERS", "8".to_owned()),
        ("KLINGD_OUTPUT__MIN_FREE", "1 MiB".to_owned()),
    ];
    let variables: BTreeMap<OsString, OsString> = variables.map(|(k, v)| (k.into(), v.into())).into();
    let environment = Environment {
        variables,
        home: Some(dir.to_owned()),
        current_dir: dir.to_owned(),
        ..Environment::default()
    };
    let overrides = Overrides { data_dir: Some(dir.join("data")), ..Overrides::default() };
    let mut config = Config::load(&overrides, &environment)?;
    // No person may configure this; the double has every task ready at once.
    config.poll.first = Some(Duration::ZERO);
    config.poll.max_per_second = 1e6;
    Ok(config)
}

fn new_jobs(n: u64) -> Vec<NewJob> {
    let job = |i: u64| {
        let draft = Draft {
            job_type: Some("std-text-to-video".to_owned()),
            prompt: Some(format!("A lighthouse at dusk, slow pan, number {i}")),
            ..Draft::default()
        };
        let request = Request::parse(&draft).ok()?;
        Some(NewJob::of(request, "bench"))
    };
    (0..n).filter_map(job).collect()
}

#[tokio::main]
async fn drain(dir: &Path, port: u16, jobs: u64) -> Result<()> {
    let config = config(dir, port)?;
    klingd::disk::create_root(&config.data_dir)?;
    let (store, writer) = Store::open(&config.database(), Access::Migrate).await?;
    let batch = NewBatch {
        name: "bench".to_owned(),
        source: "bench".to_owned(),
        max_credits: None,
        jobs: new_jobs(jobs),
    };
    let enqueue = async move { store.enqueue(batch, Clock.now()).await };
    let before = Usage::now()?;
    let (written, queued) = tokio::join!(writer.run(), enqueue);
    written?;
    let queued = queued?.len();
    before.report("enqueue, one call", jobs)?;

    let before = Usage::now()?;
    let describe = |_: &_, _: &[_]| serde_json::Value::Null;
    let options = Options { until_idle: true, world: World::Real, describe };
    let ended = daemon::run(&config, config.require_key()?, options, Clock, CancellationToken::new()).await?;
    before.report("drain", jobs)?;

    let (store, writer) = Store::open(&config.database(), Access::Use).await?;
    let depth = async move { store.depth().await };
    let (written, depth) = tokio::join!(writer.run(), depth);
    written?;
    let all_done = depth? == [(Label::Done, jobs)];
    println!("{queued} queued, {ended:?}, all done: {all_done}");
    if ended == (Ended::Idle { failed: 0, needs_person: 0 }) && all_done {
        Ok(())
    } else {
        Err("not all are done".into())
    }
}

/// What this process has used so far, by /proc.
struct Usage {
    at: Instant,
    cpu_s: f64,
}

impl Usage {
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // Fields 14 and 15, counted after the command's closing parenthesis (proc(5)), in ticks of 10 ms.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
        Ok(Self { at: Instant::now(), cpu_s: (ticks(11) + ticks(12)) / 100.0 })
    }

    fn report(&self, what: &str, jobs: u64) -> Result<()> {
        let now = Self::now()?;
        let wall = now.at.duration_since(self.at).as_secs_f64();
        let cpu = now.cpu_s - self.cpu_s;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned();
        println!(
            "{what}: {jobs} jobs in {wall:.2} s = {:.0} jobs/s; CPU {:.3} s per 1,000 jobs; peak RSS {peak}",
            jobs as f64 / wall,
            cpu / jobs as f64 * 1000.0
        );
        Ok(())
    }
}
