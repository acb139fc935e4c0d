//! Settlement over real sockets: what klingd counts at the end is what the provider's own books say, whether a failed
//! task is paid back, paid back in part, or not, and whatever the price came to in the end.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{PRICE, Rig, job, prices, provider};
use klingd::{
    daemon::Ended,
    domain::{
        Credits, JobId, State,
        attempt::Charge,
        job::NewJob,
        state::{Charged, Failure, Label},
    },
    store::{enqueue::NewBatch, ledger::Sums, packed::Packed},
};

/// A job meets these faults and rests.
async fn ended(faults: &str) -> (Rig, JobId) {
    let rig = Rig::new(faults).await;
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    rig.all_fired();
    rig.check().await;
    (rig, id)
}

async fn failure(rig: &Rig, id: JobId) -> Failure {
    let State::Failed { failure, .. } = rig.job(id).await.state else { panic!("it did not fail") };
    failure
}

/// What the provider's account lost.
fn lost(rig: &Rig) -> u64 {
    u64::try_from(provider().balance - rig.sandbox.balance()).unwrap()
}

async fn sums(rig: &Rig) -> Sums {
    rig.store.sums_ever().await.unwrap()
}

#[tokio::test]
async fn the_books_agree_with_the_providers_balance() {
    let cases = [
        ("", [PRICE, 0], "", Charged::Yes),
        ("task:fail=No", [PRICE, PRICE], "refunded: the provider gave all 120 credits back", Charged::No),
        ("task:fail-keep=30", [PRICE, PRICE - 30], "refunded: the provider keeps 30 of 120", Charged::Yes),
        ("task:fail-no-refund=No", [PRICE, 0], "refund not confirmed: the provider still says", Charged::Yes),
        ("task:settle=150", [150, 0], "price drift: 150 credits were charged in the end, 120", Charged::Yes),
        ("task:settle=90", [90, 0], "price drift: 90 credits were charged in the end, 120", Charged::Yes),
        ("generate:other-credits=133", [133, 0], "price drift: 133 credits were charged, 120", Charged::Yes),
        ("generate:no-credits-field,task:fail=No", [PRICE, PRICE], "refunded: the provider", Charged::No),
    ];
    for (faults, [charged, refunded], note, kept) in cases {
        let (rig, id) = ended(faults).await;
        let books = sums(&rig).await;
        let expected =
            Sums { charged: Credits::new(charged), refunded: Credits::new(refunded), ..Sums::default() };
        assert_eq!(books, expected, "{faults}");
        assert_eq!(books.gone().get(), lost(&rig), "{faults}: the provider's balance");
        let job = rig.job(id).await;
        assert_eq!(job.charged.map(Credits::get), Some(charged - refunded), "{faults}: what the job shows");
        assert!(job.notes.iter().any(|n| n.contains(note)) || note.is_empty(), "{faults}: {:?}", job.notes);
        if matches!(job.state, State::Failed { .. }) {
            assert_eq!(failure(&rig, id).await.charged, kept, "{faults}");
        }
    }
}

/// What the provider does not say is not believed: it counts as spent although it came back.
#[tokio::test]
async fn a_refund_that_nobody_confirms_counts_as_spent() {
    for (fault, charged) in [("hide-refund", Charged::Yes), ("no-credits-field", Charged::Unknown)] {
        let (rig, id) = ended(&format!("task:fail=No,status:{fault}@*")).await;
        assert_eq!((sums(&rig).await.spent(), lost(&rig)), (prices(1), 0), "{fault}");
        assert_eq!(failure(&rig, id).await.charged, charged, "{fault}");
        let notes = rig.job(id).await.notes;
        assert!(notes.iter().any(|note| note.starts_with("refund not confirmed")), "{fault}: {notes:?}");
        assert!(!key_is_free(&rig).await, "{fault}: it may be paid, so it is not rendered again by accident");
    }
}

/// A price that nobody can have paid is none: the estimate counts, and the job ends as ever.
#[tokio::test]
async fn an_absurd_price_is_not_said() {
    // No check of the books: the provider's own are absurd.
    let rig = Rig::new("generate:other-credits=18446744073709551615").await;
    let id = rig.enqueue("a fox").await;
    rig.run().await;
    assert_eq!((rig.label(id).await, sums(&rig).await.gone()), (Label::Done, prices(1)));
    let notes = rig.job(id).await.notes;
    assert!(notes.iter().any(|note| note.contains("did not say what it charged")), "{notes:?}");
}

