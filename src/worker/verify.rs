//! Whether a whole file is the video: its length is known to be right, now its inside is looked at. And what it is
//! otherwise than asked, which is a remark and never a reason to refuse it.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, process::Command};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::fetch::{Ended, on_disk};
use crate::{
    disk::{self, DiskError, Mp4Error, Mp4Info},
    domain::{
        plan::download::{FetchTrouble, Verify},
        request::Request,
    },
};

/// A difference to the length asked for that is worth a remark: more than 0.1 s, which is normal (provider.md).
const LENGTH_TOLERANCE_MS: u64 = 100;
/// A difference to the ratio asked for that is worth a remark, in thousandths: encoders round sides to multiples of 16.
const RATIO_TOLERANCE: u64 = 30;
/// Fifteen seconds of video are decoded in a few; a machine that takes this long says nothing about the file.
const DECODE_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a decoder's complaints that are read, and characters that are told.
const COMPLAINT_BYTES: u64 = 4096;
const COMPLAINT_CHARS: usize = 200;

/// What a check found.
pub(super) enum Checked {
    /// The video, with remarks about the check itself.
    Good(Vec<String>),
    /// Not it, and why.
    Bad(String),
    /// A whole file by its structure that a decoder complains of: damaged on the way, or made so.
    Odd(String),
}

/// What a check found, and what the video says of itself, if it is whole enough to.
pub(super) struct Verdict {
    pub checked: Checked,
    pub info: Option<Mp4Info>,
}

/// What the structure of a whole file tells.
pub(super) type Structure = Result<Mp4Info, Mp4Error>;

/// Looks at the structure of a finished file; blocks. What can't be read says nothing about the video: it is not fetched
/// again for that.
pub(super) fn structure(path: &Path, bytes: u64) -> Result<Structure, DiskError> {
    match disk::mp4::check(path, Some(bytes)) {
        Err(Mp4Error::Open(error)) => Err(error),
        Err(Mp4Error::Read(error)) => Err(DiskError::unreadable(path, error)),
        checked => Ok(checked),
    }
}

/// Judges a finished file by its structure, and by a decoder where that was asked for.
pub(super) async fn check(
    how: Verify,
    path: &Path,
    structure: Structure,
    stop: &CancellationToken,
) -> Result<Verdict, Ended> {
    let info = structure.as_ref().ok().cloned();
    let checked = judge(how, structure, path, stop).await?;
    Ok(Verdict { checked, info })
}

async fn judge(
    how: Verify,
    structure: Structure,
    path: &Path,
    stop: &CancellationToken,
) -> Result<Checked, Ended> {
    match (how, structure) {
        (_, Err(why @ (Mp4Error::Empty | Mp4Error::NotVideo { .. }))) => Ok(Checked::Bad(why.to_string())),
        (Verify::Structure | Verify::Decode, Err(why)) => Ok(Checked::Bad(why.to_string())),
        (Verify::Size, Ok(_) | Err(_)) | (Verify::Structure, Ok(_)) => Ok(Checked::Good(Vec::new())),
        (Verify::Decode, Ok(_)) => tokio::select! {
            decoded = decode(path) => Ok(decoded),
            () = stop.cancelled() => Err(Ended::trouble(FetchTrouble::Stopped, "klingd is stopping")),
        },
    }
}

/// Has the whole file decoded by ffmpeg, else by ffprobe. Without either, or when it takes too long, the structure has to
/// do, and the job says so.
async fn decode(path: &Path) -> Checked {
    // Named as a file, so that no part of the path is read as a protocol or a flag.
    let input = format!("file:{}", path.display());
    // Each complaint with its level, by which it is known.
    let only_files = ["-v", "level+error", "-protocol_whitelist", "file"];
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        .args(["-nostdin", "-hide_banner"])
        .args(only_files)
        .args(["-xerror", "-i", &input, "-f", "null", "-"]);
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-hide_banner"]).args(only_files).args([
        "-count_frames",
        "-show_entries",
        "stream=index",
        &input,
    ]);
    for decoder in [ffmpeg, ffprobe] {
        match run(decoder).await {
            Ok(None) => return Checked::Good(Vec::new()),
            Ok(Some(complaint)) => return Checked::Odd(format!("it can't be decoded: {complaint}")),
            Err(NoAnswer::NotInstalled) => {}
            Err(NoAnswer::Failed(why)) => {
                warn!("a video could not be decoded for its check: {why}");
                return Checked::Good(vec![format!("not decoded for its check: {why}")]);
            }
        }
    }
    warn!("output.verify is \"decode\", but neither ffmpeg nor ffprobe is installed: install one of them");
    Checked::Good(vec!["not decoded for its check: neither ffmpeg nor ffprobe is installed".to_owned()])
}

