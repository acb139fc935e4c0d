//! The two sections whose names are the provider's: `[prices]` by request type, `[defaults]` by request field.

use jiff::civil::Date;
use toml::Value;

use super::error::Complaint;
use super::reader::Reader;
use super::sections::Prices;
use super::units::{Kind, RATE, SWITCH, TEXT, text, whole};
use crate::domain::Credits;
use crate::domain::job_type::{JobType, PRICES_AS_OF, Price};
use crate::domain::request::Draft;

/// What each type costs: the page's table, but for what somebody overrides.
pub(super) fn prices(read: &mut Reader) -> Prices {
    let as_of =
        read.plain("prices.date", Kind { parse: parse_date, show: String::clone }, PRICES_AS_OF.to_owned());
    let mut prices = Prices { as_of, ..Prices::default() };
    for job_type in JobType::ALL {
        let key = format!("prices.{job_type}");
        let page = job_type.price();
        let one = credits(read, &key);
        let price = match page {
            Price::Fixed(_) => one.map(Price::Fixed),
            Price::PerSecond { .. } => one
                .map(|each| Price::PerSecond { silent: each, sound: each })
                .or_else(|| page.depends_on_sound().then(|| by_sound(read, &key)).flatten()),
        };
        match price {
            Some(price) => {
                prices.overrides.insert(job_type, price);
            }
            None => read.show_default(&key, show_price(page)),
        }
    }
    prices
}

/// The two prices of a type whose sound costs extra. One alone would be half a price: the other is not
/// taken from the page, which may have changed both.
fn by_sound(read: &mut Reader, key: &str) -> Option<Price> {
    const INSTEAD: &str = "write both, such as { silent = 54, sound = 80 }";
    let (silent_key, sound_key) = (format!("{key}.silent"), format!("{key}.sound"));
    match (credits(read, &silent_key), credits(read, &sound_key)) {
        (Some(silent), Some(sound)) => return Some(Price::PerSecond { silent, sound }),
        (Some(_), None) => read.complain(&silent_key, "has no price with sound beside it", INSTEAD),
        (None, Some(_)) => read.complain(&sound_key, "has no price without sound beside it", INSTEAD),
        (None, None) => {}
    }
    None
}

fn credits(read: &mut Reader, key: &str) -> Option<Credits> {
    /// The page's dearest is 435; a hundred times that is a slip of the finger.
    const DEAREST: u64 = 50_000;
    let reason = "it is credits for one second, or for one edited video";
    read.optional_bounded(key, whole(), 0..=DEAREST, reason).map(Credits::new)
}

fn show_price(price: Price) -> String {
    match price {
        Price::Fixed(each) => each.get().to_string(),
        Price::PerSecond { silent, sound } if silent == sound => silent.get().to_string(),
        Price::PerSecond { silent, sound } => {
            format!("{{ silent = {}, sound = {} }}", silent.get(), sound.get())
        }
    }
}

fn parse_date(value: &Value) -> Result<String, Complaint> {
    let instead = "write the day the prices were read, such as \"2026-01-31\"";
    let date: Result<Date, _> = text(value)?.trim().parse();
    date.map(|date| date.to_string()).map_err(|_| Complaint::new("is not a date", instead))
}

/// Request fields for jobs that do not set them. What a field may be depends on the job's type, so
/// ranges are judged with the job; a name or a type of value that no job can have is judged here.
pub(super) fn request_defaults(read: &mut Reader) -> Draft {
    const PROSE: Kind<String> = Kind { parse: parse_prose, show: |text| format!("{text:?}") };
    const URLS: Kind<Vec<String>> = Kind { parse: parse_urls, show: |urls| urls.join(" ") };
    const TYPE: Kind<String> = Kind { parse: parse_type, show: String::clone };
    Draft {
        job_type: read.optional("defaults.type", TYPE),
        prompt: read.optional("defaults.prompt", PROSE),
        duration: read.optional("defaults.duration", whole()),
        aspect_ratio: read.optional("defaults.aspect_ratio", TEXT),
        image: read.optional("defaults.image", TEXT),
        end_image: read.optional("defaults.end_image", TEXT),
        video: read.optional("defaults.video", TEXT),
        images: read.optional("defaults.images", URLS),
        sound: read.optional("defaults.sound", SWITCH),
        negative_prompt: read.optional("defaults.negative_prompt", PROSE),
        cfg_scale: read.optional("defaults.cfg_scale", RATE),
        keep_original_sound: read.optional("defaults.keep_original_sound", SWITCH),
        extra: serde_json::Map::new(),
    }
}

fn parse_type(value: &Value) -> Result<String, Complaint> {
    let written = text(value)?.trim();
    if written.parse::<JobType>().is_ok() {
        return Ok(written.to_owned());
    }
    let likeness = |job_type: &JobType| strsim::jaro_winkler(job_type.as_str(), written);
    let close = JobType::ALL.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let instead = close.map_or_else(String::new, |close| format!("did you mean \"{close}\"?"));
    Err(Complaint::new("is not one of the provider's twelve types", instead))
}

/// Text of any number of lines.
fn parse_prose(value: &Value) -> Result<String, Complaint> {
    let text = value.as_str().filter(|text| !text.trim().is_empty());
    text.map(str::to_owned)
        .ok_or_else(|| Complaint::new("is not text", "write it in quotes, or leave the key out"))
}

/// An array of texts; one text, as from a variable, is an array of one.
fn parse_urls(value: &Value) -> Result<Vec<String>, Complaint> {
    match value {
        Value::Array(items) => items.iter().map(|item| text(item).map(str::to_owned)).collect(),
        one => text(one).map(|url| vec![url.to_owned()]),
    }
}
