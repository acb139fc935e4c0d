//! The shim: built once a run, put before a daemon, and asked what it saw.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::rig::Rig;

/// What the shim does at the call that it was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Does {
    /// SIGKILL, before the call.
    Kill,
    /// This one call fails as on a full disk.
    Enospc,
    /// This one call fails as on a bad disk.
    Eio,
    /// This one write, or the next one, writes half.
    Short,
    /// From here on the disk is full, until the reserve is removed.
    Full,
    /// From here on every call fails.
    Dead,
    /// A lie: the next video that is renamed is cut behind the daemon's back. It must be the judge who finds it.
    Tear,
    /// A lie: no sync does anything. Only a power cut tells.
    NoSync,
}

impl Does {
    pub fn word(self) -> &'static str {
        match self {
            Does::Kill => "kill",
            Does::Enospc => "enospc",
            Does::Eio => "eio",
            Does::Short => "short",
            Does::Full => "full",
            Does::Dead => "dead",
            Does::Tear => "tear",
            Does::NoSync => "nosync",
        }
    }
}

/// A fault at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub does: Does,
    /// Counted from one.
    pub at: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.does.word(), self.at)
    }
}

/// A call, as the shim reports it.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    /// Below the data directory.
    pub path: String,
}

/// All calls of a daemon, in their order, and the one at which the fault struck.
#[derive(Debug)]
pub struct Trace {
    pub calls: Vec<Call>,
    pub struck: Option<String>,
}

/// The environment of a daemon with the shim before it, which reports to `report`.
pub fn before(rig: &Rig, report: &Path, fault: Option<Fault>) -> Vec<(&'static str, OsString)> {
    let mut environment = vec![
        ("LD_PRELOAD", built().into()),
        ("SHIM_BELOW", rig.data_dir().into()),
        ("SHIM_REPORT", report.into()),
    ];
    if let Some(fault) = fault {
        environment.push(("SHIM_DOES", fault.does.word().into()));
        environment.push(("SHIM_AT", fault.at.to_string().into()));
    }
    environment
}

impl Trace {
    /// What stands in a report.
    pub fn read(report: &Path, below: &Path) -> Trace {
        let text = String::from_utf8_lossy(&fs::read(report).unwrap()).into_owned();
        let mut trace = Trace { calls: Vec::new(), struck: None };
        let prefix = format!("{}/", below.display());
        for line in text.lines() {
            let mut words = line.splitn(4, ' ').skip(2).map(str::to_owned);
            let mut word = || words.next().unwrap_or_else(|| panic!("a line of the shim's report: {line:?}"));
            let (name, path) = (word(), word().replace(&prefix, ""));
            match name.as_str() {
                "FIRED" => {
                    trace.struck = trace.calls.last().map(|call| format!("{} {}", call.name, call.path))
                }
                _ => trace.calls.push(Call { name, path }),
            }
        }
        trace
    }
}

/// The shared object, compiled at its first use.
fn built() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let shared = ["-shared", "-fPIC", "-ldl"];
    BUILT.get_or_init(|| compile("tests/crash/calls/shim.c", "klingd-shim.so", &shared)).clone()
}

/// Compiles a C file of the tests. It gets its name when it is whole: another run of the tests may be using the old one.
pub fn compile(source: &str, name: &str, arguments: &[&str]) -> PathBuf {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let fresh = made.with_extension(std::process::id().to_string());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Wextra", "-o"]).arg(&fresh).arg(source).args(arguments);
    let output = cc.output().expect("a C compiler is needed, as for SQLite: install one that is called cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    rustix::fs::rename(&fresh, &made).unwrap();
    made
}
