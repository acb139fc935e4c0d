//! The operator: prunes, looks at the money, reloads, stops the daemon and kills it; starts it again when it is gone.

use std::time::Duration;

use rustix::process::Signal;

use super::Traffic;
use crate::Result;

/// Between two looks at the watch.
const ROUND: Duration = Duration::from_millis(500);

/// How the daemon comes to another life.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Stop,
}

/// At which share of the run; the last life is half of it, so that a slow growth shows.
const ENDS: [(f64, End); 4] =
    [(1.0 / 6.0, End::Kill), (2.0 / 6.0, End::Kill), (5.0 / 12.0, End::Stop), (0.5, End::Kill)];

impl Traffic<'_> {
    /// Until everybody goes home.
    pub fn operator(&self) -> Result<()> {
        let mut ends = ENDS.iter().peekable();
        let mut turns = Turns::new(self.lasts);
        while !self.over.wait_at_most(ROUND) {
            if let Some(ended) = self.world.ended()? {
                self.complain(format!("the daemon ended by itself: {ended}"));
                self.world.start()?;
            }
            let now = self.world.begun.elapsed();
            if let Some((_, end)) = ends.next_if(|(at, _)| now >= self.lasts.mul_f64(*at)) {
                self.end_a_life(*end)?;
            }
            if turns.prune.comes(now) {
                let age = format!("{}s", self.lasts.as_secs().div_ceil(20).max(5));
                self.must("prune", &["prune", "--older-than", &age, "--yes"])?;
            }
            if turns.reload.comes(now) {
                self.world.configure(if turns.reload.count.is_multiple_of(2) { 8 } else { 6 })?;
                self.world.signal(Signal::HUP)?;
                self.did("reload");
            }
            if turns.look.comes(now) {
                self.must("spend", &["spend"])?;
                self.must("list -a", &["list", "-a", "-n", "100"])?;
            }
        }
        Ok(())
    }

    fn end_a_life(&self, end: End) -> Result<()> {
        match end {
            End::Kill => self.world.kill()?,
            End::Stop => {
                if let Err(error) = self.world.stop() {
                    self.complain(error.to_string());
                }
            }
        }
        self.did(match end {
            End::Kill => "kill -9",
            End::Stop => "stop and start",
        });
        self.world.start()
    }
}

/// What comes again and again.
struct Turns {
    prune: Turn,
    reload: Turn,
    look: Turn,
}

impl Turns {
    fn new(lasts: Duration) -> Self {
        Self {
            prune: Turn::every(lasts / 15),
            reload: Turn::every(lasts / 22),
            look: Turn::every(lasts / 120),
        }
    }
}

struct Turn {
    every: Duration,
    count: u32,
}

impl Turn {
    fn every(every: Duration) -> Self {
        Self { every, count: 0 }
    }

    fn comes(&mut self, now: Duration) -> bool {
        let comes = now >= self.every * (self.count + 1);
        self.count += u32::from(comes);
        comes
    }
}
