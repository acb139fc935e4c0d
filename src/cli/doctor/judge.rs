//! From what was found to what is said of it. Pure.

use std::time::Duration;

use serde::Serialize;

use super::facts::{Facts, Place, Seen, There, Unit};
use crate::{
    cli::exit::sentence,
    cli::render::{
        text::{counted, line, size},
        time::span,
    },
    disk::filesystem::Filesystem,
    store::inspect::Inspection,
};

/// A clock that is wrong by more than this dates budgets and links wrongly.
const CLOCK_MAY_BE_OFF: Duration = Duration::from_secs(120);
/// A write-ahead log that an idle daemon would have emptied.
const LONG_LOG_BYTES: u64 = 256 * 1024 * 1024;
/// Room beside the database for its reserve and the last commits.
const DATA_NEEDS_BYTES: u64 = 64 * 1024 * 1024;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// klingd works; somebody should look at it.
    Warning,
    /// klingd can't work.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Check {
    /// Whether klingd can't work because of it.
    pub fn is_problem(&self) -> bool {
        self.verdict == Verdict::Problem
    }
}

fn ok(check: &'static str, found: impl Into<String>) -> Check {
    Check { check, verdict: Verdict::Ok, found: found.into(), remedy: None }
}

fn warning(check: &'static str, found: impl Into<String>, remedy: &str) -> Check {
    Check { check, verdict: Verdict::Warning, found: found.into(), remedy: Some(remedy.to_owned()) }
}

fn problem(check: &'static str, found: impl Into<String>, remedy: &str) -> Check {
    Check { check, verdict: Verdict::Problem, found: found.into(), remedy: Some(remedy.to_owned()) }
}

/// All that can be said without a configuration.
pub fn no_config(error: &anyhow::Error) -> Check {
    problem("config", line(&sentence(error)), "mend it: klingd config check says the same at length")
}

/// Everything, in the order in which it is mended.
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![config(facts), key(facts)];
    checks.extend(facts.authorities.as_ref().map(authorities));
    checks.extend(facts.online.iter().flat_map(|online| provider(facts, online)));
    checks.extend([data_dir(&facts.data_dir), database(facts)]);
    checks.extend(facts.holds.iter().filter(|hold| hold.holds(facts.now)).map(|hold| {
        let found = format!("{} holds all submits: {}", hold.name.as_str(), line(&hold.why));
        warning("hold", found, hold.name.remedy())
    }));
    checks.push(output(facts));
    checks.push(facts.inbox.as_ref().map_or_else(|| ok("inbox", "not watched (inbox.enabled)"), inbox));
    checks.push(daemon(facts));
    checks.extend(facts.unit.as_ref().map(unit));
    checks.extend(facts.decoder.map(decoder));
    checks
}

fn config(facts: &Facts) -> Check {
    let file = facts.config_file.as_ref().map(|file| file.display().to_string());
    let found = file.unwrap_or_else(|| "no file, only defaults".to_owned());
    match (&facts.template, &facts.warnings[..]) {
        (Some(why), _) => problem("config", format!("{found}: {}", line(why)), "mend output.template"),
        (None, []) => ok("config", found),
        (None, warnings) => {
            warning("config", format!("{found}: {}", line(&warnings.join("; "))), "klingd config show")
        }
    }
}

fn key(facts: &Facts) -> Check {
    match &facts.key {
        _ if facts.sandbox => ok("key", "the sandbox needs none"),
        Ok(fingerprint) => ok("key", format!("there is one (fingerprint {fingerprint})")),
        // A service's key is a credential that nobody else reads; without one no daemon starts.
        Err(_) if matches!(facts.holder, Ok(Some(_))) => {
            ok("key", "the daemon has it, and shows it to nobody")
        }
        Err(why) => match facts.service_key {
            Some((path, true)) => ok("key", format!("the service's, in {path}")),
            Some((path, false)) => problem(
                "key",
                format!("the service has none in {path}"),
                &format!("install -m 600 /dev/stdin {path}, paste it, Ctrl-D; then systemctl start klingd"),
            ),
            None => problem(
                "key",
                line(why),
                "put the key into a file for api.key_file, readable by klingd alone",
            ),
        },
    }
}

