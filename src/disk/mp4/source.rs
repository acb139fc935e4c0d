//! Bounded reading: boxes, numbers and tables of a file whose every length may be a lie.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use super::error::Mp4Error;

/// Boxes of a whole file. A fragmented hour has a few thousand; the headers of this many are read in a
/// second.
pub(super) const MAX_BOXES: u32 = 65_536;

/// What is read at a time from a table.
const BLOCK_BYTES: usize = 4096;

/// What is read around a box's header or number: those beside it are asked for next. The table of contents of a short
/// video is in it whole.
const WINDOW_BYTES: usize = 2 * BLOCK_BYTES;

/// The four letters that name a box or a codec.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

/// A box whose bounds lie within its parent's.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxAt {
    pub(super) kind: FourCc,
    pub(super) start: u64,
    /// Where the header ends.
    pub(super) body: u64,
    pub(super) end: u64,
}

/// The file.
pub(super) struct Source<R> {
    reader: R,
    length: u64,
    boxes_left: u32,
    /// What was read last for something small, and where it stands.
    window: Vec<u8>,
    window_at: u64,
}

impl<R: Read + Seek> Source<R> {
    pub(super) fn new(reader: R, length: u64) -> Source<R> {
        Source { reader, length, boxes_left: MAX_BOXES, window: Vec::new(), window_at: 0 }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Mp4Error> {
        // A whole block, or what only the reader can refuse, has no use for the window.
        if buffer.len() >= BLOCK_BYTES || offset.saturating_add(buffer.len() as u64) > self.length {
            return self.fetch(offset, buffer);
        }
        if self.in_window(offset, buffer.len()).is_none() {
            // From the start of a block: what stands a little before is asked for, too.
            let start = offset - offset % BLOCK_BYTES as u64;
            let bytes = (self.length - start).min(WINDOW_BYTES as u64);
            // Taken out meanwhile: half a window that failed must not be found again.
            let mut window = std::mem::take(&mut self.window);
            window.resize(usize::try_from(bytes).unwrap_or(WINDOW_BYTES), 0);
            self.fetch(start, &mut window)?;
            (self.window, self.window_at) = (window, start);
        }
        if let Some(found) = self.in_window(offset, buffer.len()) {
            buffer.copy_from_slice(found);
        }
        Ok(())
    }

    fn in_window(&self, offset: u64, bytes: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.window_at)?).ok()?;
        self.window.get(start..start.checked_add(bytes)?)
    }

    fn fetch(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Mp4Error> {
        self.reader.seek(SeekFrom::Start(offset)).map_err(Mp4Error::Read)?;
        self.reader.read_exact(buffer).map_err(Mp4Error::Read)
    }

    /// All boxes of the file; the last one ends where the file does.
    pub(super) fn top_level(&mut self) -> Result<Vec<BoxAt>, Mp4Error> {
        self.boxes(0..self.length, |kind, at, size, left| match size {
            // "To the end of the file", which only media data of unknown length has a use for.
            0 if &kind.0 == b"mdat" => Ok(left),
            size if size > left => Err(Mp4Error::CutOff { kind, have: left, need: size }),
            0 => Err(Mp4Error::NoBox { at }),
            size => Ok(size),
        })
    }

    /// The boxes directly inside a box.
    pub(super) fn children(&mut self, parent: &BoxAt) -> Result<Vec<BoxAt>, Mp4Error> {
        self.boxes(parent.body..parent.end, |_, _, size, left| {
            let fits = (1..=left).contains(&size);
            if fits { Ok(size) } else { Err(parent.damaged("a box inside it doesn't fit")) }
        })
    }

    /// The first box inside `parent` that is of one of these kinds.
    pub(super) fn child(&mut self, parent: &BoxAt, kinds: &[&'static [u8; 4]]) -> Result<BoxAt, Mp4Error> {
        let found = self.children(parent)?.into_iter().find(|child| kinds.contains(&&child.kind.0));
        found.ok_or_else(|| Mp4Error::MissingIn {
            parent: parent.kind,
            at: parent.start,
            kind: FourCc(*kinds[0]),
        })
    }

    fn boxes(
        &mut self,
        range: Range<u64>,
        bound: impl Fn(FourCc, u64, u64, u64) -> Result<u64, Mp4Error>,
    ) -> Result<Vec<BoxAt>, Mp4Error> {
        let (mut boxes, mut at) = (Vec::new(), range.start);
        while at < range.end {
            self.boxes_left = self.boxes_left.checked_sub(1).ok_or(Mp4Error::TooMany)?;
            let left = range.end - at;
            let mut header = [0; 16];
            let readable = &mut header[..if left < 16 { 8 } else { 16 }];
            if left < 8 {
                return Err(Mp4Error::NoBox { at });
            }
            self.read_at(at, readable)?;
            let kind = FourCc([header[4], header[5], header[6], header[7]]);
            let (size, header_bytes) = match be(&header[..4]) {
                // A long size that is cut off reads as zero, too.
                1 if be(&header[8..]) == 0 => return Err(Mp4Error::NoBox { at }),
                1 => (be(&header[8..]), 16),
                size => (size, 8),
            };
            let size = bound(kind, at, size, left)?;
            if size < header_bytes {
                return Err(Mp4Error::NoBox { at });
            }
            boxes.push(BoxAt { kind, start: at, body: at + header_bytes, end: at + size });
            at += size;
        }
        Ok(boxes)
    }

    /// The number of `bytes` bytes at `offset` of a box's body.
    pub(super) fn number(&mut self, within: &BoxAt, offset: u64, bytes: usize) -> Result<u64, Mp4Error> {
        let mut buffer = [0; 8];
        let buffer = &mut buffer[..bytes];
        if within.body + offset + bytes as u64 > within.end {
            return Err(within.damaged("it is too short"));
        }
        self.read_at(within.body + offset, buffer)?;
        Ok(be(buffer))
    }

    /// The four letters at `offset` of a box's body.
    pub(super) fn four_cc(&mut self, within: &BoxAt, offset: u64) -> Result<FourCc, Mp4Error> {
        let [.., a, b, c, d] = self.number(within, offset, 4)?.to_be_bytes();
        Ok(FourCc([a, b, c, d]))
    }

    /// Whether nothing but zeros stands there. Stops at the first other byte.
    pub(super) fn is_zero(&mut self, range: Range<u64>) -> Result<bool, Mp4Error> {
        let (mut at, mut block) = (range.start, [0; BLOCK_BYTES]);
        while at < range.end {
            let wanted = usize::try_from(range.end - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            self.read_at(at, &mut block[..wanted])?;
            if block[..wanted].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += wanted as u64;
        }
        Ok(true)
    }
}

impl BoxAt {
    pub(super) fn damaged(&self, what: &'static str) -> Mp4Error {
        Mp4Error::Damaged { kind: self.kind, at: self.start, what }
    }
}

/// Rows of equal size in a box, read in blocks and once.
#[derive(Debug)]
pub(super) struct Table {
    at: u64,
    rows_left: u64,
    row_bytes: usize,
    block: Vec<u8>,
    block_used: usize,
}

impl Table {
    /// The table of `rows` rows at `offset` of a box's body.
    pub(super) fn new(within: &BoxAt, offset: u64, rows: u64, row_bytes: usize) -> Result<Table, Mp4Error> {
        let room = (within.end - within.body).saturating_sub(offset);
        match rows.checked_mul(row_bytes as u64) {
            Some(bytes) if bytes <= room => {}
            Some(_) | None => return Err(within.damaged("its table is longer than the box")),
        }
        let at = within.body + offset;
        Ok(Table { at, rows_left: rows, row_bytes, block: Vec::new(), block_used: 0 })
    }

    pub(super) fn rows_left(&self) -> u64 {
        self.rows_left
    }

    pub(super) fn next<R: Read + Seek>(&mut self, source: &mut Source<R>) -> Result<Option<&[u8]>, Mp4Error> {
        if self.rows_left == 0 {
            return Ok(None);
        }
        if self.block_used == self.block.len() {
            let rows =
                (BLOCK_BYTES / self.row_bytes).min(usize::try_from(self.rows_left).unwrap_or(BLOCK_BYTES));
            self.block.resize(rows * self.row_bytes, 0);
            source.read_at(self.at, &mut self.block)?;
            self.at += self.block.len() as u64;
            self.block_used = 0;
        }
        let row = self.block_used..self.block_used + self.row_bytes;
        self.block_used = row.end;
        self.rows_left -= 1;
        Ok(Some(&self.block[row]))
    }
}

/// A big-endian number of up to eight bytes.
pub(super) fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FourCc({self})")
    }
}
