//! How many status calls may leave: never more than `poll.max_per_second`, and after a 429 at a learned pace.
//!
//! It is the gate of the submits over again: a quiet that begins short and grows while looks keep being refused, one look
//! first and then the rest, and a rate that is learned from what passes between refusals. What it knows is kept in the
//! database when a pause begins or ends, so that every view can say why nothing is looked at, and a restart does not ask
//! into a quiet that the provider wished for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    gate::{Admission, Flight, Gate, GateNews, GatePolicy, LONGEST_QUIET},
    pace::Pace,
    plan::poll::PollAnswer,
    retry::Dice,
    time::Timestamp,
};

/// The first pause without a wish. A look is free and a link may expire meanwhile, so it is as short as the gate's.
const COOLDOWN: Duration = Duration::from_secs(2);
/// A learned rate that is as fast as `poll.max_per_second` changes nothing: it is forgotten when nothing was refused for
/// so long. Sooner, a provider with a long wish would refill its burst meanwhile and never be learned.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Why no status call leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    /// The provider answered one with 429.
    #[default]
    Rate,
    /// It refused the key that all tasks are asked about with.
    Key,
}

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptLooks {
    gate: Gate,
    cause: PauseCause,
    refused_at: Option<Timestamp>,
}

impl KeptLooks {
    /// Until when nothing is looked at, and why. An end further away is the word of a clock that has jumped back since.
    pub fn pause(&self, now: Timestamp) -> Option<(Timestamp, PauseCause)> {
        let until = self.gate.closed_until.filter(|t| *t > now && t.since(now) <= LONGEST_QUIET)?;
        Some((until, self.cause))
    }

    /// The learned pace, in status calls a second; `None` while nothing is known to be too fast.
    pub fn per_second(&self) -> Option<f64> {
        self.gate.rate.map(|rate| rate.per_second())
    }

    /// Pauses that ended in a refused look, in a row.
    pub fn refusals(&self) -> u32 {
        self.gate.strikes
    }

    /// What a restart goes by: a key may have been mended meanwhile, a look tells.
    #[must_use]
    pub fn after_restart(self) -> Self {
        match self.cause {
            PauseCause::Rate => self,
            PauseCause::Key => {
                Self { gate: Gate { closed_until: None, ..self.gate }, cause: PauseCause::Rate, ..self }
            }
        }
    }
}

/// Lets status calls leave.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    per_second: f64,
    bound: Pace,
    policy: GatePolicy,
    kept: KeptLooks,
}

impl Looks {
    /// At most `per_second` and `at_once`, and no pause without a wish longer than `slowest`.
    pub fn new(per_second: f64, at_once: u32, slowest: Duration) -> Self {
        let policy = GatePolicy {
            start_in_flight: at_once,
            max_in_flight: at_once,
            cooldown: COOLDOWN.min(slowest),
            cooldown_max: slowest,
        };
        Self { per_second, bound: Pace::new(per_second), policy, kept: KeptLooks::default() }
    }

    /// What is known.
    pub fn kept(&self) -> KeptLooks {
        self.kept
    }

    /// Goes on from what was known.
    pub fn go_on_from(&mut self, kept: KeptLooks) {
        self.kept = kept;
    }

    /// Takes up to `want` now; with nothing to take, says when to ask again: `None` until an answer is there.
    pub fn take(
        &mut self,
        want: usize,
        on_the_wire: u32,
        now: Timestamp,
    ) -> Result<usize, Option<Timestamp>> {
        let flight = Flight { on_the_wire, tasks: 0 };
        let room = match self.kept.gate.admits(flight, &self.policy, now) {
            Admission::Go(n) => usize::try_from(n).unwrap_or(usize::MAX),
            Admission::ClosedUntil(at) => return Err(Some(at)),
            Admission::Full => return Err(None),
        };
        let got = self.bound.take(want.min(room), now).map_err(Some)?;
        self.count(got, now);
        Ok(got)
    }

    /// Counts one that leaves without asking: those that ask wait for it.
    pub fn owe(&mut self, now: Timestamp) {
        self.bound.owe();
        self.count(1, now);
    }

    fn count(&mut self, n: usize, now: Timestamp) {
        self.kept.gate = self.kept.gate.take(u32::try_from(n).unwrap_or(u32::MAX), now);
    }

