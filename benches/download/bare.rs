//! The same bytes by bare reqwest: room reserved, written as they come, each file and its directory fsynced.

use std::{fs::File, io::Write, path::Path, sync::Arc};

use rustix::fs::FallocateFlags;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{AT_ONCE, Result};

/// Downloads `files` times `url` into `dir`.
pub fn run(url: &str, dir: &Path, files: u64) -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let hands = Arc::new(Semaphore::new(AT_ONCE));
        let mut all = JoinSet::new();
        for n in 0..files {
            let (client, hands, url, dir) =
                (client.clone(), Arc::clone(&hands), format!("{url}?{n}"), dir.to_owned());
            all.spawn(async move {
                let _hand = hands.acquire_owned().await;
                fetch(&client, &url, &dir, n).await.map_err(|e| e.to_string())
            });
        }
        while let Some(done) = all.join_next().await {
            done??;
        }
        Ok(())
    })
}

async fn fetch(client: &reqwest::Client, url: &str, dir: &Path, n: u64) -> Result<()> {
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut file = File::create(dir.join(format!("{n}.mp4")))?;
    if let Some(length) = response.content_length() {
        rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length)?;
    }
    while let Some(chunk) = response.chunk().await? {
        file.write_all(&chunk)?;
    }
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || file.sync_all().and_then(|()| File::open(dir)?.sync_all())).await??;
    Ok(())
}
