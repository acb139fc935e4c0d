//! Opening the database: options set, read back and refused when different; SQLite's version asserted; the schema
//! checked. Only `run` migrates an older schema; any verb may create a fresh database, or end the making of one.

use std::{
    error::Error,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use tracing::warn;

use super::{
    Bells, Result, Store, StoreError,
    copy::copy,
    error::{cant_open, is_damage, passes},
    writer::Writer,
};
use crate::{
    disk::{self, Clobber, DiskError},
    domain::origin::CopyStamp,
    vitals::Vitals,
};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// `application_id` of a klingd database: "KLNG".
const APPLICATION_ID: i64 = 0x4b4c_4e47;
/// The first SQLite whose WAL reset can't corrupt a database that several processes use (its release notes).
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);
/// How long a write waits for another process's transaction. Those last milliseconds; a bulk enqueue a few seconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(15);
/// Copies of earlier schemas that are kept beside the database: enough for the way back over a few upgrades.
const COPIES_KEPT: usize = 3;
/// A log that was longer for once (a bulk enqueue beside a long read) gives its room back.
const LOG_KEPT_BYTES: &str = "67108864";
/// Readers: the lanes, a watch, a command; more would only wait for two cores.
const READERS: u32 = 4;

/// What the caller may do to the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The daemon: creates, and migrates an older schema (after a copy).
    Migrate,
    /// Any other verb: creates a fresh database, refuses an older schema.
    Use,
}

/// Whom the jobs of a database are for: a simulated video must never satisfy a real key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its word")]
pub enum World {
    Real,
    Sandbox,
}

impl World {
    /// The word of the stamp.
    pub const fn as_str(self) -> &'static str {
        match self {
            World::Real => "real",
            World::Sandbox => "sandbox",
        }
    }
}

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum OpenError {
    #[error(
        "this klingd was built with SQLite {found}; it needs 3.51.3 or later (older ones can corrupt a shared WAL)"
    )]
    OldSqlite { found: String },
    #[error("{path} is not a klingd database (application_id {found:#x})")]
    NotOurs { path: PathBuf, found: i64 },
    #[error(
        "{path} was written by a newer klingd (schema {found}, this one knows {known}): install that version again"
    )]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{path} has an older schema ({found}, this klingd has {known}): start the daemon once (klingd run), it migrates after making a copy"
    )]
    OlderSchema { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{path}: pragma {pragma} is {found} after it was set to {wanted}; the filesystem or the build does not allow durable commits"
    )]
    Pragma { path: PathBuf, pragma: &'static str, found: String, wanted: &'static str },
    #[error(
        "{path} holds {found} jobs, this run is {wanted}: a simulated video must never satisfy a real key, so use another data directory"
    )]
    OtherWorld { path: PathBuf, found: String, wanted: &'static str },
    #[error(
        "{log} belongs to the database that was here before, not to {path}: remove it and {}-shm, then start again",
        path.display()
    )]
    ForeignLog { path: PathBuf, log: PathBuf },
    #[error(
        "{path} can't be opened: {why}; a queue belongs to its user and their group, so join that group (the service's is \
         klingd), or name a queue of your own with --data-dir"
    )]
    Denied { path: PathBuf, why: String },
    #[error("{path} is damaged ({why}): stop klingd, keep the file, and put its newest backup in its place")]
    Damaged { path: PathBuf, why: String },
    #[error("{path} can't be opened: {why}")]
    File { path: PathBuf, why: String },
    /// Unlike all others it passes without a person: a restart may find room.
    #[error("{path} can't be opened now: {why}")]
    NotNow { path: PathBuf, why: String },
}

impl Store {
    /// Opens `path`, creating it where there is none. Returns the handle and the writer to run beside it.
    pub async fn open(path: &Path, access: Access) -> Result<(Store, Writer)> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("journal_size_limit", LOG_KEPT_BYTES)
            .disable_statement_logging();
        let connection = prepare(path, &options, access).await?;
        let bells = Arc::new(Bells::default());
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(0)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().read_only(true));
        let vitals = Arc::<Vitals>::default();
        let (inbox, writer) = Writer::new(connection, options, Arc::clone(&bells), Arc::clone(&vitals));
        Ok((Store { inbox, readers, bells, vitals }, writer))
    }

    /// Only looks at the database in `path`, whatever its schema: nothing is created, and every write is refused.
    pub fn look_at(path: &Path) -> Store {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
        let readers = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
        // Its other end is gone already: there is no writer.
        let (inbox, _) = tokio::sync::mpsc::channel(1);
        Store { inbox, readers, bells: Arc::default(), vitals: Arc::default() }
    }

    /// Stamps a fresh database with its world; refuses the other one.
    pub async fn stamp(&self, path: &Path, world: World) -> Result<()> {
        let path = path.to_owned();
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query("INSERT INTO meta (name, value) VALUES ('world', ?) ON CONFLICT DO NOTHING")
                    .bind(world.as_str())
                    .execute(&mut *c)
                    .await?;
                let found: String = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'world'")
                    .fetch_one(&mut *c)
                    .await?;
                if found == world.as_str() {
                    Ok(())
                } else {
                    Err(OpenError::OtherWorld { path, found, wanted: world.as_str() }.into())
                }
            })
        })
        .await
    }
}

