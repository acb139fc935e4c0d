//! What to do with one thing that lies in the folder: pure. What it is and what it was come in, a decision comes out.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::intake::jobfile::Format;

/// Bytes of a TOML or JSON file: thousands of jobs, each with a prompt of its full length.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Bytes of a JSON Lines file, which programs write.
pub const MAX_LINES_BYTES: u64 = 64 << 20;
/// Folders inside one another. Each is a tag, and a job has at most twenty; a loop of mounts has no end.
pub const MAX_DEPTH: usize = 8;
/// How long another klingd's claim may stand before somebody is told: taking a file is a matter of moments.
const ANOTHERS_CLAIM_RESTS: Duration = Duration::from_secs(3600);

/// A thing in the folder, as one look found it. Its times are the filesystem's, and only ever compared for equality: the
/// clock of a file server is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the folder.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Which file it is, whatever its name.
    pub id: FileId,
    /// Its size.
    pub bytes: u64,
    /// Its names.
    pub links: u64,
    /// When its content changed, in seconds and nanoseconds.
    pub modified: (i64, i64),
    /// When anything of it changed.
    pub changed: (i64, i64),
    /// Whether it lies on the folder's own filesystem.
    pub at_home: bool,
}

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of stat(2)")]
pub struct FileId {
    pub dev: u64,
    pub ino: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the filesystem")]
pub enum Kind {
    File,
    Folder,
    Link,
    /// A pipe, a socket, a device: reading one may never end, or do something.
    Special,
}

/// What earlier looks know of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Since when it has been like this, by our own steady clock.
    pub since: Duration,
}

impl Seen {
    /// What is known after this look: a file that is as it was keeps its `since`.
    pub fn of(entry: &Entry, before: Option<Seen>, now: Duration) -> Self {
        let Entry { bytes, modified, changed, .. } = *entry;
        let fresh = Seen { bytes, modified, changed, since: now };
        before.filter(|seen| Seen { since: now, ..*seen } == fresh).unwrap_or(fresh)
    }
}

/// What to do with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is none of klingd's business, and nobody needs to hear of it.
    Ignore,
    /// It stays until a person does something; said once.
    Leave(Why),
    /// It may still be written: look again then.
    Wait(Duration),
    /// It is at rest.
    Take(Format),
    /// It is at rest, and can only be refused: unread.
    Refuse(Refusal),
}

/// Why a file stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum Why {
    Link,
    Special,
    Elsewhere,
    TooDeep,
    NoJobFile,
    Empty,
    SeveralNames,
    AnothersClaim,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Link => "it is a symbolic link, and those are not followed: drop the file itself",
            Why::Special => "it is a pipe, a socket or a device",
            Why::Elsewhere => "it lies on another filesystem: klingd stays on the folder's own",
            Why::TooDeep => "it lies too deep: each folder is a tag, and eight of them are enough",
            Why::NoJobFile => "job files end in .toml, .json or .jsonl",
            Why::Empty => "it is empty so far",
            Why::SeveralNames => "the file has a second name (a hard link), so somebody is not done with it",
            Why::AnothersClaim => {
                "another klingd claimed it an hour ago; if that one is gone for good, rename it back: \
                 its name is what follows the ~"
            }
        })
    }
}

/// Why a file is refused before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than a file of its kind may be.
    TooLarge {
        /// Its size.
        bytes: u64,
        /// What is allowed.
        cap_bytes: u64,
    },
}

/// How a file's owner announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Nobody said anything, or said that it is being written: time tells.
    Silent,
    /// It was renamed into its place: whole, by everybody's custom.
    RenamedIn,
}

/// Decides. `seen` is what is known of the file *after* this look ([`Seen::of`]); `now` is our own steady clock.
pub fn decide(entry: &Entry, seen: Seen, arrival: Arrival, now: Duration, settle: Duration) -> Decision {
    let name = entry.path.file_name().unwrap_or_default();
    if is_somebodys_own(name) {
        return Decision::Ignore;
    }
    match entry.kind {
        Kind::Link => return Decision::Leave(Why::Link),
        Kind::Special => return Decision::Leave(Why::Special),
        Kind::Folder | Kind::File if !entry.at_home => return Decision::Leave(Why::Elsewhere),
        Kind::Folder if is_entered(entry) => return Decision::Ignore,
        Kind::Folder => return Decision::Leave(Why::TooDeep),
        Kind::File => {}
    }
    let rests_at = seen.since + settle;
    if arrival == Arrival::Silent && now < rests_at {
        return Decision::Wait(rests_at);
    }
    let Some(format) = Format::of_path(Path::new(name)) else { return Decision::Leave(Why::NoJobFile) };
    if entry.links != 1 {
        // Also the moment between link(2) and unlink(2) of those who move files that way.
        return Decision::Leave(Why::SeveralNames);
    }
    // An upload that has not begun, or the empty file that a file manager makes to be filled. No job is in it anyway.
    if entry.bytes == 0 {
        return Decision::Leave(Why::Empty);
    }
    at_rest(entry, format)
}

