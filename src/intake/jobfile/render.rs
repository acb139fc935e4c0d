//! Diagnostics as text: with the line they are about for a terminal, one line each for files and pipes.

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Lines, Severity, steers, visible};

/// For a terminal: each diagnostic with its line of the file, the place underlined. `bytes` is the file.
pub fn render_terminal(bytes: &[u8], diagnostics: &[Diagnostic], color: bool) -> String {
    render_line(bytes, 0, diagnostics, color)
}

/// The same for diagnostics of one line, which begins behind `offset` bytes of the file.
pub fn render_line(bytes: &[u8], offset: usize, diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let lines = Lines::new(bytes);
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&renderer.render(&[group(bytes, offset, &lines, diagnostic)]));
        out.push('\n');
    }
    out
}

/// `file:line:column: error: message (hint)`, one line each.
pub fn render_plain(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().fold(String::new(), |mut out, diagnostic| {
        // Writing to a String cannot fail; the result carries nothing.
        writeln!(out, "{diagnostic}").ok();
        out
    })
}

fn group<'a>(bytes: &[u8], offset: usize, lines: &Lines<'_>, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    // A value over several lines (a long prompt, a table) is shown by its first one.
    let span = &diagnostic.span;
    let (start, end) = (span.start.saturating_sub(offset), span.end.saturating_sub(offset));
    let line = lines.line(start);
    let start = start.clamp(line.start, line.end);
    let end = end.clamp(start, line.end);
    // What the renderer leaves as it is: it makes ASCII's control characters harmless, but not those of Unicode (8-bit
    // terminals obey U+009B as they do ESC [). One character each, so that the underline stays in its place.
    let harmless = |c: char| if steers(c) && !c.is_ascii() { char::REPLACEMENT_CHARACTER } else { c };
    let text = |range: std::ops::Range<usize>| -> String {
        String::from_utf8_lossy(&bytes[range]).chars().map(harmless).collect()
    };
    let before = text(line.start..start);
    let marked = text(start..end);
    let span = before.len()..before.len() + marked.len();
    let source = before + &marked + &text(end..line.end);
    let snippet = Snippet::source(source)
        .line_start(diagnostic.line)
        .path(visible(&diagnostic.file))
        .annotation(AnnotationKind::Primary.span(span));
    let group = level.primary_title(diagnostic.message.as_str()).element(snippet);
    match &diagnostic.hint {
        Some(hint) => group.element(Level::HELP.message(hint.as_str())),
        None => group,
    }
}