/// Connects and brings the schema to what this binary knows, under a lock: SQLite's migrations take none of their own,
/// and two first starts at once would collide.
async fn prepare(path: &Path, options: &SqliteConnectOptions, access: Access) -> Result<SqliteConnection> {
    let file = |e: io::Error| match e.kind() {
        _ if disk::passes(&e) => OpenError::NotNow { path: path.to_owned(), why: e.to_string() },
        ErrorKind::PermissionDenied => OpenError::Denied { path: path.to_owned(), why: e.to_string() },
        _ => OpenError::File { path: path.to_owned(), why: e.to_string() },
    };
    let lock = path.with_extension("schema.lock");
    let lock = open_closed(&lock, File::options().create(true).truncate(false)).map_err(file)?;
    // On a blocking thread: whoever holds it may be another open of this very process, waiting for this very thread.
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(|e| file(io::Error::other(e)))?
        .map_err(file)?;
    if !path.exists() {
        create_private(path).map_err(file)?;
    }
    refuse_foreign_log(path).map_err(file)??;
    let mut connection = connect(path, options).await?;
    assert_sqlite(&mut connection).await?;
    let known = known_schema();
    let found = schema_of(path, &mut connection).await?;
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known }.into());
    }
    // Nothing was ever in it, so it needs no daemon and no copy.
    let fresh = found == 0 || was_cut(&mut connection).await?;
    if found < known && !fresh {
        if access == Access::Use {
            return Err(OpenError::OlderSchema { path: path.to_owned(), found, known }.into());
        }
        copy_before_migration(path, &mut connection, found).await?;
    }
    if found < known || fresh {
        MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(|e| open_failed(path, &e))?;
        // Last: see `was_cut`. Pragmas take no parameters, so the numbers are in the text; 1263291975 is APPLICATION_ID.
        sqlx::query("PRAGMA application_id = 1263291975").execute(&mut connection).await?;
    }
    drop(lock);
    Ok(connection)
}

/// A connection that commits durably.
pub(super) async fn connect(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection> {
    let mut connection = options.connect().await.map_err(|e| open_failed(path, &e))?;
    check_pragmas(path, &mut connection).await?;
    Ok(connection)
}

fn open_failed(path: &Path, e: &(dyn Error + 'static)) -> OpenError {
    let (path, why) = (path.to_owned(), e.to_string());
    let causes: Vec<_> = std::iter::successors(Some(e), |&cause| cause.source())
        .filter_map(|cause| cause.downcast_ref())
        .collect();
    // SQLite does not say why a file could not be opened. Where the place is as it should be, the moment was not: a disk
    // may be too full for the log.
    let in_place =
        || path.is_file() && path.parent().is_some_and(|dir| disk::space::check_writable(dir).is_ok());
    if causes.iter().any(|cause| passes(cause) || (cant_open(cause) && in_place())) {
        OpenError::NotNow { path, why }
    } else if causes.iter().any(|cause| is_damage(cause)) {
        OpenError::Damaged { path, why }
    } else {
        OpenError::File { path, why }
    }
}

/// SQLite would create the file readable by all; prompts and signed links are nobody else's business.
fn create_private(path: &Path) -> io::Result<()> {
    match open_closed(path, File::options().create_new(true)) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// Opens a file for owner and group. In a directory that its group writes to, whatever the umask says: a member whose
/// command is the first one must not shut out the daemon, whose user is another. SQLite gives its other files the mode
/// of the database.
fn open_closed(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.write(true).mode(0o660).open(path)?;
    let shared = path.parent().and_then(|dir| fs::metadata(dir).ok()).is_some_and(|m| m.mode() & 0o020 != 0);
    if shared && file.metadata()?.mode() & 0o777 != 0o660 {
        // Only the file's owner can; whoever else got it open needs nothing.
        drop(file.set_permissions(Permissions::from_mode(0o660)));
    }
    Ok(file)
}

/// A backup that was put in the place of a database whose log was left standing: SQLite would play one database's changes
/// into the other. A klingd database that has a log says in its header (bytes 18 and 19, sqlite.org/fileformat2.html) that it
/// uses one, and a fresh backup says that it does not.
fn refuse_foreign_log(path: &Path) -> std::io::Result<std::result::Result<(), OpenError>> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    let mut header = [0; 20];
    let mut file = File::open(path)?;
    let uses_no_log = file.read_exact(&mut header).is_ok() && header[18] == 1;
    let is_there = log.metadata().is_ok_and(|log| log.len() > 0);
    if uses_no_log && is_there {
        return Ok(Err(OpenError::ForeignLog { path: path.to_owned(), log }));
    }
    Ok(Ok(()))
}

async fn assert_sqlite(connection: &mut SqliteConnection) -> Result<()> {
    let found = sqlite_version(connection).await?;
    let mut parts = found.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < OLDEST_SQLITE { Err(OpenError::OldSqlite { found }.into()) } else { Ok(()) }
}

pub(super) async fn sqlite_version(connection: &mut SqliteConnection) -> Result<String> {
    Ok(sqlx::query_scalar("SELECT sqlite_version()").fetch_one(connection).await?)
}

/// The schema that this klingd knows.
pub(super) fn known_schema() -> i64 {
    MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0)
}

/// The schema's version: 0 for an empty file.
pub(super) async fn schema_of(path: &Path, connection: &mut SqliteConnection) -> Result<i64> {
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(0);
    }
    let found: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let ours: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if ours == 0 || (found != APPLICATION_ID && found != 0) {
        return Err(OpenError::NotOurs { path: path.to_owned(), found }.into());
    }
    let version: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(connection).await?;
    Ok(version.unwrap_or(0))
}

