//! The service manager: told when klingd is ready, what matters now in one line (`systemctl status`), that it reads its
//! configuration again, that it lives, and that it stops. The only place that names sd-notify. Nobody listens without
//! `NOTIFY_SOCKET`; then nothing of this is sent.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use jiff::tz::TimeZone;
use sd_notify::NotifyState;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    lanes::{Ground, Live},
    watchdog::Hung,
};
use crate::{
    clock::{local, wall},
    domain::{Credits, Timestamp, hold::Hold},
    store::pulse::{MANY, Pulse},
};

/// The shortest time between two lines: people read them, and under load there are thousands of commits a second.
const PAUSE: Duration = Duration::from_secs(1);
/// A line is looked at again without any commit: midnight comes, a hold ends.
const SLOW_LOOK: Duration = Duration::from_secs(60);
/// The socket of the manager holds a few messages; one that reads none of them for so long hangs.
const LONGEST_SEND: Duration = Duration::from_secs(1);
/// Whoever tells the manager something now.
static SENDING: Mutex<()> = Mutex::const_new(());
/// How often a stop asks for more time.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// Characters of a hold's reason; `klingd status` has all of it.
const WHY_CHARS: usize = 60;

/// Whether a service manager listens.
#[expect(clippy::disallowed_methods, reason = "the service manager's own variable is no configuration")]
pub(super) fn is_asked_for() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// How often the manager wants to hear that klingd is alive, if it does.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// All is well.
pub(super) async fn alive() {
    send(&[NotifyState::Watchdog]).await.ok();
}

/// The configuration is read again, until [`ready`].
pub(super) async fn reloading() {
    // systemd takes the first without the second for nothing.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        send(&[NotifyState::Reloading, now]).await.ok();
    }
}

/// klingd works.
pub(super) async fn ready() {
    send(&[NotifyState::Ready]).await.ok();
}

/// What the manager hears about.
pub(super) struct News {
    pub live: watch::Receiver<Arc<Live>>,
    /// Why the configuration that was read last is not used.
    pub refused: watch::Receiver<Option<String>>,
    pub hung: watch::Receiver<Hung>,
}

/// Says that klingd is ready, then what matters whenever that has changed, and at the end that it stops, until it is
/// `over`.
pub(super) async fn run(ground: Ground, mut news: News, over: CancellationToken) -> Result<()> {
    let Ground { store, clock, stop } = ground;
    let mut commits = store.bells().commits.subscribe();
    let mut manager = Manager::default();
    manager.tell(&[NotifyState::Ready]).await;
    while !stop.is_cancelled() {
        commits.mark_unchanged();
        let now = clock.now();
        let per_day = news.live.borrow_and_update().config.budget.per_day;
        let refused = news.refused.borrow_and_update().clone();
        match store.pulse(clock.day_start(now)).await {
            Ok(pulse) => {
                let line = line(&pulse, per_day, now, local(now).time_zone());
                manager.show(with_refusal(line, refused.as_deref())).await;
            }
            // The line is a courtesy: the lanes meet the same database, and say so if it matters.
            Err(error) => warn!("no status line for the service manager: {error}"),
        }
        let next = async {
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                changed = commits.changed() => { changed.ok(); }
                Ok(()) = news.live.changed() => {}
                Ok(()) = news.refused.changed() => {}
                () = tokio::time::sleep(SLOW_LOOK) => {}
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = next => {}
        }
    }
    let hung = news.hung.borrow().clone();
    if let Some(hung) = hung {
        manager.show(format!("hung: {hung}")).await;
    } else {
        manager.tell(&[NotifyState::Stopping]).await;
    }
    // Without it the manager would kill what is on the wire, and put it in doubt.
    while !over.is_cancelled() {
        let wire = &store.vitals().wire;
        if let Some(left) = wire.takes(store.vitals().now()) {
            let usec = u32::try_from((left + PAUSE).as_micros()).unwrap_or(u32::MAX);
            manager.tell(&[NotifyState::ExtendTimeoutUsec(usec)]).await;
        }
        let line = match wire.count() {
            0 => "stopping".to_owned(),
            n => format!("stopping: {} on the wire, finished first", many(n.into(), "requests")),
        };
        if news.hung.borrow().is_none() {
            manager.show(line).await;
        }
        tokio::select! {
            () = over.cancelled() => {}
            () = tokio::time::sleep(EXTEND_EVERY) => {}
        }
    }
    Ok(())
}

async fn send(news: &[NotifyState<'_>]) -> Result<(), String> {
    if !is_asked_for() {
        return Ok(());
    }
    let text = news.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    // The socket may be full: then the kernel makes the sender wait, for ever where the manager hangs. That must be no
    // lane's thread, one thread at most, and no reason to wait with it.
    let sent = async {
        let turn = SENDING.lock().await;
        let sent = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            sd_notify::notify(&[NotifyState::Custom(&text)])
        });
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => Err(panic.to_string()),
        }
    };
    timeout(LONGEST_SEND, sent).await.unwrap_or_else(|_| Err("it does not read".to_owned()))
}

/// A refused configuration comes first: whoever asked for it looks here.
fn with_refusal(line: String, refused: Option<&str>) -> String {
    match refused {
        Some(why) => format!("the new configuration is not used ({}); {line}", plain(why)),
        None => line,
    }
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
        let Err(failed) = send(news).await else { return };
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

/// The words of a stranger: a line break in them would begin another message to the service manager.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn many(n: u64, what: &str) -> String {
    if n < MANY { format!("{n} {what}") } else { format!("{}+ {what}", Credits::new(MANY)) }
}

fn held(hold: &Hold, now: Timestamp, zone: &TimeZone) -> String {
    let why = plain(&hold.why);
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
