//! What durable queueing costs, as ratios to SQLite itself doing the same on the same disk, run in turns: a hundred
//! thousand lines of JSON Lines, from a file and from a pipe, and one job by flags.
//!
//! SQLite is its own command line tool (`sqlite3`), with klingd's schema, indexes, foreign keys and full fsync. For bulk
//! it copies the very rows, already parsed, from another database: it reads no JSON, checks nothing and makes no keys.
//!
//! `cargo bench --bench enqueue -- [--jobs 100000] [--rounds 5] [--single 30]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and writes its own files")]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const KLINGD: &str = env!("CARGO_BIN_EXE_klingd");
/// What klingd sets on its own connections.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";

fn main() -> Result<()> {
    let (jobs, rounds, single) =
        (argument("--jobs", 100_000), argument("--rounds", 5), argument("--single", 30));
    if Command::new("sqlite3").arg("--version").output().is_err() {
        println!("there is no sqlite3 to compare with (apt-get install sqlite3)");
        return Ok(());
    }
    let dir = tempfile::tempdir_in(std::env::current_dir()?.join("target"))?;
    bulk(dir.path(), jobs, rounds)?;
    one_by_one(dir.path(), single)
}

fn argument(name: &str, default: usize) -> usize {
    let mut all = std::env::args();
    all.find(|a| a == name).and_then(|_| all.next()).and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// As long and as varied as what a script writes; about 300 bytes a line.
fn lines(jobs: usize) -> String {
    let line = |n: usize| {
        format!(
            "{{\"type\": \"std-text-to-video\", \"prompt\": \"A lighthouse at dusk, slow pan to the left, number {n}. \
             Gulls circle over wet nets while the storm arrives; waves break over the pier.\", \"name\": \"shot-{n}\", \
             \"duration\": {}, \"sound\": false, \"aspect_ratio\": \"9:16\", \"tags\": [\"bench\", \"reel\"]}}\n",
            3 + n % 13
        )
    };
    (0..jobs).map(line).collect()
}

fn bulk(dir: &Path, jobs: usize, rounds: usize) -> Result<()> {
    let file = dir.join("jobs.jsonl");
    fs::write(&file, lines(jobs))?;
    let rows = dir.join("rows");
    klingd(&rows, &[file.to_str().ok_or("a path that is no text")?], None)?;
    let schema = schema_of(&rows.join("klingd.db"))?;
    let copy = format!(
        "{SETTINGS} ATTACH '{}' AS rows; BEGIN IMMEDIATE;
         INSERT INTO batches SELECT * FROM rows.batches WHERE id > 0;
         INSERT INTO jobs SELECT * FROM rows.jobs WHERE id > 0;
         INSERT INTO history SELECT * FROM rows.history WHERE job_id > 0;
         INSERT INTO keys SELECT * FROM rows.keys WHERE job_id > 0; COMMIT;",
        rows.join("klingd.db").display()
    );
    let (mut ours, mut piped, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let at = |name: &str| dir.join(format!("{name}-{round}"));
        ours.push(klingd(&at("file"), &[file.to_str().ok_or("a path that is no text")?], None)?);
        raw.push(sqlite(&fresh(&at("raw"), &schema)?, &copy)?);
        piped.push(klingd(&at("pipe"), &["-"], Some(&file))?);
        ["file", "raw", "pipe"].iter().try_for_each(|name| fs::remove_dir_all(at(name)))?;
    }
    let base = median(&raw);
    println!("bulk: {jobs} lines, {rounds} rounds, medians");
    report("  sqlite3, the same rows", &raw, base, jobs);
    report("  klingd enqueue FILE", &ours, base, jobs);
    report("  klingd enqueue - < FILE", &piped, base, jobs);
    Ok(())
}

fn one_by_one(dir: &Path, rounds: usize) -> Result<()> {
    let data = dir.join("single");
    let enqueue = |prompt: &str| klingd(&data, &["--type", "std-text-to-video", "--prompt", prompt], None);
    enqueue("the first, which makes the database")?;
    let base = fresh(&dir.join("single-raw"), &schema_of(&data.join("klingd.db"))?)?;
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for n in 0..rounds {
        ours.push(enqueue(&format!("A lighthouse at dusk, number {n}"))?);
        raw.push(sqlite(&base, &one_row(n))?);
    }
    println!("one job, process start to durable: {rounds} rounds, medians");
    report("  sqlite3 FILE 'INSERT …'", &raw, median(&raw), 1);
    report("  klingd enqueue --type … --prompt …", &ours, median(&raw), 1);
    Ok(())
}

/// The rows of one job.
fn one_row(n: usize) -> String {
    let id = n + 1;
    format!(
        "{SETTINGS} BEGIN IMMEDIATE;
         INSERT INTO batches (name, source, created_at) VALUES ('enqueue', 'flags', 1);
         INSERT INTO jobs (id, version, state, data, lane, needs_person, in_flight, due_at, priority, batch_id, tags,
             take, key, type, request, estimate, created_at, source)
         VALUES ({id}, 1, 'queued', '\"queued\"', 'submit', 0, 0, 1, 0, last_insert_rowid(), '[]', 1, 'sha256:{n:064}',
             'std-text-to-video', '{{\"type\":\"std-text-to-video\",\"prompt\":\"A lighthouse at dusk, number {n}\"}}',
             300, 1, 'flags');
         INSERT INTO keys VALUES ('sha256:{n:064}', {id});
         INSERT INTO history VALUES ({id}, 1, 1, '\"enqueued\"', NULL, 'queued'); COMMIT;"
    )
}

/// How long a process took, and the most memory it had.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    rss_kb: u64,
}

