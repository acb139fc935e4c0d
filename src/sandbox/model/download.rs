//! `GET /videos/…`: the place where the videos are. It knows signatures and ranges, and nothing of keys.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use super::reply::{Delivery, Payload, Reply, media_error, media_fault};
use super::{Call, Model};
use crate::sandbox::faults::{End, Instead, VideoFault};
use crate::sandbox::video::Video;

/// What was asked for, and can be given.
struct Request {
    task: usize,
    name: String,
    etag: String,
    video: Video,
    /// The part that was asked for, if a part was, and the ETag allows it.
    range: Option<Part>,
    /// A `Range` header came, whatever it was worth.
    ranged: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Of(Range<u64>),
    Outside,
}

enum Denied {
    Missing,
    Signature,
    Expired,
}

impl Denied {
    fn reply(&self) -> Reply {
        match self {
            Self::Missing => media_error(404, "The specified key does not exist."),
            Self::Signature => media_error(403, "The signature does not match."),
            Self::Expired => media_error(403, "Request has expired."),
        }
    }
}

impl Model {
    pub(super) fn download(&mut self, now: Timestamp, call: &Call, name: &str) -> Reply {
        let request = match self.find_video(now, call, name) {
            Ok(request) => request,
            Err(denied) => return denied.reply(),
        };
        // A hop of a redirect is part of one download, and no rule counts it as another.
        match call.query("hops") {
            Some("0") => return request.serve(),
            Some(hops) => return request.hop(call, hops),
            None => {}
        }
        let index = request.task;
        let downloads = self.tasks[index].downloads;
        let prompt = &self.tasks[index].prompt;
        let drawn = self.plan.video.draw(prompt, |fault| shows(fault, &request, downloads));
        self.tasks[index].downloads += 1;
        let reply = match drawn.fault {
            None => request.serve(),
            Some(VideoFault::EtagChanged) => {
                self.tasks[index].version += 1;
                match self.find_video(now, call, name) {
                    Ok(changed) => changed.serve(),
                    Err(denied) => denied.reply(),
                }
            }
            Some(fault) => request.spoil(call, &fault),
        };
        reply.delayed(drawn.delay)
    }

    fn find_video(&self, now: Timestamp, call: &Call, name: &str) -> Result<Request, Denied> {
        let (id, file) = name.split_once('/').ok_or(Denied::Missing)?;
        let number =
            file.strip_suffix(".mp4").and_then(|digits| digits.parse().ok()).ok_or(Denied::Missing)?;
        let index = *self.by_id.get(id).ok_or(Denied::Missing)?;
        let task = &self.tasks[index];
        let video = task.video(number, self.video_bytes).ok_or(Denied::Missing)?;
        match &task.link {
            Some(link) if call.query("sig") == Some(link.signature.as_str()) => {
                if link.expires_at <= now {
                    return Err(Denied::Expired);
                }
            }
            Some(_) | None => return Err(Denied::Signature),
        }
        let etag = format!("\"{id}-{number}-v{}\"", task.version);
        let fresh = call.if_range.as_ref().is_none_or(|condition| *condition == etag);
        let range =
            call.range.as_deref().filter(|_| fresh).and_then(|header| parse_range(header, video.len()));
        Ok(Request { task: index, name: name.to_owned(), etag, video, range, ranged: call.range.is_some() })
    }
}

/// Whether the client could see this fault in the answer to this request.
fn shows(fault: &VideoFault, request: &Request, downloads: u64) -> bool {
    let length = request.answer_range().map_or(0, |range| range.end - range.start);
    match fault {
        VideoFault::Break { after_bytes, .. } | VideoFault::ChunkedCut(after_bytes) => *after_bytes < length,
        VideoFault::LieShort(bytes) => 0 < *bytes && *bytes < length,
        VideoFault::LieLong(bytes) => 0 < *bytes,
        VideoFault::EtagChanged => downloads > 0,
        VideoFault::IgnoreRange | VideoFault::WrongContentRange => matches!(request.range, Some(Part::Of(_))),
        VideoFault::Http(http) => http.status != 416 || request.ranged,
        VideoFault::Redirect(hops) => 0 < *hops,
        VideoFault::Drip(_)
        | VideoFault::Instead(_)
        | VideoFault::RedirectLoop
        | VideoFault::RedirectTo(_)
        | VideoFault::Gzip => true,
    }
}

impl Request {
    /// The bytes that a good answer carries; nothing where it is a 416.
    fn answer_range(&self) -> Option<Range<u64>> {
        match &self.range {
            None => Some(0..self.video.len()),
            Some(Part::Of(range)) => Some(range.clone()),
            Some(Part::Outside) => None,
        }
    }

