//! What a queue knows of itself, by name: single values that are no job's.

use sqlx::SqliteConnection;

use super::Result;

/// The value of this name.
pub(super) async fn get(c: &mut SqliteConnection, name: &'static str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("SELECT value FROM meta WHERE name = ?").bind(name).fetch_optional(c).await?)
}

/// Gives it this value, whatever it was.
pub(super) async fn keep(c: &mut SqliteConnection, name: &'static str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(c)
    .await?;
    Ok(())
}

/// Forgets it.
pub(super) async fn forget(c: &mut SqliteConnection, name: &'static str) -> Result<()> {
    sqlx::query("DELETE FROM meta WHERE name = ?").bind(name).execute(c).await?;
    Ok(())
}
