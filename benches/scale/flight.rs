//! Thousands of tasks in flight: how late is a poll that is due?

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use klingd::sandbox::Sandbox;
use sqlx::{ConnectOptions, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::runtime::Runtime;

use super::{
    Result, quantile,
    rig::{Queue, provider, wait_for_tasks},
};

/// Between two looks of the daemon at one task: five thousand tasks make 417 calls a second, of 500 that are allowed.
const EVERY: &str = "12s";
/// Between two looks of ours at the due times; each is written once in [`EVERY`], so none is missed.
const LOOK: Duration = Duration::from_secs(2);

/// Brings so many tasks into flight, and compares the due times in the database with the calls that the provider sees.
pub fn polls(runtime: &Runtime, dir: &Path, tasks: usize, minutes: usize) -> Result<()> {
    // Nothing ends meanwhile.
    let sandbox = provider(runtime, Duration::from_hours(24))?;
    let settings = [
        ("KLINGD_SUBMIT__WORKERS", "16"),
        ("KLINGD_SUBMIT__MAX_IN_FLIGHT", "10000"),
        ("KLINGD_SUBMIT__START_IN_FLIGHT", "10000"),
        ("KLINGD_POLL__FIRST", EVERY),
        ("KLINGD_POLL__EVERY", EVERY),
        ("KLINGD_POLL__SLOWEST", EVERY),
        ("KLINGD_POLL__MAX_PER_SECOND", "500"),
        ("KLINGD_INBOX__ENABLED", "false"),
    ];
    let queue = Queue::new(dir, &sandbox, &settings)?;
    let lines: String = (0..tasks).map(line).collect();
    let file = dir.join("jobs.jsonl");
    std::fs::write(&file, lines)?;
    queue.run(&["enqueue", "--yes", "--quiet", &file.display().to_string()])?;
    let daemon = queue.daemon(&[])?;
    let begun = Instant::now();
    wait_for_tasks(runtime, &sandbox, tasks)?;
    println!("{tasks} tasks in flight after {:.1} s", begun.elapsed().as_secs_f64());
    let (begun, cpu_s) = (Instant::now(), daemon.cpu_s());
    let lasts = Duration::from_secs(60) * u32::try_from(minutes)?;
    let due = runtime.block_on(watch(&queue, lasts))?;
    let (wall_s, cpu_s) = (begun.elapsed().as_secs_f64(), daemon.cpu_s() - cpu_s);
    let (rss, peak) = (daemon.rss_mib(), daemon.peak_rss_mib());
    daemon.stop()?;
    let late = lateness(&sandbox, &due);
    println!(
        "{} polls in {wall_s:.0} s; lateness p50 {:.1} ms, p99 {:.1} ms (goal 250), highest {:.1} ms; \
         CPU {:.0} % of a core; RSS {rss:.1} MiB (goal 60), peak {peak:.1} MiB",
        late.len(),
        quantile(&late, 0.5),
        quantile(&late, 0.99),
        quantile(&late, 1.0),
        cpu_s / wall_s * 100.0
    );
    if late.len() < tasks { Err("fewer polls were seen than there are tasks".into()) } else { Ok(()) }
}

fn line(n: usize) -> String {
    format!("{{\"type\": \"std-text-to-video\", \"prompt\": \"In flight, number {n}\", \"duration\": 3}}\n")
}

/// The due times of each task, in milliseconds, in their order.
async fn watch(queue: &Queue, lasts: Duration) -> Result<HashMap<String, Vec<i64>>> {
    let options =
        SqliteConnectOptions::new().filename(queue.database()).read_only(true).disable_statement_logging();
    let mut c: SqliteConnection = options.connect().await?;
    let mut due: HashMap<String, Vec<i64>> = HashMap::new();
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        let rows =
            sqlx::query("SELECT task_id, due_at FROM jobs WHERE lane = 'poll'").fetch_all(&mut c).await?;
        for row in rows {
            let (task, at): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let known = due.entry(task).or_default();
            if known.last() != Some(&at) {
                known.push(at);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(due)
}

/// Of each due time that was followed by a call, how many milliseconds later that was.
fn lateness(sandbox: &Sandbox, due: &HashMap<String, Vec<i64>>) -> Vec<f64> {
    let mut calls: HashMap<String, Vec<i64>> = HashMap::new();
    for request in sandbox.requests() {
        if let (Some(task), "/api/status") = (request.task_id, request.path.as_str()) {
            calls.entry(task).or_default().push(request.at.as_millisecond());
        }
    }
    let mut late = Vec::new();
    for (task, due) in due {
        let calls = calls.get(task).map_or(&[][..], Vec::as_slice);
        // A call leaves at its due time at the earliest; the clock of both ends is the same.
        late.extend(due.iter().filter_map(|due| Some((calls.iter().find(|at| *at >= due)? - due) as f64)));
    }
    late
}
