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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn shapes() -> Vec<Shape> {
        let mut shapes = Vec::new();
        for ratio in [Ratio::Wide, Ratio::Tall, Ratio::Square] {
            for seconds in 3..=15 {
                shapes.extend([true, false].map(|sound| Shape { ratio, seconds, sound }));
            }
        }
        shapes
    }

    fn video(size: Option<u64>) -> Video {
        Video::new(Shape { ratio: Ratio::Wide, seconds: 5, sound: true }, "n75abc123kling3 video 1", 1, size)
    }

    /// Reads `length` bytes from `at`, through the chunks that the network reads.
    fn read(video: &Video, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let start = at + bytes.len() as u64;
            let chunk = video.chunk(start..at + length as u64);
            assert!(!chunk.is_empty(), "nothing at {start}");
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    /// The names of the top-level boxes, which must end exactly at the end of the file.
    fn boxes(video: &Video) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = 0;
        while at < video.len() {
            let header = read(video, at, 8);
            names.push(String::from_utf8(header[4..].to_vec()).unwrap());
            at += match u32::from_be_bytes(header[..4].try_into().unwrap()) {
                1 => u64::from_be_bytes(read(video, at + 8, 8).try_into().unwrap()),
                length => u64::from(length),
            };
        }
        assert_eq!(at, video.len());
        names
    }

    #[test]
    fn every_video_is_a_whole_mp4_with_its_index_in_front() {
        for shape in shapes() {
            let names = boxes(&Video::new(shape, "n75abc123kling3 video 1", 1, None));
            assert_eq!(names.first().map(String::as_str), Some("ftyp"), "{shape:?}");
            assert_eq!(names.last().map(String::as_str), Some("free"), "{shape:?}");
            let place = |name| {
                names.iter().position(|found| found == name).unwrap_or_else(|| panic!("{shape:?}: {name}"))
            };
            assert!(place("moov") < place("mdat"), "{shape:?}: {names:?}");
        }
    }

    #[test]
    fn every_index_says_the_length_and_the_tracks_that_were_asked_for() {
        for shape in shapes() {
            let file = embedded(shape);
            let mvhd = file.windows(4).position(|window| window == b"mvhd").unwrap();
            let tracks = file.windows(4).filter(|window| window == b"trak").count();
            let number = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
            let (timescale, duration) = (number(mvhd + 16), number(mvhd + 20));
            assert_eq!(duration, timescale * shape.seconds, "{shape:?}");
            assert_eq!(tracks, if shape.sound { 2 } else { 1 }, "{shape:?}");
        }
    }

    #[test]
    fn a_video_can_have_any_size_above_its_own() {
        let least = video(None).len();
        for size in [least, least + 1, 100_000, 1 << 20, u64::from(u32::MAX), 5 << 30, 1 << 50] {
            let video = video(Some(size));
            assert_eq!(video.len(), size);
            assert_eq!(boxes(&video).last().map(String::as_str), Some("free"));
        }
        assert_eq!(video(Some(1)).len(), least);
        assert_eq!(video(Some(300_000)).bytes().len(), 300_000);
    }

    #[test]
    fn chunks_never_leave_their_range() {
        let video = video(Some(200_000));
        let whole = video.bytes();
        for range in [0..1, 0..200_000, 199_999..200_000, 30_000..30_001, 190_000..999_999, 200_000..300_000]
        {
            let chunk = video.chunk(range.clone());
            let start = usize::try_from(range.start).unwrap();
            assert_eq!(chunk, whole[start..start + chunk.len()], "{range:?}");
            assert_eq!(chunk.is_empty(), range.start >= 200_000, "{range:?}");
            assert!(chunk.len() as u64 <= range.end - range.start);
        }
    }

    #[test]
    fn no_two_files_are_equal_and_a_mixture_of_versions_is_none_of_them() {
        let shape = Shape { ratio: Ratio::Square, seconds: 3, sound: false };
        let file = |name, version| Video::new(shape, name, version, None).bytes();
        let (first, second, other) =
            (file("n75a video 1", 1), file("n75a video 1", 2), file("n75b video 1", 1));
        let (head, tail) = (&first[..4000], &second[4000..]);
        let mixed = [head, tail].concat();
        assert_eq!(BTreeSet::from([first, second, other, mixed]).len(), 4);
    }

    /// What a player sees, by a second opinion.
    #[test]
    fn ffprobe_finds_the_length_and_the_tracks_that_were_asked_for() {
        let probe =
            || Command::new("ffprobe").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !probe().is_ok_and(|status| status.success()) {
            println!("skipped: ffprobe is not installed");
            return;
        }
        // A process for each is slow: the ends of the range; what stands in every index is looked at above.
        for shape in shapes().into_iter().filter(|shape| shape.seconds == if shape.sound { 15 } else { 3 }) {
            let mut child = Command::new("ffprobe")
                .args([
                    "-v",
                    "error",
                    "-show_entries",
                    "format=duration:stream=codec_name",
                    "-of",
                    "csv=p=0",
                    "-",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let bytes = Video::new(shape, "n75abc123kling3 video 1", 7, Some(60_000)).bytes();
            child.stdin.take().unwrap().write_all(&bytes).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let tracks = if shape.sound { "h264\naac\n" } else { "h264\n" };
            assert_eq!(text, format!("{tracks}{}.000000\n", shape.seconds), "{shape:?}");
            assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{shape:?}");
        }
    }
}
