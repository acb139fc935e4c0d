//! Job files as `enqueue` and `check` take them: read whole and checked whole, before anything else is opened.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::Context;
use crate::{
    config::Config,
    disk::Template,
    domain::{JobType, job_type::Price},
    intake::{
        flags::FlagError,
        jobfile::{self, Code, Diagnostic, Format, Severity},
    },
    store::enqueue::NewBatch,
};

/// Bytes of one file: the largest JSON Lines file that the inbox takes.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// What stands for standard input.
const STDIN: &str = "-";

/// What reading files came to. Everything that is wrong was said already.
pub struct Findings {
    /// What the files that are right bring, a batch each.
    pub batches: Vec<NewBatch>,
    /// How many errors the others have.
    pub errors: usize,
    /// Whether every one of the errors is about money: the files as such are right.
    pub only_money: bool,
}

/// Reads all of them, and says everything that is wrong with any.
pub fn read(context: &Context, config: &Config, paths: &[PathBuf]) -> Findings {
    let mut findings = Findings { batches: Vec::new(), errors: 0, only_money: true };
    for path in paths {
        match read_file(context, config, path) {
            Ok(batch) => findings.batches.push(batch),
            Err(codes) => {
                findings.errors += codes.len();
                findings.only_money &= codes.iter().all(|code| *code == Some(Code::OverMaxCredits));
            }
        }
    }
    findings
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

/// One file, or the kinds of its errors (`None`: it can't be read at all).
fn read_file(context: &Context, config: &Config, path: &Path) -> Result<NewBatch, Vec<Option<Code>>> {
    let name = if path.as_os_str() == STDIN { "stdin".into() } else { path.to_string_lossy() };
    let (bytes, format) = open(path).map_err(|why| {
        complain(context, &format!("error: {name}: {why}"), &name, "", ("unreadable", &why, None));
        vec![None]
    })?;
    match with_rules(config, |rules| jobfile::read(&bytes, format, &name, rules)) {
        Ok(file) => {
            explain(context, &bytes, &file.warnings);
            let stem = || match path.file_stem() {
                Some(stem) if path.as_os_str() != STDIN => stem.to_string_lossy().into_owned(),
                Some(_) | None => "enqueue".to_owned(),
            };
            Ok(NewBatch {
                name: file.batch.unwrap_or_else(stem),
                source: name.into_owned(),
                max_credits: file.batch_max_credits,
                jobs: file.jobs,
            })
        }
        Err(diagnostics) => {
            explain(context, &bytes, &diagnostics);
            let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
            Err(errors.map(|d| Some(d.code)).collect())
        }
    }
}

fn open(path: &Path) -> Result<(Vec<u8>, Format), String> {
    if path.as_os_str() == STDIN {
        let bytes = bounded(io::stdin().lock()).map_err(|e| format!("standard input can't be read: {e}"))?;
        let format = Format::guess(&bytes);
        return Ok((bytes, format));
    }
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder; name the files in it".to_owned(),
        _ => format!("it can't be read: {e}"),
    };
    let file = File::open(path).map_err(unreadable)?;
    let format = Format::of_path(path).ok_or_else(|| {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        format!(
            "{extension:?} is no format of job files (.toml, .json, .jsonl); pipe it: klingd enqueue - < FILE"
        )
    })?;
    Ok((bounded(file).map_err(unreadable)?, format))
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it has more than 64 MiB"));
    }
    Ok(bytes)
}

/// Shows diagnostics with the lines they are about.
fn explain(context: &Context, bytes: &[u8], diagnostics: &[Diagnostic]) {
    if context.global.json {
        diagnostics.iter().for_each(|d| context.print(&json!(d).to_string()));
    } else if !diagnostics.is_empty() {
        context.complain(&jobfile::render_terminal(bytes, diagnostics, context.err_colour()));
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
