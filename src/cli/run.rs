//! `klingd run`: the daemon in the foreground.

use std::{io::IsTerminal as _, sync::Arc};

use anyhow::Result;
use clap::Args;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use url::Url;

use super::{
    Context, Exit,
    exit::Refusal,
    json,
    render::idle::{Left, why_it_ended},
    sandbox,
    view::View,
};
use crate::{
    config::{ApiKey, Config},
    daemon::{self, Ended, Failure, Options, Reload},
    domain::state::Label,
    store::{Store, World},
    telemetry,
};

/// Flags of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// End when no job can move by itself (0 all done, 4 some failed, 10 a person is needed)
    #[arg(long)]
    pub until_idle: bool,
    /// With --sandbox: what goes wrong, see `klingd sandbox --help`
    #[arg(long, value_name = "RULES")]
    pub faults: Option<String>,
}

/// Runs the daemon.
pub async fn run(context: Context, args: RunArgs) -> Result<Exit> {
    // clap's `requires` does not see a --sandbox before the verb.
    if args.faults.is_some() && !context.global.sandbox {
        return Err(Refusal::usage("--faults are the simulated provider's; add --sandbox"));
    }
    let config = context.config().map_err(Failure::Refused)?;
    log(&context, &config);
    let told = config.clone();
    let stop = CancellationToken::new();
    let hang_up = Arc::<Notify>::default();
    let until_idle = args.until_idle;
    let reload = reload(&context, Arc::clone(&hang_up));
    let work = async {
        if context.global.sandbox {
            let options = Options { until_idle, world: World::Sandbox, describe: json::told };
            let faults = args.faults.unwrap_or_default();
            in_sandbox(&context, config, &faults, options, reload, &stop).await
        } else {
            let key = config.require_key().map_err(|e| Failure::Refused(e.into()))?;
            let options = Options { until_idle, world: World::Real, describe: json::told };
            Ok(daemon::run_reloading(&config, key, options, reload, context.clock, stop.clone()).await?)
        }
    };
    tokio::select! {
        ended = work => {
            let ended = ended?;
            explain(&context, &told, ended).await;
            Ok(exit(ended))
        }
        // The second signal: at once. What was on the wire is in doubt at the next start.
        interrupted = signals(&stop, Some(&hang_up)) => interrupted.map(|()| Exit::Interrupted),
    }
}

/// How everything that [`Context::config`] read is read again.
fn reload(context: &Context, asked: Arc<Notify>) -> Reload {
    let context = context.clone();
    let load = move || {
        let config = context.config_unsaid(context.global.sandbox)?;
        let key = if config.sandbox { sandbox_key()? } else { config.require_key()?.clone() };
        Ok((config, key))
    };
    Reload { asked, load: Box::new(load) }
}

/// The key of a double, which takes any.
fn sandbox_key() -> Result<ApiKey> {
    ApiKey::parse("sandbox").map_err(anyhow::Error::msg)
}

/// Runs the daemon beside a provider's double of its own.
pub(super) async fn in_sandbox(
    context: &Context,
    mut config: Config,
    faults: &str,
    options: Options,
    reload: Reload,
    stop: &CancellationToken,
) -> Result<Ended> {
    let (double, server) = sandbox::start(faults).await?;
    let base_url = double.base_url();
    let address: Url = base_url.parse()?;
    let at_the_double = move |mut config: Config| {
        config.api.base_url.clone_from(&address);
        config.download.allow_private = true;
        config
    };
    config = at_the_double(config);
    let load = move || (reload.load)().map(|(config, key)| (at_the_double(config), key));
    let reload = Reload { asked: reload.asked, load: Box::new(load) };
    let database = config.database();
    // Not under the feet of another daemon: its tasks are at its own double.
    let lock = daemon::lock(&config.data_dir, context.clock).map_err(Failure::Refused)?;
    // An earlier double died with its daemon, and its memory with it; the queue still knows the tasks.
    let tasks = context
        .with_store(&config, async |store| {
            store.stamp(&database, World::Sandbox).await?;
            Ok(store.move_tasks(base_url).await?)
        })
        .await
        .map_err(Failure::Refused)?;
    tasks.iter().for_each(|(task, request)| double.restore(task.as_str(), request));
    drop(lock);
    let key = sandbox_key()?;
    let closed = CancellationToken::new();
    let daemon = async {
        let ended = daemon::run_reloading(&config, &key, options, reload, context.clock, stop.clone()).await;
        closed.cancel();
        ended
    };
    let (served, ended) = tokio::join!(server.serve(closed.clone()), daemon);
    served?;
    Ok(ended?)
}

/// Says why a run came to rest although not all is done. A courtesy: the exit code stands without it, too.
async fn explain(context: &Context, config: &Config, ended: Ended) {
    let Ended::Idle { failed, .. } = ended else { return };
    let left = context.with_store(config, async |store| left(context, config, &store, failed).await).await;
    match left.map(|left| why_it_ended(&left)) {
        Ok(Some(why)) => context.complain(&format!("klingd: {why}")),
        Ok(None) => {}
        Err(error) => warn!("nothing moves any more, and why can't be read: {error:#}"),
    }
}

async fn left(context: &Context, config: &Config, store: &Store, failed: u64) -> Result<Left> {
    let view = View::read(store, config, context).await?;
    let depth = store.depth().await?;
    let of = |label: Label| depth.iter().filter(|(l, _)| *l == label).map(|(_, n)| n).sum();
    Ok(Left {
        failed,
        in_doubt: of(Label::InDoubt),
        in_need: store.in_need().await?,
        queued: of(Label::Queued),
        stopped: store.stopped(&view.budget, &view.spent).await?,
        view,
    })
}

fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Stopped | Ended::Idle { failed: 0, needs_person: 0 } => Exit::Done,
        Ended::Idle { needs_person: 0, .. } => Exit::JobFailed,
        Ended::Idle { .. } => Exit::NeedsPerson,
    }
}

/// The first SIGTERM or SIGINT stops gracefully; the second one ends this future. A SIGHUP asks for the configuration to be
/// read again, where somebody listens to that; but when a terminal hangs up, what it ran stops.
pub(super) async fn signals(stop: &CancellationToken, hang_up: Option<&Notify>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let had_terminal = std::io::stderr().is_terminal();
    loop {
        let asks = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            // A terminal that has gone is none any more.
            _ = hangup.recv() => hang_up.filter(|_| had_terminal == std::io::stderr().is_terminal()),
        };
        if let Some(reload) = asks {
            reload.notify_one();
            continue;
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        tracing::info!(
            "klingd stops: requests on the wire are finished first; a second signal stops at once"
        );
        stop.cancel();
    }
}

fn log(context: &Context, config: &Config) {
    let colour = std::io::stderr().is_terminal() && context.colour();
    let look = telemetry::Look::of(config.log.format, context.environment.stderr_is_journal(), colour);
    // Set up already: somebody embeds klingd and has a log of their own.
    telemetry::init(look, config.log.level).ok();
}
