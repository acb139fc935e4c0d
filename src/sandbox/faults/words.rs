//! A name and its argument → a fault. The parser and the help read the same tables.

use std::time::Duration;

use super::tables::{Entry, GENERATE, Make, STATUS, TASK, VIDEO};
use super::{ErrorBody, Fault, GenerateFault, HttpFault, Point, StatusFault, VideoFault};

/// One fault of the language, for help texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Where it happens.
    pub point: Point,
    /// Its name.
    pub name: &'static str,
    /// What follows the `=`, if anything.
    pub argument: Option<&'static str>,
    /// What it does.
    pub meaning: &'static str,
}

/// Every named fault. Beside these, `generate`, `status` and `video` take any HTTP status from 400 to 599: `503`,
/// `503-html`, `503-empty`, `503-foreign`, `503-number`; `generate` also `-credits`, `-parallel`, `-echo`, `-task-id` and, after
/// any of them, `-charged`. `=ARG` is the `Retry-After` of 429 and 503, and the `code` of the others.
pub fn vocabulary() -> Vec<Word> {
    fn words<F>(point: Point, entries: &'static [Entry<F>]) -> impl Iterator<Item = Word> {
        entries.iter().map(move |entry| Word {
            point,
            name: entry.name,
            argument: entry.make.argument(),
            meaning: entry.meaning,
        })
    }
    let slow = Point::ALL.into_iter().map(|point| Word {
        point,
        name: SLOW,
        argument: Some("MS"),
        meaning: "answers (task: renders) only after so long; goes with any other fault",
    });
    slow.chain(words(Point::Generate, GENERATE))
        .chain(words(Point::Status, STATUS))
        .chain(words(Point::Video, VIDEO))
        .chain(words(Point::Task, TASK))
        .collect()
}

/// Why a fault could not be made of a name and an argument.
pub(super) enum Unfit {
    Unknown,
    /// It wants this as its argument (nothing, if empty).
    Wants(String),
}

/// The name that goes with all points.
const SLOW: &str = "slow";

/// The fault that `name` means at `point`.
pub(super) fn fault(point: Point, name: &str, argument: Option<&str>) -> Result<Fault, Unfit> {
    if name == SLOW {
        let delay = argument.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        return delay.map(|delay| Fault::Slow { point, delay }).ok_or_else(|| Unfit::Wants("MS".to_owned()));
    }
    // An argument may become a header.
    if point != Point::Task && argument.is_some_and(|text| text.contains(char::is_control)) {
        return Err(Unfit::Wants("text without control characters".to_owned()));
    }
    match point {
        Point::Generate => match http(point, name, argument) {
            Some(Http::Fault(fault)) => Ok(Fault::Generate(GenerateFault::Http(fault))),
            Some(Http::Redirect(status)) => Ok(Fault::Generate(GenerateFault::Redirect(status))),
            None => look_up(GENERATE, name, argument).map(Fault::Generate),
        },
        Point::Status => match http(point, name, argument) {
            Some(Http::Fault(fault)) => Ok(Fault::Status(StatusFault::Http(fault))),
            Some(Http::Redirect(_)) => Err(Unfit::Unknown),
            None => look_up(STATUS, name, argument).map(Fault::Status),
        },
        Point::Video => match http(point, name, argument) {
            Some(Http::Fault(fault)) => Ok(Fault::Video(VideoFault::Http(fault))),
            Some(Http::Redirect(_)) => Err(Unfit::Unknown),
            None => look_up(VIDEO, name, argument).map(Fault::Video),
        },
        Point::Task => look_up(TASK, name, argument).map(Fault::Task),
    }
}

enum Http {
    Fault(HttpFault),
    Redirect(u16),
}

/// `503`, `502-html`, `500-task-id`, `504-empty-charged`, … or nothing if `name` is not of that form.
fn http(point: Point, name: &str, argument: Option<&str>) -> Option<Http> {
    let (digits, suffix) = name.split_at_checked(3)?;
    let status: u16 = digits.parse().ok()?;
    if point == Point::Generate && suffix.is_empty() && REDIRECTS.contains(&status) {
        return Some(Http::Redirect(status));
    }
    let (suffix, charged) = match suffix.strip_suffix("-charged") {
        Some(rest) => (rest, true),
        None => (suffix, false),
    };
    let body = match suffix {
        "" => ErrorBody::Own,
        "-number" => ErrorBody::Number,
        "-foreign" => ErrorBody::Foreign,
        "-html" => ErrorBody::Html,
        "-empty" => ErrorBody::Empty,
        "-credits" => ErrorBody::Credits,
        "-parallel" => ErrorBody::Parallel,
        "-echo" => ErrorBody::Echo,
        "-task-id" => ErrorBody::TaskId,
        _ => return None,
    };
    let of_submits =
        matches!(body, ErrorBody::Credits | ErrorBody::Parallel | ErrorBody::Echo | ErrorBody::TaskId);
    if !(400..=599).contains(&status) || (point != Point::Generate && (charged || of_submits)) {
        return None;
    }
    // An answer with a task id means that the task is there.
    let charged = charged || body == ErrorBody::TaskId;
    Some(Http::Fault(HttpFault { status, body, charged, argument: argument.map(str::to_owned) }))
}

/// The statuses of a moved endpoint.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

fn look_up<F: Clone>(entries: &[Entry<F>], name: &str, argument: Option<&str>) -> Result<F, Unfit> {
    let entry = entries.iter().find(|entry| entry.name == name).ok_or(Unfit::Unknown)?;
    let made = match (&entry.make, argument) {
        (Make::Plain(fault), None) => Some(fault.clone()),
        (Make::NumberOr(_, default, make), None) => Some(make(*default)),
        (Make::TextOr(_, default, make), None) => Some(make((*default).to_owned())),
        (Make::Number(_, make) | Make::NumberOr(_, _, make), Some(text)) => text.parse().ok().map(make),
        (Make::Text(_, make) | Make::TextOr(_, _, make), Some(text)) => Some(make(text.to_owned())),
        (Make::OneOf(_, choices), Some(text)) => {
            choices.iter().find(|(choice, _)| *choice == text).map(|(_, fault)| fault.clone())
        }
        (Make::Plain(_), Some(_)) | (Make::Number(..) | Make::Text(..) | Make::OneOf(..), None) => None,
    };
    made.ok_or_else(|| Unfit::Wants(entry.make.argument().unwrap_or_default().to_owned()))
}
