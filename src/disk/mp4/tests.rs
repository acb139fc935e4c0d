//! The files were made with ffmpeg (H.264 at 160×90 and 10 pictures a second, AAC mono; 3 s): `front.mp4` has
//! its moov first, `back.mp4` last, `silent.mp4` no sound, `fragmented.mp4` four fragments and an index.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

const FRONT: &[u8] = include_bytes!("../testdata/front.mp4");
const BACK: &[u8] = include_bytes!("../testdata/back.mp4");
const SILENT: &[u8] = include_bytes!("../testdata/silent.mp4");
const FRAGMENTED: &[u8] = include_bytes!("../testdata/fragmented.mp4");
const ALL: [(&str, &[u8]); 4] =
    [("front", FRONT), ("back", BACK), ("silent", SILENT), ("fragmented", FRAGMENTED)];

fn check_bytes(bytes: &[u8]) -> Result<Mp4Info, Mp4Error> {
    check_reader(Cursor::new(bytes), None)
}

/// Where the body of the `nth` box of this kind starts, found by its name.
fn body_of(bytes: &[u8], kind: &[u8; 4], nth: usize) -> usize {
    bytes.windows(4).enumerate().filter(|(_, window)| window == kind).nth(nth).unwrap().0 + 4
}

fn with_number(bytes: &[u8], at: usize, number: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// A box around a body.
fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len() + 8).unwrap().to_be_bytes(), kind.as_slice(), body].concat()
}

#[test]
fn whole_files_are_accepted_and_described() {
    let sound = Mp4Info {
        duration_ms: 3000,
        width: 160,
        height: 90,
        video_codec: FourCc(*b"avc1"),
        audio_codec: Some(FourCc(*b"mp4a")),
        fragmented: false,
    };
    assert_eq!(check_bytes(FRONT).unwrap(), sound);
    assert_eq!(check_bytes(BACK).unwrap(), sound);
    assert_eq!(check_bytes(SILENT).unwrap(), Mp4Info { audio_codec: None, ..sound.clone() });
    assert!(sound.has_audio() && !check_bytes(SILENT).unwrap().has_audio());
    let fragmented = check_bytes(FRAGMENTED).unwrap();
    assert!((3000..=3200).contains(&fragmented.duration_ms), "{fragmented:?}");
    assert_eq!(Mp4Info { duration_ms: 3000, fragmented: false, ..fragmented }, sound);
}

#[test]
fn every_truncation_is_refused() {
    for (name, bytes) in ALL {
        for length in 0..bytes.len() {
            assert!(
                check_bytes(&bytes[..length]).is_err(),
                "{name} cut to {length} of {} bytes",
                bytes.len()
            );
        }
    }
}

/// A sector is the least that a disk or a cache loses.
#[test]
fn every_tail_of_zeros_is_refused() {
    for (name, bytes) in ALL {
        for length in 0..=bytes.len() - 512 {
            let mut zeroed = bytes[..length].to_vec();
            zeroed.resize(bytes.len(), 0);
            assert!(
                check_bytes(&zeroed).is_err(),
                "{name} with zeros from {length} of {} bytes",
                bytes.len()
            );
        }
    }
}

#[test]
fn anything_behind_the_end_is_refused() {
    for (name, bytes) in ALL {
        for tail in [&b"\0"[..], &[0; 8], &[0; 4096], b"<html>502 Bad Gateway</html>", &bytes[..100]] {
            assert!(check_bytes(&[bytes, tail].concat()).is_err(), "{name} with {} bytes more", tail.len());
        }
        check_bytes(&[bytes, &boxed(b"free", &[0; 100])].concat()).unwrap();
    }
}

#[test]
fn the_promised_length_comes_first() {
    let check = |bytes: &[u8], expected| check_reader(Cursor::new(bytes), Some(expected));
    check(FRONT, FRONT.len() as u64).unwrap();
    let error = check(FRONT, 12_345).unwrap_err();
    assert_eq!(error.to_string(), "the file has 9,345 bytes, the server promised 12,345");
}

