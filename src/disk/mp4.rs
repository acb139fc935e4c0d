//! Whether a file is a whole MP4 video, and what it says of itself.
//!
//! A server that cuts a chunked answer, or a proxy that pads it, leaves a file that players and probes
//! accept. So this walks the structure itself: every top-level box in bounds and the last one ending at the
//! end of the file, every chunk and fragment inside the media data, and the last sample really there. It
//! reads tables in blocks, never the media, never more than the limits below, and writes nothing.
//!
//! What it cannot tell: damage in the middle of the media. The exact length comes first, this second; against
//! the rest there is the SHA-256.

mod error;
mod fragments;
mod movie;
mod samples;
mod source;
#[cfg(test)]
mod tests;

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use rustix::fs::OFlags;

pub use error::{LooksLike, Mp4Error};
pub use movie::TrackKind;
pub use source::FourCc;

use super::open::plain_file;
use movie::Movie;
use source::{BoxAt, Source};

/// The largest `moov` that is read; hours of video have a few MiB.
const MAX_MOOV_BYTES: u64 = 64 * 1024 * 1024;

/// What is read to recognize an error page.
const SNIFF_BYTES: u64 = 512;

/// How much of the end of the last picture has to hold something. No codec in use ends a picture with this
/// many zeros; a page that never reached the disk, or padding, does.
const PICTURE_END_BYTES: u64 = 64;

/// What a video says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mp4Info {
    /// How long it plays.
    pub duration_ms: u64,
    /// Width of the pictures in pixels.
    pub width: u32,
    /// Height of the pictures in pixels.
    pub height: u32,
    /// `avc1`, `hvc1`, …
    pub video_codec: FourCc,
    /// `mp4a`, …; none when the video is silent.
    pub audio_codec: Option<FourCc>,
    /// Written in fragments, as for streaming.
    pub fragmented: bool,
}

impl Mp4Info {
    /// Whether there is a sound track with sound in it.
    #[must_use]
    pub fn has_audio(&self) -> bool {
        self.audio_codec.is_some()
    }
}

/// Checks the file at `path`. `expected_bytes` is the length that the server promised, where it did.
pub fn check(path: &Path, expected_bytes: Option<u64>) -> Result<Mp4Info, Mp4Error> {
    check_reader(plain_file(path, OFlags::RDONLY)?, expected_bytes)
}

/// As [`check`], on anything that can be read and sought.
pub fn check_reader(mut reader: impl Read + Seek, expected_bytes: Option<u64>) -> Result<Mp4Info, Mp4Error> {
    let length = reader.seek(SeekFrom::End(0)).map_err(Mp4Error::Read)?;
    let mut source = Source::new(reader, length);
    recognize(&mut source)?;
    if let Some(expected) = expected_bytes.filter(|expected| *expected != length) {
        return Err(Mp4Error::Length { actual: length, expected });
    }

    let layout = Layout::read(&mut source)?;
    let mut movie = movie::read(&mut source, &layout.moov)?;
    for track in &mut movie.tracks {
        track.last_sample = samples::check(&mut source, track.kind, &mut track.tables, &layout.media)?;
        if track.last_sample.is_none() {
            // What its header promises is in the fragments, which are counted.
            track.duration_units = 0;
        }
    }
    for moof in &layout.fragments {
        fragments::check(&mut source, moof, &mut movie.tracks, &layout.media)?;
    }
    let fragmented = !layout.fragments.is_empty();
    // Cut between two fragments, such a file is a whole shorter one: only its index or its length says where
    // it ends.
    if fragmented && !layout.has_fragment_index && expected_bytes.is_none() {
        return Err(Mp4Error::OpenEnded);
    }
    check_ends_are_written(&mut source, &movie)?;
    info(&movie, fragmented)
}

/// The top level of the file.
struct Layout {
    moov: BoxAt,
    media: Vec<Range<u64>>,
    fragments: Vec<BoxAt>,
    has_fragment_index: bool,
}

