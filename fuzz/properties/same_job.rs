//! The same jobs written as TOML, as JSON and as JSON Lines are the same jobs, or wrong in the same places; and what klingd
//! accepts, the provider's double takes, at the price that klingd told.
//!
//! The input is not a file: its bytes choose the keys and values that all three are written from.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    domain::{
        job::NewJob,
        request::{Draft, Request},
    },
    intake::jobfile::{Context, Diagnostic, File, Format, Severity, read},
    sandbox::{Options, model::Model},
};

const MAX_JOBS: usize = 60;

pub fn check(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let written = Written::chosen(&mut choices);
    let toml = parse(&written.toml(), Format::Toml);
    let json = parse(&written.json(), Format::Json);
    assert_eq!(outcome(&toml), outcome(&json), "\n{}\n{}", written.toml(), written.json());
    if let Some(lines) = written.json_lines() {
        let lines = parse(&lines, Format::JsonLines);
        match (&toml, &lines) {
            (Ok(one), Ok(other)) => assert_eq!(one.jobs, other.jobs),
            (Err(_), Err(_)) => {}
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("{toml:?}\n{lines:?}"),
        }
    }
    if let Ok(file) = toml {
        taken_by_the_double(&file.jobs);
    }
}

fn parse(text: &str, format: Format) -> Result<File, Vec<Diagnostic>> {
    let defaults = Draft::default();
    let context = Context {
        defaults: &defaults,
        price: &|job_type| job_type.price(),
        check_template: &|_| Ok(()),
        max_jobs: Some(MAX_JOBS),
    };
    read(text.as_bytes(), format, "f", &context)
}

/// What a file means: its jobs, its batch's name and cap; or what is wrong, by key and message.
type Meaning<'f> = Result<(&'f [NewJob], Option<&'f str>, Option<u64>), Vec<(&'f str, &'f str)>>;

/// The jobs, or every error by its kind and the key that it is about.
fn outcome(read: &Result<File, Vec<Diagnostic>>) -> Meaning<'_> {
    match read {
        Ok(file) => {
            Ok((&file.jobs, file.batch.as_deref(), file.batch_max_credits.map(|credits| credits.get())))
        }
        Err(diagnostics) => {
            let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
            let mut errors: Vec<_> = errors.map(|d| (d.code.as_str(), d.key.as_str())).collect();
            errors.sort_unstable();
            // The places of an empty file differ, and the words for it do not matter.
            Err(errors)
        }
    }
}

/// What is paid for is what was told, and reads back as the same request.
fn taken_by_the_double(jobs: &[NewJob]) {
    let mut double = Model::new(&Options { balance: i64::MAX, ..Options::new(|| Timestamp::UNIX_EPOCH) });
    for job in jobs {
        let bytes = job.request.to_bytes();
        let sent = String::from_utf8_lossy(&bytes);
        assert_eq!(double.submit(Timestamp::UNIX_EPOCH, &bytes), 200, "{sent}");
        let charge = double.charges().last().expect("a charge");
        assert_eq!(u64::try_from(charge.credits), Ok(job.estimate.get()), "{sent}");
        let again: Request = serde_json::from_slice(&bytes).expect("what was written by klingd");
        assert_eq!(again, job.request);
        assert_eq!(again.to_bytes(), bytes);
    }
}

/// What all formats are written from. Keys are in the order of the alphabet, as not every writer keeps another one.
struct Written {
    batch: Option<Map<String, Value>>,
    defaults: Option<Map<String, Value>>,
    jobs: Vec<Map<String, Value>>,
    /// One job at the top of its file.
    single: bool,
}

impl Written {
    fn chosen(choices: &mut Choices<'_>) -> Self {
        let kind = choices.byte();
        let single = kind.is_multiple_of(4);
        let batch = (!single && kind & 4 != 0).then(|| {
            let mut batch = Map::new();
            if choices.byte() & 1 != 0 {
                batch.insert("max_credits".to_owned(), choices.value(1));
            }
            if choices.byte() & 1 != 0 {
                batch.insert("name".to_owned(), json!(choices.text()));
            }
            batch
        });
        let defaults = (!single && kind & 8 != 0).then(|| choices.job());
        let count = if single { 1 } else { 1 + choices.byte() % 4 };
        let jobs = (0..count).map(|_| choices.job()).collect();
        Self { batch, defaults, jobs, single }
    }