fn authorities(found: &Result<(), String>) -> Check {
    match found {
        Ok(()) => ok("certificates", "the system's authorities are trusted"),
        Err(why) => problem("certificates", line(why), "apt install ca-certificates, or mend what it says"),
    }
}

fn provider(facts: &Facts, online: &Result<Seen, String>) -> Vec<Check> {
    let url = &facts.base_url;
    let seen = match online {
        Ok(seen) => seen,
        Err(why) => {
            let found = format!("{url} does not answer: {}", line(why));
            return vec![problem("provider", found, "look at the network, api.base_url and api.proxy")];
        }
    };
    let status = seen.probe.status;
    let accepted = match seen.probe.key_works {
        Some(true) => ok("provider", format!("{url} accepts the key")),
        Some(false) => {
            problem("provider", format!("{url} refuses the key (HTTP {status})"), "make a new key there")
        }
        None => {
            let found =
                format!("{url} answers HTTP {status}, which does not tell whether the key is accepted");
            warning("provider", found, "try again later; is api.base_url right?")
        }
    };
    vec![accepted, clock(seen)]
}

/// The date has whole seconds and may have been written at any moment between question and answer.
fn clock(seen: &Seen) -> Check {
    let Some(theirs) = seen.probe.date else {
        return ok("clock", "the provider sends no date to compare with");
    };
    let (ahead, behind) = (seen.asked_at.since(theirs), theirs.since(seen.heard_at));
    let set = "set the clock (timedatectl set-ntp true)";
    match (ahead > CLOCK_MAY_BE_OFF, behind > CLOCK_MAY_BE_OFF) {
        (true, _) => warning("clock", format!("{} ahead of the provider's", span(ahead)), set),
        (_, true) => warning("clock", format!("{} behind the provider's", span(behind)), set),
        (false, false) => ok("clock", "agrees with the provider's"),
    }
}

fn data_dir(place: &Place) -> Check {
    const NAME: &str = "data_dir";
    let path = place.path.display();
    if let Some(why) = &place.trouble {
        return problem(NAME, line(why), "run doctor as klingd's user, or name another data_dir");
    }
    let Some(There { mode, not_writable, filesystem, free_bytes }) = &place.there else {
        return ok(NAME, format!("{path} is made at the first start"));
    };
    let free = size(*free_bytes);
    if let Some(why) = not_writable {
        return problem(NAME, line(why), "run doctor as klingd's user, or chown it to them");
    }
    match filesystem {
        Filesystem::Network(kind) => {
            let found = format!("{path} is on {kind}: a database there can be damaged");
            return warning(NAME, found, "name a local data_dir; videos and the inbox may be on the network");
        }
        Filesystem::Local(_) | Filesystem::Other => {}
    }
    if mode & 0o007 != 0 {
        let found = format!("{path} is open to everybody (mode {mode:04o}): prompts and links can be read");
        return warning(NAME, found, &format!("chmod o= {path}"));
    }
    if *free_bytes < DATA_NEEDS_BYTES {
        return problem(NAME, format!("{free} are free in {path}"), "make room: paid answers need it");
    }
    ok(NAME, format!("{path}, {free} free"))
}

fn database(facts: &Facts) -> Check {
    const NAME: &str = "database";
    let Inspection { schema, world, bytes, log_bytes, faults } = match &facts.database {
        None => return ok(NAME, "made at the first use"),
        Some(Err(why)) => {
            return problem(NAME, line(why), "run doctor as klingd's user; else restore a backup");
        }
        Some(Ok(seen)) => seen,
    };
    let known = facts.known_schema;
    if let [first, ..] = &faults[..] {
        let remedy = "stop klingd, keep the file, and put its newest backup in its place";
        return problem(NAME, format!("it is damaged: {}", line(first)), remedy);
    }
    if *schema > known {
        let found = format!("a newer klingd made it (schema {schema}, this one knows {known})");
        return problem(NAME, found, "install that version again");
    }
    if *schema < known {
        let found = format!("schema {schema}, this klingd has {known}");
        return warning(NAME, found, "start the daemon: it migrates after making a copy");
    }
    let found = format!(
        "whole; schema {schema}, {}, {} and {} of log",
        world.as_deref().unwrap_or("never run"),
        size(*bytes),
        size(*log_bytes)
    );
    if *log_bytes > LONG_LOG_BYTES {
        return warning(NAME, found, "something reads without end: look for hung klingd commands");
    }
    ok(NAME, found)
}

