//! The configuration file: which one, its text, its syntax, and the line of each key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, SyntaxProblem};
use super::raw;
use super::{Environment, Overrides};

/// A file with every key has 10 KiB; one of more than a mebibyte is something else.
const MAX_BYTES: u64 = 1024 * 1024;

/// A parsed file.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) table: toml::Table,
    /// The line of each key and table, by whole path.
    pub(super) lines: BTreeMap<String, usize>,
}

/// The file that counts: a named one, which must exist, else the first of the user's and the system's.
pub(super) fn find(
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Option<ConfigFile>, ConfigError> {
    let variable = environment.variable("KLINGD_CONFIG").map(PathBuf::from);
    if let Some(named) = overrides.config.clone().or(variable) {
        let path = environment.current_dir.join(named);
        return match read(&path)? {
            Some(text) => parse(path, &text).map(Some),
            None => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                Err(ConfigError::Read { path, source, instead: "write one with `klingd config init`" })
            }
        };
    }
    let homes = [environment.config_home(), Some(environment.etc.clone())];
    for path in homes.into_iter().flatten().map(|home| home.join("klingd/klingd.toml")) {
        if let Some(text) = read(&path)? {
            return parse(path, &text).map(Some);
        }
    }
    Ok(None)
}

/// The file's text; `None` when there is no file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source: io::Error| {
        let instead = match source.kind() {
            io::ErrorKind::PermissionDenied => {
                "ask for membership of the group that may read it, or name another with --config"
            }
            io::ErrorKind::InvalidData => "save it as UTF-8 text",
            _ => "mend or move it, or name another with --config",
        };
        ConfigError::Read { path: path.to_owned(), source, instead }
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if length as u64 > MAX_BYTES {
        return Err(failed(io::Error::other("it has more than 1 MiB")));
    }
    Ok(Some(text))
}

fn parse(path: PathBuf, text: &str) -> Result<ConfigFile, ConfigError> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(ConfigError::Syntax(
            errors.iter().map(|error| syntax_problem(&path, text, error)).collect(),
        ));
    }
    let mut lines = BTreeMap::new();
    note_lines(document.get_ref(), "", text, &mut lines);
    match serde::Deserialize::deserialize(toml::Deserializer::from(document)) {
        Ok(table) => Ok(ConfigFile { path, table, lines }),
        // What is well formed and still no value, such as a number beyond 64 bits.
        Err(error) => Err(ConfigError::Syntax(vec![syntax_problem(&path, text, &error)])),
    }
}

fn note_lines(table: &DeTable<'_>, path: &str, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path = raw::join(path, key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            note_lines(inner, &path, text, lines);
        }
        lines.insert(path, position(text, key.span().start).0);
    }
}

fn syntax_problem(path: &Path, text: &str, error: &toml::de::Error) -> SyntaxProblem {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    SyntaxProblem {
        path: path.to_owned(),
        line,
        column,
        message: error.message().escape_debug().to_string(),
        text: without_secrets(text.lines().nth(line - 1).unwrap_or_default()),
    }
}

/// Line and column of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// A line of the file for a message. A broken line is often one where somebody just pasted a key, so
/// whatever follows a word that smells of a secret stays out of terminals and logs.
fn without_secrets(line: &str) -> String {
    const WORDS: [&str; 6] = ["key", "token", "secret", "password", "bearer", "://"];
    let lower = line.to_ascii_lowercase();
    let end = WORDS.iter().filter_map(|word| Some(lower.find(word)? + word.len())).min();
    match end {
        Some(end) if end < line.len() => format!("{}…", line[..end].escape_debug()),
        Some(_) | None => line.escape_debug().to_string(),
    }
}
