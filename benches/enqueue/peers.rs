//! The other queues, where `benches/peers/install.sh` has put them. Each is a program that queues the lines of a file, by
//! one call a line or by one call for all, checks that all are there and synced, and says how long the calls took.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::common::{
    Result,
    child::{Cost, Running, measure},
};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");

#[derive(Clone, Copy)]
pub enum Part {
    /// One durable call a line.
    Each,
    /// One durable call.
    Bulk,
}

pub struct Peer {
    pub name: &'static str,
    pub has_bulk: bool,
    program: PathBuf,
    script: Option<&'static str>,
}

impl Peer {
    pub fn run(&self, part: Part, dir: &Path, file: &Path) -> Result<Cost> {
        let part = match part {
            Part::Bulk if self.has_bulk => "bulk",
            Part::Bulk | Part::Each => "one",
        };
        let mut command = Command::new(&self.program);
        command.args(self.script.map(|script| format!("{SCRIPTS}/{script}")));
        measure(command.env("PEERS", home()?).arg(part).arg(dir).arg(file))
    }
}

fn home() -> Result<PathBuf> {
    Ok(std::env::current_dir()?.join("target/peers"))
}

/// Those that are there; says which are not.
pub fn installed() -> Result<Vec<Peer>> {
    let home = home()?;
    let node = which("node").unwrap_or_default();
    let peers = [
        ("effectum 0.7", true, home.join("rust-effectum/release/peer-effectum"), None, None),
        ("apalis-sqlite 1.0", true, home.join("rust-apalis/release/peer-apalis"), None, None),
        (
            "plainjob 0.0.14",
            true,
            node,
            Some("plainjob_peer.mjs"),
            Some("npm/node_modules/better-sqlite3/build/Release/better_sqlite3.node"),
        ),
        (
            "huey 3.5",
            false,
            home.join("venv/bin/python"),
            Some("huey_peer.py"),
            Some("venv/bin/huey_consumer"),
        ),
    ];
    let mut all = Vec::new();
    for (name, has_bulk, program, script, needs) in peers {
        if program.exists() && needs.is_none_or(|needs| home.join(needs).exists()) {
            all.push(Peer { name, has_bulk, program, script });
        } else {
            println!("{name} is not installed: skipped (benches/peers/install.sh)");
        }
    }
    Ok(all)
}

fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.exists())
}

/// pueue, whose daemon keeps its state as a file that it never syncs; a job is a process.
pub struct Pueue {
    client: PathBuf,
    config: PathBuf,
    _server: Running,
}

impl Pueue {
    /// Its daemon, or nothing where it is not installed.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        let client = home()?.join("cargo/bin/pueue");
        if !client.exists() {
            println!("pueue is not installed: skipped (benches/peers/install.sh)");
            return Ok(None);
        }
        fs::create_dir_all(dir)?;
        let (config, socket) = (dir.join("pueue.yml"), dir.join("socket"));
        let settings = format!(
            "shared:\n  pueue_directory: {0}\n  runtime_directory: {0}\n  use_unix_socket: true\n  unix_socket_path: {1}\n",
            dir.display(),
            socket.display()
        );
        fs::write(&config, settings)?;
        let mut server = Command::new(client.with_file_name("pueued"));
        server.arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Running::start(&mut server)?;
        let start = Instant::now();
        while !socket.exists() {
            if start.elapsed() > Duration::from_secs(10) {
                return Err("pueued does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let pueue = Self { client, config, _server: server };
        // Queued, and not run.
        measure(pueue.command().arg("pause"))?;
        Ok(Some(pueue))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("--config").arg(&self.config);
        command
    }

    pub fn add(&self) -> Result<Cost> {
        measure(self.command().args(["add", "--", "true"]))
    }
}
