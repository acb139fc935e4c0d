//! What durable queueing costs, as ratios to SQLite itself doing the same on the same disk, run in turns: a hundred
//! thousand lines of JSON Lines at once, one job by flags, and one commit a job in one process. Beside the queues that
//! `benches/peers/install.sh` installs; one that is not there is skipped.
//!
//! SQLite is its own command line tool (`sqlite3`), with klingd's schema, indexes, foreign keys and full fsync. For bulk
//! it copies the very rows, already parsed, from another database: it reads no JSON, checks nothing and makes no keys.
//! The other queues keep each line as an opaque text; their time is that of the calls alone, without a process's start.
//!
//! Goals: bulk at most 3.5 times SQLite, and 40 MB; one job by flags at most twice `sqlite3 FILE 'INSERT …'`.
//!
//! `cargo bench --bench enqueue -- [--jobs 100000] [--rounds 5] [--single 30] [--each 2000]`

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and writes its own files")]

mod common;
#[path = "enqueue/inside.rs"]
mod inside;
#[path = "enqueue/peers.rs"]
mod peers;
#[path = "enqueue/raw.rs"]
mod raw;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use common::{
    Result, Series,
    child::{self, Cost},
    load, number, say_machine, turns, verdict, word,
};
use peers::{Part, Peer};

fn main() -> Result<()> {
    if let (Some("klingd"), Some(dir), Some(file)) = (word("--as").as_deref(), word("--dir"), word("--file"))
    {
        return inside::run(Path::new(&dir), Path::new(&file), number("--at-once", 1));
    }
    if Command::new("sqlite3").arg("--version").output().is_err() {
        println!("there is no sqlite3 to compare with (apt-get install sqlite3)");
        return Ok(());
    }
    let dir = tempfile::tempdir_in(std::env::current_dir()?.join("target"))?;
    say_machine(dir.path())?;
    println!(
        "fsync: every commit of klingd, sqlite3, effectum, apalis, huey and plainjob (WAL, synchronous=FULL); pueue never"
    );
    let peers = peers::installed()?;
    bulk(dir.path(), &peers, number("--jobs", 100_000), number("--rounds", 5))?;
    by_process(dir.path(), number("--single", 30))?;
    one_by_one(dir.path(), &peers, number("--each", 2000), number("--rounds", 5))?;
    println!("load at the end {}", load());
    Ok(())
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

/// One run in a folder of its own, and what it cost.
type Run<'a> = Box<dyn Fn(&Path) -> Result<Cost> + 'a>;

/// A way to queue, and what each round of it took.
struct Way<'a> {
    name: String,
    run: Run<'a>,
    wall_ms: Series,
    rss_mb: f64,
}

impl<'a> Way<'a> {
    fn new(name: impl Into<String>, run: impl Fn(&Path) -> Result<Cost> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run), wall_ms: Series::default(), rss_mb: 0.0 }
    }
}

/// Runs them in turns, each in an empty folder, and prints them beside the first. Gives the ratios of the second to it.
fn compare(dir: &Path, mut ways: Vec<Way<'_>>, rounds: usize, jobs: usize) -> Result<(Series, f64)> {
    let order: Vec<usize> = (0..ways.len()).collect();
    for round in 0..rounds {
        for at in turns(&order, round) {
            let (way, folder) = (&mut ways[*at], dir.join(format!("way-{at}")));
            fs::create_dir(&folder)?;
            let cost = (way.run)(&folder).map_err(|e| format!("{}: {e}", way.name))?;
            fs::remove_dir_all(&folder)?;
            way.wall_ms.push(cost.said("wall ").unwrap_or(cost.wall_s) * 1e3);
            way.rss_mb = way.rss_mb.max(cost.rss_mb);
        }
    }
    let base = &ways[0].wall_ms;
    for way in &ways {
        let rate = jobs as f64 / way.wall_ms.median() * 1e3;
        println!(
            "  {:<42} {:>9.2} ms  {rate:>8.0} jobs/s  {:.2}×  RSS {:.0} MB",
            way.name,
            way.wall_ms.median(),
            way.wall_ms.over(base),
            way.rss_mb
        );
    }
    Ok((ways[1].wall_ms.over(base), ways[1].rss_mb))
}

