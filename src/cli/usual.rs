//! How long renders usually take, told beside the time that one has taken so far.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;

use super::render::time::span;
use crate::{
    domain::{Job, RenderKind, Schedule, State, Timestamp, state::Watch},
    store::Store,
};

/// The usual times of the kinds of render that are under way, as far as enough were seen to tell.
#[derive(Clone, Debug, Default)]
pub struct Usual(HashMap<RenderKind, Duration>);

impl Usual {
    /// Reads them.
    pub async fn read(store: &Store) -> Result<Self> {
        let seen = store.render_times_under_way().await?;
        let usual =
            seen.into_iter().filter_map(|(kind, runs)| Some((kind, Schedule::learn(kind, &runs).usual()?)));
        Ok(Self(usual.collect()))
    }

    /// How long a render of this job usually takes, while it renders.
    pub fn of(&self, job: &Job) -> Option<Duration> {
        match &job.state {
            State::Generating { watch: Watch::Running | Watch::NotFound { held: false, .. }, .. } => {
                self.0.get(&RenderKind::from(&job.request)).copied()
            }
            State::Generating { .. }
            | State::Queued
            | State::Submitting { .. }
            | State::InDoubt { .. }
            | State::Downloading { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// "2m 10s, usually about 3m"; nothing while that is not known.
    pub fn told(&self, job: &Job, now: Timestamp) -> Option<String> {
        let (usual, since) = (self.of(job)?, job.submitted_at?);
        Some(format!("{}, usually about {}", span(now.since(since)), about(usual)))
    }
}

#[cfg(test)]
impl From<(RenderKind, Duration)> for Usual {
    fn from(one: (RenderKind, Duration)) -> Self {
        Self([one].into())
    }
}

/// A duration as roughly as it is known: to 5 s below a minute and a half, to half a minute below five, then to minutes.
fn about(d: Duration) -> String {
    let s = d.as_secs_f64();
    let to = |step: f64| ((s / step).round().max(1.0) * step) as u64;
    let rounded = match s {
        s if s < 90.0 => to(5.0),
        s if s < 300.0 => to(30.0),
        s if s < 3600.0 => to(60.0),
        _ => to(300.0),
    };
    match (rounded / 3600, rounded / 60 % 60, rounded % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::samples;
    use super::*;

    #[test]
    fn a_usual_time_is_round() {
        let cases = [
            (1.2, "5s"),
            (43.0, "45s"),
            (58.0, "1m"),
            (100.0, "1m 30s"),
            (171.0, "3m"),
            (525.0, "9m"),
            (3_590.0, "1h"),
            (7_700.0, "2h 10m"),
        ];
        for (s, text) in cases {
            assert_eq!(about(Duration::from_secs_f64(s)), text);
        }
    }

    #[test]
    fn only_what_renders_has_one() {
        let kind = RenderKind::from(&samples::queued().request);
        let usual = Usual::from((kind, Duration::from_secs(182)));
        assert_eq!(usual.told(&samples::generating(), samples::at(140)).unwrap(), "2m 10s, usually about 3m");
        assert_eq!(Usual::default().told(&samples::generating(), samples::at(140)), None);
        for job in [samples::queued(), samples::done(), samples::in_doubt()] {
            assert_eq!(usual.of(&job), None);
        }
    }
}
