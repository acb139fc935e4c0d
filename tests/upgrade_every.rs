//! What the daemon makes of a database that was in use with an earlier schema: every one that there was, each with rows of
//! its own time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{borrow::Cow, fs, path::Path, time::Duration};

use klingd::{
    domain::{
        Credits, JobId, JobKey, Timestamp,
        state::{Label, State},
    },
    store::{
        Access, Store, StoreError,
        budget::Budget,
        enqueue::{NewBatch, Queued},
        open::OpenError,
        prune::Reached,
        submit::ClaimPolicy,
        view::Filter,
    },
};
use sqlx::{
    AssertSqlSafe, Connection, Row, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

mod common;

/// The schemas that there were before the present one.
fn earlier() -> Vec<i64> {
    let all: Migrator = sqlx::migrate!();
    let mut versions: Vec<i64> = all.iter().map(|m| m.version).collect();
    versions.pop();
    versions
}

fn newest() -> i64 {
    let all: Migrator = sqlx::migrate!();
    all.iter().map(|m| m.version).max().unwrap()
}

/// A queued job; one that is done with a second task, paid and not followed; one in flight; one in doubt; one that has
/// failed unpaid. Their columns are those of the first schema; what came later has its defaults, or is filled by `since`.
const JOBS: &str = r#"
INSERT INTO meta (name, value) VALUES ('world', 'real');
INSERT INTO batches VALUES (1, 'b', 't', 0);
INSERT INTO jobs (id, version, state, data, lane, needs_person, in_flight, due_at, task_id, priority, batch_id, tags, take, key, type, request, estimate, created_at, submitted_at, finished_at, paid_attempts, notes, source)
VALUES (1, 1, 'queued', '{"state":"queued"}', 'submit', 0, 0, 5, NULL, 0, 1, '["x"]', 1, 'k1', 'std-text-to-video',
        '{"type":"std-text-to-video","prompt":"a fox"}', 200, 5, NULL, NULL, 0, '[]', 't'),
       (2, 9, 'done', '{"state":"done","task":"n75b"}', NULL, 0, 0, NULL, 'n75b', 0, 1, '[]', 1, 'k2', 'std-text-to-video',
        '{"type":"std-text-to-video","prompt":"an owl"}', 200, 5, 6, 9, 2, '["task n75a of attempt 1 is paid too, and not followed"]', 't'),
       (3, 3, 'generating', '{"state":"generating","task":"n75c","watch":{"watch":"running"}}', 'poll', 0, 1, 5, 'n75c', 0, 1, '[]', 1, 'k3', 'std-text-to-video',
        '{"type":"std-text-to-video","prompt":"a hare"}', 200, 5, 6, NULL, 1, '[]', 't');
INSERT INTO keys VALUES ('k1', 1), ('k2', 2), ('k3', 3);
INSERT INTO outputs (job_id, idx, url, path, bytes, sha256, published_at) VALUES (2, 0, 'https://v/1', '/v/2.mp4', 3, 'ab', 9);
INSERT INTO holds VALUES ('paused', 4, 'a person paused it', NULL, NULL);
"#;

/// The attempts of these jobs before there was a ledger, and since.
const ATTEMPTS_AT_FIRST: &str = "
INSERT INTO attempts (job_id, n, started_at, request, request_sha256, base_url, key_fingerprint, estimate, outcome, charge, charged, task_id)
VALUES (2, 1, 6, x'00', '', '', '', 200, 'accepted', 'charged', 200, 'n75a'),
       (2, 2, 7, x'00', '', '', '', 200, 'accepted', 'charged', 190, 'n75b'),
       (3, 1, 8, x'00', '', '', '', 200, 'accepted', 'charged', 200, 'n75c');
";
const ATTEMPTS_SINCE: &str = "
INSERT INTO attempts (job_id, n, started_at, request, request_sha256, base_url, key_fingerprint, outcome, task_id)
VALUES (2, 1, 6, x'00', '', '', '', 'accepted', 'n75a'),
       (2, 2, 7, x'00', '', '', '', 'accepted', 'n75b'),
       (3, 1, 8, x'00', '', '', '', 'accepted', 'n75c');
INSERT INTO ledger (job_id, n, at, type, batch, tags, estimate, charge, charged)
VALUES (2, 1, 6, 'std-text-to-video', 'b', '[]', 200, 'charged', 200),
       (2, 2, 7, 'std-text-to-video', 'b', '[]', 200, 'charged', 190),
       (3, 1, 8, 'std-text-to-video', 'b', '[]', 200, 'charged', 200);
";
/// What only later schemas have, by the schema that brought it.
const SINCE: [(i64, &str); 4] = [
    (3, "INSERT INTO render_times (type, duration, after_ms, by_ms, at) VALUES ('std-text-to-video', 5, 10, 20, 9);"),
    (4, "UPDATE attempts SET unfollowed = 1 WHERE task_id = 'n75a';"),
    (6, "UPDATE jobs SET linked_at = 8 WHERE id = 2;"),
    (
        7,
        "INSERT INTO inbox_files (claim, name, held, place, accepted, remarks, taken_at) VALUES ('c', 'n', x'2f', x'2f', 1, '', 5);
         INSERT INTO inbox_jobs VALUES (1, 1, 0, 0);",
    ),
];

/// A database as it was in use with this schema.
async fn in_use_with(path: &Path, schema: i64) {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let mut migrator: Migrator = sqlx::migrate!();
    migrator.migrations = Cow::Owned(migrator.iter().filter(|m| m.version <= schema).cloned().collect());
    migrator.run_direct(None, &mut connection, false).await.unwrap();
    let attempts = if schema < 2 { ATTEMPTS_AT_FIRST } else { ATTEMPTS_SINCE };
    let later = SINCE.iter().filter(|(version, _)| *version <= schema).map(|(_, rows)| *rows);
    for rows in [JOBS, attempts].into_iter().chain(later) {
        sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("PRAGMA application_id = 1263291975").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the writer of a test")]
async fn migrated(path: &Path) -> Store {
    let (store, writer) = Store::open(path, Access::Migrate).await.unwrap();
    tokio::spawn(writer.run());
    store
}

#[tokio::test]
async fn every_earlier_schema_is_upgraded_with_its_jobs_its_money_and_its_keys() {
    for schema in earlier() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("klingd.db");
        in_use_with(&path, schema).await;
        let refused = Store::open(&path, Access::Use).await.map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::Open(OpenError::OlderSchema { .. })), "{schema}: {refused}");
        assert!(refused.to_string().contains("klingd run"), "{refused}");
        let store = migrated(&path).await;
        assert_eq!(store.check().await.unwrap(), [""; 0], "{schema}");

        let jobs = store.list(&Filter { all: true, ..Filter::default() }).await.unwrap();
        let labels: Vec<_> = jobs.iter().map(|job| job.state.label()).collect();
        assert_eq!(labels, [Label::Queued, Label::Done, Label::Generating], "{schema}");
        assert!(matches!(&jobs[2].state, State::Generating { task, .. } if task.as_str() == "n75c"));
        let spent = store.spent(&Budget::default(), Timestamp::from_millis(0)).await.unwrap();
        assert_eq!(spent.in_total(), Credits::new(590), "{schema}");
        assert_eq!(store.origin().await.unwrap().attempts, 3, "{schema}");
        assert_eq!(store.unfollowed().await.unwrap(), vec![JobId(2)], "{schema}");
        let charged: Vec<_> =
            store.attempts(JobId(2)).await.unwrap().iter().map(|a| (a.charged, a.unfollowed)).collect();
        let credits = |n| Some(Credits::new(n));
        assert_eq!(charged, [(credits(200), true), (credits(190), false)], "{schema}");
        assert_eq!(store.outputs(JobId(2)).await.unwrap()[0].file.as_ref().unwrap().path, "/v/2.mp4");
        let polled =
            store.due_polls(9, &Default::default(), Duration::from_secs(9), Timestamp::from_millis(9)).await;
        assert_eq!(polled.unwrap().jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [JobId(3)], "{schema}");

        // The keys are held, the hold stands, and what is queued is submitted when it does not.
        let mut twin = common::job("the same key");
        twin.key = jobs[1].key.clone();
        let batch = NewBatch { name: "n".into(), source: "t".into(), max_credits: None, jobs: vec![twin] };
        let queued = store.enqueue(batch, Timestamp::from_millis(9)).await.unwrap();
        assert_eq!(queued, [Queued { id: JobId(2), existing: true }], "{schema}");
        assert_eq!(claim(&store).await, []);
        let held = store.holds().await.unwrap().remove(0);
        store.lift(vec![held.name]).await.unwrap();
        assert_eq!(claim(&store).await, [JobId(1)], "{schema}");
        assert_eq!(store.origin().await.unwrap().attempts, 4, "{schema}: and it goes on counting");
        assert_copy(&path, schema).await;
    }
}

