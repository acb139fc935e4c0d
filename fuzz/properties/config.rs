//! Any bytes as the configuration file, with any `KLINGD_` variables: no panic, a sentence with its place in the file for
//! every mistake, no secret in anything that is shown, and what passes is within its bounds.
//!
//! The input is lines of variables (without `KLINGD_`), a line `---`, and the file; without such a line, the file alone.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Write,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::PathBuf,
    time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::parts::{assert_showable, line};
use crate::config::{Config, ConfigError, Environment, Origin, Overrides};

/// A key, wherever somebody pasted one.
const SECRET: &str = "sk-live-9f8e7d6c5b4a39281706abcdef";

pub fn check(bytes: &[u8]) {
    let (variables, text) = parts(bytes);
    // A file in memory: it is read as any other.
    let mut file = fs::File::from(memfd_create("config", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(text).expect("memory");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let environment = Environment {
        variables,
        home: Some(PathBuf::from("/nowhere/home")),
        current_dir: PathBuf::from("/nowhere/here"),
        etc: PathBuf::from("/nowhere/etc"),
    };
    for sandbox in [false, true] {
        let overrides = Overrides { config: Some(path.clone()), sandbox, ..Overrides::default() };
        match Config::load(&overrides, &environment) {
            Ok(config) => resolved(&config),
            Err(error) => refused(&error, text),
        }
    }
}

fn parts(bytes: &[u8]) -> (std::collections::BTreeMap<OsString, OsString>, &[u8]) {
    let mut variables = std::collections::BTreeMap::new();
    // Nothing else may be where a key could come from: it is always there, and nothing may show it.
    variables.insert("KLINGD_API__KEY".into(), SECRET.into());
    let (mut rest, mut names) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (variable, after) = line(rest);
        rest = after;
        if variable == b"---" {
            for (name, value) in names {
                variables.insert(name, value);
            }
            return (variables, rest);
        }
        if let Some(equals) = variable.iter().position(|b| *b == b'=') {
            let name = [b"KLINGD_", &variable[..equals]].concat();
            let value = OsStr::from_bytes(&variable[equals + 1..]).to_owned();
            if name != b"KLINGD_CONFIG" && name != b"KLINGD_API__KEY" {
                names.push((OsStr::from_bytes(&name).to_owned(), value));
            }
        }
    }
    (variables, bytes)
}

fn refused(error: &ConfigError, text: &[u8]) {
    let said = error.to_string();
    assert_showable(&said);
    let lines = text.iter().filter(|b| **b == b'\n').count() + 1;
    match error {
        ConfigError::Read { .. } => {
            assert!(std::str::from_utf8(text).is_err() || text.len() > 1 << 20, "{said}")
        }
        ConfigError::Syntax(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem:?}");
                assert!(!problem.message.is_empty(), "{problem:?}");
            }
            assert!(!said.contains(SECRET), "{said}");
        }
        ConfigError::Invalid(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.why.is_empty() && !problem.instead.is_empty(), "{problem:?}");
                if let Origin::File { line, .. } = problem.origin {
                    assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{problem:?}");
                }
                let about_keys = ["key", "proxy"].iter().any(|word| problem.key.ends_with(word));
                let shown = problem.value.as_deref().unwrap_or_default().contains(SECRET);
                assert!(!(about_keys && shown) || problem.key == "api.key_file", "{problem:?}");
            }
        }
        ConfigError::Merge(why) => panic!("figment could not merge what TOML allows: {why}"),
    }
}

fn resolved(config: &Config) {
    let rows: String =
        config.show().iter().map(|row| format!("{} = {} ({})\n", row.key, row.value, row.origin)).collect();
    // It came by the one variable that holds it.
    let shown = |row: &&crate::config::Row| row.key == "api.key" || row.key == "api.proxy";
    for row in config.show().iter().filter(shown) {
        assert!(!row.value.contains(SECRET), "{row:?}");
    }
    assert!(!format!("{:?}", config.api_key).contains(SECRET));
    assert!(!format!("{:?}", config.api.proxy).contains(SECRET));
    assert_showable(&rows);
    config.warnings.iter().for_each(|warning| assert_showable(warning));

    let ms = Duration::from_millis;
    let within = |wait: Duration, most: u64| wait >= ms(100) && wait <= Duration::from_secs(most);
    let (api, submit, poll) = (&config.api, &config.submit, &config.poll);
    assert!(
        within(api.submit_timeout, 1800)
            && within(api.status_timeout, 1800)
            && within(api.connect_timeout, 1800)
    );
    let loopback = match api.base_url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
        None => false,
    };
    assert!(
        api.base_url.scheme() == "https" || (api.base_url.scheme() == "http" && loopback),
        "{}",
        api.base_url
    );
    assert!(api.base_url.username().is_empty() && api.base_url.path().ends_with('/'));
    assert!(
        (1..=64).contains(&submit.workers) && submit.start_in_flight >= 1 && submit.max_in_flight <= 10_000
    );
    assert!(submit.start_in_flight <= submit.max_in_flight && submit.cooldown <= submit.cooldown_max);
    assert!(poll.max_per_second >= 0.01 && poll.max_per_second <= 1000.0);
    assert!(config.inbox.max_jobs_per_file >= 1 && config.inbox.max_jobs_per_file <= 100_000);
    assert!((1..=64).contains(&config.download.workers));
    assert!(config.data_dir.is_absolute() && config.output.root.is_absolute(), "{:?}", config.data_dir);
    assert_eq!(config.api_key.is_none(), config.sandbox, "a key is given by the environment");
}
