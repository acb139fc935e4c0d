//! What there is to know of an installation: looked at, and changed nowhere.

use std::{
    fs::Metadata,
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Result;
use tokio::process::Command;

use super::super::Context;
use crate::{
    config::{ApiKey, Config},
    daemon::{api_settings, output_settings},
    disk::{self, filesystem::Filesystem, lock::DirLock},
    domain::{Timestamp, hold::Hold, plan::download::Verify},
    provider::{Api, Probe, SetupError},
    store::{
        Store,
        inspect::{self, Inspection},
    },
};

/// How long another program may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the lock's text; klingd writes fewer.
const HOLDER_BYTES: u64 = 400;
/// The configuration of the service, and where its unit finds the key: for root alone, plain or encrypted
/// (systemd/klingd.service).
const SERVICE_CONFIG: &str = "/etc/klingd/klingd.toml";
const SERVICE_KEYS: [&str; 2] = ["/etc/klingd/api-key", "/etc/klingd/api-key.cred"];

/// This program, for the first line of a report.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its version.
    pub version: &'static str,
    /// The system it runs on: its name, release and architecture.
    pub system: String,
    /// The SQLite in it.
    pub sqlite: String,
    /// The schema that it knows.
    pub schema: i64,
}

/// Everything that is judged.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The file that was read, if any.
    pub config_file: Option<PathBuf>,
    /// What the configuration has to say; said already, too.
    pub warnings: Vec<String>,
    /// Why the template of names can't be used.
    pub template: Option<String>,
    /// Whether the queue is the sandbox's: it needs no key.
    pub sandbox: bool,
    /// The key's fingerprint, or where one was looked for.
    pub key: Result<String, String>,
    /// Where the unit that serves this queue finds the key, and whether one is there; nothing where no unit serves it.
    pub service_key: Option<(&'static str, bool)>,
    /// Whether HTTPS has anybody to trust; nothing where it is not used.
    pub authorities: Option<Result<(), String>>,
    /// The provider's address.
    pub base_url: String,
    /// What a free call showed, if one was asked for.
    pub online: Option<Result<Seen, String>>,
    /// The data directory.
    pub data_dir: Place,
    /// The root of the videos.
    pub output: Place,
    /// Whether the root was used before, and what is wrong with it.
    pub root_trouble: Option<String>,
    /// `output.min_free`.
    pub min_free_bytes: u64,
    /// The watched folder, if it is watched.
    pub inbox: Option<Place>,
    /// The database: none yet, or why it can't be looked at.
    pub database: Option<Result<Inspection, String>>,
    /// The schema that this program knows.
    pub known_schema: i64,
    /// The holds that stand.
    pub holds: Vec<Hold>,
    /// Who holds the data directory, if anybody does, or why that can't be told.
    pub holder: Result<Option<String>, String>,
    /// The unit, where systemd runs the machine.
    pub unit: Option<Unit>,
    /// Whether videos can be decoded, where that was asked for.
    pub decoder: Option<bool>,
    /// Now.
    pub now: Timestamp,
}

/// What the provider showed.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The answer.
    pub probe: Probe,
    /// Our clock when it was asked, and when it had answered.
    pub asked_at: Timestamp,
    /// The latter.
    pub heard_at: Timestamp,
}

/// A folder.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// What it is; nothing where there is none.
    pub there: Option<There>,
    /// Why it can't be looked at, or made.
    pub trouble: Option<String>,
}

/// A folder that is there.
#[derive(Clone, Debug)]
pub struct There {
    /// Its permissions.
    pub mode: u32,
    /// Why files can't be made in it.
    pub not_writable: Option<String>,
    /// What it is on.
    pub filesystem: Filesystem,
    /// Bytes that are free on it.
    pub free_bytes: u64,
}

/// What systemd says of klingd's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `loaded`, `not-found`, …
    pub load: String,
    /// `active`, `inactive`, `failed`, …
    pub active: String,
    /// `enabled`, `disabled`, …
    pub enabled: String,
}

/// This program.
pub async fn program() -> Result<Program> {
    let (sqlite, schema) = inspect::versions().await?;
    let uname = rustix::system::uname();
    let [name, release, machine] =
        [uname.sysname(), uname.release(), uname.machine()].map(|part| part.to_string_lossy().into_owned());
    let system = format!("{name} {release} {machine}");
    Ok(Program { version: env!("CARGO_PKG_VERSION"), system, sqlite, schema })
}

/// Looks at everything.
pub async fn gather(context: &Context, config: &Config, online: bool) -> Facts {
    let (database, holds, root_is_known) = database(config).await;
    let output = place(config.videos_root());
    let (key, api) = (config.require_key(), api(config));
    let unit = unit().await;
    let needs_authorities = config.api.base_url.scheme() == "https" && !config.sandbox;
    Facts {
        config_file: config.file.clone(),
        warnings: config.warnings.clone(),
        template: output_settings(config).err().map(|error| error.to_string()),
        sandbox: config.sandbox,
        key: key.map(ApiKey::fingerprint).map_err(|error| error.to_string()),
        service_key: service_key(config, unit.as_ref()),
        authorities: needs_authorities.then(|| api.as_ref().map(drop).map_err(ToString::to_string)),
        base_url: config.api.base_url.to_string(),
        online: match (&api, online && !config.sandbox && config.api_key.is_some()) {
            (Ok(api), true) => Some(ask(context, api).await),
            (Ok(_) | Err(_), _) => None,
        },
        data_dir: place(&config.data_dir),
        root_trouble: match root_is_known {
            true => disk::root::check_mark(config.videos_root()).err().map(|error| error.to_string()),
            false => None,
        },
        output,
        min_free_bytes: config.output.min_free_bytes,
        inbox: config.inbox.enabled.then(|| place(&config.inbox.path)),
        database,
        known_schema: inspect::versions().await.map_or(0, |(_, schema)| schema),
        holds,
        holder: holder(config),
        unit,
        decoder: match config.output.verify {
            Verify::Decode => Some(can_decode().await),
            Verify::Size | Verify::Structure => None,
        },
        now: context.clock.now(),
    }
}

