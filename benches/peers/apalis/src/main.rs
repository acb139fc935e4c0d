//! apalis-sqlite queues the lines of a file: `peer-apalis one|bulk DIR FILE`; says how long the calls took.
//!
//! Its setup sets `synchronous = OFF` on one connection of the pool: it gets a pool of its own, and the calls another one
//! with WAL and FULL.

use std::{error::Error, path::Path, time::Instant};

use apalis::prelude::*;
use apalis_sqlite::SqliteStorage;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let all: Vec<String> = std::env::args().collect();
    let [_, part, dir, file] = all.as_slice() else { return Err("peer-apalis one|bulk DIR FILE".into()) };
    let options = SqliteConnectOptions::new()
        .filename(Path::new(dir).join("apalis.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let setup = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    SqliteStorage::<()>::setup(&setup).await?;
    setup.close().await;
    let pool = SqlitePoolOptions::new().connect_with(options).await?;
    let mut storage = SqliteStorage::<String>::new(&pool);
    let text = std::fs::read_to_string(file)?;
    let payloads: Vec<String> = text.lines().map(str::to_owned).collect();
    let count = payloads.len();
    let start = Instant::now();
    if part == "bulk" {
        let mut tasks = futures::stream::iter(payloads);
        storage.push_stream(&mut tasks).await?;
    } else {
        for payload in payloads {
            storage.push(payload).await?;
        }
    }
    println!("wall {}", start.elapsed().as_secs_f64());
    let (there,): (i64,) = sqlx::query_as("SELECT count(*) FROM Jobs").fetch_one(&pool).await?;
    let (synced,): (i64,) = sqlx::query_as("PRAGMA synchronous").fetch_one(&pool).await?;
    if there == i64::try_from(count)? && synced == 2 {
        Ok(())
    } else {
        Err(format!("{there} jobs, {synced}").into())
    }
}
