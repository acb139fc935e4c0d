//! What a long queue costs: a million finished and a million queued jobs next to a thousand of each, in turns; and thousands
//! of tasks in flight, whose polls must be on time.
//!
//! The finished jobs are copies of one that klingd itself has brought to its end, row by row, with everything that changes
//! from job to job changed; the queued ones are queued by `klingd enqueue`.
//!
//! `cargo bench --bench scale -- [--jobs 1000000] [--small 1000] [--rounds 5] [--flight 5000] [--minutes 1] [--dir DIR]`
//! (`--rounds 0` leaves the backlog out, `--flight 0` the tasks in flight)

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and writes its own files")]

mod backlog;
mod fill;
mod flight;
mod rig;

use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let temporary = tempfile::tempdir_in(std::env::current_dir()?.join("target"))?;
    let dir = text("--dir").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let rounds = number("--rounds", 5);
    if rounds > 0 {
        let sizes = [number("--small", 1000), number("--jobs", 1_000_000)];
        backlog::compare(&runtime, &dir.join("backlog"), sizes, rounds)?;
    }
    let tasks = number("--flight", 5000);
    if tasks > 0 {
        flight::polls(&runtime, &dir.join("flight"), tasks, number("--minutes", 1))?;
    }
    Ok(())
}

fn number(name: &str, default: usize) -> usize {
    text(name).and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn text(name: &str) -> Option<String> {
    let mut all = std::env::args();
    all.find(|a| a == name).and_then(|_| all.next())
}

/// The value below which this share of them lies.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
}
