//! The JSON of the contract: what `--json` prints of a job. Keys are always there; unknown is null.

use serde_json::{Map, Value, json};

use super::{render::why::notes, view::View};
use crate::{
    domain::{Job, Timestamp},
    store::{
        download::Output,
        view::{AttemptRow, HistoryRow},
    },
};

/// A job.
pub fn job(job: &Job, outputs: &[Output], view: &View) -> Value {
    json!({
        "id": job.id,
        "name": job.name,
        "state": job.state.label(),
        "reason": view.reason(job),
        "needs_person": job.state.needs_person().is_some(),
        "type": job.request.job_type(),
        "request": job.request,
        "batch": job.batch,
        "tags": job.tags,
        "priority": job.priority,
        "take": job.take,
        "key": job.key.as_str(),
        "not_before": time(job.not_before),
        "task_id": job.state.task(),
        "paid_attempts": job.paid_attempts,
        "polls": job.polls,
        "estimated_credits": job.estimate,
        "charged_credits": job.charged,
        "created_at": job.created_at.to_string(),
        "submitted_at": time(job.submitted_at),
        "finished_at": time(job.finished_at),
        "due_at": time(job.due_at),
        "usual_ms": view.usual.of(job).map(|usual| usual.as_millis()),
        "error": job.error,
        "outputs": outputs.iter().map(output).collect::<Vec<_>>(),
        "notes": notes(job, view),
        "source": job.source,
    })
}

/// A job as a hook is told of it: it has ended or is in doubt, so that nothing around it is a reason.
pub fn told(of: &Job, outputs: &[Output]) -> Value {
    job(of, outputs, &View::alone(of.created_at))
}

/// A job with its history and its attempts: `show --json`.
pub fn whole_job(
    of: &Job,
    outputs: &[Output],
    history: &[HistoryRow],
    attempts: &[AttemptRow],
    view: &View,
) -> Value {
    let mut whole = job(of, outputs, view);
    whole["history"] = history.iter().map(change).collect();
    whole["attempts"] = attempts.iter().map(attempt).collect();
    whole
}

/// A time as the contract writes it.
pub fn time(t: Option<Timestamp>) -> Option<String> {
    t.map(|t| t.to_string())
}

/// Before a video is published its path is a plan, not a file: nobody is told to open it.
fn output(output: &Output) -> Value {
    let file = output.file.as_ref().filter(|_| output.published_at.is_some());
    json!({
        "index": output.index,
        "path": file.map(|f| &f.path),
        "bytes": file.map(|f| f.bytes),
        "sha256": file.map(|f| &f.sha256),
        "url": output.url,
    })
}

fn change(row: &HistoryRow) -> Value {
    json!({
        "at": row.at.to_string(),
        "event": row.event.name(),
        "from": row.from,
        "to": row.to,
        "detail": detail(row),
    })
}

/// What the event carries besides its name; null when that is nothing.
fn detail(row: &HistoryRow) -> Option<Map<String, Value>> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(&row.event) else { return None };
    fields.shift_remove("event");
    (!fields.is_empty()).then_some(fields)
}

fn attempt(row: &AttemptRow) -> Value {
    json!({
        "attempt": row.n,
        "started_at": row.started_at.to_string(),
        "answered_at": time(row.answered_at),
        "outcome": row.outcome,
        "charge": row.charge,
        "estimated_credits": row.estimate,
        "charged_credits": row.charged,
        "refunded_credits": row.refunded,
        "task_id": row.task_id,
        "base_url": row.base_url,
        "key_fingerprint": row.key_fingerprint,
        "request": serde_json::from_slice::<Value>(&row.request).ok(),
        "evidence": row.evidence,
        "note": row.note,
        "unfollowed": row.unfollowed,
    })
}

#[cfg(test)]
mod tests {
    use super::super::render::samples;
    use super::*;

    #[test]
    fn every_key_is_always_there() {
        let view = samples::view();
        let queued = job(&samples::queued(), &[], &view);
        let done = job(&samples::done(), &samples::outputs(), &view);
        let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&queued), keys(&done));
        insta::assert_json_snapshot!("queued", queued);
        insta::assert_json_snapshot!("done", done);
    }

    #[test]
    fn a_file_that_is_not_published_has_no_path() {
        let mut outputs = samples::outputs();
        outputs[0].published_at = None;
        let v = job(&samples::done(), &outputs, &samples::view());
        assert_eq!(v["outputs"][0]["path"], Value::Null);
    }

    #[test]
    fn history_and_attempts_tell_what_happened() {
        let v =
            whole_job(&samples::in_doubt(), &[], &samples::history(), &samples::attempts(), &samples::view());
        insta::assert_json_snapshot!("history", v["history"]);
        insta::assert_json_snapshot!("attempts", v["attempts"]);
    }
}
