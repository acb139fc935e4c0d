//! The gate under arbitrary news: it obeys the provider, never lets too many through, and always opens again.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};

use super::{
    super::{
        arbitrary::{self, T0},
        retry::Dice,
        time::{CLOCK_STEP, Timestamp},
    },
    Admission, Flight, Gate, GateNews, GatePolicy, LONGEST_QUIET,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// As many as the gate lets through go out.
    Submit,
    /// The oldest request on the wire is answered.
    Answer(GateNews, Option<Duration>),
    /// One of our tasks ends.
    TaskEnds,
    /// A person brings a task back (`retry`, `resolve --task-id`): it is in flight without having passed the gate.
    TaskReturns,
    Wait(Duration),
}

fn wish() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        (1u64..120).prop_map(Duration::from_secs),
        (120u64..100_000).prop_map(Duration::from_secs),
        Just(Duration::MAX),
    ]
}

fn news() -> impl Strategy<Value = GateNews> {
    prop_oneof![
        1 => Just(GateNews::Nothing),
        4 => Just(GateNews::Passed),
        2 => Just(GateNews::TooFast),
        1 => Just(GateNews::SlotsFull),
        1 => Just(GateNews::Answered),
        2 => Just(GateNews::Outage),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Submit),
        5 => (news(), option::weighted(0.2, wish())).prop_map(|(news, wish)| Step::Answer(news, wish)),
        2 => Just(Step::TaskEnds),
        1 => Just(Step::TaskReturns),
        3 => (0u64..4000).prop_map(|s| Step::Wait(Duration::from_millis(s * s))),
    ]
}

fn policy() -> impl Strategy<Value = GatePolicy> {
    (1u32..6, 0u32..20, 100u64..5000, 1u64..1000).prop_map(|(start, more, cooldown_ms, max_s)| GatePolicy {
        start_in_flight: start,
        max_in_flight: start + more,
        cooldown: Duration::from_millis(cooldown_ms),
        cooldown_max: Duration::from_secs(max_s),
    })
}

/// The gate, the requests on the wire and the tasks, with a count of its own of what the provider asked for.
struct World {
    gate: Gate,
    policy: GatePolicy,
    now: Timestamp,
    on_the_wire: u32,
    tasks: u32,
    /// Nothing may leave before: every `Retry-After` in full, as far as the gate holds it (beyond an hour it is the
    /// hold's business).
    quiet_until: Timestamp,
}

impl World {
    fn flight(&self) -> Flight {
        Flight { on_the_wire: self.on_the_wire, tasks: self.tasks }
    }

    fn admits(&self) -> Admission {
        self.gate.admits(self.flight(), &self.policy, self.now)
    }

    fn step(&mut self, step: Step, dice: Dice) {
        match step {
            Step::Submit => {
                if let Admission::Go(n) = self.admits() {
                    self.on_the_wire += n;
                    self.gate = self.gate.take(n, self.now);
                }
            }
            Step::Answer(..) if self.on_the_wire == 0 => {}
            Step::Answer(news, wish) => {
                self.on_the_wire -= 1;
                self.gate = self.gate.hear(news, wish, self.flight(), &self.policy, self.now, dice);
                if news == GateNews::Passed {
                    self.tasks += 1;
                }
                let quiet = wish.unwrap_or_default().min(LONGEST_QUIET);
                self.quiet_until = self.quiet_until.max(self.now + quiet);
            }
            Step::TaskEnds => self.tasks = self.tasks.saturating_sub(1),
            Step::TaskReturns => self.tasks += 1,
            Step::Wait(d) => self.now = self.now + d,
        }
    }

    fn check(&self) {
        match self.admits() {
            Admission::Go(n) => {
                assert!(self.now >= self.quiet_until, "sent into the quiet that the provider asked for");
                assert!(n >= 1 && self.flight().all() + n <= self.policy.max_in_flight, "{n} more");
                if self.gate.strikes > 0 || self.gate.outages > 0 {
                    assert_eq!((n, self.on_the_wire), (1, 0), "one probe at a time");
                }
            }
            Admission::ClosedUntil(_) => {}
            Admission::Full => assert!(self.flight().all() > 0, "full of nothing: it would never open"),
        }
        assert!(self.gate.slots(&self.policy) >= 1, "no slot at all");
        if let Some(rate) = self.gate.rate {
            let per_second = rate.per_second();
            assert!(per_second > 0.0 && per_second <= 200.0, "{per_second} a second");
        }
        let kept: Gate = serde_json::from_str(&serde_json::to_string(&self.gate).unwrap()).unwrap();
        assert_eq!(kept, self.gate, "a restart remembers it");
        // With nothing of ours in flight, wherever the clock jumps: open, or open at the time it names.
        for now in [self.now, self.now - LONGEST_QUIET, self.now - 24 * LONGEST_QUIET] {
            let alone = |at| self.gate.admits(Flight::default(), &self.policy, at);
            match alone(now) {
                Admission::Go(_) => {}
                Admission::ClosedUntil(until) => {
                    assert!(
                        until > now && until.since(now) <= LONGEST_QUIET + CLOCK_STEP,
                        "closed at {now} until {until}"
                    );
                    assert!(matches!(alone(until), Admission::Go(_)), "{until} came and it stayed closed");
                }
                Admission::Full => panic!("full of nothing"),
            }
        }
        // A clock that is set back a little opens nothing.
        if let (Admission::ClosedUntil(until), Some(_)) = (self.admits(), self.gate.closed(self.now)) {
            let earlier = self.gate.admits(self.flight(), &self.policy, self.now - CLOCK_STEP);
            assert_eq!(earlier, Admission::ClosedUntil(until), "opened by a clock that was set back");
        }
    }
}

proptest! {
    #![proptest_config(arbitrary::at_least(1000))]

    #[test]
    fn the_gate_obeys_and_opens_again(
        policy in policy(),
        steps in vec((step(), 0.0f64..1.0), 0..80),
    ) {
        let mut world =
            World { gate: Gate::default(), policy, now: T0, on_the_wire: 0, tasks: 0, quiet_until: T0 };
        world.check();
        for (step, draw) in steps {
            world.step(step, Dice::new(draw));
            world.check();
        }
    }
}
