//! What stands beside a file that was taken: its status, or what is wrong with it. Pure: rows in, text out.

use std::path::Path;

use jiff::tz::TimeZone;

use crate::{
    domain::{Credits, State, Timestamp},
    intake::jobfile::diagnostic::visible,
    store::inbox::{FileJob, Found, InboxFile},
};

/// The text of `NAME.status.txt`.
pub fn status(file: &InboxFile, jobs: &[FileJob], now: Timestamp, zone: &TimeZone) -> String {
    let new = jobs.iter().filter(|job| !job.existing);
    let price: Credits = new.clone().filter_map(|job| job.found.as_ref()).map(|job| job.estimate).sum();
    let existing = jobs.len() - new.count();
    let mut text = format!(
        "{} was taken on {}: {}, {price} credits.\n",
        visible(&file.name),
        wall(file.taken_at, zone),
        counted(jobs.len() - existing),
    );
    if existing > 0 {
        text +=
            &format!("Queued before, and not again: {existing} (`again = true` renders and pays again).\n");
    }
    if !file.remarks.is_empty() {
        text += &format!("\n{}", file.remarks);
    }
    text.push('\n');
    let rows: Vec<_> = jobs.iter().map(row).collect();
    let head = ["ID", "STATE", "NAME", "VIDEO, OR WHY NOT"].map(str::to_owned);
    text += &table(&[vec![head], rows].concat());
    text += &format!("\nAs of {}.\n", wall(now, zone));
    text
}

/// The text of `NAME.errors.txt`. The folder it came from is named, since that one gives the tags.
pub fn errors(file: &InboxFile, inbox: &Path) -> String {
    let folder = Path::new(&file.name).parent().map_or(inbox.to_owned(), |folder| inbox.join(folder));
    // Joined with nothing, a path gets a slash at its end.
    let folder = folder.to_string_lossy();
    format!(
        "{}\nNothing of it was queued. Mend the file and put it into {} again.\n",
        file.remarks,
        visible(folder.trim_end_matches('/'))
    )
}

fn counted(jobs: usize) -> String {
    if jobs == 1 { "1 job".to_owned() } else { format!("{jobs} jobs") }
}

fn wall(t: Timestamp, zone: &TimeZone) -> String {
    let utc = jiff::Timestamp::from_millisecond(t.as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    utc.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn row(job: &FileJob) -> [String; 4] {
    let id = job.id.to_string();
    let Some(found) = &job.found else {
        return [id, "pruned".to_owned(), String::new(), "it was done earlier and cleared away".to_owned()];
    };
    let name = visible(found.name.as_deref().unwrap_or_default());
    [id, found.state.label().to_string(), name, outcome(job, found)]
}

/// The videos, or the error, or what a person has to do.
fn outcome(job: &FileJob, found: &Found) -> String {
    if let Some(reason) = found.state.needs_person() {
        return format!("it needs a person ({}): klingd show {}", reason.as_str(), job.id);
    }
    let all = || found.videos.iter().map(|path| visible(path)).collect::<Vec<_>>().join(", ");
    match (&found.state, &found.error) {
        (State::Done { .. }, _) => all(),
        (_, Some(error)) => visible(&format!("{}: {}", error.code, error.message)),
        (_, None) => String::new(),
    }
}

/// Columns as wide as their widest cell; the last one has no end.
fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (id, state, name) = (width(0), width(1), width(2));
    rows.iter().fold(String::new(), |mut text, [a, b, c, d]| {
        let line = format!("{a:>id$}  {b:<state$}  {c:<name$}  {d}");
        text += line.trim_end();
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        AttemptNo, JobId,
        state::{Charged, Failure},
    };

    fn file(remarks: &str) -> InboxFile {
        InboxFile {
            id: 1,
            name: "acme/shots.toml".into(),
            held: "/inbox/acme/.klingd-1-2~shots.toml".into(),
            place: "/accepted/shots.toml".into(),
            accepted: true,
            remarks: remarks.into(),
            taken_at: Timestamp::from_millis(1_770_287_400_123),
            changes: 3,
            told_at: Timestamp::from_millis(0),
        }
    }

    fn job(id: i64, state: State) -> FileJob {
        let found = Found {
            name: Some(format!("shot {id}")),
            state,
            error: None,
            estimate: Credits::new(120),
            videos: Vec::new(),
        };
        FileJob { id: JobId(id), existing: false, found: Some(found) }
    }

    #[test]
    fn a_status_says_job_state_and_file_or_error() {
        let failure = Failure {
            code: "MODERATION".into(),
            message: "the prompt\nwas refused".into(),
            charged: Charged::No,
        };
        let mut late = job(7, State::Queued);
        late.found.as_mut().unwrap().error = Some(failure);
        late.found.as_mut().unwrap().name = None;
        let doubt = State::InDoubt { attempt: AttemptNo(1), cancel: false };
        let pruned = FileJob { id: JobId(3), existing: true, found: None };
        let jobs = [job(12, State::Queued), late, job(113, doubt), pruned];
        let now = Timestamp::from_millis(1_770_287_460_000);
        insta::assert_snapshot!(status(&file(""), &jobs, now, &TimeZone::UTC));
        insta::assert_snapshot!(status(&file("warning: x\n"), &jobs[..1], now, &TimeZone::UTC));
        insta::assert_snapshot!(errors(&file("error: x\n"), Path::new("/share/inbox")));
    }
}