/// Before klingd knew earlier holders, a repetition that cost nothing freed the key of what was paid.
#[tokio::test]
async fn keys_of_paid_jobs_come_back_and_stay_when_these_are_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("klingd.db");
    in_use_with(&path, 12).await;
    let mut database = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    // The key of job 2 is free; job 3 is under way, and job 1 has the key of both.
    let then = "DELETE FROM keys WHERE job_id > 1; UPDATE jobs SET key = 'k1' WHERE id = 3;
                UPDATE attempts SET unfollowed = 0;";
    sqlx::raw_sql(then).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let store = migrated(&path).await;
    let now = Timestamp::from_millis(10);
    let again = async |of: i64| {
        let mut twin = common::job("the same key");
        twin.key = JobKey::from_stored(format!("k{of}"));
        let batch = NewBatch { name: "n".into(), source: "t".into(), max_credits: None, jobs: vec![twin] };
        store.enqueue(batch, now).await.unwrap().remove(0)
    };
    let existing = |id| Queued { id: JobId(id), existing: true };
    assert_eq!(again(2).await, existing(2));
    assert_eq!(again(1).await, existing(1));
    store.cancel(JobId(1), false, now).await.unwrap();
    assert_eq!(again(1).await, existing(3), "the one that is paid gets it back");
    let gone = store.prune(Timestamp::from_millis(20), &mut Reached::default()).await.unwrap().unwrap();
    // A file beside job 1 has yet to tell of it.
    assert_eq!(gone.iter().map(|job| job.id).collect::<Vec<_>>(), [JobId(2)]);
    assert_eq!((again(2).await, again(1).await), (existing(2), existing(3)), "pruned, and still paid");
}

