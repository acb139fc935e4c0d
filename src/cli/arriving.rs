//! How far downloads are, by what anybody can see of their temporary files: no transaction is spent on progress. Looks,
//! and writes nothing.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::render::text::size;
use crate::{
    config::Config,
    daemon::{OutputSettings, output_settings},
    disk::part::growth,
    domain::{Job, JobId, State, Timestamp, state::Link},
};

/// The shortest time over which a rate means something.
const RATE_OVER: Duration = Duration::from_millis(100);

/// What has come of a job's missing videos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arriving {
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes in all, as far as they were announced.
    pub total: Option<u64>,
    /// Bytes a second since the look before, if there was one.
    pub rate: Option<u64>,
}

impl Arriving {
    /// `43 % of 12.3 MB, 5.1 MB/s`.
    pub fn text(&self) -> String {
        let mut text = match self.total {
            Some(total) => format!("{} % of {}", self.bytes.saturating_mul(100) / total.max(1), size(total)),
            None => format!("{} so far", size(self.bytes)),
        };
        if let Some(rate) = self.rate {
            text.push_str(&format!(", {}/s", size(rate)));
        }
        text
    }
}

/// Looks again and again, and so knows rates.
pub struct Arrivals {
    /// None with a template that nobody can use: the daemon says what is wrong with it.
    output: Option<OutputSettings>,
    before: HashMap<JobId, (u64, Timestamp)>,
}

impl Arrivals {
    /// Looks where this configuration puts videos.
    pub fn new(config: &Config) -> Self {
        Self { output: output_settings(config).ok(), before: HashMap::new() }
    }

    /// How far those of the jobs are that have begun to download.
    pub fn look(&mut self, jobs: &[Job], now: Timestamp) -> HashMap<JobId, Arriving> {
        let mut found = HashMap::new();
        for job in jobs {
            let State::Downloading { missing, link: Link::Fresh, .. } = &job.state else { continue };
            if let Some(arriving) = self.of(job, missing) {
                found.insert(job.id, Arriving { rate: self.rate(job.id, arriving.bytes, now), ..arriving });
            }
        }
        self.before.retain(|id, _| found.contains_key(id));
        found
    }

    fn of(&self, job: &Job, missing: &BTreeSet<u32>) -> Option<Arriving> {
        let output = self.output.as_ref()?;
        let parts =
            missing.iter().filter_map(|index| output.parts(job, *index).iter().find_map(|p| growth(p)));
        parts.reduce(sum).map(|(bytes, total)| Arriving { bytes, total, rate: None })
    }

    fn rate(&mut self, job: JobId, bytes: u64, now: Timestamp) -> Option<u64> {
        let (before, at) = *self.before.entry(job).or_insert((bytes, now));
        let over = now.since(at);
        if over < RATE_OVER {
            return None;
        }
        self.before.insert(job, (bytes, now));
        let rate = u128::from(bytes.saturating_sub(before)) * 1000 / over.as_millis().max(1);
        u64::try_from(rate).ok()
    }
}

/// Of several videos, the total is known when it is of each.
fn sum(a: (u64, Option<u64>), b: (u64, Option<u64>)) -> (u64, Option<u64>) {
    (a.0 + b.0, a.1.zip(b.1).map(|(a, b)| a + b))
}

#[cfg(test)]
mod tests {
    use super::{super::render::samples, *};
    use crate::disk::Part;

    #[test]
    fn a_person_reads_share_size_and_rate() {
        let arriving = Arriving { bytes: 5_300_000, total: Some(12_300_000), rate: Some(5_100_000) };
        assert_eq!(arriving.text(), "43 % of 12.3 MB, 5.1 MB/s");
        assert_eq!(Arriving { total: None, rate: None, ..arriving }.text(), "5.3 MB so far");
    }

    impl Arrivals {
        /// Sees nothing.
        pub fn nowhere() -> Self {
            Self { output: None, before: HashMap::new() }
        }
    }

    #[test]
    fn what_is_on_disk_is_what_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let job = samples::submitted(State::Downloading {
            task: samples::task(),
            missing: [0, 1].into(),
            link: Link::Fresh,
        });
        let output = OutputSettings {
            root: dir.path().to_owned(),
            staging: dir.path().join("staging"),
            template: "{id}.mp4".parse().unwrap(),
            sidecar: true,
            verify: crate::domain::plan::download::Verify::Structure,
        };
        let mut arrivals = Arrivals { output: Some(output), before: HashMap::new() };
        let mut look = |ms| arrivals.look(std::slice::from_ref(&job), Timestamp::from_millis(ms));
        assert_eq!(look(0), HashMap::new(), "not begun");
        let name = format!("klingd-{}-1", job.id);
        let mut part = Part::create(dir.path(), &name, 1 << 20).unwrap();
        part.write(&[1; 8192]).unwrap();
        part.reserve(1 << 20).unwrap();
        let one = look(1000)[&job.id];
        assert!(one.bytes == 8192 && one.total.is_none_or(|total| total >= 1 << 20), "{one:?}");
        part.write(&[1; 8192]).unwrap();
        assert_eq!(look(3000)[&job.id].rate, Some(4096));
    }

    #[test]
    fn a_rate_needs_two_looks() {
        let mut arrivals = Arrivals::nowhere();
        let t = Timestamp::from_millis(1_000_000);
        let ms = Duration::from_millis;
        assert_eq!(arrivals.rate(JobId(1), 1000, t), None);
        assert_eq!(arrivals.rate(JobId(1), 3000, t + ms(500)), Some(4000));
        assert_eq!(arrivals.rate(JobId(1), 3100, t + ms(510)), None, "too soon to mean anything");
        assert_eq!(arrivals.rate(JobId(1), 0, t + ms(1500)), Some(0), "from zero again");
    }
}
