//! The flags of `enqueue` into the same jobs as a file of one job, by the same rules.

use std::fmt;

use super::jobfile::{
    Code, Context,
    rules::{self, Flaw},
    spec::Spec,
};
use crate::domain::{credits::Credits, job::NewJob, request::Draft, time::Timestamp};

/// A job given as flags: typed by the command line, not yet checked.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "named as the flags are")]
pub struct Flags {
    pub draft: Draft,
    pub name: Option<String>,
    pub output: Option<String>,
    pub tags: Vec<String>,
    pub priority: Option<i64>,
    pub not_before: Option<String>,
    pub takes: Option<i64>,
    pub key: Option<String>,
    /// What all takes may cost together, as on the command line everywhere.
    pub max_credits: Option<i64>,
    pub again: bool,
}

/// One thing wrong with the flags. Displays as a line for stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagError {
    /// The flag, without its dashes.
    pub flag: String,
    /// Its kind, for the exit code.
    pub code: Code,
    /// What is wrong and why.
    pub message: String,
    /// What to write instead, when that is known.
    pub hint: Option<String>,
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}: {}", self.flag, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl Flags {
    /// The jobs, one a take; or everything that is wrong.
    pub fn read(self, context: &Context<'_>) -> Result<Vec<NewJob>, Vec<FlagError>> {
        let mut errors = Errors::default();
        let spec = Spec {
            draft: self.draft,
            name: errors.keep("name", self.name, |text| rules::label(&text)),
            output: errors.keep("output", self.output, |text| rules::template(&text, context)),
            tags: errors.keep("tag", Some(self.tags), rules::tags).unwrap_or_default(),
            priority: errors.keep("priority", self.priority, rules::priority).unwrap_or(0),
            takes: errors.keep("takes", self.takes, rules::takes).unwrap_or(1),
            not_before: errors.keep("not_before", self.not_before, |text| rules::not_before(&text)),
            key: errors.keep("key", self.key, |text| rules::label(&text)),
            max_credits: None,
            again: self.again,
            cell: None,
        };
        let max_credits = errors.keep("max_credits", self.max_credits, rules::max_credits);
        let jobs = spec.expand(context, "flags").unwrap_or_else(|refusals| {
            refusals.into_iter().for_each(|(key, flaw)| errors.add(key, flaw));
            Vec::new()
        });
        let total: Credits = jobs.iter().map(|job| job.estimate).sum();
        if let Some(max) = max_credits.filter(|max| total > *max) {
            let message = format!("this costs {total} credits, more than the {max} that are allowed");
            errors.add("max_credits", Flaw::new(Code::OverMaxCredits, message));
        }
        if errors.0.is_empty() { Ok(jobs) } else { Err(errors.0) }
    }
}

/// The flags of `set`, which `enqueue` takes beside files too: typed, not yet checked.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "named as the flags are")]
pub struct Changes {
    pub name: Option<String>,
    pub tags: Vec<String>,
    pub priority: Option<i64>,
    pub not_before: Option<String>,
}

/// [`Changes`] that are right; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "named as the flags are")]
pub struct CheckedChanges {
    pub name: Option<String>,
    pub tags: Option<Vec<String>>,
    pub priority: Option<i8>,
    pub not_before: Option<Timestamp>,
}

impl Changes {
    /// By the rules of files; or everything that is wrong.
    pub fn read(self) -> Result<CheckedChanges, Vec<FlagError>> {
        let mut errors = Errors::default();
        let tags = Some(self.tags).filter(|tags| !tags.is_empty());
        let checked = CheckedChanges {
            name: errors.keep("name", self.name, |text| rules::label(&text)),
            tags: errors.keep("tag", tags, rules::tags),
            priority: errors.keep("priority", self.priority, rules::priority),
            not_before: errors.keep("not_before", self.not_before, |text| rules::not_before(&text)),
        };
        if errors.0.is_empty() { Ok(checked) } else { Err(errors.0) }
    }
}

#[derive(Default)]
struct Errors(Vec<FlagError>);

impl Errors {
    fn keep<V, T>(
        &mut self,
        key: &str,
        value: Option<V>,
        rule: impl FnOnce(V) -> Result<T, Flaw>,
    ) -> Option<T> {
        rule(value?).map_err(|flaw| self.add(key, flaw)).ok()
    }

    fn add(&mut self, key: &str, flaw: Flaw) {
        let Flaw { code, message, hint } = flaw;
        self.0.push(FlagError { flag: key.replace('_', "-"), code, message, hint });
    }
}

#[cfg(test)]
mod tests {
    use super::{super::jobfile::tests::context, *};

    fn draft() -> Draft {
        Draft {
            job_type: Some("std-text-to-video".into()),
            prompt: Some("A lighthouse at dusk".into()),
            ..Draft::default()
        }
    }

    fn said(flags: Flags) -> String {
        let errors = flags.read(&context()).expect_err("refused");
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn takes_are_jobs_of_their_own() {
        let jobs = Flags { draft: draft(), takes: Some(3), ..Flags::default() }.read(&context()).unwrap();
        assert_eq!(jobs.iter().map(|job| job.take).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(jobs.iter().all(|job| job.source == "flags" && job.estimate.get() == 300));
    }

    #[test]
    fn all_errors_at_once_named_as_the_flags() {
        let flags = Flags {
            draft: Draft { duration: Some(20), aspect_ratio: Some("4:3".into()), ..draft() },
            name: Some(" ".into()),
            output: Some("{nmae}".into()),
            tags: vec!["x".repeat(61)],
            priority: Some(101),
            not_before: Some("2026-12-24 18:00".into()),
            takes: Some(0),
            key: Some("a\nb".into()),
            max_credits: Some(-1),
            again: false,
        };
        insta::assert_snapshot!(said(flags), @r#"
        --name: it is empty (leave it out)
        --output: {nmae} is not a field of templates
        --tag: a tag has 61 characters; at most 60
        --priority: 101 is out of range: -100 to 100, higher first
        --takes: 0 is out of range: 1 to 20 renders of one request
        --not-before: 2026-12-24 18:00 has no offset, so it is another moment in every time zone (write 2026-12-24T18:00:00+01:00 with your own offset, or 2026-12-24T18:00:00Z for UTC)
        --key: it has a control character or a line break in it
        --max-credits: -1 would allow nothing (leave it out for no limit)
        --duration: 20 is out of range: a video lasts 3 to 15 seconds
        --aspect-ratio: "4:3" is not one of "16:9", "9:16", "1:1"
        "#);
    }

    #[test]
    fn changes_obey_the_rules_of_files() {
        let right = Changes { tags: vec!["a".into(), "a".into()], priority: Some(-5), ..Changes::default() };
        let checked = right.read().unwrap();
        assert_eq!((checked.tags, checked.priority, checked.name), (Some(vec!["a".into()]), Some(-5), None));
        let wrong =
            Changes { priority: Some(101), not_before: Some("tomorrow".into()), ..Changes::default() };
        let errors = wrong.read().unwrap_err();
        assert_eq!(errors.iter().map(|e| e.flag.as_str()).collect::<Vec<_>>(), ["priority", "not-before"]);
    }

    #[test]
    fn max_credits_is_for_all_takes_together() {
        let flags =
            |max| Flags { draft: draft(), takes: Some(2), max_credits: Some(max), ..Flags::default() };
        assert!(flags(600).read(&context()).is_ok());
        insta::assert_snapshot!(said(flags(599)), @"--max-credits: this costs 600 credits, more than the 599 that are allowed");
    }
}
