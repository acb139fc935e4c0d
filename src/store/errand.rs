//! Errands: status calls that a command asks the daemon for, because the daemon has the key.

use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::{Result, Store, row};
use crate::domain::{TaskId, Timestamp, adopt::Echo};

/// A status call to make for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Its number.
    pub id: i64,
    /// The task to ask about.
    pub task: TaskId,
    /// Where the attempt was made.
    pub base_url: String,
}

/// What it brought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum ErrandAnswer {
    /// Status knows the task.
    Task {
        /// What it echoes of the request.
        request: serde_json::Map<String, serde_json::Value>,
        /// When it was made.
        created_at: Option<Timestamp>,
    },
    /// Status does not know it.
    Unknown,
    /// Nobody can tell now.
    Unclear {
        /// Why.
        why: String,
    },
}

impl ErrandAnswer {
    /// From what a status call showed.
    pub fn of(answer: &crate::domain::plan::poll::PollAnswer, echo: Echo) -> Self {
        use crate::domain::plan::poll::PollAnswer as A;
        match answer {
            A::Running { .. } | A::Succeeded { .. } | A::Failed { .. } => {
                ErrandAnswer::Task { request: echo.request, created_at: echo.created_at }
            }
            A::NotFound => ErrandAnswer::Unknown,
            A::KeyRefused { message } | A::Forbidden { message } => {
                ErrandAnswer::Unclear { why: format!("the key is refused: {message}") }
            }
            A::RateLimited { .. } => {
                ErrandAnswer::Unclear { why: "the provider asks for quiet (429)".to_owned() }
            }
            A::Unclear { why } => ErrandAnswer::Unclear { why: why.clone() },
        }
    }
}

/// Errands taken at once: a person types one at a time.
const AT_ONCE: i64 = 4;

impl Store {
    /// Asks the daemon for a status call.
    pub async fn ask(&self, task: TaskId, base_url: String, now: Timestamp) -> Result<i64> {
        self.write(move |c, ring| {
            Box::pin(async move {
                ring.errand();
                let done =
                    sqlx::query("INSERT INTO errands (task_id, base_url, created_at) VALUES (?, ?, ?)")
                        .bind(task.as_str())
                        .bind(base_url)
                        .bind(now.as_millis())
                        .execute(c)
                        .await?;
                Ok(done.last_insert_rowid())
            })
        })
        .await
    }

    /// Errands nobody has run yet.
    pub async fn open_errands(&self) -> Result<Vec<Errand>> {
        let rows = sqlx::query(
            "SELECT id, task_id, base_url FROM errands WHERE answered_at IS NULL ORDER BY id LIMIT +?",
        )
        .bind(AT_ONCE)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|r| {
                let task: String = r.try_get("task_id")?;
                let task = TaskId::parse(&task)
                    .ok_or_else(|| super::StoreError::Corrupt("an errand's task id".to_owned()))?;
                Ok(Errand { id: r.try_get("id")?, task, base_url: r.try_get("base_url")? })
            })
            .collect()
    }

    /// Brings an errand's answer home.
    pub async fn answer(&self, errand: i64, answer: ErrandAnswer, now: Timestamp) -> Result<()> {
        self.write(move |c, _| {
            Box::pin(async move {
                sqlx::query("UPDATE errands SET answer = ?, answered_at = ? WHERE id = ?")
                    .bind(serde_json::to_string(&answer)?)
                    .bind(now.as_millis())
                    .bind(errand)
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// The answer, once it is there.
    pub async fn errand_answer(&self, errand: i64) -> Result<Option<ErrandAnswer>> {
        let row = sqlx::query("SELECT answer FROM errands WHERE id = ? AND answer IS NOT NULL")
            .bind(errand)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|r| row::json(r, "answer")).transpose()
    }
}