    /// What an answer says of all status calls. Says whether to keep it: a pause began, grew or ended, or a pace was
    /// forgotten.
    pub fn hear(&mut self, answer: &PollAnswer, now: Timestamp, dice: Dice) -> bool {
        let before = self.kept;
        let (news, wish) = match answer {
            PollAnswer::RateLimited { retry_after } => (GateNews::TooFast, *retry_after),
            PollAnswer::Running { .. }
            | PollAnswer::Succeeded { .. }
            | PollAnswer::Failed { .. }
            | PollAnswer::NotFound => (GateNews::Passed, None),
            PollAnswer::KeyRefused { .. } | PollAnswer::Forbidden { .. } | PollAnswer::Unclear { .. } => {
                (GateNews::Nothing, None)
            }
        };
        let gate = before.gate.hear(news, wish, Flight::default(), &self.policy, now, dice);
        if matches!(news, GateNews::TooFast) {
            self.kept.refused_at = Some(now);
            self.kept.cause = before.pause(now).map_or(PauseCause::Rate, |(_, cause)| cause);
        }
        let rate = gate.rate.map(|rate| rate.at_most(self.per_second));
        let long_ago = before.refused_at.is_none_or(|at| now.since(at) >= FORGET_AFTER);
        let rate = rate.filter(|rate| !(long_ago && rate.per_second() >= self.per_second));
        self.kept.gate = Gate { rate, ..gate };
        let now = &self.kept.gate;
        now.closed_until != before.gate.closed_until
            || now.strikes != before.gate.strikes
            || now.rate.is_some() != before.gate.rate.is_some()
    }

    /// The key was refused: every task has the same one, so one look tells at the end of the pause.
    pub fn key_refused(&mut self, until: Timestamp) {
        let gate = self.kept.gate;
        let closed_until = gate.closed_until.max(Some(until));
        self.kept.gate = Gate { closed_until, strikes: gate.strikes.max(1), ..gate };
        self.kept.cause = PauseCause::Key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    /// A provider's token bucket.
    struct Bucket {
        per_second: f64,
        burst: f64,
        tokens: f64,
        at: u64,
        wish: Option<Duration>,
    }

    impl Bucket {
        fn new(per_second: f64, burst: f64, wish: Option<Duration>) -> Self {
            Self { per_second, burst, tokens: burst, at: 0, wish }
        }

        fn ask(&mut self, at: u64) -> PollAnswer {
            let grown = (at - self.at) as f64 / 1000.0 * self.per_second;
            self.tokens = (self.tokens + grown).min(self.burst);
            self.at = at;
            if self.tokens < 1.0 {
                return PollAnswer::RateLimited { retry_after: self.wish };
            }
            self.tokens -= 1.0;
            PollAnswer::Running { word: "IN_PROGRESS".into() }
        }
    }

    /// Hundreds of tasks are due all the time; an answer takes 300 ms. Gives the times of what passed and of what did not.
    fn run(looks: &mut Looks, bucket: &mut Bucket, from: u64, to: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut passed, mut refused) = (Vec::new(), Vec::new());
        let mut wire: Vec<(u64, PollAnswer)> = Vec::new();
        for at in (from..to).step_by(10) {
            let now = Timestamp::from_millis(i64::try_from(at).unwrap());
            while let Some(i) = wire.iter().position(|(answered, _)| *answered <= at) {
                let (_, answer) = wire.remove(i);
                looks.hear(&answer, now, Dice::new(0.5));
                if matches!(answer, PollAnswer::Running { .. }) { &mut passed } else { &mut refused }
                    .push(at);
            }
            let free = 16 - wire.len();
            if let Ok(n) = looks.take(free, u32::try_from(wire.len()).unwrap(), now) {
                wire.extend((0..n).map(|_| (at + 300, bucket.ask(at))));
            }
        }
        (passed, refused)
    }

    fn looks() -> Looks {
        Looks::new(2.0, 16, Duration::from_secs(300))
    }

