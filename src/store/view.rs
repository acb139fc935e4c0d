//! Reads: what commands show. No read transaction is held across anything but the database.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Row, Sqlite};

use super::{
    Result, Store, StoreError,
    budget::{Budget, Spent},
    download::{self, Output},
    ledger,
    row::{self, select_job},
};
use crate::domain::{
    AttemptNo, Charge, Credits, Event, Job, JobId, Outcome, State, Timestamp,
    evidence::Evidence,
    state::{Label, TaskId},
};

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these states; empty = active ones, and the last few that ended.
    pub states: Vec<Label>,
    /// Only with this tag.
    pub tag: Option<String>,
    /// Only of batches with this name.
    pub batch: Option<String>,
    /// Only made at or after this time.
    pub since: Option<Timestamp>,
    /// Everything, however old.
    pub all: bool,
    /// At most so many, the newest.
    pub limit: Option<u32>,
    /// Only jobs with a larger number: the next page of a long list, oldest first.
    pub after: Option<JobId>,
}

/// One change of a job.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of the contract's JSON")]
pub struct HistoryRow {
    pub at: Timestamp,
    pub event: Event,
    pub from: Option<String>,
    pub to: String,
}

/// One POST.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns of the attempt and of its row in the ledger")]
pub struct AttemptRow {
    pub n: AttemptNo,
    pub started_at: Timestamp,
    pub answered_at: Option<Timestamp>,
    pub outcome: Outcome,
    pub charge: String,
    pub estimate: Credits,
    pub charged: Option<Credits>,
    pub refunded: Credits,
    pub task_id: Option<String>,
    pub base_url: String,
    pub key_fingerprint: String,
    pub request: Vec<u8>,
    pub evidence: Option<Evidence>,
    pub note: Option<String>,
    /// Its task is paid, and the job has never followed it.
    pub unfollowed: bool,
}

impl AttemptRow {
    /// Whether nothing but a person settles it: its job has ended, and its credits are held back since the provider's
    /// `INTERNAL_ERROR`. While the job goes on its end may settle it.
    pub fn is_withheld(&self, state: &State) -> bool {
        self.outcome == Outcome::InternalError
            && self.charge == Charge::Reserved.as_str()
            && state.has_ended()
    }

    /// Whether it made a task, or may have. A refund does not undo that: the next submit is a new render all the same.
    pub fn may_have_rendered(&self) -> bool {
        self.task_id.is_some() || self.charge != Charge::Free.as_str()
    }
}

/// Finished jobs that a plain `list` shows after the active ones.
const RECENT: i64 = 10;

/// Jobs with a second paid task that are read at once: each takes a person's `--resubmit`, so that there never are many.
const UNFOLLOWED: i64 = 1000;

/// Numbers are given in the order of time, so that the first queued job is the oldest: no other is looked at.
macro_rules! oldest_waiting {
    () => {
        "SELECT created_at FROM jobs INDEXED BY jobs_open WHERE finished_at IS NULL AND lane = 'submit' ORDER BY id LIMIT 1"
    };
}

/// The query of a list.
fn list(filter: &Filter) -> QueryBuilder<Sqlite> {
    let mut q: QueryBuilder<Sqlite> = QueryBuilder::new(select_job!("WHERE 1"));
    if !filter.states.is_empty() {
        q.push(" AND j.state IN (");
        let mut words = q.separated(", ");
        for state in &filter.states {
            words.push_bind(state.as_str());
        }
        q.push(")");
        // For the index of what has not ended: however many have, they are not looked at.
        if !filter.states.iter().any(|s| matches!(s, Label::Done | Label::Failed | Label::Cancelled)) {
            q.push(" AND j.finished_at IS NULL");
        }
    } else if !filter.all && filter.batch.is_none() && filter.since.is_none() {
        plain(&mut q, filter);
    }
    if let Some(tag) = &filter.tag {
        q.push(" AND EXISTS (SELECT 1 FROM json_each(j.tags) WHERE value = ").push_bind(tag).push(")");
    }
    if let Some(batch) = &filter.batch {
        q.push(" AND b.name = ").push_bind(batch);
    }
    if let Some(since) = filter.since {
        q.push(" AND j.created_at >= ").push_bind(since.as_millis());
    }
    if let Some(after) = filter.after {
        q.push(" AND j.id > ").push_bind(after.0);
    }
    q.push(if filter.after.is_some() { " ORDER BY j.id" } else { " ORDER BY j.id DESC" });
    if let Some(limit) = filter.limit {
        q.push(" LIMIT ").push_bind(limit);
    }
    q
}