/// Whether the making of a database was cut between two migrations: its number comes after them, and no job before it.
async fn was_cut(connection: &mut SqliteConnection) -> Result<bool> {
    let number: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    Ok(number == 0 && sqlx::query("SELECT 1 FROM jobs LIMIT 1").fetch_optional(connection).await?.is_none())
}

/// A copy beside the database, named after the schema it has. One that an earlier start made is older, and replaced.
async fn copy_before_migration(path: &Path, connection: &mut SqliteConnection, schema: i64) -> Result<()> {
    let bytes = path.metadata().map_or(0, |file| file.len());
    let dir = path.parent().unwrap_or(Path::new("."));
    let what = format!("the copy that was made before the migration from schema {schema}");
    let stamp = CopyStamp { made_at: None, what };
    let no_room = |why: String| OpenError::NotNow {
        path: path.to_owned(),
        why: format!("there is no room for a copy before its migration ({why}); it needs {bytes} bytes"),
    };
    // Before a byte of it: what is left of a full disk belongs to others, too.
    disk::check_free(dir, bytes).map_err(|why| no_room(why.to_string()))?;
    match copy(connection, &copy_of(path, schema), &stamp, Clobber::Replace).await {
        Ok(_) => {
            drop_old_copies(path, schema);
            Ok(())
        }
        Err(error) if error.is_full() => Err(no_room(error.to_string()).into()),
        Err(StoreError::Copy(error @ DiskError::Full { .. })) => Err(no_room(error.to_string()).into()),
        Err(other) => Err(other),
    }
}

fn copy_of(path: &Path, schema: i64) -> PathBuf {
    path.with_extension(format!("schema-{schema}.bak"))
}

/// Keeps the newest few. Schemas are counted, so their copies are known by name; one that can't be removed is only room.
fn drop_old_copies(path: &Path, schema: i64) {
    let copies = (1..schema).rev().map(|old| copy_of(path, old)).filter(|copy| copy.exists());
    for old in copies.skip(COPIES_KEPT - 1) {
        if let Err(why) = disk::remove_durably(&old) {
            warn!(path = %old.display(), %why, "an old copy of the database stays");
        }
    }
}

async fn check_pragmas(path: &Path, connection: &mut SqliteConnection) -> Result<()> {
    // synchronous: 2 = FULL. Read back, because a misspelt or refused pragma says nothing.
    let wanted: [(&'static str, &'static str, &'static str); 3] = [
        ("journal_mode", "PRAGMA journal_mode", "wal"),
        ("synchronous", "PRAGMA synchronous", "2"),
        ("foreign_keys", "PRAGMA foreign_keys", "1"),
    ];
    for (pragma, query, wanted) in wanted {
        let row = sqlx::query(query).fetch_one(&mut *connection).await?;
        let found = row
            .try_get::<String, _>(0)
            .or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string()))
            .unwrap_or_else(|_| "unreadable".to_owned());
        if found != wanted {
            return Err(OpenError::Pragma { path: path.to_owned(), pragma, found, wanted }.into());
        }
    }
    connection.ping().await.map_err(StoreError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn the_first_of_a_group_shuts_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o2770)).unwrap();
        let path = dir.path().join("klingd.db");
        // What an umask of 077 would have left.
        let lock = path.with_extension("schema.lock");
        let lock = File::options().create_new(true).write(true).mode(0o600).open(lock);
        drop(lock.unwrap());
        let (_store, _writer) = Store::open(&path, Access::Use).await.unwrap();
        for name in ["klingd.db", "klingd.db-wal", "klingd.db-shm", "klingd.schema.lock"] {
            assert_eq!(mode(&dir.path().join(name)), 0o660, "{name}");
        }
    }

    #[tokio::test]
    async fn a_queue_of_ones_own_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let path = dir.path().join("klingd.db");
        let (_store, _writer) = Store::open(&path, Access::Use).await.unwrap();
        for name in ["klingd.db", "klingd.db-wal", "klingd.db-shm", "klingd.schema.lock"] {
            assert_eq!(mode(&dir.path().join(name)) & 0o007, 0, "{name}");
        }
    }
}
