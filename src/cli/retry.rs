//! `klingd retry`: the failed step again. A paid task is asked and fetched again for free; a new render is paid again,
//! so it asks.

use anyhow::Result;
use clap::Args;

use super::{
    Context, Exit,
    each::{changed, each},
    exit::Refusal,
    price::refuse_if_it_never_fits,
};
use crate::{
    config::Config,
    domain::{
        AttemptNo, Credits, Job, JobId, State, TaskId,
        plan::retry::{RetryPlan, retry as plan},
    },
    store::{Store, view::AttemptRow},
};

/// Flags of `retry`.
#[derive(Args)]
pub struct RetryArgs {
    /// Jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
    /// Render and pay anew, even where the paid task could be followed for free
    #[arg(long)]
    new_render: bool,
}

/// Retries.
pub async fn run(context: Context, args: RetryArgs) -> Result<Exit> {
    let config = context.config()?;
    context
        .with_store(&config, |store| async {
            // Owned here, so that the last handle goes with the work and the writer ends.
            let store = store;
            let again = |id| again(&context, &config, &store, id, args.new_render);
            Ok(each(&context, &args.ids, again).await)
        })
        .await
}

async fn again(
    context: &Context,
    config: &Config,
    store: &Store,
    id: JobId,
    new_render: bool,
) -> Result<Exit> {
    let job = store.job(id).await?;
    let attempts = store.attempts(id).await?;
    let rendered = attempts.iter().any(AttemptRow::may_have_rendered);
    let plan = plan(&job.state, rendered, new_render);
    let has_ended_so = matches!(plan, None | Some(RetryPlan::Render)) && job.state.has_ended();
    if has_ended_so
        && !new_render
        && let Some((attempt, task)) = other_task(attempts)
    {
        let sentence =
            format!("job {id} follows task {task} of attempt {attempt}, for free: it is paid, too");
        store.follow_other(id, attempt, context.clock.now()).await?;
        return changed(context, config, store, id, &sentence).await;
    }
    let plan = plan.ok_or_else(|| Refusal::usage(nothing_to_retry(&job)))?;
    let price = job.estimate;
    let sentence = match plan {
        RetryPlan::Follow => {
            format!(
                "job {id} is followed again, for free: its task is paid, and asked for its video once more"
            )
        }
        RetryPlan::Resume => {
            format!("job {id} is queued again; nothing is spent on it so far, it costs {price} credits")
        }
        RetryPlan::Render => format!("job {id} is queued again as a new render, for {price} credits"),
    };
    if plan != RetryPlan::Follow {
        refuse_if_it_never_fits(store, config, &job).await?;
    }
    if plan == RetryPlan::Render
        && !context.confirm(&format!(
            "Job {id} {}: a new render costs {price} credits on top. Render it again?",
            spent_so_far(&job)
        ))?
    {
        context.say(&format!("job {id} stays {}", job.state.label()));
        return Ok(Exit::Usage);
    }
    store.retry(id, plan, context.clock.now()).await?;
    changed(context, config, store, id, &sentence).await
}

/// A task that another attempt made and that the job never followed: paid, and nobody has asked for its video yet.
fn other_task(attempts: Vec<AttemptRow>) -> Option<(AttemptNo, TaskId)> {
    let mut unfollowed = attempts.into_iter().filter(|attempt| attempt.unfollowed);
    unfollowed.find_map(|attempt| Some((attempt.n, TaskId::parse(&attempt.task_id?)?)))
}

fn spent_so_far(job: &Job) -> String {
    match job.charged {
        Some(Credits::ZERO) => "has cost nothing in the end".to_owned(),
        Some(charged) => format!("has cost {charged} credits"),
        None => "may have been charged already".to_owned(),
    }
}

fn nothing_to_retry(job: &Job) -> String {
    let Job { id, state, .. } = job;
    let instead = match state {
        State::Queued => format!("it goes by itself; klingd show {id} says what it waits for"),
        State::Submitting { .. } => "its request is on the wire; wait for the answer".to_owned(),
        State::InDoubt { .. } => format!("say what became of its request: klingd resolve {id}"),
        State::Generating { .. } | State::Downloading { .. } => {
            format!("klingd asks and fetches by itself until it is done; klingd show {id} says when next")
        }
        State::Done { .. } => {
            "its video is there; to render it once more, klingd enqueue it with --again".to_owned()
        }
        // These have ended without a video, so there always is something.
        State::Failed { .. } | State::Cancelled { .. } => format!("klingd show {id}"),
    };
    format!("job {id} is {}, there is nothing to retry: {instead}", state.label())
}