    fn json(&self) -> String {
        if let ([job], true) = (&*self.jobs, self.single) {
            return Value::Object(job.clone()).to_string();
        }
        let mut file = Map::new();
        if let Some(batch) = &self.batch {
            file.insert("batch".to_owned(), Value::Object(batch.clone()));
        }
        if let Some(defaults) = &self.defaults {
            file.insert("defaults".to_owned(), Value::Object(defaults.clone()));
        }
        file.insert("job".to_owned(), self.jobs.iter().cloned().map(Value::Object).collect());
        Value::Object(file).to_string()
    }

    /// Only of jobs that need nothing around them.
    fn json_lines(&self) -> Option<String> {
        let alone = self.batch.is_none() && self.defaults.is_none();
        alone.then(|| {
            self.jobs.iter().fold(String::new(), |mut lines, job| {
                writeln!(lines, "{}", Value::Object(job.clone())).expect("memory");
                lines
            })
        })
    }

    fn toml(&self) -> String {
        let mut file = String::new();
        let mut table = |head: &str, fields: &Map<String, Value>| {
            writeln!(file, "{head}").expect("memory");
            for (key, value) in fields {
                writeln!(file, "{} = {}", quoted(key), toml(value)).expect("memory");
            }
        };
        if let Some(batch) = &self.batch {
            table("[batch]", batch);
        }
        if let Some(defaults) = &self.defaults {
            table("[defaults]", defaults);
        }
        for job in &self.jobs {
            table(if self.single { "" } else { "[[job]]" }, job);
        }
        file
    }
}

/// A value as TOML on one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Null => "\"null\"".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| format!("{} = {}", quoted(key), toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let inner = text.chars().fold(String::new(), |mut out, c| {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).expect("memory"),
            c => out.push(c),
        }
        out
    });
    format!("\"{inner}\"")
}

