//! The watched folder, rule by rule, with real folders and through the daemon's own loop: what is dropped is queued once,
//! moved and reported; what is no job stays; what is wrong is said and recovered from.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "people and file servers rename as they like")]
#![expect(clippy::print_stdout, reason = "a test says what it skipped")]

mod common;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Rig, ms, now, provider};
use klingd::{
    daemon::Ended,
    domain::{Credits, HoldName, Job, hold::Hold, state::Label},
    sandbox::Options,
    store::{Access, Store, view::Filter},
};
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A run that ends well: nothing failed, nobody is needed.
const WELL: Ended = Ended::Idle { failed: 0, needs_person: 0 };
/// Longer than any of this takes; it only bounds a failing test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A rig whose folder takes files at first sight, unless a test says otherwise.
async fn rig() -> Rig {
    let mut rig = Rig::with(Options { ..provider() }).await;
    (rig.config.inbox.settle, rig.config.inbox.scan_every) = (Duration::ZERO, ms(20));
    rig
}

/// As [`rig`], with the three folders in a place of their own, as on a share.
async fn on_a_share() -> (Rig, TempDir) {
    let (mut rig, share) = (rig().await, tempfile::tempdir().unwrap());
    share_folders(&mut rig, share.path());
    (rig, share)
}

fn share_folders(rig: &mut Rig, share: &Path) {
    rig.config.inbox.path = share.join("inbox");
    rig.config.inbox.accepted = share.join("accepted");
    rig.config.inbox.rejected = share.join("rejected");
}

/// The cheapest job, as a person writes it.
fn toml(prompt: &str, more: &str) -> String {
    format!("type = 'std-text-to-video'\nprompt = '{prompt}'\nduration = 3\nsound = false\n{more}")
}

/// Writes a file where it is to be found, with the folders on the way.
fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn put(rig: &Rig, name: &str, text: &str) {
    write(&rig.config.inbox.path.join(name), text);
}

