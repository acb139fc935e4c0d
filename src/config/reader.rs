//! Reads keys one by one, each exactly once, and keeps the books: where each value came from, every
//! problem, and at the end which keys nobody asked for.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::error::{Complaint, Problem};
use super::raw::{self, Entry, Origin, Raw};
use super::units::{Kind, text};
use super::{Environment, Row};

pub(super) struct Reader<'a> {
    raw: Raw,
    environment: &'a Environment,
    known: BTreeSet<String>,
    pub(super) rows: Vec<Row>,
    problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(raw: Raw, problems: Vec<Problem>, environment: &'a Environment) -> Self {
        Self { raw, environment, known: BTreeSet::new(), rows: Vec::new(), problems, warnings: Vec::new() }
    }

    /// A value of any kind within bounds. The reason completes "…, because".
    pub(super) fn bounded<T: PartialOrd>(
        &mut self,
        key: &str,
        kind: Kind<T>,
        default: T,
        range: RangeInclusive<T>,
        reason: &str,
    ) -> T {
        let instead = format!("write one that is; the default is {}", (kind.show)(&default));
        self.read(key, default, kind.show, |entry| within(&kind, &range, reason, entry, &instead))
    }

    /// A value within bounds, or `learned`.
    pub(super) fn or_learned<T: PartialOrd>(
        &mut self,
        key: &str,
        kind: Kind<T>,
        default: Option<T>,
        range: RangeInclusive<T>,
        reason: &str,
    ) -> Option<T> {
        let show = |value: &Option<T>| value.as_ref().map_or_else(|| "learned".to_owned(), kind.show);
        let instead = "write one that is, or \"learned\"";
        self.read(key, default, show, |entry| match text(&entry.value) {
            Ok("learned") => Ok(None),
            Ok(_) | Err(_) => within(&kind, &range, reason, entry, instead).map(Some),
        })
    }

    /// A value within bounds that has no default.
    pub(super) fn optional_bounded<T: PartialOrd>(
        &mut self,
        key: &str,
        kind: Kind<T>,
        range: RangeInclusive<T>,
        reason: &str,
    ) -> Option<T> {
        let parse =
            |entry: &Entry| within(&kind, &range, reason, entry, "write one that is, or leave the key out");
        self.read_set(key, kind.show, parse)
    }

    /// A value of a kind that needs no bounds.
    pub(super) fn plain<T>(&mut self, key: &str, kind: Kind<T>, default: T) -> T {
        self.read(key, default, kind.show, |entry| (kind.parse)(&entry.value))
    }

    /// A value that needs neither bounds nor a default.
    pub(super) fn optional<T>(&mut self, key: &str, kind: Kind<T>) -> Option<T> {
        self.read_set(key, kind.show, |entry| (kind.parse)(&entry.value))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        words: &[(&'static str, T)],
        default: T,
    ) -> T {
        let show = |value: &T| {
            let word = words.iter().find(|(_, choice)| choice == value).map(|(word, _)| *word);
            word.unwrap_or_default().to_owned()
        };
        self.read(key, default, show, |entry| {
            let written = text(&entry.value)?.trim().to_ascii_lowercase();
            words.iter().find(|(word, _)| *word == written).map(|(_, value)| *value).ok_or_else(|| {
                let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                Complaint::new("is not one of its words", format!("write {}", all.join(" or ")))
            })
        })
    }

    /// Complains once of keys below this path, which stand in a table that should be one of several.
    pub(super) fn refuse_one_table(&mut self, path: &str) {
        let below = format!("{path}.");
        let strays: Vec<String> =
            self.raw.entries.keys().filter(|key| key.starts_with(&below)).cloned().collect();
        let first = strays.iter().filter_map(|key| self.raw.take(key)).map(|entry| entry.origin).min();
        if let Some(origin) = first {
            let complaint = Complaint::new(
                "stands there once for all",
                format!("write [[{path}]], in two brackets, above each of them"),
            );
            self.problems.push(complaint.about_hidden(path, &origin));
        }
    }

    /// How many tables an array of tables has.
    pub(super) fn tables(&self, key: &str) -> usize {
        let has = |n: usize| {
            let below = format!("{}.", raw::nth(key, n));
            self.raw.entries.keys().any(|entry| entry.starts_with(&below))
        };
        (0..).take_while(|n| has(*n)).count()
    }

    /// A value that must be set.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        show: impl Fn(&T) -> String,
        instead: &str,
        parse: impl FnOnce(&toml::Value) -> Result<T, Complaint>,
    ) -> Option<T> {
        if self.raw.entries.contains_key(key) {
            return self.read_set(key, show, |entry| parse(&entry.value));
        }
        self.known.insert(key.to_owned());
        // Where its neighbours stand: a key that is not there has no line.
        let table = key.rsplit_once('.').map_or(key, |(table, _)| table);
        let beside = format!("{table}.");
        let neighbour = |row: &&Row| row.key.starts_with(&beside);
        let origin = self.rows.iter().find(neighbour).map(|row| row.origin.clone()).or_else(|| {
            let (_, entry) = self.raw.entries.iter().find(|(entry, _)| entry.starts_with(&beside))?;
            Some(entry.origin.clone())
        });
        let complaint = Complaint::new("is missing", instead);
        self.problems.push(complaint.about_hidden(key, &origin.unwrap_or(Origin::Default)));
        None
    }

    /// A value that can be switched off; `off` is also what it is when nobody sets it.
    pub(super) fn or_off<T>(
        &mut self,
        key: &str,
        show: impl Fn(&T) -> String,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        let show = |value: &Option<T>| value.as_ref().map_or_else(|| "off".to_owned(), &show);
        self.read(key, None, show, |entry| match text(&entry.value) {
            _ if entry.value.as_bool() == Some(false) => Ok(None),
            Ok("off" | "none") => Ok(None),
            Ok(written) => parse(written).map(Some),
            Err(complaint) => Err(complaint.hiding_value()),
        })
    }

    /// A path: absolute, `~/…`, or for a flag or variable relative to the working directory.
    pub(super) fn path(&mut self, key: &str, default: PathBuf) -> PathBuf {
        let environment = self.environment;
        self.read(
            key,
            default,
            |path| path.display().to_string(),
            |entry| {
                let written = text(&entry.value)?;
                match (environment.absolute(written), &entry.origin) {
                    (Some(path), _) => Ok(path),
                    (None, _) if written.starts_with('~') => Err(Complaint::new(
                        "starts with ~, but only ~/ of a known home directory can be followed",
                        "write the whole path",
                    )),
                    (None, Origin::Flag(_) | Origin::Variable(_)) => {
                        Ok(environment.current_dir.join(written))
                    }
                    (None, Origin::Default | Origin::File { .. } | Origin::Secret(_)) => Err(Complaint::new(
                        "is relative, and a daemon's working directory is nobody's choice",
                        "write it from / or from ~/",
                    )),
                }
            },
        )
    }

    /// A value that the sandbox does not let anybody set.
    pub(super) fn fixed(&mut self, key: &str, value: String) {
        if let Some(entry) = self.raw.take(key) {
            let origin = &entry.origin;
            self.warnings
                .push(format!("{key} ({origin}) is not used with --sandbox, which keeps to {value}"));
        }
        self.show_default(key, value);
    }

    /// A key that is known, and never allowed where the layers come from.
    pub(super) fn forbidden(&mut self, key: &str, why: &str, instead: &str) {
        if let Some(entry) = self.raw.take(key) {
            self.problems.push(Complaint::new(why, instead).about_hidden(key, &entry.origin));
        }
    }

    /// Shows a key's value as what became of it.
    pub(super) fn show_as(&mut self, key: &str, value: String) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.key == key) {
            row.value = value;
        }
    }

    /// Reads one key: the default when nobody set it, or when what they set is a problem.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        default: T,
        show: impl Fn(&T) -> String,
        parse: impl FnOnce(&Entry) -> Result<T, Complaint>,
    ) -> T {
        if self.raw.entries.contains_key(key) {
            return self.read_set(key, show, parse).unwrap_or(default);
        }
        self.show_default(key, show(&default));
        default
    }

    /// Notes a key that nobody set, and what holds instead.
    pub(super) fn show_default(&mut self, key: &str, value: String) {
        self.known.insert(key.to_owned());
        self.rows.push(Row { key: key.to_owned(), value, origin: Origin::Default });
    }

    /// Reads one key if somebody set it.
    fn read_set<T>(
        &mut self,
        key: &str,
        show: impl Fn(&T) -> String,
        parse: impl FnOnce(&Entry) -> Result<T, Complaint>,
    ) -> Option<T> {
        self.known.insert(key.to_owned());
        let entry = self.raw.take(key)?;
        match parse(&entry) {
            Ok(value) => {
                self.rows.push(Row { key: key.to_owned(), value: show(&value), origin: entry.origin });
                Some(value)
            }
            Err(complaint) => {
                self.problems.push(complaint.about(key, &entry.value, &entry.origin));
                None
            }
        }
    }

    /// Whether somebody set this key (and it was read).
    pub(super) fn origin(&self, key: &str) -> Origin {
        let row = self.rows.iter().find(|row| row.key == key);
        row.map_or(Origin::Default, |row| row.origin.clone())
    }

    /// A problem of a value that was fine by itself.
    pub(super) fn complain(&mut self, key: &str, why: impl Into<String>, instead: impl Into<String>) {
        let row = self.rows.iter().find(|row| row.key == key);
        self.problems.push(Problem {
            key: key.to_owned(),
            origin: self.origin(key),
            value: row.map(|row| row.value.clone()).filter(|value| !value.is_empty()),
            why: why.into(),
            instead: instead.into(),
        });
    }

    /// Turns what nobody asked for into problems. Values stay out of them: a misspelt `api.key` is a key.
    fn refuse_the_rest(&mut self) {
        for (key, entry) in std::mem::take(&mut self.raw.entries) {
            let below = format!("{key}.");
            let section = self.known.iter().find(|known| known.starts_with(&below));
            let complaint = match section {
                Some(_) if entry.value.is_table() => continue,
                Some(known) => {
                    let instead =
                        format!("write its keys one by one, such as {}", spelt(known, &entry.origin));
                    Complaint::new("is a section", instead)
                }
                None => Complaint::new("is not a key of klingd", self.suggestion(&key, &entry)),
            };
            self.problems.push(complaint.about_hidden(&key, &entry.origin));
        }
    }

    fn suggestion(&self, key: &str, entry: &Entry) -> String {
        /// Below this a suggestion confuses more than it helps.
        const CLOSE: f64 = 0.8;
        fn last(key: &str) -> &str {
            key.rsplit_once('.').map_or(key, |(_, last)| last)
        }
        let likeness = |candidate: &str| {
            // The right name in the wrong section is a common slip.
            let tail = if last(candidate) == last(key) { 0.95 } else { 0.0 };
            strsim::jaro_winkler(candidate, key).max(tail)
        };
        let sections = self.known.iter().filter_map(|known| Some(known.rsplit_once('.')?.0));
        let keys = self.known.iter().map(String::as_str);
        let best = if entry.value.is_table() {
            sections.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        } else {
            keys.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        };
        match best.filter(|best| likeness(best) >= CLOSE) {
            Some(best) => format!("did you mean {}?", spelt(best, &entry.origin)),
            None => "`klingd config show` lists every key".to_owned(),
        }
    }

    /// The end of the reading: the warnings and what to show, or every problem.
    pub(super) fn finish(mut self) -> Result<(Vec<String>, Vec<Row>), Vec<Problem>> {
        self.refuse_the_rest();
        if self.problems.is_empty() {
            return Ok((self.warnings, self.rows));
        }
        self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        Err(self.problems)
    }
}

fn within<T: PartialOrd>(
    kind: &Kind<T>,
    range: &RangeInclusive<T>,
    reason: &str,
    entry: &Entry,
    instead: &str,
) -> Result<T, Complaint> {
    let value = (kind.parse)(&entry.value)?;
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = ((kind.show)(range.start()), (kind.show)(range.end()));
    Err(Complaint::new(format!("is not within {low} to {high}, because {reason}"), instead))
}

/// A key as it is written where the mistake was made.
fn spelt(key: &str, origin: &Origin) -> String {
    match origin {
        Origin::Variable(_) => {
            format!("KLINGD_{}", key.replace('.', "__").replace('-', "_").to_ascii_uppercase())
        }
        Origin::Default | Origin::File { .. } | Origin::Secret(_) | Origin::Flag(_) => key.to_owned(),
    }
}
