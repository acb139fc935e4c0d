//! From the tree to jobs: one walk that goes on after every error, so that all of them show at once.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
};

use super::{
    Context, File,
    diagnostic::{Code, Faults, Report},
    job::{Layers, Site, default_keys, join, keys, refuse_unknown},
    matrix::{Cell, MAX_CELLS, Matrix},
    rules::{self, Flaw},
    tree::{Node, Span, Table, Value},
};
use crate::domain::{
    credits::Credits,
    job::NewJob,
    job_type::{Field, JobType},
};

/// What makes a file a batch.
const BATCH_FILE_KEYS: [&str; 3] = ["batch", "defaults", "job"];
const BATCH_KEYS: [&str; 2] = ["name", "max_credits"];
/// Jobs of any one file. The CLI has no cap by contract; this is the size at which the file is a mistake, and its jobs
/// fill gigabytes of memory.
const MAX_JOBS: usize = 1_000_000;

/// What is known of the file so far: all that a later line needs of the earlier ones.
#[derive(Default)]
pub(super) struct Known {
    /// Tables of jobs so far.
    tables: u32,
    /// Jobs so far, wrong ones counted.
    count: usize,
    /// The first job of each name and key.
    names: Firsts,
    keys: Firsts,
    types: HashSet<JobType>,
    cells: usize,
    /// More jobs than the file may hold: nothing after it is looked at.
    pub too_many: bool,
}

/// A walk through a file, or through one line of it.
pub(super) struct Walk<'t> {
    context: &'t Context<'t>,
    file_name: &'t str,
    known: &'t mut Known,
    report: Report<'t>,
    batch: Option<String>,
    batch_max_credits: Option<Credits>,
    jobs: Vec<NewJob>,
}

impl<'t> Walk<'t> {
    pub fn new(
        context: &'t Context<'t>,
        file_name: &'t str,
        known: &'t mut Known,
        report: Report<'t>,
    ) -> Self {
        Self { context, file_name, known, report, batch: None, batch_max_credits: None, jobs: Vec::new() }
    }

