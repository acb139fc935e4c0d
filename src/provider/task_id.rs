//! Where an answer to a submit carries a task id.
//!
//! Two questions with opposite care. *Which task is ours?* must not guess: a wrong id would be followed for a paid
//! job. *Is there any task?* must not overlook one: an answer with a task id in it is never taken for "not charged".

use serde_json::Value;

use crate::domain::{TaskId, job_type::Model};

/// What stands in the place of an id when there is none.
const PLACEHOLDERS: [&str; 7] = ["null", "none", "undefined", "false", "n/a", "0", "-1"];
/// Keys under which a provider repeats what was asked: an id in there is the user's, not the answer's.
const ECHOES: [&str; 6] = ["request", "input", "params", "parameters", "payload", "extra"];
/// The shortest word that is believed to be a task id by its looks alone; the page's have 15 characters.
const SHORTEST_BY_LOOKS: usize = 10;

/// The task that an accepting answer made: at the documented place, else the only one that it names, else an `id`
/// that looks like one. `None` where it names none, or several.
pub(super) fn of_answer(answer: &Value) -> Option<TaskId> {
    if let Some(documented) =
        answer.pointer("/data/task_id").and_then(text_of).and_then(|id| TaskId::parse(&id))
    {
        return Some(documented);
    }
    let mut named = Vec::new();
    collect(answer, true, &mut named);
    match named.as_slice() {
        [only] => TaskId::parse(only),
        // A bare `id` may be the request's: it is taken only when it looks like a task's.
        [] => ["/data/id", "/id", "/data", "/data/0/id", "/data/0"]
            .iter()
            .filter_map(|place| answer.pointer(place).and_then(Value::as_str))
            .find(|text| looks_like_one(text))
            .and_then(TaskId::parse),
        [_, _, ..] => None,
    }
}

/// The text of any task id in `body`, wherever and however it stands: under a key for task ids, in an echo, in JSON
/// within a string, in what is no JSON at all, or as a word that looks like one. `json` is the body parsed, where it
/// can be.
pub(super) fn mentioned(body: &str, json: Option<&Value>) -> Option<String> {
    let mut named = Vec::new();
    if let Some(json) = json {
        // The parser knows what the raw text hides (`"task\u005fid"`) …
        collect(json, false, &mut named);
    }
    // … and the raw text has what no parser gives: cut JSON, and keys that came twice. Without its backslashes, JSON
    // within a string reads like any other.
    let raw = || body.replace('\\', "");
    named.into_iter().next().or_else(|| after_a_key(&raw())).or_else(|| by_looks(body))
}

/// An id as a value: text, or a whole number in digits. Not what stands for its absence.
pub(super) fn text_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if number.is_u64() => number.to_string(),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty() && !PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str())).then_some(text)
}

/// Every different id under a key for task ids.
fn collect(value: &Value, skip_echoes: bool, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                let id = if is_task_key(key) { text_of(inner) } else { None };
                if let Some(id) = id.filter(|id| !found.contains(id)) {
                    found.push(id);
                }
                if !(skip_echoes && ECHOES.contains(&key.as_str())) {
                    collect(inner, skip_echoes, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, skip_echoes, found)),
        Value::String(_) | Value::Number(_) | Value::Null | Value::Bool(_) => {}
    }
}

/// `task_id`, `taskId`, `TaskID`, `task-id` …
fn is_task_key(key: &str) -> bool {
    key.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).eq("taskid".chars())
}

/// The first value in raw text after a quoted key for task ids, whole or cut.
fn after_a_key(text: &str) -> Option<String> {
    let mut parts = text.split('"');
    while let Some(key) = parts.next() {
        if !is_task_key(key) {
            continue;
        }
        let mut ahead = parts.clone();
        let between = ahead.next().unwrap_or_default().trim();
        let value = match between.strip_prefix(':') {
            Some("") => ahead.next().unwrap_or_default(),
            Some(bare) => bare.trim_start().split([',', '}']).next().unwrap_or_default(),
            None => continue,
        };
        if let Some(id) = text_of(&Value::String(value.to_owned())) {
            return Some(id);
        }
    }
    None
}

