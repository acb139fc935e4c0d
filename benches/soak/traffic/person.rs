//! The person: looks into the provider's books and settles every doubt truthfully; takes jobs back, and pays for a new
//! render of failed ones.

use std::{collections::HashSet, time::Duration};

use serde_json::Value;

use super::Traffic;
use crate::Result;

/// Between two rounds.
const ROUND: Duration = Duration::from_millis(1500);

impl Traffic<'_> {
    /// Until everybody goes home.
    pub fn person(&self) -> Result<()> {
        let mut dice = fastrand::Rng::with_seed(self.seed ^ 2);
        let mut seen = HashSet::new();
        let mut round = 0u64;
        while !self.over.wait_at_most(ROUND) {
            round += 1;
            seen = self.settle_doubts(&seen)?;
            if self.handed_over.wait_at_most(Duration::ZERO) {
                continue;
            }
            if round.is_multiple_of(9) {
                self.take_one_back(&mut dice)?;
            }
            if round.is_multiple_of(11) {
                self.render_one_anew()?;
            }
        }
        Ok(())
    }

    /// What was in doubt a round ago already: a request that was cut off by a kill may still be on its way to the books.
    fn settle_doubts(&self, seen: &HashSet<i64>) -> Result<HashSet<i64>> {
        let doubts = self.jobs(&["list", "--json", "--state", "in_doubt"])?;
        for (id, prompt) in doubts.iter().filter(|(id, _)| seen.contains(id)) {
            let number = id.to_string();
            let told = match self.paid_and_unknown(prompt) {
                Some(task) => self.world.klingd(&["resolve", &number, "--task-id", &task])?,
                None => self.world.klingd(&["resolve", &number, "--not-charged"])?,
            };
            // The check of the task may meet a fault; then it is tried again.
            self.did(if told.code == Some(0) { "resolve" } else { "resolve, refused" });
        }
        Ok(doubts.into_iter().map(|(id, _)| id).collect())
    }

    /// The newest task of this prompt; nothing if the last request was not charged.
    fn paid_and_unknown(&self, prompt: &str) -> Option<String> {
        let expected = self.book().offered.get(prompt).map_or(0, |offer| offer.rendered_anew);
        // Each new render on purpose has a task before it.
        self.world.books(|model| {
            let mut of_job = model.tasks().iter().filter(|task| task.prompt == prompt);
            of_job.nth(expected).map(|task| task.id.clone())
        })
    }

    fn take_one_back(&self, dice: &mut fastrand::Rng) -> Result<()> {
        let mut jobs =
            self.jobs(&["list", "--json", "--state", "queued", "--state", "generating", "-n", "40"])?;
        if jobs.is_empty() {
            return Ok(());
        }
        let (id, prompt) = jobs.swap_remove(dice.usize(..jobs.len()));
        let known = self.book().offered.get(&prompt).copied();
        let Some(before) = known else { return Ok(()) };
        self.book().offered.entry(prompt.clone()).and_modify(|offer| offer.cancelled = true);
        let ran = self.world.klingd(&["cancel", &id.to_string(), "--yes"])?;
        self.did("cancel");
        if ran.code != Some(0) {
            self.book().offered.insert(prompt, before);
        }
        Ok(())
    }

    fn render_one_anew(&self) -> Result<()> {
        let failed = self.jobs(&["list", "--json", "--state", "failed", "-n", "1"])?;
        let Some((id, prompt)) = failed.into_iter().next() else { return Ok(()) };
        let known = self.book().offered.get(&prompt).copied();
        let Some(before) = known.filter(|offer| !offer.cancelled) else { return Ok(()) };
        self.book().offered.entry(prompt.clone()).and_modify(|offer| offer.rendered_anew += 1);
        let ran = self.world.klingd(&["retry", &id.to_string(), "--new-render", "--yes"])?;
        self.did("retry --new-render");
        if ran.code != Some(0) {
            self.book().offered.insert(prompt, before);
        }
        Ok(())
    }

    fn jobs(&self, arguments: &[&str]) -> Result<Vec<(i64, String)>> {
        let listed = self.must("list --json", arguments)?;
        let job = |line: &str| -> Option<(i64, String)> {
            let job: Value = serde_json::from_str(line).ok()?;
            Some((job["id"].as_i64()?, job["request"]["prompt"].as_str()?.to_owned()))
        };
        Ok(listed.lines().filter_map(job).collect())
    }
}
