//! `klingd list`.

use std::{collections::HashMap, path::Path};

use super::{
    super::view::View,
    Look,
    hold::hold,
    table::{Cell, Column, Fit, Tone, table},
    text::line,
    time::{age, until},
    why::{second_task, tone, why},
};
use crate::{
    domain::{Job, JobId, State, Timestamp, looks::PauseCause, state::Lane},
    store::download::Output,
};

/// What a list shows.
pub struct Listing<'a> {
    /// The jobs, in the order of their numbers.
    pub jobs: &'a [Job],
    /// Their videos.
    pub outputs: &'a HashMap<JobId, Vec<Output>>,
    /// The queue around them.
    pub view: &'a View,
    /// What paths are shown relative to on a terminal.
    pub videos: &'a Path,
}

/// Second paid tasks that are named one by one; the rows of the others say it, too.
const NAMED: usize = 10;

/// The longest command of the last column, with its reason: never cut.
const NOTE_WIDTH: u16 = 44;

const COLUMNS: [Column; 7] = [
    Column { title: "ID", fit: Fit::Number, from_width: 0 },
    Column { title: "STATE", fit: Fit::Whole, from_width: 0 },
    Column { title: "NAME", fit: Fit::Cut, from_width: 66 },
    Column { title: "TYPE", fit: Fit::Whole, from_width: 120 },
    Column { title: "CREDITS", fit: Fit::Number, from_width: 72 },
    Column { title: "AGE", fit: Fit::Number, from_width: 90 },
    Column { title: "NOTE", fit: Fit::AtLeast(NOTE_WIDTH), from_width: 0 },
];

/// The table.
pub fn list(listing: &Listing<'_>, look: Look) -> String {
    let rows: Vec<_> = listing.jobs.iter().map(|job| row(job, listing, look)).collect();
    table(&COLUMNS, &rows, look)
}

/// A job's line without the header: a long list is printed page by page.
pub fn rows_only(listing: &Listing<'_>) -> String {
    let whole = list(listing, Look::Piped);
    whole.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default()
}

