//! Where the jobs of an order end up, and how that is told.

use std::collections::HashSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::order::Order;
use crate::{
    cli::{
        Context, json, price,
        render::{
            Look,
            table::{Cell, Column, Fit, table},
            text::{count, line},
        },
        view::View,
    },
    config::Config,
    domain::{
        Job, JobId, State,
        job::{NewJob, Version},
    },
    store::{
        Store, StoreError,
        enqueue::{NewBatch, Queued},
    },
};

/// What becomes of a job of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its number, or that of the earlier job with its key; `None` while it has none.
    pub id: Option<JobId>,
    /// Its key is there already: nothing is queued.
    pub existing: bool,
}

impl From<Queued> for Placed {
    fn from(Queued { id, existing }: Queued) -> Self {
        Self { id: Some(id), existing }
    }
}

/// What queueing the order would do now.
pub async fn expected(store: &Store, order: &Order) -> Result<Vec<Placed>> {
    let mut seen = HashSet::new();
    let mut placed = Vec::new();
    for batch in &order.batches {
        let holders = store.holders(&batch.jobs).await?;
        placed.extend(batch.jobs.iter().zip(holders).map(|(job, id)| {
            // The key of an earlier job of the same order is as good as there.
            let twice = !seen.insert(&job.key);
            Placed { id, existing: !job.again && (id.is_some() || twice) }
        }));
    }
    Ok(placed)
}

/// Shows each job of the order, and the sum.
pub async fn show(
    context: &Context,
    config: &Config,
    store: &Store,
    order: &Order,
    placed: &[Placed],
    dry_run: bool,
) -> Result<()> {
    let view = View::read(store, config, context.clock).await?;
    let jobs = order.batches.iter().flat_map(|batch| batch.jobs.iter().map(move |job| (batch, job)));
    let mut rows = Vec::with_capacity(placed.len());
    for ((batch, job), placed) in jobs.zip(placed) {
        if context.global.json {
            context.print(&as_json(store, batch, job, placed, &view).await?.to_string());
        } else {
            rows.push(row(store, job, placed, dry_run, context.look()).await?);
        }
    }
    if !context.global.json {
        context.print(&table(&COLUMNS, &rows, context.look()));
    }
    let existing = placed.iter().filter(|p| p.existing).count();
    let new = placed.len() - existing;
    let queued = if dry_run { "would be queued" } else { "queued" };
    let mut sum = format!("{} {queued}: {} credits", count(new, "job"), price::of(order.new_jobs(placed)));
    if existing > 0 {
        sum += &format!("; {existing} there already (--again renders and pays again)");
    }
    context.say(&sum);
    Ok(())
}

const COLUMNS: [Column; 5] = [
    Column { title: "ID", fit: Fit::Number, from_width: 0 },
    Column { title: "NAME", fit: Fit::Cut, from_width: 0 },
    Column { title: "TYPE", fit: Fit::Whole, from_width: 0 },
    Column { title: "CREDITS", fit: Fit::Number, from_width: 0 },
    Column { title: "RESULT", fit: Fit::Whole, from_width: 0 },
];

async fn row(store: &Store, job: &NewJob, placed: &Placed, dry_run: bool, look: Look) -> Result<Vec<Cell>> {
    let what = match placed {
        Placed { existing: false, .. } if dry_run => "would be queued".to_owned(),
        Placed { existing: false, .. } => "queued".to_owned(),
        Placed { id: None, .. } => "the same job as one before it".to_owned(),
        Placed { id: Some(id), .. } => match store.job(*id).await {
            Ok(earlier) => format!("there already: {}", earlier.state.label()),
            Err(StoreError::NoSuchJob(_)) => "there already: pruned".to_owned(),
            Err(other) => return Err(other.into()),
        },
    };
    Ok(vec![
        placed.id.map(|id| id.to_string()).unwrap_or_default().into(),
        job.name.as_deref().map(line).unwrap_or_default().into(),
        job.request.job_type().as_str().into(),
        price::credits(job.estimate, look).into(),
        what.into(),
    ])
}

/// The job of the contract, with `existing` beside its keys.
async fn as_json(
    store: &Store,
    batch: &NewBatch,
    job: &NewJob,
    placed: &Placed,
    view: &View,
) -> Result<Value> {
    let found = match placed.id {
        Some(id) => match store.job(id).await {
            Ok(job) => Some((job, store.outputs(id).await?)),
            // Pruned: the key is all that is left of it.
            Err(StoreError::NoSuchJob(_)) => None,
            Err(other) => return Err(other.into()),
        },
        None => None,
    };
    let mut value = match found {
        Some((job, outputs)) => json::job(&job, &outputs, view),
        None => {
            let mut value = json::job(&planned(batch, job, view), &[], view);
            value["id"] = json!(placed.id);
            value["created_at"] = Value::Null;
            if placed.existing {
                value["state"] = Value::Null;
            }
            value
        }
    };
    value["existing"] = json!(placed.existing);
    Ok(value)
}

/// The job as it would be queued.
fn planned(batch: &NewBatch, job: &NewJob, view: &View) -> Job {
    let NewJob {
        request,
        name,
        output,
        tags,
        priority,
        take,
        not_before,
        key,
        again: _,
        max_credits,
        estimate,
        source,
    } = job.clone();
    Job {
        id: JobId(0),
        version: Version(0),
        state: State::Queued,
        batch: Some(batch.name.clone()),
        charged: None,
        paid_attempts: 0,
        polls: 0,
        created_at: view.now,
        submitted_at: None,
        finished_at: None,
        due_at: not_before,
        error: None,
        notes: Vec::new(),
        made_with: None,
        name,
        request,
        output,
        tags,
        priority,
        take,
        key,
        not_before,
        max_credits,
        estimate,
        source,
    }
}
