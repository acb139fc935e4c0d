//! Where the jobs of an order end up, and how that is told.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use serde_json::{Value, json};

use super::order::Order;
use crate::{
    cli::{
        Context, expanded,
        job_files::Batch,
        json, price,
        render::{
            table::{Cell, Column, Fit, table},
            text::line,
        },
        view::View,
    },
    config::Config,
    domain::{
        Credits, Job, JobId, State,
        job::{NewJob, Version},
        state::Label,
    },
    store::{Store, enqueue::Queued},
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
    // Within one file equal jobs are an error; the key of a job of an earlier file is as good as there.
    let several = order.batches.len() > 1;
    let mut seen = HashSet::new();
    let mut placed = Vec::new();
    for batch in &order.batches {
        let mut jobs = batch.jobs.priced().iter();
        for pack in batch.jobs.packs() {
            let pack = pack?;
            let holders = store.holders(&pack).await?;
            let twice = if several {
                pack.keys()?.into_iter().map(|key| !seen.insert(key)).collect()
            } else {
                vec![false; pack.len()]
            };
            placed.extend(
                holders
                    .into_iter()
                    .zip(twice)
                    .zip(jobs.by_ref())
                    .map(|((id, twice), job)| Placed { id, existing: !job.again && (id.is_some() || twice) }),
            );
        }
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
    if context.global.json {
        print_json(context, config, store, order, placed).await?;
    } else if placed.len() > LISTED && context.out_is_terminal() {
        context.print(&price::table(order.new_jobs(placed), context.look()));
    } else {
        print_rows(context, store, order, placed, dry_run).await?;
    }
    let existing = placed.iter().filter(|p| p.existing).count();
    let new = Credits::new((placed.len() - existing) as u64);
    let noun = if new == Credits::new(1) { "job" } else { "jobs" };
    let queued = if dry_run { "would be queued" } else { "queued" };
    let mut sum = format!("{new} {noun} {queued}: {} credits", price::of(order.new_jobs(placed)));
    if existing > 0 {
        sum += &format!("; {} there already (--again renders and pays again)", Credits::new(existing as u64));
    }
    context.say(&sum);
    Ok(())
}

/// Jobs that a terminal lists one by one; of more, a person reads the sum.
const LISTED: usize = 200;

const COLUMNS: [Column; 5] = [
    Column { title: "ID", fit: Fit::Number, from_width: 0 },
    Column { title: "NAME", fit: Fit::Cut, from_width: 0 },
    Column { title: "TYPE", fit: Fit::Whole, from_width: 0 },
    Column { title: "CREDITS", fit: Fit::Number, from_width: 0 },
    RESULT,
];
const RESULT: Column = Column { title: "RESULT", fit: Fit::Whole, from_width: 0 };

/// A row each, a pack at a time: piped, a table may have any length.
async fn print_rows(
    context: &Context,
    store: &Store,
    order: &Order,
    placed: &[Placed],
    dry_run: bool,
) -> Result<()> {
    let look = context.look();
    let columns: Vec<Column> =
        if dry_run { [&COLUMNS[..1], &expanded::COLUMNS, &[RESULT]].concat() } else { COLUMNS.to_vec() };
    let mut places = placed.iter();
    let mut head = true;
    for batch in &order.batches {
        let mut priced = batch.jobs.priced().iter();
        for pack in batch.jobs.packs() {
            let pack = pack?;
            let places: Vec<&Placed> = places.by_ref().take(pack.len()).collect();
            let existing: Vec<JobId> = places.iter().filter(|p| p.existing).filter_map(|p| p.id).collect();
            let states =
                if existing.is_empty() { HashMap::new() } else { store.labels_of(&existing).await? };
            let id = |place: &Placed| Cell::from(place.id.map(|id| id.to_string()).unwrap_or_default());
            let rows: Vec<Vec<Cell>> = if dry_run {
                let middle = pack.jobs()?.into_iter().map(|job| expanded::row(&job, look));
                let rows = places.iter().zip(middle);
                rows.map(|(p, row)| [vec![id(p)], row, vec![result(p, &states, dry_run)]].concat()).collect()
            } else {
                let rows = places.iter().zip(priced.by_ref());
                rows.map(|(p, job)| {
                    vec![
                        id(p),
                        job.name.as_deref().map(line).unwrap_or_default().into(),
                        job.job_type.as_str().into(),
                        price::credits(job.estimate, look).into(),
                        result(p, &states, dry_run),
                    ]
                })
                .collect()
            };
            let drawn = table(&columns, &rows, look);
            context.print(if head { &drawn } else { drawn.split_once('\n').map_or("", |(_, rows)| rows) });
            head = false;
        }
    }
    Ok(())
}

fn result(placed: &Placed, states: &HashMap<JobId, Label>, dry_run: bool) -> Cell {
    match placed {
        Placed { existing: false, .. } if dry_run => "would be queued".into(),
        Placed { existing: false, .. } => "queued".into(),
        Placed { id: None, .. } => "the same job as one before it".into(),
        Placed { id: Some(id), .. } => match states.get(id) {
            Some(state) => format!("there already: {state}").into(),
            None => "there already: pruned".into(),
        },
    }
}

/// The jobs of the contract, with `existing` beside their keys.
async fn print_json(
    context: &Context,
    config: &Config,
    store: &Store,
    order: &Order,
    placed: &[Placed],
) -> Result<()> {
    let view = View::read(store, config, context).await?;
    let mut places = placed.iter();
    for batch in &order.batches {
        for pack in batch.jobs.packs() {
            let pack = pack?;
            let places: Vec<&Placed> = places.by_ref().take(pack.len()).collect();
            let ids: Vec<JobId> = places.iter().filter_map(|place| place.id).collect();
            let (there, outputs) = (store.jobs_there(&ids).await?, store.outputs_of(&ids).await?);
            // Only of what is not there the plan is told.
            let plans =
                if there.len() < ids.len() || ids.len() < places.len() { pack.jobs()? } else { Vec::new() };
            for (n, place) in places.into_iter().enumerate() {
                let found = place.id.and_then(|id| Some((there.get(&id)?, outputs.get(&id))));
                let mut value = match found {
                    Some((job, outputs)) => json::job(job, outputs.map_or(&[], Vec::as_slice), &view),
                    None => match plans.get(n) {
                        Some(job) => as_planned(batch, job, place, &view),
                        None => continue,
                    },
                };
                value["existing"] = json!(place.existing);
                context.print(&value.to_string());
            }
        }
    }
    Ok(())
}

/// A job that has no row: not yet, or no longer.
fn as_planned(batch: &Batch, job: &NewJob, placed: &Placed, view: &View) -> Value {
    let mut value = json::job(&planned(batch, job, view), &[], view);
    value["id"] = json!(placed.id);
    value["created_at"] = Value::Null;
    if placed.existing {
        value["state"] = Value::Null;
    }
    value
}

/// The job as it would be queued.
fn planned(batch: &Batch, job: &NewJob, view: &View) -> Job {
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
