//! Downloads beside their peers on loopback: 1 GiB in one file, and 1,000 files of 1 MB, all verified or hashed, and fsynced.
//!
//! The server is a process of its own (this very program), and each way of downloading another, so that their CPU and
//! memory are theirs. The ways take turns, and each is compared with bare reqwest of the same round: only such ratios mean
//! anything. curl and aria2c take part where they are installed; nothing is installed from here.
//!
//! "The same fsyncs" is what a whole file costs by anybody's hand: one of the file, one of its directory behind the rename.
//! klingd's two commits of each video come on top of that, as do the hash and the look into the MP4. With a sidecar klingd
//! writes a second file for each video; the small files are measured without it, as the peers write one file, and once more
//! with it beside a bare reqwest that writes two.
//!
//! Goals: one file klingd ≥ 0.75 of bare and ≥ 1.5 × curl with sha256sum; 1,000 files ≥ 0.8 of bare and ahead of curl.
//!
//! `cargo bench --bench download -- [--rounds 3] [--large 1073741824] [--files 1000] [--small 1000000]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and writes where it likes")]

#[path = "download/bare.rs"]
mod bare;
#[path = "download/klingd.rs"]
mod ours;
#[path = "download/server.rs"]
mod server;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Files at once, for everybody.
const AT_ONCE: usize = 8;

fn main() -> Result<()> {
    let all: Vec<String> = std::env::args().collect();
    let sidecar = all.iter().any(|a| a == "--sidecar");
    match (word(&all, "--as").as_deref(), word(&all, "--url"), word(&all, "--dir")) {
        (Some("server"), ..) => server::run(number(&all, "--large", 0), number(&all, "--small", 0)),
        (Some("klingd"), Some(url), Some(dir)) => {
            ours::run(&url, Path::new(&dir), number(&all, "--files", 1), sidecar)
        }
        (Some("bare"), Some(url), Some(dir)) => {
            bare::run(&url, Path::new(&dir), number(&all, "--files", 1), sidecar)
        }
        _ => compare(&all),
    }
}

fn word(all: &[String], name: &str) -> Option<String> {
    all.iter().position(|a| a == name).and_then(|at| all.get(at + 1)).cloned()
}

fn number(all: &[String], name: &str, default: u64) -> u64 {
    word(all, name).and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn compare(all: &[String]) -> Result<()> {
    let (large, small) = (number(all, "--large", 1 << 30), number(all, "--small", 1_000_000));
    let (files, rounds) = (number(all, "--files", 1000), number(all, "--rounds", 3));
    let mut server = Command::new(std::env::current_exe()?)
        .args(["--as", "server", "--large", &large.to_string(), "--small", &small.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    let stdout = server.stdout.take().ok_or("the server has no stdout")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut port)?;
    let url = format!("http://127.0.0.1:{}", port.trim());
    let mut ways = vec![Way::Klingd, Way::Bare, Way::Curl, Way::Aria2];
    ways.retain(|way| way.is_there());
    let (one, many) = (format!("{url}/large.mp4"), format!("{url}/small.mp4"));
    let measured = measure(&ways, &one, (1, large), rounds, false)
        .and_then(|()| measure(&ways, &many, (files, small), rounds, false))
        .and_then(|()| measure(&[Way::Klingd, Way::Bare], &many, (files, small), rounds, true));
    server.kill()?;
    server.wait()?;
    measured
}

/// A way to download.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Klingd,
    Bare,
    Curl,
    Aria2,
}

impl Way {
    fn name(self, files: u64) -> &'static str {
        match (self, files) {
            (Way::Klingd, _) => "klingd (hashed, checked, in the database)",
            (Way::Bare, _) => "bare reqwest, fallocate, fsync, rename, fsync",
            (Way::Curl, 1) => "curl && sha256sum && sync",
            (Way::Curl, _) => "curl --parallel, then sync",
            (Way::Aria2, _) => "aria2c, then sync",
        }
    }

    fn command(self, url: &str, dir: &Path, files: u64, sidecar: bool) -> Result<Command> {
        let shell = |script: String| {
            let mut command = Command::new("sh");
            command.args(["-c", &script]).current_dir(dir);
            command
        };
        let itself = |who: &str| -> Result<Command> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--as", who, "--url", url, "--files", &files.to_string(), "--dir"]).arg(dir);
            if sidecar {
                command.arg("--sidecar");
            }
            Ok(command)
        };
        Ok(match (self, files) {
            (Way::Klingd, _) => itself("klingd")?,
            (Way::Bare, _) => itself("bare")?,
            (Way::Curl, 1) => {
                // The file alone: what others have written meanwhile is not curl's to wait for.
                shell(format!("curl -sSf -o v.mp4 {url} && sha256sum v.mp4 && sync v.mp4 ."))
            }
            (Way::Curl, _) => {
                let list: String =
                    (0..files).map(|n| format!("url=\"{url}?{n}\"\noutput=\"{n}.mp4\"\n")).collect();
                std::fs::write(dir.join("list"), list)?;
                shell(format!("curl -sSf --parallel --parallel-max {AT_ONCE} -K list && sync -f ."))
            }
            (Way::Aria2, _) => {
                let list: String = (0..files).map(|n| format!("{url}?{n}\n out={n}.mp4\n")).collect();
                std::fs::write(dir.join("list"), list)?;
                let sync = if files == 1 { "sync 0.mp4 ." } else { "sync -f ." };
                shell(format!("aria2c -q -j{AT_ONCE} --file-allocation=falloc -i list && {sync}"))
            }
        })
    }

    /// Whether it can take part; says so if not.
    fn is_there(self) -> bool {
        let (program, package) = match self {
            Way::Klingd | Way::Bare => return true,
            Way::Curl => ("curl", "curl"),
            Way::Aria2 => ("aria2c", "aria2"),
        };
        let asked =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let there = asked.is_ok_and(|status| status.success());
        if !there {
            println!("{program} is not installed: skipped (apt-get install {package})");
        }
        there
    }
}

