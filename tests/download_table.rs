//! Every row of the download table: the video of a paid task meets one fault on its way, and exactly the row's reaction
//! follows. Whatever it is, the job is charged once, nothing is generated again, and the file is exact in the end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::Path, time::Duration};

use common::{Rig, draft, is_fetch, is_poll, ms, new_job, provider, seen};
use futures_util::future::join_all;
use klingd::{
    daemon::Ended,
    domain::{
        Event, JobId, Reason, State,
        job::NewJob,
        plan::retry::RetryPlan,
        request::Draft,
        state::{Charged, Failure, Label, Link},
    },
    sandbox::{Options, SeenRequest},
};

/// Videos in these tests: long enough to be cut, short enough to be quick.
const SIZE: u64 = 200_000;
/// Where they are cut.
const CUT: u64 = 70_000;

fn with_faults(faults: &str) -> Options {
    Options { faults: faults.parse().unwrap(), video_bytes: Some(SIZE), ..provider() }
}

/// A job whose video meets these faults is done all the same, with an exact file.
async fn arrives(faults: &str) -> (Rig, JobId) {
    let mut rig = Rig::with(with_faults(faults)).await;
    if ["stall", "drip"].iter().any(|slow| faults.contains(slow)) {
        // For these alone, and not too short: on a machine that is busy every answer may come late.
        rig.config.download.idle_timeout = ms(1000);
    }
    let id = rig.enqueue("a fox").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 }, "{faults}");
    rig.all_fired();
    is_done(&rig, id, faults).await;
    (rig, id)
}

/// Done with one submit and one charge; [`Rig::check`] compares the file.
async fn is_done(rig: &Rig, id: JobId, what: &str) {
    assert_eq!(rig.label(id).await, Label::Done, "{what}");
    assert_eq!((rig.posts().len(), rig.sandbox.ledger().len()), (1, 1), "{what}: nothing is generated again");
    assert_eq!(rig.held().await, [], "{what}");
    rig.check().await;
}

/// How often a fresh link was asked for.
async fn renewals(rig: &Rig, id: JobId) -> usize {
    let history = rig.history(id).await;
    history.iter().filter(|row| matches!(row.event, Event::LinkRenewed)).count()
}

/// The first byte that each request for the video asked for.
fn asked_from(rig: &Rig) -> Vec<Option<u64>> {
    rig.fetches().iter().map(first_byte).collect()
}

fn first_byte(request: &SeenRequest) -> Option<u64> {
    let range = request.range.as_deref()?.strip_prefix("bytes=")?.strip_suffix('-')?;
    Some(range.parse().unwrap())
}

// Cut on the way.

#[tokio::test]
async fn a_cut_or_stalled_video_is_resumed_where_it_ended() {
    join_all(["cut", "stall"].map(|fault| async move {
        let (rig, id) = arrives(&format!("video:{fault}={CUT}")).await;
        assert_eq!(asked_from(&rig), [None, Some(CUT)], "{fault}");
        assert_eq!(renewals(&rig, id).await, 0, "{fault}: the link is still good");
    }))
    .await;
}

#[tokio::test]
async fn a_reset_video_is_resumed_with_what_came() {
    let (rig, _) = arrives(&format!("video:reset={CUT}")).await;
    let [None, rest] = asked_from(&rig)[..] else { panic!("{:?}", rig.fetches()) };
    // An RST takes bytes with it that were on their way; without any there is nothing to resume.
    assert!(rest.is_none_or(|from| from <= CUT), "{rest:?}");
}

