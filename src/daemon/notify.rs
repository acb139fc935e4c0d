//! The service manager: told when klingd is ready, what matters now in one line (`systemctl status`), and that it stops.
//! The only place that names sd-notify. Nobody listens without `NOTIFY_SOCKET`; then none of this runs.

use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    clock::{Clock, local, wall},
    domain::{Credits, Timestamp, hold::Hold},
    store::{
        Store,
        pulse::{MANY, Pulse},
    },
};

/// The shortest time between two lines: people read them, and under load there are thousands of commits a second.
const PAUSE: Duration = Duration::from_secs(1);
/// A line is looked at again without any commit: midnight comes, a hold ends.
const SLOW_LOOK: Duration = Duration::from_secs(60);
/// Characters of a hold's reason; `klingd status` has all of it.
const WHY_CHARS: usize = 60;

/// Whether a service manager listens.
#[expect(clippy::disallowed_methods, reason = "the service manager's own variable is no configuration")]
pub(super) fn is_asked_for() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Says that klingd is ready, then what matters whenever that has changed, and at the end that it stops.
pub(super) async fn run(
    store: Store,
    per_day: Option<Credits>,
    clock: Clock,
    stop: CancellationToken,
) -> Result<()> {
    let mut commits = store.bells().commits.subscribe();
    let mut manager = Manager::default();
    manager.tell(&[NotifyState::Ready]).await;
    while !stop.is_cancelled() {
        commits.mark_unchanged();
        let now = clock.now();
        match store.pulse(clock.day_start(now)).await {
            Ok(pulse) => manager.show(line(&pulse, per_day, now, local(now).time_zone())).await,
            // The line is a courtesy: the lanes meet the same database, and say so if it matters.
            Err(error) => warn!("no status line for the service manager: {error}"),
        }
        let next = async {
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                changed = commits.changed() => { changed.ok(); }
                () = tokio::time::sleep(SLOW_LOOK) => {}
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = next => {}
        }
    }
    manager.tell(&[NotifyState::Stopping]).await;
    manager.show("stopping: requests on the wire are finished first".to_owned()).await;
    Ok(())
}

/// The service manager, as far as it has been told.
#[derive(Default)]
struct Manager {
    shown: String,
    deaf: bool,
}

impl Manager {
    async fn show(&mut self, line: String) {
        if line != self.shown {
            self.tell(&[NotifyState::Status(&line)]).await;
            self.shown = line;
        }
    }

    /// A manager that does not listen is no reason to stop; it is said once.
    async fn tell(&mut self, news: &[NotifyState<'_>]) {
        let text = news.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        // The socket may be full: then the kernel makes the sender wait, and that must not be a lane's thread.
        let sent =
            tokio::task::spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(&text)])).await;
        let failed = match sent {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        if !std::mem::replace(&mut self.deaf, true) {
            warn!("the service manager can't be told ({failed}); klingd goes on");
        }
    }
}

/// What matters, in one line.
fn line(pulse: &Pulse, per_day: Option<Credits>, now: Timestamp, zone: &TimeZone) -> String {
    let counts =
        [(pulse.in_flight, "generating"), (pulse.downloading, "downloading"), (pulse.queued, "queued")];
    let counts: Vec<_> = counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| many(n, what)).collect();
    let mut parts = vec![if counts.is_empty() { "idle".to_owned() } else { counts.join(", ") }];
    let today = pulse.today.spent();
    parts.push(match per_day {
        Some(cap) => format!("{today} of {cap} credits today"),
        None => format!("{today} credits today"),
    });
    if pulse.in_doubt > 0 {
        parts.push(many(pulse.in_doubt, "in doubt"));
    }
    if pulse.stuck > 0 {
        let need = if pulse.stuck == 1 { "needs you" } else { "need you" };
        parts.push(many(pulse.stuck, need));
    }
    parts.extend(pulse.holds.iter().filter(|hold| hold.holds(now)).map(|hold| held(hold, now, zone)));
    if pulse.holds.iter().any(|hold| hold.is_on_trial(now)) {
        parts.push("the key is tried by one job at a time".to_owned());
    }
    if let Some(until) = pulse.gate.closed(now) {
        parts.push(format!("submits wait until {}", wall(until, now, zone)));
    }
    parts.join("; ")
}

fn many(n: u64, what: &str) -> String {
    if n < MANY { format!("{n} {what}") } else { format!("{}+ {what}", Credits::new(MANY)) }
}

fn held(hold: &Hold, now: Timestamp, zone: &TimeZone) -> String {
    // The provider's words are a stranger's: a line break in them would begin another message to the service manager.
    let why: String = hold.why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let why = match why.char_indices().nth(WHY_CHARS) {
        Some((end, _)) => format!("{}…", &why[..end]),
        None => why,
    };
    let until = hold.until.map(|until| format!(" until {}", wall(until, now, zone))).unwrap_or_default();
    let (name, since) = (hold.name.as_str(), wall(hold.since, now, zone));
    format!("held: {name} ({why} since {since}{until}; {})", hold.name.remedy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{HoldName, gate::Gate},
        store::ledger::Sums,
    };

    fn said(pulse: &Pulse, per_day: Option<u64>) -> String {
        // 2026-02-05T14:30:00Z.
        let now = Timestamp::from_millis(1_770_301_800_000);
        line(pulse, per_day.map(Credits::new), now, &TimeZone::UTC)
    }

    fn ago(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_770_301_800_000) - Duration::from_secs(60 * minutes)
    }

    fn busy() -> Pulse {
        let today = Sums {
            charged: Credits::new(3_010),
            reserved: Credits::new(200),
            in_doubt: Credits::new(200),
            refunded: Credits::ZERO,
        };
        Pulse { in_flight: 3, downloading: 1, queued: 12, in_doubt: 1, today, ..Pulse::default() }
    }

    #[test]
    fn a_line_says_what_matters() {
        let held = Pulse {
            holds: vec![Hold::new(HoldName::Key, "HTTP 401 INVALID_API_KEY".into(), ago(28))],
            stuck: 2,
            ..busy()
        };
        let rate = Hold {
            until: Some(ago(0) + Duration::from_secs(5400)),
            ..Hold::new(HoldName::Rate, "HTTP 429\nMAINPID=1\u{1b}".into(), ago(3))
        };
        let long = Hold::new(HoldName::Credits, "x".repeat(100), ago(24 * 60));
        let tried = Hold { until: Some(ago(1)), ..Hold::new(HoldName::Key, "401".into(), ago(60)) };
        let gate = Gate { closed_until: Some(ago(0) + Duration::from_secs(60)), ..Gate::default() };
        let lines = [
            said(&Pulse::default(), None),
            said(&busy(), Some(20_000)),
            said(&held, Some(20_000)),
            said(&Pulse { queued: MANY, holds: vec![rate, long], gate, ..Pulse::default() }, None),
            said(&Pulse { queued: 1, stuck: 1, holds: vec![tried], ..Pulse::default() }, None),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }
}