    #[test]
    fn a_limit_is_used_and_hardly_ever_run_into() {
        let wishes = [None, Some(Duration::from_secs(2)), Some(Duration::from_secs(15))];
        for (per_second, burst, wish) in
            [(0.5, 1.0), (0.5, 5.0), (1.5, 1.0)].into_iter().flat_map(|(r, b)| wishes.map(|w| (r, b, w)))
        {
            let mut bucket = Bucket::new(per_second, burst, wish);
            let (passed, refused) = run(&mut looks(), &mut bucket, 0, 30 * MINUTE);
            let later = |times: &[u64]| times.iter().filter(|t| **t >= 5 * MINUTE).count() as f64;
            let used = later(&passed) / (25.0 * 60.0 * per_second);
            let share = later(&refused) / later(&passed);
            let what = format!("{per_second}/s, burst {burst}, {wish:?}: {used:.3} used, 429s {share:.4}");
            assert!(used >= 0.8 && share <= 0.02, "{what}");
            let first: usize = passed.iter().filter(|t| **t < 5 * MINUTE).count();
            assert!(first as f64 >= 0.4 * 300.0 * per_second, "{what}: {first} in the first five minutes");
        }
    }

    #[test]
    fn a_limit_that_went_away_is_forgotten() {
        let (mut looks, mut bucket) = (looks(), Bucket::new(0.5, 1.0, None));
        run(&mut looks, &mut bucket, 0, 5 * MINUTE);
        assert!(looks.kept().per_second().is_some_and(|r| r < 1.0), "{looks:?}");
        (bucket.per_second, bucket.burst) = (100.0, 100.0);
        run(&mut looks, &mut bucket, 5 * MINUTE, 40 * MINUTE);
        assert_eq!(looks.kept().per_second(), None);
        let (passed, _) = run(&mut looks, &mut bucket, 40 * MINUTE, 41 * MINUTE);
        assert!((118..=122).contains(&passed.len()), "{}: never above poll.max_per_second", passed.len());
    }

    #[test]
    fn the_quiet_grows_while_looks_are_refused() {
        let (mut looks, mut bucket) = (looks(), Bucket::new(1e-9, 0.0, None));
        let (_, refused) = run(&mut looks, &mut bucket, 0, 10 * MINUTE);
        let steps: Vec<u64> = refused.windows(2).map(|two| (two[1] - two[0]) / 1000).collect();
        assert_eq!(steps, [2, 5, 15, 30, 60, 120, 300], "one look each");
        // However long it was: the first that passes ends it.
        (bucket.per_second, bucket.burst) = (100.0, 100.0);
        let (passed, _) = run(&mut looks, &mut bucket, 10 * MINUTE, 16 * MINUTE);
        assert!(passed.len() > 2, "{passed:?}");
        assert_eq!(looks.kept().refusals(), 0);
    }

    #[test]
    fn a_wish_is_obeyed_and_a_wish_for_nothing_is_not() {
        let at = |ms| Timestamp::from_millis(ms);
        for (wish, pause) in [(60, 60_000), (0, 2_000), (86_400, 3_600_000)] {
            let mut looks = looks();
            let refused = PollAnswer::RateLimited { retry_after: Some(Duration::from_secs(wish)) };
            assert!(looks.hear(&refused, at(0), Dice::new(0.5)), "it is kept");
            assert_eq!(looks.take(8, 0, at(1)), Err(Some(at(pause))));
            assert_eq!(looks.kept().pause(at(1)), Some((at(pause), PauseCause::Rate)));
            assert_eq!(looks.take(8, 0, at(pause)), Ok(1), "one look first");
            assert_eq!(looks.take(7, 1, at(pause)), Err(None), "the rest waits for its answer");
            let fine = PollAnswer::NotFound;
            assert!(looks.hear(&fine, at(pause + 100), Dice::new(0.5)), "its end is kept");
            assert_eq!(looks.kept().pause(at(pause + 100)), None);
            assert!(!looks.hear(&fine, at(pause + 200), Dice::new(0.5)), "a look costs no write");
        }
    }

    #[test]
    fn a_refused_key_pauses_until_one_look_tells() {
        let at = |ms| Timestamp::from_millis(ms);
        let mut looks = looks();
        looks.key_refused(at(300_000));
        assert_eq!(looks.kept().pause(at(1)), Some((at(300_000), PauseCause::Key)));
        assert_eq!(looks.take(8, 0, at(300_000)), Ok(1));
        assert_eq!(looks.kept().after_restart().pause(at(1)), None, "a mended key is tried at once");
    }
}