#[tokio::test]
async fn a_video_that_is_cut_again_and_again_is_resumed_each_time() {
    let (rig, _) = arrives("video:cut=50000@1-3").await;
    assert_eq!(asked_from(&rig), [None, Some(50_000), Some(100_000), Some(150_000)]);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_first_byte_is_tried_again() {
    join_all(["cut=0", "stall=0", "reset=0"].map(|fault| async move {
        let (rig, _) = arrives(&format!("video:{fault}")).await;
        assert_eq!(asked_from(&rig), [None, None], "{fault}");
    }))
    .await;
}

#[tokio::test]
async fn a_slow_video_is_not_a_stalled_one() {
    // Two hundred pieces, none of them late, all of them together later than the idle timeout.
    let (rig, _) = arrives("video:drip=10").await;
    assert_eq!(rig.fetches().len(), 1);
}

#[tokio::test]
async fn a_chunked_video_that_looks_complete_is_found_cut_by_its_structure() {
    let (rig, id) = arrives(&format!("video:chunked-cut={CUT}")).await;
    assert_eq!(asked_from(&rig), [None, None], "what was wrong is not resumed");
    assert_eq!(suspects(&rig, id).await, 1, "kept for a person to look at");
}

#[tokio::test]
async fn a_length_that_lies_is_found_out() {
    let (rig, id) = arrives("video:lie-short=1000").await;
    assert_eq!((asked_from(&rig), suspects(&rig, id).await), (vec![None, None], 1));
    // One that promises more than there is: the rest is asked for, and there is none.
    let (rig, id) = arrives("video:lie-long=1000").await;
    assert_eq!((asked_from(&rig), suspects(&rig, id).await), (vec![None, Some(SIZE), None], 0));
}

async fn suspects(rig: &Rig, id: JobId) -> usize {
    let dir = rig.videos(id).await[0].parent().map(Path::to_owned).unwrap();
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(".suspect")).count()
}

// Something else in its place.

#[tokio::test]
async fn what_is_no_video_is_not_published_and_asked_for_again() {
    join_all(["html", "json", "xml", "empty", "not-mp4", "gzip"].map(|fault| async move {
        let (rig, id) = arrives(&format!("video:{fault}")).await;
        assert_eq!((asked_from(&rig), renewals(&rig, id).await), (vec![None, None], 0), "{fault}");
        // Twice, and the link is doubted.
        let (rig, id) = arrives(&format!("video:{fault}@1-2")).await;
        assert_eq!((rig.fetches().len(), renewals(&rig, id).await), (3, 1), "{fault}");
    }))
    .await;
}

// The link.

#[tokio::test]
async fn a_dead_link_is_renewed_and_nothing_is_generated_again() {
    join_all([403, 404, 410, 400].map(|status| async move {
        let (rig, id) = arrives(&format!("video:{status}@1-3")).await;
        assert_eq!(renewals(&rig, id).await, 3, "{status}");
        assert_eq!((rig.fetches().len(), rig.polls().len()), (4, 4), "{status}: status gives a fresh one");
    }))
    .await;
}

#[tokio::test]
async fn a_link_that_dies_in_the_middle_is_renewed_and_the_rest_fetched() {
    let (rig, id) = arrives(&format!("video:cut={CUT},video:403")).await;
    assert_eq!((asked_from(&rig), renewals(&rig, id).await), (vec![None, Some(CUT), Some(CUT)], 1));
}

#[tokio::test]
async fn the_file_stores_own_trouble_is_waited_for() {
    let faults = ["429", "429=1", "500", "502-html", "503-empty", "504", "408"];
    join_all(faults.map(|fault| async move {
        let (rig, id) = arrives(&format!("video:{fault}")).await;
        assert_eq!((rig.fetches().len(), renewals(&rig, id).await), (2, 0), "{fault}: the link may live");
    }))
    .await;
}

#[tokio::test]
async fn five_redirects_are_followed_and_more_are_not() {
    let (rig, id) = arrives("video:redirect=5").await;
    assert_eq!((rig.fetches().len(), renewals(&rig, id).await), (6, 0));
    join_all(["redirect=6", "redirect-loop", "redirect-to=ftp://127.0.0.1/x"].map(|fault| async move {
        let (rig, id) = arrives(&format!("video:{fault}")).await;
        assert_eq!(renewals(&rig, id).await, 1, "{fault}");
    }))
    .await;
}

#[tokio::test]
async fn a_link_into_our_own_network_is_not_fetched() {
    let mut rig = Rig::with(with_faults("")).await;
    rig.config.download.allow_private = false;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, is_poll) == 4).await;
    assert_eq!(rig.fetches(), [], "the double is on a loopback address");
    assert!(matches!(rig.job(id).await.state, State::Downloading { .. }));
    rig.config.download.allow_private = true;
    rig.run().await;
    is_done(&rig, id, "allowed").await;
}

