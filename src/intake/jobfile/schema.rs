//! The rules of job files as a JSON Schema, for editors: made from the same tables as the reader, and in the tests held
//! against it.
//!
//! It says all that a schema can: what the tests list as its silence are sums, equal jobs, and what `exclude` leaves.

use serde_json::{Map, Value, json};

use super::{
    job::{axis_keys, default_keys, keys},
    matrix::MAX_EXCLUDES,
    rules::{MAX_LABEL_CHARS, MAX_TAG_CHARS, MAX_TAGS, PRIORITY, TAKES},
};
use crate::domain::{
    job_type::{DURATION_S, Field, JobType, MAX_IMAGES, MAX_PROMPT_CHARS},
    request::{AspectRatio, MAX_URL_CHARS},
};

/// `is_blank`, for a class of characters. Spelled out, since validators differ about `\s`.
macro_rules! blank {
    () => {
        r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
    };
}
/// Without control characters, and not blank.
const LABEL: &str =
    concat!(r"^[^\x00-\x1f\x7f-\x9f]*[^", blank!(), r"\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$");
/// Something besides blanks.
const NOT_BLANK: &str = concat!("[^", blank!(), "]");
/// As far as a pattern tells a link.
const LINK: &str = concat!(r"^[hH][tT][tT][pP][sS]?://[^", blank!(), r"\x00-\x1f\x7f-\x9f]+$");
/// RFC 3339, with an offset; as far as a pattern tells a day.
const TIME: &str = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d(:([0-5]\d|60)(\.\d{1,9})?)?([Zz]|[+-]\d{2}:?\d{2})$";

/// The schema of a job file: a single job or a batch.
pub fn schema() -> Value {
    let is_batch = json!({ "anyOf": [{ "required": ["batch"] }, { "required": ["defaults"] }, { "required": ["job"] }] });
    let mut definitions: Map<String, Value> =
        keys().filter(|key| *key != "matrix").map(|key| (key.to_owned(), value(key))).collect();
    definitions.insert("job".to_owned(), job());
    definitions.insert("batch_file".to_owned(), batch_file());
    definitions.insert("single_job".to_owned(), json!({ "$ref": "#/$defs/job", "allOf": whole_job() }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "klingd job file",
        "description": "One job for the Kling 3.0 video API, or a batch of them. Both `klingd check FILE` and this schema know the rules; check knows the prices too.",
        "type": "object",
        "if": is_batch,
        "then": { "$ref": "#/$defs/batch_file" },
        "else": { "$ref": "#/$defs/single_job" },
        "$defs": definitions,
    })
}

/// The value of a key, wherever it stands.
fn of(key: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{key}") })
}

/// Every key of a job, each for itself and beside its own type; what may come from `[defaults]` is not asked for.
fn job() -> Value {
    let not_twice = axis_keys().map(|key| {
        json!({ "if": in_matrix(&json!({ "required": [key] })), "then": { "properties": { key: false } } })
    });
    let untaken = groups(|t| Field::ALL.into_iter().filter(|f| !t.takes(*f)).collect()).into_iter();
    let untaken = untaken.map(|(types, fields)| json!({ "if": has_type(&types), "then": without(&fields) }));
    let mut properties = properties(keys());
    properties.insert("matrix".to_owned(), matrix());
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "allOf": not_twice.chain(untaken).collect::<Vec<_>>(),
    })
}

/// What a job must have when nothing stands above it.
fn whole_job() -> Vec<Value> {
    let needs = needs()
        .into_iter()
        .map(|(types, fields)| json!({ "if": has_type(&types), "then": has_any(&fields) }));
    ["type", "prompt"].into_iter().map(has).chain(needs).collect()
}

