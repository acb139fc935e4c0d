//! Why a job does not move, and the one command that helps.

use super::{
    super::view::View,
    hold::hold,
    table::Tone,
    text::{cut, line},
    time::{at, until},
};
use crate::{
    domain::{
        HoldName, Job, Reason, State, Timestamp,
        plan::retry::{RetryPlan, retry},
        state::{Failure, Label, Link, Watch},
    },
    store::budget::Cap,
};

/// Characters of a stranger's message beside a job; `show` has all of it.
const MESSAGE_CHARS: usize = 100;

/// What the last column says: nothing while all is well.
pub fn why(job: &Job, view: &View) -> String {
    match view.reason(job) {
        Some(reason) => waits(job, reason, view),
        None => second_task(job, view).unwrap_or_else(|| moves(job, view)),
    }
}

/// That a job which ended has another task that is paid and not fetched. One whose own task is to be fetched first says
/// that first.
pub fn second_task(job: &Job, view: &View) -> Option<String> {
    let own = retry(&job.state, true, false) == Some(RetryPlan::Follow);
    let waits = view.has_second_task(job) && job.state.has_ended() && !own;
    waits.then(|| format!("a second paid task: klingd retry {} (free)", job.id))
}

/// The job's notes, and that a second task of it is paid and not fetched.
pub fn notes(job: &Job, view: &View) -> Vec<String> {
    let mut notes = job.notes.clone();
    if view.has_second_task(job) {
        let when = if job.state.has_ended() { "" } else { " (once the job has ended)" };
        notes.push(format!(
            "another task of this job is paid and its video is not fetched: klingd retry {}{when}",
            job.id
        ));
    }
    notes
}

/// What a job's colour says.
pub fn tone(job: &Job) -> Tone {
    if job.state.needs_person().is_some() {
        return Tone::Care;
    }
    match job.state.label() {
        Label::Queued => Tone::Plain,
        Label::Submitting | Label::Generating | Label::Downloading => Tone::Busy,
        Label::InDoubt => Tone::Care,
        Label::Done => Tone::Good,
        Label::Failed => Tone::Bad,
        Label::Cancelled => Tone::Faint,
    }
}

fn waits(job: &Job, reason: Reason, view: &View) -> String {
    let id = job.id;
    match reason {
        Reason::NotBefore => job.not_before.map(|t| until(t, view.now, &view.zone)).unwrap_or_default(),
        Reason::Budget => view.cap(job).map(|cap| over(cap).to_owned()).unwrap_or_default(),
        Reason::InDoubt => format!("in doubt, {} credits: klingd resolve {id}", job.estimate),
        Reason::UnknownTask => format!("task unknown there: klingd resolve {id}"),
        Reason::NoUrl => format!("paid, but no link came: klingd show {id}"),
        Reason::Lost => format!("links dead: klingd retry {id} (free)"),
        Reason::Key if job.state.needs_person().is_some() => {
            format!("key refused for it: klingd show {id}")
        }
        Reason::Paused
        | Reason::Credits
        | Reason::Key
        | Reason::Rate
        | Reason::Disk
        | Reason::Restored
        | Reason::UncleanStop => held(reason, view),
    }
}

fn held(reason: Reason, view: &View) -> String {
    let until = |t: Timestamp| until(t, view.now, &view.zone);
    let word = reason.as_str();
    match (view.hold(), view.closed_until()) {
        (Some(hold), _) => match hold.until {
            Some(end) => format!("{word}: {}, or klingd resume", until(end)),
            None => format!("{word}: {}", hold.name.remedy()),
        },
        (None, Some(end)) => format!("{word}: {}", until(end)),
        (None, None) => slots_full(view).unwrap_or_else(|| format!("{word}: tried again soon")),
    }
}

const fn over(cap: Cap) -> &'static str {
    match cap {
        Cap::PerJob => "above budget.per_job",
        Cap::MaxCredits => "above its max_credits",
        Cap::PerDay => "budget.per_day is used up, until midnight",
        Cap::Total => "budget.total is used up",
    }
}

fn moves(job: &Job, view: &View) -> String {
    let next = job.due_at.filter(|t| *t > view.now).map(|t| at(t, view.now, &view.zone));
    match &job.state {
        State::Queued => match (&job.error, next) {
            (Some(error), Some(next)) => format!("tried again {next}: {}", short(&error.message)),
            (Some(error), None) => format!("tried again soon: {}", short(&error.message)),
            (None, _) => slots_full(view).unwrap_or_default(),
        },
        State::Submitting { cancel: true, .. } => "cancelled as soon as the answer is there".to_owned(),
        State::Submitting { cancel: false, .. } | State::InDoubt { .. } | State::Done { .. } => String::new(),
        State::Generating { watch, .. } => {
            let odd = watched(watch);
            let said = if odd.is_empty() {
                view.usual.told(job, view.now).unwrap_or_default()
            } else {
                odd.to_owned()
            };
            not_looked_at(said, view)
        }
        State::Downloading { link: Link::Wanted, .. } => {
            let why = job.error.as_ref().map_or("the link expired".to_owned(), |e| short(&e.message));
            not_looked_at(format!("asks for a fresh link: {why}"), view)
        }
        State::Downloading { link: Link::Fresh, .. } => match (next, view.arriving.get(&job.id)) {
            (Some(_), Some(_)) if disk_is_held(view) => "waits for the output root's disk".to_owned(),
            (Some(next), _) => match &job.error {
                Some(error) => format!("download tried again {next}: {}", short(&error.message)),
                None => format!("download tried again {next}"),
            },
            (None, Some(arriving)) => arriving.text(),
            (None, None) => String::new(),
        },
        State::Failed { failure, task } => match (task, failure.code.as_str()) {
            (Some(_), code) if code != Failure::TASK_FAILED => {
                format!("klingd retry {} (free): {}", job.id, short(&failure.message))
            }
            (_, code) => format!("{}: {}", line(code), short(&failure.message)),
        },
        State::Cancelled { task: Some(_) } => format!("paid; klingd retry {} fetches it", job.id),
        State::Cancelled { task: None } => String::new(),
    }
}

