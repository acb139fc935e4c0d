//! Shows that the judge notices what it is there for. A proof that can't fail proves nothing.

use std::fs;

use klingd::domain::State;
use klingd::store::person::Resolution;
use sqlx::{Connection, SqliteConnection};

use super::rig::{Facts, KEY, Rig, Setup, broken_at_any_instant, broken_at_rest, clock, facts};

/// Two jobs that are done, and nothing to complain of.
async fn rest() -> Rig {
    let rig = Rig::with_jobs(2, Setup::default()).await;
    rig.finish().await;
    rig
}

#[track_caller]
fn complains(broken: &[String], of: &str) {
    assert!(broken.iter().any(|line| line.contains(of)), "nobody complained of {of:?}: {broken:?}");
}

/// The whole rig against a person who lies: the provider has charged, and the person says it has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_double_charge_is_noticed() {
    let rig = Rig::with_jobs(1, Setup { faults: "generate:hang-after", ..Setup::default() }).await;
    let mut daemon = rig.start();
    rig.on_the_wire(&mut daemon).await;
    rig.kill(daemon).await;
    let doubt = rig.run_to_rest().await;
    let (job, prompt) = rig.jobs()[0].clone();
    let State::InDoubt { attempt, .. } = doubt.in_doubt().next().unwrap().state else { panic!("in doubt") };
    let lie = Resolution::NotCharged;
    rig.store(async |store| store.resolve(job, attempt, lie, None, clock()).await.unwrap()).await;

    complains(&broken_at_any_instant(&facts(&rig).await), "it was charged and is queued");
    rig.end(rig.start()).await.exited(0);
    assert_eq!(rig.sandbox.charges_for(&prompt), 2);
    complains(&broken_at_any_instant(&facts(&rig).await), "it was charged 2 times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_a_missing_and_a_forgotten_file_are_noticed() {
    let rig = rest().await;
    let video = |job: usize| rig.videos().join(format!("{}.mp4", rig.jobs()[job].0));
    let file = fs::File::options().write(true).open(video(0)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    complains(&broken_at_any_instant(&facts(&rig).await), "1.mp4 is torn");

    fs::remove_file(video(1)).unwrap();
    complains(&broken_at_rest(&facts(&rig).await), "2.mp4 is not there");
    fs::remove_file(video(1).with_extension("json")).unwrap();
    complains(&broken_at_rest(&facts(&rig).await), "its sidecar says null");

    fs::File::create(rig.videos().join(".klingd-2-0.part")).unwrap();
    complains(&broken_at_rest(&facts(&rig).await), ".part was left behind");
    fs::File::create(rig.data_dir().join("spool/job-1-attempt-1.json")).unwrap();
    complains(&broken_at_rest(&facts(&rig).await), "left in the spool");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_a_forged_and_an_unfinished_job_are_noticed() {
    for (damage, of) in [
        ("DELETE FROM jobs WHERE id = 1", "job 1 of the rig: it is lost"),
        (
            "DELETE FROM history WHERE job_id = 1 AND event LIKE '%succeeded%'",
            "its history can't be replayed",
        ),
        ("DELETE FROM history WHERE job_id = 1 AND event LIKE '%file_published%'", "its history leads to"),
        ("UPDATE attempts SET outcome = 'open' WHERE job_id = 1", "are open"),
        ("UPDATE ledger SET charge = 'free' WHERE job_id = 1", "the books say 0"),
        ("UPDATE ledger_total SET taken = taken + 1", "the ledger's total"),
        ("UPDATE jobs SET data = '{\"state\":\"queued\"}' WHERE id = 1", "it was charged and is queued"),
        ("UPDATE jobs SET data = '{\"state\":\"queued\"}' WHERE id = 1", "it is queued at rest"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM batches", "refers to a row of batches"),
    ] {
        let rig = rest().await;
        let database = format!("sqlite://{}", rig.data_dir().join("klingd.db").display());
        let mut connection = SqliteConnection::connect(&database).await.unwrap();
        sqlx::raw_sql(damage).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        complains(&broken_at_rest(&facts(&rig).await), of);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaked_key_is_noticed() {
    let rig = rest().await;
    use std::io::Write as _;
    let mut leak = fs::File::create(rig.data_dir().join("somewhere")).unwrap();
    write!(leak, "Authorization: Bearer {KEY}").unwrap();
    let found: Facts = facts(&rig).await;
    complains(&broken_at_any_instant(&found), "the key is in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_link_in_a_file_and_what_has_grown_are_noticed() {
    let rig = rest().await;
    use std::io::Write as _;
    let mut sidecar = fs::File::create(rig.data_dir().join("1.json")).unwrap();
    write!(sidecar, "http://127.0.0.1/videos/n75a/1.mp4?sig=0f3a").unwrap();
    complains(&broken_at_any_instant(&facts(&rig).await), "a signed link is in");

    let mut found = facts(&rig).await;
    (found.wal_bytes, found.descriptors) = (100 << 20, 1000);
    complains(&broken_at_any_instant(&found), "the WAL has grown");
    complains(&broken_at_any_instant(&found), "a daemon had 1000 descriptors");
}

/// A daemon of somebody else's run, with another key, must not pay at this rig's double.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stray_daemon_of_another_rig_pays_nothing_here() {
    let rig = Rig::with_jobs(1, Setup::default()).await;
    let mut stray = Rig::with_jobs(1, Setup::default()).await;
    stray.set("KLINGD_API__BASE_URL", rig.sandbox.base_url());
    stray.end(stray.start()).await.exited(10);
    assert!(rig.sandbox.requests().iter().any(|request| !request.authorised), "the stray came here");
    assert_eq!(rig.sandbox.ledger().len(), 0);
    rig.finish().await;
}