#[tokio::test]
async fn links_that_stay_dead_are_given_up_and_followed_again_for_free() {
    let mut rig = Rig::with(with_faults("video:404@1-5")).await;
    rig.config.download.give_up = Duration::ZERO;
    let id = rig.enqueue("a fox").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    let job = rig.job(id).await;
    let State::Failed { failure, task: Some(_) } = &job.state else { panic!("{job:#?}") };
    assert_eq!((failure.code.as_str(), failure.charged), (Failure::LOST, Charged::Yes));
    assert_eq!(job.state.needs_person(), Some(Reason::Lost), "paid and stuck: a person is told");
    rig.check().await;

    assert_eq!(klingd::domain::plan::retry::retry(&job.state, true, false), Some(RetryPlan::Follow));
    rig.store.retry(id, RetryPlan::Follow, common::now()).await.unwrap();
    rig.run().await;
    is_done(&rig, id, "retried").await;
}

#[tokio::test]
async fn a_dead_link_whose_status_is_refused_says_so_and_is_given_up_too() {
    let mut rig = Rig::with(with_faults("video:404,status:403@2-99~fox")).await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, is_poll) == 4).await;
    let job = rig.job(id).await;
    assert!(matches!(job.state, State::Downloading { link: Link::Wanted, .. }));
    let error = job.error.expect("why it waits");
    assert!(error.message.contains("refused for its task alone"), "{error:?}");
    assert_eq!((error.code.as_str(), error.charged), (Failure::NOT_FETCHED, Charged::Yes));

    rig.config.download.give_up = Duration::ZERO;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    assert_eq!(rig.job(id).await.state.needs_person(), Some(Reason::Lost));
    assert_eq!((rig.posts().len(), rig.held().await), (1, vec![]), "nobody else is held up");
    rig.check().await;
}

#[tokio::test]
async fn a_video_that_grew_in_its_last_try_is_not_given_up() {
    // Five tries are enough to give up, and the fifth brought a part of the video before its link died.
    let mut rig = Rig::with(with_faults(&format!("video:404@1-4,video:cut={CUT}@5,video:404@6"))).await;
    rig.config.download.give_up = Duration::ZERO;
    let id = rig.enqueue("a fox").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    rig.all_fired();
    assert_eq!(asked_from(&rig)[4..], [None, Some(CUT), Some(CUT)]);
    is_done(&rig, id, "with progress").await;
    assert_eq!(rig.job(id).await.error, None, "nothing is left of what went wrong on the way");
}

#[tokio::test]
async fn a_video_that_has_its_name_is_not_fetched_again_with_a_lost_one() {
    let mut rig = Rig::with(with_faults("status:two-videos@*,video:404@2-6")).await;
    rig.config.download.give_up = Duration::ZERO;
    let id = rig.enqueue("a fox").await;
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 1 });
    let first = rig.videos(id).await.remove(0);
    // Somebody works with it already.
    let elsewhere = rig.config.data_dir.join("cutting-room.mp4");
    klingd::disk::rename_no_clobber(&first, &elsewhere).unwrap();
    rig.store.retry(id, RetryPlan::Follow, common::now()).await.unwrap();
    assert_eq!(rig.run().await, Ended::Idle { failed: 0, needs_person: 0 });
    rig.all_fired();
    assert!(!first.exists(), "it came once");
    assert_eq!(rig.fetches().iter().filter(|fetch| fetch.path.ends_with("/1.mp4")).count(), 1);
    klingd::disk::rename_no_clobber(&elsewhere, &first).unwrap();
    is_done(&rig, id, "both").await;
}

// Resuming against a server that does not play along.

#[tokio::test]
async fn a_range_that_is_not_what_was_asked_for_is_not_appended() {
    for (fault, asked) in [
        ("ignore-range", vec![None, Some(CUT)]),
        ("etag-changed", vec![None, Some(CUT)]),
        ("wrong-content-range", vec![None, Some(CUT), None]),
        ("416", vec![None, Some(CUT), None]),
    ] {
        let (rig, id) = arrives(&format!("video:cut={CUT},video:{fault}")).await;
        assert_eq!((asked_from(&rig), renewals(&rig, id).await), (asked, 0), "{fault}");
    }
}

