//! Where a job file comes from: whole, where its grammar needs all of it; line by line, where it may be long.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use crate::intake::jobfile::Format;

/// Bytes of a file that is read whole. A person writes a thousandth of it; beyond, JSON Lines is the format.
const MAX_WHOLE_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of one line: hundreds of times the longest request there can be.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// A file that is open.
pub enum Source {
    /// TOML or JSON.
    Whole(Vec<u8>, Format),
    /// JSON Lines, and how many bytes of it, when that is known.
    Lines {
        /// To be read with [`next_line`].
        lines: Box<dyn BufRead>,
        /// The file's length.
        bytes: Option<u64>,
    },
}

/// Opens a file, or standard input.
pub fn open(path: &Path, is_stdin: bool) -> Result<Source, String> {
    if is_stdin {
        return stdin().map_err(|e| format!("standard input can't be read: {e}"));
    }
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder; name the files in it".to_owned(),
        _ => format!("it can't be read: {e}"),
    };
    let file = File::open(path).map_err(unreadable)?;
    let format = Format::of_path(path).ok_or_else(|| {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        format!(
            "{extension:?} is no format of job files (.toml, .json, .jsonl); pipe it: klingd enqueue - < FILE"
        )
    })?;
    match format {
        Format::Toml | Format::Json => {
            Ok(Source::Whole(whole(file, Vec::new()).map_err(unreadable)?, format))
        }
        Format::JsonLines => {
            let metadata = file.metadata().map_err(unreadable)?;
            if metadata.is_dir() {
                return Err(unreadable(io::ErrorKind::IsADirectory.into()));
            }
            let bytes = Some(metadata.len());
            Ok(Source::Lines { lines: Box::new(BufReader::with_capacity(BUFFER, file)), bytes })
        }
    }
}

/// Bytes asked for at once.
const BUFFER: usize = 64 * 1024;

/// The next line with its line break; `false` at the end.
pub fn next_line(from: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<bool, String> {
    line.clear();
    from.take(MAX_LINE_BYTES + 1).read_until(b'\n', line).map_err(|e| format!("it can't be read: {e}"))?;
    if line.len() as u64 > MAX_LINE_BYTES {
        return Err("one of its lines has more than 1 MiB, which is no job".to_owned());
    }
    Ok(!line.is_empty())
}

/// The format shows in the first two lines that hold something; only then is it known how to go on.
fn stdin() -> io::Result<Source> {
    let mut input = BufReader::with_capacity(BUFFER, io::stdin());
    let (mut start, mut found) = (Vec::new(), 0);
    while found < 2 && (start.len() as u64) < MAX_WHOLE_BYTES {
        let before = start.len();
        input.by_ref().take(MAX_WHOLE_BYTES).read_until(b'\n', &mut start)?;
        match start.get(before..) {
            None | Some([]) => break,
            Some(line) => found += usize::from(!line.trim_ascii().is_empty()),
        }
    }
    match Format::guess(&start) {
        format @ (Format::Toml | Format::Json) => Ok(Source::Whole(whole(input, start)?, format)),
        Format::JsonLines => {
            Ok(Source::Lines { lines: Box::new(io::Cursor::new(start).chain(input)), bytes: None })
        }
    }
}

/// All of it, behind what was read already.
fn whole(from: impl Read, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let room = (MAX_WHOLE_BYTES + 1).saturating_sub(bytes.len() as u64);
    from.take(room).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_WHOLE_BYTES {
        return Err(io::Error::other("it has more than 64 MiB; as .jsonl it may be longer"));
    }
    Ok(bytes)
}
