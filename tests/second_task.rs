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
