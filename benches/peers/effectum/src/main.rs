//! effectum queues the lines of a file: `peer-effectum one|bulk DIR FILE`; says how long the calls took.
//!
//! Its `PRAGMA journal = wal` is misspelt, so the file is made WAL beforehand; and its `synchronous = normal` is ignored, so
//! that SQLite's default (FULL) holds: every commit is synced.

use std::{error::Error, ffi::c_char, ffi::c_int, path::Path, ptr, time::Instant};

use effectum::{Job, Queue};
use rusqlite::{Connection, ffi};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Every connection of this process ignores who wants fewer syncs.
unsafe extern "C" fn keep_full(
    db: *mut ffi::sqlite3,
    _error: *mut *const c_char,
    _api: *const ffi::sqlite3_api_routines,
) -> c_int {
    unsafe extern "C" fn judge(
        _: *mut std::ffi::c_void,
        action: c_int,
        name: *const c_char,
        value: *const c_char,
        _: *const c_char,
        _: *const c_char,
    ) -> c_int {
        let is = action == ffi::SQLITE_PRAGMA && !name.is_null() && !value.is_null();
        // SAFETY: SQLite gives texts that end.
        let wants =
            is && unsafe { std::ffi::CStr::from_ptr(name) }.to_bytes().eq_ignore_ascii_case(b"synchronous");
        if wants { ffi::SQLITE_IGNORE } else { ffi::SQLITE_OK }
    }
    // SAFETY: the connection is being opened, and the function lives as long as the process.
    unsafe { ffi::sqlite3_set_authorizer(db, Some(judge), ptr::null_mut()) }
}

#[tokio::main]
async fn main() -> Result<()> {
    let all: Vec<String> = std::env::args().collect();
    let [_, part, dir, file] = all.as_slice() else { return Err("peer-effectum one|bulk DIR FILE".into()) };
    let database = Path::new(dir).join("effectum.db");
    Connection::open(&database)?.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // SAFETY: nothing else uses SQLite yet.
    unsafe { ffi::sqlite3_auto_extension(Some(keep_full)) };
    let text = std::fs::read_to_string(file)?;
    let payloads: Vec<&str> = text.lines().collect();
    let queue = Queue::new(&database).await?;
    let job = |payload: &str| Job::builder("bench").payload(payload.as_bytes().to_vec()).build();
    let start = Instant::now();
    if part == "bulk" {
        queue.add_jobs(payloads.iter().map(|p| job(p)).collect()).await?;
    } else {
        for payload in &payloads {
            queue.add_job(job(payload)).await?;
        }
    }
    println!("wall {}", start.elapsed().as_secs_f64());
    let check = Connection::open(&database)?;
    let count: usize = check.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))?;
    let mode: String = check.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if count == payloads.len() && mode == "wal" {
        Ok(())
    } else {
        Err(format!("{count} jobs, {mode}").into())
    }
}
