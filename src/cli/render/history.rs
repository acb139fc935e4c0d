//! A job's history as sentences, one an event.

use super::text::{count, line};
use crate::domain::{
    Credits, Event,
    event::Source,
    state::{Charged, Failure, Watch},
};

/// What happened.
pub fn sentence(event: &Event) -> String {
    match event {
        Event::Enqueued => "queued".to_owned(),
        Event::Edited { what } => format!("changed by a person: {}", line(what)),
        Event::SubmitStarted { attempt } => {
            format!("attempt {attempt} begins; from here on it may be charged")
        }
        Event::SubmitDeferred { attempt, why, reserved: false } => {
            format!("attempt {attempt} was not charged, tried again later: {}", line(why))
        }
        Event::SubmitDeferred { attempt, why, reserved: true } => {
            format!(
                "attempt {attempt} failed there, tried again later; its credits stay reserved: {}",
                line(why)
            )
        }
        Event::SubmitRefused { attempt, failure } => {
            format!("attempt {attempt} was refused: {}", failed(failure))
        }
        Event::SubmitUnknown { attempt, why } => {
            format!("attempt {attempt} may have been charged, nobody knows: {}", line(why))
        }
        Event::Accepted { attempt, task, charged, source } => match source {
            Source::Provider => format!("attempt {attempt} is accepted as task {task}{}", cost(*charged)),
            Source::Salvaged => {
                format!(
                    "attempt {attempt} is accepted as task {task}{}; the answer was cut after its id",
                    cost(*charged)
                )
            }
            Source::Person => format!("a person says that attempt {attempt} is task {task}"),
        },
        Event::Watched { watch } => watched(watch),
        Event::Succeeded { outputs, charged } => {
            // No provider makes more videos than fit a usize.
            let videos = count(usize::try_from(*outputs).unwrap_or(usize::MAX), "video");
            format!("finished there: {videos}{}", cost(*charged))
        }
        Event::TaskFailed { failure, charged, done } => {
            let cost = charged.map(|c| format!("; it costs {c} credits in the end")).unwrap_or_default();
            let done = if done.is_some() { "; the video of its other task is there" } else { "" };
            format!("the provider says twice that it failed: {}{cost}{done}", failed(failure))
        }
        Event::FilePublished { output } => format!("video {} is on disk", output.saturating_add(1)),
        Event::LinkExpired { why } => format!("the link is dead, a fresh one is asked for: {}", line(why)),
        Event::LinkRenewed => "the provider gave fresh links".to_owned(),
        Event::GaveUp { failure } => format!("the links stayed dead: {}", failed(failure)),
        Event::Cancelled => "cancelled by a person".to_owned(),
        Event::ResolvedNotCharged { attempt } => {
            format!("a person says that attempt {attempt} was not charged")
        }
        Event::WrittenOff { attempt, .. } => format!("attempt {attempt} is written off; it counts as spent"),
        Event::Resubmitted { attempt } => {
            format!("a person pays again; attempt {attempt} stays in doubt")
        }
        Event::Followed => "retry: the paid task is asked again, for free".to_owned(),
        Event::FollowedOther { task } => {
            format!("retry: task {task} of another attempt is paid, too; it is asked for its video, for free")
        }
        Event::Requeued => "retry: back in the queue".to_owned(),
    }
}

fn cost(charged: Option<Credits>) -> String {
    charged.map(|c| format!(", {c} credits")).unwrap_or_default()
}

/// A failure with its words and whether it was charged.
pub fn failed(failure: &Failure) -> String {
    let charged = match failure.charged {
        Charged::No => "not charged",
        Charged::Yes => "charged",
        Charged::Unknown => "nobody knows whether it was charged",
    };
    format!("{}: {} ({charged})", line(&failure.code), line(&failure.message))
}

fn watched(watch: &Watch) -> String {
    match watch {
        Watch::Running => "the provider works on it".to_owned(),
        Watch::Failing { message, .. } => {
            format!("the provider says that it failed, a second look decides: {}", line(message))
        }
        Watch::NoUrl { held: false, .. } => {
            "the provider says that it is finished, but gives no link yet".to_owned()
        }
        Watch::NoUrl { held: true, .. } => {
            "still no link: a person is needed; klingd goes on asking".to_owned()
        }
        Watch::NotFound { held: false, .. } => "the provider does not know the task yet".to_owned(),
        Watch::NotFound { held: true, .. } => {
            "the provider still does not know the task: a person is needed; klingd goes on asking".to_owned()
        }
        Watch::OtherKey { .. } => {
            "the key is refused for this task alone: a person is needed; klingd goes on asking".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, task};
    use super::*;
    use crate::domain::{AttemptNo, TaskId};

    #[test]
    fn one_sentence_an_event() {
        let attempt = AttemptNo(1);
        let failure = || Failure {
            code: "INVALID_PROMPT".into(),
            message: "the prompt\nis refused".into(),
            charged: Charged::No,
        };
        let why = || "connection \x1b[0mreset".to_owned();
        let accepted =
            |source| Event::Accepted { attempt, task: task(), charged: Some(Credits::new(400)), source };
        let watched = |watch| Event::Watched { watch };
        let since = at(0);
        let all = [
            Event::Enqueued,
            Event::Edited { what: "priority 5".into() },
            Event::SubmitStarted { attempt },
            Event::SubmitDeferred { attempt, why: why(), reserved: false },
            Event::SubmitDeferred { attempt, why: why(), reserved: true },
            Event::SubmitRefused { attempt, failure: failure() },
            Event::SubmitUnknown { attempt, why: why() },
            accepted(Source::Provider),
            accepted(Source::Salvaged),
            accepted(Source::Person),
            watched(Watch::Running),
            watched(Watch::Failing { since, message: "out of memory".into() }),
            watched(Watch::NoUrl { since, held: false }),
            watched(Watch::NoUrl { since, held: true }),
            watched(Watch::NotFound { since, held: false }),
            watched(Watch::NotFound { since, held: true }),
            watched(Watch::OtherKey { since }),
            Event::Succeeded { outputs: 2, charged: None },
            Event::TaskFailed { failure: failure(), charged: None, done: None },
            Event::TaskFailed { failure: failure(), charged: Some(Credits::ZERO), done: None },
            Event::FilePublished { output: 0 },
            Event::LinkExpired { why: "403".into() },
            Event::LinkRenewed,
            Event::GaveUp { failure: failure() },
            Event::Cancelled,
            Event::ResolvedNotCharged { attempt },
            Event::WrittenOff { attempt, task: None },
            Event::Resubmitted { attempt },
            Event::Followed,
            Event::FollowedOther { task: TaskId::parse("n75other").unwrap() },
            Event::Requeued,
        ];
        insta::assert_snapshot!(all.iter().map(sentence).collect::<Vec<_>>().join("\n"));
    }
}
