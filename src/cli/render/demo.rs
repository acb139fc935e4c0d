//! `klingd demo`: what it says before and after.

use std::{collections::BTreeMap, path::Path};

use super::{
    super::view::View,
    Look,
    list::rested,
    table::{Cell, Column, Fit, table},
    text::{count, line, size},
};
use crate::{
    domain::{Credits, Job, State, job_type::JobType},
    store::download::Output,
};

/// What a demo made.
pub struct Made<'a> {
    /// Its jobs with their videos.
    pub jobs: &'a [(Job, Vec<Output>)],
    /// The queue around them.
    pub view: &'a View,
    /// What paths are shown relative to.
    pub current_dir: &'a Path,
    /// Where it happened.
    pub data_dir: &'a Path,
}

/// Before.
pub fn before(jobs: usize, data_dir: &Path, current_dir: &Path) -> String {
    format!(
        "This is a demo with a SIMULATED provider: no key, no network, nothing is paid.\n\
         The queue and the files are real: {} from jobs.example.toml go into {}.",
        count(jobs, "job"),
        relative(&data_dir.to_string_lossy(), current_dir)
    )
}

/// Afterwards: the videos, what they would have cost, what to do next.
pub fn after(made: &Made<'_>, look: Look) -> String {
    [videos(made), costs(made, look), next(made)].join("\n\n")
}

fn videos(made: &Made<'_>) -> String {
    let files: Vec<String> = made
        .jobs
        .iter()
        .flat_map(|(_, outputs)| outputs)
        .filter_map(|output| output.file.as_ref().filter(|_| output.published_at.is_some()))
        .map(|file| format!("  {}  ({})", relative(&file.path, made.current_dir), size(file.bytes)))
        .collect();
    let unfinished = made.jobs.iter().filter(|(job, _)| !matches!(job.state, State::Done { .. }));
    let unfinished: Vec<String> =
        unfinished.map(|(job, outputs)| format!("  {}", rested(job, outputs, made.view))).collect();
    let mut text = format!("{}, ready to play:\n{}", count(files.len(), "video"), files.join("\n"));
    if !unfinished.is_empty() {
        text.push_str(&format!("\n\nNot done:\n{}", unfinished.join("\n")));
    }
    text
}

/// A path as it can be pasted into a command here.
pub fn relative(path: &str, current_dir: &Path) -> String {
    let path = Path::new(path);
    line(&path.strip_prefix(current_dir).unwrap_or(path).to_string_lossy())
}

const COLUMNS: [Column; 4] = [
    Column { title: "TYPE", fit: Fit::Whole, from_width: 0 },
    Column { title: "JOBS", fit: Fit::Number, from_width: 0 },
    Column { title: "ESTIMATED", fit: Fit::Number, from_width: 0 },
    Column { title: "CHARGED", fit: Fit::Number, from_width: 0 },
];

#[derive(Clone, Copy, Default)]
struct Sum {
    jobs: usize,
    estimated: Credits,
    charged: Credits,
}

impl Sum {
    fn with(self, job: &Job) -> Self {
        Self {
            jobs: self.jobs + 1,
            estimated: self.estimated + job.estimate,
            charged: self.charged + job.charged.unwrap_or_default(),
        }
    }

    fn row(self, title: &str) -> Vec<Cell> {
        let numbers = [self.jobs.to_string(), self.estimated.to_string(), self.charged.to_string()];
        [title.to_owned()].into_iter().chain(numbers).map(Cell::from).collect()
    }
}

fn costs(made: &Made<'_>, look: Look) -> String {
    let mut by_type: BTreeMap<JobType, Sum> = BTreeMap::new();
    let mut total = Sum::default();
    for (job, _) in made.jobs {
        let sum = by_type.entry(job.request.job_type()).or_default();
        *sum = sum.with(job);
        total = total.with(job);
    }
    let mut rows: Vec<_> = by_type.into_iter().map(|(job_type, sum)| sum.row(job_type.as_str())).collect();
    rows.push(total.row("all"));
    format!("Credits (simulated: nothing was paid)\n{}", table(&COLUMNS, &rows, look))
}

fn next(made: &Made<'_>) -> String {
    let data_dir = relative(&made.data_dir.to_string_lossy(), made.current_dir);
    format!(
        "Look around:\n  \
         klingd --data-dir {data_dir} list\n  \
         klingd --data-dir {data_dir} show 1\n\
         \n\
         For real:\n  \
         klingd config init             writes a configuration with every key explained\n  \
         export KLINGD_API__KEY=…       or put the key into a file: api.key_file\n  \
         klingd check my-jobs.toml      every mistake and the price, before anything is queued\n  \
         klingd enqueue my-jobs.toml\n  \
         klingd run --until-idle        or as a service: klingd run"
    )
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn page(jobs: &[(Job, Vec<Output>)]) -> String {
        let made = Made {
            jobs,
            view: &samples::view(),
            current_dir: Path::new("/data"),
            data_dir: Path::new("/data/klingd-demo"),
        };
        after(&made, Look::Terminal { width: 80, height: 24, colour: false })
    }

    #[test]
    fn ends_with_videos_credits_and_the_next_step() {
        insta::assert_snapshot!("after", page(&[(samples::done(), samples::outputs())]));
    }

    #[test]
    fn what_is_not_done_is_said() {
        let text = page(&[(samples::in_doubt(), Vec::new())]);
        assert!(
            text.contains("Not done:\n  7 harbour: in_doubt, in doubt, 200 credits: klingd resolve 7"),
            "{text}"
        );
    }

    #[test]
    fn it_says_first_that_nothing_is_paid() {
        let text = before(7, Path::new("/x/klingd-demo"), Path::new("/x"));
        assert!(text.lines().next().unwrap().contains("SIMULATED"), "{text}");
    }
}