fn bulk(dir: &Path, peers: &[Peer], jobs: usize, rounds: usize) -> Result<()> {
    let file = dir.join("jobs.jsonl");
    fs::write(&file, lines(jobs))?;
    let path = file.to_str().ok_or("a path that is no text")?;
    let rows = dir.join("rows");
    enqueue(&rows, &[path], None)?;
    let rows = rows.join("klingd.db");
    let schema = raw::schema_of(&rows)?;
    println!("bulk: {jobs} lines, {rounds} rounds in turn; × is over sqlite3, in brackets its spread");
    let mut ways = vec![
        Way::new("sqlite3, the same rows", |dir| raw::copy(&raw::fresh(dir, &schema)?, &rows)),
        Way::new("klingd enqueue FILE", |dir| enqueue(dir, &[path], None)),
        Way::new("klingd enqueue - < FILE", |dir| enqueue(dir, &["-"], Some(&file))),
    ];
    for peer in peers {
        let name = format!(
            "{}, {}",
            peer.name,
            if peer.has_bulk { "one call" } else { "a call a job: it has no bulk" }
        );
        ways.push(Way::new(name, |dir| peer.run(Part::Bulk, dir, &file)));
    }
    let (ratio, rss_mb) = compare(dir, ways, rounds, jobs)?;
    let (time, memory) = (verdict(ratio.median() <= 3.5), verdict(rss_mb <= 40.0));
    println!("  goal: klingd ≤ 3.5 × sqlite3 {time}, RSS ≤ 40 MB {memory}");
    Ok(())
}

fn by_process(dir: &Path, rounds: usize) -> Result<()> {
    let data = dir.join("single");
    let add = |prompt: &str| enqueue(&data, &["--type", "std-text-to-video", "--prompt", prompt], None);
    add("the first, which makes the database")?;
    let base = raw::fresh(&dir.join("single-raw"), &raw::schema_of(&data.join("klingd.db"))?)?;
    let pueue = peers::Pueue::start(&dir.join("pueue"))?;
    let next = std::cell::Cell::new(0);
    let number = || next.replace(next.get() + 1);
    println!("one job, process start to durable: {rounds} rounds in turn");
    let mut ways = vec![
        Way::new("sqlite3 FILE 'INSERT …'", |_| raw::script(&base, &raw::one_row(number()))),
        Way::new("klingd enqueue --type … --prompt …", |_| {
            add(&format!("A lighthouse at dusk, number {}", number()))
        }),
    ];
    if let Some(pueue) = &pueue {
        ways.push(Way::new("pueue add (never fsynced)", |_| pueue.add()));
    }
    let (ratio, _) = compare(dir, ways, rounds, 1)?;
    println!("  goal: klingd ≤ 2 × sqlite3 {}", verdict(ratio.median() <= 2.0));
    Ok(())
}

fn one_by_one(dir: &Path, peers: &[Peer], jobs: usize, rounds: usize) -> Result<()> {
    let file = dir.join("each.jsonl");
    fs::write(&file, lines(jobs))?;
    let schema = raw::schema_of(&dir.join("rows/klingd.db"))?;
    let each: String = (0..jobs).map(raw::one_row).collect();
    println!("one commit a job, in one process: {jobs} jobs, {rounds} rounds in turn");
    let inside = |dir: &Path, at_once: &str| {
        let mut command = child::itself("klingd")?;
        command.args(["--at-once", at_once, "--file"]).arg(&file).arg("--dir").arg(dir);
        child::measure(&mut command)
    };
    let mut ways = vec![
        Way::new("sqlite3, the same rows", |dir| raw::piped(&raw::fresh(dir, &schema)?, &each)),
        Way::new("klingd's store", |dir| inside(dir, "1")),
        Way::new("klingd's store, 32 at once", |dir| inside(dir, "32")),
    ];
    for peer in peers {
        ways.push(Way::new(peer.name, |dir| peer.run(Part::Each, dir, &file)));
    }
    compare(dir, ways, rounds, jobs)?;
    Ok(())
}

fn enqueue(data: &Path, arguments: &[&str], stdin: Option<&Path>) -> Result<Cost> {
    let mut command = child::klingd(data);
    command.args(["enqueue", "--yes", "--quiet"]).args(arguments);
    let Some(file) = stdin else { return child::measure(&mut command) };
    // Through a pipe, as a script does it.
    let mut cat = Command::new("cat").arg(file).stdout(Stdio::piped()).spawn()?;
    command.stdin(cat.stdout.take().ok_or("no pipe")?);
    let cost = child::measure(&mut command);
    cat.wait()?;
    cost
}
