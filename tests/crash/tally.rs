//! What a rung of the ladder did: how many lives it lived, which faults were seen to fire, what was checked how often,
//! and what broke. Pure; the ladder prints it as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What must hold after every fault and every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Each job that was taken is in the database, or its file is still in the inbox.
    Kept,
    /// The provider charged a job once at most, unless a person said so.
    PaidOnce,
    /// What may have been sent or charged is followed, finished, or in doubt and shown.
    OnRecord,
    /// A video under its final name is the provider's, byte for byte.
    Whole,
    /// The database is sound, and each history leads to its job's state.
    Sound,
    /// It comes to rest without help.
    Rests,
    /// The key is nowhere, and a signed link nowhere but in the rows.
    Secret,
    /// Nothing is left behind: no part, no growing log of writes, no descriptors.
    Clean,
}

impl Invariant {
    pub const ALL: [Self; 8] = [
        Self::Kept,
        Self::PaidOnce,
        Self::OnRecord,
        Self::Whole,
        Self::Sound,
        Self::Rests,
        Self::Secret,
        Self::Clean,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::PaidOnce => "paid once",
            Self::OnRecord => "on record",
            Self::Whole => "whole",
            Self::Sound => "sound",
            Self::Rests => "rests",
            Self::Secret => "secret",
            Self::Clean => "clean",
        }
    }
}

/// How often each was checked, and what was broken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub checked: BTreeMap<Invariant, u64>,
    pub broken: Vec<String>,
}

impl Verdict {
    /// One check, and the lines that tell how it failed.
    pub fn check(&mut self, invariant: Invariant, broken: impl IntoIterator<Item = String>) {
        self.count(invariant, 1);
        self.broken.extend(broken.into_iter().map(|line| format!("{}: {line}", invariant.name())));
    }

    /// So many checks that held: what asserts, did not fail.
    pub fn count(&mut self, invariant: Invariant, times: u64) {
        *self.checked.entry(invariant).or_default() += times;
    }

    pub fn add(&mut self, other: &Self) {
        other.checked.iter().for_each(|(invariant, times)| self.count(*invariant, *times));
        self.broken.extend(other.broken.iter().cloned());
    }
}

/// What one rung did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub rung: &'static str,
    pub lives: u64,
    /// By kind; zero for one that was armed and never seen.
    pub fired: BTreeMap<String, u64>,
    pub verdict: Verdict,
    /// Why it did nothing, where it can't.
    pub skipped: Option<String>,
}

impl Tally {
    pub fn of(rung: &'static str) -> Self {
        Self { rung, ..Self::default() }
    }

    /// A fault that was seen so often; zero arms it. Its argument is no part of its kind.
    pub fn fired(&mut self, fault: &str, times: u64) {
        let kind = fault.split_once('=').map_or(fault, |(kind, _)| kind);
        *self.fired.entry(kind.to_owned()).or_default() += times;
    }

    /// A life and what was seen in it.
    pub fn lived(&mut self, verdict: &Verdict) {
        self.lives += 1;
        self.verdict.add(verdict);
    }

    /// A life that ended in a panic: its assertion is a violation.
    pub fn broke(&mut self, life: &str, why: &str) {
        self.lives += 1;
        self.verdict.broken.push(format!("{life}: {why}"));
    }

    /// Kinds that were armed and that nobody ever saw.
    pub fn silent(&self) -> Vec<&str> {
        self.fired.iter().filter(|(_, times)| **times == 0).map(|(kind, _)| kind.as_str()).collect()
    }
}

/// The table, and below it what fired in each rung, what never did, and what broke.
pub fn table(tallies: &[Tally]) -> String {
    let mut text = format!("{:<26} {:>8} {:>8} {:>6}", "rung", "lives", "faults", "kinds");
    for invariant in Invariant::ALL {
        write!(text, " {:>9}", invariant.name()).unwrap();
    }
    writeln!(text, " {:>10}", "violations").unwrap();
    for tally in tallies {
        if let Some(why) = &tally.skipped {
            writeln!(text, "{:<26} SKIPPED: {why}", tally.rung).unwrap();
            continue;
        }
        let (all, kinds) = (tally.fired.values().sum::<u64>(), tally.fired.len() - tally.silent().len());
        write!(text, "{:<26} {:>8} {all:>8} {kinds:>6}", tally.rung, tally.lives).unwrap();
        for invariant in Invariant::ALL {
            write!(text, " {:>9}", tally.verdict.checked.get(&invariant).unwrap_or(&0)).unwrap();
        }
        writeln!(text, " {:>10}", tally.verdict.broken.len()).unwrap();
    }
    for tally in tallies {
        let fired = tally.fired.iter().filter(|(_, times)| **times > 0);
        let fired: Vec<String> = fired.map(|(kind, times)| format!("{kind} {times}")).collect();
        if !fired.is_empty() {
            writeln!(text, "\n{} fired: {}", tally.rung, fired.join(", ")).unwrap();
        }
        if !tally.silent().is_empty() {
            writeln!(text, "{} NEVER FIRED: {}", tally.rung, tally.silent().join(", ")).unwrap();
        }
        for line in &tally.verdict.broken {
            writeln!(text, "{} BROKEN: {line}", tally.rung).unwrap();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung() -> Tally {
        let mut tally = Tally::of("3 chaos");
        let mut verdict = Verdict::default();
        verdict.check(Invariant::PaidOnce, []);
        verdict.check(Invariant::Whole, ["1.mp4 is torn".to_owned()]);
        tally.lived(&verdict);
        tally.broke("seed 7", "it hangs");
        tally.fired("video:cut=100", 2);
        tally.fired("video:cut=200", 1);
        tally.fired("status:404", 0);
        tally
    }

    #[test]
    fn kinds_are_counted_without_their_arguments_and_the_silent_ones_are_named() {
        let tally = rung();
        assert_eq!(tally.fired.get("video:cut"), Some(&3));
        assert_eq!(tally.silent(), ["status:404"]);
        assert_eq!(tally.lives, 2);
        assert_eq!(tally.verdict.broken, ["whole: 1.mp4 is torn", "seed 7: it hangs"]);
    }

    #[test]
    fn the_table_tells_lives_faults_checks_and_violations() {
        let skipped = Tally { skipped: Some("it needs root".to_owned()), ..Tally::of("5 power") };
        let text = table(&[rung(), skipped]);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["3", "chaos", "2", "3", "1", "0", "1", "0", "1", "0", "0", "0", "0", "2"]);
        for part in [
            "5 power                    SKIPPED: it needs root",
            "3 chaos fired: video:cut 3",
            "3 chaos NEVER FIRED: status:404",
            "3 chaos BROKEN: seed 7: it hangs",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
