//! The sample tables of a track: every chunk inside the media data, and where the last sample stands.

use std::io::{Read, Seek};
use std::ops::Range;

use super::error::Mp4Error;
use super::movie::{SampleTables, Sizes, TrackKind};
use super::source::{Source, Table, be};

/// Walks the chunks of a track once. Gives the last sample by position in the file; none in an empty track.
///
/// The work is bounded by the size of the tables: samples of equal size are counted, not visited.
pub(super) fn check<R: Read + Seek>(
    source: &mut Source<R>,
    kind: TrackKind,
    tables: &mut SampleTables,
    media: &[Range<u64>],
) -> Result<Option<Range<u64>>, Mp4Error> {
    let stbl = tables.stbl;
    let mut runs = Runs::start(source, &mut tables.runs)?;
    let (mut chunk, mut last) = (0, None);
    while let Some(row) = tables.chunk_offsets.next(source)? {
        let start = be(row);
        chunk += 1;
        let samples = runs.samples_in(source, chunk)?.ok_or(stbl.damaged("its first chunk is in no run"))?;
        let found = walk_chunk(source, &mut tables.sizes, start, samples)?;
        let found = found.ok_or(stbl.damaged("its chunks hold more samples than it has"))?;
        if !is_inside(media, start, found.end) {
            return Err(Mp4Error::Outside { kind, start, end: found.end });
        }
        last = furthest(last, found.last_sample);
    }
    let samples_left = match &tables.sizes {
        Sizes::Equal { samples_left, .. } => *samples_left,
        Sizes::Each(table) => table.rows_left(),
    };
    if samples_left > 0 { Err(stbl.damaged("some of its samples are in no chunk")) } else { Ok(last) }
}

/// Whether all of it is in one piece of the media data; these stand in the order of the file.
pub(super) fn is_inside(media: &[Range<u64>], start: u64, end: u64) -> bool {
    let behind = media.partition_point(|piece| piece.start <= start);
    behind.checked_sub(1).is_some_and(|index| end <= media[index].end)
}

/// The one that ends later in the file.
pub(super) fn furthest(one: Option<Range<u64>>, other: Option<Range<u64>>) -> Option<Range<u64>> {
    [one, other].into_iter().flatten().max_by_key(|sample| sample.end)
}

/// What the sizes say of a chunk.
struct Chunk {
    end: u64,
    /// The last one that isn't empty.
    last_sample: Option<Range<u64>>,
}

/// None when there are not that many samples. Sums that overflow end up outside of any media data.
fn walk_chunk<R: Read + Seek>(
    source: &mut Source<R>,
    sizes: &mut Sizes,
    start: u64,
    samples: u64,
) -> Result<Option<Chunk>, Mp4Error> {
    match sizes {
        Sizes::Equal { sample_bytes, samples_left } => {
            let Some(left) = samples_left.checked_sub(samples) else { return Ok(None) };
            *samples_left = left;
            let end = start.saturating_add(sample_bytes.saturating_mul(samples));
            let last_sample = (samples > 0).then(|| end.saturating_sub(*sample_bytes)..end);
            Ok(Some(Chunk { end, last_sample }))
        }
        Sizes::Each(table) => {
            let mut chunk = Chunk { end: start, last_sample: None };
            for _ in 0..samples {
                let Some(row) = table.next(source)? else { return Ok(None) };
                let at = chunk.end;
                chunk.end = at.saturating_add(be(row));
                if chunk.end > at {
                    chunk.last_sample = Some(at..chunk.end);
                }
            }
            Ok(Some(chunk))
        }
    }
}

/// How many samples a chunk has: a row says it for all chunks from its own on.
struct Runs<'a> {
    table: &'a mut Table,
    samples_per_chunk: Option<u64>,
    next: Option<(u64, u64)>,
}

impl Runs<'_> {
    fn start<'a, R: Read + Seek>(source: &mut Source<R>, table: &'a mut Table) -> Result<Runs<'a>, Mp4Error> {
        let mut runs = Runs { table, samples_per_chunk: None, next: None };
        runs.read_next(source)?;
        Ok(runs)
    }

    /// For chunks in order, counted from one.
    fn samples_in<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        chunk: u64,
    ) -> Result<Option<u64>, Mp4Error> {
        if let Some((first_chunk, samples)) = self.next
            && first_chunk == chunk
        {
            self.samples_per_chunk = Some(samples);
            self.read_next(source)?;
        }
        Ok(self.samples_per_chunk)
    }

    fn read_next<R: Read + Seek>(&mut self, source: &mut Source<R>) -> Result<(), Mp4Error> {
        self.next = self.table.next(source)?.map(|row| (be(&row[..4]), be(&row[4..8])));
        Ok(())
    }
}
