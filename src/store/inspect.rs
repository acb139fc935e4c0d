//! A look at a database as it is: nothing is created, migrated or repaired.

use std::path::{Path, PathBuf};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    Result,
    open::{known_schema, schema_of, sqlite_version},
};

/// What is seen of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its schema; 0 for an empty file.
    pub schema: i64,
    /// Whose jobs are in it, if it was run.
    pub world: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// The length of its write-ahead log.
    pub log_bytes: u64,
    /// What is wrong with its pages; nothing when all is well.
    pub faults: Vec<String>,
}

/// The SQLite in this program, and the newest schema that it knows.
pub async fn versions() -> Result<(String, i64)> {
    let mut memory = SqliteConnectOptions::new().in_memory(true).connect().await?;
    let version = sqlite_version(&mut memory).await?;
    memory.close().await?;
    Ok((version, known_schema()))
}

/// Looks at the database in `path`, which must exist. It reads all of it.
pub async fn inspect(path: &Path) -> Result<Inspection> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .disable_statement_logging()
        .connect()
        .await?;
    let seen = look(path, &mut connection).await;
    connection.close().await?;
    seen
}

async fn look(path: &Path, connection: &mut SqliteConnection) -> Result<Inspection> {
    let schema = schema_of(path, &mut *connection).await?;
    let world = match schema {
        0 => None,
        _ => {
            sqlx::query_scalar("SELECT value FROM meta WHERE name = 'world'")
                .fetch_optional(&mut *connection)
                .await?
        }
    };
    let mut faults: Vec<String> =
        sqlx::query_scalar("PRAGMA quick_check(10)").fetch_all(&mut *connection).await?;
    faults.retain(|line| line != "ok");
    let length = |path: &Path| path.metadata().map_or(0, |file| file.len());
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Ok(Inspection { schema, world, bytes: length(path), log_bytes: length(&PathBuf::from(log)), faults })
}
