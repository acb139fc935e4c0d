//! The poll lane: one free status call for each task that is due.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use tokio::sync::{Notify, OnceCell};
use tracing::{debug, info, warn};

use super::{BESIDE_THE_CALLS, Lane, Look, money, schedules::Schedules};
use crate::{
    clock::Clock,
    domain::{
        Credits, Event, HoldName, Job, JobId, RenderKind, Timestamp,
        label::Label,
        looks::{KeptLooks, Looks},
        plan::{
            download::{DownloadPolicy, FetchFacts, failing_since, given_up},
            poll::{self as plan, PollAnswer, PollFacts, PollPlan, PollPolicy},
        },
        state::{Failure, Watch},
    },
    failpoint::{Point, reach},
    provider::Api,
    store::{Store, StoreError},
    vitals::{self, Call, Part},
};

/// Status calls at once. One call can take tens of seconds (the gateway may ask its own upstream), so there are more of
/// them than submits; `poll.max_per_second` bounds their number in time.
const WIDTH: u32 = 16;

/// Polls tasks.
pub struct PollLane {
    store: Store,
    api: Arc<Api>,
    clock: Clock,
    schedules: Schedules,
    policy: PollPolicy,
    downloads: DownloadPolicy,
    key_fingerprint: String,
    manners: Arc<Mutex<Manners>>,
    restored: Arc<OnceCell<()>>,
}

/// What the lane obeys.
#[derive(Clone, Debug)]
pub struct PollSettings {
    /// When to look.
    pub policy: PollPolicy,
    /// When a video whose link status never renews is given up.
    pub downloads: DownloadPolicy,
    /// Status calls a second at most.
    pub max_per_second: f64,
    /// Of the key in use.
    pub key_fingerprint: String,
}

/// What keeps the lane from asking too much.
struct Manners {
    looks: Looks,
    words: HashSet<String>,
}

/// Words of the page; every other one is logged once.
const KNOWN_WORDS: [&str; 2] = ["IN_PROGRESS", "PROCESSING"];
/// Unknown words remembered; a provider that invents more is not logged for ever.
const MAX_WORDS: usize = 50;

impl PollLane {
    /// A lane that obeys `settings`.
    pub fn new(
        store: Store,
        api: Arc<Api>,
        clock: Clock,
        schedules: Schedules,
        settings: PollSettings,
    ) -> Self {
        let PollSettings { policy, downloads, max_per_second, key_fingerprint } = settings;
        let looks = Looks::new(max_per_second, WIDTH, policy.slowest);
        let manners = Manners { looks, words: HashSet::new() };
        Self {
            store,
            api,
            clock,
            schedules,
            policy,
            downloads,
            key_fingerprint,
            manners: Arc::new(Mutex::new(manners)),
            restored: Arc::default(),
        }
    }

    /// This lane, from where `earlier` is: what that one heard, or will hear from what it has in hand, holds for both.
    #[must_use]
    pub fn succeeding(self, earlier: &Self) -> Self {
        {
            let mut manners = earlier.manners();
            let kept = manners.looks.kept();
            // Another key may have been mended.
            let kept =
                if self.key_fingerprint == earlier.key_fingerprint { kept } else { kept.after_restart() };
            manners.looks = self.manners().looks;
            manners.looks.go_on_from(kept);
        }
        Self { manners: Arc::clone(&earlier.manners), restored: Arc::clone(&earlier.restored), ..self }
    }

    fn manners(&self) -> std::sync::MutexGuard<'_, Manners> {
        // Nothing that can panic runs under this lock; a poisoned one is as good as new.
        self.manners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A restart goes on from what the last process knew: it does not ask into a quiet that the provider wished for.
    async fn restore(&self) -> Result<()> {
        let read = async {
            let kept = self.store.looks().await?;
            self.manners().looks.go_on_from(kept.after_restart());
            Ok(())
        };
        self.restored.get_or_try_init(|| read).await.map(|_| ())
    }

    /// Counts a status call that another lane makes.
    pub(super) fn counts_another(&self) {
        let now = self.clock.now();
        self.manners().looks.owe(now);
    }

    /// What an answer says of all looks: what is known now, and whether that is to be kept.
    fn hear(&self, answer: &PollAnswer, key_refused: Option<Timestamp>, now: Timestamp) -> (KeptLooks, bool) {
        let dice = self.clock.dice();
        let mut manners = self.manners();
        let mut changed = manners.looks.hear(answer, now, dice);
        if let Some(until) = key_refused {
            manners.looks.key_refused(until);
            changed = true;
        }
        (manners.looks.kept(), changed)
    }