fn batch_file() -> Value {
    let each = |rule: Value| json!({ "properties": { "job": { "items": rule } } });
    let default = |rule: Value| json!({ "required": ["defaults"], "properties": { "defaults": rule } });
    let named = |fields: &[Field]| -> Vec<Value> {
        fields.iter().map(|field| json!({ "required": [field.name()] })).collect()
    };
    let mut rules: Vec<Value> = ["type", "prompt"]
        .into_iter()
        .map(|key| json!({ "if": default(json!({ "required": [key] })), "else": each(has(key)) }))
        .collect();
    // A job without a type of its own is of that of `[defaults]`.
    let is_default = |types: &[JobType]| {
        default(json!({ "required": ["type"], "properties": { "type": { "enum": types } } }))
    };
    let inherits = |then: Value| each(json!({ "if": { "not": has("type") }, "then": then }));
    for (types, fields) in groups(|t| Field::ALL.into_iter().filter(|f| !t.takes(*f)).collect()) {
        rules.push(json!({ "if": is_default(&types), "then": inherits(without(&fields)) }));
    }
    for (types, fields) in needs() {
        let given = default(json!({ "anyOf": named(&fields) }));
        let own = each(json!({ "if": has_type(&types), "then": has_any(&fields) }));
        let inherited = json!({ "if": is_default(&types), "then": inherits(has_any(&fields)) });
        rules.push(json!({ "if": given, "else": { "allOf": [own, inherited] } }));
    }
    json!({
        "type": "object",
        "required": ["job"],
        "additionalProperties": false,
        "properties": {
            "batch": {
                "description": "The batch as a whole",
                "type": "object",
                "additionalProperties": false,
                "properties": properties(["name", "max_credits"].into_iter()),
            },
            "defaults": {
                "description": "For every job that does not say otherwise; a job takes what its type takes",
                "type": "object",
                "additionalProperties": false,
                "properties": properties(default_keys()),
            },
            "job": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/job" } },
        },
        "allOf": rules,
    })
}

fn matrix() -> Value {
    let axis = |key: &'static str| {
        (key.to_owned(), json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": of(key) }))
    };
    let mut axes: Map<String, Value> = axis_keys().map(axis).collect();
    let exclude =
        json!({ "type": "object", "properties": properties(axis_keys()), "additionalProperties": false });
    axes.insert("exclude".to_owned(), json!({ "type": "array", "maxItems": MAX_EXCLUDES, "items": exclude }));
    let any: Vec<Value> = axis_keys().map(|key| json!({ "required": [key] })).collect();
    json!({
        "description": "Axes and their values: a job for each combination that `exclude` leaves",
        "type": "object",
        "properties": axes,
        "additionalProperties": false,
        "anyOf": any,
    })
}

fn properties(keys: impl Iterator<Item = &'static str>) -> Map<String, Value> {
    keys.map(|key| (key.to_owned(), of(key))).collect()
}