    fn serve(&self) -> Reply {
        match &self.range {
            None => self.whole(),
            Some(Part::Of(range)) => self.part(range.clone()),
            Some(Part::Outside) => media_error(416, "The requested range is not satisfiable.")
                .with_header("content-range", format!("bytes */{}", self.video.len())),
        }
    }

    fn whole(&self) -> Reply {
        self.bytes(200, 0..self.video.len())
    }

    fn part(&self, range: Range<u64>) -> Reply {
        let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, self.video.len());
        self.bytes(206, range).with_header("content-range", content_range)
    }

    fn bytes(&self, status: u16, range: Range<u64>) -> Reply {
        let mut reply = Reply::text(status, "video/mp4", String::new())
            .with_header("accept-ranges", "bytes")
            .with_header("etag", &self.etag);
        reply.payload = Payload::Video { video: self.video.clone(), range };
        reply
    }

    fn spoil(&self, call: &Call, fault: &VideoFault) -> Reply {
        let mut reply = self.serve();
        let length = reply.payload.len();
        match fault {
            VideoFault::Http(http) => return media_fault(http),
            VideoFault::Break { end, after_bytes } => {
                reply.delivery = Delivery::Broken { announced: length, sent: *after_bytes, end: *end };
            }
            VideoFault::ChunkedCut(bytes) => reply.delivery = Delivery::Chunked { sent: *bytes },
            VideoFault::Drip(ms) => reply.delivery = Delivery::Drip(Duration::from_millis(*ms)),
            VideoFault::Instead(instead) => return self.instead(*instead),
            VideoFault::Redirect(hops) => return self.hop(call, &hops.to_string()),
            VideoFault::RedirectLoop => return self.hop(call, "ever"),
            VideoFault::RedirectTo(url) => return redirect(url.clone()),
            VideoFault::IgnoreRange => return self.whole(),
            VideoFault::WrongContentRange => {
                // Correctly labelled, but from the start of the file: who appends it blindly gets a broken one.
                return self.part(0..length);
            }
            VideoFault::LieLong(bytes) => {
                let announced = length.saturating_add(*bytes);
                reply.delivery = Delivery::Broken { announced, sent: length, end: End::Eof };
            }
            VideoFault::LieShort(bytes) => {
                if let Payload::Video { range, .. } = &mut reply.payload {
                    range.end -= bytes;
                }
            }
            VideoFault::Gzip => reply = reply.with_header("content-encoding", "gzip"),
            // Handled where the task can be changed.
            VideoFault::EtagChanged => {}
        }
        reply
    }

    /// Redirects to itself with one hop less, or for ever.
    fn hop(&self, call: &Call, hops: &str) -> Reply {
        let next = match hops.parse::<u64>() {
            Ok(hops) => hops.saturating_sub(1).to_string(),
            Err(_) => "ever".to_owned(),
        };
        let signature = call.query("sig").unwrap_or_default();
        redirect(format!("{}/videos/{}?sig={signature}&hops={next}", call.base, self.name))
    }

    fn instead(&self, instead: Instead) -> Reply {
        match instead {
            Instead::Html => Reply::html(200),
            Instead::Json => Reply::text(200, "application/json", "{\"error\":\"not ready\"}".to_owned()),
            Instead::Xml => {
                let error = media_error(200, "SlowDown");
                Reply { status: 200, ..error }
            }
            Instead::Empty => Reply::text(200, "video/mp4", String::new()),
            Instead::NotMp4 => {
                Reply::text(200, "video/mp4", "this is not the video you are looking for\n".repeat(300))
            }
        }
    }
}

fn redirect(location: String) -> Reply {
    Reply::text(302, "text/plain", String::new()).with_header("location", location)
}

/// One range of bytes as RFC 9110 has it. What is not understood is ignored, and the whole file sent.
fn parse_range(header: &str, length: u64) -> Option<Part> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => length.saturating_sub(suffix.parse().ok()?)..length,
        (first, "") => first.parse().ok()?..length,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.start < range.end { Part::Of(range) } else { Part::Outside })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let of = |range| Some(Part::Of(range));
        for (header, part) in [
            ("bytes=0-0", of(0..1)),
            ("bytes=10-19", of(10..20)),
            ("bytes=10-", of(10..100)),
            ("bytes=90-200", of(90..100)),
            ("bytes=-5", of(95..100)),
            ("bytes=-500", of(0..100)),
            ("bytes=100-", Some(Part::Outside)),
            ("bytes=100-200", Some(Part::Outside)),
            ("bytes=-0", Some(Part::Outside)),
            ("bytes=20-10", None),
            ("bytes=0-1,5-6", None),
            ("bytes=a-", None),
            ("bytes=-", None),
            ("chunks=0-1", None),
            ("bytes=0-18446744073709551615", of(0..100)),
        ] {
            assert_eq!(parse_range(header, 100), part, "{header}");
        }
    }
}
