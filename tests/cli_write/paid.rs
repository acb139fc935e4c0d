//! What is paid and in trouble: given up by a write-off, or fetched after all.

use klingd::{
    clock::Clock,
    domain::{
        Event, TaskId,
        plan::poll::PollPlan,
        state::{Label, Watch},
    },
    store::person::Resolution,
};
use serde_json::json;

use crate::rig::{Daemon, Rig, provider};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_leads_nowhere_is_given_up_by_a_write_off() {
    let since = Clock.now();
    let stuck = [
        Watch::NotFound { since, held: true },
        Watch::NoUrl { since, held: true },
        Watch::OtherKey { since },
    ];
    for watch in stuck {
        let rig = Rig::new();
        let id = rig.enqueue("A fox");
        let attempt = rig.on_the_wire(id).await;
        let store = rig.store().await;
        store.orphan(store.job(id).await.unwrap(), since).await.unwrap();
        let adopt = Resolution::Adopt(TaskId::parse("n75lost").unwrap());
        store.resolve(id, attempt, adopt, None, since).await.unwrap();
        rig.run(&["resolve", "1", "--write-off"]).is(2).says("job 1 is generating");
        let event = Some(Event::Watched { watch });
        let plan = PollPlan {
            event,
            urls: Vec::new(),
            due_at: since,
            quiet_until: None,
            hold: None,
            running: false,
        };
        store.settle_poll(id, store.job(id).await.unwrap().version, plan, None, None, since).await.unwrap();
        let shown = rig.run(&["show", "1"]).is(0).out;
        assert!(shown.contains("klingd resolve 1 --write-off"), "{shown}");

        rig.run(&["resolve", "1", "--write-off"])
            .is(2)
            .says("n75lost of attempt 1 is paid (200 credits)")
            .says("--yes");
        assert_eq!(rig.label(id).await, Label::Generating);
        let said = rig.run(&["resolve", "1", "--write-off", "--json", "--yes"]).is(0);
        let job = said.json().remove(0);
        assert_eq!((&job["state"], &job["needs_person"]), (&json!("failed"), &json!(false)), "{job}");
        let error = &job["error"];
        assert_eq!((&error["code"], &error["charged"]), (&json!("WRITTEN_OFF"), &json!("yes")), "{job}");
        said.says("200 credits count as spent").says("asks for its task n75lost once more, for free");
        let again = ["enqueue", "--json", "--type", "std-text-to-video", "--no-sound", "--prompt", "A fox"];
        assert_eq!(rig.run(&again).is(0).json()[0]["existing"], json!(true), "its key is kept");
        rig.run(&["retry", "1"]).is(0).says("for free");
        assert_eq!(rig.label(id).await, Label::Generating);
    }
}

/// Paid twice, by `--resubmit` and by what came to light later: list says so until the second video is there, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_paid_task_is_named_and_fetched() {
    let (sandbox, rig) = provider("generate:close-after").await;
    rig.enqueue("A fox");
    let daemon = Daemon::start(&rig).await;
    rig.run(&["wait", "1", "--timeout", "60s"]).is(10);
    let first = sandbox.tasks()[0].id.clone();
    rig.run(&["resolve", "1", "--resubmit", "--yes"]).is(0);
    rig.run(&["wait", "1", "--timeout", "60s"]).is(0);
    rig.run(&["resolve", "1", "--attempt", "1", "--task-id", &first]).is(0).says("is kept with attempt 1");
    rig.run(&["list"]).is(0).says("its video is not fetched: klingd retry 1");
    let [show, status] = ["show", "status"].map(|verb| {
        let args = if verb == "show" { vec!["show", "1"] } else { vec!["status"] };
        rig.run(&args).is(0).out
    });
    assert!(show.contains("paid and not followed"), "{show}");
    assert!(show.contains("klingd retry 1    fetches the video of its second paid task"), "{show}");
    assert!(status.contains("1 job has a second paid task"), "{status}");
    assert!(rig.run(&["wait", "1"]).is(0).out.contains("a second paid task: klingd retry 1 (free)"));
    let told = rig.run(&["list", "--json"]).is(0).json().remove(0);
    assert!(told["notes"].to_string().contains("klingd retry 1"), "{told}");
    rig.run(&["retry", "1"]).is(0).says(&format!("follows task {first} of attempt 1, for free"));
    rig.run(&["wait", "1", "--timeout", "60s"]).is(0);
    let job = rig.run(&["show", "1", "--json"]).is(0).json().remove(0);
    assert_eq!((&job["state"], &job["task_id"]), (&json!("done"), &json!(first)));
    let paths: Vec<_> =
        job["outputs"].as_array().unwrap().iter().map(|o| o["path"].as_str().unwrap()).collect();
    assert!(paths.len() == 2 && paths[0] != paths[1], "{paths:?}");
    let quiet = rig.run(&["list"]).is(0).err;
    assert!(!quiet.contains("retry"), "{quiet}");
    rig.run(&["retry", "1"]).is(2).says("its video is there");
    assert_eq!(sandbox.tasks().len(), 2);
    daemon.end().await;
}
