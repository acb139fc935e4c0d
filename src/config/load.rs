//! The layers, merged: file, then variables, then flags, each over the one before. The only file that
//! names figment, which does the merging and remembers which layer every leaf came from; another
//! merger is one other file.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};

use super::error::{ConfigError, Problem};
use super::file::{self, ConfigFile};
use super::raw::{self, Entry, Origin, Raw};
use super::{Environment, Overrides, units};

/// What [`layers`] found.
pub(super) struct Layers {
    pub(super) raw: Raw,
    pub(super) file: Option<std::path::PathBuf>,
    /// Variables and flags that could not even be read.
    pub(super) problems: Vec<Problem>,
}

/// Variables that are no keys of a layer: one names the file, the other is a secret, which
/// `api_key` reads, so that it is never copied into a merged value.
const NOT_LAYERED: [&str; 2] = ["KLINGD_CONFIG", "KLINGD_API__KEY"];

/// Reads the file, the variables and the flags into one flat map.
pub(super) fn layers(overrides: &Overrides, environment: &Environment) -> Result<Layers, ConfigError> {
    let file = file::find(overrides, environment)?;
    let mut problems = Vec::new();
    let mut merged = Figment::new();
    if let Some(file) = &file {
        merged = merged.merge(Layer::of_file(file));
    }
    for layer in variables(environment, &mut problems).into_iter().chain(flags(overrides, &mut problems)) {
        merged = merged.merge(layer);
    }
    let values = merged.data().map_err(|error| ConfigError::Merge(error.to_string()))?;
    let mut raw = Raw::default();
    let none = BTreeMap::new();
    let lines = file.as_ref().map_or(&none, |file| &file.lines);
    for (key, value) in values.get(&Profile::Default).into_iter().flatten() {
        flatten(
            raw::join("", key),
            value,
            &|tag, key| origin(merged.get_metadata(tag), lines, key),
            &mut raw,
        )?;
    }
    Ok(Layers { raw, file: file.map(|file| file.path), problems })
}

fn variables(environment: &Environment, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (name, value) in &environment.variables {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix("KLINGD_") else { continue };
        if NOT_LAYERED.contains(&name) || value.is_empty() {
            continue;
        }
        let mut key = rest.to_ascii_lowercase().replace("__", ".");
        if let Some(request_type) = key.strip_prefix("prices.") {
            // The names of request types have dashes, which no shell takes in a variable.
            key = format!("prices.{}", request_type.replace('_', "-"));
        }
        let problem = |why: &str, instead: &str| Problem {
            key: key.clone(),
            origin: Origin::Variable(name.to_owned()),
            value: None,
            why: why.to_owned(),
            instead: instead.to_owned(),
        };
        match value.to_str() {
            _ if key.split('.').any(str::is_empty) => {
                problems.push(problem(
                    "is not a key of klingd",
                    "unset it, or write it like KLINGD_API__BASE_URL",
                ));
            }
            Some(text) => layers.push(Layer::of_text(name, &key, text)),
            None => problems.push(problem("is not UTF-8 text", "write it in UTF-8")),
        }
    }
    layers
}

fn flags(overrides: &Overrides, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let mut layers = Vec::new();
    match overrides.data_dir.as_deref().map(|path| path.to_str()) {
        Some(Some(path)) => layers.push(Layer::of_text("--data-dir", "data_dir", path)),
        Some(None) => problems.push(Problem {
            key: "data_dir".to_owned(),
            origin: Origin::Flag("--data-dir".to_owned()),
            value: None,
            why: "is not UTF-8 text".to_owned(),
            instead: "name a directory whose path is UTF-8".to_owned(),
        }),
        None => {}
    }
    if let Some(level) = overrides.log_level {
        layers.push(Layer::of_text("-v", "log.level", units::show_level(level)));
    }
    layers
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

    /// One variable or flag. Always text: figment's own `Env` would guess a type from the look of it.
    fn of_text(name: &str, key: &str, text: &str) -> Self {
        let values = figment::util::nest(key, Value::from(text)).into_dict().unwrap_or_default();
        Self { metadata: Metadata::from("text", name), values }
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
        leaf => {
            let origin = origin(leaf.tag(), &key);
            let value = leaf.deserialize().map_err(|error| ConfigError::Merge(error.to_string()))?;
            raw.entries.insert(key, Entry { value, origin });
        }
    }
    Ok(())
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
