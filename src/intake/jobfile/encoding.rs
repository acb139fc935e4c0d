//! Bytes to text: what is not UTF-8 is said in a sentence, with its line.

use super::{
    diagnostic::{Code, Report},
    rules::Flaw,
};

/// Whether a file that begins so is UTF-16. Without a mark, the first character of a job file is ASCII, so it shows as a
/// zero byte beside it.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || bytes.iter().take(2).any(|b| *b == 0)
}

/// The text of the file, a UTF-8 byte-order mark included (the readers skip it, so that spans stay those of the file).
pub(super) fn utf8<'t>(bytes: &'t [u8], report: &mut Report<'_>) -> Option<&'t str> {
    if is_utf16(bytes) {
        let flaw = Flaw::new(Code::Encoding, "the file is UTF-16; job files are UTF-8")
            .hint("save it as UTF-8; in PowerShell: Out-File -Encoding utf8");
        report.error(0..bytes.len().min(2), "", flaw);
        return None;
    }
    utf8_inside(bytes, report)
}

/// The same for a part of the file behind its beginning.
pub(super) fn utf8_inside<'t>(bytes: &'t [u8], report: &mut Report<'_>) -> Option<&'t str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) => {
            let start = e.valid_up_to();
            let end = e.error_len().map_or(bytes.len(), |len| start + len);
            let flaw = Flaw::new(Code::Encoding, "not UTF-8 from here on")
                .hint("save the file as UTF-8; it looks like Latin-1 or Windows-1252, or it is cut off");
            report.error(start..end, "", flaw);
            None
        }
    }
}
