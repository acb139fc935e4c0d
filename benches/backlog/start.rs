//! A daemon from its start to its first paid call, and its memory while it works. It is paused and at rest before it is
//! stopped, so that the next start finds the queue as this one did.

use std::{
    collections::HashSet,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use klingd::{
    clock::Clock,
    sandbox::{self, Sandbox},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::common::{
    Result,
    child::{self, Running},
};

/// A daemon that has not submitted, or not come to rest, by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many jobs are done before its memory is looked at.
const WORKS_ON: usize = 24;

/// One double for all starts: a task id comes once.
pub struct Provider {
    runtime: Runtime,
    double: Sandbox,
}

/// What a start showed.
pub struct Started {
    pub first_post_ms: f64,
    pub rss_mb: f64,
}

impl Provider {
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let options = sandbox::Options {
            render_time: Duration::ZERO..=Duration::ZERO,
            balance: 100_000_000,
            video_bytes: Some(20_000),
            ..sandbox::Options::new(now)
        };
        let (double, server) = runtime.block_on(Sandbox::bind(options))?;
        runtime.spawn(server.serve(CancellationToken::new()));
        Ok(Self { runtime, double })
    }

    pub fn start(&self, data: &Path) -> Result<Started> {
        let before = self.tasks();
        let mut command = child::klingd(data);
        command
            .env("KLINGD_API__BASE_URL", self.double.base_url())
            .env("KLINGD_API__KEY", "bench")
            .env("KLINGD_SUBMIT__MAX_IN_FLIGHT", "8")
            .env("KLINGD_SUBMIT__START_IN_FLIGHT", "8")
            .env("KLINGD_POLL__FIRST", "100ms")
            .env("KLINGD_POLL__EVERY", "100ms")
            .env("KLINGD_POLL__MAX_PER_SECOND", "500")
            .env("KLINGD_OUTPUT__MIN_FREE", "1 MiB")
            .env("KLINGD_DOWNLOAD__ALLOW_PRIVATE", "true")
            .arg("run")
            .stderr(Stdio::null());
        let start = Instant::now();
        let daemon = Running::start(&mut command)?;
        self.until(before + 1)?;
        let first_post_ms = start.elapsed().as_secs_f64() * 1e3;
        self.until(before + WORKS_ON)?;
        child::measure(child::klingd(data).arg("pause").stderr(Stdio::null()))?;
        // What is on its way is finished; the others wait.
        self.at_rest()?;
        let rss_mb = child::memory_mb(daemon.pid(), "VmHWM:");
        daemon.stop()?;
        child::measure(child::klingd(data).arg("resume").stderr(Stdio::null()))?;
        Ok(Started { first_post_ms, rss_mb })
    }

    fn tasks(&self) -> usize {
        self.double.tasks().len()
    }

    /// Until every task's video was asked for.
    fn at_rest(&self) -> Result<()> {
        let asked = self.double.wait_until(|model| {
            let requests = model.requests().iter().filter(|r| r.path.starts_with("/videos/"));
            let videos: HashSet<_> = requests.map(|r| &r.path).collect();
            videos.len() >= model.tasks().len()
        });
        Ok(self.runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await })?)
    }

    /// Until so many tasks were made at the double.
    fn until(&self, tasks: usize) -> Result<()> {
        let there = self.double.wait_until(|model| model.tasks().len() >= tasks);
        Ok(self.runtime.block_on(async { tokio::time::timeout(PATIENCE, there).await })?)
    }
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(Clock.now().as_millis()).unwrap_or_default()
}
