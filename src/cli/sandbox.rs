//! `klingd sandbox`: the provider's double as a server.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Context, Exit, exit::Refusal, run::signals};
use crate::{
    clock::Clock,
    sandbox::{
        Options, Sandbox, Server,
        faults::{Faults, vocabulary},
    },
};

/// Flags of `sandbox`.
#[derive(Args)]
#[command(after_long_help = after_help())]
pub struct SandboxArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8797", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What goes wrong: RULE[,RULE…], each POINT:FAULT[=ARG][@CALLS][%PERCENT][~PROMPT]
    #[arg(long, default_value = "", value_name = "RULES", hide_default_value = true)]
    faults: String,
    /// The account's balance in credits
    #[arg(long, default_value_t = 1_000_000)]
    balance: i64,
    /// Requests a second before a 429, and their burst: RATE/BURST
    #[arg(long, value_name = "RATE/BURST", value_parser = rate)]
    rate: Option<(f64, u32)>,
    /// Parallel tasks before a 429
    #[arg(long)]
    parallel: Option<u32>,
    /// Seconds a task takes
    #[arg(long, default_value_t = 4.0, value_name = "SECONDS")]
    render: f64,
    /// Bytes of each video (padded)
    #[arg(long, value_name = "BYTES")]
    video_bytes: Option<u64>,
}

fn after_help() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "Faults (beside these, generate, status and video take any HTTP status: 503, 503-html, 429=30 …):\n",
    );
    for word in vocabulary() {
        let argument = word.argument.map(|a| format!("={a}")).unwrap_or_default();
        let rule = format!("{}:{}{argument}", word.point, word.name);
        // Writing to a String cannot fail.
        writeln!(text, "  {rule:<34} {}", word.meaning).ok();
    }
    text
}

fn rate(text: &str) -> std::result::Result<(f64, u32), String> {
    let (rate, burst) = text.split_once('/').ok_or("write RATE/BURST, for example 2/5")?;
    let rate: f64 = rate.parse().map_err(|_| format!("{rate:?} is not a number"))?;
    let burst = burst.parse().map_err(|_| format!("{burst:?} is not a whole number"))?;
    if rate > 0.0 { Ok((rate, burst)) } else { Err("the rate must be above 0".to_owned()) }
}

/// Serves until a signal.
pub async fn run(context: Context, args: SandboxArgs) -> Result<Exit> {
    let render = Duration::try_from_secs_f64(args.render.max(0.0))?;
    let options = Options {
        listen: args.listen,
        seed: args.seed,
        balance: args.balance,
        requests_per_second: args.rate,
        parallel_tasks: args.parallel,
        render_time: render..=render,
        video_bytes: args.video_bytes,
        faults: args.faults.parse::<Faults>().map_err(|e| Refusal::usage(e.to_string()))?,
        ..Options::new(now)
    };
    let (sandbox, server) = Sandbox::bind(options).await?;
    context.say(&format!(
        "the provider's double listens at {}; any key will do, nothing is paid.\n\
         KLINGD_API__BASE_URL={0} KLINGD_API__KEY=sandbox klingd run\n\
         its ledger: {0}/sandbox/ledger",
        sandbox.base_url()
    ));
    let stop = CancellationToken::new();
    let (served, signalled) = tokio::join!(server.serve(stop.clone()), async {
        tokio::select! {
            result = signals(&stop, None) => result,
            () = stop.cancelled() => Ok(()),
        }
    });
    served?;
    signalled.map(|()| Exit::Done)
}

/// A double for this process, on a port of its own.
pub(super) async fn start(faults: &str) -> Result<(Sandbox, Server)> {
    // Another seed each time: the queue remembers the task ids of earlier doubles, and an id must not come twice.
    let seed = now().as_nanosecond() as u64;
    let options = Options { seed, faults: faults.parse()?, ..Options::new(now) };
    Ok(Sandbox::bind(options).await?)
}

/// The time as the double wants it.
fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(Clock.now().as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}
