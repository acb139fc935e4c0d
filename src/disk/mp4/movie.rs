//! The `moov` box: which tracks there are, what they hold, and where their tables stand.

use std::fmt;
use std::io::{Read, Seek};
use std::ops::Range;

use super::error::Mp4Error;
use super::millis;
use super::source::{BoxAt, FourCc, Source, Table};

/// What the table of contents says.
pub(super) struct Movie {
    pub(super) duration_ms: u64,
    pub(super) tracks: Vec<Track>,
}

/// One track.
pub(super) struct Track {
    pub(super) id: u64,
    pub(super) kind: TrackKind,
    pub(super) codec: FourCc,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) timescale: u64,
    pub(super) tables: SampleTables,
    /// What samples of fragments have where those don't say.
    pub(super) defaults: SampleDefaults,
    /// How long it plays, in units of its timescale: as its header says, and its fragments added by the
    /// checks.
    pub(super) duration_units: u64,
    /// Where its last sample stands, by position in the file; filled in by the checks.
    pub(super) last_sample: Option<Range<u64>>,
}

/// What a track is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Subtitles, time codes, hints.
    Other,
}

/// Which sample stands where.
pub(super) struct SampleTables {
    /// The box they are in.
    pub(super) stbl: BoxAt,
    pub(super) sizes: Sizes,
    /// First chunk, samples per chunk, description.
    pub(super) runs: Table,
    pub(super) chunk_offsets: Table,
}

/// Bytes of the samples.
pub(super) enum Sizes {
    Equal { sample_bytes: u64, samples_left: u64 },
    Each(Table),
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SampleDefaults {
    pub(super) duration_units: u64,
    pub(super) bytes: u64,
}

pub(super) fn read<R: Read + Seek>(source: &mut Source<R>, moov: &BoxAt) -> Result<Movie, Mp4Error> {
    let (mut duration_ms, mut tracks, mut mvex) = (0, Vec::new(), None);
    for child in source.children(moov)? {
        match &child.kind.0 {
            b"mvhd" => {
                let (timescale, units) = timing(source, &child)?;
                duration_ms = millis(units, timescale);
            }
            b"trak" => tracks.push(track(source, &child)?),
            b"mvex" => mvex = Some(child),
            _ => {}
        }
    }
    if let Some(mvex) = mvex {
        read_defaults(source, &mvex, &mut tracks)?;
    }
    Ok(Movie { duration_ms, tracks })
}

fn track<R: Read + Seek>(source: &mut Source<R>, trak: &BoxAt) -> Result<Track, Mp4Error> {
    let tkhd = source.child(trak, &[b"tkhd"])?;
    let mdia = source.child(trak, &[b"mdia"])?;
    let mdhd = source.child(&mdia, &[b"mdhd"])?;
    let hdlr = source.child(&mdia, &[b"hdlr"])?;
    let minf = source.child(&mdia, &[b"minf"])?;
    let stbl = source.child(&minf, &[b"stbl"])?;
    let stsd = source.child(&stbl, &[b"stsd"])?;

    let kind = match &source.four_cc(&hdlr, 8)?.0 {
        b"vide" => TrackKind::Video,
        b"soun" => TrackKind::Audio,
        _ => TrackKind::Other,
    };
    // The first of its sample descriptions stands for all. Only those of pictures have a size, of two bytes
    // each.
    let (width, height) = match kind {
        TrackKind::Video => (source.number(&stsd, 40, 2)?, source.number(&stsd, 42, 2)?),
        TrackKind::Audio | TrackKind::Other => (0, 0),
    };
    let (timescale, duration_units) = timing(source, &mdhd)?;
    let id_offset = if source.number(&tkhd, 0, 1)? == 0 { 12 } else { 20 };
    Ok(Track {
        id: source.number(&tkhd, id_offset, 4)?,
        kind,
        codec: source.four_cc(&stsd, 12)?,
        width: width as u32,
        height: height as u32,
        timescale,
        tables: sample_tables(source, stbl)?,
        defaults: SampleDefaults::default(),
        duration_units,
        last_sample: None,
    })
}

fn sample_tables<R: Read + Seek>(source: &mut Source<R>, stbl: BoxAt) -> Result<SampleTables, Mp4Error> {
    let stsc = source.child(&stbl, &[b"stsc"])?;
    let stsz = source.child(&stbl, &[b"stsz"])?;
    let offsets = source.child(&stbl, &[b"stco", b"co64"])?;
    let (sample_bytes, samples) = (source.number(&stsz, 4, 4)?, source.number(&stsz, 8, 4)?);
    let sizes = match sample_bytes {
        0 => Sizes::Each(Table::new(&stsz, 12, samples, 4)?),
        sample_bytes => Sizes::Equal { sample_bytes, samples_left: samples },
    };
    let (runs, chunks) = (source.number(&stsc, 4, 4)?, source.number(&offsets, 4, 4)?);
    let offset_bytes = if &offsets.kind.0 == b"co64" { 8 } else { 4 };
    Ok(SampleTables {
        stbl,
        sizes,
        runs: Table::new(&stsc, 8, runs, 12)?,
        chunk_offsets: Table::new(&offsets, 8, chunks, offset_bytes)?,
    })
}

fn read_defaults<R: Read + Seek>(
    source: &mut Source<R>,
    mvex: &BoxAt,
    tracks: &mut [Track],
) -> Result<(), Mp4Error> {
    for trex in source.children(mvex)?.iter().filter(|child| &child.kind.0 == b"trex") {
        let id = source.number(trex, 4, 4)?;
        let defaults = SampleDefaults {
            duration_units: source.number(trex, 12, 4)?,
            bytes: source.number(trex, 16, 4)?,
        };
        tracks.iter_mut().filter(|track| track.id == id).for_each(|track| track.defaults = defaults);
    }
    Ok(())
}

/// The timescale and the length in it, of a movie or of a track. A length of all ones means "unknown".
fn timing<R: Read + Seek>(source: &mut Source<R>, header: &BoxAt) -> Result<(u64, u64), Mp4Error> {
    let (timescale, units) = if source.number(header, 0, 1)? == 0 {
        (source.number(header, 12, 4)?, source.number(header, 16, 4)?)
    } else {
        (source.number(header, 20, 4)?, source.number(header, 24, 8)?)
    };
    let unknown = units == u64::from(u32::MAX) || units == u64::MAX;
    Ok((timescale, if unknown { 0 } else { units }))
}

impl fmt::Display for TrackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrackKind::Video => "video",
            TrackKind::Audio => "audio",
            TrackKind::Other => "data",
        })
    }
}
