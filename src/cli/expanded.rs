//! The jobs of a file as they come out of it, matrix cells and takes expanded: what `check --expand` and a dry run show.

use serde_json::{Value, json};

use super::{
    price,
    render::{
        Look,
        table::{Cell, Column, Fit},
        text::line,
    },
};
use crate::domain::job::NewJob;

/// The columns of [`row`].
pub const COLUMNS: [Column; 7] = [
    Column { title: "NAME", fit: Fit::Cut, from_width: 0 },
    Column { title: "TAKE", fit: Fit::Number, from_width: 0 },
    Column { title: "TYPE", fit: Fit::Whole, from_width: 0 },
    Column { title: "SECONDS", fit: Fit::Number, from_width: 90 },
    Column { title: "RATIO", fit: Fit::Whole, from_width: 90 },
    Column { title: "SOUND", fit: Fit::Whole, from_width: 90 },
    Column { title: "CREDITS", fit: Fit::Number, from_width: 0 },
];

/// One job.
pub fn row(job: &NewJob, look: Look) -> Vec<Cell> {
    let request = &job.request;
    vec![
        // What has no name is told apart by what it shows.
        line(job.name.as_deref().unwrap_or(request.prompt())).into(),
        job.take.to_string().into(),
        request.job_type().as_str().into(),
        request.duration_s().map(|s| s.to_string()).unwrap_or_default().into(),
        request.aspect_ratio().as_str().into(),
        if request.sound() { "on" } else { "off" }.into(),
        price::credits(job.estimate, look).into(),
    ]
}

/// One job under the keys that it will have when it is queued.
pub fn as_json(batch: &str, job: &NewJob) -> Value {
    json!({
        "name": job.name,
        "type": job.request.job_type(),
        "request": job.request,
        "batch": batch,
        "tags": job.tags,
        "priority": job.priority,
        "take": job.take,
        "key": job.key.as_str(),
        "not_before": super::json::time(job.not_before),
        "again": job.again,
        "estimated_credits": job.estimate,
        "source": job.source,
    })
}
