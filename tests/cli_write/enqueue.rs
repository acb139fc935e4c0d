//! `enqueue`: files, standard input, flags; what is refused; what is there already.

use std::io::Write as _;

use klingd::{
    clock::Clock,
    domain::{Credits, Request, job::NewJob, request::Draft},
    store::{StoreError, enqueue::NewBatch},
};
use serde_json::{Value, json};

use crate::rig::{Daemon, Rig, TWO_JOBS, provider, said};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_flags_is_queued_once_and_paid_again_on_purpose() {
    let rig = Rig::new();
    let flags =
        ["--type", "std-text-to-video", "--prompt", "A fox", "--no-sound", "--tag", "a", "--priority", "-5"];
    let enqueue = |more: &[&str]| rig.run(&[&["enqueue"], flags.as_slice(), more].concat()).is(0);
    let first = enqueue(&[]).says("1 job queued: 200 credits").says("no daemon serves this queue");
    assert_eq!(first.out, "ID\tNAME\tTYPE\tCREDITS\tRESULT\n1\t\tstd-text-to-video\t200\tqueued\n");
    let second = enqueue(&[]).says("1 there already (--again");
    assert!(second.out.ends_with("\n1\t\tstd-text-to-video\t200\tthere already: queued\n"), "{}", second.out);
    let again = enqueue(&["--again", "--json"]);
    let twice = enqueue(&["--json"]);
    assert_eq!([&again.json()[0]["id"], &again.json()[0]["existing"]], [&json!(2), &json!(false)]);
    assert_eq!([&twice.json()[0]["id"], &twice.json()[0]["existing"]], [&json!(2), &json!(true)]);
    let jobs = rig.jobs().await;
    assert_eq!(jobs.len(), 2);
    let expected = json!({"type": "std-text-to-video", "prompt": "A fox", "duration": 5, "sound": false});
    assert_eq!(serde_json::to_value(&jobs[0].request).unwrap(), expected);
    assert_eq!((jobs[0].priority, jobs[0].batch.as_deref()), (-5, Some("enqueue")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_error_rejects_every_file_before_the_queue_is_opened() {
    let rig = Rig::new();
    let good = rig.file("good.toml", TWO_JOBS);
    let bad = rig.file("bad.toml", "type = \"std-text-to-vide\"\nprompt = \"x\"\ndurtion = 3\n");
    let said = rig.run(&["enqueue", &good, &bad, "none.toml", "notes.txt"]).is(3);
    let said = said.says("bad.toml:1:8").says("did you mean \"std-text-to-video\"?").says("`durtion`");
    said.says("none.toml: there is no such file").says("notes.txt").says("nothing was queued: 4 errors");
    assert!(!rig.data_dir().exists(), "nothing was opened");
    let lines = rig.run(&["enqueue", "--json", &good, &bad, "none.toml"]).is(3).json();
    let codes: Vec<_> = lines.iter().map(|line| line["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["invalid_value", "unknown_key", "unreadable"]);
    assert_eq!((&lines[1]["line"], &lines[1]["key"]), (&json!(3), &json!("durtion")));
    let flags = ["enqueue", "--json", "--type", "std-text-to-video", "--prompt", "x", "--duration", "20"];
    assert_eq!(rig.run(&flags).is(3).json()[0]["key"], "duration");
    rig.run(&["enqueue", &rig.file("notes.txt", TWO_JOBS)]).is(3).says("no format of job files");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_file_is_a_batch_and_flags_beside_files_are_for_all_their_jobs() {
    let rig = Rig::new();
    let named = rig.file("a.toml", &format!("[batch]\nname = \"shots\"\n{TWO_JOBS}"));
    let plain =
        rig.file("b.jsonl", "{\"type\":\"o3-std-text-to-video\",\"prompt\":\"b\",\"tags\":[\"own\"]}\n");
    rig.run(&["enqueue", &named, &plain, "--tag", "rush", "--priority", "7"])
        .is(0)
        .says("3 jobs queued: 580 credits");
    let jobs = rig.jobs().await;
    let batches: Vec<_> = jobs.iter().map(|job| job.batch.as_deref().unwrap()).collect();
    assert_eq!(batches, ["shots", "shots", "b"]);
    assert!(jobs.iter().all(|job| job.priority == 7));
    assert_eq!(jobs[2].tags, ["own", "rush"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_guessed() {
    let rig = Rig::new();
    for (i, text) in [
        TWO_JOBS,
        "{\"type\":\"o3-std-text-to-video\",\n\"prompt\":\"json\"}",
        "{\"type\":\"o3-std-text-to-video\",\"prompt\":\"l1\"}\n{\"type\":\"o3-std-text-to-video\",\"prompt\":\"l2\"}\n",
    ]
    .into_iter()
    .enumerate()
    {
        rig.run_with(&["enqueue", "-"], text).is(0);
        assert_eq!(rig.jobs().await.len(), [2, 3, 5][i]);
    }
    rig.run_with(&["enqueue", "-"], "{\"type\":\"x\"}").is(3).says("stdin:1:9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_would_be_queued_and_queues_nothing() {
    let rig = Rig::new();
    let file = rig.file("jobs.toml", TWO_JOBS);
    let copy = rig.file("copy.toml", TWO_JOBS);
    let said = rig.run(&["enqueue", "--dry-run", &file, &copy]).is(0);
    let said = said.says("2 jobs would be queued: 400 credits; 2 there already");
    assert_eq!(
        said.out.lines().nth(3).unwrap(),
        "\tharbour\t1\tstd-text-to-video\t5\t16:9\toff\t200\tthe same job as one before it"
    );
    assert!(rig.jobs().await.is_empty());
    rig.run(&["enqueue", &file, &copy]).is(0).says("2 jobs queued: 400 credits; 2 there already");
    let lines = rig.run(&["enqueue", "--dry-run", "--json", &file]).is(0).json();
    assert!(lines.iter().all(|line| line["existing"] == true && line["state"] == "queued"));
    let third = rig.file("third.toml", &format!("{TWO_JOBS}[[job]]\nprompt = \"A mole\"\ntakes = 2\n"));
    assert_eq!(
        rig.run(&["enqueue", "--dry-run", &third]).is(0).out,
        "ID\tNAME\tTAKE\tTYPE\tSECONDS\tRATIO\tSOUND\tCREDITS\tRESULT\n\
         1\tharbour\t1\tstd-text-to-video\t5\t16:9\toff\t200\tthere already: queued\n\
         2\tpier\t1\tstd-text-to-video\t5\t16:9\toff\t200\tthere already: queued\n\
         \tA mole\t1\tstd-text-to-video\t5\t16:9\toff\t200\twould be queued\n\
         \tA mole\t2\tstd-text-to-video\t5\t16:9\toff\t200\twould be queued\n"
    );
    rig.run(&["enqueue", "--dry-run", &file, "--again", "--max-credits", "399"]).is(8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_too_much_is_refused_whole() {
    let mut rig = Rig::new();
    let file = rig.file("jobs.toml", TWO_JOBS);
    let other = rig.file("other.toml", &TWO_JOBS.replace("A ", "Another "));
    let together = ["enqueue", &file, &other, "--max-credits", "799"];
    rig.run(&together).is(8).says("800 credits together, max_credits allows 799");
    let batch = rig.file("batch.toml", &format!("[batch]\nmax_credits = 399\n{TWO_JOBS}"));
    rig.run(&["enqueue", &batch]).is(8);
    let own = rig.file("own.toml", "type = \"std-text-to-video\"\nprompt = \"x\"\nmax_credits = 299\n");
    rig.run(&["enqueue", &own]).is(8).says("own.toml:3:15");
    for cap in ["PER_JOB", "PER_DAY", "TOTAL"] {
        rig.variables = vec![(format!("KLINGD_BUDGET__{cap}"), "199".to_owned())];
        let key = format!(
            "harbour (std-text-to-video): it costs 200 credits, budget.{} is 199",
            cap.to_lowercase()
        );
        rig.run(&["enqueue", &file]).is(8).says("2 jobs can never be submitted").says(&key);
    }
    assert!(rig.jobs().await.is_empty());
    // Together they are over the cap: they wait their turn, which is no error.
    rig.variables = vec![("KLINGD_BUDGET__PER_DAY".to_owned(), "200".to_owned())];
    rig.run(&["enqueue", &file]).is(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dear_order_shows_its_price_and_asks() {
    let rig = Rig::new().with("KLINGD_BUDGET__CONFIRM_ABOVE", "399");
    let file = rig.file("jobs.toml", TWO_JOBS);
    let said = rig.run(&["enqueue", &file]).is(2).says("say --yes").says("costs 400 credits");
    said.says("TYPE               JOBS  CREDITS").says("std-text-to-video     2      400");
    assert!(rig.jobs().await.is_empty());
    rig.run(&["enqueue", &file, "--yes"]).is(0);
    rig.run(&["enqueue", &file]).is(0).says("0 jobs queued: 0 credits; 2 there already");
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_and_prices_of_the_configuration_apply() {
    let rig = Rig::new()
        .with("KLINGD_DEFAULTS__TYPE", "o3-std-text-to-video")
        .with("KLINGD_DEFAULTS__DURATION", "10")
        .with("KLINGD_PRICES__O3_STD_TEXT_TO_VIDEO", "7");
    rig.run(&["enqueue", "--prompt", "x"]).is(0).says("1 job queued: 70 credits");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_2() {
    let rig = Rig::new();
    let file = rig.file("jobs.toml", TWO_JOBS);
    rig.run(&["enqueue"]).is(2).says("klingd enqueue --type TYPE --prompt TEXT");
    rig.run(&["enqueue", &file, "--prompt", "x"]).is(2).says("in a file or by flags, not both");
    rig.run(&["enqueue", &file, "--max-credits", "0"]).is(2);
    rig.run(&["enqueue", &file, "--nope"]).is(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_make_one_set_of_jobs() {
    let rig = Rig::new();
    let prompts: String = (0..50).map(|i| format!("[[job]]\nprompt = \"shot {i}\"\n")).collect();
    let short = rig.file("jobs.toml", &format!("[defaults]\ntype = \"o3-std-text-to-video\"\n{prompts}"));
    let long = rig.file("jobs.jsonl", &lines(1200));
    for (file, jobs, all) in [(short, 50, 50), (long, 1200, 1250)] {
        let both = [0, 1].map(|_| rig.start(&["enqueue", "--yes", "--json", &file]));
        let outputs = both.map(|mut child| {
            // Read beside one another: a full pipe would make one wait for the other.
            let mut out = child.stdout.take().unwrap();
            let text = std::thread::spawn(move || std::io::read_to_string(&mut out).unwrap());
            (child, text)
        });
        let lines = outputs.into_iter().flat_map(|(child, text)| {
            said(child.wait_with_output().unwrap()).is(0);
            let text = text.join().unwrap();
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
        });
        let (existing, new): (Vec<Value>, Vec<Value>) = lines.partition(|line| line["existing"] == true);
        assert_eq!((existing.len(), new.len()), (jobs, jobs));
        assert_eq!(rig.jobs().await.len(), all);
    }
}

/// Only an end that provably cost nothing frees the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_free_again_when_nothing_was_paid() {
    let rig = Rig::new();
    let file = rig.file("jobs.toml", TWO_JOBS);
    rig.run(&["enqueue", &file]).is(0).says("2 jobs queued");
    rig.run(&["cancel", "1"]).is(0);
    let said = rig.run(&["enqueue", &file]).is(0).says("1 job queued: 200 credits; 1 there already");
    assert!(said.out.contains("\n3\tharbour\t") && said.out.contains("\n2\tpier\t"), "{}", said.out);
    // On the wire it may be paid, whatever becomes of it.
    rig.run(&["set", "2", "--priority", "9"]).is(0);
    rig.on_the_wire(klingd::domain::JobId(2)).await;
    rig.run(&["enqueue", &file]).is(0).says("0 jobs queued: 0 credits; 2 there already");
    rig.run(&["enqueue", &file, "--again"]).is(0).says("2 jobs queued: 400 credits");
    rig.run(&["enqueue", &file]).is(0).says("0 jobs queued: 0 credits; 2 there already");
    assert_eq!(rig.jobs().await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_standard_input_keeps_nobody_waiting() {
    let rig = Rig::new();
    let mut slow = rig.start(&["enqueue", "-"]);
    let mut pipe = slow.stdin.take().unwrap();
    pipe.write_all(b"type = \"o3-std-text-to-video\"\n").unwrap();
    rig.enqueue("quick");
    pipe.write_all(b"prompt = \"slow\"\n").unwrap();
    drop(pipe);
    said(slow.wait_with_output().unwrap()).is(0);
    assert_eq!(rig.jobs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_hands_over_and_ends_as_the_jobs_do() {
    let (sandbox, rig) = provider("task:fail-no-refund~broken,generate:close-after~lost").await;
    let daemon = Daemon::start(&rig).await;
    let flags = ["enqueue", "--wait", "--type", "std-text-to-video", "--prompt"];
    let enqueue = |prompt| rig.run(&[&flags[..], &[prompt]].concat());
    let said = enqueue("A fox").is(0);
    assert!(!said.err.contains("no daemon serves"), "{}", said.err);
    enqueue("A fox").is(0).says("1 there already");
    enqueue("A broken lamp").is(4);
    enqueue("A broken lamp").is(4).says("1 there already");
    let lost = enqueue("A lost letter").is(10);
    assert!(lost.out.contains("klingd resolve 3"), "{}", lost.out);
    daemon.end().await;
    assert_eq!(sandbox.charges_for("A fox"), 1);
}

/// Between the question and the commit others may queue or finish jobs: the commit decides, and takes all or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_commit_itself_holds_the_cap_over_all_batches() {
    let rig = Rig::new();
    let batch = |prompt: &str| {
        let draft = Draft {
            job_type: Some("o3-std-text-to-video".into()),
            prompt: Some(prompt.into()),
            ..Draft::default()
        };
        let request = Request::parse(&draft).unwrap();
        let job = NewJob::of(request, "test");
        NewBatch { name: prompt.into(), source: "test".into(), max_credits: None, jobs: vec![job] }
    };
    let store = rig.store().await;
    let enqueue = |max| store.enqueue_all(vec![batch("a"), batch("b")], Some(Credits::new(max)), Clock.now());
    assert!(matches!(enqueue(359).await, Err(StoreError::TooExpensive { .. })));
    assert!(rig.jobs().await.is_empty());
    assert_eq!(enqueue(360).await.unwrap().iter().filter(|queued| !queued.existing).count(), 2);
    assert!(enqueue(1).await.unwrap().iter().all(|queued| queued.existing), "what is there costs nothing");
    // No reader makes such a batch; if one did, its key would not be taken twice.
    let mut twins = batch("c");
    twins.jobs = [twins.jobs.clone(), batch("d").jobs, twins.jobs].concat();
    assert!(store.enqueue(twins, Clock.now()).await.is_err());
    assert_eq!(rig.jobs().await.len(), 2);
}

/// A line of JSON Lines that is right.
fn lines(jobs: usize) -> String {
    let line = |n: usize| {
        format!("{{\"type\":\"o3-std-text-to-video\",\"prompt\":\"shot {n} {}\"}}\n", "x".repeat(1900))
    };
    (0..jobs).map(line).collect()
}

/// More than stays in memory: the checked jobs wait in a file until the last line is read.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_lines_are_queued_in_order_or_not_at_all() {
    const JOBS: usize = 2500;
    let rig = Rig::new();
    let (good, bad) = (lines(JOBS), lines(JOBS) + "{\"type\":\"o3-std-text-to-video\"}\n{\"prompt\":\n");
    let said = rig.run(&["enqueue", "--yes", &rig.file("bad.jsonl", &bad)]).is(3);
    said.says("bad.jsonl:2501:1").says("bad.jsonl:2502:").says("nothing was queued: 2 errors");
    assert!(!rig.data_dir().join("klingd.db").exists());

    let piped =
        rig.run_with(&["enqueue", "--yes", "-"], &good).is(0).says("2,500 jobs queued: 450,000 credits");
    assert_eq!(piped.out.lines().count(), 1 + JOBS);
    let jobs = rig.jobs().await;
    for (n, job) in jobs.iter().enumerate() {
        assert!(job.request.prompt().starts_with(&format!("shot {n} ")) && job.id.0 == n as i64 + 1);
    }
    let store = rig.store().await;
    assert!(store.history(jobs[JOBS - 1].id).await.unwrap().len() == 1);
    let left: Vec<_> = std::fs::read_dir(rig.data_dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().starts_with("klingd")), "{left:?}");

    // Half of them are there, and the new ones follow in order all the same.
    let more = rig.file("more.jsonl", &(lines(JOBS).replace("shot 1", "Shot 1")));
    let said =
        rig.run(&["enqueue", "--yes", &more]).is(0).says("1,111 jobs queued").says("1,389 there already");
    let new = said.out.lines().filter(|line| line.ends_with("\tqueued"));
    let ids: Vec<usize> = new.map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect();
    assert_eq!(ids, (JOBS + 1..=JOBS + 1111).collect::<Vec<_>>());
    assert!(said.out.contains("\n1\t\to3-std-text-to-video\t180\tthere already: queued\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_a_long_file_is_counted_and_a_hundred_are_shown() {
    let rig = Rig::new();
    let file = rig.file("bad.jsonl", &"{\"prompt\": 5}\n".repeat(3000));
    let said = rig.run(&["enqueue", &file]).is(3);
    let said = said.says("these are the first 100 of 6,000 errors").says("nothing was queued: 6000 errors");
    assert_eq!(said.err.matches("\nerror: ").count() + 1, 100);
    let lines = rig.run(&["check", "--json", &file]).is(3).json();
    assert_eq!((lines.len(), &lines[100]["code"]), (101, &json!("more")));
    let long = format!("{{\"prompt\": \"{}\"}}", "x".repeat(2 << 20));
    rig.run(&["enqueue", &rig.file("long.jsonl", &long)]).is(3).says("more than 1 MiB");
    rig.run(&["enqueue", &rig.file("none.jsonl", "\n \n")]).is(3).says("the file holds no job");
}
