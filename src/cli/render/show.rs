//! `klingd show`: everything about one job, as a person reads it.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    super::{arriving::Arriving, view::View},
    history::{failed, sentence},
    list::title,
    text::{block, cut, line, size},
    time::{exact, span, wall},
    why::{next_step, notes, why},
};
use crate::{
    domain::{Charge, Credits, Job, Outcome, evidence::Evidence},
    store::{
        download::Output,
        view::{AttemptRow, HistoryRow},
    },
};

/// Where the values begin.
const VALUE: usize = 19;
/// Characters of the headline: a prompt that stands in for a name is shown whole below.
const TITLE_CHARS: usize = 80;

/// What is shown of a job.
pub struct Everything<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its videos.
    pub outputs: &'a [Output],
    /// What happened to it.
    pub history: &'a [HistoryRow],
    /// Its ledger.
    pub attempts: &'a [AttemptRow],
    /// The queue around it.
    pub view: &'a View,
}

/// All of it.
pub fn show(of: &Everything<'_>) -> String {
    let mut page = Page(String::new());
    head(of, &mut page);
    request(of.job, &mut page);
    origin(of, &mut page);
    money(of, &mut page);
    files(of, &mut page);
    attempts(of, &mut page);
    page.section("History");
    for change in of.history {
        page.plain(&format!("{}  {}", exact(change.at, &of.view.zone), sentence(&change.event)));
    }
    page.0.trim_end().to_owned()
}

/// Text that grows by lines. Writing to a `String` cannot fail.
struct Page(String);

impl Page {
    fn section(&mut self, title: &str) {
        write!(self.0, "\n{title}\n").ok();
    }

    fn row(&mut self, key: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        if !value.is_empty() {
            writeln!(self.0, "  {key:<width$}{value}", width = VALUE - 2).ok();
        }
    }

    fn plain(&mut self, text: &str) {
        writeln!(self.0, "  {text}").ok();
    }
}

fn head(of: &Everything<'_>, page: &mut Page) {
    let (job, view) = (of.job, of.view);
    writeln!(page.0, "Job {}: {}", job.id, cut(&title(job), TITLE_CHARS)).ok();
    page.row("State", job.state.label().as_str());
    // Whoever reads this needs no command that brings him here.
    let why = why(job, view).replace(&format!(": klingd show {}", job.id), "");
    page.row(if view.usual.of(job).is_some() { "So far" } else { "Why" }, view.aim.at(&why));
    if let Some(failure) = &job.error {
        page.row(if job.state.has_ended() { "Error" } else { "Last error" }, failed(failure));
    }
    let rendered = of.attempts.iter().any(AttemptRow::may_have_rendered);
    if let Some(next) = next_step(job, view, rendered).filter(|next| *next != why) {
        page.row("Next", view.aim.at(&next).replace('\n', &format!("\n{:VALUE$}", "")));
    }
    for note in notes(job, view) {
        page.row("Note", view.aim.at(&line(&note)));
    }
}