/// Why a decoder says nothing about a file.
enum NoAnswer {
    NotInstalled,
    Failed(String),
}

/// What a decoder complains about, if it does.
async fn run(mut decoder: Command) -> Result<Option<String>, NoAnswer> {
    // The key is nobody else's, and ffmpeg writes a file where this variable says.
    decoder.env_remove("KLINGD_API__KEY").env_remove("FFREPORT").kill_on_drop(true);
    decoder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = decoder.spawn().map_err(|e| match e.kind() {
        ErrorKind::NotFound => NoAnswer::NotInstalled,
        _ => NoAnswer::Failed(e.to_string()),
    })?;
    let mut complaints = Vec::new();
    let stderr = child.stderr.take();
    let ended = tokio::time::timeout(DECODE_TIMEOUT, async {
        if let Some(stderr) = stderr {
            // What is longer than this ends the decoder at its next word, which is a complaint all the same.
            stderr.take(COMPLAINT_BYTES).read_to_end(&mut complaints).await?;
        }
        child.wait().await
    });
    let status = match ended.await {
        Ok(status) => status.map_err(|e| NoAnswer::Failed(e.to_string()))?,
        Err(_) => return Err(NoAnswer::Failed(format!("it took more than {DECODE_TIMEOUT:?}"))),
    };
    Ok(complaint(status.success(), &String::from_utf8_lossy(&complaints)))
}

/// What is wrong with the video by what a decoder wrote. Libraries in it write, too, and not about the video: one of them
/// warns wherever memory can't be locked, as in a hardened service.
fn complaint(succeeded: bool, said: &str) -> Option<String> {
    let is_its_own = |line: &&str| ["[error]", "[fatal]", "[panic]"].iter().any(|level| line.contains(level));
    let mut of_the_video = said.lines().filter(is_its_own).peekable();
    let told: String = match (of_the_video.peek(), succeeded) {
        (None, true) => return None,
        (None, false) => said.to_owned(),
        (Some(_), _) => of_the_video.collect::<Vec<_>>().join("; "),
    };
    Some(told.chars().filter(|c| !c.is_control()).take(COMPLAINT_CHARS).collect())
}

/// As [`differences`], of a file that was checked before a restart.
pub(super) async fn remarks(request: &Request, path: PathBuf, bytes: u64) -> Result<Vec<String>, Ended> {
    match on_disk(move || Ok(disk::mp4::check(&path, Some(bytes)))).await? {
        Ok(info) => Ok(differences(request, &info)),
        // With `output.verify = "size"`, a file may be kept that nothing can be said about.
        Err(_) => Ok(Vec::new()),
    }
}

/// What it is otherwise than asked, by what it says of itself.
pub(super) fn differences(request: &Request, info: &Mp4Info) -> Vec<String> {
    let mut found = Vec::new();
    if request.sound() && !info.has_audio() {
        found.push("no sound track, although sound was asked for".to_owned());
    }
    if let Some(asked_ms) = request.duration_s().map(|s| u64::from(s) * 1000)
        && info.duration_ms.abs_diff(asked_ms) > LENGTH_TOLERANCE_MS
    {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        found.push(format!(
            "{:.1} s long, {:.1} s were asked for",
            seconds(info.duration_ms),
            seconds(asked_ms)
        ));
    }
    if let Some((wide, high)) = asked_ratio(request) {
        let (width, height) = (u64::from(info.width), u64::from(info.height));
        // In thousandths, so that no division is needed: width/height against wide/high.
        let (is, asked) = (width * high * 1000, height * wide * 1000);
        if height > 0 && is.abs_diff(asked) > asked / 1000 * RATIO_TOLERANCE {
            found.push(format!("{width}×{height} pixels, {wide}:{high} was asked for"));
        }
    }
    found
}

