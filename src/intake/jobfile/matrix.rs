//! The matrix of a job: axes and their values, the product of them, and what is excluded from it.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::{
    diagnostic::{Code, Report, shown},
    job::{axis_keys, join, refuse_unknown},
    rules::Flaw,
    tree::{Entry, Node, Span, Table, Value},
};
use crate::domain::key::hex;

/// Cells that are looked at in one file, excluded ones counted: the product of a few short lists is huge.
pub(super) const MAX_CELLS: usize = 1_000_000;
/// Each cell is held against each of them.
pub(super) const MAX_EXCLUDES: usize = 100;
/// Characters of a cell's text in a key, before it becomes a hash: keys are shown in tables.
const MAX_CELL_CHARS: usize = 80;

/// A matrix, or the trivial one of a job that has none.
#[derive(Default)]
pub(super) struct Matrix<'t> {
    axes: Vec<Axis<'t>>,
    excludes: Vec<Exclude<'t>>,
}

struct Axis<'t> {
    key: &'t str,
    key_span: &'t Span,
    choices: Vec<Choice<'t>>,
}

/// A value of an axis.
struct Choice<'t> {
    /// Its position in the file's list.
    index: usize,
    node: &'t Node,
    /// What distinguishes it from the others.
    label: String,
}

/// The label of each axis that an exclusion names.
type Exclude<'t> = Vec<(&'t str, String)>;

/// One choice of each axis.
#[derive(Default)]
pub(super) struct Cell<'t>(Vec<(&'t Axis<'t>, &'t Choice<'t>)>);

impl<'t> Matrix<'t> {
    /// Reads `matrix` of `job`. What is wrong is reported and left out.
    pub fn read(job: &'t Table, path: &str, report: &mut Report<'_>) -> Self {
        let Some(entry) = job.get("matrix") else { return Self::default() };
        let path = join(path, "matrix");
        let table = match entry.node.table() {
            Ok(table) => table,
            Err(flaw) => {
                let flaw =
                    flaw.hint("like matrix = { duration = [3, 5], aspect_ratio = [\"16:9\", \"9:16\"] }");
                report.error(entry.node.span.clone(), path, flaw.about("matrix"));
                return Self::default();
            }
        };
        let known = axis_keys().chain(["exclude"]);
        refuse_unknown(table, &path, known, |_| None, report);
        let axes: Vec<Axis<'t>> =
            table.0.iter().filter_map(|entry| axis(entry, job, &path, report)).collect();
        if table.0.iter().all(|entry| entry.key == "exclude") {
            let flaw = Flaw::new(Code::Empty, "no axis: name a field and its values");
            report.error(entry.key_span.clone(), path.as_str(), flaw.about("matrix"));
        }
        let excludes = table.get("exclude").map_or(Vec::new(), |entry| excludes(entry, &axes, &path, report));
        Self { axes, excludes }
    }

    /// Cells of the product before `exclude`, saturating.
    pub fn size(&self) -> usize {
        self.axes.iter().fold(1, |n, axis| n.saturating_mul(axis.choices.len()))
    }

