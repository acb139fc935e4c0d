//! `klingd resolve`: a person says what became of a request whose outcome nobody knows, the only way out of `in_doubt`.
//!
//! Evidence goes first: what is on the wire is waited for, what an ended daemon left behind is read, and a task is
//! believed when the provider's echo of it agrees with what was sent.

mod choose;
mod verify;

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{
    Context, Exit,
    each::{changed, each},
    exit::Refusal,
    price::refuse_if_it_never_fits,
    render::text::line,
};
use crate::{
    config::Config,
    daemon,
    disk::LockError,
    domain::{AttemptNo, Job, JobId, State, TaskId},
    store::{Store, person::Resolution, step::Moved, view::AttemptRow},
};

/// How often a job on the wire is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Characters of a note: a remark, not a protocol.
const MAX_NOTE_CHARS: usize = 1000;

/// Flags of `resolve`.
#[derive(Args)]
pub struct ResolveArgs {
    /// Jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
    #[command(flatten)]
    way: WayArgs,
    /// With --task-id: although it does not look like what was sent, or nobody can ask
    #[arg(long, requires = "task_id")]
    force: bool,
    /// Which attempt, when several are open
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// A remark to keep with the attempt
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Exactly one of them; without any, the ways are said.
#[derive(Args)]
#[group(multiple = false)]
struct WayArgs {
    /// It was accepted: this is its task, as the provider's panel shows it
    #[arg(long, value_name = "ID")]
    task_id: Option<String>,
    /// It was not charged: back to the queue
    #[arg(long)]
    not_charged: bool,
    /// Give it up: failed, counted as spent
    #[arg(long)]
    write_off: bool,
    /// Pay again although it may be charged already; the attempt stays in doubt
    #[arg(long)]
    resubmit: bool,
}

/// The way out that a person chose.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    TaskId { task: TaskId, force: bool },
    NotCharged,
    WriteOff,
    Resubmit,
}

impl Way {
    fn of(args: &WayArgs, force: bool, id: i64) -> Result<Self> {
        // clap sees to it that there is not more than one.
        Ok(match &args.task_id {
            Some(text) => {
                let task = TaskId::parse(text.trim()).ok_or_else(|| {
                    Refusal::usage(format!("{text:?} can't be a task id; they look like n75abc123kling3"))
                })?;
                Way::TaskId { task, force }
            }
            None if args.not_charged => Way::NotCharged,
            None if args.write_off => Way::WriteOff,
            None if args.resubmit => Way::Resubmit,
            None => return Err(Refusal::usage(ways(id))),
        })
    }
}

/// What every view names as the next command, `klingd resolve 12`, says when it is typed as it stands.
fn ways(id: i64) -> String {
    format!(
        "look into the provider's panel whether it made a task, then say what you found:\n\
         \x20 klingd resolve {id} --task-id T       it is there: compared with what was sent, then followed\n\
         \x20 klingd resolve {id} --not-charged     it is not there: back to the queue\n\
         \x20 klingd resolve {id} --write-off       give it up; it counts as spent\n\
         \x20 klingd resolve {id} --resubmit        pay again on purpose"
    )
}

/// Resolves.
pub async fn run(context: Context, args: ResolveArgs) -> Result<Exit> {
    let config = context.config()?;
    let first = args.ids.first().copied().unwrap_or_default();
    let way = Way::of(&args.way, args.force, first)?;
    if args.note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE_CHARS) {
        return Err(Refusal::usage(format!("--note: at most {MAX_NOTE_CHARS} characters")));
    }
    if matches!(way, Way::TaskId { .. }) && args.ids.len() > 1 {
        return Err(Refusal::usage("a task belongs to one job: name one id with --task-id"));
    }
    context
        .with_store(&config, |store| async {
            let desk = Desk { context: &context, config: &config, store };
            let attempt = args.attempt.map(AttemptNo);
            let resolve = |id| desk.resolve(id, &way, attempt, args.note.clone());
            Ok(each(&context, &args.ids, resolve).await)
        })
        .await
}

/// What every step of a resolution needs.
struct Desk<'a> {
    context: &'a Context,
    config: &'a Config,
    store: Store,
}