fn klingd(data: &Path, args: &[&str], stdin: Option<&Path>) -> Result<Cost> {
    let mut command = Command::new(KLINGD);
    command.args(["enqueue", "--yes", "--quiet"]).args(args).env_clear();
    command.env("KLINGD_DATA_DIR", data).env("HOME", data);
    if let Some(file) = stdin {
        // Through a pipe, as a script does it.
        let mut cat = Command::new("cat").arg(file).stdout(Stdio::piped()).spawn()?;
        command.stdin(cat.stdout.take().ok_or("no pipe")?);
        let cost = measure(command.spawn_quiet()?);
        cat.wait()?;
        return cost;
    }
    measure(command.spawn_quiet()?)
}

fn sqlite(database: &Path, script: &str) -> Result<Cost> {
    measure(Command::new("sqlite3").arg(database).arg(script).spawn_quiet()?)
}

trait SpawnQuiet {
    fn spawn_quiet(&mut self) -> std::io::Result<(Instant, Child)>;
}

impl SpawnQuiet for Command {
    fn spawn_quiet(&mut self) -> std::io::Result<(Instant, Child)> {
        let start = Instant::now();
        Ok((start, self.stdout(Stdio::null()).spawn()?))
    }
}

fn measure((start, mut child): (Instant, Child)) -> Result<Cost> {
    let status = format!("/proc/{}/status", child.id());
    let mut rss_kb = 0;
    loop {
        if let Some(ended) = child.try_wait()? {
            let time = start.elapsed();
            return if ended.success() { Ok(Cost { time, rss_kb }) } else { Err(format!("{ended}").into()) };
        }
        let peak = fs::read_to_string(&status).unwrap_or_default();
        let kb =
            peak.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        rss_kb = rss_kb.max(kb.unwrap_or(0));
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn schema_of(database: &Path) -> Result<String> {
    let select = "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'";
    let out = Command::new("sqlite3").arg(database).arg(select).output()?;
    Ok(String::from_utf8(out.stdout)?)
}

/// A database with klingd's schema and nothing in it.
fn fresh(dir: &Path, schema: &str) -> Result<std::path::PathBuf> {
    fs::create_dir_all(dir)?;
    let database = dir.join("raw.db");
    sqlite(&database, &format!("PRAGMA journal_mode = WAL; {schema}"))?;
    Ok(database)
}

fn median(all: &[Cost]) -> Duration {
    let mut times: Vec<Duration> = all.iter().map(|cost| cost.time).collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn report(what: &str, all: &[Cost], base: Duration, jobs: usize) {
    let time = median(all);
    let rss_mb = all.iter().map(|cost| cost.rss_kb).max().unwrap_or(0) as f64 / 1024.0;
    let ratio = time.as_secs_f64() / base.as_secs_f64();
    let rate = jobs as f64 / time.as_secs_f64();
    println!(
        "{what:<40} {:>9.2} ms  {rate:>9.0} jobs/s  {ratio:>5.2}×  RSS {rss_mb:.0} MB",
        time.as_secs_f64() * 1e3
    );
}
