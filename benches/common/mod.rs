//! What the harnesses share: what was asked for, the machine, turns, the middle and the spread. [`child`] has the processes.

#![allow(dead_code, reason = "each harness uses its part")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock and writes where it likes")]

pub mod child;

use std::{
    fmt,
    fs::{self, File},
    io::Write as _,
    path::Path,
    str::FromStr,
    time::{Duration, Instant},
};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The word behind `--name`.
pub fn word(name: &str) -> Option<String> {
    let mut all = std::env::args();
    all.find(|a| a == name).and_then(|_| all.next())
}

/// The number behind `--name`.
pub fn number<T: FromStr>(name: &str, default: T) -> T {
    word(name).and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Whether `--name` is there.
pub fn is_set(name: &str) -> bool {
    std::env::args().any(|a| a == name)
}

pub const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// `all`, beginning elsewhere each round: whoever is first finds other memory and another disk than the next.
pub fn turns<T>(all: &[T], round: usize) -> impl Iterator<Item = &T> {
    let (before, from) = all.split_at(round % all.len().max(1));
    from.iter().chain(before)
}

/// Says on what the figures are made: without it they mean nothing.
pub fn say_machine(dir: &Path) -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    let kernel = read("/proc/sys/kernel/osrelease");
    let syncs = syncs(dir)?;
    println!(
        "{cores} cores, Linux {}, {}, fdatasync of 4 kB p50 {:.2} ms (p99 {:.2}), load {}",
        kernel.trim(),
        filesystem(dir),
        syncs.p(50),
        syncs.p(99),
        load(),
    );
    if cfg!(debug_assertions) {
        println!("built without optimisation: the figures mean nothing");
    }
    Ok(())
}

/// The load average of the last minute, which tells whether somebody else was at work.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The kind of filesystem that `dir` is on.
fn filesystem(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let here = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        dir.starts_with(at).then_some((at.len(), kind))
    });
    // Of two mounts on one place the later one is seen.
    here.max_by_key(|(length, _)| *length).map_or_else(|| "?".to_owned(), |(_, kind)| kind.to_owned())
}

/// Milliseconds of durable writes of a page, as a commit to a WAL makes them.
fn syncs(dir: &Path) -> Result<Series> {
    let path = dir.join("fsync-probe");
    let mut file = File::create(&path)?;
    let mut all = Series::default();
    for _ in 0..100 {
        let start = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        all.push_ms(start.elapsed());
    }
    fs::remove_file(path)?;
    Ok(all)
}

/// Figures of one kind.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    pub fn push_ms(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e3);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// This one over that one, round by round: what was near in time is compared.
    pub fn over(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(this, that)| this / that).collect()
    }

    pub fn median(&self) -> f64 {
        self.p(50)
    }

    /// The percentile by nearest rank; of nothing it is no number.
    pub fn p(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank).copied().unwrap_or(f64::NAN)
    }

    pub fn least(&self) -> f64 {
        self.p(0)
    }

    pub fn most(&self) -> f64 {
        self.p(100)
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// The median, and in brackets the least and the most.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$} to {:.digits$})", self.median(), self.least(), self.most())
    }
}
