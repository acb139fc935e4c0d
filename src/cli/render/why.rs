//! Why a job does not move, and the one command that helps.

use super::{
    super::view::View,
    hold::hold,
    table::Tone,
    text::{cut, line},
    time::wall,
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
        None => moves(job, view),
    }
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
    let at = |t: Timestamp| wall(t, view.now, &view.zone);
    match reason {
        Reason::NotBefore => job.not_before.map(|t| format!("until {}", at(t))).unwrap_or_default(),
        Reason::Budget => view.cap(job).map(|cap| over(cap).to_owned()).unwrap_or_default(),
        Reason::InDoubt => format!("in doubt: klingd resolve {id}"),
        Reason::UnknownTask => format!("task unknown there: klingd resolve {id}"),
        Reason::NoUrl => format!("paid, but no link came: klingd show {id}"),
        Reason::Lost => format!("links dead: klingd retry {id} (free)"),
        Reason::Key if job.state.needs_person().is_some() => {
            format!("made with another key: klingd show {id}")
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
    let at = |t: Timestamp| wall(t, view.now, &view.zone);
    let word = reason.as_str();
    match (view.hold(), view.closed_until()) {
        (Some(hold), _) => match hold.until {
            Some(until) => format!("{word}: until {}, or klingd resume", at(until)),
            None => format!("{word}: {}", hold.name.remedy()),
        },
        (None, Some(until)) => format!("{word}: until {}", at(until)),
        (None, None) => format!("{word}: tried again soon"),
    }
}

const fn over(cap: Cap) -> &'static str {
    match cap {
        Cap::PerJob => "budget: above budget.per_job",
        Cap::MaxCredits => "budget: above its max_credits",
        Cap::PerDay => "budget: budget.per_day is used up, until midnight",
        Cap::Total => "budget: budget.total is used up",
    }
}

fn moves(job: &Job, view: &View) -> String {
    let next = job.due_at.filter(|t| *t > view.now).map(|t| wall(t, view.now, &view.zone));
    match &job.state {
        State::Queued => match (&job.error, next) {
            (Some(error), Some(next)) => format!("tried again {next}: {}", short(&error.message)),
            (Some(error), None) => format!("tried again soon: {}", short(&error.message)),
            (None, _) => String::new(),
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
            not_looked_at("link expired, asks for a fresh one".to_owned(), view)
        }
        State::Downloading { link: Link::Fresh, .. } => match (next, view.arriving.get(&job.id)) {
            (Some(_), Some(_)) if disk_is_held(view) => "waits for the output root's disk".to_owned(),
            (Some(next), _) => format!("download tried again {next}"),
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

/// What is said of a job that waits for a look, and that there is none before the end of a pause.
fn not_looked_at(said: String, view: &View) -> String {
    let until = view.no_look_before().map(|t| format!("no look before {}", wall(t, view.now, &view.zone)));
    let said = Some(said).filter(|said| !said.is_empty());
    [until, said].into_iter().flatten().collect::<Vec<_>>().join("; ")
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
        Watch::OtherKey { .. } => "made with another key",
    }
}

fn short(message: &str) -> String {
    cut(&line(message), MESSAGE_CHARS)
}

/// What to do next about one job, as a whole sentence; `None` while it moves by itself.
pub fn next_step(job: &Job, view: &View, maybe_paid: bool) -> Option<String> {
    let id = job.id;
    if let Some(reason) = view.reason(job) {
        return Some(remedy(job, reason, view));
    }
    let plan = retry(&job.state, maybe_paid, false)?;
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
            "It was made with another API key, and today's is refused for it: give klingd that key again, or\n\
             klingd resolve {id} --write-off      give it up; it counts as spent"
        ),
        Reason::NotBefore => format!("klingd set {id} --not-before TIME    changes the time it waits for"),
        Reason::Budget => waits(job, reason, view),
        Reason::Paused
        | Reason::Credits
        | Reason::Key
        | Reason::Rate
        | Reason::Disk
        | Reason::Restored
        | Reason::UncleanStop => view.hold().map_or_else(|| waits(job, reason, view), |h| hold(h, view)),
    }
}
