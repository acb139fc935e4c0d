//! `[[hook]]`: programs that are told what happened.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use toml::Value;

use super::error::Complaint;
use super::raw;
use super::reader::Reader;
use super::sections::Hook;
use super::units::{DURATION, TEXT};
use crate::domain::hook::HookEvent;

/// One program each is enough for anybody; each may have a process of its own running.
const MOST: usize = 16;
/// Long enough for a mail that waits for its server.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A hook's calls are made one after the other: one that hangs for longer would be days behind.
const LONGEST: Duration = Duration::from_secs(600);

const EVENTS: &str = "write some of \"job.done\", \"job.failed\", \"job.in_doubt\", \"batch.done\", \"budget.stop\", \"hold.set\"";
const ARGV: &str = "write the program and its arguments one by one, such as [\"/usr/local/bin/notify\", \"--quiet\"]; no shell reads it";

/// All of them, each with a name of its own.
pub(super) fn hooks(read: &mut Reader) -> Vec<Hook> {
    read.refuse_one_table("hook");
    let mut names = BTreeSet::new();
    let count = read.tables("hook");
    let hooks = (0..count).filter_map(|n| hook(read, &raw::nth("hook", n), &mut names)).collect();
    if count > MOST {
        read.complain("hook", format!("stands there {count} times"), format!("write at most {MOST}"));
    }
    hooks
}

fn hook(read: &mut Reader, table: &str, names: &mut BTreeSet<String>) -> Option<Hook> {
    let key = |name| format!("{table}.{name}");
    let on = read.required(&key("on"), |on: &Vec<_>| show_events(on), EVENTS, parse_events);
    let run = read.required(&key("run"), Run::show, ARGV, Run::parse);
    let timeout = read.bounded(
        &key("timeout"),
        DURATION,
        TIMEOUT,
        Duration::from_millis(100)..=LONGEST,
        "its next call waits until it has ended, or was killed",
    );
    let given = read.optional(&key("name"), TEXT);
    let (on, Run { program, arguments, file_name }) = (on?, run?);
    let name = given.unwrap_or(file_name);
    if !names.insert(name.clone()) {
        read.complain(
            &key("run"),
            format!("is a second hook named {name:?}, and its calls could not be told from the first one's"),
            "give it a `name` of its own",
        );
    }
    Some(Hook { name, on, program, arguments, timeout })
}

fn parse_events(value: &Value) -> Result<Vec<HookEvent>, Complaint> {
    let wrong = || Complaint::new("is not a list of events", EVENTS);
    let one = std::slice::from_ref(value);
    let words = value.as_array().map_or(one, Vec::as_slice);
    let mut events = Vec::new();
    for word in words {
        let word = word.as_str().ok_or_else(wrong)?;
        let Some(event) = HookEvent::parse(word) else {
            return Err(Complaint::new(format!("has {word:?}, which is no event"), suggestion(word)));
        };
        if !events.contains(&event) {
            events.push(event);
        }
    }
    if events.is_empty() { Err(wrong()) } else { Ok(events) }
}

fn suggestion(word: &str) -> String {
    /// Below this a suggestion confuses more than it helps.
    const CLOSE: f64 = 0.8;
    let likeness = |event: &HookEvent| strsim::jaro_winkler(event.as_str(), word);
    let best = HookEvent::ALL.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) >= CLOSE) {
        Some(best) => format!("did you mean {:?}?", best.as_str()),
        None => EVENTS.to_owned(),
    }
}

fn show_events(events: &[HookEvent]) -> String {
    format!("{:?}", events.iter().map(|event| event.as_str()).collect::<Vec<_>>())
}

/// What is run.
struct Run {
    program: String,
    arguments: Vec<String>,
    file_name: String,
}

impl Run {
    fn parse(value: &Value) -> Result<Self, Complaint> {
        let wrong = |why| Complaint::new(why, ARGV);
        let words = value.as_array().ok_or_else(|| wrong("is not a list"))?;
        let word = |word: &Value| word.as_str().map(str::to_owned);
        let argv: Option<Vec<String>> = words.iter().map(word).collect();
        let mut argv = argv.ok_or_else(|| wrong("has something that is not text"))?.into_iter();
        let program = argv.next().ok_or_else(|| wrong("is empty"))?;
        let arguments: Vec<String> = argv.collect();
        if program.contains('\0') || arguments.iter().any(|word| word.contains('\0')) {
            return Err(wrong("holds a NUL, which no argument can"));
        }
        let path = Path::new(&program);
        let file_name = path.file_name().filter(|_| path.is_absolute()).ok_or_else(|| {
            Complaint::new(
                format!("names {program:?}, and a daemon's search path is nobody's choice"),
                "write the program's whole path",
            )
        })?;
        let file_name = file_name.to_string_lossy().into_owned();
        Ok(Self { program, arguments, file_name })
    }

    fn show(&self) -> String {
        let words: Vec<&String> = std::iter::once(&self.program).chain(&self.arguments).collect();
        format!("{words:?}")
    }
}