/// Counts the calls that would be system calls.
struct Counted<'a>(Cursor<&'a [u8]>, usize);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 += 1;
        self.0.read(buffer)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_short_video_is_read_in_a_few_pieces() {
    for (name, bytes) in ALL {
        let mut counted = Counted(Cursor::new(bytes), 0);
        check_reader(&mut counted, None).unwrap();
        assert!(counted.1 <= 16, "{name}: {} reads", counted.1);
    }
}

#[test]
fn fragments_need_an_index_or_a_promised_length() {
    let without_index = &FRAGMENTED[..body_of(FRAGMENTED, b"mfra", 0) - 8];
    assert!(matches!(check_bytes(without_index), Err(Mp4Error::OpenEnded)));
    check_reader(Cursor::new(without_index), Some(without_index.len() as u64)).unwrap();
}

#[test]
fn other_things_than_videos_are_told_apart() {
    let text = |bytes: &[u8]| check_bytes(bytes).unwrap_err().to_string();
    assert_eq!(text(b""), "the file is empty");
    assert_eq!(text(b"<!doctype html>"), "this is not a video, it looks like an HTML page");
    assert_eq!(text(b"<?xml version='1.0'?><Error/>"), "this is not a video, it looks like an XML document");
    assert_eq!(text(b"{\"error\":1}"), "this is not a video, it looks like a JSON document");
    assert_eq!(
        text(&boxed(b"moov", b"")),
        "the file does not start like an MP4: its first box is moov, not ftyp"
    );
    assert_eq!(text(&boxed(b"ftyp", b"isom")), "the file has no moov box (its table of contents)");
    assert!(matches!(check_bytes(&[0; 4096]), Err(Mp4Error::NoBox { at: 0 })));
    assert!(matches!(check_bytes(b"\x1aE\xdf\xa3 webm....."), Err(Mp4Error::CutOff { .. })));
}

#[test]
fn the_sentences_say_what_and_where() {
    let text = |bytes: &[u8]| check_bytes(bytes).unwrap_err().to_string();
    assert_eq!(text(&FRONT[..1000]), "the file ends inside its moov box: 968 of 2,390 bytes");
    assert_eq!(text(&FRONT[..35]), "there is no box at byte 32, where one should start");
    let two = [&FRONT[..32], &boxed(b"moov", b""), &FRONT[32..]].concat();
    assert_eq!(text(&two), "the moov box at byte 40 is damaged: it is the second one");
    let no_track = [boxed(b"ftyp", b""), boxed(b"moov", b""), boxed(b"mdat", b"")].concat();
    assert_eq!(text(&no_track), "the file has no picture");
    let empty_track =
        [boxed(b"ftyp", b""), boxed(b"moov", &boxed(b"trak", b"")), boxed(b"mdat", b"")].concat();
    assert_eq!(text(&empty_track), "the trak box at byte 16 has no tkhd box in it");
}

#[test]
fn contradicting_tables_are_refused() {
    let refused = |bytes: Vec<u8>| check_bytes(&bytes).unwrap_err().to_string();
    for (what, kind, offset, number, sentence) in [
        ("a sample more", b"stsz", 8, 31, "its table is longer than the box"),
        ("a sample less", b"stsz", 8, 29, "its chunks hold more samples than it has"),
        ("a chunk less", b"stco", 4, 1, "some of its samples are in no chunk"),
        ("a chunk elsewhere", b"stco", 8, 9, "which are not in the media data"),
        ("a chunk beyond the end", b"stco", 8, u32::MAX, "which are not in the media data"),
        ("a late first run", b"stsc", 8, 2, "its first chunk is in no run"),
        ("a huge sample", b"stsz", 12, u32::MAX, "which are not in the media data"),
        ("equal huge samples", b"stsz", 4, u32::MAX, "which are not in the media data"),
    ] {
        let sentence_of_damage = refused(with_number(FRONT, body_of(FRONT, kind, 0) + offset, number));
        assert!(sentence_of_damage.contains(sentence), "{what}: {sentence_of_damage}");
    }
}

