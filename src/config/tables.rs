//! The two sections whose names are the provider's: `[prices]` by request type, `[defaults]` by request field.

use jiff::civil::Date;
use serde_json::{Map, Value as Json};
use toml::Value;

use super::error::Complaint;
use super::reader::Reader;
use super::sections::{PriceOverride, Prices};
use super::units::{Kind, RATE, SWITCH, text, whole};

/// What a request type is paid by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PaidBy {
    Second,
    SecondAndSound,
    Video,
}

/// The twelve request types, as the provider's page names them.
const REQUEST_TYPES: [(&str, PaidBy); 12] = [
    ("pro-text-to-video", PaidBy::SecondAndSound),
    ("pro-image-to-video", PaidBy::SecondAndSound),
    ("std-text-to-video", PaidBy::SecondAndSound),
    ("std-image-to-video", PaidBy::SecondAndSound),
    ("o3-pro-text-to-video", PaidBy::Second),
    ("o3-pro-image-to-video", PaidBy::Second),
    ("o3-pro-reference-to-video", PaidBy::Second),
    ("o3-pro-video-edit", PaidBy::Video),
    ("o3-std-text-to-video", PaidBy::Second),
    ("o3-std-image-to-video", PaidBy::Second),
    ("o3-std-reference-to-video", PaidBy::Second),
    ("o3-std-video-edit", PaidBy::Video),
];

/// Prices that differ from the page's.
pub(super) fn prices(read: &mut Reader) -> Prices {
    let date = read.optional("prices.date", Kind { parse: parse_date, show: Date::to_string });
    let mut prices = Prices { date, ..Prices::default() };
    for (request_type, paid_by) in REQUEST_TYPES {
        let key = format!("prices.{request_type}");
        let one = price(read, &key);
        let price = match paid_by {
            PaidBy::Second => one.map(PriceOverride::PerSecond),
            PaidBy::Video => one.map(PriceOverride::Fixed),
            PaidBy::SecondAndSound => one.map(PriceOverride::PerSecond).or_else(|| by_sound(read, &key)),
        };
        prices.overrides.extend(price.map(|price| (request_type.to_owned(), price)));
    }
    prices
}

/// The two prices of a type whose sound costs extra. One alone would be half a price: the other is not
/// taken from the page, which may have changed both.
fn by_sound(read: &mut Reader, key: &str) -> Option<PriceOverride> {
    let (silent_key, sound_key) = (format!("{key}.silent"), format!("{key}.sound"));
    match (price(read, &silent_key), price(read, &sound_key)) {
        (Some(silent), Some(sound)) => Some(PriceOverride::PerSecondBySound { silent, sound }),
        (Some(_), None) => {
            read.complain(&silent_key, "stands alone", "write both, as { silent = 54, sound = 80 }");
            None
        }
        (None, Some(_)) => {
            read.complain(&sound_key, "stands alone", "write both, as { silent = 54, sound = 80 }");
            None
        }
        (None, None) => None,
    }
}

fn price(read: &mut Reader, key: &str) -> Option<u64> {
    /// The page's dearest is 435; a hundred times that is a slip of the finger.
    const DEAREST: u64 = 50_000;
    read.optional_bounded(key, whole(), 0..=DEAREST, "it is credits for one second, or for one edited video")
}

fn parse_date(value: &Value) -> Result<Date, Complaint> {
    let instead = "write the day the prices were read, such as \"2026-01-31\"";
    text(value)?.trim().parse().map_err(|_| Complaint::new("is not a date", instead))
}

/// How the value of a request field is written.
#[derive(Clone, Copy)]
enum FieldType {
    RequestType,
    Line,
    Prose,
    Whole,
    Number,
    Switch,
    Urls,
}

/// The fields of a request, as the provider's page names them.
const REQUEST_FIELDS: [(&str, FieldType); 12] = [
    ("type", FieldType::RequestType),
    ("prompt", FieldType::Prose),
    ("duration", FieldType::Whole),
    ("aspect_ratio", FieldType::Line),
    ("image", FieldType::Line),
    ("end_image", FieldType::Line),
    ("video", FieldType::Line),
    ("images", FieldType::Urls),
    ("sound", FieldType::Switch),
    ("negative_prompt", FieldType::Prose),
    ("cfg_scale", FieldType::Number),
    ("keep_original_sound", FieldType::Switch),
];

/// Request fields for jobs that do not set them. What a field may be depends on the job's type, so
/// ranges are judged with the job; a name or a type of value that no job can have is judged here.
pub(super) fn request_defaults(read: &mut Reader) -> Map<String, Json> {
    let mut fields = Map::new();
    for (name, field_type) in REQUEST_FIELDS {
        let parse = match field_type {
            FieldType::RequestType => |value: &Value| request_type(value).map(Json::from),
            FieldType::Line => |value: &Value| text(value).map(Json::from),
            FieldType::Prose => |value: &Value| prose(value).map(Json::from),
            FieldType::Whole => |value: &Value| (whole::<u32>().parse)(value).map(Json::from),
            FieldType::Number => |value: &Value| (RATE.parse)(value).map(Json::from),
            FieldType::Switch => |value: &Value| (SWITCH.parse)(value).map(Json::from),
            FieldType::Urls => |value: &Value| urls(value).map(Json::from),
        };
        let value = read.optional(&format!("defaults.{name}"), Kind { parse, show: Json::to_string });
        fields.extend(value.map(|value| (name.to_owned(), value)));
    }
    fields
}

fn request_type(value: &Value) -> Result<&str, Complaint> {
    let written = text(value)?.trim();
    let names = || REQUEST_TYPES.iter().map(|(name, _)| *name);
    if names().any(|name| name == written) {
        return Ok(written);
    }
    let close =
        names().max_by(|a, b| strsim::jaro_winkler(a, written).total_cmp(&strsim::jaro_winkler(b, written)));
    let instead = format!("did you mean {:?}?", close.unwrap_or_default());
    Err(Complaint::new("is not one of the provider's twelve types", instead))
}

/// Text of any number of lines.
fn prose(value: &Value) -> Result<&str, Complaint> {
    let text = value.as_str().filter(|text| !text.trim().is_empty());
    text.ok_or_else(|| Complaint::new("is not text", "write it in quotes, or leave the key out"))
}

/// An array of texts; one text, as from a variable, is an array of one.
fn urls(value: &Value) -> Result<Vec<String>, Complaint> {
    match value {
        Value::Array(items) => items.iter().map(|item| text(item).map(str::to_owned)).collect(),
        one => text(one).map(|url| vec![url.to_owned()]),
    }
}
