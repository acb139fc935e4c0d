//! The body of a submit, checked by the provider's page to the letter.
//!
//! What the page rules out is refused. What it merely does not mention (a field of another type, an unknown field) is
//! accepted, ignored and paid for, as with the real one: that trap is the client's to avoid.

use serde_json::{Map, Value};

use super::catalog::{Input, Kind};
use super::reply::Refusal;
use crate::sandbox::video::{Ratio, Shape};

/// A submit that the provider would take.
#[derive(Debug)]
pub(super) struct Order {
    pub kind: &'static Kind,
    pub prompt: String,
    pub credits: i64,
    pub shape: Shape,
    pub fields: Map<String, Value>,
    /// The exact bytes that were sent.
    pub body: String,
}

/// The page: "at most 2000 characters".
const MAX_PROMPT_CHARACTERS: usize = 2000;
/// The page: "3-15s".
const SECONDS: std::ops::RangeInclusive<u64> = 3..=15;
/// The page: "Defaults to 5".
const DEFAULT_SECONDS: u32 = 5;
/// The page: "at most 7" reference images.
const MAX_IMAGES: usize = 7;

impl Order {
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let not_json = || Refusal::Malformed("the request body must be a JSON object".to_owned());
        let text = std::str::from_utf8(body).map_err(|_| not_json())?;
        let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return Err(not_json()) };
        let name = fields.get("type").and_then(Value::as_str).ok_or(Refusal::InvalidType)?;
        let kind = Kind::named(name).ok_or(Refusal::InvalidType)?;
        let prompt = prompt(&fields)?;
        let seconds = seconds(&fields, kind)?;
        inputs(&fields, kind)?;
        let ratio = ratio(&fields)?;
        let sound = flag(&fields, "sound")?.unwrap_or(true);
        let keep = flag(&fields, "keep_original_sound")?.unwrap_or(true);
        scale(&fields)?;
        let audible = sound && (kind.input != Input::Edit || keep);
        Ok(Self {
            kind,
            prompt,
            credits: kind.credits(seconds, sound),
            shape: Shape { ratio, seconds, sound: audible },
            body: text.to_owned(),
            fields,
        })
    }
}

fn prompt(fields: &Map<String, Value>) -> Result<String, Refusal> {
    let prompt = fields.get("prompt").and_then(Value::as_str).ok_or(Refusal::InvalidPrompt)?;
    if prompt.trim().is_empty() || prompt.chars().count() > MAX_PROMPT_CHARACTERS {
        return Err(Refusal::InvalidPrompt);
    }
    Ok(prompt.to_owned())
}

/// The length of the video. An edit is as long as its input, which nobody here can see, so it gets the default.
fn seconds(fields: &Map<String, Value>, kind: &Kind) -> Result<u32, Refusal> {
    match fields.get("duration") {
        _ if kind.input == Input::Edit => Ok(DEFAULT_SECONDS),
        None | Some(Value::Null) => Ok(DEFAULT_SECONDS),
        Some(value) => value
            .as_u64()
            .filter(|seconds| SECONDS.contains(seconds))
            .and_then(|seconds| u32::try_from(seconds).ok())
            .ok_or(Refusal::InvalidDuration),
    }
}

fn inputs(fields: &Map<String, Value>, kind: &Kind) -> Result<(), Refusal> {
    let image = url(fields, "image")?;
    let video = url(fields, "video")?;
    url(fields, "end_image")?;
    match fields.get("images") {
        None | Some(Value::Null) => {}
        Some(Value::Array(images)) if images.len() <= MAX_IMAGES && images.iter().all(is_url) => {}
        Some(_) => return Err(Refusal::Malformed(format!("images must be at most {MAX_IMAGES} URLs"))),
    }
    match kind.input {
        Input::Image if !image => Err(Refusal::MissingImage),
        Input::Edit if !video => Err(Refusal::MissingVideo),
        Input::Text | Input::Image | Input::Reference | Input::Edit => Ok(()),
    }
}

/// Whether the field holds a URL. An empty one counts as missing.
fn url(fields: &Map<String, Value>, name: &str) -> Result<bool, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::String(text)) if text.is_empty() => Ok(false),
        Some(value) if is_url(value) => Ok(true),
        Some(_) => Err(Refusal::Malformed(format!("{name} must be a URL"))),
    }
}

fn is_url(value: &Value) -> bool {
    // Schemes know no case (RFC 3986, 3.1).
    let scheme = value.as_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| ["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

fn ratio(fields: &Map<String, Value>) -> Result<Ratio, Refusal> {
    match fields.get("aspect_ratio") {
        None | Some(Value::Null) => Ok(Ratio::Wide),
        Some(value) => value
            .as_str()
            .and_then(Ratio::named)
            .ok_or_else(|| Refusal::Malformed("aspect_ratio must be 16:9, 9:16 or 1:1".to_owned())),
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(Refusal::Malformed(format!("{name} must be true or false"))),
    }
}

fn scale(fields: &Map<String, Value>) -> Result<(), Refusal> {
    match fields.get("cfg_scale") {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_f64().is_some_and(|scale| (0.0..=1.0).contains(&scale)) => Ok(()),
        Some(_) => Err(Refusal::Malformed("cfg_scale must be a number from 0 to 1".to_owned())),
    }
}
