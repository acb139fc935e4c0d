//! The two ends of each way. All of them tell the time by the wall clock, which the processes of one machine share.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use klingd::{
    clock::Clock,
    domain::{Request, job::NewJob, request::Draft},
    sandbox::{self, Sandbox, SeenRequest},
    store::{Access, Store, doorbell, enqueue::NewBatch},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::common::{
    Result,
    child::{self, Running},
};

/// A handler that has not begun by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
pub enum Way {
    Helper,
    Process,
    Floor,
}

fn now_ns() -> Result<i128> {
    Ok(i128::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

fn ms(from_ns: i128, to_ns: i128) -> f64 {
    (to_ns - from_ns) as f64 / 1e6
}

/// A process that is told a line and answers with one.
struct Talk {
    _running: Running,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Talk {
    fn start(command: &mut Command) -> Result<Self> {
        let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let to = running.0.stdin.take().ok_or("no pipe")?;
        let from = BufReader::new(running.0.stdout.take().ok_or("no pipe")?);
        Ok(Self { _running: running, to, from })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.to, "{line}")?;
        self.hear()
    }

    fn hear(&mut self) -> Result<String> {
        let mut answer = String::new();
        if self.from.read_line(&mut answer)? == 0 {
            return Err("a process of the bench has ended".into());
        }
        Ok(answer.trim().to_owned())
    }
}

/// A daemon, the double it calls, and those who queue.
pub struct Klingd {
    runtime: Runtime,
    double: Sandbox,
    data: PathBuf,
    daemon: Running,
    enqueuer: Talk,
    sqlite: Option<Talk>,
    sent: usize,
}

impl Klingd {
    pub fn start(dir: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let day = Duration::from_hours(24);
        // Tasks that never end: the POST is the last that happens, and everything is at rest again.
        let options = sandbox::Options {
            render_time: day..=day,
            balance: 100_000_000,
            ..sandbox::Options::new(exactly)
        };
        let (double, server) = runtime.block_on(Sandbox::bind(options))?;
        runtime.spawn(server.serve(CancellationToken::new()));
        let data = dir.join("data");
        let mut command = child::klingd(&data);
        command
            .env("KLINGD_API__BASE_URL", double.base_url())
            .env("KLINGD_API__KEY", "bench")
            .env("KLINGD_SUBMIT__MAX_IN_FLIGHT", "10000")
            .env("KLINGD_SUBMIT__START_IN_FLIGHT", "10000")
            .env("KLINGD_OUTPUT__MIN_FREE", "1 MiB")
            .arg("run")
            .stderr(Stdio::null());
        let daemon = Running::start(&mut command)?;
        let doorbell = data.join("doorbell.sock");
        until("the daemon does not start", || doorbell.exists().then_some(()))?;
        let enqueuer = Talk::start(child::itself("enqueuer")?.arg("--dir").arg(&data))?;
        let sqlite = floor(dir).inspect_err(|why| println!("no floor, sqlite3 takes no part: {why}")).ok();
        Ok(Self { runtime, double, data, daemon, enqueuer, sqlite, sent: 0 })
    }

    /// Milliseconds from the commit to the POST.
    pub fn by_helper(&mut self) -> Result<f64> {
        let prompt = format!("A lighthouse at dusk, number {}", self.sent);
        let committed = self.enqueuer.ask(&prompt)?.parse()?;
        Ok(ms(committed, self.arrival()?))
    }

    /// Milliseconds from the start of the process to the POST.
    pub fn by_process(&mut self) -> Result<f64> {
        let start = now_ns()?;
        let prompt = format!("A lighthouse at dusk, number {}", self.sent);
        let mut command = child::klingd(&self.data);
        command.args(["enqueue", "--yes", "--quiet", "--type", "std-text-to-video", "--prompt", &prompt]);
        child::measure(&mut command)?;
        Ok(ms(start, self.arrival()?))
    }

    /// Milliseconds of two commits, one after the other.
    pub fn two_commits(&mut self) -> Result<f64> {
        let Some(sqlite) = &mut self.sqlite else { return Ok(f64::NAN) };
        let start = now_ns()?;
        sqlite.ask(
            "INSERT INTO t (x) VALUES (1); UPDATE t SET x = 2 WHERE id = last_insert_rowid(); SELECT 1;",
        )?;
        Ok(ms(start, now_ns()?))
    }

    /// When the next POST arrived.
    fn arrival(&mut self) -> Result<i128> {
        self.sent += 1;
        let sent = self.sent;
        let enough = self.double.wait_until(|model| posts(model.requests().iter()).count() >= sent);
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, enough).await })?;
        let requests = self.double.requests();
        let arrivals: Vec<i128> = posts(requests.iter()).map(|post| post.at.as_nanosecond()).collect();
        match arrivals.last() {
            Some(last) if arrivals.len() == sent => Ok(*last),
            Some(_) | None => Err(format!("{} POSTs for {sent} jobs", arrivals.len()).into()),
        }
    }

    pub fn stop(self) -> Result<()> {
        self.daemon.stop()
    }
}

