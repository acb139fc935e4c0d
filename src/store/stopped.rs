//! What queued jobs wait for besides a hold: how many each of the caps stops, and the tasks in flight: what `status` and the end of `run --until-idle` tell.

use sqlx::Row as _;

use super::{
    Result, Store,
    budget::{Budget, Cap, Spent},
    row,
};

impl Store {
    /// Requests on the wire and tasks that the provider works on.
    pub async fn in_flight(&self) -> Result<u32> {
        let r = sqlx::query("SELECT count(*) AS jobs FROM jobs WHERE in_flight = 1")
            .fetch_one(&self.readers)
            .await?;
        row::narrow(&r, "jobs")
    }

    /// Queued jobs by the first cap that stops them, as [`Spent::stopped_by`] finds it for one job; a cap that stops
    /// none is left out.
    pub async fn stopped(&self, budget: &Budget, spent: &Spent) -> Result<Vec<(Cap, u64)>> {
        let rows = sqlx::query(
            "SELECT CASE WHEN ?1 > 0 AND estimate > ?1 THEN 0
                         WHEN estimate > max_credits THEN 1
                         WHEN ?2 > 0 AND estimate + ?3 > ?2 THEN 2
                         WHEN ?4 > 0 AND estimate + ?5 > ?4 THEN 3 END AS cap, count(*) AS jobs
             FROM jobs WHERE lane = 'submit' GROUP BY cap ORDER BY cap",
        )
        .bind(row::credits(budget.per_job))
        .bind(row::credits(budget.per_day))
        .bind(row::credits(spent.of_day()))
        .bind(row::credits(budget.total))
        .bind(row::credits(spent.in_total()))
        .fetch_all(&self.readers)
        .await?;
        let mut stopped = Vec::new();
        for r in &rows {
            let cap = match r.try_get::<Option<u32>, _>("cap")? {
                Some(0) => Cap::PerJob,
                Some(1) => Cap::MaxCredits,
                Some(2) => Cap::PerDay,
                Some(_) => Cap::Total,
                // Nothing stops these.
                None => continue,
            };
            stopped.push((cap, row::narrow(r, "jobs")?));
        }
        Ok(stopped)
    }
}
