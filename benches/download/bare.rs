//! The same bytes by bare reqwest, and files that a power cut leaves whole or not at all: a temporary name, room reserved,
//! written as they come, fsynced, renamed, the directory fsynced. Less would be no floor for klingd: without the rename a cut
//! leaves half a video under its name, and the directory's fsync finds nothing left to do, since the file's has just
//! committed its name with it.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    sync::Arc,
};

use rustix::fs::FallocateFlags;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{AT_ONCE, Result};

/// What klingd writes of a job.
const SIDECAR_BYTES: usize = 600;

/// Downloads `files` times `url` into `dir`; each with a small file beside it, if `sidecar`.
pub fn run(url: &str, dir: &Path, files: u64, sidecar: bool) -> Result<()> {
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
                fetch(&client, &url, &dir, n, sidecar).await.map_err(|e| e.to_string())
            });
        }
        while let Some(done) = all.join_next().await {
            done??;
        }
        Ok(())
    })
}

async fn fetch(client: &reqwest::Client, url: &str, dir: &Path, n: u64, sidecar: bool) -> Result<()> {
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut file = File::create(dir.join(format!(".{n}.part")))?;
    if let Some(length) = response.content_length() {
        rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length)?;
    }
    while let Some(chunk) = response.chunk().await? {
        file.write_all(&chunk)?;
    }
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || name(&file, &dir, n, sidecar)).await??;
    Ok(())
}

/// One fsync of the directory is enough for both names.
fn name(file: &File, dir: &Path, n: u64, sidecar: bool) -> std::io::Result<()> {
    let at = |name: String| dir.join(name);
    file.sync_all()?;
    fs::rename(at(format!(".{n}.part")), at(format!("{n}.mp4")))?;
    if sidecar {
        let mut beside = File::create(at(format!(".{n}.tmp")))?;
        beside.write_all(&[b' '; SIDECAR_BYTES])?;
        beside.sync_all()?;
        fs::rename(at(format!(".{n}.tmp")), at(format!("{n}.json")))?;
    }
    File::open(dir)?.sync_all()
}