    /// A 403 is the task's own while a free status call shows that the key works, as for submits; else it is the key's.
    async fn whose_403(&self, answer: PollAnswer) -> PollAnswer {
        let PollAnswer::Forbidden { message } = answer else { return answer };
        self.counts_another();
        match self.api.key_works().await {
            Some(true) => PollAnswer::Forbidden { message },
            Some(false) | None => PollAnswer::KeyRefused { message },
        }
    }

    /// The end of a job whose links stayed dead, when even status has had no fresh one for long enough.
    async fn out_of_patience(&self, job: &Job, why: &str, now: Timestamp) -> Result<Option<Event>> {
        let outputs = self.store.outputs(job.id).await?;
        let Some(missing) = outputs.iter().find(|o| o.published_at.is_none()) else { return Ok(None) };
        let holds = self.store.holds().await?;
        let still_since = holds.iter().find(|hold| hold.name == HoldName::Disk).map(|hold| hold.since);
        let facts = FetchFacts {
            failures: missing.failures.saturating_add(1),
            failing_since: failing_since(missing.failing_since.unwrap_or(now), still_since, now),
            retry_after: None,
            policy: self.downloads,
        };
        Ok(given_up(why, &facts, now))
    }

    fn log_new_word(&self, answer: &PollAnswer) {
        let PollAnswer::Running { word } = answer else { return };
        let mut manners = self.manners();
        if KNOWN_WORDS.contains(&word.as_str()) || manners.words.len() >= MAX_WORDS {
            return;
        }
        if manners.words.insert(word.clone()) {
            info!(word = ?word, "the provider uses a status word that klingd does not know; it counts as under way");
        }
    }
}

impl Lane for PollLane {
    type Key = JobId;
    type Work = Job;

    fn part(&self) -> Part {
        Part::Poll
    }

    fn width(&self) -> usize {
        WIDTH as usize
    }

    fn longest_step(&self) -> Option<Duration> {
        // Its turn, which another lane's call may have; the call; then perhaps the question whether a refused key works.
        Some(self.api.status_timeout() * 3 + BESIDE_THE_CALLS)
    }

    fn bell(&self) -> &Notify {
        &self.store.bells().poll
    }

    async fn look(&self, free: usize, busy: &HashSet<JobId>) -> Result<Look<JobId, Job>> {
        self.restore().await?;
        let now = self.clock.now();
        let due = self.store.due_polls(free, busy, plan::longest_wait(&self.policy), now).await?;
        let want = due.jobs.len();
        if want == 0 {
            return Ok(Look { work: Vec::new(), next_at: due.next_at });
        }
        let mut manners = self.manners();
        let on_the_wire = u32::try_from(busy.len()).unwrap_or(u32::MAX);
        match manners.looks.take(want, on_the_wire, now) {
            Ok(got) => {
                let next_at = if got < want { Some(now) } else { due.next_at };
                Ok(Look { work: due.jobs.into_iter().take(got).map(|j| (j.id, j)).collect(), next_at })
            }
            Err(at) => Ok(Look { work: Vec::new(), next_at: at }),
        }
    }

    async fn step(&self, job: Job) -> Result<()> {
        let (Some(task), Some(made)) = (job.state.task().cloned(), job.made_with.clone()) else {
            return Ok(());
        };
        let meter = &self.store.vitals().meter;
        let asked = tokio::time::Instant::now();
        let (answer, _) = self.api.status(&made.base_url, &task).await;
        meter.called(Call::Status, asked.elapsed());
        reach(Point::PollAnswered);
        let same_key = made.key_fingerprint == self.key_fingerprint;
        let answer = if same_key { self.whose_403(answer).await } else { answer };
        self.log_new_word(&answer);
        let now = self.clock.now();
        meter.poll(shown(&answer));
        if let PollAnswer::RateLimited { .. } = answer {
            meter.rate_limited(Call::Status);
        }
        let says_the_price = matches!(answer, PollAnswer::Succeeded { .. } | PollAnswer::Failed { .. });
        let kind = RenderKind::from(&job.request);
        let facts = PollFacts {
            submitted_at: job.submitted_at.unwrap_or(now),
            same_key,
            counted: if says_the_price { self.store.counted(job.id, &task).await? } else { job.estimate },
            policy: self.policy,
            schedule: self.schedules.of(kind, now).await?,
            share: self.schedules.share(now).await?,
        };
        let mut plan = plan::seen(&job.state, &answer, &facts, now, self.clock.dice());
        let no_fresh_link = match plan.event {
            Some(_) => None,
            None => plan::no_fresh_link(&job.state, &answer, same_key),
        };
        if let Some(why) = &no_fresh_link {
            plan.event = self.out_of_patience(&job, why, now).await?;
        }
        let no_fresh_link = no_fresh_link.map(Failure::not_fetched);
        if let Some(Event::TaskFailed { done, .. }) = &mut plan.event {
            *done = self.store.done_before(job.id).await?;
        }
        let (kept, changed) = self.hear(&answer, plan.quiet_until, now);
        let pause = kept.pause(now);
        if let (PollAnswer::RateLimited { .. }, Some((until, _))) = (&answer, pause) {
            // What was refused has waited longest: it is the look that goes first.
            plan.due_at = plan.due_at.min(until);
        }
        if changed {
            if let Some((until, cause)) = pause {
                warn!(%until, ?cause, "status calls pause");
            }
            self.store.keep_looks(kept).await?;
        }
        let of_money = plan.event.as_ref().and_then(|event| money::at_the_end(event, facts.counted));
        let note = [plan.event.as_ref().and_then(other_failed), of_money].into_iter().flatten();
        let note = note.reduce(|one, other| format!("{one}; {other}"));
        let rendered = matches!(plan.event, Some(Event::Succeeded { .. }));
        let settled =
            self.store.settle_poll(job.id, job.version, plan.clone(), note.clone(), no_fresh_link, now).await;
        match settled {
            Ok(()) => {
                report(&job, &answer, &plan, note.as_deref());
                if rendered {
                    meter.rendered(now.since(facts.submitted_at));
                    self.schedules.learned(kind);
                }
                reach(Point::PollCommitted)
            }
            // A person moved the job while the call was under way: the next look sees it as it is.
            Err(StoreError::Stale { .. } | StoreError::NoSuchJob(_)) => false,
            Err(other) => return Err(other.into()),
        };
        Ok(())
    }
}

