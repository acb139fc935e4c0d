//! Job files as `enqueue` and `check` take them: read whole and checked whole, before anything else is opened.

mod source;

use std::{
    io::BufRead,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::json;

use self::source::{Source, next_line};
use super::{Context, pile::Pile, progress::bytes_bar};
use crate::{
    config::Config,
    disk::Template,
    domain::{Credits, JobType, job::NewJob, job_type::Price},
    intake::{
        flags::FlagError,
        jobfile::{self, Code, Diagnostic, Faults, LineReader, MAX_ERRORS, Severity},
    },
};

/// What stands for standard input.
const STDIN: &str = "-";

/// The jobs of one file, or of flags.
pub struct Batch {
    /// Its name.
    pub name: String,
    /// The file, or `flags`.
    pub source: String,
    /// What its new jobs may cost together.
    pub max_credits: Option<Credits>,
    /// Its jobs.
    pub jobs: Pile,
}

/// What reading files came to. Everything that is wrong was said already.
pub struct Findings {
    /// What the files that are right bring, a batch each.
    pub batches: Vec<Batch>,
    /// How many errors the others have.
    pub errors: usize,
    /// Whether every one of the errors is about money: the files as such are right.
    pub only_money: bool,
}

/// What reading needs besides the paths.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Who asks.
    pub context: &'a Context,
    /// The rules.
    pub config: &'a Config,
    /// Where jobs wait when they are many.
    pub scratch: &'a Path,
    /// What the command line says of each job.
    pub change: &'a dyn Fn(&mut NewJob),
}

/// Reads all of them, and says everything that is wrong with any.
pub fn read(reading: Reading<'_>, paths: &[PathBuf]) -> Result<Findings> {
    let mut findings = Findings { batches: Vec::new(), errors: 0, only_money: true };
    for path in paths {
        match with_rules(reading.config, |rules| read_file(reading, rules, path))? {
            Ok(batch) => findings.batches.push(batch),
            Err(wrong) => {
                findings.errors += wrong.errors;
                findings.only_money &= wrong.only_money;
            }
        }
    }
    Ok(findings)
}

/// The jobs' rules as the configuration has them, for `read`.
pub fn with_rules<T>(config: &Config, read: impl FnOnce(&jobfile::Context<'_>) -> T) -> T {
    let price = |job_type: JobType| -> Price { config.prices.of(job_type) };
    let check_template = |text: &str| Template::parse(text).map(drop).map_err(|e| e.to_string());
    // A person sees the price before it is paid, so the number of jobs has no cap here.
    let rules = jobfile::Context {
        defaults: &config.defaults,
        price: &price,
        check_template: &check_template,
        max_jobs: None,
    };
    read(&rules)
}

/// Says what is wrong with the flags of a job.
pub fn complain_of_flags(context: &Context, errors: &[FlagError]) {
    for error in errors {
        let FlagError { flag, code, message, hint } = error;
        complain(
            context,
            &format!("error: {error}"),
            "flags",
            flag,
            (code.as_str(), message, hint.as_deref()),
        );
    }
}

/// How much is wrong with a file.
struct Wrong {
    errors: usize,
    shown: usize,
    only_money: bool,
}

impl Wrong {
    fn none() -> Self {
        Self { errors: 0, shown: 0, only_money: true }
    }

    /// Notes faults; those that shall be shown of them.
    fn note<'f>(&mut self, faults: &'f Faults) -> &'f [Diagnostic] {
        let room = MAX_ERRORS.saturating_sub(self.shown);
        let some = faults.shown.get(..room).unwrap_or(&faults.shown);
        self.errors += faults.errors;
        self.shown += some.len();
        let errors = faults.shown.iter().filter(|d| d.severity == Severity::Error);
        // Of what is not there to look at, the worst is assumed.
        self.only_money &=
            faults.errors <= MAX_ERRORS && errors.map(|d| d.code).all(|code| code == Code::OverMaxCredits);
        some
    }

    /// Notes that the file can't be read, or not to its end.
    fn note_unreadable(mut self) -> Self {
        self.errors += 1;
        self.shown += 1;
        self.only_money = false;
        self
    }
}