#[tokio::test]
async fn a_download_is_resumed_after_a_restart() {
    // The second request shows that the first one's bytes are recorded; it hangs until the daemon stops.
    let rig = Rig::with(with_faults(&format!("video:cut={CUT},video:stall=1000"))).await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, is_fetch) == 2).await;
    assert!(matches!(rig.job(id).await.state, State::Downloading { link: Link::Fresh, .. }));
    rig.check().await;
    rig.run().await;
    rig.all_fired();
    let [None, Some(CUT), Some(resumed)] = asked_from(&rig)[..] else { panic!("{:?}", rig.fetches()) };
    assert!((CUT..=CUT + 1000).contains(&resumed), "{resumed}");
    is_done(&rig, id, "restarted").await;
}

#[tokio::test]
async fn a_part_that_vanished_is_fetched_again_from_its_start() {
    let rig = Rig::with(with_faults(&format!("video:cut={CUT},video:stall=1000"))).await;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, is_fetch) == 2).await;
    let part = rig.store.outputs(id).await.unwrap().remove(0).partial.expect("a part").path;
    fs::remove_file(part).unwrap();
    rig.run().await;
    assert_eq!(asked_from(&rig), [None, Some(CUT), None]);
    is_done(&rig, id, "without its part").await;
}

// What arrived.

#[tokio::test]
async fn every_video_of_a_task_is_fetched() {
    let (rig, id) = arrives("status:two-videos").await;
    let videos = rig.videos(id).await;
    let names: Vec<_> = videos.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let [first, second] = names[..] else { panic!("{names:?}") };
    let stem = first.strip_suffix(".mp4").unwrap();
    assert_eq!(second, format!("{stem}-2.mp4"));
}

#[tokio::test]
async fn one_of_two_videos_in_trouble_does_not_hold_up_the_other() {
    for (faults, expected) in [
        ("video:404", [1, 2, 1].as_slice()),
        ("video:404@2", &[1, 2, 2]),
        ("video:404@1-2", &[1, 2, 1, 2]),
        ("video:html", &[1, 2, 1]),
    ] {
        let (rig, id) = arrives(&format!("status:two-videos@*,{faults}")).await;
        let number = |fetch: &SeenRequest| if fetch.path.ends_with("/1.mp4") { 1 } else { 2 };
        assert_eq!(rig.fetches().iter().map(number).collect::<Vec<_>>(), expected, "{faults}");
        assert_eq!(rig.videos(id).await.len(), 2, "{faults}");
    }
}

#[tokio::test]
async fn two_jobs_of_one_name_overwrite_nothing() {
    let mut rig = Rig::with(with_faults("")).await;
    rig.config.output.template = "same.mp4".into();
    let jobs = [rig.enqueue("a fox").await, rig.enqueue("an owl").await];
    rig.run().await;
    let mut names = Vec::new();
    for id in jobs {
        names.extend(rig.videos(id).await.iter().map(|path| path.file_name().unwrap().to_owned()));
    }
    names.sort();
    assert_eq!(names, ["same-2.mp4", "same.mp4"]);
    rig.check().await;
}

fn with_sound() -> NewJob {
    new_job(&Draft { duration: Some(5), sound: Some(true), ..draft("a fox") })
}

#[tokio::test]
async fn a_video_that_is_not_quite_what_was_asked_for_is_kept_and_said() {
    for (fault, remark) in [("no-sound", "no sound track"), ("other-length", "5.0 s were asked for")] {
        let rig = Rig::new(&format!("task:{fault}")).await;
        let id = rig.enqueue_job(with_sound()).await;
        rig.run().await;
        rig.all_fired();
        let notes = rig.job(id).await.notes;
        assert!(notes.iter().any(|note| note.contains(remark)), "{fault}: {notes:?}");
        is_done(&rig, id, fault).await;
    }
    let rig = Rig::new("").await;
    let id = rig.enqueue_job(with_sound()).await;
    rig.run().await;
    assert_eq!(rig.job(id).await.notes, [""; 0], "nothing to say of one that is");
}

#[tokio::test]
async fn a_video_above_the_limit_is_not_swallowed_whole() {
    let mut rig = Rig::with(with_faults("")).await;
    rig.config.download.max_bytes = SIZE - 1;
    let id = rig.enqueue("a fox").await;
    rig.run_until(|model| seen(model, is_fetch) == 4).await;
    assert!(matches!(rig.job(id).await.state, State::Downloading { .. }), "paid: never given up for this");
    rig.config.download.max_bytes = SIZE;
    rig.run().await;
    is_done(&rig, id, "with room").await;
}
