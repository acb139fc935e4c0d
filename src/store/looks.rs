//! What is known of the provider's limit on status calls: written when a pause begins or ends, not with every look.

use super::{Result, Store, meta};
use crate::domain::looks::KeptLooks;

impl Store {
    /// What was kept last. A row that can't be read (another version wrote it) is none: the pace is learned again.
    pub async fn looks(&self) -> Result<KeptLooks> {
        let row = meta::get(&mut *self.readers.acquire().await?, "looks").await?;
        Ok(row.and_then(|row| serde_json::from_str(&row).ok()).unwrap_or_default())
    }

    /// Keeps it.
    pub async fn keep_looks(&self, kept: KeptLooks) -> Result<()> {
        let row = serde_json::to_string(&kept)?;
        self.write(move |c, _| Box::pin(async move { meta::keep(c, "looks", &row).await })).await
    }
}
