//! Several statements in one round trip. sqlx gives each connection a thread of its own, and a call costs two switches of
//! threads, which is more than most statements do: what a step writes goes there in one piece.
//!
//! Nothing of a batch is done before [`Batch::run`]: what is read until then sees the database without it.

use futures_util::TryStreamExt as _;
use sqlx::{
    Arguments as _, AssertSqlSafe, Either, Encode, Executor as _, Sqlite, SqliteConnection, Type,
    sqlite::SqliteArguments,
};

use super::{Result, StoreError};
use crate::domain::JobId;

/// Statements with their values, in the order in which they will run.
#[derive(Default)]
pub(super) struct Batch {
    sql: String,
    values: SqliteArguments,
    /// A value that could not be written.
    unwritten: Option<sqlx::Error>,
    statements: usize,
    /// Statements that must change a row, and the job that is not as it was read if they do not.
    fences: Vec<(usize, JobId)>,
}

impl Batch {
    /// Adds a statement. Its parameters are `?`, without numbers: those would count from the first statement on, and one
    /// that finds no value is NULL without a word.
    pub fn add(&mut self, statement: &'static str) -> &mut Self {
        let numbered = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        debug_assert!(
            !statement.split('?').skip(1).any(numbered),
            "a numbered parameter in a batch: {statement}"
        );
        self.sql.push_str(statement);
        self.sql.push_str(";\n");
        self.statements += 1;
        self
    }

    /// Adds one that changes nothing when somebody was faster; then nothing of the batch counts.
    pub fn add_fenced(&mut self, job: JobId, statement: &'static str) -> &mut Self {
        self.fences.push((self.statements, job));
        self.add(statement)
    }

    /// Gives the next parameter its value.
    pub fn bind<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        if let Err(why) = self.values.add(value) {
            self.unwritten.get_or_insert(sqlx::Error::Encode(why));
        }
        self
    }

    /// Runs what was added so far, and is empty then.
    pub async fn run(&mut self, c: &mut SqliteConnection) -> Result<()> {
        let Self { sql, values, unwritten, statements, fences } = std::mem::take(self);
        if let Some(error) = unwritten {
            return Err(error.into());
        }
        if statements == 0 {
            return Ok(());
        }
        let mut changed = Vec::with_capacity(statements);
        // Safe: it is made of literals, and one of few, so that each is prepared once.
        let mut results = c.fetch_many(sqlx::query_with(AssertSqlSafe(sql), values));
        while let Some(result) = results.try_next().await? {
            if let Either::Left(done) = result {
                changed.push(done.rows_affected());
            }
        }
        if changed.len() != statements {
            let ran = changed.len();
            return Err(StoreError::Corrupt(format!("{ran} of {statements} statements were run")));
        }
        match fences.into_iter().find(|(n, _)| changed[*n] == 0) {
            Some((_, job)) => Err(StoreError::Stale { job }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Row as _};

    use super::*;

    async fn table() -> SqliteConnection {
        let mut c = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::query("CREATE TABLE t (a INTEGER PRIMARY KEY, b, c)").execute(&mut c).await.unwrap();
        c
    }

    async fn rows(c: &mut SqliteConnection) -> Vec<(i64, Option<String>, Option<i64>)> {
        let rows = sqlx::query("SELECT a, b, c FROM t ORDER BY a").fetch_all(c).await.unwrap();
        rows.iter().map(|r| (r.get("a"), r.get("b"), r.get("c"))).collect()
    }

    #[tokio::test]
    async fn each_statement_gets_its_own_values() {
        let mut c = table().await;
        let mut batch = Batch::default();
        for a in 1..=3 {
            batch.add("INSERT INTO t VALUES (?, ?, ?)").bind(a).bind(format!("no {a}")).bind(None::<i64>);
        }
        batch.add("DELETE FROM t WHERE a = ?").bind(2);
        batch.add("UPDATE t SET c = a * 10");
        batch.add("UPDATE t SET c = c + ? WHERE a = ?").bind(7).bind(3);
        assert_eq!(rows(&mut c).await, []);
        // Twice: the second time by what was prepared the first time.
        for extra in [0, 100] {
            batch.run(&mut c).await.unwrap();
            let first = (1, Some("no 1".to_owned()), Some(10));
            assert_eq!(rows(&mut c).await, [first, (3, Some("no 3".to_owned()), Some(37 + extra))]);
            batch.add("UPDATE t SET c = c + ? WHERE a = ?").bind(100).bind(3);
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a numbered parameter")]
    fn a_numbered_parameter_is_noticed() {
        Batch::default().add("UPDATE t SET c = ?2 WHERE a = ?1");
    }

    #[tokio::test]
    async fn a_fence_that_changes_nothing_refuses_the_batch() {
        let mut c = table().await;
        let mut batch = Batch::default();
        batch.add("INSERT INTO t VALUES (1, 'one', 1)");
        batch.add_fenced(JobId(8), "UPDATE t SET c = ? WHERE a = ?").bind(5).bind(1);
        batch.add("UPDATE t SET c = 0 WHERE a = 9");
        batch.run(&mut c).await.unwrap();
        batch.add("UPDATE t SET c = 0 WHERE a = 9");
        batch.add_fenced(JobId(9), "UPDATE t SET c = ? WHERE a = ?").bind(5).bind(2);
        batch.add("UPDATE t SET c = 0 WHERE a = 9");
        let refused = batch.run(&mut c).await;
        assert!(matches!(refused, Err(StoreError::Stale { job: JobId(9) })), "{refused:?}");
    }

    #[tokio::test]
    async fn what_sqlite_refuses_is_an_error_wherever_it_stands() {
        for before in 0..3 {
            let mut c = table().await;
            let mut batch = Batch::default();
            batch.add("INSERT INTO t VALUES (7, 'there', 1)");
            for a in 0..before {
                batch.add("INSERT INTO t VALUES (?, 'before', 1)").bind(a);
            }
            batch.add("INSERT INTO t VALUES (7, 'twice', 1)");
            batch.add("INSERT INTO t VALUES (8, 'after', 1)");
            assert!(matches!(batch.run(&mut c).await, Err(StoreError::Failed(_))));
            assert!(rows(&mut c).await.iter().all(|(a, ..)| *a != 8));
        }
    }
}
