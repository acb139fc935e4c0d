//! Every key with its default, its bounds and their reasons, in the order of the documentation.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::api_key::{self, KeyError};
use super::error::{Complaint, ConfigError};
use super::load::Layers;
use super::reader::Reader;
use super::sections::*;
use super::units::{DURATION, RATE, SIZE, SWITCH, TEXT, whole};
use super::{ApiKey, Config, Environment, Origin, Overrides, Row, endpoint, hooks, paths, tables};
use crate::domain::{Credits, gate::LONGEST_QUIET, plan::download::Verify};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = secs(3600);
const DAY: Duration = secs(86_400);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Sums of a million such amounts still fit SQLite's integers.
const MAX_CREDITS: u64 = 1_000_000_000_000;

/// The defaults that are other ones with the built-in provider.
struct Preset {
    /// `None` is learned.
    poll_first: Option<Duration>,
    /// `None` is learned.
    poll_every: Option<Duration>,
    poll_slowest: Duration,
    polls_per_second: f64,
    confirm_failed: Duration,
}

/// For the provider itself, whose videos take minutes.
const fn real_defaults() -> Preset {
    Preset {
        poll_first: None,
        poll_every: None,
        poll_slowest: secs(300),
        polls_per_second: 2.0,
        confirm_failed: secs(30),
    }
}

/// With `--sandbox`, which answers within seconds and counts no calls.
const fn sandbox_defaults() -> Preset {
    Preset {
        poll_first: Some(secs(1)),
        poll_every: Some(Duration::from_millis(500)),
        poll_slowest: secs(1),
        polls_per_second: 50.0,
        confirm_failed: secs(2),
    }
}

/// Checks everything and gives a whole configuration, or all problems at once.
pub(super) fn resolve(
    layers: Layers,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let sandbox = overrides.sandbox;
    let preset = if sandbox { sandbox_defaults() } else { real_defaults() };
    let mut reader = Reader::new(layers.raw, layers.problems, environment);
    let read = &mut reader;

    let data_dir = paths::data_dir(read, environment, sandbox);
    let api = api(read, sandbox);
    let key = api_key(read, environment, sandbox);
    let submit = submit(read);
    let poll = poll(read, &preset);
    let budget = budget(read);
    let prices = tables::prices(read);
    let defaults = tables::request_defaults(read);
    let inbox = inbox(read, &data_dir, sandbox);
    let output = output(read, &data_dir, sandbox);
    let download = download(read, sandbox || endpoint::is_private(&api.base_url));
    let metrics = metrics(read);
    let hooks = hooks::hooks(read);
    let log = log(read);
    paths::refuse_loops(read, &data_dir, &inbox, &output);
    let (warnings, rows) = reader.finish().map_err(ConfigError::Invalid)?;

    let missing_key = key.as_ref().err().cloned().unwrap_or_default();
    Ok(Config {
        sandbox,
        data_dir,
        file: layers.file,
        api,
        api_key: key.ok(),
        submit,
        poll,
        budget,
        prices,
        defaults,
        inbox,
        output,
        download,
        metrics,
        hooks,
        log,
        warnings,
        missing_key,
        rows,
    })
}

fn api(read: &mut Reader, sandbox: bool) -> Api {
    let (base_url, proxy) = if sandbox { endpoint::of_sandbox(read) } else { endpoint::read(read) };
    let longest = secs(1800);
    // A gateway that cuts at 60 s has been seen to bill all the same: an answer that comes later than
    // that is still worth everything.
    let submit_timeout = read.bounded(
        "api.submit_timeout",
        DURATION,
        secs(120),
        secs(1)..=longest,
        "a shorter wait turns paid tasks into doubt, and a longer one holds a worker for a dead connection",
    );
    if submit_timeout < secs(60) {
        read.warnings
            .push("api.submit_timeout is below 60s: each slow answer becomes a job in doubt".to_owned());
    }
    let connect_timeout = read.bounded(
        "api.connect_timeout",
        DURATION,
        secs(10).min(submit_timeout),
        100 * MILLISECOND..=submit_timeout,
        "connecting is part of api.submit_timeout",
    );
    let status_timeout = read.bounded(
        "api.status_timeout",
        DURATION,
        secs(30),
        secs(1)..=longest,
        "the provider asks its own upstream first, and a poll must end some day",
    );
    Api { base_url, connect_timeout, submit_timeout, status_timeout, proxy }
}

