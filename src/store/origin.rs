//! Whether this database is a copy, as far as its own rows tell; and where its data directory was.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use sqlx::{Row, SqliteConnection};

use super::{Result, Store, World, control, inbox, meta, row};
use crate::domain::{
    HoldName,
    hold::Hold,
    origin::{CopyStamp, Identity},
};

/// The rows of `meta`.
const IDENTITY: &str = "identity";
pub(super) const STAMP: &str = "copy";
const DATA_DIR: &str = "data_dir";

/// What a database knows of where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it pays with a real key: nothing else has to be held.
    pub is_real: bool,
    /// What it was when it last ran. Where it was is not known before its first run, and after a person took responsibility
    /// for a copy.
    pub identity: Identity,
    /// What klingd wrote into the copy that this is, if it is one.
    pub stamp: Option<CopyStamp>,
    /// Where its data directory was.
    pub data_dir: Option<String>,
    /// How many requests it has begun.
    pub attempts: u64,
    /// Whether the hold `restored` stands.
    pub is_held: bool,
}

impl Store {
    /// What it knows of where it comes from.
    pub async fn origin(&self) -> Result<Origin> {
        let r = sqlx::query(
            "SELECT (SELECT value FROM meta WHERE name = 'world') AS world,
                (SELECT value FROM meta WHERE name = ?) AS identity,
                (SELECT value FROM meta WHERE name = ?) AS stamp,
                (SELECT value FROM meta WHERE name = ?) AS data_dir,
                EXISTS (SELECT 1 FROM holds WHERE name = ?) AS is_held,
                (SELECT attempts FROM ledger_total) AS attempts",
        )
        .bind(IDENTITY)
        .bind(STAMP)
        .bind(DATA_DIR)
        .bind(HoldName::Restored.as_str())
        .fetch_one(&self.readers)
        .await?;
        Ok(Origin {
            is_real: r.try_get::<Option<&str>, _>("world")? == Some(World::Real.as_str()),
            identity: row::json(&r, "identity")?,
            stamp: r.try_get::<Option<&str>, _>("stamp")?.map(serde_json::from_str).transpose()?,
            data_dir: r.try_get("data_dir")?,
            attempts: row::narrow(&r, "attempts")?,
            is_held: r.try_get("is_held")?,
        })
    }

    /// Remembers what it is while it runs here.
    pub async fn keep_identity(&self, identity: &Identity) -> Result<()> {
        let value = serde_json::to_string(identity)?;
        self.write(move |c, _| Box::pin(async move { meta::keep(c, IDENTITY, &value).await })).await
    }

    /// Holds all submits of a copy, and gives it an inbox of its own: a file that the queue it was made of is just taking
    /// must not look like one that this queue began to take. What the copy says of itself has done its work then: killed
    /// before the commit, the next start reads it again.
    pub async fn hold_copy(&self, hold: Hold) -> Result<()> {
        self.write(move |c, ring| {
            Box::pin(async move {
                control::set_hold(c, ring, &hold).await?;
                inbox::forget_queue(c).await?;
                meta::forget(c, STAMP).await
            })
        })
        .await
    }

    /// The data directory is `now`: whatever lay below `before` lies there.
    pub async fn move_data_dir(&self, before: Option<&Path>, now: &Path) -> Result<()> {
        let here = now.to_string_lossy().into_owned();
        let moved = before.map(|before| {
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            (bytes(before), bytes(now))
        });
        self.write(move |c, _| {
            Box::pin(async move {
                if let Some((from, to)) = moved {
                    move_paths(c, &from, &to).await?;
                }
                meta::keep(c, DATA_DIR, &here).await
            })
        })
        .await
    }
}

/// Every path that klingd keeps. They may have been written as text or as bytes, and are compared as bytes; the slash keeps
/// `/data` from being the beginning of `/data2`. A name that stands already (an output root that was used before) is the
/// same one from now on.
async fn move_paths(c: &mut SqliteConnection, from: &[u8], to: &[u8]) -> Result<()> {
    macro_rules! moved {
        ($table:literal, $column:literal, $prefix:literal, $kind:literal) => {
            concat!(
                "UPDATE OR REPLACE ",
                $table,
                " SET ",
                $column,
                " = CAST('",
                $prefix,
                "' || ?2 || substr(CAST(",
                $column,
                " AS BLOB), 1 + length(CAST('",
                $prefix,
                "' || ?1 AS BLOB))) AS ",
                $kind,
                ") WHERE substr(CAST(",
                $column,
                " AS BLOB), 1, 1 + length(CAST('",
                $prefix,
                "' || ?1 AS BLOB))) = CAST('",
                $prefix,
                "' || ?1 || '/' AS BLOB)"
            )
        };
    }
    for change in [
        moved!("outputs", "part", "", "TEXT"),
        moved!("outputs", "path", "", "TEXT"),
        moved!("inbox_files", "held", "", "BLOB"),
        moved!("inbox_files", "place", "", "BLOB"),
        moved!("meta", "name", "output_root:", "TEXT"),
        concat!(moved!("meta", "value", "", "TEXT"), " AND name = 'inbox.known'"),
    ] {
        sqlx::query(change).bind(from).bind(to).execute(&mut *c).await?;
    }
    Ok(())
}

/// A person has taken responsibility for the copy: from here on it is a queue of its own, under a name of its own.
pub(super) async fn adopt(c: &mut SqliteConnection) -> Result<()> {
    meta::forget(c, STAMP).await?;
    inbox::forget_queue(c).await?;
    // As in the migration that made the first one.
    sqlx::query("UPDATE meta SET value = json_object('queue', lower(hex(randomblob(8)))) WHERE name = ?")
        .bind(IDENTITY)
        .execute(c)
        .await?;
    Ok(())
}