/// What lies below a folder, the folders themselves left out; the day is called DATE.
fn below(folder: &Path) -> BTreeSet<String> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), root, found);
            } else {
                found.insert(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(folder, folder, &mut found);
    let day = today();
    found.into_iter().map(|path| path.replace(&day, "DATE")).collect()
}

fn today() -> String {
    klingd::clock::local(now()).date().to_string()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn accepted(rig: &Rig, name: &str) -> PathBuf {
    rig.config.inbox.accepted.join(today()).join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

async fn jobs(rig: &Rig) -> Vec<Job> {
    rig.store.list(&Filter { all: true, ..Filter::default() }).await.unwrap()
}

/// Runs the daemon while `person` does something, then stops it.
async fn beside<T>(rig: &Rig, person: impl AsyncFnOnce() -> T) -> T {
    let stop = CancellationToken::new();
    let person = async {
        let value = tokio::time::timeout(PATIENCE, person()).await.expect("what was waited for never came");
        stop.cancel();
        value
    };
    let (ended, value) = tokio::join!(rig.daemon(false, stop.clone()), person);
    assert_eq!(ended, Ended::Stopped);
    value
}

/// Looks again and again until it is so, for rows and files that nobody announces.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    while !is_so().await {
        tokio::task::yield_now().await;
    }
}

async fn trouble(rig: &Rig) -> Option<String> {
    rig.store.inbox_view(now()).await.unwrap().trouble.map(|(text, _)| text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_file_becomes_its_videos_and_says_where_they_are() {
    let rig = rig().await;
    put(&rig, "cat.toml", &toml("a cat", "name = 'cat'\n"));
    put(&rig, "acme/spring/two.jsonl", &["a fox", "a dog"].map(line).join("\n"));
    put(&rig, "acme/one.JSON", &line("a bird"));
    assert_eq!(rig.run().await, WELL);

    let all = jobs(&rig).await;
    let by = |prompt: &str| all.iter().find(|job| job.request.prompt() == prompt).unwrap();
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|job| job.state.label() == Label::Done));
    assert_eq!((by("a cat").batch.as_deref(), by("a cat").source.as_str()), (Some("cat"), "cat.toml"));
    assert!(by("a cat").tags.is_empty());
    assert_eq!(by("a bird").tags, ["acme"]);
    assert_eq!(by("a dog").tags, ["acme", "spring"]);

    assert_eq!(below(&rig.config.inbox.path), set([".klingd-inbox"]));
    let files = ["cat.toml", "one.JSON", "two.jsonl"];
    let expected =
        files.into_iter().flat_map(|name| [format!("DATE/{name}"), format!("DATE/{name}.status.txt")]);
    assert_eq!(below(&rig.config.inbox.accepted), expected.collect());
    assert!(below(&rig.config.inbox.rejected).is_empty());
    let status = read(&accepted(&rig, "two.jsonl.status.txt"));
    for prompt in ["a fox", "a dog"] {
        let job = by(prompt);
        let video = rig.videos(job.id).await.remove(0);
        let row = status.lines().find(|line| line.trim_start().starts_with(&job.id.to_string())).unwrap();
        assert!(row.contains("done") && row.ends_with(video.to_str().unwrap()), "{status}");
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(
        mode(&rig.config.inbox.accepted),
        0o2770,
        "the group may take files away, and keeps reading them"
    );
    assert_eq!(mode(&accepted(&rig, "cat.toml.status.txt")) & 0o007, 0);
    rig.check().await;
}

fn line(prompt: &str) -> String {
    format!(r#"{{"type": "std-text-to-video", "prompt": "{prompt}", "duration": 3, "sound": false}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_is_explained_and_taken_once_it_is_mended() {
    let rig = rig().await;
    put(&rig, "dog.toml", &toml("a dog", "durashion = 5\n"));
    assert_eq!(rig.run().await, WELL);
    assert!(jobs(&rig).await.is_empty());
    assert_eq!(below(&rig.config.inbox.rejected), set(["dog.toml", "dog.toml.errors.txt"]));
    let errors = read(&rig.config.inbox.rejected.join("dog.toml.errors.txt"));
    assert!(errors.contains("unknown key `durashion`") && errors.contains("dog.toml:5:1"), "{errors}");
    assert!(
        errors.contains("did you mean `duration`?") && errors.contains("Nothing of it was queued"),
        "{errors}"
    );

    // Still wrong, then right. What was explained before stays.
    put(&rig, "dog.toml", &toml("a dog", "sounds = 5\n"));
    assert_eq!(rig.run().await, WELL);
    put(&rig, "dog.toml", &toml("a dog", ""));
    assert_eq!(rig.run().await, WELL);
    assert_eq!(jobs(&rig).await.len(), 1);
    assert_eq!(below(&rig.config.inbox.accepted), set(["DATE/dog.toml", "DATE/dog.toml.status.txt"]));
    let kept = ["dog.toml", "dog.toml.errors.txt", "dog-2.toml", "dog-2.toml.errors.txt"];
    assert_eq!(below(&rig.config.inbox.rejected), set(kept));
    assert!(read(&rig.config.inbox.rejected.join("dog.toml")).contains("durashion"));
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_job_file_of_this_folder_stays_where_it_is() {
    // Not in the rig's own directory: its check reads every file there, and the pipe has no end.
    let (rig, _share) = on_a_share().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let precious = elsewhere.path().join("precious.toml");
    write(&precious, &toml("not dropped", ""));
    let inbox = &rig.config.inbox.path;
    for name in [
        ".hidden.toml",
        "~cat.toml",
        "~$cat.json",
        "cat.toml.part",
        "cat.toml.tmp",
        "._cat.toml",
        "cat.toml~",
        "cat.txt",
        ".git/a.toml",
        "1/2/3/4/5/6/7/8/9/deep.toml",
    ] {
        put(&rig, name, &toml("not a job", ""));
    }
    put(&rig, "empty.toml", "");
    symlink(&precious, inbox.join("link.toml")).unwrap();
    symlink(elsewhere.path(), inbox.join("folder")).unwrap();
    symlink("nowhere", inbox.join("dangling.toml")).unwrap();
    fs::hard_link(&precious, inbox.join("second-name.toml")).unwrap();
    let pipe = rustix::fs::mknodat(
        rustix::fs::CWD,
        inbox.join("pipe.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    );
    pipe.unwrap();
    let before = below(inbox);
    assert_eq!(before.len(), 16);

    assert_eq!(rig.run().await, WELL);
    let mark = set([".klingd-inbox"]);
    assert_eq!(below(inbox), &before | &mark);
    assert!(jobs(&rig).await.is_empty() && rig.posts().is_empty());
    assert!(below(&rig.config.inbox.accepted).is_empty() && below(&rig.config.inbox.rejected).is_empty());
    assert!(read(&precious).contains("not dropped"));

    // Done with: the second name is gone, the empty file is filled.
    fs::remove_file(&precious).unwrap();
    put(&rig, "empty.toml", &toml("filled", ""));
    assert_eq!(rig.run().await, WELL);
    let mut prompts: Vec<_> = jobs(&rig).await.iter().map(|job| job.request.prompt().to_owned()).collect();
    prompts.sort();
    assert_eq!(prompts, ["filled", "not dropped"]);
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_too_many_or_too_dear_is_rejected_with_the_figure() {
    let mut rig = rig().await;
    (rig.config.inbox.max_jobs_per_file, rig.config.inbox.max_credits_per_file) =
        (5, Some(Credits::new(300)));
    put(&rig, "large.toml", &toml("large", ""));
    let large = File::options().write(true).open(rig.config.inbox.path.join("large.toml")).unwrap();
    large.set_len((1 << 20) + 1).unwrap();
    put(&rig, "many.toml", &toml("many", "takes = 6\n"));
    put(&rig, "dear.toml", &toml("dear", "takes = 3\n"));
    put(&rig, &format!("{}/tag.toml", "x".repeat(61)), &toml("tag", ""));
    put(&rig, "fits.toml", &toml("fits", "takes = 2\n"));
    assert_eq!(rig.run().await, WELL);
    for (name, words) in [
        ("large.toml", "it has 1048577 bytes; a file of its kind may have 1 MiB"),
        ("many.toml", "more than 5 jobs"),
        ("dear.toml", "its jobs cost 360 credits together; inbox.max_credits_per_file allows 300"),
        ("tag.toml", "a tag has 61 characters; at most 60"),
    ] {
        let errors = read(&rig.config.inbox.rejected.join(format!("{name}.errors.txt")));
        assert!(errors.contains(words), "{errors}");
    }
    assert_eq!(jobs(&rig).await.len(), 2);
    assert_eq!(below(&rig.config.inbox.path), set([".klingd-inbox"]));
    rig.sandbox.tasks().iter().for_each(|task| assert_eq!(task.prompt, "fits"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_overwritten_and_nothing_is_queued_twice() {
    let rig = rig().await;
    write(&accepted(&rig, "cat.toml"), "a person's own");
    write(&accepted(&rig, "cat-2.toml.status.txt"), "another one");
    put(&rig, "cat.toml", &toml("a cat", ""));
    put(&rig, "sub/cat.toml", &toml("another cat", ""));
    assert_eq!(rig.run().await, WELL);
    put(&rig, "same.toml", &toml("a cat", ""));
    assert_eq!(rig.run().await, WELL);

    assert_eq!(jobs(&rig).await.len(), 2);
    assert_eq!(read(&accepted(&rig, "cat.toml")), "a person's own");
    assert_eq!(read(&accepted(&rig, "cat-2.toml.status.txt")), "another one");
    assert_eq!(
        below(&rig.config.inbox.accepted),
        set([
            "DATE/cat.toml",
            "DATE/cat-2.toml.status.txt",
            "DATE/cat-3.toml",
            "DATE/cat-3.toml.status.txt",
            "DATE/cat-4.toml",
            "DATE/cat-4.toml.status.txt",
            "DATE/same.toml",
            "DATE/same.toml.status.txt",
        ])
    );
    let same = read(&accepted(&rig, "same.toml.status.txt"));
    assert!(same.contains("0 jobs, 0 credits") && same.contains("Queued before, and not again: 1"), "{same}");
    assert!(same.contains("done"), "{same}");
    rig.check().await;
}

/// With a rest of ten minutes only what was renamed in can be taken before the test ends: so the events are heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_renamed_in_is_taken_at_once_and_what_is_written_must_rest() {
    let mut rig = rig().await;
    (rig.config.inbox.settle, rig.config.inbox.scan_every) =
        (Duration::from_secs(600), Duration::from_secs(600));
    put(&rig, "slow.toml", &toml("written slowly", ""));
    let (inbox, data) = (rig.config.inbox.path.clone(), rig.config.data_dir.clone());
    beside(&rig, async || {
        // The first look has been when the mark is there; the watch is set right after it.
        until(async || inbox.join(".klingd-inbox").exists()).await;
        let mut n = 0;
        until(async || {
            n += 1;
            write(&data.join("whole"), &toml(&format!("whole {n}"), ""));
            fs::rename(data.join("whole"), inbox.join(format!("whole-{n}.toml"))).unwrap();
            !jobs(&rig).await.is_empty()
        })
        .await;
    })
    .await;
    assert!(jobs(&rig).await.iter().all(|job| job.request.prompt().starts_with("whole")));
    assert!(below(&inbox).contains("slow.toml"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_gone_or_unmounted_is_said_and_found_again() {
    let (rig, share) = on_a_share().await;
    put(&rig, "first.toml", &toml("first", ""));
    assert_eq!(rig.run().await, WELL);
    let (inbox, away) = (rig.config.inbox.path.clone(), share.path().join("away"));
    beside(&rig, async || {
        until(async || trouble(&rig).await.is_none()).await;
        fs::rename(&inbox, &away).unwrap();
        until(async || trouble(&rig).await.is_some_and(|text| text.contains("is its disk mounted?"))).await;
        assert!(!inbox.exists(), "it is not made again: it may be a mount point's");

        fs::create_dir(&inbox).unwrap();
        until(async || trouble(&rig).await.is_some_and(|text| text.contains("seems not to be mounted")))
            .await;
        assert!(below(&inbox).is_empty(), "no mark is left in an empty mount point");

        fs::remove_dir(&inbox).unwrap();
        fs::rename(&away, &inbox).unwrap();
        put(&rig, "second.toml", &toml("second", ""));
        until(async || jobs(&rig).await.len() == 2 && trouble(&rig).await.is_none()).await;

        // A new folder on purpose: who drops a file means it.
        fs::rename(&inbox, &away).unwrap();
        put(&rig, "third.toml", &toml("third", ""));
        until(async || jobs(&rig).await.len() == 3).await;
        // The third may have come in the middle of a look, which had seen the mark of the old folder.
        put(&rig, "fourth.toml", &toml("fourth", ""));
        until(async || jobs(&rig).await.len() == 4 && trouble(&rig).await.is_none()).await;
        assert!(inbox.join(".klingd-inbox").exists());
    })
    .await;
    assert_eq!(rig.run().await, WELL);
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_cant_be_used_leaves_files_where_their_owners_see_them() {
    let (rig, share) = on_a_share().await;
    // Not a folder, as root may write everywhere.
    File::create(share.path().join("accepted")).unwrap();
    put(&rig, "cat.toml", &toml("a cat", ""));
    beside(&rig, async || {
        until(async || trouble(&rig).await.is_some_and(|text| text.contains("accepted"))).await;
        assert!(below(&rig.config.inbox.path).contains("cat.toml"), "not claimed, not queued");
        assert!(jobs(&rig).await.is_empty());
        fs::remove_file(share.path().join("accepted")).unwrap();
        until(async || jobs(&rig).await.len() == 1 && trouble(&rig).await.is_none()).await;
    })
    .await;
    assert_eq!(rig.run().await, WELL);
    assert_eq!(below(&rig.config.inbox.accepted), set(["DATE/cat.toml", "DATE/cat.toml.status.txt"]));
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_stays_current_and_ends_with_its_file() {
    let rig = rig().await;
    rig.hold(HoldName::Paused).await;
    put(&rig, "cat.toml", &toml("a cat", ""));
    put(&rig, "dog.toml", &toml("a dog", ""));
    let status = accepted(&rig, "cat.toml.status.txt");
    beside(&rig, async || until(async || status.exists() && jobs(&rig).await.len() == 2).await).await;
    assert!(read(&status).contains("queued"), "{}", read(&status));
    // Cleared away by a person: nothing comes back. The other one's is renewed, whoever changes the job.
    fs::remove_file(accepted(&rig, "dog.toml")).unwrap();
    let dog = accepted(&rig, "dog.toml.status.txt");
    if dog.exists() {
        fs::remove_file(&dog).unwrap();
    }
    let cat = jobs(&rig).await.into_iter().find(|job| job.request.prompt() == "a cat").unwrap();
    rig.store.cancel(cat.id, false, now()).await.unwrap();
    rig.resume(HoldName::Paused).await;
    assert_eq!(rig.run().await, WELL);
    assert!(read(&status).contains("cancelled"), "{}", read(&status));
    assert!(!dog.exists());
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_on_one_share_never_take_the_same_file() {
    const FILES: usize = 24;
    let (one, share) = on_a_share().await;
    let mut other = rig().await;
    share_folders(&mut other, share.path());
    for n in 0..FILES {
        // Paid again whatever the keys say: only the claim keeps it from being taken twice.
        put(&one, &format!("{n}.toml"), &toml(&format!("job {n}"), "again = true\n"));
    }
    let ended = tokio::join!(one.run(), other.run());
    assert_eq!(ended, (WELL, WELL));
    let all = [jobs(&one).await, jobs(&other).await].concat();
    let prompts: BTreeSet<_> = all.iter().map(|job| job.request.prompt().to_owned()).collect();
    assert_eq!((all.len(), prompts.len()), (FILES, FILES));
    assert_eq!(one.sandbox.tasks().len() + other.sandbox.tasks().len(), FILES);
    assert_eq!(below(&one.config.inbox.accepted).len(), 2 * FILES);
    assert_eq!(below(&one.config.inbox.path), set([".klingd-inbox"]));
}

/// Two queues with one name would finish each other's claims, and pay for the file twice.
#[tokio::test]
async fn a_copy_of_a_queue_leaves_that_ones_claims_alone() {
    let rig = rig().await;
    put(&rig, "a.toml", &toml("a fox", ""));
    assert_eq!(rig.run().await, WELL);
    let original = rig.store.inbox_queue(0).await.unwrap();
    let claimed = format!(".klingd-{original:08x}-0123456789abcdef~b.toml");
    put(&rig, &claimed, &toml("a hen", ""));
    let why = "a test copied it".into();
    rig.store.hold_copy(Hold::new(HoldName::Restored, why, now())).await.unwrap();
    assert_eq!(rig.run().await, WELL);
    assert_eq!(below(&rig.config.inbox.path), set([".klingd-inbox", &*claimed]));
    // It may have been copied once more while it was held; now a person lets it go on, and the daemon runs.
    let held = rig.store.inbox_queue(1).await.unwrap();
    let running = async || {
        assert_eq!(rig.store.lift(vec![HoldName::Restored]).await.unwrap(), [HoldName::Restored]);
        let own = rig.store.inbox_queue(2).await.unwrap();
        put(&rig, "c.toml", &toml("a cow", ""));
        until(async || accepted(&rig, "c.toml").exists()).await;
        own
    };
    let own = beside(&rig, running).await;
    assert!(held != original && own != held, "{original} {held} {own}");
    let mut database = SqliteConnection::connect(rig.config.database().to_str().unwrap()).await.unwrap();
    let last = "SELECT claim FROM inbox_files ORDER BY id DESC LIMIT 1";
    let claim: String = sqlx::query_scalar(last).fetch_one(&mut database).await.unwrap();
    assert!(claim.starts_with(&format!("{own:08x}-")), "{claim} is made under the name of before");
    assert_eq!(jobs(&rig).await.len(), 2);
}

/// The first of them is on its way to the provider before the last one is queued.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_files_at_once_do_not_starve_the_workers() {
    const FILES: usize = 100;
    let rig = rig().await;
    for n in 0..FILES {
        put(&rig, &format!("{n}.toml"), &toml(&format!("job {n}"), ""));
    }
    beside(&rig, async || until(async || jobs(&rig).await.len() == FILES).await).await;
    let all = jobs(&rig).await;
    let last = all.iter().map(|job| job.created_at).max().unwrap();
    assert!(all.iter().any(|job| job.submitted_at.is_some_and(|at| at < last)), "nobody got a turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_another_filesystem_a_file_is_copied() {
    let (mut rig, share) = on_a_share().await;
    let Some(elsewhere) = another_filesystem(share.path()) else { return };
    rig.config.inbox.accepted = elsewhere.path().join("accepted");
    let text = toml("a cat", "");
    put(&rig, "cat.toml", &text);
    assert_eq!(rig.run().await, WELL);
    assert_eq!(read(&accepted(&rig, "cat.toml")), text);
    assert_eq!(below(&rig.config.inbox.accepted), set(["DATE/cat.toml", "DATE/cat.toml.status.txt"]));
    assert_eq!(below(&rig.config.inbox.path), set([".klingd-inbox"]));
}

fn another_filesystem(than: &Path) -> Option<TempDir> {
    let found = tempfile::tempdir_in("/dev/shm").ok();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let found = found.filter(|found| device(found.path()) != device(than));
    if found.is_none() {
        println!("SKIPPED: /dev/shm is no other filesystem here");
    }
    found
}

/// A queue of the first version, with a job in it, is brought up by a start; its job is as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_queue_gets_its_inbox() {
    let (dir, first) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/0001_jobs.sql");
    fs::copy(schema, first.path().join("0001_jobs.sql")).unwrap();
    let path = dir.path().join("klingd.db");
    let mut old = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    sqlx::migrate::Migrator::new(first.path())
        .await
        .unwrap()
        .run_direct(None, &mut old, false)
        .await
        .unwrap();
    let one = "PRAGMA application_id = 1263291975;
        INSERT INTO batches VALUES (1, 'b', 's', 0);
        INSERT INTO jobs (version, state, data, lane, needs_person, in_flight, priority, batch_id, tags, take, key, type, request, estimate, created_at, source)
        VALUES (1, 'queued', '{\"state\":\"queued\"}', 'submit', 0, 0, 0, 1, '[]', 1, 'k', 'std-text-to-video',
            '{\"type\":\"std-text-to-video\",\"prompt\":\"old\",\"duration\":3,\"sound\":false}', 120, 0, 's');
        INSERT INTO history VALUES (1, 1, 0, '{\"event\":\"enqueued\"}', NULL, 'queued');";
    sqlx::raw_sql(one).execute(&mut old).await.unwrap();
    old.close().await.unwrap();

    assert!(Store::open(&path, Access::Use).await.is_err(), "only the daemon migrates");
    let (store, writer) = Store::open(&path, Access::Migrate).await.unwrap();
    let look = async {
        let jobs = store.list(&Filter { all: true, ..Filter::default() }).await.unwrap();
        assert_eq!(jobs.iter().map(|job| job.request.prompt()).collect::<Vec<_>>(), ["old"]);
        store.cancel(jobs[0].id, false, now()).await.unwrap();
        assert_eq!(store.inbox_view(now()).await.unwrap(), Default::default());
        assert!(!store.files_pending().await.unwrap());
        assert_eq!(store.check().await.unwrap(), [""; 0]);
        drop(store);
    };
    let (written, ()) = tokio::join!(writer.run(), look);
    written.unwrap();
    assert!(dir.path().join("klingd.schema-1.bak").exists());
}