/// The key, or why there is none.
fn api_key(read: &mut Reader, environment: &Environment, sandbox: bool) -> Result<ApiKey, KeyError> {
    read.forbidden(
        "api.key",
        "never stands in the configuration file, which people copy, commit and paste into tickets",
        "take it out and give it as the systemd credential `api-key`, in a file named by `api.key_file`, \
         or in the variable KLINGD_API__KEY",
    );
    let key_file = paths::key_file(read, environment);
    let search = if sandbox {
        // A real key has no business with simulated tasks, so it is not even read.
        let looked_at = vec!["the sandbox reads none".to_owned()];
        api_key::Search { key: Err(KeyError { looked_at }), warnings: Vec::new() }
    } else {
        api_key::search(environment, key_file)
    };
    read.warnings.extend(search.warnings);
    let (value, origin) = match &search.key {
        Ok((key, origin)) => (format!("hidden, fingerprint {}", key.fingerprint()), origin.clone()),
        Err(_) => ("none".to_owned(), Origin::Default),
    };
    read.rows.push(Row { key: "api.key".to_owned(), value, origin });
    search.key.map(|(key, _)| key)
}

fn submit(read: &mut Reader) -> Submit {
    let workers = read.bounded(
        "submit.workers",
        whole(),
        4,
        1..=64,
        "each holds a connection and a request that is paid",
    );
    let max_in_flight = read.bounded(
        "submit.max_in_flight",
        whole(),
        20,
        1..=10_000,
        "every task in flight is polled, within poll.max_per_second",
    );
    let start_in_flight = read.bounded(
        "submit.start_in_flight",
        whole(),
        3.min(max_in_flight),
        1..=max_in_flight,
        "it begins at one or more and ends at submit.max_in_flight",
    );
    let cooldown_max = read.bounded(
        "submit.cooldown_max",
        DURATION,
        secs(600),
        secs(1)..=LONGEST_QUIET,
        "the gate tries again after an hour at the latest; a longer pause is `klingd pause`",
    );
    let cooldown = read.bounded(
        "submit.cooldown",
        DURATION,
        secs(2).min(cooldown_max),
        100 * MILLISECOND..=cooldown_max,
        "it grows from here to submit.cooldown_max",
    );
    let on_unclean_stop = read.choice(
        "submit.on_unclean_stop",
        &[("go", OnUncleanStop::Go), ("hold", OnUncleanStop::Hold)],
        OnUncleanStop::Go,
    );
    let on_internal_error = read.choice(
        "submit.on_internal_error",
        &[("retry", OnInternalError::Retry), ("hold", OnInternalError::Hold)],
        OnInternalError::Retry,
    );
    Submit {
        workers,
        start_in_flight,
        max_in_flight,
        cooldown,
        cooldown_max,
        on_unclean_stop,
        on_internal_error,
    }
}

fn poll(read: &mut Reader, preset: &Preset) -> Poll {
    // Not bounded by poll.slowest: who knows that their edits take a quarter of an hour may ask then, and every minute
    // from there on. But what is ready early must not wait until its link is dead.
    let first = read.or_learned(
        "poll.first",
        DURATION,
        preset.poll_first,
        100 * MILLISECOND..=HOUR,
        "no task is ready at once, and links may live for one hour only",
    );
    let slowest = read.bounded(
        "poll.slowest",
        DURATION,
        preset.poll_slowest,
        100 * MILLISECOND..=HOUR,
        "links may live for one hour only",
    );
    let every = read.or_learned(
        "poll.every",
        DURATION,
        preset.poll_every.map(|every| every.min(slowest)),
        100 * MILLISECOND..=slowest,
        "it slows down from here to poll.slowest",
    );
    // The goals test asks for 500 calls a second; the real provider counts each of them.
    let max_per_second = read.bounded(
        "poll.max_per_second",
        RATE,
        preset.polls_per_second,
        0.01..=1000.0,
        "the provider counts status calls, and 0 would never see a video",
    );
    let confirm_failed = read.bounded(
        "poll.confirm_failed",
        DURATION,
        preset.confirm_failed,
        100 * MILLISECOND..=HOUR,
        "the second look must find another moment than the first",
    );
    Poll { first, every, slowest, max_per_second, confirm_failed }
}