#[test]
fn damaged_fragments_are_refused() {
    for (what, kind, offset, number) in [
        ("a run behind the end", b"trun", 8, 1 << 20),
        ("a run in front of the file", b"trun", 8, i32::MIN.cast_unsigned()),
        ("more samples than rows", b"trun", 4, 10_000),
        ("no such track", b"tfhd", 4, 77),
    ] {
        let damaged = with_number(FRAGMENTED, body_of(FRAGMENTED, kind, 0) + offset, number);
        assert!(check_bytes(&damaged).is_err(), "{what}");
    }
}

#[test]
fn zeros_instead_of_the_last_picture_are_named() {
    let media = body_of(SILENT, b"mdat", 0);
    let mut blank = SILENT.to_vec();
    blank[media..].fill(0);
    let error = check_bytes(&blank).unwrap_err();
    assert!(matches!(error, Mp4Error::Blank { kind: TrackKind::Video, .. }), "{error:?}");
}

#[test]
fn large_sizes_and_open_media_data_are_understood() {
    // `free` and `mdat` are the last two boxes of front.mp4: 16 bytes of headers, the place of one 64-bit
    // header.
    let mdat = body_of(FRONT, b"mdat", 0) - 8;
    assert_eq!(&FRONT[mdat - 4..mdat], b"free");
    let media_bytes = (FRONT.len() - mdat - 8) as u64;
    let wide = |size: u64| {
        let mut bytes = FRONT.to_vec();
        bytes[mdat - 8..mdat].copy_from_slice(b"\0\0\0\x01mdat");
        bytes[mdat..mdat + 8].copy_from_slice(&size.to_be_bytes());
        bytes
    };
    check_bytes(&wide(media_bytes + 16)).unwrap();
    for size in [0, 15, media_bytes + 15, media_bytes + 17, u64::MAX] {
        assert!(check_bytes(&wide(size)).is_err(), "{size}");
    }
    let to_the_end = with_number(FRONT, mdat, 0);
    check_bytes(&to_the_end).unwrap();
    assert!(check_bytes(&to_the_end[..to_the_end.len() - 1]).is_err());
}

#[test]
fn limits_end_the_walk() {
    let many = [boxed(b"ftyp", b""), boxed(b"free", b"").repeat(70_000)].concat();
    assert!(matches!(check_bytes(&many), Err(Mp4Error::TooMany)));
    let large =
        [boxed(b"ftyp", b""), boxed(b"moov", &vec![0; 65 * 1024 * 1024]), boxed(b"mdat", b"")].concat();
    assert!(matches!(check_bytes(&large), Err(Mp4Error::TooLarge { .. })));
}

#[test]
fn files_are_opened_but_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("v.mp4"), dir.path().join("l.mp4"));
    crate::disk::plant(&file, FRONT);
    std::os::unix::fs::symlink(&file, &link).unwrap();
    check(&file, Some(FRONT.len() as u64)).unwrap();
    assert!(matches!(check(&link, None), Err(Mp4Error::Open(_))));
}

proptest! {
    #![proptest_config(ProptestConfig {
        // `just prove-files` asks for more.
        cases: ProptestConfig::default().cases.max(5000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// No panic, no overflow, an end; the answer may be either.
    #[test]
    fn damage_of_any_kind_is_survived(
        file in 0..ALL.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        numbers in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(u32::MAX), any::<u32>()]), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = ALL[file].1.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, number) in numbers {
            let at = at.index(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        let length = cut.map_or(bytes.len(), |cut| cut.index(bytes.len()));
        drop(check_bytes(&bytes[..length]));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        drop(check_bytes(&[&boxed(b"ftyp", b"isom"), bytes.as_slice()].concat()));
        drop(check_bytes(&[boxed(b"ftyp", b"isom"), boxed(b"mdat", b"1"), boxed(b"moov", &bytes)].concat()));
    }
}
