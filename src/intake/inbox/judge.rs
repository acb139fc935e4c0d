//! What a file brings: its jobs, or the text that says what is wrong with it. Pure: bytes in.

use std::path::Path;

use super::entry::Refusal;
use crate::{
    disk::Template,
    domain::{
        Credits,
        job_type::{JobType, Price},
        request::Draft,
    },
    intake::jobfile::{self, Format, diagnostic::visible, rules},
    store::enqueue::NewBatch,
};

/// What the configuration says of files from the folder.
pub struct Rules {
    /// Request fields for jobs that do not set them.
    pub defaults: Draft,
    /// What a type costs.
    pub price: Box<dyn Fn(JobType) -> Price + Send + Sync>,
    /// Jobs of one file, after expansion.
    pub max_jobs: usize,
    /// What one file may cost: nobody is asked before its jobs are paid.
    pub max_credits: Option<Credits>,
}

/// What is to be done with a file.
#[derive(Debug)]
pub enum Verdict {
    /// These jobs are to be queued.
    Accepted {
        /// The jobs.
        batch: NewBatch,
        /// What is allowed but probably not meant.
        warnings: String,
    },
    /// Nothing of it is queued.
    Rejected {
        /// Everything that is wrong with it.
        errors: String,
    },
}

/// Judges a file by its content; `path` is its path below the folder.
pub fn judge(rules: &Rules, path: &Path, format: Format, bytes: &[u8]) -> Verdict {
    let name = path.to_string_lossy();
    let check_template = |text: &str| Template::parse(text).map(drop).map_err(|e| e.to_string());
    let context = jobfile::Context {
        defaults: &rules.defaults,
        price: &rules.price,
        check_template: &check_template,
        max_jobs: Some(rules.max_jobs),
    };
    let mut file = match jobfile::read(bytes, format, &name, &context) {
        Ok(file) => file,
        Err(diagnostics) => {
            return Verdict::Rejected { errors: jobfile::render_terminal(bytes, &diagnostics, false) };
        }
    };
    let estimate = file.estimate();
    if let Some(allowed) = rules.max_credits.filter(|allowed| estimate > *allowed) {
        return too_expensive(path, estimate, allowed);
    }
    if let Err(why) = tag_by_folders(path, &mut file.jobs) {
        return rejected(path, &why);
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Verdict::Accepted {
        warnings: jobfile::render_terminal(bytes, &file.warnings, false),
        batch: NewBatch {
            name: file.batch.unwrap_or(stem),
            source: name.into_owned(),
            max_credits: file.batch_max_credits,
            jobs: file.jobs,
        },
    }
}

/// Refuses a file that was not read.
pub fn refuse(path: &Path, refusal: Refusal) -> Verdict {
    match refusal {
        Refusal::TooLarge { bytes, cap_bytes } => {
            let why = format!(
                "it has {bytes} bytes; a file of its kind may have {} MiB. Split it, or queue it with `klingd enqueue`",
                cap_bytes >> 20
            );
            rejected(path, &why)
        }
    }
}

/// Refuses a file for its price.
fn too_expensive(path: &Path, estimate: Credits, allowed: Credits) -> Verdict {
    let why = format!(
        "its jobs cost {estimate} credits together; inbox.max_credits_per_file allows {allowed}, since nobody is asked \
         here. Queue it with `klingd enqueue`, which shows the price and asks, or split it, or raise the cap"
    );
    rejected(path, &why)
}

/// As `check` would put what is at no place in a file.
fn rejected(path: &Path, why: &str) -> Verdict {
    Verdict::Rejected { errors: format!("error: {}: {}\n", visible(&path.to_string_lossy()), visible(why)) }
}

/// Each folder on the way is a tag of every job.
fn tag_by_folders(path: &Path, jobs: &mut [crate::domain::job::NewJob]) -> Result<(), String> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    let folders: Vec<_> = folders.map(|folder| folder.as_os_str().to_string_lossy().into_owned()).collect();
    for job in jobs.iter_mut().filter(|_| !folders.is_empty()) {
        let all = job.tags.iter().chain(&folders).cloned().collect();
        job.tags = rules::tags(all)
            .map_err(|flaw| format!("the folders it lies in become tags, and {}", flaw.message))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            defaults: Draft::default(),
            price: Box::new(JobType::price),
            max_jobs: 3,
            max_credits: Some(Credits::new(1000)),
        }
    }

    fn job(rest: &str) -> String {
        format!("type = 'std-text-to-video'\nprompt = 'a cat'\nduration = 3\nsound = false\n{rest}")
    }

    fn judged(path: &str, text: &str) -> Verdict {
        judge(&rules(), Path::new(path), Format::Toml, text.as_bytes())
    }

    fn accepted(path: &str, text: &str) -> NewBatch {
        match judged(path, text) {
            Verdict::Accepted { batch, .. } => batch,
            Verdict::Rejected { errors } => panic!("{errors}"),
        }
    }

    fn errors(path: &str, text: &str) -> String {
        match judged(path, text) {
            Verdict::Accepted { batch, .. } => panic!("{batch:?}"),
            Verdict::Rejected { errors } => errors,
        }
    }

    #[test]
    fn folders_become_tags() {
        let batch = accepted("acme/spring/shots.toml", &job("tags = ['x', 'acme']"));
        assert_eq!((batch.name.as_str(), batch.source.as_str()), ("shots", "acme/spring/shots.toml"));
        assert_eq!(batch.jobs[0].tags, ["x", "acme", "spring"]);
        assert!(accepted("shots.toml", &job("")).jobs[0].tags.is_empty());
        let long = format!("{}/a.toml", "x".repeat(61));
        assert!(
            errors(&long, &job("")).contains("the folders it lies in become tags, and a tag has 61 char")
        );
    }

    #[test]
    fn what_is_wrong_is_said_as_check_says_it() {
        insta::assert_snapshot!(errors("sub/shots.toml", &job("lenght = 3")));
        insta::assert_snapshot!(errors("a.toml", &job("takes = 4")));
        let rules = Rules { max_jobs: 20, ..rules() };
        let dear = judge(&rules, Path::new("a.toml"), Format::Toml, job("takes = 9").as_bytes());
        let Verdict::Rejected { errors } = dear else { panic!("{dear:?}") };
        insta::assert_snapshot!(errors);
        let large = refuse(Path::new("a\n.toml"), Refusal::TooLarge { bytes: 1_048_577, cap_bytes: 1 << 20 });
        let Verdict::Rejected { errors } = large else { panic!("{large:?}") };
        insta::assert_snapshot!(errors);
    }
}
