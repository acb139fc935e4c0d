//! Every fault of the sandbox's vocabulary, and what else a seed may choose for the world of one life.

use std::time::Duration;

use klingd::sandbox::{AcceptKeys, Options};

use crate::common::{ms, provider};

/// Faults of a submit. A `!` marks those after which klingd waits longer than a test may: a person says "now".
///
/// Missing on purpose: an answer that says "not charged" in the provider's documented words, and charges. The promise
/// stands on those words (provider.md); `INTERNAL_ERROR` that charges has its own test.
pub const GENERATE: &[&str] = &[
    "slow=20",
    "reset-before",
    "reset-after",
    "close-before",
    "close-after",
    "hang-before",
    "hang-after",
    "cut-body",
    "cut-body-inside-id",
    "cut-body-after-id",
    "reset-body",
    "reset-body-after-id",
    "stall-body",
    "stall-body-after-id",
    "padded=5000",
    "padded=3000000",
    "no-task-id",
    "not-json",
    "code-in-200=1234",
    "code-in-200=429",
    "!code-in-200=500",
    "duplicate-task-id",
    "no-credits-field",
    "other-credits=77",
    "already-success",
    "already-failed",
    "redirect=301",
    "redirect=307",
    "302",
    "400",
    "400-echo",
    "400-foreign",
    "401",
    "402",
    "403",
    "404",
    "405",
    "408",
    "409",
    "413",
    "422",
    "!429",
    "429=1",
    "429=7200",
    "!429-parallel",
    "429-html",
    "451-empty",
    "!500",
    "!500-number",
    "500-html",
    "500-credits",
    "502",
    "502-html",
    "!503",
    "503=1",
    "503-html",
    "504-empty",
    "520-foreign",
    "502-html-charged",
    "504-empty-charged",
    "500-html-charged",
    "503-html-charged",
    "500-task-id",
    "429-task-id",
    "400-task-id",
];

/// Faults of a status call.
pub const STATUS: &[&str] = &[
    "slow=20",
    "reset",
    "close",
    "hang",
    "cut-body",
    "padded=5000",
    "padded=3000000",
    "not-json",
    "code-in-200=404",
    "code-in-200=500",
    "code-in-200=429",
    "word=QUEUED",
    "success-word=DONE",
    "failed-word=ERROR",
    "COMPLETED",
    "SUCCEEDED",
    "lower-case",
    "success-no-url",
    "other-task",
    "urls=array",
    "urls=objects",
    "urls=resultUrls",
    "urls=json-string",
    "urls=json-objects",
    "urls=json-resultUrls",
    "urls=bare",
    "url=nowhere",
    "url=\"file:///etc/passwd\"",
    "two-videos",
    "stale-in-progress",
    "failed-once",
    "hide-refund",
    "no-credits-field",
    "no-echo",
    "echo-defaults",
    "400",
    "401",
    "403",
    "404",
    "422",
    "429",
    "429=1",
    "500",
    "500-html",
    "502-html",
    "503-empty",
    "504-foreign",
];

/// Faults of a download.
pub const VIDEO: &[&str] = &[
    "slow=20",
    "cut=60000",
    "reset=10000",
    "stall=30000",
    "chunked-cut=50000",
    "drip=1",
    "html",
    "json",
    "xml",
    "empty",
    "not-mp4",
    "redirect=3",
    "redirect-loop",
    "redirect-to=nowhere",
    "redirect-to=\"file:///etc/passwd\"",
    "etag-changed",
    "ignore-range",
    "wrong-content-range",
    "lie-long=100",
    "lie-short=100",
    "gzip",
    "403",
    "404",
    "410",
    "416",
    "429",
    "429=1",
    "500",
    "503",
    "503=1",
];

/// Faults of a task.
pub const TASK: &[&str] =
    &["slow=60", "fail", "fail-no-refund", "fail-keep=50", "settle=50", "never", "no-sound", "other-length"];