fn output(facts: &Facts) -> Check {
    const NAME: &str = "output";
    let path = facts.output.path.display();
    if let Some(why) = &facts.root_trouble {
        return problem(NAME, line(why), "mount it; paid videos wait in staging meanwhile");
    }
    if let Some(why) = &facts.output.trouble {
        return problem(NAME, line(why), "run doctor as klingd's user, or name another output.root");
    }
    let Some(There { not_writable, free_bytes, .. }) = &facts.output.there else {
        return ok(NAME, format!("{path} is made at the first start"));
    };
    match not_writable {
        // A member of the service's group only reads there; a daemon that could not write would hold its submits (`disk`).
        Some(_) if matches!(facts.holder, Ok(Some(_))) => {}
        Some(why) => return problem(NAME, line(why), "chown or chmod it, or run doctor as klingd's user"),
        None => {}
    }
    let (free, wanted) = (size(*free_bytes), size(facts.min_free_bytes));
    if *free_bytes < facts.min_free_bytes {
        return problem(NAME, format!("{free} are free in {path}, output.min_free is {wanted}"), "make room");
    }
    ok(NAME, format!("{path}, {free} free"))
}

fn inbox(place: &Place) -> Check {
    const NAME: &str = "inbox";
    let path = place.path.display();
    if let Some(why) = &place.trouble {
        return warning(NAME, line(why), "run doctor as klingd's user, or name another inbox.path");
    }
    match &place.there {
        None => ok(NAME, format!("{path} is made at the first start")),
        Some(There { not_writable: Some(why), .. }) => warning(
            NAME,
            line(why),
            "files dropped there are not taken: chown or chmod it, or mount it writable",
        ),
        Some(There { filesystem: Filesystem::Network(kind), .. }) => {
            ok(NAME, format!("{path}, on {kind}: looked at every inbox.scan_every"))
        }
        Some(There { filesystem: Filesystem::Local(_) | Filesystem::Other, .. }) => {
            ok(NAME, format!("{path}, local"))
        }
    }
}

fn daemon(facts: &Facts) -> Check {
    match &facts.holder {
        Ok(Some(who)) => ok("daemon", format!("runs: {}", line(who))),
        Err(why) => warning("daemon", line(why), "run doctor as klingd's user, or as a member of its group"),
        Ok(None) => {
            let start =
                if facts.sandbox { "klingd run --sandbox" } else { "systemctl start klingd, or klingd run" };
            warning("daemon", "none serves this queue", start)
        }
    }
}

fn unit(unit: &Unit) -> Check {
    const NAME: &str = "unit";
    let Unit { load, active, enabled } = unit;
    match (&**load, &**active, &**enabled) {
        ("loaded", "failed", _) => {
            warning(NAME, "klingd.service has failed", "journalctl -u klingd -n 50 says why")
        }
        ("loaded", active, "enabled" | "static" | "alias") => ok(NAME, format!("klingd.service is {active}")),
        ("loaded", active, _) => {
            let found = format!("klingd.service is {active} and not started at boot");
            warning(NAME, found, "systemctl enable klingd")
        }
        ("not-found", _, _) => ok(NAME, "klingd.service is not installed"),
        (load, _, _) => warning(NAME, format!("klingd.service is {}", line(load)), "systemctl status klingd"),
    }
}

fn decoder(found: bool) -> Check {
    match found {
        true => ok("decoder", "videos can be decoded (output.verify)"),
        false => {
            let found = "output.verify is \"decode\", and neither ffmpeg nor ffprobe is installed";
            warning("decoder", found, "apt install ffmpeg")
        }
    }
}

/// How many of each, in a sentence.
pub fn summary(checks: &[Check]) -> String {
    let n = |verdict| checks.iter().filter(|check| check.verdict == verdict).count() as u64;
    match (n(Verdict::Problem), n(Verdict::Warning)) {
        (0, 0) => "klingd can work".to_owned(),
        (0, warnings) => format!("klingd can work; {}", counted(warnings, "warning")),
        (problems, 0) => format!("klingd can't work: {}", counted(problems, "problem")),
        (problems, warnings) => {
            format!("klingd can't work: {}, {}", counted(problems, "problem"), counted(warnings, "warning"))
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
