//! A queue with many finished jobs, all copies of one that klingd has brought to its end.

use std::{path::Path, time::Duration};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::runtime::Runtime;

use super::{Result, rig::Queue};

/// Over so long a time the finished jobs have ended, evenly, the newest now.
pub const SPAN: Duration = Duration::from_hours(24 * 365);

/// Brings one job to its end, copies it, and queues as many jobs by a file.
pub fn fill(runtime: &Runtime, queue: &Queue, jobs: usize) -> Result<()> {
    queue.run(&[
        "enqueue",
        "--type",
        "std-text-to-video",
        "--duration",
        "3",
        "--no-sound",
        "--prompt",
        PROMPT,
    ])?;
    queue.daemon(&["--until-idle"])?.end()?;
    runtime.block_on(copy(&queue.database(), i64::try_from(jobs)?))?;
    let lines: String = (0..jobs).map(|n| line(n + jobs)).collect();
    let file = queue.dir.join("jobs.jsonl");
    std::fs::write(&file, lines)?;
    queue.run(&["enqueue", "--yes", "--quiet", &file.display().to_string()])?;
    Ok(std::fs::remove_file(file)?)
}

const PROMPT: &str =
    "A lighthouse at dusk, number 000001. Gulls circle over wet nets while the storm arrives.";

fn line(n: usize) -> String {
    let prompt = PROMPT.replace("000001", &format!("{n:07}"));
    format!(
        "{{\"type\": \"std-text-to-video\", \"prompt\": \"{prompt}\", \"duration\": 3, \"sound\": false, \"tags\": [\"bench\"]}}\n"
    )
}

/// The job 1 becomes the jobs 2 to `jobs`: other numbers, tasks, prompts, keys and times, everything else the same.
async fn copy(database: &Path, jobs: i64) -> Result<()> {
    let options =
        SqliteConnectOptions::new().filename(database).foreign_keys(false).pragma("cache_size", "-500000");
    // It need not survive a power cut: nothing is measured yet.
    let options = options.pragma("synchronous", "OFF").disable_statement_logging();
    let mut c: SqliteConnection = options.connect().await?;
    let mut all = c.begin().await?;
    let step = i64::try_from(SPAN.as_millis())? / jobs;
    sqlx::query(
        "CREATE TEMP TABLE copies AS
         WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         SELECT i, 1 + i / 1000 AS batch, (i - ?1) * ?2 AS later, 'n75' || printf('%08x', i) || 'kling3' AS task,
             printf('number %06d', i) AS number, 'sha256:' || lower(hex(randomblob(32))) AS key
         FROM n",
    )
    .bind(jobs)
    .bind(step)
    .execute(&mut *all)
    .await?;
    for statement in COPIES {
        sqlx::query(statement).execute(&mut *all).await?;
    }
    // The original is the oldest of them.
    sqlx::query("UPDATE jobs SET finished_at = finished_at - ?1 WHERE id = 1")
        .bind(i64::try_from(SPAN.as_millis())?)
        .execute(&mut *all)
        .await?;
    all.commit().await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut c).await?;
    Ok(c.close().await?)
}

const COPIES: [&str; 7] = [
    "INSERT INTO batches (id, name, source, created_at)
     SELECT batch, name, source, created_at + min(later) FROM copies, batches b WHERE b.id = 1 AND batch > 1 GROUP BY batch",
    "INSERT INTO jobs (id, version, state, data, lane, needs_person, in_flight, due_at, task_id, priority, name, output,
         batch_id, tags, take, key, not_before, type, request, estimate, max_credits, charged, paid_attempts, polls,
         created_at, submitted_at, finished_at, base_url, key_fingerprint, error, notes, source, running_at, linked_at)
     SELECT i, version, state, replace(data, task_id, task), lane, needs_person, in_flight, due_at, task, priority, name,
         output, batch, tags, take, c.key, not_before, type, replace(request, 'number 000001', number), estimate,
         max_credits, charged, paid_attempts, polls, created_at + later, submitted_at + later, finished_at + later,
         base_url, key_fingerprint, error, notes, source, running_at + later, linked_at + later
     FROM copies c, jobs WHERE id = 1",
    "INSERT INTO history (job_id, version, at, event, from_state, to_state)
     SELECT i, h.version, at + later, replace(event, j.task_id, task), from_state, to_state
     FROM copies, history h, jobs j WHERE h.job_id = 1 AND j.id = 1",
    "INSERT INTO attempts (job_id, n, started_at, request, request_sha256, base_url, key_fingerprint, outcome, task_id,
         answered_at, evidence, note, unfollowed)
     SELECT i, n, started_at + later, CAST(replace(CAST(request AS TEXT), 'number 000001', number) AS BLOB),
         request_sha256, base_url, key_fingerprint, outcome, task, answered_at + later, replace(evidence, task_id, task),
         note, unfollowed
     FROM copies, attempts WHERE job_id = 1",
    "INSERT INTO ledger (job_id, n, at, type, batch, tags, estimate, charge, charged, refunded)
     SELECT i, n, at + later, type, l.batch, tags, estimate, charge, charged, refunded
     FROM copies, ledger l WHERE job_id = 1",
    "INSERT INTO outputs (job_id, idx, url, failures, failing_since, part, position, etag, path, bytes, sha256,
         published_at, cleared_at)
     SELECT i, idx, replace(url, j.task_id, task), failures, failing_since, part, position, etag,
         replace(path, '/1.mp4', '/' || i || '.mp4'), bytes, sha256, published_at + later, cleared_at
     FROM copies, outputs o, jobs j WHERE o.job_id = 1 AND j.id = 1",
    "INSERT INTO keys (key, job_id) SELECT key, i FROM copies ORDER BY key",
];
