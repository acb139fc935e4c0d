//! Any name and bytes as the watched folder finds them: only a job file at rest is taken, its claim can be read back, its
//! jobs stay within the bounds, and no text beside it steers a terminal or has a line of its own making.
//!
//! The input is a byte of flags, a line with the path below the folder (a NUL stands for a line break in it), and the
//! file.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::tz::TimeZone;

use super::parts::{assert_showable, line};
use crate::{
    domain::{
        Credits, JobId, State, Timestamp,
        job_type::JobType,
        request::Draft,
        state::{Charged, Failure},
    },
    intake::{
        inbox::{
            claim::Claim,
            entry::{Arrival, Decision, Entry, FileId, Kind, Seen, decide, decide_own_claim},
            judge::{Rules, Verdict, judge, refuse},
            status,
        },
        jobfile::Format,
    },
    store::inbox::{FileJob, Found, InboxFile},
};

const SETTLE: Duration = Duration::from_secs(2);
const MAX_JOBS: usize = 300;
const MAX_CREDITS: Credits = Credits::new(30_000);

pub fn check(bytes: &[u8]) {
    let Some((flags, rest)) = bytes.split_first() else { return };
    let (path, content) = line(rest);
    let path: Vec<u8> = path.iter().map(|b| if *b == 0 { b'\n' } else { *b }).collect();
    let path = PathBuf::from(OsStr::from_bytes(&path));
    // What a filesystem can hold, below the folder.
    let Some(name) = path.file_name().filter(|name| name.len() <= 255) else { return };
    if path.is_absolute() || path.components().any(|part| matches!(part.as_os_str().as_bytes(), b".." | b"."))
    {
        return;
    }
    let has = |flag: u8| flags & flag != 0;
    let entry = Entry {
        path: path.clone(),
        kind: [Kind::File, Kind::Folder, Kind::Link, Kind::Special][usize::from(flags & 3)],
        id: FileId { dev: 1, ino: 2 },
        bytes: if has(4) { u64::from(*flags) << 20 } else { content.len() as u64 },
        links: if has(8) { 2 } else { 1 },
        modified: (5, 0),
        changed: (6, 0),
        at_home: !has(16),
    };
    let seen = Seen::of(&entry, None, Duration::from_secs(10));
    let arrival = if has(32) { Arrival::RenamedIn } else { Arrival::Silent };
    let now = Duration::from_secs(if has(64) { 11 } else { 12 });
    let decision = decide(&entry, seen, arrival, now, SETTLE);

    let format = Format::of_path(Path::new(name));
    let rests = has(32) || !has(64);
    let hidden = matches!(name.as_bytes(), [b'.' | b'~', ..]);
    match &decision {
        Decision::Take(taken) => {
            assert!(!hidden && rests && Some(*taken) == format && (1..=64 << 20).contains(&entry.bytes));
            assert!(entry.kind == Kind::File && entry.links == 1 && entry.at_home, "{entry:?}");
        }
        Decision::Refuse(_) => assert!(!hidden && rests && format.is_some() && entry.bytes > 1 << 20),
        Decision::Ignore | Decision::Leave(_) => {}
        Decision::Wait(until) => assert!(*until <= now + SETTLE && !rests),
    }
    if let Decision::Take(_) | Decision::Refuse(_) = decision {
        claimed(&entry, seen, name, &decision);
    }
    let rules = Rules {
        defaults: Draft::default(),
        price: Box::new(JobType::price),
        max_jobs: MAX_JOBS,
        max_credits: Some(MAX_CREDITS),
    };
    match decision {
        Decision::Take(format) => judged(&path, judge(&rules, &path, format, content)),
        Decision::Refuse(refusal) => judged(&path, refuse(&path, refusal)),
        Decision::Ignore | Decision::Leave(_) | Decision::Wait(_) => {}
    }
}

/// A claimed file that is found again is what it was.
fn claimed(entry: &Entry, seen: Seen, name: &OsStr, decision: &Decision) {
    let claim = Claim::new(u32::MAX, 7);
    let held = claim.name_for(name);
    // With a number and the longest ending, it has to fit where it goes.
    assert!(held.len() <= 255 && !held.as_bytes().contains(&b'/'), "{held:?}");
    let (again, original) = Claim::parse(&held).expect("a claim of ours");
    assert_eq!(again, claim);
    assert!(original.len() + "-9999.status.txt".len() <= 255);
    assert!(original == name || name.len() > 200, "{original:?}");
    let later = decide_own_claim(entry, seen, original, Duration::from_secs(3600), SETTLE);
    assert_eq!(&later, decision, "{original:?}");
}

fn judged(path: &Path, verdict: Verdict) {
    let name = path.to_string_lossy().into_owned();
    let (accepted, remarks, jobs) = match verdict {
        Verdict::Accepted { batch, warnings } => {
            assert!((1..=MAX_JOBS).contains(&batch.jobs.len()));
            let price: Credits = batch.jobs.iter().map(|job| job.estimate).sum();
            assert!(price <= MAX_CREDITS && price > Credits::ZERO, "{price}");
            let folders = path.parent().into_iter().flat_map(Path::components);
            for folder in folders.map(|folder| folder.as_os_str().to_string_lossy().into_owned()) {
                assert!(batch.jobs.iter().all(|job| job.tags.contains(&folder)), "{folder:?}");
            }
            (true, warnings, batch.jobs)
        }
        Verdict::Rejected { errors } => {
            assert!(errors.starts_with("error") && errors.ends_with('\n'), "{errors:?}");
            (false, errors, Vec::new())
        }
    };
    assert_showable(&remarks);
    let file = InboxFile {
        id: 1,
        name,
        held: path.to_owned(),
        place: path.to_owned(),
        accepted,
        remarks,
        taken_at: Timestamp::from_millis((path.as_os_str().len() as i64).saturating_mul(i64::MAX / 300)),
        changes: 1,
        told_at: Timestamp::from_millis(i64::MIN),
    };
    let text = status::errors(&file, Path::new("/share/in\nbox"));
    assert_showable(&text);
    assert_eq!(text.lines().count(), file.remarks.lines().count() + 2, "{text:?}");

    let told: Vec<_> =
        jobs.iter().take(9).zip(1..).map(|(job, id)| told(id, job.name.clone(), &file)).collect();
    let text = status::status(&file, &told, Timestamp::from_millis(0), &TimeZone::UTC);
    assert_showable(&text);
    let remarks = if file.remarks.is_empty() { 0 } else { file.remarks.lines().count() + 1 };
    let existing = usize::from(told.iter().any(|job| job.existing));
    assert_eq!(text.lines().count(), 1 + existing + remarks + 2 + told.len() + 2, "{text:?}");
}

/// A job as the queue tells of it, with foreign words wherever there can be some.
fn told(id: i64, name: Option<String>, file: &InboxFile) -> FileJob {
    let failure = Failure { code: file.name.clone(), message: file.remarks.clone(), charged: Charged::No };
    let found = Found {
        name: name.or_else(|| Some(file.name.clone())),
        state: State::Queued,
        error: (id % 2 == 0).then_some(failure),
        estimate: Credits::new(u64::MAX),
        videos: vec![file.name.clone()],
    };
    FileJob { id: JobId(id), existing: id % 3 == 0, found: (id % 5 != 0).then_some(found) }
}
