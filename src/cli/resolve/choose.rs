//! Which attempt of a job a person means. Pure.

use super::Way;
use crate::{
    domain::{AttemptNo, Job, Outcome, Reason, State, state::Failure},
    store::view::AttemptRow,
};

/// The attempt, or a sentence that says what to type instead.
pub fn attempt<'a>(
    job: &Job,
    attempts: &'a [AttemptRow],
    wanted: Option<AttemptNo>,
    way: &Way,
) -> Result<&'a AttemptRow, String> {
    let id = job.id;
    if let Some(wanted) = wanted {
        let found = attempts.iter().find(|attempt| attempt.n == wanted);
        let found =
            found.ok_or_else(|| format!("job {id} has no attempt {wanted}; klingd show {id} lists them"))?;
        let takes_evidence = matches!(way, Way::TaskId { .. }) && found.task_id.is_none();
        return if takes_evidence || fits(job, found, way) {
            Ok(found)
        } else {
            Err(format!("attempt {wanted} of job {id} is {}: {}", found.outcome.as_str(), instead(job)))
        };
    }
    let open: Vec<&AttemptRow> = attempts.iter().filter(|attempt| fits(job, attempt, way)).collect();
    match open.as_slice() {
        [one] => Ok(one),
        [] => Err(format!("job {id} is {}: {}", job.state.label(), instead(job))),
        [..] => Err(format!("several attempts of job {id} are open, say which one:{}", listed(&open))),
    }
}

/// Whether `way` is a way out for this attempt.
fn fits(job: &Job, attempt: &AttemptRow, way: &Way) -> bool {
    let in_doubt = attempt.outcome == Outcome::Unknown;
    let unsettled = in_doubt || attempt.is_withheld(&job.state);
    let of_its_task =
        attempt.task_id.is_some() && attempt.task_id.as_deref() == job.state.task().map(|t| t.as_str());
    match way {
        Way::TaskId { .. } => in_doubt || (of_its_task && is_stuck(&job.state)),
        Way::NotCharged => unsettled,
        Way::WriteOff => {
            unsettled || attempt.unfollowed || (of_its_task && (is_lost(&job.state) || is_stuck(&job.state)))
        }
        Way::Resubmit => matches!(job.state, State::InDoubt { attempt: n, .. } if n == attempt.n),
    }
}

/// Paid, but its id leads nowhere: the right one may replace it.
fn is_stuck(state: &State) -> bool {
    match state {
        State::Generating { watch, .. } => watch.needs_person().is_some(),
        State::Queued
        | State::Submitting { .. }
        | State::InDoubt { .. }
        | State::Downloading { .. }
        | State::Done { .. }
        | State::Failed { .. }
        | State::Cancelled { .. } => false,
    }
}

fn is_lost(state: &State) -> bool {
    matches!(state, State::Failed { failure, .. } if failure.code == Failure::LOST)
}

/// What to do with a job for which this is no way out.
fn instead(job: &Job) -> String {
    let id = job.id;
    match job.state.needs_person() {
        Some(Reason::InDoubt) => format!(
            "its last attempt is the one in doubt; --task-id, --not-charged, --write-off and --resubmit settle it: klingd show {id}"
        ),
        Some(Reason::Lost) => format!(
            "it is paid and its links are dead: klingd retry {id} asks for new ones, --write-off gives it up"
        ),
        Some(Reason::UnknownTask | Reason::NoUrl | Reason::Key) => {
            "it is paid and its task leads nowhere: bring the right id with --task-id, or give it up with --write-off"
                .to_owned()
        }
        Some(
            Reason::NotBefore
            | Reason::Paused
            | Reason::Budget
            | Reason::Credits
            | Reason::Rate
            | Reason::Disk
            | Reason::Restored
            | Reason::UncleanStop,
        )
        | None => format!("no attempt of it is open in this way; klingd show {id} tells all of it"),
    }
}

