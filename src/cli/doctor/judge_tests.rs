use std::path::PathBuf;

use super::*;
use crate::{
    cli::{
        doctor::facts::Program,
        render::{
            Look,
            doctor::{doctor, doctor_json},
        },
    },
    domain::{HoldName, Timestamp, hold::Hold},
    provider::Probe,
};

const T0: Timestamp = Timestamp::from_millis(1_770_000_000_000);
const GB: u64 = 1_000_000_000;

fn place(path: &str, filesystem: Filesystem) -> Place {
    let there = There { mode: 0o750, not_writable: None, filesystem, free_bytes: 80 * GB };
    Place { path: PathBuf::from(path), there: Some(there), trouble: None }
}

/// A render box on which all is well.
fn well() -> Facts {
    let local = Filesystem::Local("ext4");
    let inspection =
        Inspection { schema: 9, world: Some("real".into()), bytes: 4_200_000, log_bytes: 0, faults: vec![] };
    let probe = Probe { status: 404, key_works: Some(true), date: Some(T0) };
    Facts {
        config_file: Some("/etc/klingd/klingd.toml".into()),
        warnings: vec![],
        template: None,
        sandbox: false,
        key: Ok("0a1b2c3d".into()),
        service_key: None,
        authorities: Some(Ok(())),
        base_url: "https://kling3api.com/".into(),
        online: Some(Ok(Seen { probe, asked_at: T0, heard_at: T0 + Duration::from_secs(1) })),
        data_dir: place("/var/lib/klingd", local),
        output: place("/srv/videos", Filesystem::Network("NFS")),
        root_trouble: None,
        min_free_bytes: GB,
        inbox: Some(place("/srv/inbox", Filesystem::Network("SMB"))),
        database: Some(Ok(inspection)),
        known_schema: 9,
        holds: vec![],
        holder: Ok(Some("klingd, process 812, since 2026-02-02T02:40:00.000Z".into())),
        unit: Some(Unit { load: "loaded".into(), active: "active".into(), enabled: "enabled".into() }),
        decoder: Some(true),
        now: T0,
    }
}

fn program() -> Program {
    Program { version: "0.1.0", system: "Linux 6.1.0 x86_64".into(), sqlite: "3.51.3".into(), schema: 9 }
}

fn read(facts: &Facts) -> String {
    doctor(&program(), &judge(facts), Look::Terminal { width: 100, height: 30, colour: false })
}

#[test]
fn a_box_that_is_well() {
    insta::assert_snapshot!(read(&well()));
}

#[test]
fn a_box_that_is_not() {
    let mut facts = well();
    facts.key = Err("no usable API key: KLINGD_API__KEY is not set".into());
    facts.authorities = Some(Err("no certificate authorities were found".into()));
    facts.online = Some(Err("connection refused".into()));
    facts.database = Some(Err("the database failed: unable to open database file".into()));
    facts.root_trouble =
        Some("/srv/videos has no file .klingd-root: its disk is not mounted, it seems".into());
    facts.data_dir.there.as_mut().unwrap().free_bytes = 1_000_000;
    let inbox = facts.inbox.as_mut().unwrap().there.as_mut().unwrap();
    inbox.not_writable = Some("cannot make files in /srv/inbox: Read-only file system".into());
    facts.holder = Ok(None);
    facts.unit = Some(Unit { load: "loaded".into(), active: "failed".into(), enabled: "enabled".into() });
    facts.decoder = Some(false);
    facts.holds =
        vec![Hold::new(HoldName::Restored, "this is a backup of\n2026-02-01: what is queued".into(), T0)];
    insta::assert_snapshot!(read(&facts));
    insta::assert_snapshot!("a_report", doctor_json(&program(), &judge(&facts)));
    let piped = doctor(&program(), &judge(&facts), Look::Piped);
    assert!(piped.lines().all(|line| line.split('\t').count() == 4), "{piped}");
}

