//! Jobs, steadily: by command, in bulk through a pipe, and as files of all three kinds in the inbox.

use std::{fs, time::Duration};

use klingd::clock::Clock;
use serde_json::{Value, json};

use super::{LOOK, Traffic};
use crate::{Result, judge::Offer};

impl Traffic<'_> {
    /// Hands over all jobs, evenly over the time.
    pub fn customers(&self) -> Result<()> {
        let mut dice = fastrand::Rng::with_seed(self.seed);
        let mut sent = 0;
        while sent < self.jobs && !self.over.wait_at_most(Duration::ZERO) {
            let share = self.world.begun.elapsed().as_secs_f64() / self.lasts.as_secs_f64();
            if sent as f64 >= self.jobs as f64 * share {
                self.over.wait_at_most(LOOK);
                continue;
            }
            let left = self.jobs - sent;
            sent += match dice.f64() {
                ..0.55 => self.by_command(sent, &mut dice)?,
                0.55..0.97 => self.by_file(sent, dice.usize(1..=12).min(left), &mut dice)?,
                _ => self.in_bulk(sent, dice.usize(40..=150).min(left))?,
            };
        }
        self.handed_over.set();
        Ok(())
    }

    /// One job; now and then the same once more, which must not be a second one.
    fn by_command(&self, n: usize, dice: &mut fastrand::Rng) -> Result<usize> {
        let prompt = prompt(n);
        let arguments = [
            "enqueue",
            "--yes",
            "--quiet",
            "--type",
            "std-text-to-video",
            "--duration",
            "3",
            "--no-sound",
            "--priority",
            "50",
            "--prompt",
            &prompt,
        ];
        self.book().probes.insert(prompt.clone(), Clock.now().as_millis());
        self.must("enqueue", &arguments)?;
        self.offer(prompt.clone());
        if dice.f64() < 0.03 {
            self.must("enqueue again", &arguments)?;
        }
        Ok(1)
    }

    fn in_bulk(&self, from: usize, count: usize) -> Result<usize> {
        let lines: String = (from..from + count).map(|n| format!("{}\n", job(n))).collect();
        let ran = self.world.klingd_reads(&["enqueue", "--yes", "--quiet", "-"], &lines)?;
        self.did("enqueue -");
        if ran.code != Some(0) {
            self.complain(format!("enqueue - ended with {:?}: {}", ran.code, ran.err));
        }
        (from..from + count).for_each(|n| self.offer(prompt(n)));
        Ok(count)
    }

    /// Written under a name that the inbox does not look at, then renamed, as people are told to.
    fn by_file(&self, from: usize, count: usize, dice: &mut fastrand::Rng) -> Result<usize> {
        let jobs: Vec<Value> = (from..from + count).map(job).collect();
        let (kind, text) = match dice.u8(0..3) {
            0 => ("toml", toml::to_string(&json!({ "job": jobs }))?),
            1 => ("json", json!({ "job": jobs }).to_string()),
            _ => ("jsonl", jobs.iter().map(|job| format!("{job}\n")).collect()),
        };
        let (hidden, shown) = (format!(".{from}.part"), format!("order-{from}.{kind}"));
        fs::write(self.world.inbox().join(&hidden), text)?;
        fs::rename(self.world.inbox().join(hidden), self.world.inbox().join(shown))?;
        self.did("a file into the inbox");
        (from..from + count).for_each(|n| self.offer(prompt(n)));
        Ok(count)
    }

    fn offer(&self, prompt: String) {
        self.book().offered.insert(prompt, Offer::default());
    }
}

fn prompt(n: usize) -> String {
    format!("Soak {n}: a lighthouse at dusk, slow pan to the left, gulls over wet nets")
}

fn job(n: usize) -> Value {
    json!({ "type": "std-text-to-video", "prompt": prompt(n), "duration": 3, "sound": false, "tags": ["soak"] })
}