    pub fn report(&mut self) -> &mut Report<'t> {
        &mut self.report
    }

    /// A whole TOML or JSON file: a single job, or a batch.
    pub fn document(&mut self, root: &Node) {
        let table = match root.table() {
            Ok(table) => table,
            Err(_) => {
                let flaw = root.not("a job or a batch").hint("several jobs go in {\"job\": [ … ]}");
                return self.report.error(root.span.clone(), "", flaw);
            }
        };
        let has = |known: &str| table.get(known).is_some();
        if BATCH_FILE_KEYS.into_iter().any(has) {
            self.batch_file(table);
        } else if keys().any(has) {
            self.single(root, table);
        } else {
            // Not one key that is known: it is no use to ask for a type and a prompt as well.
            refuse_unknown(table, "", keys().chain(BATCH_FILE_KEYS), |_| None, &mut self.report);
        }
    }

    /// One line of JSON Lines: a single job.
    pub fn line(&mut self, root: &Node) {
        match root.table() {
            Ok(table) => self.single(root, table),
            Err(_) => {
                let flaw = root.not("a job").hint("each line is one job: { … }");
                self.report.error(root.span.clone(), "", flaw);
            }
        }
    }

    /// The jobs of the file, when every one of them is right.
    pub fn finish(mut self) -> Result<File, Faults> {
        if self.jobs.is_empty() && !self.report.has_errors() {
            self.report.error(0..0, "", no_job());
        }
        self.finish_line()
    }

    /// The same for one line, which may hold nothing.
    pub fn finish_line(self) -> Result<File, Faults> {
        let Self { batch, batch_max_credits, jobs, report, .. } = self;
        let fine = !report.has_errors();
        let faults = report.finish();
        if fine { Ok(File { batch, batch_max_credits, jobs, warnings: faults.shown }) } else { Err(faults) }
    }

    fn single(&mut self, root: &Node, table: &Table) {
        let elsewhere = |key: &str| {
            BATCH_FILE_KEYS.contains(&key).then(|| "a batch goes in a .toml or .json file".to_owned())
        };
        refuse_unknown(table, "", keys(), elsewhere, &mut self.report);
        self.job(Site { job: table, defaults: None, path: "", anchor: &root.span });
    }

    fn batch_file(&mut self, table: &Table) {
        for entry in table.0.iter().filter(|entry| keys().any(|key| key == entry.key)) {
            let flaw = Flaw::new(Code::Mixed, "it stands at the top, but this file is a batch")
                .hint("move it under `[[job]]`, or under `[defaults]` for all jobs");
            self.report.error(entry.key_span.clone(), join("", &entry.key), flaw.about(&entry.key));
        }
        refuse_unknown(table, "", keys().chain(BATCH_FILE_KEYS), |_| None, &mut self.report);
        let batch_credits = table.get("batch").and_then(|entry| self.batch_table(&entry.node));
        let defaults = table.get("defaults").and_then(|entry| self.defaults_table(&entry.node));
        if let Some(entry) = table.get("job") {
            self.job_list(&entry.node, defaults);
        }
        self.warn_of_unused(defaults);
        self.check_total(batch_credits);
    }

    /// Returns where the file's `max_credits` stands.
    fn batch_table(&mut self, node: &Node) -> Option<Span> {
        let table = self.checked(node.table(), &node.span, "batch")?;
        let elsewhere = |key: &str| {
            keys()
                .any(|k| k == key)
                .then(|| "it goes under `[[job]]`, or under `[defaults]` for all jobs".to_owned())
        };
        refuse_unknown(table, "batch", BATCH_KEYS.into_iter(), elsewhere, &mut self.report);
        if let Some(entry) = table.get("name") {
            let name = entry.node.text().and_then(rules::label);
            self.batch = self.checked(name, &entry.node.span, "batch.name");
        }
        let entry = table.get("max_credits")?;
        let max = entry.node.integer().and_then(rules::max_credits);
        self.batch_max_credits = self.checked(max, &entry.node.span, "batch.max_credits");
        Some(entry.node.span.clone())
    }

    fn defaults_table<'n>(&mut self, node: &'n Node) -> Option<&'n Table> {
        let table = self.checked(node.table(), &node.span, "defaults")?;
        let elsewhere = |key: &str| {
            keys().any(|k| k == key).then(|| "it belongs to one job, so it goes under `[[job]]`".to_owned())
        };
        refuse_unknown(table, "defaults", default_keys(), elsewhere, &mut self.report);
        self.check_defaults(table, &node.span);
        Some(table)
    }

    /// Each default for itself: a wrong one that no job takes today is found all the same.
    fn check_defaults(&mut self, defaults: &Table, anchor: &Span) {
        let (nothing, no_cell) = (Table::default(), Cell::default());
        let site = Site { job: &nothing, defaults: Some(defaults), path: "", anchor };
        let layers = Layers::of_any_type(site, &no_cell);
        let spec = layers.spec(self.context, &mut self.report);
        for (key, flaw) in spec.flaws() {
            layers.refuse(key, flaw, &mut self.report);
        }
    }

    fn job_list(&mut self, node: &Node, defaults: Option<&Table>) {
        let hint = "each job of a batch stands under `[[job]]`, in two brackets; in JSON: \"job\": [ { … } ]";
        let list = node.list().map_err(|flaw| flaw.hint(hint));
        let Some(list) = self.checked(list, &node.span, "job") else { return };
        for (i, node) in list.iter().enumerate() {
            if self.known.too_many {
                break;
            }
            let path = format!("job[{i}]");
            if let Some(job) = self.checked(node.table(), &node.span, &path) {
                refuse_unknown(job, &path, keys(), |_| None, &mut self.report);
                self.job(Site { job, defaults, path: &path, anchor: &node.span });
            }
        }
    }

    /// One job with all its matrix cells and takes.
    fn job(&mut self, site: Site<'_>) {
        self.known.tables += 1;
        self.check_name(site);
        let matrix = Matrix::read(site.job, site.path, &mut self.report);
        self.known.cells = self.known.cells.saturating_add(matrix.size());
        if self.known.cells > MAX_CELLS {
            return self.refuse_size(MAX_CELLS, site);
        }
        let mut any = false;
        for cell in matrix.cells() {
            any = true;
            self.cell(site, &cell);
            if self.known.too_many {
                break;
            }
        }
        if !any {
            let flaw = Flaw::new(Code::Empty, "`exclude` leaves no cell of the matrix");
            let span = site.job.get("matrix").map_or(site.anchor, |entry| &entry.key_span);
            self.report.error(span.clone(), join(site.path, "matrix"), flaw);
        }
    }

    fn cell(&mut self, site: Site<'_>, cell: &Cell<'_>) {
        let layers = Layers::new(site, cell, self.context);
        self.known.types.extend(layers.job_type());
        let spec = layers.spec(self.context, &mut self.report);
        let has_own_key = spec.key.is_some();
        let cap = self.context.max_jobs.unwrap_or(MAX_JOBS).min(MAX_JOBS);
        self.known.count += spec.takes as usize;
        if self.known.count > cap {
            return self.refuse_size(cap, site);
        }
        match spec.expand(self.context, self.file_name) {
            Ok(jobs) => {
                if let Some(line) = self.line_of_equal(&jobs, site) {
                    self.refuse_equal(line, has_own_key, site, &layers);
                }
                self.jobs.extend(jobs);
            }
            Err(refusals) => {
                for (key, flaw) in refusals {
                    layers.refuse(key, flaw, &mut self.report);
                }
            }
        }
    }

    /// Notes the keys of `jobs`; where one of them is known already, the line of the job that has it.
    fn line_of_equal(&mut self, jobs: &[NewJob], site: Site<'_>) -> Option<usize> {
        let here = First { table: self.known.tables, line: self.report.line_of(site.anchor.start) };
        let mut equal = None;
        for job in jobs {
            let first = self.known.keys.note(job.key.as_str(), here);
            if first.table != here.table {
                equal.get_or_insert(first.line);
            }
        }
        equal
    }

    fn refuse_equal(&mut self, line: usize, has_own_key: bool, site: Site<'_>, layers: &Layers<'_>) {
        if has_own_key {
            let flaw = Flaw::new(Code::DuplicateJob, format!("the job on line {line} has this key already"));
            layers.refuse("key", flaw.hint("each job needs its own"), &mut self.report);
        } else {
            let flaw =
                Flaw::new(Code::DuplicateJob, format!("this is the same job as the one on line {line}"))
                    .hint("to render it twice on purpose, keep one of them and set `takes = 2`");
            self.report.error(site.anchor.clone(), site.path, flaw);
        }
    }

    fn check_name(&mut self, site: Site<'_>) {
        let Some(entry) = site.job.get("name") else { return };
        let Value::Text(name) = &entry.node.value else { return };
        let here = First { table: self.known.tables, line: self.report.line_of(entry.node.span.start) };
        let First { table, line } = self.known.names.note(name, here);
        if table != here.table {
            let flaw =
                Flaw::new(Code::DuplicateName, format!("the job on line {line} has this name already"))
                    .hint("names tell jobs apart; for several renders of one request there is `takes`");
            self.report.error(entry.node.span.clone(), join(site.path, "name"), flaw.about("name"));
        }
    }

    fn refuse_size(&mut self, cap: usize, site: Site<'_>) {
        self.known.too_many = true;
        let cap = Credits::new(cap as u64);
        let flaw = Flaw::new(Code::TooManyJobs, format!("with this one the file holds more than {cap} jobs"))
            .hint("`matrix` multiplies its axes, and `takes` the rest; split the file");
        self.report.error(site.anchor.clone(), site.path, flaw);
    }

    /// A default that no job takes is allowed, and almost always a mistake about the type.
    fn warn_of_unused(&mut self, defaults: Option<&Table>) {
        if self.report.has_errors() {
            return;
        }
        for entry in defaults.iter().flat_map(|table| &table.0) {
            let field = Field::ALL.into_iter().find(|field| field.name() == entry.key);
            let Some(field) = field else { continue };
            if !self.known.types.iter().any(|job_type| job_type.takes(field)) {
                let flaw = Flaw::new(Code::NoEffect, "no job of this file has a type that takes it");
                self.report.warn(
                    entry.key_span.clone(),
                    join("defaults", &entry.key),
                    flaw.about(&entry.key),
                );
            }
        }
    }

    fn check_total(&mut self, span: Option<Span>) {
        let (Some(span), Some(max)) = (span, self.batch_max_credits) else { return };
        let total: Credits = self.jobs.iter().map(|job| job.estimate).sum();
        if total > max {
            let message =
                format!("the jobs cost {total} credits together, more than the {max} that are allowed");
            let flaw = Flaw::new(Code::OverMaxCredits, message);
            self.report.error(span, "batch.max_credits", flaw.about("max_credits"));
        }
    }

    fn checked<T>(&mut self, result: Result<T, Flaw>, span: &Span, path: &str) -> Option<T> {
        let key = path.rsplit('.').next().unwrap_or(path);
        result.map_err(|flaw| self.report.error(span.clone(), path, flaw.about(key))).ok()
    }
}

/// Of a file without one.
pub(super) fn no_job() -> Flaw {
    Flaw::new(Code::Empty, "the file holds no job")
        .hint("a job has at least `type` and `prompt`; several jobs stand under [[job]] each")
}

/// Where a text stood first.
#[derive(Clone, Copy)]
struct First {
    /// The job's table, counted from 1.
    table: u32,
    line: usize,
}

/// Texts that were seen, by 128 bits of them: a file may have a million, and they need not stay in memory for that.
#[derive(Default)]
struct Firsts {
    hashers: [RandomState; 2],
    seen: HashMap<[u64; 2], First>,
}

impl Firsts {
    /// Where `text` was seen first: `here`, if it is new.
    fn note(&mut self, text: &str, here: First) -> First {
        let hash = self.hashers.each_ref().map(|hasher| hasher.hash_one(text));
        *self.seen.entry(hash).or_insert(here)
    }
}