/// A claim of our own, found again: the last run was killed between claiming and queueing. The file was at rest then,
/// but whoever wrote it may have written on meanwhile.
pub fn decide_own_claim(
    entry: &Entry,
    seen: Seen,
    name: &OsStr,
    now: Duration,
    settle: Duration,
) -> Decision {
    let rests_at = seen.since + settle;
    match (entry.kind, Format::of_path(Path::new(name))) {
        (Kind::File, Some(_)) if now < rests_at => Decision::Wait(rests_at),
        (Kind::File, Some(format)) => at_rest(entry, format),
        (Kind::File, None) => Decision::Leave(Why::NoJobFile),
        // It came in the file's place between the look and the claim: said, for its name is hidden now.
        (Kind::Link, _) => Decision::Leave(Why::Link),
        (Kind::Special, _) => Decision::Leave(Why::Special),
        (Kind::Folder, _) => Decision::Ignore,
    }
}

/// A claim of another klingd's: its to finish, unless it never does.
pub fn decide_anothers_claim(seen: Seen, now: Duration) -> Decision {
    if now.saturating_sub(seen.since) < ANOTHERS_CLAIM_RESTS {
        Decision::Ignore
    } else {
        Decision::Leave(Why::AnothersClaim)
    }
}

/// Whether to look into a folder.
pub fn is_entered(entry: &Entry) -> bool {
    let name = entry.path.file_name().unwrap_or_default();
    let near = entry.path.components().count() <= MAX_DEPTH;
    entry.kind == Kind::Folder && entry.at_home && near && !is_somebodys_own(name)
}

fn at_rest(entry: &Entry, format: Format) -> Decision {
    let cap_bytes = cap_bytes(format);
    if entry.bytes > cap_bytes {
        return Decision::Refuse(Refusal::TooLarge { bytes: entry.bytes, cap_bytes });
    }
    Decision::Take(format)
}

/// How large a file of this kind may be.
pub fn cap_bytes(format: Format) -> u64 {
    match format {
        Format::Toml | Format::Json => MAX_FILE_BYTES,
        Format::JsonLines => MAX_LINES_BYTES,
    }
}

