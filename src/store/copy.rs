//! Copies of the database: consistent, whole, durable, and known as copies. A queue that was restored from one must not pay
//! again for what was paid since, so each says of itself what it is.

use std::path::Path;

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{Result, Store, StoreError, meta, origin};
use crate::{
    disk::{Clobber, unnamed::Unnamed},
    domain::{Timestamp, origin::CopyStamp},
};

impl Store {
    /// Copies the database to `to`, which must not exist, as it is at this moment; others go on with their work. Says how
    /// large the copy is.
    ///
    /// # Errors
    /// [`StoreError::Copy`] where the file can't be made, [`StoreError::Full`] where it does not fit; nothing is left then.
    pub async fn back_up(&self, to: &Path, now: Timestamp) -> Result<u64> {
        let stamp = CopyStamp { made_at: Some(now), what: "a backup".to_owned() };
        copy(&mut *self.readers.acquire().await?, to, &stamp, Clobber::Refuse).await
    }
}

/// Copies the database of `connection`. The name appears when the copy is whole and has been looked through.
pub(super) async fn copy(
    connection: &mut SqliteConnection,
    to: &Path,
    stamp: &CopyStamp,
    clobber: Clobber,
) -> Result<u64> {
    let file = Unnamed::beside(to)?;
    let path = file.path();
    let name = path.to_str().ok_or_else(|| StoreError::Corrupt(format!("{} is not text", path.display())))?;
    // An empty file is written into, with the mode that it has.
    sqlx::query("VACUUM INTO ?").bind(name).execute(connection).await?;
    seal(path, stamp).await?;
    Ok(file.name_it(clobber)?)
}

/// Writes into a copy what it is, and reads it through: what is kept for a bad day is looked at on a good one.
async fn seal(path: &Path, stamp: &CopyStamp) -> Result<()> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        // Nothing beside it: torn, it has no name yet and goes.
        .journal_mode(SqliteJournalMode::Memory)
        .synchronous(SqliteSynchronous::Off)
        .disable_statement_logging();
    let mut copy = options.connect().await?;
    meta::keep(&mut copy, origin::STAMP, &serde_json::to_string(stamp)?).await?;
    let found: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_all(&mut copy).await?;
    copy.close().await?;
    match found.iter().find(|line| *line != "ok") {
        None => Ok(()),
        Some(wrong) => Err(StoreError::Corrupt(format!("the copy does not pass its check: {wrong}"))),
    }
}