fn measure(ways: &[Way], url: &str, (files, bytes): (u64, u64), rounds: u64, sidecar: bool) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let and = if sidecar { " and a sidecar each" } else { "" };
    println!("{files} × {bytes} bytes{and}, {rounds} rounds, {AT_ONCE} at once, load at the start {load}");
    let mut runs: BTreeMap<Way, Vec<Run>> = BTreeMap::new();
    for round in 0..usize::try_from(rounds)? {
        // Whoever is first finds other memory and another disk than the next: the order goes round.
        let first = round % ways.len();
        for way in ways[first..].iter().chain(&ways[..first]) {
            let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
            let run = Run::of(way.command(url, dir.path(), files, sidecar)?, dir.path())?;
            runs.entry(*way).or_default().push(run);
        }
    }
    let bare = &runs[&Way::Bare];
    for (way, runs) in &runs {
        let rate = |run: &Run| (files * bytes) as f64 / 1e6 / run.wall_s;
        let ratios = sorted(runs.iter().zip(bare).map(|(run, bare)| bare.wall_s / run.wall_s));
        println!(
            "  {:<46} {:>6.0} MB/s  {:.2} of bare ({:.2} to {:.2})  CPU {:.2} s  peak RSS {:.0} MB",
            way.name(files),
            middle(&sorted(runs.iter().map(rate))),
            middle(&ratios),
            ratios.first().copied().unwrap_or(f64::NAN),
            ratios.last().copied().unwrap_or(f64::NAN),
            middle(&sorted(runs.iter().map(|run| run.cpu_s))),
            middle(&sorted(runs.iter().map(|run| run.peak_mb))),
        );
    }
    Ok(())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One run of one way.
struct Run {
    wall_s: f64,
    cpu_s: f64,
    peak_mb: f64,
}

impl Run {
    /// Runs it under GNU time where that is installed; else its CPU and memory stay unknown.
    fn of(command: Command, dir: &Path) -> Result<Self> {
        let used = dir.join("used");
        let time = PathBuf::from("/usr/bin/time");
        let mut timed = if time.exists() {
            let mut timed = Command::new(time);
            timed
                .args(["-f", "%U %S %M", "-o"])
                .arg(&used)
                .arg(command.get_program())
                .args(command.get_args());
            timed.current_dir(dir);
            timed
        } else {
            command
        };
        let started = Instant::now();
        let output = timed.stdin(Stdio::null()).output()?;
        let wall_s = started.elapsed().as_secs_f64();
        if !output.status.success() {
            return Err(format!("{timed:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        // A program may say for itself what of its time counts.
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let word = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)?.parse::<f64>().ok());
        let wall_s = word("wall ").unwrap_or(wall_s);
        let used = std::fs::read_to_string(used).unwrap_or_default();
        let numbers: Vec<f64> = used.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let at = |n: usize| numbers.get(n).copied().unwrap_or(f64::NAN);
        Ok(Self { wall_s, cpu_s: word("cpu ").unwrap_or(at(0) + at(1)), peak_mb: at(2) / 1024.0 })
    }
}
