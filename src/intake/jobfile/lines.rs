//! JSON Lines, a line at a time: a file of a hundred thousand jobs is checked in the memory of one of them, and a few
//! bytes for each name and key.

use super::{
    Context, Faults, File,
    diagnostic::Report,
    encoding, json,
    walk::{Known, Walk, no_job},
};
use crate::domain::job::NewJob;

/// Reads the lines of one file in their order.
pub struct LineReader<'c> {
    context: &'c Context<'c>,
    file_name: &'c str,
    known: Known,
    /// Bytes and lines so far.
    before: (usize, usize),
    /// Whether there was a job, right or wrong.
    any: bool,
    over: bool,
}

impl<'c> LineReader<'c> {
    /// For the file of this name.
    pub fn new(file_name: &'c str, context: &'c Context<'c>) -> Self {
        Self { context, file_name, known: Known::default(), before: (0, 0), any: false, over: false }
    }

    /// The jobs of the next line: none of a blank one, several where it has takes or a matrix. `line` has its line break.
    pub fn read(&mut self, line: &[u8]) -> Result<Vec<NewJob>, Faults> {
        let mut report = Report::of_part(line, self.file_name, self.before);
        let is_first = self.before.0 == 0;
        self.before = (self.before.0 + line.len(), self.before.1 + 1);
        // UTF-16 has no lines that could be told by their bytes: it is said once.
        self.over |= is_first && encoding::is_utf16(line);
        let utf8 = if is_first { encoding::utf8 } else { encoding::utf8_inside };
        let Some(text) = utf8(line, &mut report) else {
            self.any = true;
            return Err(report.finish());
        };
        if text.trim_start_matches('\u{feff}').trim().is_empty() {
            return Ok(Vec::new());
        }
        self.any = true;
        let mut walk = Walk::new(self.context, self.file_name, &mut self.known, report);
        if let Some(root) = json::read_line(text, walk.report()) {
            walk.line(&root);
        }
        walk.finish_line().map(|file| file.jobs)
    }

    /// Whether nothing that follows would change the answer.
    pub fn is_over(&self) -> bool {
        self.over || self.known.too_many
    }

    /// Where the next line begins: the spans of its diagnostics are those of the file.
    pub fn offset(&self) -> usize {
        self.before.0
    }

    /// What is wrong with the file as a whole: that it holds no job.
    pub fn finish(self) -> Result<(), Faults> {
        if self.any {
            return Ok(());
        }
        let mut report = Report::new(&[], self.file_name);
        report.error(0..0, "", no_job());
        Err(report.finish())
    }
}

/// All lines of a file.
pub(super) fn read(bytes: &[u8], file_name: &str, context: &Context<'_>) -> Result<File, Faults> {
    let mut reader = LineReader::new(file_name, context);
    let mut jobs = Vec::new();
    let mut faults = Faults { shown: Vec::new(), errors: 0 };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if reader.is_over() {
            break;
        }
        match reader.read(line) {
            Ok(of_line) => jobs.extend(of_line),
            Err(of_line) => faults.add(of_line),
        }
    }
    if let Err(of_file) = reader.finish() {
        faults.add(of_file);
    }
    if faults.errors > 0 {
        return Err(faults);
    }
    Ok(File { batch: None, batch_max_credits: None, jobs, warnings: faults.shown })
}
