//! The name of a file that klingd has taken: it says who took it, under which number, and what it was called. Pure.
//!
//! `.klingd-QUEUE-NUMBER~NAME`, in the folder where the file was dropped. Whoever renames a file to such a name has it;
//! everybody else finds it gone. Found again after a kill, the name is all that is needed to go on.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

const PREFIX: &str = ".klingd-";
/// Bytes of a name that klingd keeps. A name has at most 255; the rest is for the claim's own part, for
/// `.status.txt` and for a number when the name is taken.
const MAX_NAME_BYTES: usize = 200;
/// Digits of a queue's name and of a claim's number.
const QUEUE_DIGITS: usize = 8;
const NUMBER_DIGITS: usize = 16;

/// One taking of one file by one queue: never given twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim(String);

impl Claim {
    /// A new one. `queue` and `number` are random.
    pub fn new(queue: u32, number: u64) -> Self {
        Self(format!("{queue:0width$x}-{number:0digits$x}", width = QUEUE_DIGITS, digits = NUMBER_DIGITS))
    }

    /// Its text, which is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this queue made it.
    pub fn is_of(&self, queue: u32) -> bool {
        self.0.starts_with(&format!("{queue:0width$x}-", width = QUEUE_DIGITS))
    }

    /// What a file of this name is called while it is claimed.
    pub fn name_for(&self, name: &OsStr) -> OsString {
        let mut claimed = OsString::from(format!("{PREFIX}{self}~"));
        claimed.push(shortened(name));
        claimed
    }

    /// The claim in a file's name, and what the file was called.
    pub fn parse(name: &OsStr) -> Option<(Self, &OsStr)> {
        let rest = name.as_bytes().strip_prefix(PREFIX.as_bytes())?;
        let (claim, original) = rest.split_at_checked(QUEUE_DIGITS + 1 + NUMBER_DIGITS)?;
        let original = original.strip_prefix(b"~").filter(|name| !name.is_empty())?;
        let claim = std::str::from_utf8(claim).ok()?;
        let (queue, number) = claim.split_once('-')?;
        let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (queue.len() == QUEUE_DIGITS && hex(queue) && hex(number))
            .then(|| (Self(claim.to_owned()), OsStr::from_bytes(original)))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name, its stem cut where the whole is too long.
fn shortened(name: &OsStr) -> OsString {
    let bytes = name.as_bytes();
    if bytes.len() <= MAX_NAME_BYTES {
        return name.to_owned();
    }
    let extension = bytes.iter().rposition(|b| *b == b'.').map_or(&[][..], |dot| &bytes[dot..]);
    let mut end = MAX_NAME_BYTES.saturating_sub(extension.len());
    // Not in the middle of a character, which has three more bytes at the most. What has more is no text, and must not be
    // cut away: without its stem a claim would be no job file when it is found again.
    let starts = |at: &usize| (bytes[*at] & 0b1100_0000) != 0b1000_0000;
    end = (end.saturating_sub(3)..=end).rev().find(starts).unwrap_or(end);
    OsString::from_vec([&bytes[..end], extension].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_tells_what_it_is() {
        let claim = Claim::new(0xab, 0x12);
        let name = claim.name_for(OsStr::new("my ~shots.toml"));
        assert_eq!(name, ".klingd-000000ab-0000000000000012~my ~shots.toml");
        assert_eq!(Claim::parse(&name), Some((claim.clone(), OsStr::new("my ~shots.toml"))));
        assert!(claim.is_of(0xab) && !claim.is_of(0xa));
        let foreign = OsStr::from_bytes(b"\xff.json");
        assert_eq!(Claim::parse(&claim.name_for(foreign)).unwrap().1, foreign);
    }

    #[test]
    fn nothing_else_is_a_claim() {
        for name in [
            "",
            "a.toml",
            ".klingd-inbox",
            ".klingd-000000ab-0000000000000012~",
            ".klingd-000000ab-0000000000000012-a.toml",
            ".klingd-000000AB-0000000000000012~a.toml",
            ".klingd-000000ab-000000000000012~a.toml",
            ".klingd-00000ab--000000000000012~a.toml",
        ] {
            assert_eq!(Claim::parse(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn a_long_name_that_is_no_text_keeps_its_stem() {
        let name = OsString::from_vec([&[0x80; 240][..], b".toml"].concat());
        let claimed = Claim::new(1, 2).name_for(&name);
        let (_, original) = Claim::parse(&claimed).unwrap();
        assert_eq!(original.as_bytes(), [&[0x80; 195][..], b".toml"].concat());
    }

    #[test]
    fn long_names_are_cut_before_their_extension() {
        let claim = Claim::new(u32::MAX, u64::MAX);
        let name = claim.name_for(OsStr::new(&format!("{}.toml", "ä".repeat(125))));
        assert!(name.len() <= 255 - ".status.txt".len() - "-9999".len(), "{}", name.len());
        let original = Claim::parse(&name).unwrap().1.to_str().unwrap();
        assert_eq!(original, format!("{}.toml", "ä".repeat(97)));
        assert_eq!(claim.name_for(OsStr::new(&"x".repeat(255))).len(), name.len() + 1);
    }
}
