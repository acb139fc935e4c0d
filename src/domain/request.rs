//! A request: what a person asked for, parsed into validity. A [`Request`] that exists would be accepted by the
//! provider's page; everything else is a list of [`Problem`]s, all of them at once.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    credits::Credits,
    job_type::{DEFAULT_DURATION_S, DURATION_S, Field, JobType, MAX_IMAGES, MAX_PROMPT_CHARS, Price},
};

/// Characters a URL may have. Signed links reach 2,000; beyond this it is a mistake (a `data:` URL, a pasted file).
pub const MAX_URL_CHARS: usize = 8192;

/// What a person typed: every field of the page, of the right JSON type, not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the provider's own field names")]
pub struct Draft {
    #[serde(rename = "type")]
    pub job_type: Option<String>,
    pub prompt: Option<String>,
    pub duration: Option<i64>,
    pub aspect_ratio: Option<String>,
    pub image: Option<String>,
    pub end_image: Option<String>,
    pub video: Option<String>,
    pub images: Option<Vec<String>>,
    pub sound: Option<bool>,
    pub negative_prompt: Option<String>,
    pub cfg_scale: Option<f64>,
    pub keep_original_sound: Option<bool>,
    /// Sent as it is; for fields the page does not know yet.
    pub extra: Map<String, Value>,
}

impl Draft {
    fn has(&self, field: Field) -> bool {
        match field {
            Field::Type => self.job_type.is_some(),
            Field::Prompt => self.prompt.is_some(),
            Field::Duration => self.duration.is_some(),
            Field::AspectRatio => self.aspect_ratio.is_some(),
            Field::Image => self.image.is_some(),
            Field::EndImage => self.end_image.is_some(),
            Field::Video => self.video.is_some(),
            Field::Images => self.images.as_ref().is_some_and(|all| !all.is_empty()),
            Field::Sound => self.sound.is_some(),
            Field::NegativePrompt => self.negative_prompt.is_some(),
            Field::CfgScale => self.cfg_scale.is_some(),
            Field::KeepOriginalSound => self.keep_original_sound.is_some(),
            Field::Extra => !self.extra.is_empty(),
        }
    }
}

/// One thing wrong with a [`Draft`]: which field, why, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field it is about.
    pub field: Field,
    /// A sentence that says what is wrong and why.
    pub message: String,
    /// What to write instead, when that is known.
    pub hint: Option<String>,
}

impl Problem {
    fn new(field: Field, message: impl Into<String>) -> Self {
        Self { field, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field.name(), self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// The three ratios of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is its ratio")]
pub enum AspectRatio {
    #[serde(rename = "16:9")]
    Wide,
    #[serde(rename = "9:16")]
    Tall,
    #[serde(rename = "1:1")]
    Square,
}

impl AspectRatio {
    /// The provider's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            AspectRatio::Wide => "16:9",
            AspectRatio::Tall => "9:16",
            AspectRatio::Square => "1:1",
        }
    }

    /// All three, in the page's order.
    pub const ALL: [Self; 3] = [Self::Wide, Self::Tall, Self::Square];

    fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == s)
    }
}

/// A request that the page allows. Its JSON is exactly what is sent: the fields the user set, and those on which the
/// price depends. Made by [`Request::parse`] only; reading it back from a row parses it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Request {
    job_type: JobType,
    /// The body to send, in the page's order of fields.
    body: Map<String, Value>,
}

impl Request {
    /// Checks every rule of the page and fills in what the price depends on (`duration`; `sound` where it has a
    /// price). All problems at once.
    pub fn parse(draft: &Draft) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let job_type = parse_type(draft, &mut problems);
        check_prompt(draft, &mut problems);
        check_values(draft, &mut problems);
        if let Some(job_type) = job_type {
            check_capabilities(draft, job_type, &mut problems);
        }
        match job_type {
            Some(job_type) if problems.is_empty() => Ok(Self { job_type, body: body(draft, job_type) }),
            _ => Err(problems),
        }
    }

    /// The type.
    pub fn job_type(&self) -> JobType {
        self.job_type
    }

    /// The prompt.
    pub fn prompt(&self) -> &str {
        self.body.get("prompt").and_then(Value::as_str).unwrap_or_default()
    }

    /// Seconds asked for; `None` for a video edit.
    pub fn duration_s(&self) -> Option<u8> {
        self.body.get("duration").and_then(Value::as_u64).and_then(|s| u8::try_from(s).ok())
    }

    /// The ratio asked for, or the page's default.
    pub fn aspect_ratio(&self) -> AspectRatio {
        self.body
            .get("aspect_ratio")
            .and_then(Value::as_str)
            .and_then(AspectRatio::parse)
            .unwrap_or(AspectRatio::Wide)
    }

    /// Whether the video will have sound: as set, else the page's default (it has).
    pub fn sound(&self) -> bool {
        self.body.get("sound").and_then(Value::as_bool).unwrap_or(true)
    }

    /// What this render will cost at `price` (the page's, or the user's override).
    pub fn estimate(&self, price: Price) -> Credits {
        price.of(self.duration_s().unwrap_or(DEFAULT_DURATION_S), self.sound())
    }

    /// The JSON that is sent, byte for byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        Value::Object(self.body.clone()).to_string().into_bytes()
    }

    /// The fields as they are sent.
    pub fn body(&self) -> &Map<String, Value> {
        &self.body
    }

    /// The request with the page's defaults filled in and its fields sorted: two requests that mean the same render
    /// have the same canonical form.
    pub fn canonical(&self) -> String {
        let mut fields = self.body.clone();
        fields.entry("aspect_ratio").or_insert_with(|| json!("16:9"));
        fields.entry("sound").or_insert(json!(true));
        if self.job_type.takes(Field::CfgScale) {
            fields.entry("cfg_scale").or_insert(json!(0.5));
        }
        fields.sort_keys();
        Value::Object(fields).to_string()
    }
}