/// A word of the text that looks like a task id. Not in a web page: the provider's own have the documentation's example.
fn by_looks(text: &str) -> Option<String> {
    if text.trim_start().starts_with('<') {
        return None;
    }
    text.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| looks_like_one(word)).map(str::to_owned)
}

/// `n75…` or `n71…`, long enough, letters and digits only.
fn looks_like_one(word: &str) -> bool {
    [Model::Kling3, Model::O3].iter().any(|model| word.starts_with(model.task_prefix()))
        && word.len() >= SHORTEST_BY_LOOKS
        && word.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(answer: Value) -> Option<String> {
        of_answer(&answer).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn an_accepted_task_is_named_without_guessing() {
        for answer in [
            json!({"code": 200, "data": {"task_id": "n75abc123kling3"}}),
            json!({"data": {"taskId": "n75abc123kling3"}}),
            json!({"task_id": "n75abc123kling3"}),
            json!({"data": [{"task_id": "n75abc123kling3"}]}),
            json!({"result": {"TaskID": "n75abc123kling3", "task-id": "n75abc123kling3"}}),
            json!({"data": {"id": "n75abc123kling3"}}),
            json!({"data": "n75abc123kling3"}),
            json!({"task_id": "gateway-1", "data": {"task_id": "n75abc123kling3"}}),
            json!({"data": {"taskId": "n75abc123kling3", "request": {"task_id": "n75another00001"}}}),
        ] {
            assert_eq!(of(answer.clone()).as_deref(), Some("n75abc123kling3"), "{answer}");
        }
        assert_eq!(of(json!({"data": {"task_id": 123_456}})).as_deref(), Some("123456"));
        for answer in [
            json!({"code": 200, "data": {}}),
            json!({"data": {"task_id": null}}),
            json!({"data": {"task_id": ""}}),
            json!({"data": {"task_id": "null"}}),
            json!({"data": {"task_id": "not created"}}),
            json!({"data": {"task_id": {"id": 1}}}),
            json!({"id": "req_8812aa", "data": {"id": "12"}}),
            json!({"a": {"task_id": "n75abc123kling3"}, "b": {"task_id": "n75another00001"}}),
            json!({"request": {"task_id": "n75abc123kling3"}}),
        ] {
            assert_eq!(of(answer.clone()), None, "{answer}");
        }
    }

    #[test]
    fn no_mention_is_overlooked() {
        for body in [
            r#"{"error":{"code":"X","task_id":"abc"}}"#,
            r#"{"error":"X","request":{"taskId":"abc"}}"#,
            r#"{"task_id":"abc"}"#,
            r#"{"task_id":"abc","task_id":null}"#,
            r#"{"message":"{"data":{"task_id":"abc"}}"}"#,
            r#"{"code":500,"data":{"task_id" : "abc","#,
            r#"{"code":500,"data":{"task_id":"abc"#,
            r#"<pre>{"task-id": "abc"}</pre>"#,
            r#"{"taskid":77}"#,
            r#"{"taskid":77"#,
            "task n75abc123kling3 could not be queued",
        ] {
            let json = serde_json::from_str(body).ok();
            assert!(mentioned(body, json.as_ref()).is_some(), "{body}");
        }
        for body in [
            "",
            r#"{"code":"INVALID_PROMPT","task_id":null,"taskId":""}"#,
            r#"{"message":"task_id is missing"}"#,
            r#"{"message":"the "task_id" field"}"#,
            "n75 n71short",
            "<html>for example n75abc123kling3</html>",
        ] {
            let json = serde_json::from_str(body).ok();
            assert_eq!(mentioned(body, json.as_ref()), None, "{body}");
        }
    }
}