/// The schema of a key's value, with a sentence for the editor.
fn value(key: &str) -> Value {
    let label = json!({ "type": "string", "maxLength": MAX_LABEL_CHARS, "pattern": LABEL });
    let link = json!({ "type": "string", "maxLength": MAX_URL_CHARS, "pattern": LINK });
    let flag = json!({ "type": "boolean" });
    let (says, schema) = match key {
        "type" => ("What to render, and with which model", json!({ "enum": JobType::ALL })),
        "prompt" => (
            "What the video shows",
            json!({ "type": "string", "maxLength": MAX_PROMPT_CHARS, "pattern": NOT_BLANK }),
        ),
        "duration" => (
            "Seconds; 5 when unset",
            json!({ "type": "integer", "minimum": DURATION_S.start(), "maximum": DURATION_S.end() }),
        ),
        "aspect_ratio" => ("16:9 when unset", json!({ "enum": AspectRatio::ALL })),
        "image" => ("Start image: a public link", link),
        "end_image" => ("End frame: a public link", link),
        "video" => ("Reference video, or the video to edit: a public link", link),
        "images" => (
            "Reference images: public links",
            json!({ "type": "array", "minItems": 1, "maxItems": MAX_IMAGES, "items": link }),
        ),
        "sound" => ("Native audio; on when unset", flag),
        "negative_prompt" => ("What to avoid", json!({ "type": "string" })),
        "cfg_scale" => (
            "How closely to follow the prompt; 0.5 when unset",
            json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        ),
        "keep_original_sound" => ("Keep the sound of the video that comes in", flag),
        "name" => ("In tables and file names; one job of a file each", label),
        "output" => (
            "Where the video goes, below output.root: a template",
            json!({ "type": "string", "pattern": NOT_BLANK }),
        ),
        "tags" => {
            let tag = json!({ "type": "string", "maxLength": MAX_TAG_CHARS, "pattern": LABEL });
            ("Labels for filters and sums", json!({ "type": "array", "maxItems": MAX_TAGS, "items": tag }))
        }
        "priority" => (
            "Higher first",
            json!({ "type": "integer", "minimum": PRIORITY.start(), "maximum": PRIORITY.end() }),
        ),
        "takes" => (
            "Renders of this request, each one paid",
            json!({ "type": "integer", "minimum": TAKES.start(), "maximum": TAKES.end() }),
        ),
        "not_before" => {
            ("Not submitted earlier; with an offset or Z", json!({ "type": "string", "pattern": TIME }))
        }
        "key" => ("Queued only once, whatever else changes", label),
        "max_credits" => {
            ("What it may cost", json!({ "type": "integer", "minimum": 1, "maximum": i64::MAX }))
        }
        "again" => ("Render and pay once more although it was done before", flag),
        "extra" => {
            let known: Vec<_> = axis_keys().collect();
            let unknown = json!({ "not": { "enum": known } });
            (
                "Fields newer than this klingd, sent as they are",
                json!({ "type": "object", "propertyNames": unknown }),
            )
        }
        // `matrix` has a schema of its own.
        _ => ("", json!({})),
    };
    let mut described = json!({ "description": says });
    if let (Value::Object(all), Value::Object(schema)) = (&mut described, schema) {
        all.extend(schema);
    }
    described
}

/// Types that agree in `fields`, which are not none.
fn groups(fields: impl Fn(JobType) -> Vec<Field>) -> Vec<(Vec<JobType>, Vec<Field>)> {
    let mut groups: Vec<(Vec<JobType>, Vec<Field>)> = Vec::new();
    for job_type in JobType::ALL {
        let fields = fields(job_type);
        match groups.iter_mut().find(|(_, other)| *other == fields) {
            Some((types, _)) => types.push(job_type),
            None if fields.is_empty() => {}
            None => groups.push((vec![job_type], fields)),
        }
    }
    groups
}

fn needs() -> Vec<(Vec<JobType>, Vec<Field>)> {
    groups(|job_type| job_type.needs_one_of().to_vec())
}

fn in_matrix(rule: &Value) -> Value {
    json!({ "required": ["matrix"], "properties": { "matrix": rule } })
}

/// The key stands in the job, or is an axis of its matrix.
fn has(key: &str) -> Value {
    json!({ "anyOf": [{ "required": [key] }, in_matrix(&json!({ "required": [key] }))] })
}

fn has_any(fields: &[Field]) -> Value {
    json!({ "anyOf": fields.iter().map(|field| has(field.name())).collect::<Vec<_>>() })
}

/// The job is of one of these types, itself or in a cell. What `exclude` takes away again is not followed.
fn has_type(types: &[JobType]) -> Value {
    let own = json!({ "required": ["type"], "properties": { "type": { "enum": types } } });
    let cell = json!({
        "required": ["type"],
        "not": { "required": ["exclude"] },
        "properties": { "type": { "type": "array", "contains": { "enum": types } } },
    });
    json!({ "anyOf": [own, in_matrix(&cell)] })
}

/// None of these fields, in the job or as an axis.
fn without(fields: &[Field]) -> Value {
    let none: Map<String, Value> =
        fields.iter().map(|field| (field.name().to_owned(), json!(false))).collect();
    let mut properties = none.clone();
    properties.insert("matrix".to_owned(), json!({ "properties": none }));
    json!({ "properties": properties })
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
