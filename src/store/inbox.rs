//! The watched folder's files: which were taken, where they go, and what their status files have yet to say.

use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Result, Store,
    enqueue::{NewBatch, Queued, enqueue},
    meta, row,
};
use crate::domain::{Credits, JobId, State, Timestamp, state::Failure};

/// Files handed out at once: enough to keep the disk busy, few enough for one look.
const AT_ONCE: i64 = 64;
/// Old rows removed by one start.
const FORGOTTEN_AT_ONCE: i64 = 10_000;

/// A file that was claimed, with nothing committed yet.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Its claim.
    pub claim: String,
    /// Its path below the folder, for people.
    pub name: String,
    /// Where it stands.
    pub held: PathBuf,
    /// Where it goes.
    pub place: PathBuf,
    /// The jobs it brings; `None` when it is rejected.
    pub brings: Option<NewBatch>,
    /// What is wrong with it, or to be said of it.
    pub remarks: String,
}

/// A file that was taken, as its row tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxFile {
    /// Its number.
    pub id: i64,
    /// Its path below the folder, for people.
    pub name: String,
    /// Where it stands until it is moved.
    pub held: PathBuf,
    /// Where it goes, or stands.
    pub place: PathBuf,
    /// Whether its jobs were queued; else it was rejected.
    pub accepted: bool,
    /// What is wrong with it, or to be said of it.
    pub remarks: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// How many changes its status file has to tell of.
    pub changes: i64,
    /// When that was last written.
    pub told_at: Timestamp,
}

/// What a status file says of a job.
#[derive(Clone, Debug)]
pub struct FileJob {
    /// Its number.
    pub id: JobId,
    /// Its key was there already; nothing was queued.
    pub existing: bool,
    /// The job itself; `None` when it was pruned.
    pub found: Option<Found>,
}

/// The job, as far as a status file tells of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: Option<String>,
    /// Its state.
    pub state: State,
    /// Why the last try came back.
    pub error: Option<Failure>,
    /// What it was to cost.
    pub estimate: Credits,
    /// Its published videos.
    pub videos: Vec<String>,
}

/// The folder as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxView {
    /// What keeps it from being watched, and since when.
    pub trouble: Option<(String, Timestamp)>,
    /// Files accepted since the time asked for.
    pub accepted: u64,
    /// Files rejected since.
    pub rejected: u64,
}

/// The one list of a file's columns, put before the rest of a query.
macro_rules! select_file {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, held, place, accepted, remarks, taken_at, changes, told_at FROM inbox_files ",
            $rest
        )
    };
}

impl Store {
    /// Records a claimed file, and queues what it brings, in one transaction. A claim that is recorded already (the
    /// last run was killed after the commit) brings nothing more: its row is the answer.
    pub async fn take_file(&self, mut file: NewFile, now: Timestamp) -> Result<InboxFile> {
        let brings = file.brings.take().map(NewBatch::packed).transpose()?;
        self.write(move |c, ring| {
            Box::pin(async move {
                if let Some(known) = by_claim(c, &file.claim).await? {
                    return Ok(known);
                }
                let id = insert(c, &file, brings.is_some(), now).await?;
                if let Some(batch) = brings {
                    let mut queued = Vec::new();
                    enqueue(c, ring, batch, now, &mut queued).await?;
                    insert_jobs(c, id, &queued).await?;
                }
                by_claim(c, &file.claim).await?.ok_or_else(|| {
                    super::StoreError::Corrupt("a file that was just recorded is gone".to_owned())
                })
            })
        })
        .await
    }

    /// The row of a claim.
    pub async fn file_of_claim(&self, claim: &str) -> Result<Option<InboxFile>> {
        by_claim(&mut *self.readers.acquire().await?, claim).await
    }

    /// Files that are recorded and not yet known to be moved, the oldest first.
    pub async fn files_to_place(&self) -> Result<Vec<InboxFile>> {
        let rows = sqlx::query(select_file!("WHERE placed = 0 ORDER BY id LIMIT +?"))
            .bind(AT_ONCE)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(file).collect()
    }

