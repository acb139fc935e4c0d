//! Progress of long commands: one bar for all jobs and a line for each that is under way. Drawn on stderr, and only on
//! a terminal; what it shows is read from the store, so that it is the same whoever does the work.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::{
    arriving::{Arrivals, Arriving},
    render::{list::title, text::cut, time::span},
    usual::Usual,
};
use crate::{
    clock::Clock,
    config::Config,
    domain::{Job, JobId, State, Timestamp},
    store::Store,
};

/// Lines beside the bar: more than fit a small terminal would scroll it away.
const LINES: usize = 12;
/// A job under way, and one whose video is coming.
const LINE: &str = "  {spinner} {msg}";
const BAR: &str =
    "  {spinner} {msg}  {bar:16.green} {percent} % of {decimal_total_bytes}, {decimal_bytes_per_sec}";
/// Characters of a job's name.
const NAME_CHARS: usize = 32;
/// A look at the store, for a queue of a few jobs; a person does not see more.
const EVERY: Duration = Duration::from_millis(200);

/// The drawing.
pub struct Progress {
    lines: MultiProgress,
    total: ProgressBar,
    jobs: BTreeMap<JobId, ProgressBar>,
    arrivals: Arrivals,
}

impl Progress {
    /// A drawing that is empty so far; without `visible` it stays so.
    pub fn new(visible: bool, arrivals: Arrivals) -> Self {
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let lines = MultiProgress::with_draw_target(target);
        let total = lines.add(ProgressBar::new(0));
        total.set_style(style("{bar:30.green} {pos} of {len} at rest, {elapsed}"));
        Self { lines, total, jobs: BTreeMap::new(), arrivals }
    }

    /// Draws these jobs, of which `total` are waited for in all.
    pub fn update(&mut self, moving: &[Job], total: usize, usual: &Usual, now: Timestamp) {
        let at_rest = total.saturating_sub(moving.len());
        self.total.set_length(u64::try_from(total).unwrap_or(u64::MAX));
        self.total.set_position(u64::try_from(at_rest).unwrap_or(u64::MAX));
        self.total.tick();
        let shown: Vec<_> = moving.iter().filter(|job| is_under_way(job)).take(LINES).collect();
        let lines = &self.lines;
        self.jobs.retain(|id, line| {
            let stays = shown.iter().any(|job| job.id == *id);
            if !stays {
                lines.remove(line);
            }
            stays
        });
        let arriving = self.arrivals.look(moving, now);
        for job in shown {
            let line = self.jobs.entry(job.id).or_insert_with(|| {
                let line = lines.add(ProgressBar::no_length());
                line.set_style(style(LINE));
                line
            });
            if let Some(Arriving { bytes, total: Some(total), .. }) = arriving.get(&job.id) {
                // The bar knows the rate by itself, from look to look.
                if line.length() != Some(*total) {
                    line.set_style(style(BAR));
                    line.set_length(*total);
                    line.reset_eta();
                }
                line.set_position(*bytes);
            }
            line.set_message(describe(job, usual, now));
            line.tick();
        }
    }

    /// Prints something without disturbing the drawing.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.lines.suspend(print);
    }

    /// Wipes the drawing.
    pub fn clear(&self) {
        // A bar that is only dropped is drawn once more.
        self.jobs.values().chain([&self.total]).for_each(ProgressBar::finish_and_clear);
        // A terminal that is gone needs no wiping.
        self.lines.clear().ok();
    }
}

/// A bar over the bytes of a file, or a count where nobody knows how many there are. Without `visible` it draws nothing.
pub fn bytes_bar(what: &'static str, bytes: Option<u64>, visible: bool) -> ProgressBar {
    let template = if bytes.is_some() {
        "{msg} {bar:30.green} {bytes} of {total_bytes}"
    } else {
        "{msg} {spinner} {bytes}"
    };
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    ProgressBar::with_draw_target(bytes, target).with_style(style(template)).with_message(what)
}

/// A bar over jobs.
pub fn jobs_bar(what: &'static str, jobs: usize, visible: bool) -> ProgressBar {
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = style("{msg} {bar:30.green} {pos} of {len} jobs");
    ProgressBar::with_draw_target(Some(jobs as u64), target).with_style(template).with_message(what)
}

/// How long to wait before the next look: so that looking at many jobs costs a small part of the time.
pub fn pause(jobs: usize) -> Duration {
    EVERY + Duration::from_micros(200).saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX))
}

/// Shows the progress of these jobs until `stop`. Writes nothing but the terminal.
pub async fn show(
    store: &Store,
    config: &Config,
    ids: &[JobId],
    visible: bool,
    clock: Clock,
    stop: CancellationToken,
) -> Result<()> {
    let mut progress = Progress::new(visible, Arrivals::new(config));
    while visible && !stop.is_cancelled() {
        let mut jobs = store.jobs(ids).await?;
        jobs.retain(|job| !job.state.at_rest());
        let usual = Usual::read(store).await?;
        progress.update(&jobs, ids.len(), &usual, clock.now());
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause(ids.len())) => {}
        }
    }
    progress.clear();
    Ok(())
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours; one that does not parse would show as the default style, in a test too.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn is_under_way(job: &Job) -> bool {
    match job.state {
        State::Submitting { .. } | State::Generating { .. } | State::Downloading { .. } => true,
        State::Queued
        | State::InDoubt { .. }
        | State::Done { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => false,
    }
}

fn describe(job: &Job, usual: &Usual, now: Timestamp) -> String {
    let plain = || job.submitted_at.map(|t| span(now.since(t))).unwrap_or_default();
    let since = usual.told(job, now).unwrap_or_else(plain);
    let name = cut(&title(job), NAME_CHARS);
    format!("{:>4}  {name:<NAME_CHARS$}  {:<11}  {since}", job.id, job.state.label())
}

#[cfg(test)]
mod tests {
    use super::super::render::samples;
    use super::*;
    use crate::domain::RenderKind;

    #[test]
    fn a_line_has_name_state_and_seconds() {
        assert_eq!(
            describe(&samples::generating(), &Usual::default(), samples::at(22)),
            "   7  harbour                           generating   12s"
        );
        let kind = RenderKind::from(&samples::generating().request);
        let usual = Usual::from((kind, Duration::from_secs(90)));
        assert_eq!(
            describe(&samples::generating(), &usual, samples::at(22)),
            "   7  harbour                           generating   12s, usually about 1m 30s"
        );
    }

    #[test]
    fn templates_are_right() {
        for template in [
            "{bar:30.green} {pos} of {len} at rest, {elapsed}",
            LINE,
            BAR,
            "{msg} {bar:30.green} {bytes} of {total_bytes}",
            "{msg} {spinner} {bytes}",
            "{msg} {bar:30.green} {pos} of {len} jobs",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn jobs_come_and_go() {
        let mut progress = Progress::new(false, Arrivals::nowhere());
        let jobs = [samples::generating(), Job { id: JobId(8), ..samples::queued() }];
        progress.update(&jobs, 3, &Usual::default(), samples::at(20));
        assert_eq!((progress.total.position(), progress.jobs.len()), (1, 1));
        progress.update(&[], 3, &Usual::default(), samples::at(21));
        assert_eq!((progress.total.position(), progress.jobs.len()), (3, 0));
    }
}
