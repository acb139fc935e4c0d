//! What klingd costs when it does nothing: the size of the program, a cold start beside `sqlite3`'s, and a daemon that is
//! idle: its share of a core, its wake-ups and its memory.
//!
//! Goals: at most 15 MB stripped; `klingd --version` at most twice `sqlite3 --version`; idle at most 0.1 % of a core, 5
//! wake-ups a second and 20 MB.
//!
//! `cargo bench --bench process -- [--rounds 40] [--idle 20]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod common;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{
    Result, Series,
    child::{self, KLINGD, Running, Threads},
    number, say_machine, turns, verdict,
};

const MB: f64 = 1e6;
/// How long a daemon settles: what a start leaves behind (threads that wait for work, a first look at everything) is no
/// idling.
const SETTLES: Duration = Duration::from_secs(12);

fn main() -> Result<()> {
    let dir = tempfile::tempdir_in(std::env::current_dir()?.join("target"))?;
    say_machine(dir.path())?;
    size(dir.path())?;
    cold_start(number("--rounds", 40))?;
    idle(dir.path(), number("--idle", 20))
}

/// The program as packages have it; the one that was built for a bench may have its symbols.
fn size(dir: &Path) -> Result<()> {
    let stripped = dir.join("klingd");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(KLINGD).status();
    let (file, how) = match strip {
        Ok(done) if done.success() => (stripped.as_path(), "stripped"),
        Ok(_) | Err(_) => (Path::new(KLINGD), "as built: there is no strip (apt-get install binutils)"),
    };
    let mb = fs::metadata(file)?.len() as f64 / MB;
    println!("binary: {mb:.1} MB {how}; goal ≤ 15 MB {}", verdict(mb <= 15.0));
    Ok(())
}

fn cold_start(rounds: usize) -> Result<()> {
    let ways: [(&str, &[&str]); 3] =
        [(KLINGD, &["--version"]), ("sqlite3", &["--version"]), (KLINGD, &["enqueue", "--help"])];
    if Command::new("sqlite3").arg("--version").output().is_err() {
        println!("sqlite3 is not installed: its start is not compared (apt-get install sqlite3)");
        return Ok(());
    }
    let mut times: [Series; 3] = Default::default();
    let mut memory: [f64; 3] = Default::default();
    for round in 0..rounds {
        for way in turns(&[0, 1, 2], round) {
            let (program, arguments) = ways[*way];
            let cost = child::measure(Command::new(program).args(arguments))?;
            times[*way].push(cost.wall_s * 1e3);
            memory[*way] = memory[*way].max(cost.rss_mb);
        }
    }
    let [version, sqlite, help] = &times;
    let ratio = version.over(sqlite);
    println!("cold start, {rounds} rounds, ms");
    println!("  sqlite3 --version      {sqlite}  RSS {:.0} MB", memory[1]);
    println!("  klingd --version       {version}  RSS {:.0} MB", memory[0]);
    println!("  klingd enqueue --help  {help}  RSS {:.0} MB", memory[2]);
    println!("  klingd over sqlite3    {ratio}; goal ≤ 2 {}", verdict(ratio.median() <= 2.0));
    Ok(())
}

/// A daemon with an inbox, a few finished days behind it and nothing to do.
fn idle(dir: &Path, seconds: u64) -> Result<()> {
    let (_double, base_url) = child::double(&["--render", "0"])?;
    let data = dir.join("data");
    let daemon = |arguments: &[&str]| {
        let mut command = child::klingd(&data);
        command.env("KLINGD_API__BASE_URL", &base_url).env("KLINGD_API__KEY", "bench").args(arguments);
        command.stderr(Stdio::null());
        command
    };
    // Jobs that are done, so that every lane has had something to do once.
    let mut feeder = daemon(&["enqueue", "--yes", "--quiet", "-"]);
    let mut feeding = Running::start(feeder.stdin(Stdio::piped()).stdout(Stdio::null()))?;
    let mut jobs = feeding.0.stdin.take().ok_or("no pipe")?;
    for n in 0..20 {
        writeln!(jobs, "{{\"type\": \"std-text-to-video\", \"prompt\": \"A lighthouse, number {n}\"}}")?;
    }
    drop(jobs);
    if !feeding.0.wait()?.success() {
        return Err("the jobs were not queued".into());
    }
    child::measure(&mut daemon(&["run", "--until-idle"]))?;
    let running = Running::start(daemon(&["run"]).stdout(Stdio::null()))?;
    thread::sleep(SETTLES);
    let mut threads = Threads::default();
    for _ in 0..=seconds {
        threads.look(running.pid())?;
        thread::sleep(Duration::from_secs(1));
    }
    threads.look(running.pid())?;
    let rss = child::memory_mb(running.pid(), "VmRSS:");
    report(&threads.since(), (seconds + 1) as f64, rss);
    running.stop()
}

fn report(threads: &[(String, f64, u64)], seconds: f64, rss: f64) {
    let cpu = 100.0 * threads.iter().map(|(_, cpu_s, _)| cpu_s).sum::<f64>() / seconds;
    let wake_ups = threads.iter().map(|(_, _, wake_ups)| *wake_ups).sum::<u64>() as f64 / seconds;
    println!("idle daemon, {seconds} s, {} threads", threads.len());
    println!("  CPU       {cpu:.3} % of a core; goal ≤ 0.1 % {}", verdict(cpu <= 0.1));
    println!("  wake-ups  {wake_ups:.1}/s; goal ≤ 5/s {}", verdict(wake_ups <= 5.0));
    println!("  RSS       {rss:.1} MB; goal ≤ 20 MB {}", verdict(rss <= 20.0));
    for (name, cpu_s, wake_ups) in threads.iter().filter(|(_, _, wake_ups)| *wake_ups > 0) {
        println!("    {name:<16} {:.1} wake-ups/s, {:.2} ms of CPU", *wake_ups as f64 / seconds, cpu_s * 1e3);
    }
}
