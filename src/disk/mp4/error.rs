//! What keeps a file from being a whole video, in sentences that stand alone in a job's error.

use std::fmt;
use std::io;

use super::MAX_MOOV_BYTES;
use super::movie::TrackKind;
use super::source::{FourCc, MAX_BOXES};
use crate::disk::DiskError;

/// Why a file is not accepted. All but the first two speak of its content.
#[derive(Debug, thiserror::Error)]
pub enum Mp4Error {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] DiskError),
    /// It could not be read.
    #[error("cannot read the file: {0}")]
    Read(#[source] io::Error),
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// An error page, or the like.
    #[error("this is not a video, it looks like {looks_like}")]
    NotVideo {
        /// What it looks like.
        looks_like: LooksLike,
    },
    /// Not as long as promised.
    #[error("the file has {} bytes, the server promised {}", grouped(*actual), grouped(*expected))]
    Length {
        /// Its length.
        actual: u64,
        /// The promise.
        expected: u64,
    },
    /// Another format, or bytes missing at the start.
    #[error("the file does not start like an MP4: its first box is {found}, not ftyp")]
    NotFirst {
        /// What came first.
        found: FourCc,
    },
    /// Cut inside a top-level box.
    #[error("the file ends inside its {kind} box: {} of {} bytes", grouped(*have), grouped(*need))]
    CutOff {
        /// The box.
        kind: FourCc,
        /// How much of it is there.
        have: u64,
        /// How long it says it is.
        need: u64,
    },
    /// Cut or overwritten where a box should start.
    #[error("there is no box at byte {}, where one should start", grouped(*at))]
    NoBox {
        /// Where.
        at: u64,
    },
    /// A box that contradicts itself.
    #[error("the {kind} box at byte {} is damaged: {what}", grouped(*at))]
    Damaged {
        /// The box.
        kind: FourCc,
        /// Where it starts.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A box that needs another one inside.
    #[error("the {parent} box at byte {} has no {kind} box in it", grouped(*at))]
    MissingIn {
        /// The box.
        parent: FourCc,
        /// Where it starts.
        at: u64,
        /// What should be in it.
        kind: FourCc,
    },
    /// Something a video needs is not there.
    #[error("the file has no {what}")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// Media that should be there is not in the file.
    #[error("the {kind} track wants bytes {} to {}, which are not in the media data", grouped(*start), grouped(*end))]
    Outside {
        /// Whose media.
        kind: TrackKind,
        /// First byte wanted.
        start: u64,
        /// Behind the last byte wanted.
        end: u64,
    },
    /// Zeros instead of the last sample.
    #[error("the end of the {kind} track, at byte {}, is all zeros: it was never written", grouped(*at))]
    Blank {
        /// Whose end.
        kind: TrackKind,
        /// Where the last sample starts.
        at: u64,
    },
    /// A fragmented file of which nobody knows where it ends.
    #[error(
        "the file is in fragments without an index, and the server promised no length: its end may be missing"
    )]
    OpenEnded,
    /// A table of contents beyond all use.
    #[error("its moov box has {} bytes, more than the {} that are read", grouped(*moov_bytes), grouped(MAX_MOOV_BYTES))]
    TooLarge {
        /// Its size.
        moov_bytes: u64,
    },
    /// More boxes than any video has.
    #[error("it has more than {} boxes", grouped(u64::from(MAX_BOXES)))]
    TooMany,
}

/// What a server sends instead of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LooksLike {
    /// A page for people.
    Html,
    /// The error of an object store.
    Xml,
    /// The error of an API.
    Json,
}

impl LooksLike {
    /// Looks at the first bytes of a file.
    pub(super) fn of(head: &[u8]) -> Option<LooksLike> {
        let text = String::from_utf8_lossy(head)
            .trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n'])
            .to_lowercase();
        match text.chars().next() {
            Some('{' | '[') => Some(LooksLike::Json),
            Some('<') if text.contains("<html") || text.contains("<!doctype html") => Some(LooksLike::Html),
            Some('<') => Some(LooksLike::Xml),
            Some(_) | None => None,
        }
    }
}

impl fmt::Display for LooksLike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LooksLike::Html => "an HTML page",
            LooksLike::Xml => "an XML document",
            LooksLike::Json => "a JSON document",
        })
    }
}

/// A number as people read it: `12,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn error_pages_are_recognized() {
        for (head, what) in [
            ("<!DOCTYPE html><title>502", Some(LooksLike::Html)),
            ("\u{feff}\n <HTML>", Some(LooksLike::Html)),
            ("<?xml version=\"1.0\"?><Error><Code>AccessDenied", Some(LooksLike::Xml)),
            (" {\"code\":403}", Some(LooksLike::Json)),
            ("[]", Some(LooksLike::Json)),
            ("\0\0\0\x20ftypisom", None),
            ("", None),
        ] {
            assert_eq!(LooksLike::of(head.as_bytes()), what, "{head}");
        }
    }
}