impl From<Request> for Value {
    fn from(request: Request) -> Value {
        Value::Object(request.body)
    }
}

impl TryFrom<Value> for Request {
    type Error = String;
    /// Reads back what [`Request::to_bytes`] wrote; unknown fields become `extra` again.
    fn try_from(value: Value) -> Result<Self, String> {
        let Value::Object(mut all) = value else { return Err("a request must be a JSON object".to_owned()) };
        let extra: Map<String, Value> = all
            .keys()
            .filter(|k| !is_known(k))
            .cloned()
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|k| all.remove_entry(&k))
            .collect();
        let mut draft: Draft = serde_json::from_value(Value::Object(all)).map_err(|e| e.to_string())?;
        draft.extra = extra;
        Request::parse(&draft)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

fn is_known(key: &str) -> bool {
    Field::ALL.iter().any(|f| f.name() == key)
}

fn parse_type(draft: &Draft, problems: &mut Vec<Problem>) -> Option<JobType> {
    let Some(word) = &draft.job_type else {
        problems.push(
            Problem::new(Field::Type, "every job needs a type")
                .hint("for example type = \"std-text-to-video\""),
        );
        return None;
    };
    match word.parse() {
        Ok(job_type) => Some(job_type),
        Err(unknown) => {
            let near = nearest(word, JobType::ALL.iter().map(|t| t.as_str()));
            let problem = Problem::new(Field::Type, format!("{unknown}"));
            problems.push(match near {
                Some(near) => problem.hint(format!("did you mean {near:?}?")),
                None => problem.hint(format!("one of {}", JobType::ALL.map(JobType::as_str).join(", "))),
            });
            None
        }
    }
}

fn check_prompt(draft: &Draft, problems: &mut Vec<Problem>) {
    match draft.prompt.as_deref() {
        None => problems.push(Problem::new(Field::Prompt, "every job needs a prompt")),
        Some(prompt) if prompt.chars().all(is_blank) => {
            problems.push(Problem::new(Field::Prompt, "the prompt is empty"))
        }
        Some(prompt) => {
            let chars = prompt.chars().count();
            if chars > MAX_PROMPT_CHARS {
                problems.push(Problem::new(
                    Field::Prompt,
                    format!(
                        "the prompt has {chars} characters; the provider takes at most {MAX_PROMPT_CHARS}"
                    ),
                ));
            }
        }
    }
}

fn check_values(draft: &Draft, problems: &mut Vec<Problem>) {
    if let Some(seconds) = draft.duration
        && !u8::try_from(seconds).is_ok_and(|s| DURATION_S.contains(&s))
    {
        let (min, max) = (DURATION_S.start(), DURATION_S.end());
        problems.push(Problem::new(
            Field::Duration,
            format!("{seconds} is out of range: a video lasts {min} to {max} seconds"),
        ));
    }
    if let Some(ratio) = &draft.aspect_ratio
        && AspectRatio::parse(ratio).is_none()
    {
        problems.push(Problem::new(
            Field::AspectRatio,
            format!("{ratio:?} is not one of \"16:9\", \"9:16\", \"1:1\""),
        ));
    }
    if let Some(scale) = draft.cfg_scale
        && !(0.0..=1.0).contains(&scale)
    {
        problems.push(Problem::new(Field::CfgScale, format!("{scale} is out of range: 0 to 1")));
    }
    if let Some(images) = &draft.images {
        if images.is_empty() {
            problems
                .push(Problem::new(Field::Images, "the list is empty").hint("leave it out or name an image"));
        }
        if images.len() > MAX_IMAGES {
            let n = images.len();
            problems.push(Problem::new(
                Field::Images,
                format!("{n} images; the provider takes at most {MAX_IMAGES}"),
            ));
        }
    }
    let single =
        [(Field::Image, &draft.image), (Field::EndImage, &draft.end_image), (Field::Video, &draft.video)];
    let singles = single.iter().filter_map(|(field, url)| url.as_deref().map(|u| (*field, u)));
    let listed = draft.images.iter().flatten().map(|u| (Field::Images, u.as_str()));
    problems.extend(singles.chain(listed).filter_map(|(field, url)| check_url(field, url)));
    for key in draft.extra.keys().filter(|k| is_known(k)) {
        problems.push(
            Problem::new(
                Field::Extra,
                format!("`{key}` is a field klingd knows, so it may not hide in `extra`"),
            )
            .hint(format!("set `{key}` beside `type`")),
        );
    }
}

fn check_url(field: Field, text: &str) -> Option<Problem> {
    if text.chars().count() > MAX_URL_CHARS {
        return Some(Problem::new(field, format!("a URL of over {MAX_URL_CHARS} characters is not a link")));
    }
    let hint = "the provider fetches it itself: a public http:// or https:// link";
    // The URL is sent as it was typed; the parsed one only decides whether it is a link.
    match url::Url::parse(text) {
        // `C:\…`
        Ok(url) if url.scheme().len() == 1 => {
            Some(Problem::new(field, "a file of this machine can't be fetched by the provider").hint(hint))
        }
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Some(
            Problem::new(field, format!("{:?} links can't be fetched by the provider", url.scheme()))
                .hint(hint),
        ),
        // The parser mends what others may not.
        Ok(_) if text.chars().any(|c| is_blank(c) || c.is_control()) => {
            Some(Problem::new(field, "the URL has spaces or control characters around or in it"))
        }
        Ok(url) if !text[url.scheme().len()..].starts_with("://") => {
            Some(Problem::new(field, format!("`//` is missing behind `{}:`", url.scheme())))
        }
        Ok(_) => None,
        Err(e) => Some(Problem::new(field, format!("not a URL: {e}")).hint(hint)),
    }
}

/// White space as Unicode has it, and the byte-order mark, which shows nothing either: what patterns call `\s`.
pub const fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

fn check_capabilities(draft: &Draft, job_type: JobType, problems: &mut Vec<Problem>) {
    for field in Field::ALL.into_iter().filter(|f| draft.has(*f) && !job_type.takes(*f)) {
        let takers: Vec<_> = JobType::ALL.iter().filter(|t| t.takes(field)).map(|t| t.as_str()).collect();
        problems.push(
            Problem::new(field, format!("{job_type} does not take it, so it would be paid for and ignored"))
                .hint(format!("taken by {}", takers.join(", "))),
        );
    }
    let needs = job_type.needs_one_of();
    if !needs.is_empty() && !needs.iter().any(|f| draft.has(*f)) {
        let names = needs.iter().map(|f| format!("`{}`", f.name())).collect::<Vec<_>>().join(" or ");
        if let Some(first) = needs.first() {
            problems.push(Problem::new(*first, format!("{job_type} needs {names}")));
        }
    }
}

fn body(draft: &Draft, job_type: JobType) -> Map<String, Value> {
    let mut body = Map::new();
    let duration =
        job_type.duration_s().map(|_| draft.duration.unwrap_or_else(|| i64::from(DEFAULT_DURATION_S)));
    let sound = draft.sound.or_else(|| job_type.price().depends_on_sound().then_some(true));
    let fields = [
        (Field::Type, Some(json!(job_type))),
        (Field::Prompt, draft.prompt.as_ref().map(|v| json!(v))),
        (Field::Duration, duration.map(|v| json!(v))),
        (Field::AspectRatio, draft.aspect_ratio.as_ref().map(|v| json!(v))),
        (Field::Image, draft.image.as_ref().map(|v| json!(v))),
        (Field::EndImage, draft.end_image.as_ref().map(|v| json!(v))),
        (Field::Video, draft.video.as_ref().map(|v| json!(v))),
        (Field::Images, draft.images.as_ref().map(|v| json!(v))),
        (Field::Sound, sound.map(|v| json!(v))),
        (Field::NegativePrompt, draft.negative_prompt.as_ref().map(|v| json!(v))),
        (Field::CfgScale, draft.cfg_scale.map(|v| json!(v))),
        (Field::KeepOriginalSound, draft.keep_original_sound.map(|v| json!(v))),
    ];
    body.extend(fields.into_iter().filter_map(|(f, v)| v.map(|v| (f.name().to_owned(), v))));
    body.extend(draft.extra.clone());
    body
}

/// The candidate that `word` was most likely meant to be, if any is near.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // 0.8: one or two letters off in a word of this length; lower suggests words that have nothing to do with it.
    candidates
        .map(|c| (strsim::jaro_winkler(word, c), c))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
