//! What the migrations make of a database that was in use with the first schema.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{borrow::Cow, path::Path};

use klingd::{
    domain::{JobId, Timestamp},
    store::{Access, Store, budget::Budget, submit::ClaimPolicy},
};
use sqlx::{
    Connection, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

/// A queued job, one that is done with a second task, paid and not followed, and one that is done and was queued `again`,
/// which took its key: as the first schema had them.
const BEFORE: &str = r#"
INSERT INTO batches VALUES (1, 'b', 't', 0);
INSERT INTO jobs (id, version, state, data, lane, needs_person, in_flight, due_at, task_id, priority, batch_id, tags, take, key, type, request, estimate, created_at, notes, source)
VALUES (1, 1, 'queued', '{"state":"queued"}', 'submit', 0, 0, 5, NULL, 0, 1, '[]', 1, 'k1', 'std-text-to-video',
        '{"type":"std-text-to-video","prompt":"a fox"}', 200, 5, '[]', 't'),
       (2, 9, 'done', '{"state":"done","task":"n75b"}', NULL, 0, 0, NULL, 'n75b', 0, 1, '[]', 1, 'k2', 'std-text-to-video',
        '{"type":"std-text-to-video","prompt":"an owl"}', 200, 5, '["task n75a of attempt 1 is paid too, and not followed"]', 't'),
       (3, 9, 'done', '{"state":"done","task":"n75c"}', NULL, 0, 0, NULL, 'n75c', 0, 1, '[]', 1, 'k3', 'std-text-to-video',
        '{"type":"std-text-to-video","prompt":"a hare"}', 200, 5, '[]', 't'),
       (4, 1, 'queued', '{"state":"queued"}', 'submit', 0, 0, 5, NULL, 0, 1, '[]', 1, 'k3', 'std-text-to-video',
        '{"type":"std-text-to-video","prompt":"a hare"}', 200, 5, '[]', 't');
INSERT INTO keys VALUES ('k1', 1), ('k3', 4);
INSERT INTO attempts (job_id, n, started_at, request, request_sha256, base_url, key_fingerprint, estimate, outcome, charge, charged, task_id)
VALUES (2, 1, 6, x'00', '', '', '', 200, 'accepted', 'charged', 200, 'n75a'),
       (2, 2, 7, x'00', '', '', '', 200, 'accepted', 'charged', 200, 'n75b');
"#;

async fn in_use_at_first(path: &Path) {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let mut migrator: Migrator = sqlx::migrate!();
    migrator.migrations = Cow::Owned(migrator.iter().filter(|m| m.version == 1).cloned().collect());
    migrator.run_direct(None, &mut connection, false).await.unwrap();
    sqlx::raw_sql(BEFORE).execute(&mut connection).await.unwrap();
    sqlx::raw_sql("PRAGMA application_id = 1263291975").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn keys(path: &Path) -> Vec<(String, i64)> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query_as("SELECT key, job_id FROM keys ORDER BY key").fetch_all(&mut connection).await.unwrap()
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the writer of a test")]
async fn a_queue_in_use_is_upgraded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("klingd.db");
    in_use_at_first(&path).await;
    assert!(Store::open(&path, Access::Use).await.is_err(), "only the daemon migrates");
    let (store, writer) = Store::open(&path, Access::Migrate).await.unwrap();
    tokio::spawn(writer.run());
    assert_eq!(store.check().await.unwrap(), [""; 0]);
    let unfollowed: Vec<_> = store.attempts(JobId(2)).await.unwrap().iter().map(|a| a.unfollowed).collect();
    assert_eq!((unfollowed, store.unfollowed().await.unwrap()), (vec![true, false], vec![JobId(2)]));
    // The second lost its key when what was made again of it was cancelled; the third must not.
    assert_eq!(keys(&path).await, [("k1".to_owned(), 1), ("k2".to_owned(), 2), ("k3".to_owned(), 4)]);
    store.cancel(JobId(4), false, Timestamp::from_millis(5)).await.unwrap();
    assert_eq!(keys(&path).await[2], ("k3".to_owned(), 3));
    let policy = ClaimPolicy {
        gate: klingd::domain::gate::GatePolicy {
            start_in_flight: 3,
            max_in_flight: 20,
            cooldown: std::time::Duration::from_secs(2),
            cooldown_max: std::time::Duration::from_secs(600),
        },
        budget: Budget::default(),
        base_url: "https://kling3api.com".into(),
        key_fingerprint: "key".into(),
    };
    let now = Timestamp::from_millis(5);
    let claimed = store.claim_submits(3, &policy, now, now).await.unwrap();
    assert_eq!(claimed.intents.iter().map(|intent| intent.job).collect::<Vec<_>>(), [JobId(1)]);
}
