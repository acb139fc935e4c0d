//! The layers, merged: file, then variables, then flags, each over the one before. The only file that
//! names figment, which does the merging and remembers which layer every leaf came from; another
//! merger is one other file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};

use super::error::{Complaint, ConfigError, Problem};
use super::file::{self, ConfigFile};
use super::raw::{self, Entry, Origin, Raw};
use super::{Environment, Overrides};

/// What [`layers`] found.
pub(super) struct Layers {
    pub(super) raw: Raw,
    pub(super) file: Option<PathBuf>,
    /// Variables and flags that could not even be read.
    pub(super) problems: Vec<Problem>,
}

/// Variables that are no keys of a layer: one names the file, the other is a secret, which
/// `api_key` reads, so that it is never copied into a merged value.
const NOT_LAYERED: [&str; 2] = ["KLINGD_CONFIG", "KLINGD_API__KEY"];

/// Reads the file, the variables and the flags into one flat map.
pub(super) fn layers(overrides: &Overrides, environment: &Environment) -> Result<Layers, ConfigError> {
    let file = file::find(overrides, environment)?;
    let mut merged = Figment::new();
    if let Some(file) = &file {
        merged = merged.merge(Layer::of_file(file));
    }
    let mut problems = Vec::new();
    for given in variables(environment).into_iter().chain(flags(overrides)) {
        match given.layer() {
            Ok(layer) => merged = merged.merge(layer),
            Err(complaint) => problems.push(complaint.about_hidden(&raw::visible(&given.key), &given.origin)),
        }
    }
    let values = merged.data().map_err(|error| ConfigError::Merge(error.to_string()))?;
    let mut raw = Raw::default();
    let none = BTreeMap::new();
    let lines = file.as_ref().map_or(&none, |file| &file.lines);
    let origin = |tag, key: &str| origin(merged.get_metadata(tag), lines, key);
    for (key, value) in values.get(&Profile::Default).into_iter().flatten() {
        flatten(raw::join("", key), value, &origin, &mut raw)?;
    }
    Ok(Layers { raw, file: file.map(|file| file.path), problems })
}

/// A value given as text, by a variable or a flag.
struct Given<'a> {
    origin: Origin,
    key: String,
    text: &'a OsStr,
}

fn variables(environment: &Environment) -> Vec<Given<'_>> {
    let mut given = Vec::new();
    for (name, text) in &environment.variables {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix("KLINGD_") else { continue };
        if NOT_LAYERED.contains(&name) || text.is_empty() {
            continue;
        }
        let mut key = rest.to_ascii_lowercase().replace("__", ".");
        if let Some(request_type) = key.strip_prefix("prices.") {
            // The names of request types have dashes, which no shell takes in a variable.
            key = format!("prices.{}", request_type.replace('_', "-"));
        }
        given.push(Given { origin: Origin::Variable(name.to_owned()), key, text });
    }
    given
}

fn flags(overrides: &Overrides) -> Vec<Given<'_>> {
    let flag = |name: &str, key: &str, text| Given {
        origin: Origin::Flag(name.to_owned()),
        key: key.to_owned(),
        text,
    };
    let data_dir = overrides.data_dir.as_ref().map(|path| flag("--data-dir", "data_dir", path.as_os_str()));
    let log_level =
        overrides.log_level.map(|level| flag("-v or -q", "log.level", OsStr::new(level.as_str())));
    data_dir.into_iter().chain(log_level).collect()
}

impl Given<'_> {
    fn layer(&self) -> Result<Layer, Complaint> {
        if self.key.split('.').any(str::is_empty) {
            return Err(Complaint::new(
                "is not a key of klingd",
                "unset it, or write one like KLINGD_API__BASE_URL",
            ));
        }
        let text =
            self.text.to_str().ok_or_else(|| Complaint::new("is not UTF-8 text", "write it in UTF-8"))?;
        // Always text: figment's own reader of variables would guess a type from the look of it.
        let values = figment::util::nest(&self.key, Value::from(text)).into_dict().unwrap_or_default();
        Ok(Layer { metadata: Metadata::from("text", self.origin.to_string()), values })
    }
}

/// One source of values for figment. Its metadata is how a leaf's [`Origin`] is found again.
struct Layer {
    metadata: Metadata,
    values: Dict,
}

impl Layer {
    fn of_file(file: &ConfigFile) -> Self {
        Self { metadata: Metadata::from("file", Source::File(file.path.clone())), values: dict(&file.table) }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn dict(table: &toml::Table) -> Dict {
    table.iter().map(|(key, value)| (key.clone(), figment_value(value))).collect()
}

fn figment_value(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text.as_str()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(truth) => Value::from(*truth),
        // figment knows no dates; the one key that takes a date reads text.
        toml::Value::Datetime(date) => Value::from(date.to_string()),
        toml::Value::Array(items) => Value::from(items.iter().map(figment_value).collect::<Vec<_>>()),
        toml::Value::Table(table) => Value::from(dict(table)),
    }
}

fn flatten(
    key: String,
    value: &Value,
    origin: &impl Fn(figment::value::Tag, &str) -> Origin,
    raw: &mut Raw,
) -> Result<(), ConfigError> {
    match value {
        Value::Dict(_, inner) if !inner.is_empty() => {
            for (segment, value) in inner {
                flatten(raw::join(&key, segment), value, origin, raw)?;
            }
        }
        // An array of tables, such as `[[hook]]`: each of its keys by itself, so that a mistake has its line.
        Value::Array(_, items) if is_tables(items) => {
            for (n, value) in items.iter().enumerate() {
                flatten(raw::nth(&key, n), value, origin, raw)?;
            }
        }
        leaf => {
            let origin = origin(leaf.tag(), &key);
            let value = leaf.deserialize().map_err(|error| ConfigError::Merge(error.to_string()))?;
            raw.entries.insert(key, Entry { value, origin });
        }
    }
    Ok(())
}

/// Whether these are tables, and at least one. An empty table has no keys to read: it is told as what it is.
fn is_tables(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|item| matches!(item, Value::Dict(_, inner) if !inner.is_empty()))
}

fn origin(metadata: Option<&Metadata>, lines: &BTreeMap<String, usize>, key: &str) -> Origin {
    match metadata.and_then(|metadata| metadata.source.as_ref()) {
        Some(Source::File(path)) => Origin::File { path: path.clone(), line: lines.get(key).copied() },
        Some(Source::Custom(name)) if name.starts_with('-') => Origin::Flag(name.clone()),
        Some(Source::Custom(name)) => Origin::Variable(name.clone()),
        // figment's `Source` may grow; a layer of ours always has one of the above.
        Some(_) | None => Origin::Default,
    }
}
