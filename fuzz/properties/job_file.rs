//! Any bytes as a job file of each format: no panic, no diagnostic outside the file, nothing that steers a terminal, and
//! the lines of JSON Lines mean the same one by one.

use super::parts::assert_showable;
use crate::{
    domain::request::Draft,
    intake::jobfile::{Context, Format, LineReader, Severity, read, render_plain, render_terminal},
};

/// Diagnostics that are shown with their line.
const SNIPPETS: usize = 8;

pub fn check(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let format = match first % 4 {
        0 => Format::Toml,
        1 => Format::Json,
        2 => Format::JsonLines,
        _ => Format::guess(bytes),
    };
    let defaults = Draft::default();
    let context = Context {
        defaults: &defaults,
        price: &|job_type| job_type.price(),
        check_template: &|_| Ok(()),
        max_jobs: Some(1000),
    };
    let result = read(bytes, format, "f", &context);
    if format == Format::JsonLines {
        let mut reader = LineReader::new("f", &context);
        let lines = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| reader.is_over() || reader.read(line).is_ok());
        let all = lines.fold(true, |all, right| all & right);
        assert_eq!(all && reader.finish().is_ok(), result.is_ok());
    }
    let diagnostics = match result {
        Ok(file) => {
            assert!((1..=1000).contains(&file.jobs.len()));
            assert!(file.warnings.iter().all(|d| d.severity == Severity::Warning));
            file.warnings
        }
        Err(diagnostics) => {
            assert!(diagnostics.iter().any(|d| d.severity == Severity::Error));
            diagnostics
        }
    };
    for d in &diagnostics {
        assert!(
            d.span.start <= d.span.end && d.span.end <= bytes.len() && d.line >= 1 && d.column >= 1,
            "{d:?}"
        );
    }
    // A snippet costs more than the reading of its file; more of them show nothing new.
    let some = &diagnostics[..diagnostics.len().min(SNIPPETS)];
    assert_showable(&render_terminal(bytes, some, false));
    assert_showable(&render_plain(&diagnostics));
}
