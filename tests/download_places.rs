//! Where downloads go, in which order, and what is left of those that nobody wants any more.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::PathBuf, time::Duration};

use common::{Rig, is_fetch, job, now, provider, seen};
use klingd::{
    daemon::{self, Ended},
    domain::{
        AttemptNo, Event, HoldName, JobId, TaskId, Timestamp,
        event::Source,
        evidence::Evidence,
        gate::GateNews,
        hold::Hold,
        plan::{
            download::{FetchPlan, Verify},
            poll::PollPlan,
            submit::SubmitPlan,
        },
        retry::Dice,
        state::Label,
    },
    sandbox::Options,
    store::{Access, Store, download::FetchFailure, submit::SubmitOutcome},
};

const HOUR: Duration = Duration::from_secs(3600);

/// The task of `job` succeeds: its link is as old as `at`.
async fn rendered(rig: &Rig, job: JobId, attempt: AttemptNo, at: Timestamp) {
    let gate = daemon::claim_policy(&rig.config, "").gate;
    let task = TaskId::parse(&format!("n75rig{job}")).unwrap();
    let event = Event::Accepted { attempt, task, charged: None, source: Source::Provider };
    let plan =
        SubmitPlan { event, due_at: at, gate: GateNews::Nothing, retry_after: None, hold: None, error: None };
    let (evidence, dice) = (Evidence::default(), Dice::new(0.5));
    let outcome = SubmitOutcome { job, attempt, plan, evidence, note: None, gate, now: at, dice };
    rig.store.settle_submit(outcome).await.unwrap();
    let event = Some(Event::Succeeded { outputs: 1, charged: None });
    let urls = vec!["https://cdn.example/v.mp4".into()];
    let plan = PollPlan { event, urls, due_at: at, quiet_until: None, hold: None, running: false };
    let version = rig.job(job).await.version;
    rig.store.settle_poll(job, version, plan, None, None, at).await.unwrap();
}

/// Jobs whose videos can be fetched, one for each age of its link.
async fn with_links(rig: &Rig, ages: &[Timestamp]) -> Vec<JobId> {
    for n in 0..ages.len() {
        rig.enqueue(&format!("fox {n}")).await;
    }
    let policy = daemon::claim_policy(&rig.config, "");
    let claimed = rig.store.claim_submits(10, &policy, now(), now()).await.unwrap().intents;
    assert_eq!(claimed.len(), ages.len());
    for (intent, at) in claimed.iter().zip(ages) {
        rendered(rig, intent.job, intent.attempt, *at).await;
    }
    claimed.iter().map(|intent| intent.job).collect()
}

#[tokio::test]
async fn the_link_nearest_its_end_goes_first() {
    let rig = Rig::new("").await;
    let t = now();
    let jobs = with_links(&rig, &[t - HOUR, t - 3 * HOUR, t - 2 * HOUR]).await;
    let due = rig.store.due_downloads(2, &Default::default(), t).await.unwrap().jobs;
    assert_eq!(due.iter().map(|job| job.id).collect::<Vec<_>>(), [jobs[1], jobs[2]]);
    let busy = [jobs[1]].into();
    let due = rig.store.due_downloads(1, &busy, t).await.unwrap().jobs;
    assert_eq!(due.iter().map(|job| job.id).collect::<Vec<_>>(), [jobs[2]]);
}

#[tokio::test]
async fn what_is_under_way_needs_room() {
    let rig = Rig::new("").await;
    assert_eq!(rig.store.seconds_under_way().await.unwrap(), 0);
    with_links(&rig, &[now(), now()]).await;
    rig.enqueue("queued: not paid").await;
    assert_eq!(rig.store.seconds_under_way().await.unwrap(), 6, "two of three seconds each");
}