fn row(job: &Job, listing: &Listing<'_>, look: Look) -> Vec<Cell> {
    let view = listing.view;
    let tone = tone(job);
    let note = match job.state {
        State::Done { .. } => match second_task(job, view) {
            Some(second) => Cell::toned(second, Tone::Care),
            None => Cell::toned(file(job, listing, look), Tone::Faint),
        },
        State::Queued
        | State::Submitting { .. }
        | State::InDoubt { .. }
        | State::Generating { .. }
        | State::Downloading { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => Cell::toned(view.aim.at(&why(job, view)), tone),
    };
    vec![
        job.id.to_string().into(),
        Cell::toned(job.state.label().as_str(), tone),
        title(job).into(),
        job.request.job_type().as_str().into(),
        credits(job).into(),
        age(view.now.since(job.created_at)).into(),
        note,
    ]
}

/// What people know a job by: its name, else its prompt.
pub fn title(job: &Job) -> String {
    let name = line(job.name.as_deref().unwrap_or(job.request.prompt()));
    if job.take > 1 { format!("{name} #{}", job.take) } else { name }
}

/// What was charged; with a tilde what it will cost.
fn credits(job: &Job) -> String {
    match job.charged {
        Some(charged) => charged.to_string(),
        None => format!("~{}", job.estimate),
    }
}

fn file(job: &Job, listing: &Listing<'_>, look: Look) -> String {
    let outputs = listing.outputs.get(&job.id).map(Vec::as_slice).unwrap_or_default();
    let mut files = outputs.iter().filter_map(|o| o.file.as_ref());
    let Some(first) = files.next() else { return String::new() };
    let path = Path::new(&first.path);
    let shown = match look {
        Look::Piped => path,
        Look::Terminal { .. } => path.strip_prefix(listing.videos).unwrap_or(path),
    };
    let shown = line(&shown.to_string_lossy());
    match files.count() {
        0 => shown,
        n => format!("{shown} (+{n})"),
    }
}

/// One sentence about a job that came to rest.
pub fn rested(job: &Job, outputs: &[Output], view: &View) -> String {
    let files = outputs.iter().filter(|o| o.published_at.is_some()).filter_map(|o| o.file.as_ref());
    let mut parts = vec![format!("{} {}: {}", job.id, title(job), job.state.label())];
    parts.extend(files.map(|file| line(&file.path)));
    parts.push(view.aim.at(&why(job, view)));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// What concerns every job: the holds, and that nobody works on the queue.
pub fn notices(view: &View, daemon_runs: bool, jobs: &[Job]) -> Vec<String> {
    let mut notices: Vec<String> = view
        .holds
        .iter()
        .filter(|hold| hold.holds(view.now))
        .map(|h| format!("{}: {}", view.stopped_by(h), hold(h, view)))
        .collect();
    if let (true, Some(end)) = (notices.is_empty(), view.closed_until()) {
        notices.push(quiet(end, view));
    }
    let looked_at = jobs.iter().any(|job| job.state.lane() == Some(Lane::Poll));
    if let (true, Some((end, cause))) = (looked_at, view.looks.pause(view.now)) {
        let pause = until(end, view.now, &view.zone);
        notices.push(format!("Nothing is looked at {pause}: {}.", refusal(cause)));
    }
    for id in &view.doubts {
        notices.push(format!(
            "An earlier attempt of job {id} is still in doubt and counts as spent: klingd show {id}"
        ));
    }
    notices.extend(withheld(view));
    for id in view.unfollowed.iter().take(NAMED) {
        notices.push(format!(
            "An earlier attempt of job {id} made a task of its own: it is paid, and its video is not fetched: klingd retry {id}"
        ));
    }
    if !daemon_runs && jobs.iter().any(|job| job.state.lane().is_some()) {
        notices.push(format!("No daemon is running, so nothing moves: {}", view.start()));
    }
    notices.iter().map(|notice| view.aim.at(notice)).collect()
}

/// What nothing but a person's word gives back to the budget.
pub fn withheld(view: &View) -> impl Iterator<Item = String> {
    view.withheld.iter().map(|id| {
        format!("An attempt of job {id} that failed there keeps its credits reserved: klingd show {id}")
    })
}

/// Whether the wait was the provider's wish or is klingd's own is not kept; that it refused a submit is.
fn quiet(end: Timestamp, view: &View) -> String {
    let after = if view.gate.strikes > 0 { "a 429" } else { "a refusal" };
    format!("Submits pause {} after {after}.", until(end, view.now, &view.zone))
}

/// Why status calls pause.
pub const fn refusal(cause: PauseCause) -> &'static str {
    match cause {
        PauseCause::Rate => "a status call was answered with 429",
        PauseCause::Key => "a status call was refused the key",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{super::usual::Usual, samples};
    use super::*;
    use crate::domain::{
        AttemptNo, Credits, HoldName, RenderKind,
        hold::Hold,
        job::Reason,
        state::{Failure, Link, Watch},
    };
    use crate::store::budget::Budget;

    const WIDE: Look = Look::Terminal { width: 140, height: 40, colour: false };
    const NARROW: Look = Look::Terminal { width: 80, height: 24, colour: false };

    fn jobs() -> Vec<Job> {
        let doubt = Job { id: JobId(8), take: 2, ..samples::in_doubt() };
        let held = |watch| samples::submitted(State::Generating { task: samples::task(), watch });
        let since = samples::at(0);
        vec![
            samples::queued(),
            doubt,
            Job { id: JobId(9), name: None, ..samples::generating() },
            Job { id: JobId(10), not_before: Some(samples::at(14_400)), ..samples::queued() },
            Job { id: JobId(11), ..held(Watch::NoUrl { since, held: true }) },
            Job { id: JobId(12), ..held(Watch::OtherKey { since }) },
            Job { id: JobId(13), ..samples::done() },
            Job {
                id: JobId(14),
                ..samples::failed("INVALID_PROMPT", "the \x1b[31mprompt\nis refused", None)
            },
            Job { id: JobId(15), ..samples::failed(Failure::LOST, "404", Some(samples::task())) },
            Job { id: JobId(16), ..samples::submitted(State::Cancelled { task: Some(samples::task()) }) },
        ]
    }

    fn show(jobs: &[Job], view: &View, look: Look) -> String {
        let outputs = HashMap::from([(JobId(13), samples::outputs())]);
        list(&Listing { jobs, outputs: &outputs, view, videos: Path::new("/data/videos") }, look)
    }

    #[test]
    fn says_why_and_what_to_do() {
        insta::assert_snapshot!("wide", show(&jobs(), &samples::view(), WIDE));
        insta::assert_snapshot!("narrow", show(&jobs(), &samples::view(), NARROW));
        insta::assert_snapshot!("piped", show(&jobs(), &samples::view(), Look::Piped));
        let tiny = Look::Terminal { width: 60, height: 24, colour: false };
        insta::assert_snapshot!("tiny", show(&jobs(), &samples::view(), tiny));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = Job { name: Some("x".repeat(300)), ..samples::queued() };
        for width in [40, 60, 80, 100, 200] {
            let look = Look::Terminal { width, height: 24, colour: false };
            let text = show(&[jobs(), vec![long.clone()]].concat(), &samples::view(), look);
            let widest = text.lines().map(|l| l.chars().count()).max().unwrap();
            assert!(widest <= usize::from(width), "{width}:\n{text}");
        }
    }

    #[test]
    fn every_hold_has_its_remedy() {
        let mut all = Vec::new();
        for name in HoldName::ALL {
            let until = (name == HoldName::Rate).then(|| samples::at(7200));
            let hold = Hold { until, ..Hold::new(name, "because".into(), samples::at(0)) };
            let view = View { holds: vec![hold], ..samples::view() };
            all.extend(notices(&view, true, &[]));
            all.push(format!("    {}", why(&samples::queued(), &view)));
        }
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn a_cap_is_named() {
        let caps = |budget| View { budget, ..samples::view() };
        let per_job = caps(Budget { per_job: Credits::new(100), ..Budget::default() });
        assert_eq!(why(&samples::queued(), &per_job), "above budget.per_job");
        assert_eq!(per_job.reason(&samples::queued()), Some(Reason::Budget));
        let own = Job { max_credits: Some(Credits::new(199)), ..samples::queued() };
        assert_eq!(why(&own, &samples::view()), "above its max_credits");
    }

    #[test]
    fn a_closed_gate_is_why_queued_jobs_wait() {
        let mut view = samples::view();
        view.gate.closed_until = Some(view.now + Duration::from_secs(600));
        assert_eq!(why(&samples::queued(), &view), "rate: until 10:41");
        assert_eq!(view.reason(&samples::generating()), None);
        assert_eq!(notices(&view, true, &[]), ["Submits pause until 10:41 after a refusal."]);
    }

    /// Behind full slots a job is neither refused nor forgotten; a hold or a closed gate is what it waits for first.
    #[test]
    fn full_slots_are_why_queued_jobs_wait() {
        let view = View { full_slots: Some(3), ..samples::view() };
        assert_eq!(why(&samples::queued(), &view), "waits for one of 3 parallel tasks to finish");
        let mut closed = View { full_slots: Some(1), ..samples::view() };
        assert_eq!(why(&samples::queued(), &closed), "waits for the one task to finish");
        closed.gate.closed_until = Some(closed.now + Duration::from_secs(5));
        assert_eq!(why(&samples::queued(), &closed), "rate: for 5s");
        closed.gate.strikes = 1;
        assert_eq!(notices(&closed, true, &[]), ["Submits pause for 5s after a 429."]);
    }

    #[test]
    fn a_pause_of_looks_is_why_renders_are_not_seen() {
        let paused = |cause, name| View {
            looks: samples::paused(700, cause),
            holds: vec![Hold::new(name, "because".into(), samples::at(0))],
            ..samples::view()
        };
        let said =
            [("rate", HoldName::Key), ("key", HoldName::Key), ("rate", HoldName::Paused)].map(|(c, h)| {
                let view = paused(c, h);
                let rows = [samples::generating(), samples::queued()].map(|job| why(&job, &view));
                [notices(&view, true, &[samples::generating()]), rows.to_vec()].concat().join("\n")
            });
        insta::assert_snapshot!("paused_looks", said.join("\n\n"));
        let view = paused("rate", HoldName::Paused);
        assert_eq!(notices(&view, true, &[samples::queued()]).len(), 1, "it concerns only what is looked at");
        let over = View { now: samples::at(700), ..view };
        assert_eq!(why(&samples::generating(), &over), "");
    }

    /// After `resolve --resubmit` the job looks like any other; the first attempt may be paid all the same.
    #[test]
    fn an_earlier_doubt_is_not_forgotten() {
        let view = View { doubts: vec![JobId(3)], ..samples::view() };
        assert_eq!(
            notices(&view, true, &[samples::done()]),
            ["An earlier attempt of job 3 is still in doubt and counts as spent: klingd show 3"]
        );
    }

    #[test]
    fn a_second_paid_task_is_not_forgotten() {
        let view = View { unfollowed: vec![JobId(13)], ..samples::view() };
        let [said] = &notices(&view, true, &[samples::done()])[..] else { panic!("one notice") };
        assert!(said.contains("is paid") && said.ends_with("klingd retry 13"), "{said}");
    }

    #[test]
    fn nothing_moves_without_a_daemon() {
        let jobs = jobs();
        let said = notices(&samples::view(), false, &jobs);
        assert_eq!(said, ["No daemon is running, so nothing moves: klingd run"]);
        let sandbox = View { sandbox: true, ..samples::view() };
        let said = notices(&sandbox, false, &jobs);
        assert_eq!(said, ["No daemon is running, so nothing moves: klingd run --sandbox"]);
        assert!(notices(&samples::view(), false, &[samples::done()]).is_empty());
    }

    #[test]
    fn moving_jobs_say_what_is_odd() {
        let view = samples::view();
        let expired = State::Downloading { task: samples::task(), missing: [0].into(), link: Link::Wanted };
        let mut expired = samples::submitted(expired);
        assert_eq!(why(&expired, &view), "asks for a fresh link: the link expired");
        expired.error = Some(Failure::not_fetched("cdn.example answered HTTP 403".to_owned()));
        assert_eq!(why(&expired, &view), "asks for a fresh link: cdn.example answered HTTP 403");
        let fresh = State::Downloading { task: samples::task(), missing: [0].into(), link: Link::Fresh };
        let tried = Job { state: fresh, due_at: Some(view.now + Duration::from_secs(20)), ..expired };
        let said = why(&tried, &view);
        assert!(
            said.starts_with("download tried again ") && said.ends_with(": cdn.example answered HTTP 403")
        );
        let on_the_wire = State::Submitting { attempt: AttemptNo(1), cancel: true, accepted: None };
        assert_eq!(why(&samples::submitted(on_the_wire), &view), "cancelled as soon as the answer is there");
        assert_eq!(why(&samples::generating(), &view), "");
        let kind = RenderKind::from(&samples::generating().request);
        let usual = Usual::from((kind, Duration::from_secs(178)));
        let view = View { usual, now: samples::at(140), ..view };
        assert_eq!(why(&samples::generating(), &view), "2m 10s, usually about 3m");
    }
}