    /// The cells that are left, the last axis running fastest.
    pub fn cells(&'t self) -> impl Iterator<Item = Cell<'t>> {
        let cells = (0..self.size()).map(|n| self.cell(n));
        cells.filter(|cell| !self.excludes.iter().any(|exclude| cell.matches(exclude)))
    }

    /// The `n`th cell: its digits, in a number system of one base an axis, are the choices.
    fn cell(&'t self, mut n: usize) -> Cell<'t> {
        let mut choices = Vec::with_capacity(self.axes.len());
        for axis in self.axes.iter().rev() {
            choices.extend(axis.choices.get(n % axis.choices.len()).map(|choice| (axis, choice)));
            n /= axis.choices.len();
        }
        choices.reverse();
        Cell(choices)
    }
}

impl<'t> Cell<'t> {
    /// The value of the axis `key`: its position, the axis' name in the file, the value.
    pub fn get(&self, key: &str) -> Option<(usize, &'t Span, &'t Node)> {
        let (axis, choice) = self.0.iter().find(|(axis, _)| axis.key == key)?;
        Some((choice.index, axis.key_span, choice.node))
    }

    /// What distinguishes the cell, for the job's own key. It follows the values alone, sorted by axis: adding values
    /// or turning axes round leaves the keys of the other cells as they were.
    pub fn label(&self) -> Option<String> {
        let mut parts: Vec<String> =
            self.0.iter().map(|(axis, choice)| format!("{}={}", axis.key, choice.label)).collect();
        parts.sort();
        let label = parts.join(",");
        match label.chars().count() {
            0 => None,
            1..=MAX_CELL_CHARS => Some(label),
            _ => Some(short_hash(&label)),
        }
    }

    fn matches(&self, exclude: &Exclude<'_>) -> bool {
        let holds = |key: &str, label: &str| {
            self.0.iter().any(|(axis, choice)| axis.key == key && choice.label == label)
        };
        exclude.iter().all(|(key, label)| holds(key, label))
    }
}

/// Words and numbers as they are (`1` and `1.0` are one), everything else as JSON: no two values of a field share it.
fn label(node: &Node) -> String {
    if let Value::Float(n) = node.value {
        return n.to_string();
    }
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ":._-".contains(c));
    if let Value::Text(text) = &node.value
        && is_word(text)
    {
        return text.clone();
    }
    // What JSON can't carry is no field's value, and is refused as such.
    node.to_json().map(|json| json.to_string()).unwrap_or_default()
}

/// 64 bits of the label's SHA-256: enough against chance within one job's own key.
fn short_hash(label: &str) -> String {
    let mut hash = hex(&Sha256::digest(label));
    hash.truncate(16);
    hash
}

fn axis<'t>(entry: &'t Entry, job: &Table, path: &str, report: &mut Report<'_>) -> Option<Axis<'t>> {
    let Entry { key, key_span, node } = entry;
    if !axis_keys().any(|known| known == key) {
        return None;
    }
    let path = join(path, key);
    if job.get(key).is_some() {
        let flaw = Flaw::new(Code::Mixed, "it is set in the job and in its matrix")
            .hint("keep the one in the matrix, or a value for all cells in the job");
        report.error(key_span.clone(), path.as_str(), flaw.about(key));
        return None;
    }
    let values = match node.list() {
        Ok([]) => Err(Flaw::invalid("an axis needs at least one value")),
        other => other,
    };
    match values {
        Ok(values) => {
            let mut choices: Vec<Choice<'t>> = Vec::with_capacity(values.len());
            let mut seen = HashSet::new();
            for (index, node) in values.iter().enumerate() {
                let label = label(node);
                if seen.insert(label.clone()) {
                    choices.push(Choice { index, node, label });
                } else {
                    let flaw = Flaw::new(Code::DuplicateJob, "this value is already in the axis")
                        .hint("to render it more than once on purpose, set `takes`");
                    report.error(node.span.clone(), format!("{path}[{index}]"), flaw.about(key));
                }
            }
            Some(Axis { key, key_span, choices })
        }
        Err(flaw) => {
            report.error(node.span.clone(), path, flaw.about(key));
            None
        }
    }
}

fn excludes<'t>(
    entry: &'t Entry,
    axes: &[Axis<'_>],
    path: &str,
    report: &mut Report<'_>,
) -> Vec<Exclude<'t>> {
    let path = join(path, "exclude");
    let items = match entry.node.list() {
        Ok(items) if items.len() > MAX_EXCLUDES => {
            Err(Flaw::invalid(format!("at most {MAX_EXCLUDES} of them")))
        }
        other => other,
    };
    let items = items.unwrap_or_else(|flaw| {
        let flaw = flaw.hint("a list of tables, like [{ duration = 3, aspect_ratio = \"1:1\" }]");
        report.error(entry.node.span.clone(), path.as_str(), flaw.about("exclude"));
        &[]
    });
    let mut excludes = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        match item.table() {
            Ok(table) => {
                refuse_strangers(table, axes, &path, report);
                excludes.push(table.0.iter().map(|entry| (entry.key.as_str(), label(&entry.node))).collect());
            }
            Err(flaw) => report.error(item.span.clone(), path, flaw.about("exclude")),
        }
    }
    excludes
}

/// An exclusion speaks of axes and their values only; anything else would exclude nothing, and be paid for.
fn refuse_strangers(table: &Table, axes: &[Axis<'_>], path: &str, report: &mut Report<'_>) {
    for Entry { key, key_span, node } in &table.0 {
        let label = label(node);
        match axes.iter().find(|axis| axis.key == key) {
            None => {
                let flaw = Flaw::new(Code::UnknownKey, format!("`{}` is no axis of this matrix", shown(key)));
                report.error(key_span.clone(), join(path, key), flaw);
            }
            Some(axis) if axis.choices.iter().all(|choice| choice.label != label) => {
                let flaw = Flaw::invalid("this value is not in the axis, so nothing would be excluded");
                report.error(node.span.clone(), join(path, key), flaw.about(key));
            }
            Some(_) => {}
        }
    }
}