async fn claim(store: &Store) -> Vec<JobId> {
    let policy = ClaimPolicy {
        gate: klingd::domain::gate::GatePolicy {
            start_in_flight: 3,
            max_in_flight: 20,
            cooldown: Duration::from_secs(2),
            cooldown_max: Duration::from_secs(600),
        },
        budget: Budget::default(),
        base_url: "https://kling3api.com".into(),
        key_fingerprint: "key".into(),
    };
    let now = Timestamp::from_millis(9);
    let claimed = store.claim_submits(3, &policy, now, now).await.unwrap();
    claimed.intents.iter().map(|intent| intent.job).collect()
}

/// The copy that was made before has the earlier schema and its rows, and says that it is a copy.
async fn assert_copy(path: &Path, schema: i64) {
    use std::os::unix::fs::PermissionsExt as _;
    let copy = path.with_extension(format!("schema-{schema}.bak"));
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let options = SqliteConnectOptions::new().filename(&copy).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let row = sqlx::query(
        "SELECT (SELECT max(version) FROM _sqlx_migrations) AS schema, (SELECT count(*) FROM jobs) AS jobs,
            (SELECT value FROM meta WHERE name = 'copy') AS stamp",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    let found: (i64, i64) = (row.get("schema"), row.get("jobs"));
    assert_eq!(found, (schema, 3));
    let stamp: String = row.get("stamp");
    assert!(stamp.contains(&format!("before the migration from schema {schema}")), "{stamp}");
    connection.close().await.unwrap();
}

/// A start that was cut short, an upgrade each month: the newest copies are kept, whole.
#[tokio::test]
async fn few_copies_are_kept_and_an_old_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("klingd.db");
    in_use_with(&path, 8).await;
    for old in [1, 2, 3, 6, 7, 8] {
        fs::File::create(path.with_extension(format!("schema-{old}.bak"))).unwrap();
    }
    drop(migrated(&path).await);
    assert_copy(&path, 8).await;
    let kept: Vec<_> =
        (1..=8).filter(|old| path.with_extension(format!("schema-{old}.bak")).exists()).collect();
    assert_eq!(kept, [6, 7, 8]);
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("klingd.db");
    drop(migrated(&path).await);
    let mut connection =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&path)).await.unwrap();
    let newer = format!(
        "INSERT INTO _sqlx_migrations SELECT {}, description, installed_on, success, checksum, execution_time
         FROM _sqlx_migrations WHERE version = 1",
        newest() + 1
    );
    sqlx::raw_sql(AssertSqlSafe(newer)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    for access in [Access::Use, Access::Migrate] {
        let refused = Store::open(&path, access).await.map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::Open(OpenError::NewerSchema { .. })), "{refused}");
        assert!(refused.to_string().contains("install that version again"), "{refused}");
    }
    for verb in ["run", "list", "status"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_klingd"));
        command.arg(verb).env_clear().env("HOME", dir.path()).env("KLINGD_DATA_DIR", dir.path());
        command.env("KLINGD_API__KEY", "sk-upgrade-test-key");
        let said = command.output().unwrap();
        let text = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(if verb == "run" { 78 } else { 1 }), "{verb}: {text}");
        assert!(text.contains("written by a newer klingd"), "{verb}: {text}");
    }
}