#[tokio::test]
async fn the_clock_of_giving_up_stands_still_while_the_disk_is_in_trouble() {
    let rig = Rig::new("").await;
    let t = now();
    let jobs = with_links(&rig, &[t, t]).await;
    let fails = async |id: JobId, at: Timestamp| {
        let plan = FetchPlan { event: None, due_at: at + HOUR, from_zero: false, for_disk: false };
        let version = rig.job(id).await.version;
        let failed = FetchFailure { plan, counts: true, error: None };
        rig.store.settle_fetch_failure(id, version, 0, failed, at).await.unwrap();
    };
    fails(jobs[0], t).await;
    let why = "a test says so".to_owned();
    let hold = Hold { name: HoldName::Disk, since: t + HOUR, why, until: None, probe_at: None };
    rig.store.hold(hold).await.unwrap();
    fails(jobs[0], t + 2 * HOUR).await;
    fails(jobs[1], t + 2 * HOUR).await;
    rig.store.disk_is_back(t + 10 * HOUR).await.unwrap();
    assert_eq!(rig.held().await, []);
    let mut began = Vec::new();
    for id in jobs {
        began.push(rig.store.outputs(id).await.unwrap()[0].failing_since.unwrap());
        assert_eq!(rig.job(id).await.due_at, Some(t + 2 * HOUR + HOUR), "due already");
    }
    assert_eq!(began, [t + 9 * HOUR, t + 10 * HOUR], "one hour counts, and none");
}

#[tokio::test]
async fn the_temporary_files_of_a_cancelled_job_go_and_nobody_elses() {
    let faults = "video:cut=70000,video:stall=1000".parse().unwrap();
    let rig = Rig::with(Options { faults, video_bytes: Some(200_000), ..provider() }).await;
    let id = rig.enqueue("a fox").await;
    // The second request shows that the first one's bytes are on disk and recorded; it hangs until the daemon stops.
    rig.run_until(|model| seen(model, is_fetch) == 2).await;
    let part = PathBuf::from(&rig.store.outputs(id).await.unwrap()[0].partial.as_ref().unwrap().path);
    assert!(part.exists());
    let strangers = [part.with_file_name(".klingd-99-0.part"), rig.config.staging_dir().join("film.part")];
    let leftovers = [".klingd-99-0.part", &format!(".klingd-{id}-0.part")];
    let leftovers = leftovers.map(|name| rig.config.staging_dir().join(name));
    for path in strangers.iter().chain(&leftovers) {
        fs::File::create(path).unwrap();
    }
    rig.store.cancel(id, true, now()).await.unwrap();
    // Another one goes the whole way, so that the lane has looked.
    rig.enqueue("an owl").await;
    rig.run().await;
    assert_eq!(rig.label(id).await, Label::Cancelled);
    let there: Vec<_> = leftovers.iter().chain([&part]).filter(|path| path.exists()).collect();
    assert!(there.is_empty(), "{there:?}");
    assert!(strangers.iter().all(|path| path.exists()), "not a file that klingd made");
    assert_eq!(rig.store.to_clear(10).await.unwrap(), [], "looked for once");
    strangers.iter().for_each(|path| fs::remove_file(path).unwrap());
    rig.check().await;
}

#[tokio::test]
async fn what_was_begun_under_another_template_does_not_stay() {
    let faults = "video:cut=70000,video:stall=1000".parse().unwrap();
    let mut rig = Rig::with(Options { faults, video_bytes: Some(200_000), ..provider() }).await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, is_fetch) == 2).await;
    let part = PathBuf::from(&rig.store.outputs(id).await.unwrap()[0].partial.as_ref().unwrap().path);
    assert!(part.exists());
    rig.config.output.template = "elsewhere/{id}.mp4".into();
    rig.run().await;
    assert_eq!(rig.label(id).await, Label::Done);
    assert!(!part.exists());
    rig.check().await;
}

/// A server that sends a little all the time is never silent, and would hold its worker for ever.
#[tokio::test]
async fn a_cancelled_download_ends_while_it_drips() {
    let faults = "video:drip=100~fox".parse().unwrap();
    let mut rig = Rig::with(Options { faults, video_bytes: Some(2_000_000), ..provider() }).await;
    rig.config.download.idle_timeout = Duration::from_millis(300);
    rig.config.download.workers = 1;
    let id = rig.enqueue("a fox").await;
    let another_instead = async {
        rig.sandbox.wait_until(|model| seen(model, is_fetch) == 1).await;
        // Before the cancel: with nothing to wait for the daemon would be idle, and end.
        let next = rig.enqueue("an owl").await;
        rig.store.cancel(id, true, now()).await.unwrap();
        next
    };
    // The first would take three minutes, and the rig waits for one.
    let (_, next) = tokio::join!(rig.run(), another_instead);
    assert_eq!((rig.label(id).await, rig.label(next).await), (Label::Cancelled, Label::Done));
    // What it left is removed now and then, and at every start.
    rig.run().await;
    rig.check().await;
}