fn request(job: &Job, page: &mut Page) {
    page.section("Request");
    for (field, value) in job.request.body() {
        let text = match value {
            Value::String(text) => block(text, VALUE),
            Value::Array(items) => {
                let items: Vec<_> =
                    items.iter().map(|i| line(i.as_str().unwrap_or(&i.to_string()))).collect();
                items.join(&format!("\n{:VALUE$}", ""))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => line(&value.to_string()),
        };
        // The longest field of the page would touch its value.
        match field.len() + 2 < VALUE {
            true => page.row(field, text),
            false => page.plain(&format!("{}  {text}", line(field))),
        }
    }
}

fn origin(of: &Everything<'_>, page: &mut Page) {
    let (job, view) = (of.job, of.view);
    let at = |t| exact(t, &view.zone);
    page.section("Queue");
    page.row("Batch", job.batch.as_deref().map(line).unwrap_or_default());
    page.row("Source", line(&job.source));
    page.row("Tags", line(&job.tags.join(", ")));
    page.row("Priority", job.priority.to_string());
    page.row("Take", job.take.to_string());
    page.row("Key", line(job.key.as_str()));
    page.row("Output", job.output.as_deref().map(line).unwrap_or_default());
    page.row("Not before", job.not_before.map(at).unwrap_or_default());
    page.row("Queued", at(job.created_at));
    page.row("Submitted", job.submitted_at.map(at).unwrap_or_default());
    page.row("Finished", job.finished_at.map(|t| finished(job, at(t))).unwrap_or_default());
    page.row("Next look", view.next_at(job).map(|t| wall(t, view.now, &view.zone)).unwrap_or_default());
    page.row("Task", job.state.task().map(ToString::to_string).unwrap_or_default());
    let made = job.made_with.as_ref().map(|m| format!("{}, key {}", line(&m.base_url), m.key_fingerprint));
    page.row("Made at", made.unwrap_or_default());
    page.row("Polls", if job.polls > 0 { job.polls.to_string() } else { String::new() });
}

fn finished(job: &Job, at: String) -> String {
    match (job.submitted_at, job.finished_at) {
        (Some(from), Some(to)) => format!("{at}, {} after it was submitted", span(to.since(from))),
        (None, _) | (_, None) => at,
    }
}

fn money(of: &Everything<'_>, page: &mut Page) {
    let job = of.job;
    page.section("Credits");
    page.row("Expected", job.estimate.to_string());
    page.row("Charged", charged(of.attempts));
    let refunded: Credits = of.attempts.iter().map(|attempt| attempt.refunded).sum();
    page.row("Refunded", if refunded > Credits::ZERO { refunded.to_string() } else { String::new() });
    page.row("At most", job.max_credits.map(|c| c.to_string()).unwrap_or_default());
    if job.paid_attempts > 0 {
        page.row("Attempts", format!("{} paid, reserved or in doubt", job.paid_attempts));
    }
}

/// What was taken for all attempts together, in the words of their lines below.
fn charged(attempts: &[AttemptRow]) -> String {
    let is = |attempt: &AttemptRow, charge: Charge| attempt.charge == charge.as_str();
    let taken: Vec<_> =
        attempts.iter().filter(|a| is(a, Charge::Charged) || a.refunded > Credits::ZERO).collect();
    let open = attempts.iter().any(|a| is(a, Charge::Reserved) || is(a, Charge::InDoubt));
    let sum: Credits = taken.iter().map(|a| a.charged.unwrap_or(a.estimate)).sum();
    match (taken.is_empty(), open) {
        (true, true) => "unknown so far".to_owned(),
        (true, false) => "nothing so far".to_owned(),
        (false, _) if taken.iter().any(|a| a.charged.is_none()) => {
            format!("{sum} counted; the provider has not said how much")
        }
        (false, _) => sum.to_string(),
    }
}

fn files(of: &Everything<'_>, page: &mut Page) {
    if of.outputs.is_empty() {
        return;
    }
    page.section("Videos");
    for output in of.outputs {
        page.plain(&file(output));
    }
    page.row("Arriving", of.view.arriving.get(&of.job.id).map(Arriving::text).unwrap_or_default());
}

fn file(output: &Output) -> String {
    let n = output.index.saturating_add(1);
    match (&output.file, output.published_at, &output.partial) {
        (Some(file), Some(_), _) => {
            format!("{}  {}  sha256 {}", line(&file.path), size(file.bytes), file.sha256)
        }
        (_, None, Some(part)) => format!("video {n}: {} fetched so far", size(part.position)),
        (_, _, _) if output.failures > 0 => format!("video {n}: {} downloads failed so far", output.failures),
        (_, _, _) => format!("video {n}: not fetched yet"),
    }
}

fn attempts(of: &Everything<'_>, page: &mut Page) {
    if of.attempts.is_empty() {
        return;
    }
    page.section("Attempts");
    for attempt in of.attempts {
        page.plain(&attempt_line(attempt, of.view));
        if let Some(note) = &attempt.note {
            page.plain(&format!("   note: {}", line(note)));
        }
        if attempt.is_withheld(&of.job.state) {
            let settle = format!("klingd resolve {} --attempt {}", of.job.id, attempt.n);
            page.plain(
                "   the provider called it an error of its own; until you settle it, it counts as spent:",
            );
            page.plain(&of.view.aim.at(&format!("   {settle} --not-charged, or --write-off")));
        }
    }
}

fn attempt_line(attempt: &AttemptRow, view: &View) -> String {
    let outcome = match attempt.outcome {
        Outcome::Open => "on the wire",
        Outcome::Accepted => "accepted",
        Outcome::Refused => "refused",
        Outcome::Deferred => "not charged, tried again",
        Outcome::InternalError => "internal error there, tried again",
        Outcome::Unknown => "outcome unknown",
        Outcome::NotCharged => "not charged, by a person's word",
        Outcome::WrittenOff => "written off",
    };
    let mut parts =
        vec![format!("{}. {}", attempt.n, exact(attempt.started_at, &view.zone)), outcome.to_owned()];
    parts.push(cost(attempt));
    parts.extend(attempt.task_id.as_deref().map(|task| format!("task {}", line(task))));
    parts.extend(attempt.unfollowed.then(|| "paid and not followed".to_owned()));
    parts.extend(attempt.evidence.as_ref().map(seen));
    parts.join(", ")
}

fn cost(attempt: &AttemptRow) -> String {
    let AttemptRow { charge, charged, estimate, refunded, .. } = attempt;
    let amount = charged.unwrap_or(*estimate);
    if *refunded > Credits::ZERO {
        return format!("{amount} credits charged, {refunded} refunded");
    }
    if charge == Charge::Charged.as_str() && charged.is_none() {
        return format!("{amount} credits counted as charged");
    }
    format!("{amount} credits {}", charge.replace('_', " "))
}

/// The provider's answer in a few words.
fn seen(evidence: &Evidence) -> String {
    let took = format!("after {:.1} s", evidence.took().as_secs_f64());
    match (evidence.status, &evidence.transport) {
        (Some(status), None) => format!("HTTP {status} {took}"),
        (Some(status), Some(failure)) => format!("HTTP {status}, cut {took}: {}", line(&failure.message)),
        (None, Some(failure)) => format!("no answer {took}: {}", line(&failure.message)),
        (None, None) => "no answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{super::usual::Usual, samples};
    use super::*;
    use crate::domain::{AttemptNo, Credits, RenderKind, state::Failure};

    fn page(job: &Job, outputs: &[Output]) -> String {
        page_with(job, outputs, &samples::attempts())
    }

    fn page_with(job: &Job, outputs: &[Output], attempts: &[AttemptRow]) -> String {
        show(&Everything { job, outputs, history: &samples::history(), attempts, view: &samples::view() })
    }

    #[test]
    fn tells_everything() {
        insta::assert_snapshot!("in_doubt", page(&samples::in_doubt(), &[]));
        let paid = AttemptRow {
            outcome: Outcome::Accepted,
            charge: Charge::Charged.as_str().into(),
            charged: Some(Credits::new(210)),
            task_id: Some(samples::task().to_string()),
            ..samples::attempts().remove(0)
        };
        insta::assert_snapshot!("done", page_with(&samples::done(), &samples::outputs(), &[paid]));
    }

    #[test]
    fn a_render_says_how_long_it_usually_takes() {
        let job = samples::generating();
        let usual = Usual::from((RenderKind::from(&job.request), std::time::Duration::from_secs(178)));
        let view = View { usual, now: samples::at(140), ..samples::view() };
        let of = Everything { job: &job, outputs: &[], history: &[], attempts: &[], view: &view };
        assert!(show(&of).contains("  So far           2m 10s, usually about 3m\n"), "{}", show(&of));
        assert!(!page(&job, &[]).contains("usually"));
    }

    #[test]
    fn the_next_look_is_not_before_the_end_of_a_pause() {
        let job = Job { due_at: Some(samples::at(40)), ..samples::generating() };
        let view = View { looks: samples::paused(700, "rate"), ..samples::view() };
        let of = |job| show(&Everything { job, outputs: &[], history: &[], attempts: &[], view: &view });
        let text = of(&job);
        assert!(text.contains("  Next look        10:41\n"), "{text}");
        assert!(text.contains("  Why              looked at again at 10:41\n"), "{text}");
        let queued = Job { due_at: Some(samples::at(140)), ..samples::queued() };
        assert!(of(&queued).contains("  Next look        10:32\n"), "a submit waits for no look");
    }

    #[test]
    fn a_failure_names_the_next_command() {
        let lost = samples::failed(Failure::LOST, "the links stayed dead\u{202e}", Some(samples::task()));
        let text = page(&lost, &[]);
        assert!(text.contains("klingd retry 7 "), "{text}");
        assert!(!text.contains('\u{202e}'), "{text}");
        let refused = samples::failed("INVALID_PROMPT", "no", None);
        assert!(page(&refused, &[]).contains("renders it anew, for about 200 credits"));
    }

    /// The sum and the lines of the attempts tell the same.
    #[test]
    fn the_sum_agrees_with_the_attempts() {
        let row = |n, outcome: Outcome, charged: Option<u64>, refunded| AttemptRow {
            n: AttemptNo(n),
            outcome,
            charge: outcome.charge().as_str().into(),
            charged: charged.map(Credits::new),
            refunded: Credits::new(refunded),
            ..samples::attempts().remove(0)
        };
        let told = |rows: &[AttemptRow]| {
            let lines: Vec<_> = rows.iter().map(cost).collect();
            format!("{}: {}", charged(rows), lines.join("; "))
        };
        let all = [
            told(&[row(1, Outcome::Accepted, Some(210), 0)]),
            told(&[row(1, Outcome::Accepted, None, 0)]),
            told(&[row(1, Outcome::Unknown, None, 0), row(2, Outcome::Accepted, Some(200), 0)]),
            told(&[row(1, Outcome::Deferred, None, 0)]),
            told(&[row(1, Outcome::Unknown, None, 0)]),
            told(&[row(1, Outcome::Accepted, Some(210), 210)]),
        ];
        insta::assert_snapshot!("credits", all.join("\n"));
    }

    #[test]
    fn an_untouched_job_is_short() {
        let job = Job { max_credits: Some(Credits::new(300)), ..samples::queued() };
        let view = samples::view();
        let none = Everything { job: &job, outputs: &[], history: &[], attempts: &[], view: &view };
        insta::assert_snapshot!("queued", show(&none));
    }
}