fn listed(open: &[&AttemptRow]) -> String {
    let line = |attempt: &&AttemptRow| {
        let AttemptRow { n, started_at, estimate, outcome, .. } = attempt;
        format!("\n  --attempt {n}: begun {started_at}, {estimate} credits, {}", outcome.as_str())
    };
    open.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::render::samples::{attempts, failed, generating, in_doubt, submitted, task},
        *,
    };
    use crate::domain::state::Watch;

    fn row(n: u32, outcome: Outcome, task_id: Option<&str>) -> AttemptRow {
        let mut row = attempts().remove(0);
        (row.n, row.outcome, row.task_id) = (AttemptNo(n), outcome, task_id.map(str::to_owned));
        row
    }

    fn chosen(job: &Job, rows: &[AttemptRow], wanted: Option<u32>, way: &Way) -> Result<u32, String> {
        attempt(job, rows, wanted.map(AttemptNo), way).map(|row| row.n.0)
    }

    fn task_id() -> Way {
        Way::TaskId { task: task(), force: false }
    }

    #[test]
    fn the_one_in_doubt_needs_no_name_and_several_need_one() {
        let job = submitted(State::InDoubt { attempt: AttemptNo(2), cancel: false });
        let one = [row(1, Outcome::Deferred, None), row(2, Outcome::Unknown, None)];
        let two = [row(1, Outcome::Unknown, None), row(2, Outcome::Unknown, None)];
        for way in [task_id(), Way::NotCharged, Way::WriteOff] {
            assert_eq!(chosen(&job, &one, None, &way), Ok(2));
            let said = chosen(&job, &two, None, &way).unwrap_err();
            assert!(said.contains("--attempt 1") && said.contains("--attempt 2"), "{said}");
            assert_eq!(chosen(&job, &two, Some(1), &way), Ok(1));
        }
        assert_eq!(chosen(&job, &two, None, &Way::Resubmit), Ok(2), "only the last one can be paid again");
        assert!(chosen(&job, &two, Some(1), &Way::Resubmit).is_err());
        assert!(chosen(&job, &two, Some(3), &Way::NotCharged).unwrap_err().contains("no attempt 3"));
    }

    #[test]
    fn a_task_id_is_taken_up_whatever_was_thought_before() {
        let job = failed(Failure::WRITTEN_OFF, "", None);
        let rows = [row(1, Outcome::WrittenOff, None)];
        assert!(chosen(&job, &rows, None, &task_id()).is_err(), "but it has to be named");
        assert_eq!(chosen(&job, &rows, Some(1), &task_id()), Ok(1));
        assert!(chosen(&job, &rows, Some(1), &Way::NotCharged).is_err());
    }

    #[test]
    fn what_an_internal_error_holds_back_is_settled_once_the_job_has_ended() {
        let held = || AttemptRow { charge: "reserved".into(), ..row(1, Outcome::InternalError, None) };
        let rows = [held(), row(2, Outcome::Refused, None)];
        let ended = failed("INVALID_PROMPT", "", None);
        for way in [Way::NotCharged, Way::WriteOff] {
            assert_eq!(chosen(&ended, &rows, None, &way), Ok(1));
            assert_eq!(chosen(&ended, &rows, Some(1), &way), Ok(1));
            assert!(
                chosen(&submitted(State::Queued), &rows, Some(1), &way).is_err(),
                "the next attempt tells"
            );
            let freed = AttemptRow { charge: "free".into(), ..held() };
            assert!(chosen(&ended, &[freed], Some(1), &way).is_err(), "at done nothing is held back");
        }
        assert!(chosen(&ended, &rows, Some(1), &Way::Resubmit).is_err());
    }

    #[test]
    fn a_task_that_does_well_is_left_alone() {
        let rows = [row(1, Outcome::Accepted, Some("n75abc123kling3"))];
        for way in [task_id(), Way::NotCharged, Way::WriteOff, Way::Resubmit] {
            assert!(chosen(&generating(), &rows, None, &way).is_err());
            assert!(chosen(&generating(), &rows, Some(1), &way).is_err());
        }
        let watch = Watch::NotFound { since: generating().created_at, held: true };
        let stuck = submitted(State::Generating { task: task(), watch });
        assert_eq!(chosen(&stuck, &rows, None, &task_id()), Ok(1));
        assert_eq!(chosen(&stuck, &rows, None, &Way::WriteOff), Ok(1));
        assert!(chosen(&stuck, &rows, None, &Way::NotCharged).unwrap_err().contains("--write-off"));
        let lost = failed(Failure::LOST, "", Some(task()));
        assert_eq!(chosen(&lost, &rows, None, &Way::WriteOff), Ok(1));
        assert!(chosen(&lost, &rows, None, &Way::Resubmit).unwrap_err().contains("klingd retry"));
        assert!(chosen(&in_doubt(), &rows, None, &Way::Resubmit).is_ok());
    }
}
