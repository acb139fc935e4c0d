//! SQLite's own command line tool, with klingd's schema and settings.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::common::{
    Result,
    child::{Cost, measure},
};

/// What klingd sets on its own connections.
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";

pub fn schema_of(database: &Path) -> Result<String> {
    let select = "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'";
    let out = Command::new("sqlite3").arg(database).arg(select).output()?;
    Ok(String::from_utf8(out.stdout)?)
}

/// A database with klingd's schema and nothing in it.
pub fn fresh(dir: &Path, schema: &str) -> Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let database = dir.join("raw.db");
    script(&database, &format!("PRAGMA journal_mode = WAL; {schema}"))?;
    Ok(database)
}

pub fn script(database: &Path, script: &str) -> Result<Cost> {
    measure(Command::new("sqlite3").arg(database).arg(script))
}

/// A script that is too long for an argument.
pub fn piped(database: &Path, script: &str) -> Result<Cost> {
    let path = database.with_extension("sql");
    fs::write(&path, format!("{SETTINGS}\n{script}"))?;
    measure(Command::new("sqlite3").arg(database).stdin(Stdio::from(fs::File::open(path)?)))
}

/// All rows of another database, in one transaction.
pub fn copy(database: &Path, rows: &Path) -> Result<Cost> {
    let copy = format!(
        "{SETTINGS} ATTACH '{}' AS rows; BEGIN IMMEDIATE;
         INSERT INTO batches SELECT * FROM rows.batches WHERE id > 0;
         INSERT INTO jobs SELECT * FROM rows.jobs WHERE id > 0;
         INSERT INTO history SELECT * FROM rows.history WHERE job_id > 0;
         INSERT INTO keys SELECT * FROM rows.keys WHERE job_id > 0; COMMIT;",
        rows.display()
    );
    script(database, &copy)
}

/// The rows of one job, in a transaction.
pub fn one_row(n: usize) -> String {
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
         INSERT INTO history VALUES ({id}, 1, 1, '\"enqueued\"', NULL, 'queued'); COMMIT;\n"
    )
}
