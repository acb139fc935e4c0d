//! The rules at work: which call is spoiled, and how often each rule was.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::{Fault, Faults, GenerateFault, Point, Rule, StatusFault, TaskFault, VideoFault, When};

/// Every rule with its counters, one lane for each point.
#[derive(Debug)]
pub(in crate::sandbox) struct Plan {
    pub generate: Lane<GenerateFault>,
    pub status: Lane<StatusFault>,
    pub video: Lane<VideoFault>,
    pub task: Lane<TaskFault>,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        Self {
            generate: Lane { seed, rules: Vec::new() },
            status: Lane { seed, rules: Vec::new() },
            video: Lane { seed, rules: Vec::new() },
            task: Lane { seed, rules: Vec::new() },
        }
    }

    pub fn add(&mut self, faults: Faults) {
        for rule in faults.rules {
            match rule.fault.clone() {
                Fault::Slow { point, delay } => match point {
                    Point::Generate => self.generate.arm(rule, Effect::Delay(delay)),
                    Point::Status => self.status.arm(rule, Effect::Delay(delay)),
                    Point::Video => self.video.arm(rule, Effect::Delay(delay)),
                    Point::Task => self.task.arm(rule, Effect::Delay(delay)),
                },
                Fault::Generate(fault) => self.generate.arm(rule, Effect::Fault(fault)),
                Fault::Status(fault) => self.status.arm(rule, Effect::Fault(fault)),
                Fault::Video(fault) => self.video.arm(rule, Effect::Fault(fault)),
                Fault::Task(fault) => self.task.arm(rule, Effect::Fault(fault)),
            }
        }
    }

    /// How often each rule fired, by its name. A rule that never fired is there with zero.
    pub fn fired(&self) -> BTreeMap<String, u64> {
        let mut fired = BTreeMap::new();
        let counts = self.generate.counts().chain(self.status.counts());
        for (name, count) in counts.chain(self.video.counts()).chain(self.task.counts()) {
            *fired.entry(name.to_owned()).or_default() += count;
        }
        fired
    }
}

/// The rules of one point, in the order in which they were given.
#[derive(Debug)]
pub(in crate::sandbox) struct Lane<F> {
    seed: u64,
    rules: Vec<Armed<F>>,
}

#[derive(Debug)]
struct Armed<F> {
    rule: Rule,
    effect: Effect<F>,
    matched: u64,
    fired: u64,
    /// How often the dice were cast for a prompt.
    casts: HashMap<String, u64>,
}

#[derive(Debug)]
enum Effect<F> {
    Delay(Duration),
    Fault(F),
}

/// What becomes of one call.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sandbox) struct Drawn<F> {
    pub delay: Option<Duration>,
    pub fault: Option<F>,
}

impl<F: Clone> Lane<F> {
    fn arm(&mut self, rule: Rule, effect: Effect<F>) {
        self.rules.push(Armed { rule, effect, matched: 0, fired: 0, casts: HashMap::new() });
    }

    fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rules.iter().map(|armed| (armed.rule.name.as_str(), armed.fired))
    }

    /// What happens to this call; `shows` says whether the client could see a fault there at all.
    pub fn draw(&mut self, prompt: &str, shows: impl Fn(&F) -> bool) -> Drawn<F> {
        let mut drawn = Drawn { delay: None, fault: None };
        for (index, armed) in self.rules.iter_mut().enumerate() {
            let matches = armed.rule.prompt.as_ref().is_none_or(|part| prompt.contains(part.as_str()))
                && match &armed.effect {
                    Effect::Delay(_) => true,
                    Effect::Fault(fault) => shows(fault),
                };
            if !matches {
                continue;
            }
            armed.matched += 1;
            // A call has one fault; a rule that comes second waits if it can.
            let taken = drawn.fault.is_some() && matches!(armed.effect, Effect::Fault(_));
            if taken || !armed.due() || !armed.cast(self.seed, index, prompt) {
                continue;
            }
            armed.fired += 1;
            match &armed.effect {
                Effect::Delay(delay) => {
                    drawn.delay = Some(drawn.delay.unwrap_or_default().saturating_add(*delay))
                }
                Effect::Fault(fault) => drawn.fault = Some(fault.clone()),
            }
        }
        drawn
    }
}

impl<F> Armed<F> {
    fn due(&self) -> bool {
        match &self.rule.when {
            When::Next => self.fired == 0,
            When::Calls(calls) => calls.contains(&self.matched),
            When::Always => true,
        }
    }

    /// Casts the dice. A cast depends on the seed, the rule, the prompt and how often this prompt was cast for, not on the
    /// order in which jobs interleave: the same seed spoils the same jobs.
    fn cast(&mut self, seed: u64, index: usize, prompt: &str) -> bool {
        if self.rule.percent == 100 {
            return true;
        }
        let count = self.casts.entry(prompt.to_owned()).or_default();
        *count += 1;
        let mixed = [seed, index as u64, hash(prompt), *count]
            .into_iter()
            .fold(0, |state, part| fastrand::Rng::with_seed(state ^ part).u64(..));
        mixed % 100 < u64::from(self.rule.percent)
    }
}

/// FNV-1a: the standard hasher may change between releases of Rust, and a seed must mean the same for ever.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