const fn shown(answer: &PollAnswer) -> vitals::Poll {
    match answer {
        PollAnswer::Running { .. } => vitals::Poll::Running,
        PollAnswer::Succeeded { .. } => vitals::Poll::Succeeded,
        PollAnswer::Failed { .. } => vitals::Poll::Failed,
        PollAnswer::NotFound => vitals::Poll::NotFound,
        PollAnswer::KeyRefused { .. } | PollAnswer::Forbidden { .. } => vitals::Poll::Refused,
        PollAnswer::RateLimited { .. } => vitals::Poll::RateLimited,
        PollAnswer::Unclear { .. } => vitals::Poll::Unclear,
    }
}

/// What is said of a job whose other video is there.
fn other_failed(event: &Event) -> Option<String> {
    let Event::TaskFailed { failure, done: Some(_), .. } = event else { return None };
    Some(format!("its second paid task failed: {}", failure.message))
}

/// What is unusual about a task, and what follows.
const fn watched(watch: &Watch) -> &'static str {
    match watch {
        Watch::Running => "its task is well again",
        Watch::Failing { .. } => "the provider says FAILED; a second look decides",
        Watch::NoUrl { .. } => "it is finished and paid, but no link came",
        Watch::NotFound { .. } => "it is paid, but the provider does not know its task",
        Watch::OtherKey { .. } => "it was made with another API key, and today's is refused for it",
    }
}

fn report(job: &Job, answer: &PollAnswer, plan: &PollPlan, note: Option<&str>) {
    let id = job.id;
    match &plan.event {
        Some(Event::Succeeded { outputs, .. }) => {
            let state = Label::Downloading.as_str();
            info!(job.id = id.0, state.to = state, outputs, "job {id} is rendered; its video is fetched");
        }
        Some(Event::TaskFailed { failure, .. }) => {
            let state = Label::Failed.as_str();
            warn!(job.id = id.0, state.to = state, why = failure.message, "job {id} failed at the provider");
        }
        Some(Event::GaveUp { failure }) => super::report_lost(id, failure),
        Some(Event::LinkRenewed) => {
            let state = Label::Downloading.as_str();
            info!(job.id = id.0, state.to = state, "job {id} has a fresh link; its video is fetched");
        }
        Some(Event::Watched { watch }) => match watch.needs_person() {
            Some(reason) => {
                let reason = reason.as_str();
                warn!(job.id = id.0, reason, "job {id} needs a person: {}; klingd show {id}", watched(watch));
            }
            None => info!(job.id = id.0, "job {id} is watched: {}", watched(watch)),
        },
        Some(_) | None => {
            debug!(job.id = id.0, seen = ?answer, due_at = %plan.due_at, "job {id} was looked at")
        }
    }
    if let Some(note) = note {
        let charged = plan.event.as_ref().and_then(Event::charged).map(Credits::get);
        warn!(job.id = id.0, credits.charged = charged, "job {id}: {note}");
    }
    if let Some((hold, why)) = &plan.hold {
        warn!(hold = hold.as_str(), why, "submits stop: {}", hold.remedy());
    }
}