/// Names of files that are not finished, or that an editor, a desktop or a server keeps for itself.
pub fn is_somebodys_own(name: &OsStr) -> bool {
    const FOLDERS: [&str; 8] = [
        "thumbs.db",
        "desktop.ini",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "lost+found",
        "__macosx",
        "system volume information",
    ];
    const UNFINISHED: [&str; 5] = [".part", ".tmp", ".partial", ".crdownload", ".filepart"];
    let name = name.to_string_lossy().to_lowercase();
    name.starts_with(['.', '~'])
        || name.ends_with('~')
        || UNFINISHED.iter().any(|end| name.ends_with(end))
        || FOLDERS.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn file(path: &str) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File,
            id: FileId { dev: 1, ino: 2 },
            bytes: 100,
            links: 1,
            modified: (5, 0),
            changed: (5, 0),
            at_home: true,
        }
    }

    /// What is decided of an entry that was first seen at 10 s and looks the same at `now`.
    fn at(entry: &Entry, now: Duration) -> Decision {
        let seen = Seen::of(entry, Some(Seen::of(entry, None, s(10))), now);
        decide(entry, seen, Arrival::Silent, now, SETTLE)
    }

    #[test]
    fn a_file_is_taken_when_it_rests() {
        let toml = file("a.toml");
        assert_eq!(at(&toml, s(10)), Decision::Wait(s(12)));
        assert_eq!(at(&toml, Duration::from_millis(11_999)), Decision::Wait(s(12)));
        assert_eq!(at(&toml, s(12)), Decision::Take(Format::Toml));
        assert_eq!(at(&file("deep/B.JSONL"), s(99)), Decision::Take(Format::JsonLines));
    }

    #[test]
    fn whatever_changes_begins_the_wait_anew() {
        let before = file("a.toml");
        let first = Seen::of(&before, None, s(10));
        for now_it_is in [
            Entry { bytes: 101, ..before.clone() },
            Entry { modified: (5, 1), ..before.clone() },
            Entry { changed: (6, 0), ..before.clone() },
        ] {
            let seen = Seen::of(&now_it_is, Some(first), s(12));
            assert_eq!(decide(&now_it_is, seen, Arrival::Silent, s(12), SETTLE), Decision::Wait(s(14)));
        }
        // The file server's clock has no say: a time of last year is no rest.
        let old = Entry { modified: (-99, 0), changed: (-99, 0), ..before };
        assert_eq!(
            decide(&old, Seen::of(&old, None, s(10)), Arrival::Silent, s(10), SETTLE),
            Decision::Wait(s(12))
        );
    }

    #[test]
    fn what_was_renamed_in_need_not_wait() {
        let toml = file("a.toml");
        let seen = Seen::of(&toml, None, s(10));
        assert_eq!(decide(&toml, seen, Arrival::RenamedIn, s(10), SETTLE), Decision::Take(Format::Toml));
        let empty = Entry { bytes: 0, ..toml };
        assert_eq!(decide(&empty, seen, Arrival::RenamedIn, s(10), SETTLE), Decision::Leave(Why::Empty));
    }

    #[test]
    fn names_that_are_nobodys_jobs() {
        for name in [
            ".a.toml",
            "~a.toml",
            "~$a.json",
            "a.toml.part",
            "a.toml.TMP",
            "a.toml.crdownload",
            "._a.toml",
            "a.toml~",
            "Thumbs.db",
            "sub/.hidden.json",
            "@eaDir",
            ".klingd-inbox",
        ] {
            assert_eq!(at(&file(name), s(99)), Decision::Ignore, "{name}");
        }
        for name in ["a.txt", "README", "a.toml.bak", "4913", "#a.toml#", "cat.png"] {
            assert_eq!(at(&file(name), s(99)), Decision::Leave(Why::NoJobFile), "{name}");
        }
    }

    #[test]
    fn what_is_no_plain_file_of_this_disk_stays() {
        let toml = file("a.toml");
        for (entry, why) in [
            (Entry { kind: Kind::Link, ..toml.clone() }, Why::Link),
            (Entry { kind: Kind::Special, ..toml.clone() }, Why::Special),
            (Entry { at_home: false, ..toml.clone() }, Why::Elsewhere),
            (Entry { kind: Kind::Folder, at_home: false, ..toml.clone() }, Why::Elsewhere),
            (Entry { kind: Kind::Folder, ..file("1/2/3/4/5/6/7/8/9") }, Why::TooDeep),
            (Entry { links: 2, ..toml.clone() }, Why::SeveralNames),
            (Entry { bytes: 0, ..toml.clone() }, Why::Empty),
        ] {
            assert_eq!(at(&entry, s(99)), Decision::Leave(why), "{entry:?}");
        }
        let folder = |path| Entry { kind: Kind::Folder, ..file(path) };
        assert!(is_entered(&folder("1/2/3/4/5/6/7/8")) && !is_entered(&folder("1/2/3/4/5/6/7/8/9")));
        assert!(!is_entered(&folder(".git")) && !is_entered(&toml));
        assert!(!is_entered(&Entry { at_home: false, ..folder("mount") }));
    }

    #[test]
    fn size_is_capped_by_format_once_it_rests() {
        let grown = |path: &str, bytes| Entry { bytes, ..file(path) };
        assert_eq!(at(&grown("a.toml", 1 << 20), s(99)), Decision::Take(Format::Toml));
        let refusal = Refusal::TooLarge { bytes: (1 << 20) + 1, cap_bytes: 1 << 20 };
        assert_eq!(at(&grown("a.json", (1 << 20) + 1), s(99)), Decision::Refuse(refusal));
        assert_eq!(at(&grown("a.json", (1 << 20) + 1), s(10)), Decision::Wait(s(12)));
        assert_eq!(at(&grown("a.jsonl", 64 << 20), s(99)), Decision::Take(Format::JsonLines));
        let refusal = Refusal::TooLarge { bytes: (64 << 20) + 1, cap_bytes: 64 << 20 };
        assert_eq!(at(&grown("a.jsonl", (64 << 20) + 1), s(99)), Decision::Refuse(refusal));
    }

    #[test]
    fn claims_are_taken_up_after_a_rest_and_others_left_for_an_hour() {
        let claim = file(".klingd-x~a.toml");
        let seen = Seen::of(&claim, None, s(10));
        let own = |now| decide_own_claim(&claim, seen, OsStr::new("a.toml"), now, SETTLE);
        assert_eq!((own(s(11)), own(s(12))), (Decision::Wait(s(12)), Decision::Take(Format::Toml)));
        let other = |kind| {
            decide_own_claim(&Entry { kind, ..claim.clone() }, seen, OsStr::new("a.toml"), s(99), SETTLE)
        };
        assert_eq!(other(Kind::Link), Decision::Leave(Why::Link));
        assert_eq!(other(Kind::Special), Decision::Leave(Why::Special));
        assert_eq!(decide_anothers_claim(seen, s(3609)), Decision::Ignore);
        assert_eq!(decide_anothers_claim(seen, s(3610)), Decision::Leave(Why::AnothersClaim));
    }
}
