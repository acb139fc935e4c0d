//! The same calls and the same files without any queue, hash or check: a submit on a fresh connection, a status call, the
//! video, and both files written, synced, renamed, and their directory synced.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{AT_ONCE, Result};
use crate::common::child::cpu_s;

pub fn run(dir: &Path, url: &str, jobs: u64) -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let start = Instant::now();
    runtime.block_on(async {
        let mut hands = JoinSet::new();
        let at_once = AT_ONCE as u64;
        for hand in 0..at_once {
            let work = Work::new(dir, url)?;
            hands.spawn(async move {
                for job in (hand..jobs).step_by(AT_ONCE) {
                    work.one(job).await.map_err(|e| format!("job {job}: {e}"))?;
                }
                Ok::<(), String>(())
            });
        }
        while let Some(ended) = hands.join_next().await {
            ended??;
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    println!("wall {}", start.elapsed().as_secs_f64());
    println!("cpu {}", cpu_s(std::process::id()));
    let videos = fs::read_dir(dir)?.filter_map(std::result::Result::ok);
    let videos = videos.filter(|e| e.path().extension().is_some_and(|e| e == "mp4")).count() as u64;
    if videos == jobs { Ok(()) } else { Err(format!("{videos} videos of {jobs} jobs").into()) }
}

/// What one of those at work needs.
struct Work {
    submit: Client,
    /// Status calls and videos, which may share a connection.
    fetch: Client,
    url: String,
    dir: PathBuf,
}

impl Work {
    fn new(dir: &Path, url: &str) -> Result<Self> {
        Ok(Self {
            submit: Client::builder().no_proxy().pool_max_idle_per_host(0).build()?,
            fetch: Client::builder().no_proxy().build()?,
            url: url.to_owned(),
            dir: dir.to_owned(),
        })
    }

    async fn one(&self, job: u64) -> Result<()> {
        let request = json!({"type": "std-text-to-video", "prompt": format!("A lighthouse at dusk, slow pan, number {job}")});
        let post = self.submit.post(format!("{}/api/generate", self.url)).bearer_auth("bench");
        let post = post.header("content-type", "application/json").body(request.to_string());
        let accepted: Value = serde_json::from_slice(&post.send().await?.error_for_status()?.bytes().await?)?;
        let task = accepted["data"]["task_id"].as_str().ok_or("no task id")?;
        let get = self.fetch.get(format!("{}/api/status?task_id={task}", self.url)).bearer_auth("bench");
        let status: Value = serde_json::from_slice(&get.send().await?.error_for_status()?.bytes().await?)?;
        let link = status["data"]["response"][0].as_str().ok_or("no link")?;
        let mut video = self.fetch.get(link).send().await?.error_for_status()?;
        let path = self.dir.join(format!("{job}.mp4"));
        let part = self.dir.join(format!("{job}.mp4.part"));
        let mut file = File::create(&part)?;
        while let Some(chunk) = video.chunk().await? {
            file.write_all(&chunk)?;
        }
        let sidecar = json!({"job": job, "task_id": task, "request": request, "status": status["data"]});
        tokio::task::spawn_blocking(move || keep(&file, &part, &path, &sidecar)).await??;
        Ok(())
    }
}

/// Both files under their final names, and durable.
fn keep(video: &File, part: &Path, path: &Path, sidecar: &Value) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    video.sync_all()?;
    fs::rename(part, path)?;
    File::open(dir)?.sync_all()?;
    let (part, path) = (part.with_extension("json.part"), path.with_extension("json"));
    let mut file = File::create(&part)?;
    file.write_all(sidecar.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(part, path)?;
    File::open(dir)?.sync_all()
}