/// The time as exactly as the machine has it.
fn exactly() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

fn floor(dir: &Path) -> Result<Talk> {
    let mut sqlite = Talk::start(Command::new("sqlite3").arg(dir.join("floor.db")))?;
    sqlite.ask(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER);",
    )?;
    Ok(sqlite)
}

fn posts<'r>(requests: impl Iterator<Item = &'r SeenRequest>) -> impl Iterator<Item = &'r SeenRequest> {
    requests.filter(|request| request.method == "POST")
}

/// Queues a job for each line, and says when each was durable. It keeps the database open, as a service of somebody's does.
#[tokio::main(flavor = "current_thread")]
pub async fn enqueuer(data: &Path) -> Result<()> {
    let (store, writer) = Store::open(&data.join("klingd.db"), Access::Use).await?;
    let queue = async move {
        for line in std::io::stdin().lines() {
            let draft = Draft {
                job_type: Some("std-text-to-video".to_owned()),
                prompt: Some(line?),
                ..Draft::default()
            };
            let request = Request::parse(&draft).map_err(|problems| format!("{problems:?}"))?;
            let jobs = vec![NewJob::of(request, "bench")];
            let batch = NewBatch { name: "bench".into(), source: "bench".into(), max_credits: None, jobs };
            store.enqueue(batch, Clock.now()).await?;
            let committed = now_ns()?;
            doorbell::ring(&data.join("doorbell.sock"));
            println!("{committed}");
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    let (queued, written) = tokio::join!(queue, writer.run());
    queued?;
    Ok(written?)
}

fn until<T>(else_: &str, mut found: impl FnMut() -> Option<T>) -> Result<T> {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = found() {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            return Err(else_.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Another queue: how a job is queued, and where its handler says when it began.
pub struct Peer {
    pub name: &'static str,
    enqueue: Box<dyn FnMut() -> Result<i128>>,
    began: PathBuf,
    lines: usize,
    _server: Running,
}

impl Peer {
    /// Milliseconds to the handler's start from the commit, and from the call.
    pub fn once(&mut self) -> Result<(f64, f64)> {
        let start = now_ns()?;
        let committed = (self.enqueue)()?;
        self.lines += 1;
        let (path, lines) = (self.began.clone(), self.lines);
        let line = until("a peer's handler never began", || {
            let text = fs::read_to_string(&path).ok()?;
            text.ends_with('\n').then(|| text.lines().nth(lines - 1).map(str::to_owned))?
        })?;
        let began = line.parse()?;
        Ok((ms(committed, began), ms(start, began)))
    }
}

/// Those that are installed.
pub fn peers(dir: &Path) -> Result<Vec<Peer>> {
    let at = std::env::current_dir()?.join("target/peers");
    let mut all = Vec::new();
    for (name, program) in [("huey", "venv/bin/python"), ("pueue", "cargo/bin/pueue")] {
        let program = at.join(program);
        if !program.exists() {
            println!("{name} is not installed: skipped (benches/peers/install.sh)");
            continue;
        }
        let dir = dir.join(name);
        fs::create_dir(&dir)?;
        all.push(if name == "huey" { huey(&program, &dir)? } else { pueue(&program, &dir)? });
    }
    Ok(all)
}

fn huey(python: &Path, dir: &Path) -> Result<Peer> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/huey_peer.py");
    let began = dir.join("began");
    let part = |part: &str| {
        let mut command = Command::new(python);
        command.arg(&script).arg(part).arg(dir).arg(&began).stderr(Stdio::null());
        command
    };
    let mut enqueuer = Talk::start(&mut part("enqueuer"))?;
    let server = Running::start(part("consumer").stdout(Stdio::null()))?;
    let enqueue = Box::new(move || Ok(enqueuer.ask("job")?.parse()?));
    Ok(Peer { name: "huey", enqueue, began, lines: 0, _server: server })
}

fn pueue(client: &Path, dir: &Path) -> Result<Peer> {
    let began = dir.join("began");
    let config = dir.join("pueue.yml");
    let shared = format!("shared:\n  pueue_directory: {0}\n  runtime_directory: {0}\n", dir.display());
    fs::write(
        &config,
        format!("{shared}  use_unix_socket: true\n  unix_socket_path: {}/socket\n", dir.display()),
    )?;
    let mut server = Command::new(client.with_file_name("pueued"));
    let server =
        Running::start(server.arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()))?;
    let socket = dir.join("socket");
    until("pueued does not listen", || socket.exists().then_some(()))?;
    let (client, task) = (client.to_owned(), format!("date +%s%N >> {}", began.display()));
    let enqueue = Box::new(move || {
        child::measure(Command::new(&client).arg("--config").arg(&config).args(["add", "--", &task]))?;
        now_ns()
    });
    Ok(Peer { name: "pueue (a process a job)", enqueue, began, lines: 0, _server: server })
}
