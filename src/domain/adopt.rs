//! Whether a task that a person found in the provider's panel is the one that an attempt in doubt made.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{job_type::JobType, state::TaskId, time::Timestamp};

/// Clocks of two machines and a queue at the provider: a task made this long before or after the attempt may be its.
const TIME_TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// What status tells of a task, as far as it echoes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Echo {
    /// The fields of the request.
    pub request: Map<String, Value>,
    /// When the provider says it was made.
    pub created_at: Option<Timestamp>,
}

/// Every reason why the task does not look like the attempt's; empty when it does.
pub fn differences(
    task: &TaskId,
    echo: &Echo,
    sent: &Map<String, Value>,
    job_type: JobType,
    at: Timestamp,
) -> Vec<String> {
    let mut found = Vec::new();
    let prefix = job_type.model().task_prefix();
    if !task.as_str().starts_with(prefix) {
        found.push(format!("the id does not begin with {prefix}, as the tasks of {job_type} do"));
    }
    if !echo.request.keys().any(|field| sent.contains_key(field)) {
        found.push("the provider does not say what was asked for".to_owned());
    }
    // Only what is echoed can be compared: the page's example leaves `sound` out.
    for (field, theirs) in &echo.request {
        match sent.get(field) {
            Some(ours) if same(ours, theirs) => {}
            Some(ours) => {
                found.push(format!("`{field}` is {} there, {} was sent", short(theirs), short(ours)))
            }
            // A default that was not sent may be echoed.
            None => {}
        }
    }
    if let Some(made) = echo.created_at {
        let apart = made.since(at).max(at.since(made));
        if apart > TIME_TOLERANCE {
            found.push(format!("it was made at {made}, the attempt began at {at}"));
        }
    }
    found
}

fn same(a: &Value, b: &Value) -> bool {
    // 5 and 5.0 are one duration, whatever the provider's JSON writer made of it.
    a == b || a.as_f64().is_some_and(|x| b.as_f64() == Some(x))
}

/// A value as a sentence shows it: a prompt of 2,000 characters would hide the rest.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(59).collect::<String>() + "…" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(v: Value) -> Map<String, Value> {
        v.as_object().unwrap().clone()
    }

    #[test]
    fn compares_only_what_is_echoed() {
        let sent = object(json!({"type": "pro-text-to-video", "prompt": "a", "duration": 5, "sound": true}));
        let at = Timestamp::from_millis(1_000_000_000_000);
        let task = TaskId::parse("n75abc").unwrap();
        let echo = |request: Value, ms: i64| Echo {
            request: object(request),
            created_at: Some(Timestamp::from_millis(1_000_000_000_000 + ms)),
        };
        let of = |e: &Echo, task: &TaskId| differences(task, e, &sent, JobType::ProTextToVideo, at);
        let good =
            json!({"type": "pro-text-to-video", "prompt": "a", "duration": 5.0, "aspect_ratio": "16:9"});
        assert_eq!(of(&echo(good.clone(), 3_000), &task), Vec::<String>::new());
        assert_eq!(of(&echo(json!({"prompt": "b"}), 0), &task).len(), 1);
        assert_eq!(of(&echo(good.clone(), 3_600_000), &task).len(), 1);
        assert_eq!(of(&echo(good, 0), &TaskId::parse("n71abc").unwrap()).len(), 1);
        assert_eq!(of(&Echo::default(), &task).len(), 1, "silence is not agreement");
        assert_eq!(of(&echo(json!({"model": "kling"}), 0), &task).len(), 1, "nor is talk of something else");
    }
}