impl Layout {
    fn read<R: Read + Seek>(source: &mut Source<R>) -> Result<Layout, Mp4Error> {
        let (mut moov, mut media, mut fragments, mut has_fragment_index) =
            (None, Vec::new(), Vec::new(), false);
        for (index, top) in source.top_level()?.into_iter().enumerate() {
            match &top.kind.0 {
                b"ftyp" => {}
                _ if index == 0 => return Err(Mp4Error::NotFirst { found: top.kind }),
                b"moov" if moov.is_some() => {
                    return Err(Mp4Error::Damaged {
                        kind: top.kind,
                        at: top.start,
                        what: "it is the second one",
                    });
                }
                b"moov" => moov = Some(top),
                b"mdat" => media.push(top.body..top.end),
                b"moof" => fragments.push(top),
                b"mfra" => has_fragment_index = true,
                _ => {}
            }
        }
        let moov = moov.ok_or(Mp4Error::Missing { what: "moov box (its table of contents)" })?;
        if moov.end - moov.start > MAX_MOOV_BYTES {
            return Err(Mp4Error::TooLarge { moov_bytes: moov.end - moov.start });
        }
        if media.is_empty() {
            return Err(Mp4Error::Missing { what: "mdat box (the media data)" });
        }
        Ok(Layout { moov, media, fragments, has_fragment_index })
    }
}

/// Tells an error page from a video before it is called a damaged video.
fn recognize<R: Read + Seek>(source: &mut Source<R>) -> Result<(), Mp4Error> {
    if source.length() == 0 {
        return Err(Mp4Error::Empty);
    }
    let mut head = vec![0; usize::try_from(source.length().min(SNIFF_BYTES)).unwrap_or_default()];
    source.read_at(0, &mut head)?;
    match LooksLike::of(&head) {
        Some(looks_like) => Err(Mp4Error::NotVideo { looks_like }),
        None => Ok(()),
    }
}

fn check_ends_are_written<R: Read + Seek>(source: &mut Source<R>, movie: &Movie) -> Result<(), Mp4Error> {
    for track in &movie.tracks {
        let Some(sample) = &track.last_sample else { continue };
        let checked = match track.kind {
            TrackKind::Video => sample.end.saturating_sub(PICTURE_END_BYTES).max(sample.start)..sample.end,
            // An AAC frame may be filled up with zeros, but never starts with them; zeros in raw sound are
            // silence.
            TrackKind::Audio if &track.codec.0 == b"mp4a" => sample.clone(),
            // Zeros are content in the rest: an empty subtitle, a time code of zero.
            TrackKind::Audio | TrackKind::Other => continue,
        };
        if source.is_zero(checked)? {
            return Err(Mp4Error::Blank { kind: track.kind, at: sample.start });
        }
    }
    Ok(())
}

fn info(movie: &Movie, fragmented: bool) -> Result<Mp4Info, Mp4Error> {
    let first = |kind| movie.tracks.iter().find(|track| track.kind == kind && track.last_sample.is_some());
    let video = first(TrackKind::Video).ok_or(Mp4Error::Missing { what: "picture" })?;
    let longest_track_ms =
        movie.tracks.iter().map(|track| millis(track.duration_units, track.timescale)).max();
    Ok(Mp4Info {
        duration_ms: match longest_track_ms {
            Some(track_ms) if fragmented => track_ms.max(movie.duration_ms),
            Some(_) | None => movie.duration_ms,
        },
        width: video.width,
        height: video.height,
        video_codec: video.codec,
        audio_codec: first(TrackKind::Audio).map(|track| track.codec),
        fragmented,
    })
}

/// Time in units of a timescale; a timescale of zero means nothing can be said.
fn millis(units: u64, timescale: u64) -> u64 {
    u64::try_from(u128::from(units) * 1000 / u128::from(timescale.max(1))).unwrap_or(u64::MAX)
}
