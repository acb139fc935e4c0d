//! `klingd enqueue`: jobs from files, standard input or flags, all of them or none.
//!
//! Everything is read and checked before the queue is opened: a slow standard input keeps nobody waiting.

mod order;
mod placed;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use self::{
    order::Order,
    placed::{Placed, expected, show},
};
use super::{
    Context, Exit, price,
    progress::jobs_bar,
    render::Look,
    view::View,
    wait::{self, WaitArgs},
};
use crate::{
    config::Config,
    domain::{Credits, JobId},
    store::{Store, StoreError},
};

/// What every refusal begins with.
const NOTHING: &str = "nothing was queued";

/// The price is shown where the question is asked; a table of three columns fits everywhere.
const ON_STDERR: Look = Look::Terminal { width: 80, height: 24, colour: false };

/// Flags of `enqueue`.
#[derive(Args)]
pub struct EnqueueArgs {
    /// Job files (.toml, .json, .jsonl), or - for standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    job: JobArgs,
    /// A label for filters and sums (repeatable); beside files: for all their jobs too
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// -100 to 100, higher first
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    priority: Option<i64>,
    /// Not submitted earlier: RFC 3339 with an offset
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// What all new jobs together may cost
    #[arg(long, value_name = "CREDITS", value_parser = clap::value_parser!(u64).range(1..))]
    max_credits: Option<u64>,
    /// Render and pay once more what is there already
    #[arg(long)]
    again: bool,
    /// Only say what would be queued, what is there already, and the price
    #[arg(long)]
    dry_run: bool,
    /// Wait until the jobs rest, as `klingd wait`
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

/// One job as flags. The provider's fields have the provider's names.
#[derive(Args, Default, PartialEq)]
struct JobArgs {
    /// The provider's type: `klingd config prices` lists the twelve
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// What the video shows, at most 2000 characters
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Seconds, 3 to 15
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS")]
    duration: Option<i64>,
    /// 16:9, 9:16 or 1:1
    #[arg(long, value_name = "RATIO")]
    aspect_ratio: Option<String>,
    /// Start image (image-to-video)
    #[arg(long, value_name = "URL")]
    image: Option<String>,
    /// End frame (image-to-video)
    #[arg(long, value_name = "URL")]
    end_image: Option<String>,
    /// Reference video, or the video to edit
    #[arg(long, value_name = "URL")]
    video: Option<String>,
    /// Reference images (repeatable)
    #[arg(long, value_name = "URL", num_args = 1..)]
    images: Option<Vec<String>>,
    /// With native audio (the provider's default)
    #[arg(long, overrides_with = "no_sound")]
    sound: bool,
    /// Without audio; cheaper with Kling 3.0
    #[arg(long, overrides_with = "sound")]
    no_sound: bool,
    /// What to avoid
    #[arg(long, value_name = "TEXT")]
    negative_prompt: Option<String>,
    /// How closely to follow the prompt, 0 to 1 (Kling 3.0)
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    cfg_scale: Option<f64>,
    /// Keep the sound of the video that comes in
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    keep_original_sound: Option<bool>,
    /// The name in tables and file names
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where the video goes, below output.root: a template
    #[arg(long, value_name = "TEMPLATE")]
    output: Option<String>,
    /// Renders of this request, 1 to 20
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    takes: Option<i64>,
    /// The key against accidental repetition
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// Queues.
pub async fn run(context: Context, args: EnqueueArgs) -> Result<Exit> {
    let config = context.config()?;
    let (dry_run, waits) = (args.dry_run, args.wait);
    let order = Order::read(&context, &config, args)?;
    let work = |store| queue(&context, &config, store, order, dry_run, waits);
    let Some(ids) = context.with_store(&config, work).await? else {
        context.say(NOTHING);
        return Ok(Exit::Usage);
    };
    if dry_run {
        return Ok(Exit::Done);
    }
    if !context.daemon_runs(&config.data_dir) {
        context.say(&super::view::no_daemon(config.sandbox));
    }
    if waits && !ids.is_empty() { wait::run(context, WaitArgs::of(ids)).await } else { Ok(Exit::Done) }
}

/// Queues the order and shows what became of it; `None` when the price was not agreed to. Gives the jobs to wait for.
async fn queue(
    context: &Context,
    config: &Config,
    store: Store,
    order: Order,
    dry_run: bool,
    waits: bool,
) -> Result<Option<Vec<JobId>>> {
    if dry_run || may_be_refused(&order, config) {
        let placed = expected(&store, &order).await?;
        let charged = price::charged_ever(&store).await?;
        let new = || order.new_jobs(&placed);
        price::refuse_what_never_fits(new(), &config.budget, charged).context(NOTHING)?;
        let estimate = price::of(new());
        if let Some(allowed) = order.max_credits.filter(|allowed| estimate > *allowed) {
            return Err(StoreError::TooExpensive { estimate, allowed }).context(NOTHING);
        }
        if dry_run {
            show(context, config, &store, &order, &placed, dry_run).await?;
            return Ok(Some(Vec::new()));
        }
        if estimate > config.budget.confirm_above {
            context.say(&price::table(new(), ON_STDERR));
            let above = config.budget.confirm_above;
            if !context.confirm(&format!(
                "This costs {estimate} credits, more than {above} (budget.confirm_above). Queue it?"
            ))? {
                return Ok(None);
            }
        }
    }
    // Read before: what the daemon reserves for these very jobs must not count twice.
    let caps = View::read(&store, config, context).await?;
    // Of what was asked above the commit checks `max_credits` again, for the queue may have changed meanwhile. The caps are
    // the submits' own: nothing is paid past them, whatever is queued.
    let now = context.clock.now();
    let bar = jobs_bar("queueing", order.jobs().count(), context.shows_progress());
    let queued = store.enqueue_packed(order.packed(&bar), order.max_credits, now).await;
    bar.finish_and_clear();
    let placed: Vec<Placed> = queued.context(NOTHING)?.into_iter().map(Placed::from).collect();
    show(context, config, &store, &order, &placed, dry_run).await?;
    if let Some(warning) = too_little_left(&caps, price::of(order.new_jobs(&placed))) {
        context.say(&warning);
    }
    Ok(Some(if waits { there(&store, &placed).await? } else { Vec::new() }))
}

/// That the caps have not enough left for all of an order: its jobs are queued, and some of them wait.
fn too_little_left(view: &View, estimate: Credits) -> Option<String> {
    let View { budget, spent, .. } = view;
    let caps = [
        ("budget.total", budget.total, spent.in_total(), "until it is raised"),
        ("budget.per_day", budget.per_day, spent.of_day(), "until midnight or longer"),
    ];
    caps.into_iter().find_map(|(key, cap, used, wait)| {
        let left = cap.minus(used);
        (cap > Credits::ZERO && estimate > left && estimate > Credits::ZERO).then(|| {
            format!("warning: {key} has {left} of {cap} credits left, these jobs cost {estimate}: some wait {wait}")
        })
    })
}

/// Whether what is there already could decide about the order: if not even all of it costs too much, nobody need ask.
fn may_be_refused(order: &Order, config: &Config) -> bool {
    let all = price::of(order.jobs());
    let budget = &config.budget;
    let caps = [budget.per_job, budget.per_day, budget.total, order.max_credits];
    all > budget.confirm_above || caps.into_iter().any(|cap| cap.is_some())
}

/// The jobs that can be waited for: of a pruned one only the key is left.
async fn there(store: &Store, placed: &[Placed]) -> Result<Vec<JobId>> {
    let ids: Vec<JobId> = placed.iter().filter_map(|placed| placed.id).collect();
    let there = store.labels_of(&ids).await?;
    Ok(ids.into_iter().filter(|id| there.contains_key(id)).collect())
}