/// What a plain list shows, each part by an index of its own: what has not ended, at most as many as are asked for; what
/// needs a person; and the last few that ended. As one condition it would be asked of each job of the queue.
fn plain(q: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    q.push(" AND j.id IN (SELECT id FROM (SELECT id FROM jobs WHERE finished_at IS NULL");
    if let Some(after) = filter.after {
        q.push(" AND id > ").push_bind(after.0);
    }
    q.push(if filter.after.is_some() { " ORDER BY id" } else { " ORDER BY id DESC" });
    // A tag is asked of each of them later.
    if let Some(limit) = filter.limit.filter(|_| filter.tag.is_none()) {
        q.push(" LIMIT ").push_bind(limit);
    }
    q.push(
        ") UNION ALL SELECT id FROM jobs WHERE needs_person = 1
         UNION ALL SELECT id FROM (SELECT id FROM jobs WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT ",
    );
    q.push_bind(RECENT).push("))");
}

impl Store {
    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Job> {
        let found =
            sqlx::query(select_job!("WHERE j.id = ?")).bind(id.0).fetch_optional(&self.readers).await?;
        row::job(&found.ok_or(StoreError::NoSuchJob(id))?)
    }

    /// Jobs by a filter, in the order of their numbers.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Job>> {
        let rows = list(filter).build().fetch_all(&self.readers).await?;
        let mut jobs = rows.iter().map(row::job).collect::<Result<Vec<_>>>()?;
        jobs.sort_by_key(|job| job.id);
        Ok(jobs)
    }

    /// These jobs, in the order of their numbers; every one of them must be there.
    pub async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Job>> {
        let rows = sqlx::query(select_job!("WHERE j.id IN (SELECT value FROM json_each(?)) ORDER BY j.id"))
            .bind(serde_json::to_string(ids)?)
            .fetch_all(&self.readers)
            .await?;
        let jobs = rows.iter().map(row::job).collect::<Result<Vec<_>>>()?;
        match ids.iter().find(|id| jobs.binary_search_by_key(id, |job| &job.id).is_err()) {
            Some(missing) => Err(StoreError::NoSuchJob(*missing)),
            None => Ok(jobs),
        }
    }

    /// Those of these jobs that are there still, and not pruned.
    pub async fn jobs_there(&self, ids: &[JobId]) -> Result<HashMap<JobId, Job>> {
        let rows = sqlx::query(select_job!("WHERE j.id IN (SELECT value FROM json_each(?))"))
            .bind(serde_json::to_string(ids)?)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| row::job(row).map(|job| (job.id, job))).collect()
    }

    /// The states of those of these jobs that are there still.
    pub async fn labels_of(&self, ids: &[JobId]) -> Result<HashMap<JobId, Label>> {
        let rows = sqlx::query("SELECT id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?))")
            .bind(serde_json::to_string(ids)?)
            .fetch_all(&self.readers)
            .await?;
        let label = |row: &sqlx::sqlite::SqliteRow| {
            let word: &str = row.try_get("state")?;
            let label =
                Label::parse(word).ok_or_else(|| StoreError::Corrupt(format!("{word:?} is no state")))?;
            Ok((JobId(row.try_get("id")?), label))
        };
        rows.iter().map(label).collect()
    }

    /// The videos of these jobs.
    pub async fn outputs_of(&self, ids: &[JobId]) -> Result<HashMap<JobId, Vec<Output>>> {
        let rows = sqlx::query(
            "SELECT job_id, idx, url, failures, failing_since, part, position, etag, path, bytes, sha256, published_at
             FROM outputs WHERE job_id IN (SELECT value FROM json_each(?)) ORDER BY job_id, idx",
        )
        .bind(serde_json::to_string(ids)?)
        .fetch_all(&self.readers)
        .await?;
        let mut all: HashMap<JobId, Vec<Output>> = HashMap::new();
        for r in &rows {
            all.entry(JobId(r.try_get("job_id")?)).or_default().push(download::output(r)?);
        }
        Ok(all)
    }

    /// A job's history, oldest first.
    pub async fn history(&self, id: JobId) -> Result<Vec<HistoryRow>> {
        let rows = sqlx::query(
            "SELECT at, event, from_state, to_state FROM history WHERE job_id = ? ORDER BY version",
        )
        .bind(id.0)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|r| {
                Ok(HistoryRow {
                    at: Timestamp::from_millis(r.try_get("at")?),
                    event: row::json(r, "event")?,
                    from: r.try_get("from_state")?,
                    to: r.try_get("to_state")?,
                })
            })
            .collect()
    }

    /// The state that a job's history gives when it is replayed: equal to the stored one, or the store is broken.
    pub async fn replay(&self, id: JobId) -> Result<State> {
        let mut state = State::Queued;
        for change in self.history(id).await? {
            if !matches!(change.event, Event::Enqueued) {
                state = state.apply(&change.event).map_err(|why| StoreError::Illegal { job: id, why })?;
            }
        }
        Ok(state)
    }

    /// The task that a job was done with when it began to follow the one that it follows, if it was.
    pub async fn done_before(&self, id: JobId) -> Result<Option<TaskId>> {
        let (mut state, mut done) = (State::Queued, None);
        for change in self.history(id).await? {
            if matches!(change.event, Event::Enqueued) {
                continue;
            }
            let before = state.clone();
            state = state.apply(&change.event).map_err(|why| StoreError::Illegal { job: id, why })?;
            if state.task() != before.task() {
                done = match (before, &change.event) {
                    (State::Done { task }, Event::FollowedOther { .. }) => Some(task),
                    (_, _) => None,
                };
            }
        }
        Ok(done)
    }

    /// A job's attempts, oldest first.
    pub async fn attempts(&self, id: JobId) -> Result<Vec<AttemptRow>> {
        let rows = sqlx::query(
            "SELECT n, started_at, answered_at, outcome, charge, estimate, charged, refunded, task_id, base_url,
                key_fingerprint, request, evidence, note, unfollowed
             FROM attempts JOIN ledger USING (job_id, n) WHERE job_id = ? ORDER BY n",
        )
        .bind(id.0)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|r| {
                Ok(AttemptRow {
                    n: AttemptNo(row::narrow(r, "n")?),
                    started_at: Timestamp::from_millis(r.try_get("started_at")?),
                    answered_at: row::time(r, "answered_at")?,
                    outcome: row::outcome(r.try_get("outcome")?)?,
                    charge: r.try_get("charge")?,
                    estimate: row::money(r, "estimate")?.unwrap_or_default(),
                    charged: row::money(r, "charged")?,
                    refunded: row::money(r, "refunded")?.unwrap_or_default(),
                    task_id: r.try_get("task_id")?,
                    base_url: r.try_get("base_url")?,
                    key_fingerprint: r.try_get("key_fingerprint")?,
                    request: r.try_get("request")?,
                    evidence: r
                        .try_get::<Option<&str>, _>("evidence")?
                        .map(serde_json::from_str)
                        .transpose()?,
                    note: r.try_get("note")?,
                    unfollowed: r.try_get("unfollowed")?,
                })
            })
            .collect()
    }

    /// What is wrong with the file, with references between its rows or with the books; nothing when all is well. It
    /// reads the whole database.
    pub async fn check(&self) -> Result<Vec<String>> {
        let mut c = self.readers.acquire().await?;
        let mut found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut *c).await?;
        found.retain(|line| line != "ok");
        for row in sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *c).await? {
            let (table, parent): (String, String) = (row.try_get(0)?, row.try_get(2)?);
            found.push(format!("a row of {table} refers to a row of {parent} that is not there"));
        }
        found.extend(ledger::check(&mut c).await?);
        Ok(found)
    }

    /// Jobs by state; states without jobs are left out.
    pub async fn depth(&self) -> Result<Vec<(Label, u64)>> {
        let rows = sqlx::query("SELECT state, count(*) AS n FROM jobs GROUP BY state")
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|r| {
                let word: String = r.try_get("state")?;
                let label =
                    Label::parse(&word).ok_or_else(|| StoreError::Corrupt(format!("state {word:?}")))?;
                Ok((label, row::narrow(r, "n")?))
            })
            .collect()
    }

    /// Jobs that went on (`resolve --resubmit`) while an attempt of theirs is still in doubt; the oldest few.
    pub async fn open_doubts(&self) -> Result<Vec<JobId>> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT l.job_id FROM ledger l JOIN jobs j ON j.id = l.job_id
             WHERE l.charge = 'in_doubt' AND j.state <> 'in_doubt' ORDER BY l.job_id LIMIT +?",
        )
        .bind(RECENT)
        .fetch_all(&self.readers)
        .await?;
        Ok(ids.into_iter().map(JobId).collect())
    }

    /// Jobs that have ended while the credits of an `INTERNAL_ERROR` of theirs are held back; the oldest few.
    pub async fn withheld(&self) -> Result<Vec<JobId>> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT a.job_id FROM attempts a JOIN ledger l USING (job_id, n) JOIN jobs j ON j.id = a.job_id
             WHERE a.outcome = 'internal_error' AND l.charge = 'reserved' AND j.finished_at IS NOT NULL
             ORDER BY a.job_id LIMIT +?",
        )
        .bind(RECENT)
        .fetch_all(&self.readers)
        .await?;
        Ok(ids.into_iter().map(JobId).collect())
    }

    /// Jobs with a task that is paid and that they never followed; the oldest [`UNFOLLOWED`].
    pub async fn unfollowed(&self) -> Result<Vec<JobId>> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT job_id FROM attempts WHERE unfollowed = 1 ORDER BY job_id LIMIT +?",
        )
        .bind(UNFOLLOWED)
        .fetch_all(&self.readers)
        .await?;
        Ok(ids.into_iter().map(JobId).collect())
    }

    /// What counts against the caps; `day` is the start of the local day.
    pub async fn spent(&self, budget: &Budget, day: Timestamp) -> Result<Spent> {
        Spent::read(&mut *self.readers.acquire().await?, budget, day).await
    }

    /// How many jobs need a person.
    pub async fn in_need(&self) -> Result<u64> {
        let r = sqlx::query("SELECT count(*) AS n FROM jobs WHERE needs_person = 1")
            .fetch_one(&self.readers)
            .await?;
        row::narrow(&r, "n")
    }

    /// When the queued job was made that has waited for longest.
    pub async fn oldest_waiting(&self) -> Result<Option<Timestamp>> {
        let at: Option<i64> = sqlx::query_scalar(oldest_waiting!()).fetch_optional(&self.readers).await?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// The stamp of the world, if the database has been run.
    pub async fn world(&self) -> Result<Option<String>> {
        Ok(sqlx::query_scalar("SELECT value FROM meta WHERE name = 'world'")
            .fetch_optional(&self.readers)
            .await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Access;

    async fn plan(store: &Store, sql: &str) -> Vec<String> {
        let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::query(explained).fetch_all(&store.readers).await.unwrap();
        rows.iter().map(|r| r.get("detail")).collect()
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the writer of a test")]
    async fn what_has_ended_costs_a_plain_list_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(&dir.path().join("klingd.db"), Access::Use).await.unwrap();
        tokio::spawn(writer.run());
        assert_eq!(store.list(&Filter::default()).await.unwrap(), []);
        let limit = Some(200);
        let page = Filter { limit, after: Some(JobId(0)), ..Filter::default() };
        let open = Filter { limit, states: vec![Label::Queued, Label::InDoubt], ..Filter::default() };
        for filter in [Filter { limit, ..Filter::default() }, page, open] {
            let plan = plan(&store, list(&filter).sql().as_str()).await;
            let whole = |line: &String| line.starts_with("SCAN j") && !line.contains("INDEX");
            assert!(!plan.iter().any(whole), "{filter:?}: {plan:#?}");
        }
        let plan = plan(&store, oldest_waiting!()).await;
        assert!(plan.iter().all(|line| line.contains("jobs_open")), "{plan:#?}");
    }
}
