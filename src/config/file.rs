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
        return match read(&path) {
            Ok(text) => parse(path, &text).map(Some),
            Err(source) => Err(unreadable(path, source)),
        };
    }
    let homes = [environment.config_home(), Some(environment.etc.clone())];
    for path in homes.into_iter().flatten().map(|home| home.join("klingd/klingd.toml")) {
        match read(&path) {
            Ok(text) => return parse(path, &text).map(Some),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(unreadable(path, source)),
        }
    }
    Ok(None)
}

/// Where a new file belongs: where a named one is, else the first place that is looked at.
pub fn place(named: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let variable = || environment.variable("KLINGD_CONFIG").map(PathBuf::from);
    let home = || environment.config_home().map(|home| home.join("klingd/klingd.toml"));
    named.map(Path::to_owned).or_else(variable).or_else(home)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_BYTES {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(text)
}

fn unreadable(path: PathBuf, source: io::Error) -> ConfigError {
    let instead = match source.kind() {
        io::ErrorKind::NotFound => "name one that exists, or write one with `klingd config init`",
        io::ErrorKind::PermissionDenied => "join the group that may read it, or name another with --config",
        io::ErrorKind::InvalidData => "save it as UTF-8 text",
        _ => "mend or move it, or name another with --config",
    };
    ConfigError::Read { path, source, instead }
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
        match value.get_ref() {
            DeValue::Table(inner) => note_lines(inner, &path, text, lines),
            DeValue::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        note_lines(inner, &raw::nth(&path, n), text, lines);
                    }
                }
            }
            _ => {}
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
/// whatever follows a word that smells of a secret, and every long run of letters with a digit, stays
/// out of terminals and logs.
fn without_secrets(line: &str) -> String {
    const WORDS: [&str; 6] = ["key", "token", "secret", "password", "bearer", "://"];
    let lower = line.to_ascii_lowercase();
    let end =
        WORDS.iter().filter_map(|word| Some(lower.find(word)? + word.len())).min().unwrap_or(line.len());
    let hidden = if end < line.len() { "…" } else { "" };
    let words = line[..end].split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !"-_+/=".contains(c));
    let shown: String = words.map(|word| if looks_like_a_secret(word) { "…" } else { word }).collect();
    format!("{}{hidden}", shown.escape_debug())
}

fn looks_like_a_secret(word: &str) -> bool {
    /// No key of the configuration is this long and has a digit as well.
    const SHORTEST: usize = 16;
    word.len() >= SHORTEST && word.bytes().any(|byte| byte.is_ascii_digit())
}