/// A refund of everything is an end that is provably uncharged: the key is free, and a retry asks for no new payment.
#[tokio::test]
async fn a_whole_refund_frees_the_key_and_a_part_of_it_does_not() {
    let (rig, id) = ended("task:fail=No").await;
    let [attempt] = &rig.attempts(id).await[..] else { panic!() };
    assert_eq!((attempt.charge.as_str(), attempt.refunded), (Charge::Free.as_str(), prices(1)));
    assert_eq!(rig.job(id).await.paid_attempts, 0);
    assert!(key_is_free(&rig).await);
    let (rig, _) = ended("task:fail-keep=1").await;
    assert!(!key_is_free(&rig).await);
}

async fn key_is_free(rig: &Rig) -> bool {
    holder(rig).await.is_none()
}

async fn holder(rig: &Rig) -> Option<JobId> {
    let mut same = Packed::default();
    same.push(&job("a fox")).unwrap();
    rig.store.holders(&same).await.unwrap()[0]
}

/// `again` moves the key. When what was made again ends uncharged, the job that is paid has its key back: else the next
/// drop of the same file would pay a second time, by accident.
#[tokio::test]
async fn a_repetition_that_cost_nothing_gives_the_key_back() {
    let (rig, first) = ended("").await;
    let again = || rig.enqueue_job(NewJob { again: true, ..job("a fox") });
    let (second, third) = (again().await, again().await);
    assert_eq!(holder(&rig).await, Some(third));
    rig.store.cancel(second, false, common::now()).await.unwrap();
    assert_eq!(holder(&rig).await, Some(third), "not the second's to free");
    rig.store.cancel(third, false, common::now()).await.unwrap();
    assert_eq!(holder(&rig).await, Some(first), "it is paid");

    // In the other order: the first costs nothing, what was made again is paid.
    let rig = Rig::new("").await;
    let first = rig.enqueue("a fox").await;
    let second = rig.enqueue_job(NewJob { again: true, ..job("a fox") }).await;
    rig.store.cancel(first, false, common::now()).await.unwrap();
    assert_eq!(holder(&rig).await, Some(second));
    rig.run().await;
    assert_eq!((rig.label(second).await, holder(&rig).await), (Label::Done, Some(second)));

    // With none of them paid it is free.
    let rig = Rig::new("").await;
    let first = rig.enqueue("a fox").await;
    let second = rig.enqueue_job(NewJob { again: true, ..job("a fox") }).await;
    for id in [first, second] {
        rig.store.cancel(id, false, common::now()).await.unwrap();
    }
    assert!(key_is_free(&rig).await);
}

/// What came back can be spent again: of two renders that the cap allows one at a time, the second goes once the first
/// has been refunded, and not when it has not.
#[tokio::test]
async fn a_refund_gives_the_budget_room() {
    for (fault, posts) in [("task:fail=No", 2), ("task:fail-no-refund=No", 1)] {
        let mut rig = Rig::new(fault).await;
        rig.config.budget.total = Some(prices(1));
        rig.config.budget.per_day = Some(prices(1));
        for prompt in ["first", "second"] {
            rig.enqueue(prompt).await;
        }
        let Ended::Idle { .. } = rig.run().await else { panic!("{fault}: it is idle") };
        assert_eq!(rig.posts().len(), posts, "{fault}");
        assert_eq!(sums(&rig).await.spent().get(), lost(&rig), "{fault}");
        rig.check().await;
    }
}

/// A job that was refunded, and is rendered anew: two attempts, one of them paid.
#[tokio::test]
async fn a_new_render_after_a_refund_is_counted_once() {
    let (rig, id) = ended("task:fail=No").await;
    let now = common::now();
    rig.store.retry(id, klingd::domain::plan::retry::RetryPlan::Resume, now).await.unwrap();
    let batch =
        NewBatch { name: "b".into(), source: "b".into(), max_credits: None, jobs: vec![job("a fox")] };
    assert!(rig.store.enqueue(batch, now).await.unwrap()[0].existing, "it has its key again");
    rig.run().await;
    assert_eq!(rig.label(id).await, Label::Done);
    assert_eq!((sums(&rig).await.gone().get(), lost(&rig)), (PRICE, PRICE));
    assert_eq!(rig.job(id).await.paid_attempts, 1);
}
