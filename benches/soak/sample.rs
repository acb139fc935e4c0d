//! What is measured every few seconds, and its CSV.

use std::{cell::Cell, fs, io::Write as _, path::Path, time::Duration};

use super::{Result, traffic::Traffic, trend::quantile, world::World};

/// Between two samples of a long run; a short one has sixty.
const EVERY: Duration = Duration::from_secs(5);
/// Latencies are of the jobs of the last minute.
const WINDOW_S: f64 = 60.0;

/// One line of the CSV.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub at_s: f64,
    pub life: u32,
    pub rss_mib: f64,
    pub fds: f64,
    pub threads: f64,
    pub cpu_s: f64,
    pub wal_mib: f64,
    pub database_mib: f64,
    pub inbox_files: f64,
    /// Jobs in: queued, submitting, in doubt, generating, downloading.
    pub depth: [f64; 5],
    /// From a command's start to its POST at the provider.
    pub latency_p50_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    /// The wall time of the commands, process start to end.
    pub list_ms: f64,
    pub status_ms: f64,
}

const STATES: [&str; 5] = ["queued", "submitting", "in_doubt", "generating", "downloading"];

pub struct Sampler<'a> {
    world: &'a World,
    traffic: &'a Traffic<'a>,
    every: Duration,
    csv: fs::File,
    /// Tasks of the provider that were looked at already.
    seen: Cell<usize>,
}

impl<'a> Sampler<'a> {
    pub fn new(world: &'a World, traffic: &'a Traffic<'a>) -> Result<Self> {
        let every = EVERY.min(traffic.lasts() / 60);
        let csv = fs::File::create(world.dir.join("samples.csv"))?;
        Ok(Self { world, traffic, every, csv, seen: Cell::new(0) })
    }

    /// Until everybody goes home.
    pub fn run(mut self) -> Result<Vec<Sample>> {
        writeln!(
            self.csv,
            "at_s,life,rss_mib,fds,threads,cpu_s,wal_mib,database_mib,inbox_files,{},latency_p50_ms,latency_p99_ms,list_ms,status_ms",
            STATES.join(",")
        )?;
        let (mut samples, mut latencies) = (Vec::new(), Vec::new());
        while !self.traffic.over.wait_at_most(self.every) {
            let Some(sample) = self.sample(&mut latencies)? else { continue };
            writeln!(self.csv, "{}", line(&sample))?;
            samples.push(sample);
        }
        Ok(samples)
    }

    /// Nothing while the daemon is between two lives.
    fn sample(&self, latencies: &mut Vec<(f64, f64)>) -> Result<Option<Sample>> {
        let list = self.world.klingd(&["list"])?;
        let status = self.world.klingd(&["status", "--json"])?;
        let told: serde_json::Value = serde_json::from_str(&status.out).unwrap_or_default();
        let at_s = self.world.begun.elapsed().as_secs_f64();
        latencies.extend(self.fresh_latencies().into_iter().map(|ms| (at_s, ms)));
        latencies.retain(|(at, _)| *at > at_s - WINDOW_S);
        let of_minute: Vec<f64> = latencies.iter().map(|(_, ms)| *ms).collect();
        let mib = |name: &str| size(&self.world.data().join(name)) as f64 / f64::from(1 << 20);
        let life = self.world.life();
        let Some(process) = self.world.pid().and_then(Process::look) else { return Ok(None) };
        Ok(Some(Sample {
            at_s,
            life,
            rss_mib: process.rss_kib / 1024.0,
            fds: process.fds,
            threads: process.threads,
            cpu_s: process.cpu_s,
            wal_mib: mib("klingd.db-wal"),
            database_mib: mib("klingd.db"),
            inbox_files: self.world.dropped()? as f64,
            depth: STATES.map(|state| told["jobs"][state].as_f64().unwrap_or(0.0)),
            latency_p50_ms: quantile(of_minute.clone(), 0.5),
            latency_p99_ms: quantile(of_minute, 0.99),
            list_ms: list.took.as_secs_f64() * 1e3,
            status_ms: status.took.as_secs_f64() * 1e3,
        }))
    }

    /// Of the jobs by command that the provider has seen since the last look.
    fn fresh_latencies(&self) -> Vec<f64> {
        let from = self.seen.get();
        let (fresh, count) = self.world.books(|model| {
            let tasks = model.tasks();
            let fresh = tasks.iter().skip(from).map(|t| (t.prompt.clone(), t.created_at.as_millisecond()));
            (fresh.collect::<Vec<_>>(), tasks.len())
        });
        self.seen.set(count);
        let mut book = self.traffic.book();
        let took =
            fresh.into_iter().filter_map(|(prompt, at)| Some((at - book.probes.remove(&prompt)?) as f64));
        took.collect()
    }
}

/// What `/proc` says of the daemon.
struct Process {
    rss_kib: f64,
    threads: f64,
    fds: f64,
    cpu_s: f64,
}

impl Process {
    fn look(pid: u32) -> Option<Self> {
        let dir = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(dir.join("status")).ok()?;
        let number = |name: &str| -> Option<f64> {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let stat = fs::read_to_string(dir.join("stat")).ok()?;
        // Fields 14 and 15, counted after the command's closing parenthesis (proc(5)), in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |n: usize| fields.get(n)?.parse::<f64>().ok();
        Some(Self {
            rss_kib: number("VmRSS:")?,
            threads: number("Threads:")?,
            fds: fs::read_dir(dir.join("fd")).ok()?.count() as f64,
            cpu_s: (ticks(11)? + ticks(12)?) / 100.0,
        })
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

fn line(s: &Sample) -> String {
    let maybe = |ms: Option<f64>| ms.map_or_else(String::new, |ms| ms.to_string());
    format!(
        "{:.1},{},{:.2},{},{},{:.2},{:.2},{:.2},{},{},{},{},{:.1},{:.1}",
        s.at_s,
        s.life,
        s.rss_mib,
        s.fds,
        s.threads,
        s.cpu_s,
        s.wal_mib,
        s.database_mib,
        s.inbox_files,
        s.depth.map(|n| n.to_string()).join(","),
        maybe(s.latency_p50_ms),
        maybe(s.latency_p99_ms),
        s.list_ms,
        s.status_ms
    )
}