/// One file: its jobs, or how much is wrong with it. The outer error is the machine's.
fn read_file(
    reading: Reading<'_>,
    rules: &jobfile::Context<'_>,
    path: &Path,
) -> Result<Result<Batch, Wrong>> {
    let name = if path.as_os_str() == STDIN { "stdin".into() } else { path.to_string_lossy() };
    let context = reading.context;
    let unreadable = |why: String, wrong: Wrong| {
        complain(context, &format!("error: {name}: {why}"), &name, "", ("unreadable", &why, None));
        Ok(Err(wrong.note_unreadable()))
    };
    let mut wrong = Wrong::none();
    let mut batch = Batch {
        name: batch_name(path),
        source: name.clone().into_owned(),
        max_credits: None,
        jobs: Pile::new(reading.scratch.to_owned()),
    };
    match source::open(path, path.as_os_str() == STDIN) {
        Err(why) => return unreadable(why, wrong),
        Ok(Source::Whole(bytes, format)) => {
            match jobfile::read_counted(&bytes, format, &name, rules) {
                Ok(file) => {
                    explain(context, &bytes, 0, &file.warnings);
                    batch.name = file.batch.unwrap_or(batch.name);
                    batch.max_credits = file.batch_max_credits;
                    file.jobs.into_iter().try_for_each(|job| add(&mut batch.jobs, job, reading))?;
                }
                Err(faults) => explain(context, &bytes, 0, wrong.note(&faults)),
            };
        }
        Ok(Source::Lines { lines, bytes }) => {
            let mut reader = LineReader::new(&name, rules);
            match read_lines(reading, lines, bytes, &mut reader, &mut wrong, &mut batch.jobs)? {
                Ok(()) => {}
                Err(why) => return unreadable(why, wrong),
            }
            if let Err(faults) = reader.finish() {
                explain(context, &[], 0, wrong.note(&faults));
            }
        }
    }
    if wrong.errors == 0 {
        return Ok(Ok(batch));
    }
    if wrong.errors > wrong.shown {
        let message =
            format!("these are the first {} of {} errors", wrong.shown, Credits::new(wrong.errors as u64));
        complain(context, &format!("{name}: {message}"), &name, "", (Code::More.as_str(), &message, None));
    }
    Ok(Err(wrong))
}

/// Every line, as it comes: what is wrong is said at once, what is right goes onto the pile until something is wrong.
fn read_lines(
    reading: Reading<'_>,
    mut lines: Box<dyn BufRead>,
    bytes: Option<u64>,
    reader: &mut LineReader<'_>,
    wrong: &mut Wrong,
    pile: &mut Pile,
) -> Result<Result<(), String>> {
    let bar = bytes_bar("reading", bytes, reading.context.shows_progress());
    let mut line = Vec::new();
    while !reader.is_over() {
        let offset = reader.offset();
        match next_line(&mut lines, &mut line) {
            Ok(true) => {}
            Ok(false) => break,
            Err(why) => return Ok(Err(why)),
        }
        bar.inc(line.len() as u64);
        match reader.read(&line) {
            Ok(jobs) if wrong.errors == 0 => {
                jobs.into_iter().try_for_each(|job| add(pile, job, reading))?;
            }
            Ok(_) => {}
            Err(faults) => {
                pile.clear();
                let some = wrong.note(&faults);
                bar.suspend(|| explain(reading.context, &line, offset, some));
            }
        }
    }
    bar.finish_and_clear();
    Ok(Ok(()))
}

fn add(pile: &mut Pile, mut job: NewJob, reading: Reading<'_>) -> Result<()> {
    (reading.change)(&mut job);
    pile.push(&job)
}

/// A batch without a name of its own is called as its file.
fn batch_name(path: &Path) -> String {
    match path.file_stem() {
        Some(stem) if path.as_os_str() != STDIN => stem.to_string_lossy().into_owned(),
        Some(_) | None => "enqueue".to_owned(),
    }
}

/// Shows diagnostics with the lines they are about; `bytes` begin behind `offset` bytes of the file.
fn explain(context: &Context, bytes: &[u8], offset: usize, diagnostics: &[Diagnostic]) {
    if context.global.json {
        diagnostics.iter().for_each(|d| context.print(&json!(d).to_string()));
    } else if !diagnostics.is_empty() {
        context.complain(&jobfile::render_line(bytes, offset, diagnostics, context.err_colour()));
        // What comes next, another line's or the last word, stands apart.
        context.complain("");
    }
}

/// An error that is at no place in a file; as JSON it has the keys of one that is.
fn complain(
    context: &Context,
    text: &str,
    file: &str,
    key: &str,
    (code, message, hint): (&str, &str, Option<&str>),
) {
    if context.global.json {
        let json = json!({
            "severity": Severity::Error, "code": code, "message": message, "hint": hint,
            "file": file, "line": null, "column": null, "key": key, "span": null,
        });
        context.print(&json.to_string());
    } else {
        context.complain(text);
    }
}
