//! The videos that the double hands out: real, playable MP4s, embedded, made by `tools/make-sandbox-videos.sh`.
//!
//! No two are equal: the file's version stands in the minor version of its `ftyp` box, and a `free` box at its end names the
//! task. So a download that mixes two versions or two tasks is never mistaken for a whole one. The same box pads a file to
//! any size that a benchmark asks for.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;

/// What a video looks and sounds like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub ratio: Ratio,
    pub seconds: u32,
    pub sound: bool,
}

/// The aspect ratios of the provider's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ratio {
    Wide,
    Tall,
    Square,
}

impl Ratio {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "16:9" => Some(Self::Wide),
            "9:16" => Some(Self::Tall),
            "1:1" => Some(Self::Square),
            _ => None,
        }
    }
}

/// One file: `head`, then as much filler as its size asks for. Cheap to clone, whatever its size.
#[derive(Debug, Clone)]
pub(super) struct Video {
    head: Bytes,
    filler: u64,
}

impl Video {
    /// The file of `shape`, told from all others by `name` and `version`, and at least `size` bytes long.
    pub fn new(shape: Shape, name: &str, version: u32, size: Option<u64>) -> Self {
        let file = embedded(shape);
        let text = format!("klingd sandbox {name} version {version} ");
        let mut head = Vec::with_capacity(file.len() + LONG_HEADER + text.len());
        head.extend_from_slice(file);
        if let Some(minor_version) = head.get_mut(FTYP_MINOR_VERSION) {
            minor_version.copy_from_slice(&version.to_be_bytes());
        }
        let content = text.len() as u64;
        let room = size.unwrap_or(0).saturating_sub(file.len() as u64);
        let short = room.max(SHORT_HEADER as u64 + content);
        let (header, length) = match u32::try_from(short) {
            Ok(length) => (SHORT_HEADER as u64, BoxLength::Short(length)),
            Err(_) => (LONG_HEADER as u64, BoxLength::Long(short)),
        };
        length.write(&mut head);
        head.extend_from_slice(text.as_bytes());
        Self { head: head.into(), filler: short.saturating_sub(header + content) }
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        self.head.len() as u64 + self.filler
    }

    /// The first bytes of `range`, as many as are at hand in one piece; nothing only if the range is empty or outside.
    pub fn chunk(&self, range: Range<u64>) -> Bytes {
        let wanted = range.end.min(self.len()).saturating_sub(range.start);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        match usize::try_from(range.start) {
            Ok(start) if start < self.head.len() => {
                self.head.slice(start..start.saturating_add(wanted).min(self.head.len()))
            }
            Ok(_) | Err(_) => FILLER.slice(..wanted.min(FILLER.len())),
        }
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < self.len() {
            let chunk = self.chunk(at..self.len());
            at += chunk.len() as u64;
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }
}

/// Where `ftyp`, the first box of every file, has its minor version: after length, name and major brand.
const FTYP_MINOR_VERSION: Range<usize> = 12..16;
/// Length and name of a box.
const SHORT_HEADER: usize = 8;
/// The same with a length of 64 bits.
const LONG_HEADER: usize = 16;

enum BoxLength {
    Short(u32),
    Long(u64),
}

impl BoxLength {
    fn write(&self, file: &mut Vec<u8>) {
        match self {
            Self::Short(length) => {
                file.extend_from_slice(&length.to_be_bytes());
                file.extend_from_slice(b"free");
            }
            Self::Long(length) => {
                file.extend_from_slice(&1_u32.to_be_bytes());
                file.extend_from_slice(b"free");
                file.extend_from_slice(&length.to_be_bytes());
            }
        }
    }
}

/// What is repeated after the head: not zeros, which a file that was preallocated and never written has too.
static FILLER: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![b'k'; 64 * 1024]));

fn embedded(shape: Shape) -> &'static [u8] {
    let ratio = match shape.ratio {
        Ratio::Wide => &WIDE,
        Ratio::Tall => &TALL,
        Ratio::Square => &SQUARE,
    };
    let longest = ratio.len() - 1;
    let index = usize::try_from(shape.seconds.saturating_sub(SHORTEST)).unwrap_or(longest).min(longest);
    let (sound, silent) = ratio[index];
    if shape.sound { sound } else { silent }
}

/// The first of each list below is so many seconds long, every next one a second longer.
const SHORTEST: u32 = 3;

type Files = [(&'static [u8], &'static [u8]); 13];

macro_rules! files {
    ($ratio:literal: $($seconds:literal)*) => {
        [$((
            include_bytes!(concat!("videos/", $ratio, "-", $seconds, "-sound.mp4")),
            include_bytes!(concat!("videos/", $ratio, "-", $seconds, "-silent.mp4")),
        )),*]
    };
}

static WIDE: Files = files!("16x9": 3 4 5 6 7 8 9 10 11 12 13 14 15);
static TALL: Files = files!("9x16": 3 4 5 6 7 8 9 10 11 12 13 14 15);
static SQUARE: Files = files!("1x1": 3 4 5 6 7 8 9 10 11 12 13 14 15);