fn budget(read: &mut Reader) -> Budget {
    Budget {
        per_job: cap(read, "budget.per_job", 0),
        per_day: cap(read, "budget.per_day", 0),
        total: cap(read, "budget.total", 0),
        confirm_above: credits(read, "budget.confirm_above", 5000),
    }
}

/// A cap in credits, where 0 is none.
fn cap(read: &mut Reader, key: &str, default: u64) -> Option<Credits> {
    Some(credits(read, key, default)).filter(|cap| *cap > Credits::ZERO)
}

fn credits(read: &mut Reader, key: &str, default: u64) -> Credits {
    Credits::new(read.bounded(key, whole(), default, 0..=MAX_CREDITS, "sums of credits must stay exact"))
}

fn inbox(read: &mut Reader, data_dir: &Path, sandbox: bool) -> Inbox {
    let enabled = read.plain("inbox.enabled", SWITCH, true);
    let paths::InboxPaths { path, accepted, rejected } = paths::inbox(read, data_dir, sandbox);
    Inbox {
        enabled,
        path,
        accepted,
        rejected,
        settle: read.bounded(
            "inbox.settle",
            DURATION,
            secs(2),
            100 * MILLISECOND..=secs(600),
            "a file that still grows must not be taken, and one at rest not wait for long",
        ),
        scan_every: read.bounded(
            "inbox.scan_every",
            DURATION,
            secs(15),
            100 * MILLISECOND..=HOUR,
            "the scan is what finds files on network shares",
        ),
        max_jobs_per_file: read.bounded(
            "inbox.max_jobs_per_file",
            whole(),
            1000,
            1..=100_000,
            "a file is queued in one transaction",
        ),
        max_credits_per_file: cap(read, "inbox.max_credits_per_file", 20_000),
    }
}

fn output(read: &mut Reader, data_dir: &Path, sandbox: bool) -> Output {
    Output {
        root: paths::output_root(read, data_dir, sandbox),
        template: read.plain("output.template", TEXT, "{date}/{name}-{id}.mp4".to_owned()),
        sidecar: read.plain("output.sidecar", SWITCH, true),
        verify: read.choice(
            "output.verify",
            &[("size", Verify::Size), ("structure", Verify::Structure), ("decode", Verify::Decode)],
            Verify::Structure,
        ),
        min_free_bytes: read.bounded(
            "output.min_free",
            SIZE,
            GIB,
            0..=1024 * TIB,
            "no disk has more free space than that",
        ),
    }
}

fn download(read: &mut Reader, allow_private: bool) -> Download {
    Download {
        workers: read.bounded(
            "download.workers",
            whole(),
            4,
            1..=64,
            "each writes a file and holds a connection",
        ),
        idle_timeout: read.bounded(
            "download.idle_timeout",
            DURATION,
            secs(30),
            secs(1)..=HOUR,
            "links may live for one hour only",
        ),
        retry_base: read.bounded(
            "download.retry_base",
            DURATION,
            secs(5),
            100 * MILLISECOND..=HOUR,
            "links may live for one hour only",
        ),
        give_up: read.bounded(
            "download.give_up",
            DURATION,
            DAY,
            secs(60)..=365 * DAY,
            "the video is paid, and dead links stay dead",
        ),
        max_bytes: read.bounded(
            "download.max_bytes",
            SIZE,
            2 * GIB,
            MIB..=TIB,
            "a video has a few MB, and an endless answer must end before the disk does",
        ),
        allow_private: read.plain("download.allow_private", SWITCH, allow_private),
    }
}

fn metrics(read: &mut Reader) -> Metrics {
    let listen = read.or_off("metrics.listen", SocketAddr::to_string, |written| {
        let instead = "write an address with a port, such as \"127.0.0.1:9187\", a port alone for this machine, or \"off\"";
        let written = written.trim();
        // Whoever wants others to read it says so with an address.
        let port = written.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        port.or_else(|_| written.parse()).map_err(|_| Complaint::new("is not a socket address", instead))
    });
    Metrics { listen }
}

fn log(read: &mut Reader) -> Log {
    let formats = [
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        ("journald", LogFormat::Journald),
    ];
    Log {
        format: read.choice("log.format", &formats, LogFormat::Auto),
        level: read.choice("log.level", &LogLevel::ALL.map(|level| (level.as_str(), level)), LogLevel::Info),
    }
}