/// The ratio that was asked for: where an image or a video comes in, only if somebody set it.
fn asked_ratio(request: &Request) -> Option<(u64, u64)> {
    let set = request.body().contains_key("aspect_ratio");
    if !set && !request.job_type().needs_one_of().is_empty() {
        return None;
    }
    let (wide, high) = request.aspect_ratio().as_str().split_once(':')?;
    Some((wide.parse().ok()?, high.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk::mp4::FourCc, domain::request::Draft};

    fn request(job_type: &str, set: impl FnOnce(&mut Draft)) -> Request {
        let mut draft = Draft {
            job_type: Some(job_type.into()),
            prompt: Some("a fox".into()),
            image: job_type.contains("image").then(|| "https://example.com/a.png".into()),
            duration: Some(5),
            sound: Some(true),
            ..Draft::default()
        };
        set(&mut draft);
        Request::parse(&draft).unwrap()
    }

    fn info(duration_ms: u64, width: u32, height: u32) -> Mp4Info {
        let (video_codec, audio_codec) = (FourCc(*b"avc1"), Some(FourCc(*b"mp4a")));
        Mp4Info { duration_ms, width, height, video_codec, audio_codec, fragmented: false }
    }

    #[test]
    fn what_is_as_asked_needs_no_remark() {
        let text = request("std-text-to-video", |_| {});
        for (duration_ms, width, height) in [(5000, 1920, 1080), (5100, 1280, 720), (4900, 1928, 1072)] {
            assert_eq!(differences(&text, &info(duration_ms, width, height)), [""; 0]);
        }
        let tall = request("std-text-to-video", |draft| draft.aspect_ratio = Some("9:16".into()));
        assert_eq!(differences(&tall, &info(5000, 1080, 1920)), [""; 0]);
        // The image has the say, as long as nobody asked for a ratio.
        let image = request("std-image-to-video", |_| {});
        assert_eq!(differences(&image, &info(5000, 1000, 1400)), [""; 0]);
        let silent = request("std-text-to-video", |draft| draft.sound = Some(false));
        assert_eq!(differences(&silent, &Mp4Info { audio_codec: None, ..info(5000, 1920, 1080) }), [""; 0]);
    }

    #[test]
    fn each_difference_is_told() {
        let text = request("std-text-to-video", |_| {});
        let other = Mp4Info { audio_codec: None, ..info(5101, 1080, 1080) };
        assert_eq!(
            differences(&text, &other),
            [
                "no sound track, although sound was asked for",
                "5.1 s long, 5.0 s were asked for",
                "1080×1080 pixels, 16:9 was asked for"
            ]
        );
    }

    #[test]
    fn what_cant_be_read_back_is_our_own_disks_fault() {
        let dir = tempfile::tempdir().unwrap();
        let gone = structure(&dir.path().join("gone.mp4"), 9);
        assert!(matches!(gone, Err(DiskError::Gone { .. })));
    }

    #[test]
    fn what_a_library_says_is_no_complaint_of_the_video() {
        let chatter = "Warning: using insecure memory!\n";
        assert_eq!(complaint(true, chatter), None);
        assert_eq!(complaint(true, ""), None);
        assert_eq!(complaint(false, "Killed\n").as_deref(), Some("Killed"));
        let damaged = format!("{chatter}[h264 @ 0x55d0] [error] cabac decode failed\n[fatal] Exiting\n");
        for succeeded in [true, false] {
            let told = "[h264 @ 0x55d0] [error] cabac decode failed; [fatal] Exiting";
            assert_eq!(complaint(succeeded, &damaged).as_deref(), Some(told));
        }
    }

    #[tokio::test]
    async fn a_decoder_tells_whole_from_damaged_or_is_missing() {
        let whole = include_bytes!("../sandbox/videos/16x9-10-silent.mp4").to_vec();
        let dir = tempfile::tempdir().unwrap();
        // A name that a careless command line would take for a flag or a protocol.
        let path = dir.path().join("-i http:a.mp4");
        let mut part = disk::Part::create(dir.path(), "v", 1 << 20).unwrap();
        part.write(&whole).unwrap();
        disk::publish(&part.finish().unwrap().path, &path).unwrap();
        let Checked::Good(remarks) = decode(&path).await else { panic!("it is whole") };
        let installed = remarks.is_empty();
        assert!(installed || remarks[0].contains("neither ffmpeg nor ffprobe is installed"), "{remarks:?}");

        let media = whole.windows(4).position(|w| w == b"mdat").unwrap() + 8;
        let mut damaged = whole;
        damaged[media..].iter_mut().step_by(7).for_each(|byte| *byte ^= 0xff);
        let mut part = disk::Part::create(dir.path(), "v", 1 << 20).unwrap();
        part.write(&damaged).unwrap();
        let damaged = part.finish().unwrap().path;
        if installed {
            assert!(matches!(decode(&damaged).await, Checked::Odd(why) if why.contains("can't be decoded")));
        }
    }
}