/// What a queued job waits for while the provider's parallel tasks are all taken.
fn slots_full(view: &View) -> Option<String> {
    let tasks =
        |n: u32| if n == 1 { "the one task".to_owned() } else { format!("one of {n} parallel tasks") };
    view.full_slots.map(|slots| format!("waits for {} to finish", tasks(slots)))
}

/// What is said of a job that waits for a look, and that there is none before the end of a pause.
fn not_looked_at(said: String, view: &View) -> String {
    let next = view.no_look_before().map(|t| format!("looked at again {}", at(t, view.now, &view.zone)));
    let said = Some(said).filter(|said| !said.is_empty());
    [next, said].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn disk_is_held(view: &View) -> bool {
    view.holds.iter().any(|hold| hold.name == HoldName::Disk)
}

const fn watched(watch: &Watch) -> &'static str {
    match watch {
        Watch::Running => "",
        Watch::Failing { .. } => "FAILED there; a second look decides",
        Watch::NoUrl { .. } => "finished there, no link yet",
        Watch::NotFound { .. } => "not visible there yet",
        Watch::OtherKey { .. } => "key refused for it",
    }
}

fn short(message: &str) -> String {
    cut(&line(message), MESSAGE_CHARS)
}

/// What to do next about one job, as a whole sentence; `None` while it moves by itself.
pub fn next_step(job: &Job, view: &View, rendered: bool) -> Option<String> {
    let id = job.id;
    if let Some(reason) = view.reason(job) {
        return Some(remedy(job, reason, view));
    }
    if second_task(job, view).is_some() {
        return Some(format!(
            "klingd retry {id}    fetches the video of its second paid task, too, for free"
        ));
    }
    let plan = retry(&job.state, rendered, false)?;
    Some(match plan {
        RetryPlan::Follow => format!("klingd retry {id}    asks for the paid video again, for free"),
        RetryPlan::Resume => format!("klingd retry {id}    queues it again; nothing is spent on it so far"),
        RetryPlan::Render => {
            format!("klingd retry {id}    renders it anew, for about {} credits", job.estimate)
        }
    })
}

fn remedy(job: &Job, reason: Reason, view: &View) -> String {
    let id = job.id;
    match reason {
        Reason::InDoubt => format!(
            "Look for it in the provider's panel, then say what became of it:\n\
             klingd resolve {id} --task-id T      it is there, with this id\n\
             klingd resolve {id} --not-charged    it is not there and was not charged\n\
             klingd resolve {id} --resubmit       pay again, on purpose\n\
             klingd resolve {id} --write-off      give it up; it counts as spent"
        ),
        Reason::UnknownTask => format!(
            "The provider does not know the task (any more). It is paid, so klingd goes on asking.\n\
             klingd resolve {id} --task-id T      this is the right id\n\
             klingd resolve {id} --write-off      give it up; it counts as spent"
        ),
        Reason::NoUrl => format!(
            "The provider says that it is finished, but gives no link. It is paid, so klingd goes on asking;\n\
             ask the provider, or\n\
             klingd resolve {id} --write-off      give it up; it counts as spent"
        ),
        Reason::Lost => format!(
            "The links stayed dead. It is paid: klingd never renders it again by itself.\n\
             klingd retry {id}                    ask for fresh links, for free\n\
             klingd retry {id} --new-render       pay again, on purpose\n\
             klingd resolve {id} --write-off      give it up; it counts as spent"
        ),
        Reason::Key if job.state.needs_person().is_some() => format!(
            "The provider refuses today's API key for this task alone. It is paid, so klingd goes on asking; was it made\n\
             with another key, then give klingd that one again, or\n\
             klingd resolve {id} --write-off      give it up; it counts as spent"
        ),
        Reason::NotBefore => format!("klingd set {id} --not-before TIME    changes the time it waits for"),
        Reason::Budget => {
            "It goes when the cap allows it, or is raised in the configuration; klingd spend shows the caps"
                .to_owned()
        }
        Reason::Paused
        | Reason::Credits
        | Reason::Key
        | Reason::Rate
        | Reason::Disk
        | Reason::Restored
        | Reason::UncleanStop => view.hold().map_or_else(|| waits(job, reason, view), |h| hold(h, view)),
    }
}
