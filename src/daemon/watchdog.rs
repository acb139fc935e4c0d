//! The watchdog: the service manager is told that all is well for as long as all is well, and kills klingd when it is
//! told nothing (`WatchdogSec=`). This is the judge of "all is well"; `notify` tells.
//!
//! A kill puts every request on the wire in doubt. So when a part hangs, nothing new is begun, and the feeding goes on
//! until the requests that are on the wire have their answers on record; then it ends.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::notify;
use crate::vitals::{Sign, Stalled, Vitals, stalled};

/// What was found hanging, if anything was.
pub(super) type Hung = Option<String>;

/// Feeds the watchdog until `over`; `hung` learns once what hangs.
pub(super) async fn run(
    vitals: Arc<Vitals>,
    interval: Duration,
    hung: watch::Sender<Hung>,
    over: CancellationToken,
) -> Result<()> {
    // A part shows itself twice in the time it has, and the manager hears of it twice in the time klingd has.
    let every = interval / 4;
    vitals.turn_at_least_every(every);
    let mut judge = Judge::new(interval / 2);
    while !over.is_cancelled() {
        let now = vitals.now();
        let found = judge.judge(&vitals.signs(), now);
        let well = found.is_empty() && hung.borrow().is_none();
        if !found.is_empty() && hung.borrow().is_none() {
            let what = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            error!("{what}: nothing new is begun, and klingd is to be started again");
            hung.send_replace(Some(what));
        }
        if well || vitals.wire.takes(now).is_some() {
            notify::alive().await;
        }
        tokio::select! {
            () = over.cancelled() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
    Ok(())
}

/// Judges, look by look.
pub(super) struct Judge {
    patience: Duration,
    looked_at: Option<Duration>,
    /// Until then nobody is judged.
    amnesty: Duration,
}

impl Judge {
    pub fn new(patience: Duration) -> Self {
        Self { patience, looked_at: None, amnesty: Duration::ZERO }
    }

    /// Which vital parts hang. Who was late himself can't say that others were: the whole process stood still (a machine
    /// that was paused), and everybody gets the time to show themselves.
    pub fn judge(&mut self, signs: &[Sign], now: Duration) -> Vec<Stalled> {
        let late = self.looked_at.replace(now).is_some_and(|last| now.saturating_sub(last) > self.patience);
        if late {
            self.amnesty = now + self.patience;
        }
        if now < self.amnesty {
            return Vec::new();
        }
        let mut found = stalled(signs, now, self.patience);
        found.retain(|stalled| stalled.part.is_vital());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitals::Part;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn parts(found: &[Stalled]) -> Vec<Part> {
        found.iter().map(|stalled| stalled.part).collect()
    }

    #[test]
    fn a_part_that_hangs_is_found_and_a_share_that_hangs_is_no_reason() {
        let vitals = Vitals::default();
        let mut judge = Judge::new(s(30));
        [Part::Inbox, Part::Poll, Part::Submit]
            .into_iter()
            .for_each(|part| vitals.beat(part).turn(s(100), None));
        assert_eq!(judge.judge(&vitals.signs(), s(115)), []);
        vitals.beat(Part::Submit).turn(s(130), None);
        assert_eq!(parts(&judge.judge(&vitals.signs(), s(130))), []);
        assert_eq!(parts(&judge.judge(&vitals.signs(), s(145))), [Part::Poll]);
    }

    #[test]
    fn after_a_pause_of_the_whole_machine_everybody_gets_time() {
        let vitals = Vitals::default();
        let mut judge = Judge::new(s(30));
        vitals.beat(Part::Poll).turn(s(100), Some(s(150)));
        assert_eq!(judge.judge(&vitals.signs(), s(110)), []);
        assert_eq!(judge.judge(&vitals.signs(), s(700)), [], "ten minutes later");
        assert_eq!(judge.judge(&vitals.signs(), s(715)), []);
        assert_eq!(parts(&judge.judge(&vitals.signs(), s(730))), [Part::Poll], "it never came back");
    }
}