/// The client as the daemon would make it; without a key, with a word in its stead.
fn api(config: &Config) -> Result<Api, SetupError> {
    let key = config.api_key.clone().or_else(|| ApiKey::parse("none").ok()).ok_or(SetupError::Key)?;
    Api::new(&api_settings(config, &key))
}

async fn ask(context: &Context, api: &Api) -> Result<Seen, String> {
    let asked_at = context.clock.now();
    let probe = api.probe().await?;
    Ok(Seen { probe, asked_at, heard_at: context.clock.now() })
}

fn place(path: &Path) -> Place {
    let (there, trouble) = match path.metadata() {
        Ok(folder) if folder.is_dir() => (Some(there(path, &folder)), None),
        Ok(_) => (None, Some(format!("{} is not a folder", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => (None, cannot_be_made(path)),
        Err(error) => (None, Some(unseen(path, &error))),
    };
    Place { path: path.to_owned(), there, trouble }
}

fn there(path: &Path, folder: &Metadata) -> There {
    There {
        mode: folder.permissions().mode() & 0o7777,
        not_writable: disk::space::check_writable(path).err().map(|error| error.to_string()),
        filesystem: Filesystem::of(path).unwrap_or(Filesystem::Other),
        free_bytes: disk::free_bytes(path).unwrap_or(0),
    }
}

/// Why a folder that is missing would not be made: what is above it decides.
fn cannot_be_made(path: &Path) -> Option<String> {
    let above = path.ancestors().skip(1).find(|above| above.exists())?;
    let why = disk::space::check_writable(above).err()?;
    Some(format!("{} is missing and can't be made: {why}", path.display()))
}

fn unseen(path: &Path, error: &io::Error) -> String {
    format!("{} can't be looked at: {error}", path.display())
}

/// The database, its holds, and whether it knows the output root; nothing is created for it.
async fn database(config: &Config) -> (Option<Result<Inspection, String>>, Vec<Hold>, bool) {
    let path = config.database();
    match path.metadata() {
        Ok(file) if file.size() > 0 => {}
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return (Some(Err(unseen(&path, &error))), Vec::new(), false);
        }
        Ok(_) | Err(_) => return (None, Vec::new(), false),
    }
    let seen = match inspect::inspect(&path).await {
        Ok(seen) => seen,
        Err(error) => return (Some(Err(error.to_string())), Vec::new(), false),
    };
    let store = Store::look_at(&path);
    // A database of another schema may not tell; that is a check of its own.
    let holds = store.holds().await.unwrap_or_default();
    let knows_root = store.knows_root(&config.videos_root().to_string_lossy()).await.unwrap_or(false);
    (Some(Ok(seen)), holds, knows_root)
}

fn holder(config: &Config) -> Result<Option<String>, String> {
    if !DirLock::is_held(&config.data_dir).map_err(|error| error.to_string())? {
        return Ok(None);
    }
    let text = disk::read_bounded(&config.lock_file(), HOLDER_BYTES).unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

async fn unit() -> Option<Unit> {
    // sd_booted(3): systemd runs the machine.
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let mut ask = Command::new("systemctl");
    ask.args(["show", "klingd.service", "--property=LoadState,ActiveState,UnitFileState"]);
    ask.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(PATIENCE, ask.output()).await.ok()?.ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let value = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().to_owned()
    };
    Some(Unit { load: value("LoadState"), active: value("ActiveState"), enabled: value("UnitFileState") })
}

fn service_key(config: &Config, unit: Option<&Unit>) -> Option<(&'static str, bool)> {
    let is_the_services = config.file.as_deref() == Some(Path::new(SERVICE_CONFIG));
    if !is_the_services || unit?.load != "loaded" {
        return None;
    }
    let [plain, _] = SERVICE_KEYS;
    let there = SERVICE_KEYS.into_iter().find(|path| Path::new(path).exists());
    Some(there.map_or((plain, false), |path| (path, true)))
}

async fn can_decode() -> bool {
    for decoder in ["ffmpeg", "ffprobe"] {
        let mut ask = Command::new(decoder);
        ask.arg("-version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, ask.status()).await;
        if ended.is_ok_and(|ended| ended.is_ok_and(|status| status.success())) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_could_be_made() {
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("file");
        #[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
        std::fs::write(&file, "").unwrap();
        let missing = place(&here.path().join("a/b"));
        assert!(missing.there.is_none() && missing.trouble.is_none(), "{missing:?}");
        assert!(place(here.path()).there.is_some());
        assert!(place(&file).trouble.unwrap().ends_with("is not a folder"));
        assert!(place(&file.join("below")).trouble.is_some());
    }
}