impl Desk<'_> {
    async fn resolve(
        &self,
        id: JobId,
        way: &Way,
        attempt: Option<AttemptNo>,
        note: Option<String>,
    ) -> Result<Exit> {
        let job = self.off_the_wire(id).await?;
        let attempts = self.store.attempts(id).await?;
        let attempt = choose::attempt(&job, &attempts, attempt, way).map_err(Refusal::usage)?;
        let (resolution, note) = match way {
            Way::TaskId { task, force } => {
                let doubts = self.verify(&job, attempt, task, *force).await?;
                (Resolution::Adopt(task.clone()), note.or(doubts))
            }
            Way::NotCharged => (Resolution::NotCharged, note),
            Way::WriteOff => {
                if !self.may_give_up(&job, attempt)? {
                    self.context.say(&format!("job {id} stays {}", job.state.label()));
                    return Ok(Exit::Usage);
                }
                (Resolution::WriteOff, note)
            }
            Way::Resubmit => {
                if !self.may_pay_again(&job, attempt).await? {
                    self.context.say(&format!("job {id} stays in doubt"));
                    return Ok(Exit::Usage);
                }
                (Resolution::Resubmit, note)
            }
        };
        let now = self.context.clock.now();
        let moved = self.store.resolve(id, attempt.n, resolution, note, now).await?;
        changed(self.context, self.config, &self.store, id, &told(id, attempt, way, &moved)).await
    }

    /// The job, once its answer is there. Without a daemon nobody waits for the answer: what the last one left is read
    /// as its next start would, before a person's word counts.
    async fn off_the_wire(&self, id: JobId) -> Result<Job> {
        let Self { context, config, store } = self;
        let mut said = false;
        loop {
            if !context.daemon_runs(&config.data_dir) {
                match daemon::recover_alone(config, store, context.clock).await {
                    Ok(found) if found.replayed > 0 => {
                        context.say("an answer that the database could not take was read first")
                    }
                    Ok(_) => {}
                    // A daemon started meanwhile: it does the same.
                    Err(error) if matches!(error.downcast_ref(), Some(LockError::Held { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
            let job = store.job(id).await?;
            if !matches!(job.state, State::Submitting { .. }) {
                return Ok(job);
            }
            if !said {
                let longest = crate::config::show_duration(config.api.submit_timeout);
                context.say(&format!(
                    "job {id}: the request is on the wire; waiting for its answer (at most {longest})"
                ));
                said = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What has a task is paid, and dropped only with a person's word; of a mere doubt the flag itself is that word.
    fn may_give_up(&self, job: &Job, attempt: &AttemptRow) -> Result<bool> {
        let Some(task) = &attempt.task_id else { return Ok(true) };
        let paid = attempt.charged.unwrap_or(attempt.estimate);
        self.context.confirm(&format!(
            "Job {}: task {} of attempt {} is paid ({paid} credits): a write-off gives nothing back, klingd only stops following it. Write it off?",
            job.id, line(task), attempt.n
        ))
    }

    async fn may_pay_again(&self, job: &Job, attempt: &AttemptRow) -> Result<bool> {
        refuse_if_it_never_fits(&self.store, self.config, job).await?;
        self.context.confirm(&format!(
            "Job {}: attempt {} may be charged already ({} credits); submitting it again costs {} credits on top. Pay again?",
            job.id, attempt.n, attempt.estimate, job.estimate
        ))
    }
}

/// What was done, and what follows.
fn told(id: JobId, attempt: &AttemptRow, way: &Way, moved: &Moved) -> String {
    let AttemptRow { n, estimate, .. } = attempt;
    let stays = || format!("job {id} stays {}", moved.to.label());
    match way {
        Way::TaskId { task, .. } if moved.to.task() == Some(task) && !moved.to.has_ended() => {
            format!("job {id} is {}: it follows task {task} now", moved.to.label())
        }
        Way::TaskId { task, .. } => format!("task {task} is kept with attempt {n}; {}", stays()),
        Way::NotCharged if moved.from != moved.to => {
            // The wish to cancel it came while it was on the wire.
            let again = if moved.to.has_ended() { ", as was asked" } else { " again" };
            format!("job {id} is {}{again}; attempt {n} counts as not charged", moved.to.label())
        }
        Way::NotCharged => format!("attempt {n} counts as not charged; {}", stays()),
        Way::WriteOff if moved.from != moved.to => {
            let again = match moved.to.task() {
                Some(task) => format!("asks for its task {task} once more, for free"),
                None => "renders it anew".to_owned(),
            };
            format!(
                "job {id} is {}: attempt {n} is written off, its {estimate} credits count as spent; klingd retry {id} {again}",
                moved.to.label()
            )
        }
        Way::WriteOff => {
            format!("attempt {n} is written off, its {estimate} credits count as spent; {}", stays())
        }
        Way::Resubmit => format!(
            "job {id} is {} again; attempt {n} stays in doubt until you settle it: klingd resolve {id} --attempt {n}",
            moved.to.label()
        ),
    }
}
