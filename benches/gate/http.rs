//! The same over real HTTP: the daemon with its database against the sandbox, which has a limit of ten requests a second.

use std::{collections::BTreeMap, ffi::OsString, path::Path, time::Duration};

use klingd::{
    clock::Clock,
    config::{Config, Environment, Overrides},
    daemon::{self, Options},
    domain::{Request, Timestamp, job::NewJob, request::Draft},
    sandbox::{self, Sandbox},
    store::{Access, Store, World, enqueue::NewBatch},
};
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PER_SECOND: f64 = 10.0;
const BURST: u32 = 5;
/// How long it runs, and what of it is not counted.
const RUN: Duration = Duration::from_secs(80);
const WARM_UP: Duration = Duration::from_secs(20);

#[tokio::main]
pub async fn run() -> Result<()> {
    println!(
        "\nreal HTTP, {PER_SECOND}/s, burst {BURST}, {} s after {} s",
        (RUN - WARM_UP).as_secs(),
        WARM_UP.as_secs()
    );
    for retry_after in [false, true] {
        measure(retry_after).await?;
    }
    Ok(())
}

async fn measure(retry_after: bool) -> Result<()> {
    let day = Duration::from_hours(24);
    let options = sandbox::Options {
        requests_per_second: Some((PER_SECOND, BURST)),
        retry_after,
        balance: 100_000_000,
        // Nothing ends and nothing is polled: the calls are the submits.
        render_time: day..=day,
        latency: Duration::from_millis(250),
        ..sandbox::Options::new(now)
    };
    let (double, server) = Sandbox::bind(options).await?;
    let quit = CancellationToken::new();
    let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
    let config = config(dir.path(), &double.base_url())?;
    enqueue(&config, (RUN.as_secs_f64() * PER_SECOND) as u64 + 200).await?;
    let stop = CancellationToken::new();
    let describe = |_: &_, _: &[_]| serde_json::Value::Null;
    let options = Options { until_idle: false, world: World::Sandbox, describe };
    let daemon = daemon::run(&config, config.require_key()?, options, Clock, stop.clone());
    let person = async {
        tokio::time::sleep(RUN).await;
        stop.cancel();
        quit.cancel();
    };
    let (ended, _, ()) = tokio::join!(daemon, server.serve(quit.clone()), person);
    ended?;
    report(&double, retry_after);
    Ok(())
}

fn report(double: &Sandbox, retry_after: bool) {
    let requests = double.requests();
    let posts: Vec<_> = requests.iter().filter(|r| r.method == "POST").collect();
    let Some(began) = posts.first().map(|first| Timestamp::from(first.at)) else { return };
    let from = began + WARM_UP;
    let to = began + RUN - Duration::from_secs(1);
    let steady = posts.iter().filter(|post| (from..to).contains(&Timestamp::from(post.at)));
    let (mut passed, mut refused) = (0.0, 0.0);
    for post in steady {
        if post.status == Some(429) { refused += 1.0 } else { passed += 1.0 }
    }
    let goodput = 100.0 * passed / (PER_SECOND * to.since(from).as_secs_f64());
    let share = 100.0 * refused / (passed + refused);
    println!(
        "{:<12} | goodput {goodput:5.1} %  429s {share:4.2} %  ≥93 ≤1 {}",
        if retry_after { "Retry-After" } else { "" },
        super::verdict(goodput >= 93.0 && share <= 1.0)
    );
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(Clock.now().as_millis()).unwrap_or_default()
}

fn config(dir: &Path, base_url: &str) -> Result<Config> {
    let variables = [
        ("KLINGD_API__BASE_URL", base_url),
        ("KLINGD_API__KEY", "bench"),
        ("KLINGD_SUBMIT__WORKERS", "8"),
        ("KLINGD_OUTPUT__MIN_FREE", "1 MiB"),
    ];
    let variables: BTreeMap<OsString, OsString> = variables.map(|(k, v)| (k.into(), v.into())).into();
    let environment = Environment {
        variables,
        home: Some(dir.to_owned()),
        current_dir: dir.to_owned(),
        ..Environment::default()
    };
    let overrides = Overrides { data_dir: Some(dir.join("data")), ..Overrides::default() };
    let mut config = Config::load(&overrides, &environment)?;
    // No person may configure these: slots without end, tasks that nobody asks for.
    (config.submit.start_in_flight, config.submit.max_in_flight) = (100_000, 100_000);
    config.poll.first = Some(Duration::from_hours(1));
    Ok(config)
}

async fn enqueue(config: &Config, jobs: u64) -> Result<()> {
    klingd::disk::create_root(&config.data_dir)?;
    let (store, writer) = Store::open(&config.database(), Access::Migrate).await?;
    let jobs = (0..jobs).filter_map(new_job).collect();
    let batch = NewBatch { name: "bench".to_owned(), source: "bench".to_owned(), max_credits: None, jobs };
    let enqueue = async move { store.enqueue(batch, Clock.now()).await };
    let (written, queued) = tokio::join!(writer.run(), enqueue);
    written?;
    queued?;
    Ok(())
}

fn new_job(n: u64) -> Option<NewJob> {
    let draft = Draft {
        job_type: Some("std-text-to-video".to_owned()),
        prompt: Some(format!("A lighthouse at dusk, number {n}")),
        ..Draft::default()
    };
    let request = Request::parse(&draft).ok()?;
    Some(NewJob::of(request, "bench"))
}