/// The bytes that choose; at their end everything is the first choice.
struct Choices<'b>(&'b [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[usize::from(self.byte()) % all.len()]
    }

    fn job(&mut self) -> Map<String, Value> {
        let mut job = Map::new();
        job.insert("type".to_owned(), json!(self.of(&TYPES)));
        if self.byte() % 16 != 15 {
            job.insert("prompt".to_owned(), json!(format!("a fox {}", self.text())));
        }
        for _ in 0..self.byte() % 12 {
            let key = self.of(&KEYS);
            let value = self.fitting(key);
            job.insert(key.to_owned(), value);
        }
        job.sort_keys();
        job
    }

    /// Mostly a value as the key may have it.
    fn fitting(&mut self, key: &str) -> Value {
        let byte = self.byte();
        if byte % 16 == 15 {
            return self.value(3);
        }
        match key {
            "duration" => json!(byte % 17),
            "takes" => json!(byte % 5),
            "priority" => json!(i64::from(byte) - 128),
            "max_credits" => json!(u64::from(byte) * 8),
            "sound" | "again" | "keep_original_sound" => json!(byte & 1 != 0),
            "cfg_scale" => json!(f64::from(byte) / 200.0),
            "aspect_ratio" => json!(self.of(&["16:9", "9:16", "1:1", "4:3"])),
            "image" | "end_image" | "video" => json!(self.url()),
            "images" => (0..byte % 9).map(|_| json!(self.url())).collect(),
            "tags" => (0..byte % 5).map(|_| json!(self.text())).collect(),
            "not_before" => json!(self.of(&TIMES)),
            "output" => json!(format!("{{name}}/{}.mp4", self.text())),
            "extra" => {
                let mut extra: Map<String, Value> =
                    (0..byte % 4).map(|_| (self.text(), self.value(4))).collect();
                extra.sort_keys();
                Value::Object(extra)
            }
            "matrix" => self.matrix(byte),
            "nest" => (0..byte).fold(json!(1), |inner, _| json!([inner])),
            _ => json!(self.text()),
        }
    }

    fn matrix(&mut self, byte: u8) -> Value {
        let mut matrix = Map::new();
        for _ in 0..byte % 4 {
            let axis = self.of(&[
                "duration",
                "aspect_ratio",
                "prompt",
                "sound",
                "type",
                "cfg_scale",
                "image",
                "exclude",
            ]);
            let values: Vec<Value> = if axis == "exclude" {
                let cells = (0..self.byte() % 3).map(|_| {
                    let axis = self.of(&["duration", "aspect_ratio", "sound"]);
                    let value = self.fitting(axis);
                    json!({axis: value})
                });
                cells.collect()
            } else if axis == "type" {
                (0..self.byte() % 4).map(|_| json!(self.of(&TYPES))).collect()
            } else {
                (0..self.byte() % 4).map(|_| self.fitting(axis)).collect()
            };
            matrix.insert(axis.to_owned(), json!(values));
        }
        matrix.sort_keys();
        Value::Object(matrix)
    }

    fn url(&mut self) -> String {
        let scheme = self.of(&["https://", "http://", "https://cdn.", "HTTPS://", "ftp://", "https:/", ""]);
        format!("{scheme}example.com/{}", self.text())
    }

    /// Any value but JSON's null, which TOML has not.
    fn value(&mut self, depth: u8) -> Value {
        match self.byte() % 9 {
            0 => json!(i64::from(self.byte()) - 100),
            1 => json!(self.byte() & 1 != 0),
            2 => json!(self.text()),
            3 => json!((f64::from(self.byte()) - 100.0) / 8.0),
            4 => json!(i64::from_le_bytes([(); 8].map(|()| self.byte()))),
            5 => Some(f64::from_le_bytes([(); 8].map(|()| self.byte())))
                .filter(|n| n.is_finite())
                .map_or(json!(0), |n| json!(n)),
            6 if depth > 0 => (0..self.byte() % 4).map(|_| self.value(depth - 1)).collect(),
            7 if depth > 0 => {
                let mut fields: Map<String, Value> =
                    (0..self.byte() % 4).map(|_| (self.text(), self.value(depth - 1))).collect();
                fields.sort_keys();
                Value::Object(fields)
            }
            8 => (0..self.byte()).fold(json!(1), |inner, _| json!([inner])),
            _ => json!(self.of(&TYPES)),
        }
    }

    /// A word, or the next bytes as text.
    fn text(&mut self) -> String {
        let byte = self.byte();
        if byte % 4 != 3 {
            return self.of(&WORDS).to_owned();
        }
        let end = usize::from(byte).min(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

const TYPES: [&str; 14] = [
    "std-text-to-video",
    "std-image-to-video",
    "pro-text-to-video",
    "pro-image-to-video",
    "o3-pro-text-to-video",
    "o3-pro-image-to-video",
    "o3-pro-reference-to-video",
    "o3-pro-video-edit",
    "o3-std-text-to-video",
    "o3-std-image-to-video",
    "o3-std-reference-to-video",
    "o3-std-video-edit",
    "text-to-video",
    "",
];

const KEYS: [&str; 25] = [
    "duration",
    "image",
    "video",
    "images",
    "sound",
    "aspect_ratio",
    "end_image",
    "negative_prompt",
    "cfg_scale",
    "keep_original_sound",
    "extra",
    "name",
    "output",
    "tags",
    "priority",
    "takes",
    "not_before",
    "key",
    "max_credits",
    "again",
    "matrix",
    "prompt",
    "type",
    "nest",
    "durations",
];

const TIMES: [&str; 6] = [
    "2026-12-24T18:00:00+01:00",
    "2026-12-24T17:00:00Z",
    "2026-12-24 17:00:00.5Z",
    "2026-12-24T18:00:00",
    "2026-12-24",
    "0000-01-01T00:00:00Z",
];

const WORDS: [&str; 16] = [
    "one",
    "two",
    "three",
    "",
    " ",
    "16:9",
    "\u{feff}",
    "\u{1b}[31m",
    "\u{9b}",
    "\u{202e}",
    "ä",
    "🦊",
    "\"",
    "\\",
    "type",
    "a\nb",
];