    /// Another place for a file: somebody else's has that name. Committed before the move.
    pub async fn change_place(&self, id: i64, place: &Path) -> Result<()> {
        let place = place.as_os_str().as_bytes().to_owned();
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query("UPDATE inbox_files SET place = ? WHERE id = ? AND placed = 0")
                    .bind(place)
                    .bind(id)
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// These stand in their places.
    pub async fn files_placed(&self, ids: Vec<i64>) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query("UPDATE inbox_files SET placed = 1 WHERE id IN (SELECT value FROM json_each(?))")
                    .bind(serde_json::to_string(&ids)?)
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Files whose status has changed since it was written; the one written longest ago first.
    pub async fn files_to_tell(&self) -> Result<Vec<InboxFile>> {
        let rows = sqlx::query(select_file!("WHERE told < changes AND placed = 1 ORDER BY told_at LIMIT +?"))
            .bind(AT_ONCE)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(file).collect()
    }

    /// The jobs of a file, in its order.
    pub async fn jobs_of_file(&self, id: i64) -> Result<Vec<FileJob>> {
        let rows = sqlx::query(
            "SELECT i.job_id, i.existing, j.name, j.data, j.error, j.estimate,
                (SELECT json_group_array(o.path) FROM outputs o
                 WHERE o.job_id = i.job_id AND o.published_at IS NOT NULL) AS videos
             FROM inbox_jobs i LEFT JOIN jobs j ON j.id = i.job_id WHERE i.file_id = ? ORDER BY i.position",
        )
        .bind(id)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(job).collect()
    }

    /// The status file of this row tells of its `changes`; none of them, when it could not be written.
    pub async fn file_told(&self, told: &InboxFile, now: Timestamp) -> Result<()> {
        let (id, changes) = (told.id, told.changes);
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query("UPDATE inbox_files SET told = max(told, ?), told_at = ? WHERE id = ?")
                    .bind(changes)
                    .bind(now.as_millis())
                    .bind(id)
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Whether a file is still to be moved, or its status to be written, and nothing is known to be in the way.
    pub async fn files_pending(&self) -> Result<bool> {
        Ok(sqlx::query_scalar(
            "SELECT (EXISTS (SELECT 1 FROM inbox_files WHERE placed = 0)
                OR EXISTS (SELECT 1 FROM inbox_files WHERE told < changes))
                AND NOT EXISTS (SELECT 1 FROM meta WHERE name = 'inbox.trouble')",
        )
        .fetch_one(&self.readers)
        .await?)
    }

    /// Forgets files that were taken before `before` and have nothing left to tell; their own files stay.
    pub async fn forget_files(&self, before: Timestamp) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query(
                    "DELETE FROM inbox_files WHERE id IN (
                        SELECT id FROM inbox_files f WHERE taken_at < ? AND placed = 1 AND told = changes
                            AND NOT EXISTS (SELECT 1 FROM inbox_jobs i JOIN jobs j ON j.id = i.job_id
                                            WHERE i.file_id = f.id AND j.finished_at IS NULL)
                        ORDER BY taken_at LIMIT +?)",
                )
                .bind(before.as_millis())
                .bind(FORGOTTEN_AT_ONCE)
                .execute(c)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// The name under which this queue claims files: `fresh`, if it has none yet.
    pub async fn inbox_queue(&self, fresh: u32) -> Result<u32> {
        let known = queue(&mut *self.readers.acquire().await?).await?;
        if let Some(known) = known {
            return Ok(known);
        }
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO meta (name, value) VALUES ('inbox.queue', ?) ON CONFLICT DO NOTHING",
                )
                .bind(fresh.to_string())
                .execute(&mut *c)
                .await?;
                Ok(queue(c).await?.unwrap_or(fresh))
            })
        })
        .await
    }

    /// Whether this folder was seen with klingd's mark in it.
    pub async fn inbox_is_known(&self, path: &Path) -> Result<bool> {
        let known = meta::get(&mut *self.readers.acquire().await?, "inbox.known").await?;
        Ok(known.is_some_and(|known| Path::new(&known) == path))
    }

    /// Remembers that this folder has klingd's mark in it.
    pub async fn know_inbox(&self, path: &Path) -> Result<()> {
        let path = path.to_string_lossy().into_owned();
        self.write(move |c, _| Box::pin(async move { meta::keep(c, "inbox.known", &path).await })).await
    }

    /// Keeps what is wrong with the folder, for `status`; `None` when all is well.
    pub async fn note_inbox_trouble(&self, trouble: Option<String>, now: Timestamp) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                match trouble {
                    Some(text) => meta::keep(c, "inbox.trouble", &serde_json::to_string(&(text, now))?).await,
                    None => meta::forget(c, "inbox.trouble").await,
                }
            })
        })
        .await
    }

    /// The folder as others see it.
    pub async fn inbox_view(&self, since: Timestamp) -> Result<InboxView> {
        let r = sqlx::query(
            "SELECT (SELECT value FROM meta WHERE name = 'inbox.trouble') AS trouble,
                (SELECT count(*) FROM inbox_files WHERE taken_at >= ?1 AND accepted = 1) AS accepted,
                (SELECT count(*) FROM inbox_files WHERE taken_at >= ?1 AND accepted = 0) AS rejected",
        )
        .bind(since.as_millis())
        .fetch_one(&self.readers)
        .await?;
        let trouble = r.try_get::<Option<&str>, _>("trouble")?.map(serde_json::from_str).transpose()?;
        Ok(InboxView {
            trouble,
            accepted: row::narrow(&r, "accepted")?,
            rejected: row::narrow(&r, "rejected")?,
        })
    }
}