/// Some faults can show only where another one came first.
const COMPANIONS: &[(&str, &str)] = &[
    ("status:failed-word", "task:fail@1-2"),
    ("status:hide-refund", "task:settle=50@1-2"),
    ("status:stale-in-progress", "video:404@1-2"),
    ("video:etag-changed", "video:cut=60000@1-2"),
    ("video:ignore-range", "video:cut=60000@1-2"),
    ("video:wrong-content-range", "video:cut=60000@1-2"),
    ("video:416", "video:cut=60000@1-2"),
];

/// The length of each video: enough to be cut, little enough to be quick.
const VIDEO_BYTES: u64 = 120_000;

/// The world of one life.
pub struct Weather {
    /// The provider, and all that goes wrong there.
    pub options: Options,
    /// Its faults.
    pub rules: Vec<String>,
    /// The key is refused at first.
    pub wrong_key: bool,
    /// A person looks after every submit that failed.
    pub impatient: bool,
    /// Something will hang: the timeouts are short.
    pub hangs: bool,
}

impl Weather {
    pub fn of(seed: u64, dice: &mut fastrand::Rng) -> Self {
        let mut rules = Vec::new();
        let mut impatient = false;
        // Each list comes round by the seed, so that nothing is left out; what else goes wrong is drawn.
        for (point, faults, more) in
            [("generate", GENERATE, 1), ("status", STATUS, 1), ("video", VIDEO, 1), ("task", TASK, 0)]
        {
            let turn = usize::try_from(seed % faults.len() as u64).unwrap();
            let drawn = (0..dice.usize(0..=more)).map(|_| dice.usize(..faults.len())).collect::<Vec<_>>();
            for (index, fault) in std::iter::once(turn).chain(drawn).enumerate() {
                impatient |= faults[fault].starts_with('!');
                let rule = format!("{point}:{}", faults[fault].trim_start_matches('!'));
                let companion = COMPANIONS.iter().find(|(spoiled, _)| rule.starts_with(spoiled));
                rules.extend(companion.map(|(_, first)| (*first).to_owned()));
                // Once for sure where it is its turn, else as often as the dice say.
                let often = index > 0 || dice.bool();
                rules.push(if often && companion.is_none() {
                    format!("{rule}%{}", dice.u8(10..=35))
                } else {
                    rule
                });
            }
        }
        // An id of a task whose own answer was lost can't be told from the right one: here nothing else goes wrong.
        if rules.iter().any(|rule| rule.contains("duplicate-task-id")) {
            rules.retain(|rule| !rule.starts_with("generate:"));
            rules.push("generate:duplicate-task-id".to_owned());
        }
        // The double changes all files of a task at once, also those that were fetched already.
        if rules.iter().any(|rule| rule.starts_with("video:etag-changed")) {
            rules.retain(|rule| !rule.starts_with("status:two-videos"));
        }
        let hangs = rules.iter().any(|rule| ["hang", "stall", "drip"].iter().any(|word| rule.contains(word)));
        let never = rules.iter().any(|rule| rule.starts_with("task:never"));
        let options = Options {
            seed,
            faults: rules.join(",").parse().unwrap(),
            video_bytes: Some(VIDEO_BYTES),
            render_time: Duration::ZERO..=ms(dice.u64(0..=60)),
            latency: ms(dice.u64(0..=3)),
            balance: if dice.u8(..) < 50 { 400 } else { 1_000_000 },
            requests_per_second: (dice.u8(..) < 70).then(|| (dice.u32(20..=60).into(), dice.u32(3..=10))),
            retry_after: dice.bool(),
            // A task that never ends holds its slot for ever.
            parallel_tasks: (!never && dice.u8(..) < 70).then(|| dice.u32(1..=3)),
            link_life: if dice.u8(..) < 50 { ms(dice.u64(250..=500)) } else { Duration::from_secs(3600) },
            keys: AcceptKeys::Any,
            ..provider()
        };
        Self { options, rules, wrong_key: dice.u8(..) < 40, impatient, hangs }
    }
}