/// Every single thing that may be wrong, and how bad it is.
#[test]
fn each_finding_has_its_weight() {
    type Change = fn(&mut Facts);
    let cases: [(&str, Verdict, Change); 20] = [
        ("data_dir", Verdict::Problem, |f| f.data_dir.trouble = Some("permission denied".into())),
        ("output", Verdict::Problem, |f| f.output.trouble = Some("it is not a folder".into())),
        ("daemon", Verdict::Warning, |f| f.holder = Err("permission denied".into())),
        ("config", Verdict::Warning, |f| f.warnings = vec!["a key that all can read".into()]),
        ("config", Verdict::Problem, |f| f.template = Some("{nam} is no field".into())),
        ("provider", Verdict::Problem, |f| set(f, |seen| seen.probe.key_works = Some(false))),
        ("provider", Verdict::Warning, |f| set(f, |seen| seen.probe.key_works = None)),
        ("clock", Verdict::Warning, |f| set(f, |seen| seen.probe.date = Some(T0 + Duration::from_secs(122)))),
        ("clock", Verdict::Warning, |f| set(f, |seen| seen.probe.date = Some(T0 - Duration::from_secs(121)))),
        ("data_dir", Verdict::Warning, |f| f.data_dir = place("/nfs", Filesystem::Network("NFS"))),
        ("data_dir", Verdict::Warning, |f| there(f).mode = 0o755),
        ("data_dir", Verdict::Problem, |f| there(f).not_writable = Some("permission denied".into())),
        ("database", Verdict::Problem, |f| database(f).schema = 10),
        ("database", Verdict::Warning, |f| database(f).schema = 8),
        ("database", Verdict::Problem, |f| database(f).faults = vec!["row 3 missing from index".into()]),
        ("database", Verdict::Warning, |f| database(f).log_bytes = GB),
        ("output", Verdict::Problem, |f| f.output.there.as_mut().unwrap().free_bytes = GB - 1),
        ("unit", Verdict::Warning, |f| f.unit.as_mut().unwrap().enabled = "disabled".into()),
        ("unit", Verdict::Ok, |f| f.unit.as_mut().unwrap().load = "not-found".into()),
        ("daemon", Verdict::Warning, |f| f.holder = Ok(None)),
    ];
    for (n, (name, verdict, change)) in cases.into_iter().enumerate() {
        let mut facts = well();
        change(&mut facts);
        let checks = judge(&facts);
        let check = checks.iter().find(|check| check.check == name).unwrap();
        assert_eq!(
            (check.verdict, check.remedy.is_some()),
            (verdict, verdict != Verdict::Ok),
            "{n}: {check:?}"
        );
        let others = checks.iter().filter(|check| check.check != name);
        assert!(others.clone().all(|other| other.verdict == Verdict::Ok), "{n}: {checks:?}");
    }

    fn set(facts: &mut Facts, change: fn(&mut Seen)) {
        change(facts.online.as_mut().unwrap().as_mut().unwrap());
    }
    fn there(facts: &mut Facts) -> &mut There {
        facts.data_dir.there.as_mut().unwrap()
    }
    fn database(facts: &mut Facts) -> &mut Inspection {
        facts.database.as_mut().unwrap().as_mut().unwrap()
    }
}

/// The date has whole seconds and is written somewhere between question and answer.
#[test]
fn a_slow_answer_is_no_wrong_clock() {
    let seen = |asked: u64, heard: u64| Seen {
        probe: Probe { status: 404, key_works: None, date: Some(T0) },
        asked_at: T0 + Duration::from_secs(asked),
        heard_at: T0 + Duration::from_secs(heard),
    };
    assert_eq!(clock(&seen(0, 0)).verdict, Verdict::Ok);
    assert_eq!(clock(&seen(120, 150)).verdict, Verdict::Ok);
    assert_eq!(clock(&seen(121, 150)).verdict, Verdict::Warning);
}

/// Whoever looks at a service from outside can neither read its key nor write among its videos, and that is as it should be.
#[test]
fn a_service_is_well_seen_by_a_member_of_its_group() {
    let mut facts = well();
    facts.online = None;
    facts.key = Err("no usable API key".into());
    facts.output.there.as_mut().unwrap().not_writable = Some("permission denied".into());
    let weight = |facts: &Facts, name: &str| {
        judge(facts).into_iter().find(|check| check.check == name).map(|check| check.verdict)
    };
    assert!(judge(&facts).iter().all(|check| check.verdict == Verdict::Ok), "{:?}", judge(&facts));
    // Nobody serves the queue: who says that it could be served?
    facts.holder = Ok(None);
    assert_eq!(weight(&facts, "output"), Some(Verdict::Problem));
    assert_eq!(weight(&facts, "key"), Some(Verdict::Problem));
    facts.service_key = Some(("/etc/klingd/api-key", true));
    assert_eq!(weight(&facts, "key"), Some(Verdict::Ok));
    facts.service_key = Some(("/etc/klingd/api-key", false));
    assert_eq!(weight(&facts, "key"), Some(Verdict::Problem));
}

/// A box before its first start: nothing is there, and nothing is wrong with that.
#[test]
fn a_fresh_box_can_work() {
    let mut facts = well();
    let gone = |path: &str| Place { path: path.into(), there: None, trouble: None };
    facts.data_dir = gone("/var/lib/klingd");
    facts.output = gone("/var/lib/klingd/videos");
    facts.inbox = None;
    (facts.database, facts.holder, facts.unit, facts.online) = (None, Ok(None), None, None);
    assert!(!judge(&facts).iter().any(Check::is_problem));
    insta::assert_snapshot!(read(&facts));
}
