//! `pause`, `resume`, `set`, `cancel`, `retry`.

use klingd::{
    clock::Clock,
    domain::{TaskId, state::Label},
};
use serde_json::json;

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn pause_and_resume_say_what_holds() {
    let rig = Rig::new();
    rig.run(&["pause"]).is(0).says("nothing more is submitted");
    rig.run(&["pause"]).is(0).says("paused already");
    rig.run(&["resume", "--hold", "restord"]).is(2).says("did you mean restored?");
    rig.run(&["resume", "--hold", "restored"]).is(0).says("restored did not hold").says("paused still holds");
    let lifted = rig.run(&["resume", "--json"]).is(0).json();
    assert_eq!((&lifted[0]["hold"], &lifted[0]["holds"]), (&json!("paused"), &json!(false)));
    rig.run(&["resume"]).is(0).says("nothing holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_resume_leaves_what_could_pay_twice() {
    use klingd::domain::hold::{Hold, HoldName};
    let rig = Rig::new();
    let store = rig.store().await;
    for name in HoldName::ALL {
        let hold = Hold { name, since: Clock.now(), why: "a test".into(), until: None, probe_at: None };
        store.hold(hold).await.unwrap();
    }
    let said = rig.run(&["resume"]).is(0);
    let said = ["paused", "key", "credits", "rate"]
        .iter()
        .fold(said, |s, name| s.says(&format!("{name} is lifted")));
    said.says("klingd resume --hold restored").says("klingd resume --hold unclean_stop");
    let held: Vec<_> = store.holds().await.unwrap().into_iter().map(|hold| hold.name).collect();
    assert_eq!(held, [HoldName::Disk, HoldName::Restored, HoldName::UncleanStop]);
    rig.run(&["resume", "--hold", "unclean_stop"]).is(0).says("unclean_stop is lifted");
}

#[tokio::test(flavor = "multi_thread")]
async fn set_changes_what_is_not_submitted() {
    let rig = Rig::new();
    let id = rig.enqueue("x");
    let set = [
        "set",
        "1",
        "--priority",
        "-3",
        "--tag",
        "a",
        "--name",
        "fox",
        "--not-before",
        "2030-01-01T00:00:00Z",
    ];
    let job = &rig.run(&[&set[..], &["--json"]].concat()).is(0).json()[0];
    assert_eq!((&job["priority"], &job["tags"], &job["name"]), (&json!(-3), &json!(["a"]), &json!("fox")));
    assert_eq!(
        (&job["not_before"], &job["reason"]),
        (&json!("2030-01-01T00:00:00.000Z"), &json!("not_before"))
    );
    rig.run(&["set", "1", "--priority", "101"]).is(2).says("--priority: 101 is out of range");
    rig.run(&["set", "1"]).is(2);
    rig.run(&["cancel", "1"]).is(0);
    rig.run(&["set", "1", "99", "--priority", "1"])
        .is(7)
        .says("there is no job 99")
        .says("job 1 is cancelled");
    assert_eq!(rig.label(id).await, Label::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_drops_what_is_free_and_asks_for_what_is_paid() {
    let rig = Rig::new();
    rig.enqueue("free");
    rig.run(&["cancel", "1", "99"]).is(7).says("job 1 is cancelled; nothing was charged").says("no job 99");
    rig.run(&["cancel", "1"]).is(0).says("cancelled already");
    let paid = rig.enqueue("paid");
    let attempt = rig.on_the_wire(paid).await;
    let store = rig.store().await;
    store.orphan(store.job(paid).await.unwrap(), Clock.now()).await.unwrap();
    let adopt = klingd::store::person::Resolution::Adopt(TaskId::parse("n75paid").unwrap());
    store.resolve(paid, attempt, adopt, None, Clock.now()).await.unwrap();
    rig.run(&["cancel", "2"]).is(2).says("paid (200 credits)").says("say --yes");
    assert_eq!(rig.label(paid).await, Label::Generating);
    rig.run(&["cancel", "2", "--yes"]).is(0).says("klingd retry 2 follows it again for free");
    rig.run(&["retry", "2"]).is(0).says("for free");
    assert_eq!(rig.label(paid).await, Label::Generating);
    rig.run(&["retry", "2"]).is(2).says("there is nothing to retry");
    let wire = rig.enqueue("wire");
    rig.on_the_wire(wire).await;
    rig.run(&["cancel", "3"]).is(0).says("cancelled once the answer is there");
    assert_eq!(rig.label(wire).await, Label::Submitting);
    rig.run(&["cancel", "x"]).is(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_is_not_cancelled_and_a_new_render_asks() {
    let rig = Rig::new();
    let id = rig.enqueue("x");
    rig.on_the_wire(id).await;
    rig.run(&["resolve", "1", "--write-off"]).is(0).says("200 credits count as spent");
    rig.run(&["retry", "1"]).is(2).says("a new render costs 200 credits on top").says("say --yes");
    rig.run(&["retry", "1", "--yes"]).is(0);
    rig.on_the_wire(id).await;
    let store = rig.store().await;
    store.orphan(store.job(id).await.unwrap(), Clock.now()).await.unwrap();
    rig.run(&["cancel", "1", "--yes"]).is(2).says("say what became of it: klingd resolve 1");
    rig.run(&["retry", "1"]).is(2).says("klingd resolve 1");
    let poor = Rig { dir: rig.dir, variables: vec![("KLINGD_BUDGET__TOTAL".into(), "399".into())] };
    poor.run(&["resolve", "1", "--resubmit", "--yes"]).is(8).says("budget.total is 399, 200 of it spent");
}
