//! `check` and `config`: they open neither the queue nor the network.

use serde_json::json;

use crate::rig::{Rig, TWO_JOBS};

#[tokio::test(flavor = "multi_thread")]
async fn check_names_every_error_or_the_price_and_opens_nothing() {
    let rig = Rig::new();
    let good = rig.file("good.toml", TWO_JOBS);
    let bad =
        rig.file("bad.json", "{\"type\": \"o3-std-text-to-video\", \"prompt\": \"\", \"duration\": 99}");
    assert_eq!(
        rig.run(&["check", &good]).is(0).out,
        "TYPE\tJOBS\tCREDITS\nstd-text-to-video\t2\t400\ntotal\t2\t400\n"
    );
    let price = rig.run(&["check", "--json", &good]).is(0).json();
    let expected =
        json!({"file": "good.toml", "type": "std-text-to-video", "jobs": 2, "estimated_credits": 400});
    assert_eq!(price, [expected]);
    let said = rig.run(&["check", &good, &bad]).is(3).says("bad.json:1:").says("2 errors in 2 files");
    assert_eq!(said.out, "");
    assert_eq!(rig.run(&["check", "--json", &bad]).is(3).json().len(), 2);
    let many = rig.file(
        "many.toml",
        "type = \"std-text-to-video\"\nprompt = \"A fox\"\ntakes = 2\n[matrix]\nduration = [3, 4]\nsound = [true, false]\n\
         exclude = [{ duration = 4, sound = true }]\n",
    );
    assert_eq!(
        rig.run(&["check", "--expand", &many]).is(0).out,
        "NAME\tTAKE\tTYPE\tSECONDS\tRATIO\tSOUND\tCREDITS\n\
         A fox\t1\tstd-text-to-video\t3\t16:9\ton\t180\n\
         A fox\t2\tstd-text-to-video\t3\t16:9\ton\t180\n\
         A fox\t1\tstd-text-to-video\t3\t16:9\toff\t120\n\
         A fox\t2\tstd-text-to-video\t3\t16:9\toff\t120\n\
         A fox\t1\tstd-text-to-video\t4\t16:9\toff\t160\n\
         A fox\t2\tstd-text-to-video\t4\t16:9\toff\t160\n\
         \nTYPE\tJOBS\tCREDITS\nstd-text-to-video\t6\t920\ntotal\t6\t920\n"
    );
    let objects = rig.run(&["check", "--expand", "--json", &many]).is(0).json();
    assert_eq!((objects.len(), &objects[1]["take"]), (7, &json!(2)));
    assert_eq!(objects[6]["estimated_credits"], 920);
    rig.run(&["check"]).is(2);
    assert!(!rig.data_dir().exists());
    let rig = rig.with("KLINGD_BUDGET__PER_JOB", "100");
    rig.run(&["check", &good]).is(0).says("warning: 2 jobs can never be submitted");
}

/// One under the other they are read as one; the last word stands apart too.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_lines_stand_apart() {
    let rig = Rig::new();
    let lines = rig.file("bad.jsonl", "[1]\n\n{\"type\": \"std-text-to-video\" \"prompt\": \"a\"}\n");
    insta::assert_snapshot!(rig.run(&["check", &lines]).is(3).err, @r#"
    error: must be a job, not a list
     --> bad.jsonl:1:1
      |
    1 | [1]
      | ^^^
      |
      = help: each line is one job: { … }

    error: `,` or `}` was expected here
     --> bad.jsonl:3:30
      |
    3 | {"type": "std-text-to-video" "prompt": "a"}
      |                              ^

    klingd: 2 errors in 1 file
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_writes_shows_and_checks() {
    let rig = Rig::new();
    let place = rig.dir.path().join(".config/klingd/klingd.toml");
    assert_eq!(rig.run(&["config", "init"]).is(0).out.trim(), place.to_str().unwrap());
    assert_eq!(std::fs::read_to_string(&place).unwrap(), klingd::config::EXAMPLE);
    let schema = rig.run(&["config", "schema", "job"]).is(0).out;
    assert_eq!(schema, include_str!("../../job.schema.json"));
    rig.run(&["config", "init"]).is(1).says("exists already");
    rig.run(&["config", "init", "--path", "sub/k.toml"]).is(0);
    assert!(rig.dir.path().join("sub/k.toml").exists());
    let written = rig.run(&["config", "init", "--path", "other.toml", "--json"]).is(0).json();
    assert!(written[0]["path"].as_str().unwrap().ends_with("/other.toml"), "{written:?}");
    rig.run(&["sandbox", "--faults", "bogus"]).is(2).says("`bogus` is not a point");
    let checked = rig.run(&["config", "check"]).is(0);
    assert!(checked.out.contains("valid") && checked.out.contains("no usable API key"), "{}", checked.out);
    let rows = rig.run(&["config", "show", "--json"]).is(0).json();
    let row = rows.iter().find(|row| row["key"] == "data_dir").unwrap();
    assert_eq!(row["origin"], "KLINGD_DATA_DIR");
    let secret = "sk-clearly-a-secret-0123456789";
    let rig = rig.with("KLINGD_API__KEY", secret).with("KLINGD_PRICES__O3_STD_TEXT_TO_VIDEO", "7");
    for args in [["config", "check"], ["config", "show"], ["config", "prices"]] {
        let said = rig.run(&args).is(0);
        assert!(!said.out.contains(secret) && !said.err.contains(secret));
    }
    assert!(rig.run(&["config", "check"]).is(0).out.contains("found: KLINGD_API__KEY"));
    let prices = rig.run(&["config", "prices", "--json"]).is(0).json();
    let marked: Vec<_> = prices.iter().filter(|p| p["overridden"] == true).map(|p| &p["type"]).collect();
    assert_eq!((prices.len(), marked), (12, vec![&json!("o3-std-text-to-video")]));
    let rig = rig.with("KLINGD_SUBMIT__WORKERS", "many").with("KLINGD_NONSENSE", "1");
    rig.run(&["config", "check"]).is(3).says("submit.workers").says("KLINGD_NONSENSE");
    rig.run(&["enqueue", "--prompt", "x"]).is(3);
}
