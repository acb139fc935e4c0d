//! A movie fragment (`moof`): every run of samples inside the media data, and where the last one stands.

use std::io::{Read, Seek};
use std::ops::Range;

use super::error::Mp4Error;
use super::movie::{SampleDefaults, Track};
use super::samples::{furthest, is_inside};
use super::source::{BoxAt, Source, Table, be};

/// Of `tfhd`: which of its fields are there.
mod header_flags {
    pub(super) const BASE_OFFSET: u64 = 0x1;
    pub(super) const DESCRIPTION: u64 = 0x2;
    pub(super) const DURATION: u64 = 0x8;
    pub(super) const BYTES: u64 = 0x10;
    pub(super) const BASE_IS_MOOF: u64 = 0x2_0000;
}

/// Of `trun`: which of its fields are there, first for the run, then for each sample.
mod run_flags {
    pub(super) const DATA_OFFSET: u64 = 0x1;
    pub(super) const FIRST_SAMPLE_FLAGS: u64 = 0x4;
    pub(super) const DURATION: u64 = 0x100;
    pub(super) const BYTES: u64 = 0x200;
    pub(super) const ALL_OF_A_SAMPLE: u64 = 0xf00;
}

/// Checks a fragment, and notes in its tracks how long it plays and where its last sample stands.
pub(super) fn check<R: Read + Seek>(
    source: &mut Source<R>,
    moof: &BoxAt,
    tracks: &mut [Track],
    media: &[Range<u64>],
) -> Result<(), Mp4Error> {
    let mut data_end = moof.start;
    for traf in source.children(moof)?.iter().filter(|child| &child.kind.0 == b"traf") {
        let tfhd = source.child(traf, &[b"tfhd"])?;
        let (flags, id) = (source.number(&tfhd, 1, 3)?, source.number(&tfhd, 4, 4)?);
        let Some(track) = tracks.iter_mut().find(|track| track.id == id) else {
            return Err(traf.damaged("it belongs to no track"));
        };
        let mut fields = Fields { within: &tfhd, offset: 8, flags };
        let base = fields.optional(source, header_flags::BASE_OFFSET, 8)?;
        fields.optional(source, header_flags::DESCRIPTION, 4)?;
        let duration_units = fields.optional(source, header_flags::DURATION, 4)?;
        let bytes = fields.optional(source, header_flags::BYTES, 4)?;
        let defaults = SampleDefaults {
            duration_units: duration_units.unwrap_or(track.defaults.duration_units),
            bytes: bytes.unwrap_or(track.defaults.bytes),
        };
        // Without a base of its own, a track's data follows that of the track before.
        let base = match base {
            Some(base) => base,
            None if flags & header_flags::BASE_IS_MOOF != 0 => moof.start,
            None => data_end,
        };
        data_end = base;
        for trun in source.children(traf)?.iter().filter(|child| &child.kind.0 == b"trun") {
            let run = Run::read(source, trun, base, data_end, defaults)?;
            if run.end > run.start && !is_inside(media, run.start, run.end) {
                return Err(Mp4Error::Outside { kind: track.kind, start: run.start, end: run.end });
            }
            track.duration_units = track.duration_units.saturating_add(run.duration_units);
            track.last_sample = furthest(track.last_sample.take(), run.last_sample);
            data_end = run.end;
        }
    }
    Ok(())
}

/// Samples that stand side by side.
struct Run {
    start: u64,
    end: u64,
    duration_units: u64,
    last_sample: Option<Range<u64>>,
}

impl Run {
    fn read<R: Read + Seek>(
        source: &mut Source<R>,
        trun: &BoxAt,
        base: u64,
        follows: u64,
        defaults: SampleDefaults,
    ) -> Result<Run, Mp4Error> {
        let (flags, samples) = (source.number(trun, 1, 3)?, source.number(trun, 4, 4)?);
        let mut fields = Fields { within: trun, offset: 8, flags };
        let start = match fields.optional(source, run_flags::DATA_OFFSET, 4)? {
            // Four bytes, with a sign.
            Some(offset) => base
                .checked_add_signed(i64::from((offset as u32).cast_signed()))
                .ok_or(trun.damaged("its data starts outside of the file"))?,
            None => follows,
        };
        fields.optional(source, run_flags::FIRST_SAMPLE_FLAGS, 4)?;

        let mut run = Run { start, end: start, duration_units: 0, last_sample: None };
        let row_bytes = 4 * (flags & run_flags::ALL_OF_A_SAMPLE).count_ones() as usize;
        if row_bytes == 0 {
            // All samples are equal, and there may be billions: counted, not visited.
            run.append(
                defaults.duration_units.saturating_mul(samples),
                defaults.bytes.saturating_mul(samples),
            );
            return Ok(run);
        }
        let mut rows = Table::new(trun, fields.offset, samples, row_bytes)?;
        while let Some(row) = rows.next(source)? {
            let (duration, rest) = row.split_at(if flags & run_flags::DURATION != 0 { 4 } else { 0 });
            let duration_units = if duration.is_empty() { defaults.duration_units } else { be(duration) };
            let bytes = if flags & run_flags::BYTES != 0 { be(&rest[..4]) } else { defaults.bytes };
            run.append(duration_units, bytes);
        }
        Ok(run)
    }

    /// Sums that overflow end up outside of any media data.
    fn append(&mut self, duration_units: u64, bytes: u64) {
        let at = self.end;
        self.duration_units = self.duration_units.saturating_add(duration_units);
        self.end = at.saturating_add(bytes);
        if self.end > at {
            self.last_sample = Some(at..self.end);
        }
    }
}

/// Fields of which flags say whether they are there.
struct Fields<'a> {
    within: &'a BoxAt,
    offset: u64,
    flags: u64,
}

impl Fields<'_> {
    fn optional<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        flag: u64,
        bytes: usize,
    ) -> Result<Option<u64>, Mp4Error> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        let number = source.number(self.within, self.offset, bytes)?;
        self.offset += bytes as u64;
        Ok(Some(number))
    }
}