async fn queue(c: &mut SqliteConnection) -> Result<Option<u32>> {
    let stored = meta::get(c, "inbox.queue").await?;
    let parsed = |stored: String| {
        stored.parse().map_err(|_| super::StoreError::Corrupt(format!("inbox.queue {stored:?}")))
    };
    stored.map(parsed).transpose()
}

/// The next claim is made under another name: the one before belongs to the queue that this one was copied from.
pub(super) async fn forget_queue(c: &mut SqliteConnection) -> Result<()> {
    meta::forget(c, "inbox.queue").await
}

async fn by_claim(c: &mut SqliteConnection, claim: &str) -> Result<Option<InboxFile>> {
    let found = sqlx::query(select_file!("WHERE claim = ?")).bind(claim).fetch_optional(c).await?;
    found.as_ref().map(file).transpose()
}

fn file(r: &SqliteRow) -> Result<InboxFile> {
    let path = |column| -> Result<PathBuf> {
        Ok(std::ffi::OsString::from_vec(r.try_get::<Vec<u8>, _>(column)?).into())
    };
    Ok(InboxFile {
        id: r.try_get("id")?,
        name: r.try_get("name")?,
        held: path("held")?,
        place: path("place")?,
        accepted: r.try_get("accepted")?,
        remarks: r.try_get("remarks")?,
        taken_at: Timestamp::from_millis(r.try_get("taken_at")?),
        changes: r.try_get("changes")?,
        told_at: Timestamp::from_millis(r.try_get("told_at")?),
    })
}

fn job(r: &SqliteRow) -> Result<FileJob> {
    let found = match r.try_get::<Option<&str>, _>("data")? {
        Some(data) => Some(Found {
            name: r.try_get("name")?,
            state: serde_json::from_str(data)?,
            error: r.try_get::<Option<&str>, _>("error")?.map(serde_json::from_str).transpose()?,
            estimate: row::money(r, "estimate")?.unwrap_or_default(),
            videos: row::json(r, "videos")?,
        }),
        None => None,
    };
    Ok(FileJob { id: JobId(r.try_get("job_id")?), existing: r.try_get("existing")?, found })
}

async fn insert(c: &mut SqliteConnection, file: &NewFile, accepted: bool, now: Timestamp) -> Result<i64> {
    let bytes = |path: &Path| OsStr::as_bytes(path.as_os_str()).to_owned();
    let done = sqlx::query(
        "INSERT INTO inbox_files (claim, name, held, place, accepted, remarks, taken_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&file.claim)
    .bind(&file.name)
    .bind(bytes(&file.held))
    .bind(bytes(&file.place))
    .bind(accepted)
    .bind(&file.remarks)
    .bind(now.as_millis())
    .execute(c)
    .await?;
    Ok(done.last_insert_rowid())
}

async fn insert_jobs(c: &mut SqliteConnection, file: i64, queued: &[Queued]) -> Result<()> {
    for (position, job) in (0_i64..).zip(queued) {
        // Two jobs of a file may be one that was there already.
        sqlx::query(
            "INSERT INTO inbox_jobs (job_id, file_id, position, existing) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(job.id.0)
        .bind(file)
        .bind(position)
        .bind(job.existing)
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}