#[tokio::test]
async fn a_root_that_was_emptied_by_a_person_is_one_again_by_their_word() {
    let rig = Rig::new("").await;
    let first = rig.enqueue("a fox").await;
    rig.run().await;
    let root = rig.config.videos_root();
    assert!(root.join(klingd::disk::root::MARK).exists());
    fs::remove_dir_all(root).unwrap();
    fs::create_dir(root).unwrap();
    let second = rig.enqueue("an owl").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    let holds = rig.holds().await;
    assert!(holds.len() == 1 && holds[0].why.contains(".klingd-root"), "{holds:?}");
    assert_eq!(rig.posts().len(), 1, "nothing is paid for");
    fs::File::create(root.join(klingd::disk::root::MARK)).unwrap();
    rig.run().await;
    assert_eq!((rig.label(first).await, rig.label(second).await), (Label::Done, Label::Done));
}

#[tokio::test]
async fn a_video_is_checked_as_deep_as_it_is_asked() {
    for how in [Verify::Size, Verify::Structure, Verify::Decode] {
        let mut rig = Rig::new("").await;
        rig.config.output.verify = how;
        let id = rig.enqueue("a fox").await;
        rig.run().await;
        assert_eq!(rig.label(id).await, Label::Done, "{how:?}");
        let notes = rig.job(id).await.notes;
        let told = notes.iter().all(|note| note.contains("neither ffmpeg nor ffprobe is installed"));
        assert!(told, "{how:?}: {notes:?}");
        rig.check().await;
    }
    // Cut where nothing but the structure tells.
    let faults = "video:chunked-cut=70000".parse().unwrap();
    let mut rig = Rig::with(Options { faults, video_bytes: Some(200_000), ..provider() }).await;
    rig.config.output.verify = Verify::Size;
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    assert_eq!(fs::metadata(&rig.videos(id).await[0]).unwrap().len(), 70_000, "as it was asked");
}

/// A queue that the first schema wrote goes on under the next.
#[tokio::test]
async fn an_older_queue_is_migrated_with_its_downloads() {
    use sqlx::{Connection as _, SqliteConnection, migrate::Migrator};
    let dir = tempfile::tempdir().unwrap();
    let (old, database) = (dir.path().join("migrations"), dir.path().join("klingd.db"));
    fs::create_dir(&old).unwrap();
    fs::copy("migrations/0001_jobs.sql", old.join("0001_jobs.sql")).unwrap();
    let url = format!("sqlite://{}?mode=rwc", database.display());
    let mut c = SqliteConnection::connect(&url).await.unwrap();
    Migrator::new(old).await.unwrap().run_direct(None, &mut c, false).await.unwrap();
    let state = r#"{"state":"downloading","task":"n75old1","missing":[0],"link":"fresh"}"#;
    let request = String::from_utf8(job("a fox").request.to_bytes()).unwrap();
    sqlx::raw_sql(
        "PRAGMA application_id = 1263291975;
         INSERT INTO batches (id, name, source, created_at) VALUES (1, 'old', 'old', 1);
         INSERT INTO outputs (job_id, idx, url) SELECT 1, 0, 'https://cdn.example/v.mp4' WHERE 0;",
    )
    .execute(&mut c)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO jobs (id, version, state, data, lane, needs_person, in_flight, due_at, task_id, priority, batch_id,
            tags, take, key, type, request, estimate, created_at, source)
         VALUES (1, 3, 'downloading', ?, 'download', 0, 0, 1, 'n75old1', 0, 1, '[]', 1, 'k', 'std-text-to-video', ?, 1, 1, 'old')",
    )
    .bind(state)
    .bind(request)
    .execute(&mut c)
    .await
    .unwrap();
    sqlx::query("INSERT INTO outputs (job_id, idx, url) VALUES (1, 0, 'https://cdn.example/v.mp4')")
        .execute(&mut c)
        .await
        .unwrap();
    c.close().await.unwrap();

    let (store, writer) = Store::open(&database, Access::Migrate).await.unwrap();
    let asked = async move {
        let due = store.due_downloads(1, &Default::default(), now()).await.unwrap().jobs;
        (due.iter().map(|job| job.id.0).collect::<Vec<_>>(), store.outputs(JobId(1)).await.unwrap().len())
    };
    let (written, found) = tokio::join!(writer.run(), asked);
    written.unwrap();
    assert_eq!(found, (vec![1], 1));
    assert!(dir.path().join("klingd.schema-1.bak").exists(), "after a copy");
}
