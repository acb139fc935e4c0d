//! Any bytes as a video: no panic, no end of time, nothing read that a limit forbids, an answer that the promised length
//! only ever makes stricter, and an error that steers no terminal.

use std::io::{Cursor, Read, Result, Seek, SeekFrom};

use crate::disk::mp4::{Mp4Error, check_reader};

/// Walks read tables once and headers a few times each: far below this many times the file.
const MAX_READ_FACTOR: u64 = 100;

pub fn check(bytes: &[u8]) {
    let mut counted = Counted { reader: Cursor::new(bytes), read_bytes: 0 };
    let whole = check_reader(&mut counted, None);
    assert!(counted.read_bytes <= (bytes.len() as u64 + 1) * MAX_READ_FACTOR, "{}", counted.read_bytes);

    let length = bytes.len() as u64;
    let promised = check_reader(Cursor::new(bytes), Some(length));
    match (&whole, &promised) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(Mp4Error::OpenEnded), _) | (Err(_), Err(_)) => {}
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("{whole:?}, with its length {promised:?}"),
    }
    assert!(check_reader(Cursor::new(bytes), Some(length + 1)).is_err());
    for error in [whole.err(), promised.err()].into_iter().flatten() {
        let said = error.to_string();
        assert!(said.chars().count() < 300 && !said.chars().any(char::is_control), "{said:?}");
    }
}

struct Counted<'a> {
    reader: Cursor<&'a [u8]>,
    read_bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.reader.read(buffer)?;
        self.read_bytes += count as u64;
        Ok(count)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.reader.seek(to)
    }
}
