//! A job that was paid twice, by a person's word: each of the two videos is fetched, and neither is forgotten.

mod common;

use std::{collections::BTreeSet, fs};

use common::{Rig, now};
use klingd::{
    domain::{AttemptNo, TaskId, state::Label},
    store::{StoreError, person::Resolution},
};

#[tokio::test]
async fn both_videos_of_a_job_that_was_paid_twice_are_fetched() {
    let rig = Rig::new("generate:close-after").await;
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    rig.all_fired();
    let first = AttemptNo(1);
    assert_eq!((rig.label(id).await, rig.sandbox.charges_for("a fox")), (Label::InDoubt, 1));
    rig.store.resolve(id, first, Resolution::Resubmit, None, now()).await.unwrap();
    rig.run().await;
    let second = rig.task(id).await;
    assert_eq!((rig.label(id).await, rig.sandbox.charges_for("a fox")), (Label::Done, 2));
    // The first is found in the provider's panel.
    let tasks = rig.sandbox.tasks().into_iter().map(|task| TaskId::parse(&task.id).unwrap());
    let found = tasks.into_iter().find(|task| *task != second).unwrap();
    rig.store.resolve(id, first, Resolution::Adopt(found.clone()), None, now()).await.unwrap();
    assert_eq!((rig.label(id).await, rig.store.unfollowed().await.unwrap()), (Label::Done, vec![id]));

    rig.store.follow_other(id, first, now()).await.unwrap();
    assert_eq!(rig.store.unfollowed().await.unwrap(), []);
    rig.run().await;
    assert_eq!((rig.label(id).await, rig.task(id).await), (Label::Done, found.clone()));
    assert_eq!(rig.posts().len(), 2, "fetched, not rendered");
    let files: BTreeSet<_> = rig.videos(id).await.iter().map(|path| fs::read(path).unwrap()).collect();
    let made = [second, found].map(|task| rig.sandbox.video(task.as_str(), 1).unwrap());
    assert_eq!(files, made.into_iter().collect(), "each of them under a name of its own");
    let job = rig.job(id).await;
    assert_eq!((job.paid_attempts, job.charged), (2, Some(common::prices(2))));
    assert_eq!(rig.store.replay(id).await.unwrap(), job.state);
    assert_eq!(rig.store.check().await.unwrap(), [""; 0]);

    let again = rig.store.follow_other(id, first, now()).await;
    assert!(matches!(again, Err(StoreError::Illegal { .. })), "{again:?}");
}

/// The first of two paid tasks was found late, and is one that failed: the second one's video is there all the same.
#[tokio::test]
async fn a_job_whose_other_task_failed_is_as_done_as_before() {
    let rig = Rig::new("generate:close-after,task:fail").await;
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    let first = AttemptNo(1);
    rig.store.resolve(id, first, Resolution::Resubmit, None, now()).await.unwrap();
    rig.run().await;
    rig.all_fired();
    let second = rig.task(id).await;
    let video = rig.videos(id).await;
    assert_eq!((rig.label(id).await, video.len()), (Label::Done, 1));
    let tasks = rig.sandbox.tasks().into_iter().map(|task| TaskId::parse(&task.id).unwrap());
    let found = tasks.into_iter().find(|task| *task != second).unwrap();
    rig.store.resolve(id, first, Resolution::Adopt(found), None, now()).await.unwrap();
    rig.store.follow_other(id, first, now()).await.unwrap();
    rig.run().await;

    assert_eq!((rig.label(id).await, rig.task(id).await), (Label::Done, second));
    assert_eq!((rig.videos(id).await, rig.store.unfollowed().await.unwrap()), (video, vec![]));
    let job = rig.job(id).await;
    assert!(job.notes.iter().any(|note| note.contains("its second paid task failed")), "{:?}", job.notes);
    assert_eq!((job.error, rig.posts().len()), (None, 2));
    assert_eq!(rig.store.replay(id).await.unwrap(), job.state);
    assert_eq!(rig.store.check().await.unwrap(), [""; 0]);
}
