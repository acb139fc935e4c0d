//! What was asked for: files or flags, read into batches and checked as far as it can be without the queue.

use anyhow::Result;
use indicatif::ProgressBar;

use super::{EnqueueArgs, JobArgs, NOTHING, placed::Placed};
use crate::{
    cli::{
        Context, Exit,
        exit::Refusal,
        job_files::{self, Batch, Findings, Reading},
        pile::{Pile, Priced},
        render::text::count,
    },
    config::Config,
    domain::{Credits, job::NewJob, request::Draft},
    intake::{
        flags::{Changes, CheckedChanges, FlagError, Flags},
        jobfile::Code,
    },
    store::enqueue::PackedBatch,
};

/// The batch of flags.
const BATCH_OF_FLAGS: &str = "enqueue";

/// Everything that was asked for, right in every job.
pub struct Order {
    /// A batch each file, or one of flags.
    pub batches: Vec<Batch>,
    /// What all new jobs together may cost.
    pub max_credits: Option<Credits>,
}

impl Order {
    /// Reads it. What is wrong was said.
    pub fn read(context: &Context, config: &Config, args: EnqueueArgs) -> Result<Self> {
        let max_credits = args.max_credits.map(Credits::new);
        let batches = match (args.files.is_empty(), args.job == JobArgs::default()) {
            (true, false) => vec![from_flags(context, config, args)?],
            (false, true) => from_files(context, config, args)?,
            (true, true) => {
                return Err(Refusal::usage(
                    "name job files, - for standard input, or a job by flags: klingd enqueue --type TYPE --prompt TEXT",
                ));
            }
            (false, false) => {
                return Err(Refusal::usage(
                    "a job is described in a file or by flags, not both; beside files go --tag, --priority, --not-before, \
                     --max-credits and --again",
                ));
            }
        };
        Ok(Self { batches, max_credits })
    }

    /// All its jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &Priced> {
        self.batches.iter().flat_map(|batch| batch.jobs.priced())
    }

    /// The jobs that are not there already.
    pub fn new_jobs<'a>(&'a self, placed: &'a [Placed]) -> impl Iterator<Item = &'a Priced> {
        self.jobs().zip(placed).filter(|(_, placed)| !placed.existing).map(|(job, _)| job)
    }

    /// As the store takes it; `bar` shows how far it is.
    pub fn packed(&self, bar: &ProgressBar) -> Vec<PackedBatch> {
        let packed = |batch: &Batch| {
            let bar = bar.clone();
            let packs = batch.jobs.packs();
            PackedBatch {
                name: batch.name.clone(),
                source: batch.source.clone(),
                max_credits: batch.max_credits,
                jobs: Box::new(packs.inspect(move |pack| {
                    bar.inc(pack.as_ref().map_or(0, |pack| pack.len() as u64));
                })),
            }
        };
        self.batches.iter().map(packed).collect()
    }
}

fn from_flags(context: &Context, config: &Config, args: EnqueueArgs) -> Result<Batch> {
    let EnqueueArgs { job, tags, priority, not_before, again, .. } = args;
    let draft = Draft {
        job_type: job.job_type,
        prompt: job.prompt,
        duration: job.duration,
        aspect_ratio: job.aspect_ratio,
        image: job.image,
        end_image: job.end_image,
        video: job.video,
        images: job.images,
        sound: (job.sound || job.no_sound).then_some(job.sound),
        negative_prompt: job.negative_prompt,
        cfg_scale: job.cfg_scale,
        keep_original_sound: job.keep_original_sound,
        extra: serde_json::Map::new(),
    };
    let flags = Flags {
        draft,
        name: job.name,
        output: job.output,
        tags,
        priority,
        not_before,
        takes: job.takes,
        key: job.key,
        // Compared with what is new, when that is known.
        max_credits: None,
        again,
    };
    let jobs = job_files::with_rules(config, |rules| flags.read(rules))
        .map_err(|errors| refused(context, &errors))?;
    let mut pile = Pile::new(config.data_dir.clone());
    jobs.iter().try_for_each(|job| pile.push(job))?;
    Ok(Batch { name: BATCH_OF_FLAGS.to_owned(), source: "flags".to_owned(), max_credits: None, jobs: pile })
}

fn refused(context: &Context, errors: &[FlagError]) -> anyhow::Error {
    job_files::complain_of_flags(context, errors);
    let exit =
        if errors.iter().all(|e| e.code == Code::OverMaxCredits) { Exit::Budget } else { Exit::Invalid };
    Refusal { exit, message: format!("{NOTHING}: {}", count(errors.len(), "error")) }.into()
}

fn from_files(context: &Context, config: &Config, args: EnqueueArgs) -> Result<Vec<Batch>> {
    let changes =
        Changes { name: None, tags: args.tags, priority: args.priority, not_before: args.not_before };
    let changes = changes.read().map_err(|errors| refused(context, &errors))?;
    let change = |job: &mut NewJob| change(job, &changes, args.again);
    let reading = Reading { context, config, scratch: &config.data_dir, change: &change };
    let Findings { batches, errors, only_money } = job_files::read(reading, &args.files)?;
    if errors > 0 {
        let exit = if only_money { Exit::Budget } else { Exit::Invalid };
        let message = format!("{NOTHING}: {}", count(errors, "error"));
        return Err(Refusal { exit, message }.into());
    }
    Ok(batches)
}

/// What the command line says of jobs in files: it adds tags, and wins where there can be only one.
fn change(job: &mut NewJob, changes: &CheckedChanges, again: bool) {
    for tag in changes.tags.iter().flatten() {
        if !job.tags.contains(tag) {
            job.tags.push(tag.clone());
        }
    }
    job.priority = changes.priority.unwrap_or(job.priority);
    job.not_before = changes.not_before.or(job.not_before);
    job.again |= again;
}
