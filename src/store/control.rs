//! What steers all submits: the holds and the gate's memory.

use sqlx::{Row, SqliteConnection};

use super::{Result, Store, StoreError, batch::Batch, hook, origin, row, writer::Ring};
use crate::domain::{
    Timestamp,
    gate::Gate,
    hold::{Hold, HoldName},
    state::Lane,
};

impl Store {
    /// Sets a hold; one that stands already keeps its `since`.
    pub async fn hold(&self, hold: Hold) -> Result<()> {
        self.write(move |c, ring| Box::pin(async move { set_hold(c, ring, &hold).await })).await
    }

    /// Lifts these holds (and opens the gate with `rate`); says which of them stood.
    pub async fn lift(&self, names: Vec<HoldName>) -> Result<Vec<HoldName>> {
        self.write(move |c, ring| {
            Box::pin(async move {
                let mut lifted = Vec::new();
                for name in names {
                    if lift(c, name).await? {
                        lifted.push(name);
                    }
                    if name == HoldName::Rate {
                        let gate = gate(c).await?;
                        keep_gate(c, &Gate { closed_until: None, ..gate }).await?;
                    }
                }
                ring.lane(Lane::Submit);
                Ok(lifted)
            })
        })
        .await
    }

    /// The holds, in the order in which they were set.
    pub async fn holds(&self) -> Result<Vec<Hold>> {
        holds(&mut *self.readers.acquire().await?).await
    }

    /// The gate's memory.
    pub async fn gate(&self) -> Result<Gate> {
        gate(&mut *self.readers.acquire().await?).await
    }

    /// The free probe of the key passed: the hold has ended, and stays on record until one job has been accepted.
    pub async fn try_key(&self) -> Result<()> {
        self.write(move |c, ring| {
            Box::pin(async move {
                // Its end is its beginning: past by every clock, since no probe would come if it held again.
                sqlx::query("UPDATE holds SET until = since, probe_at = NULL WHERE name = 'key'")
                    .execute(c)
                    .await?;
                ring.lane(Lane::Submit);
                Ok(())
            })
        })
        .await
    }

    /// Postpones a hold's next probe.
    pub async fn probe_hold_later(&self, name: HoldName, at: Timestamp) -> Result<()> {
        self.write(move |c, _| Box::pin(async move { probe_later(c, name, at).await })).await
    }
}

/// Sets a hold; what is on record of it already has its say.
pub(super) async fn set_hold(c: &mut SqliteConnection, ring: &mut Ring, hold: &Hold) -> Result<()> {
    let earlier = holds(c).await?.into_iter().find(|earlier| earlier.name == hold.name);
    // A key that fails its trial has never stopped being refused.
    let goes_on = |earlier: &Hold| earlier.holds(hold.since) || earlier.is_on_trial(hold.since);
    if !earlier.as_ref().is_some_and(goes_on) {
        hook::hold_set(c, ring, hold).await?;
    }
    let hold = match earlier {
        Some(earlier) => &hold.clone().renewing(&earlier),
        None => hold,
    };
    sqlx::query("INSERT OR REPLACE INTO holds (name, since, why, until, probe_at) VALUES (?, ?, ?, ?, ?)")
        .bind(hold.name.as_str())
        .bind(hold.since.as_millis())
        .bind(&hold.why)
        .bind(hold.until.map(Timestamp::as_millis))
        .bind(hold.probe_at.map(Timestamp::as_millis))
        .execute(c)
        .await?;
    Ok(())
}

pub(super) async fn lift(c: &mut SqliteConnection, name: HoldName) -> Result<bool> {
    let gone = sqlx::query("DELETE FROM holds WHERE name = ?")
        .bind(name.as_str())
        .execute(&mut *c)
        .await?
        .rows_affected();
    if gone > 0 && name == HoldName::Restored {
        origin::adopt(c).await?;
    }
    Ok(gone > 0)
}

/// A job was accepted: what is paid for was affordable, and a key on trial has passed.
pub(super) fn lift_by_acceptance(batch: &mut Batch) {
    batch.add("DELETE FROM holds WHERE name = 'credits' OR (name = 'key' AND until IS NOT NULL)");
}

pub(super) async fn probe_later(c: &mut SqliteConnection, name: HoldName, at: Timestamp) -> Result<()> {
    sqlx::query("UPDATE holds SET probe_at = ? WHERE name = ?")
        .bind(at.as_millis())
        .bind(name.as_str())
        .execute(c)
        .await?;
    Ok(())
}

pub(super) async fn holds(c: &mut SqliteConnection) -> Result<Vec<Hold>> {
    let rows = sqlx::query("SELECT name, since, why, until, probe_at FROM holds ORDER BY since, name")
        .fetch_all(c)
        .await?;
    rows.iter()
        .map(|r| {
            let word: String = r.try_get("name")?;
            Ok(Hold {
                name: HoldName::parse(&word).ok_or_else(|| StoreError::Corrupt(format!("hold {word:?}")))?,
                since: Timestamp::from_millis(r.try_get("since")?),
                why: r.try_get("why")?,
                until: row::time(r, "until")?,
                probe_at: row::time(r, "probe_at")?,
            })
        })
        .collect()
}

pub(super) async fn gate(c: &mut SqliteConnection) -> Result<Gate> {
    gate_of(sqlx::query_scalar("SELECT data FROM gate WHERE id = 1").fetch_optional(c).await?)
}

/// The memory of this row; a new one where there is none.
pub(super) fn gate_of(data: Option<String>) -> Result<Gate> {
    Ok(data.map(|d| serde_json::from_str(&d)).transpose()?.unwrap_or_default())
}

pub(super) async fn keep_gate(c: &mut SqliteConnection, gate: &Gate) -> Result<()> {
    sqlx::query(
        "INSERT INTO gate (id, data) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data",
    )
    .bind(serde_json::to_string(gate)?)
    .execute(c)
    .await?;
    Ok(())
}
