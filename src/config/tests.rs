//! The contract of the configuration, from outside: nothing here touches the real environment.

mod hooks;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::domain::Credits;
use crate::domain::job_type::{Field, JobType, PRICES_AS_OF, Price};

const SECRET: &str = "sk-live-9f8e7d6c5b4a39281706abcdef";

/// A machine of its own: an `/etc`, a home, variables.
struct Machine {
    dir: TempDir,
    environment: Environment,
    overrides: Overrides,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment {
            home: Some(dir.path().join("home")),
            current_dir: dir.path().join("cwd"),
            etc: dir.path().join("etc"),
            ..Environment::default()
        };
        Self { dir, environment, overrides: Overrides::default() }
    }

    /// A machine whose system-wide file says this.
    fn with_file(text: &str) -> Self {
        let machine = Self::new();
        machine.write("etc/klingd/klingd.toml", text);
        machine
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.variables.insert(name.into(), value.into());
        self
    }

    fn sandbox(mut self) -> Self {
        self.overrides.sandbox = true;
        self
    }

    fn load(&self) -> Config {
        Config::load(&self.overrides, &self.environment).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What a person reads, with this machine's directory left out.
    fn complaint(&self) -> String {
        let error = Config::load(&self.overrides, &self.environment).expect_err("a complaint");
        error.to_string().replace(self.dir.path().to_str().unwrap(), "")
    }
}

fn row<'a>(config: &'a Config, key: &str) -> &'a Row {
    config.show().iter().find(|row| row.key == key).unwrap_or_else(|| panic!("no row for {key}"))
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = Machine::new().load();
    let documented = [
        ("api.base_url", "https://kling3api.com/"),
        ("api.connect_timeout", "10s"),
        ("api.submit_timeout", "2m"),
        ("api.status_timeout", "30s"),
        ("api.key_file", "none"),
        ("api.proxy", "off"),
        ("submit.workers", "4"),
        ("submit.on_unclean_stop", "go"),
        ("submit.start_in_flight", "3"),
        ("submit.max_in_flight", "20"),
        ("submit.cooldown", "2s"),
        ("submit.cooldown_max", "10m"),
        ("submit.on_internal_error", "retry"),
        ("poll.first", "learned"),
        ("poll.every", "learned"),
        ("poll.slowest", "5m"),
        ("poll.max_per_second", "2"),
        ("poll.confirm_failed", "30s"),
        ("log.format", "auto"),
        ("log.level", "info"),
        ("budget.per_job", "0"),
        ("budget.per_day", "0"),
        ("budget.total", "0"),
        ("budget.confirm_above", "5000"),
        ("prices.date", PRICES_AS_OF),
        ("prices.pro-text-to-video", "{ silent = 54, sound = 80 }"),
        ("prices.o3-std-video-edit", "360"),
        ("inbox.enabled", "true"),
        ("inbox.settle", "2s"),
        ("inbox.scan_every", "15s"),
        ("inbox.max_jobs_per_file", "1000"),
        ("inbox.max_credits_per_file", "20000"),
        ("output.template", "{date}/{name}-{id}.mp4"),
        ("output.sidecar", "true"),
        ("output.verify", "structure"),
        ("output.min_free", "1 GiB"),
        ("download.workers", "4"),
        ("download.idle_timeout", "30s"),
        ("download.retry_base", "5s"),
        ("download.give_up", "24h"),
        ("download.max_bytes", "2 GiB"),
        ("download.allow_private", "false"),
        ("metrics.listen", "off"),
    ];
    for (key, value) in documented {
        assert_eq!(
            (row(&config, key).value.as_str(), &row(&config, key).origin),
            (value, &Origin::Default),
            "{key}"
        );
    }
    // Every row is documented: these, the other prices, the places and the key.
    let others = ["data_dir", "api.key", "inbox.path", "inbox.accepted", "inbox.rejected", "output.root"];
    for row in config.show() {
        let known = documented.iter().any(|(key, _)| *key == row.key) || others.contains(&row.key.as_str());
        assert!(known || row.key.starts_with("prices."), "{} is shown but not documented", row.key);
    }
}

#[test]
fn shown_values_are_the_values() {
    let config = Machine::new().load();
    assert_eq!(config.api.submit_timeout, Duration::from_secs(120));
    assert_eq!(config.budget.per_day, None, "0 is no cap");
    assert_eq!(config.inbox.max_credits_per_file, Some(Credits::new(20_000)));
    assert_eq!(config.download.give_up, Duration::from_secs(24 * 3600));
    assert_eq!(config.output.min_free_bytes, 1 << 30);
    assert_eq!(config.prices.of(JobType::StdTextToVideo), JobType::StdTextToVideo.price());
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_example_has_every_key_with_its_default() {
    // A line `#key = …` is a default; `# words` are for people.
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let from_example = Machine::with_file(&uncommented).load();
    let mut machine = Machine::new();
    machine.overrides.data_dir = Some("/var/lib/klingd".into());
    let from_nothing = machine.load();

    for row in from_nothing.show().iter().filter(|row| !row.key.starts_with("api.key")) {
        let example = from_example.show().iter().find(|example| example.key == row.key).map(|row| &row.value);
        let price = row.key.strip_prefix("prices.").and_then(|name| name.parse::<JobType>().ok());
        match price {
            Some(job_type) => assert_eq!(from_example.prices.of(job_type), job_type.price(), "{}", row.key),
            None => assert_eq!(example, Some(&row.value), "{}", row.key),
        }
    }
    for row in from_example.show().iter().filter(|row| row.key != "api.key") {
        assert!(
            matches!(row.origin, Origin::File { line: Some(_), .. }),
            "{} is not in the example",
            row.key
        );
    }
    for field in Field::ALL {
        let key = format!("defaults.{}", field.name());
        assert!(from_example.show().iter().any(|row| row.key == key), "{key} is not in the example");
    }
    assert!(Machine::with_file(EXAMPLE).load().show().iter().all(|row| row.origin == Origin::Default));
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let mut machine =
        Machine::with_file("data_dir = '/from/file'\n[submit]\nworkers = 5\n[log]\nlevel = 'warn'\n");
    assert_eq!(machine.load().data_dir, Path::new("/from/file"));
    machine = machine.set("KLINGD_DATA_DIR", "/from/variable").set("KLINGD_SUBMIT__WORKERS", "6");
    assert_eq!(machine.load().data_dir, Path::new("/from/variable"));
    assert_eq!(machine.load().submit.workers, 6);
    machine.overrides.data_dir = Some("/from/flag".into());
    machine.overrides.log_level = Some(LogLevel::Debug);
    let config = machine.load();
    assert_eq!(config.data_dir, Path::new("/from/flag"));
    assert_eq!(config.log.level, LogLevel::Debug);

    let origins = ["data_dir", "submit.workers", "log.level", "poll.every"]
        .map(|key| row(&config, key).origin.to_string());
    assert_eq!(origins, ["--data-dir", "KLINGD_SUBMIT__WORKERS", "-v or -q", "default"]);
    let line =
        row(&Machine::with_file("\n[submit]\nworkers = 5\n").load(), "submit.workers").origin.to_string();
    assert!(line.ends_with("/etc/klingd/klingd.toml:3"), "{line}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let machine = Machine::with_file("[submit]\nworkers = 5\n")
        .set("KLINGD_SUBMIT__WORKERS", "")
        .set("KLINGD_CONFIG", "");
    assert_eq!(machine.load().submit.workers, 5);
}

#[test]
fn the_users_file_goes_before_the_systems_and_a_named_one_before_both() {
    let mut machine = Machine::with_file("[submit]\nworkers = 1\n");
    machine.write("home/.config/klingd/klingd.toml", "[submit]\nworkers = 2\n");
    assert_eq!(machine.load().submit.workers, 2);
    let xdg = machine.write("xdg/klingd/klingd.toml", "[submit]\nworkers = 3\n");
    machine = machine.set("XDG_CONFIG_HOME", xdg.parent().unwrap().parent().unwrap().to_str().unwrap());
    assert_eq!(machine.load().submit.workers, 3);
    machine.write("cwd/mine.toml", "[submit]\nworkers = 4\n");
    machine = machine.set("KLINGD_CONFIG", "mine.toml");
    assert_eq!(machine.load().submit.workers, 4);
    machine.overrides.config = Some(machine.write("flag.toml", "[submit]\nworkers = 5\n"));
    let config = machine.load();
    assert_eq!((config.submit.workers, config.file), (5, machine.overrides.config.clone()));

    machine.overrides.config = Some("absent.toml".into());
    assert_eq!(
        machine.complaint(),
        "the configuration file /cwd/absent.toml cannot be read: No such file or directory (os error 2); \
         name one that exists, or write one with `klingd config init`"
    );
}

#[test]
fn the_data_directory_has_a_place_for_services_for_people_and_for_the_sandbox() {
    let people = Machine::new();
    assert_eq!(people.load().data_dir, people.dir.path().join("home/.local/share/klingd"));
    let people = people.set("XDG_DATA_HOME", "/data");
    assert_eq!(people.load().data_dir, Path::new("/data/klingd"));
    let people = people.set("XDG_DATA_HOME", "relative");
    assert_eq!(people.load().data_dir, people.dir.path().join("home/.local/share/klingd"));
    let service = Machine::new().set("STATE_DIRECTORY", "/var/lib/klingd:/var/lib/other");
    assert_eq!(service.load().data_dir, Path::new("/var/lib/klingd"));
    assert_eq!(service.sandbox().load().data_dir, Path::new("/var/lib/klingd/sandbox"));
    let relative = Machine::new().set("KLINGD_DATA_DIR", "queue");
    assert_eq!(relative.load().data_dir, relative.dir.path().join("cwd/queue"));

    let mut nowhere = Machine::new();
    nowhere.environment.home = None;
    assert_eq!(
        nowhere.complaint(),
        "data_dir cannot be guessed without a home directory; name one with --data-dir"
    );
}

#[test]
fn places_follow_the_data_directory() {
    let config = Machine::with_file("data_dir = '/d'").load();
    assert_eq!(config.output.root, Path::new("/d/videos"));
    assert_eq!(config.inbox.path, Path::new("/d/inbox"));
    assert_eq!(config.inbox.accepted, Path::new("/d/accepted"));
    let config =
        Machine::with_file("data_dir = '/d'\n[inbox]\npath = '/share/jobs'\n[output]\nroot = '~/films'")
            .load();
    assert_eq!(config.inbox.rejected, Path::new("/share/rejected"));
    assert!(config.output.root.ends_with("home/films"));
}

#[test]
fn the_sandbox_keeps_to_itself() {
    let machine = Machine::with_file(
        "data_dir = '/d'\n[api]\nbase_url = 'https://real.example'\nproxy = 'http://proxy:1'\n\
         [inbox]\npath = '/share/jobs'\n[output]\nroot = '/films'\n[poll]\nevery = '700ms'\n",
    );
    let machine = machine.set("KLINGD_API__KEY", SECRET).sandbox();
    let config = machine.load();
    assert_eq!(config.output.root, Path::new("/d/sandbox/videos"));
    assert_eq!(config.inbox.path, Path::new("/d/sandbox/inbox"));
    assert_eq!(config.inbox.accepted, Path::new("/d/sandbox/accepted"));
    assert_eq!(config.api.base_url.host_str(), Some("127.0.0.1"));
    assert_eq!(config.api.proxy, None);
    assert!(config.api_key.is_none() && config.download.allow_private);
    assert_eq!(config.poll.first, Some(Duration::from_secs(1)));
    assert_eq!(config.poll.every, Some(Duration::from_millis(700)), "what the user set stays");
    assert_eq!(config.poll.max_per_second, 50.0);
    assert_eq!(config.poll.confirm_failed, Duration::from_secs(2));
    assert_eq!(config.warnings.len(), 4, "{:?}", config.warnings);
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn every_problem_is_told_at_once_with_its_place_and_its_remedy() {
    let machine = Machine::with_file(
        r#"
[api]
base_url = "http://kling3api.com"
connect_timeout = 10
key = "sk-live-9f8e7d6c5b4a39281706abcdef"
[submit]
workers = 65
max_in_flight = 2
start_in_flight = 3
on_unclean_stop = "stop"
worker = 3
[poll]
every = "soon"
max_per_second = 0
[budget]
per_day = -1
[output]
root = "films"
min_free = "1.5 GiB"
sidecar = "perhaps"
[download]
max_bytes = 5
idle_timeout = "1month"
[metrics]
listen = "localhost"
[prices]
pro-text-to-video = { silent = 54 }
o3-pro-video-edit = { silent = 1, sound = 2 }
date = "yesterday"
[defaults]
type = "pro-text-to-vide"
sounds = true
[log]
level = "loud"
"#,
    );
    let machine = machine.set("KLINGD_SUBMIT__COOLDOWN", "2h").set("KLINGD_API__BASEURL", "x");
    insta::assert_snapshot!(machine.complaint(), @r#"
    /etc/klingd/klingd.toml:3: api.base_url = "http://kling3api.com" would send the API key in the clear; write https://; http is for loopback only
    /etc/klingd/klingd.toml:4: api.connect_timeout = 10 has no unit; write a text such as "10s", "250ms" or "1h30m"
    /etc/klingd/klingd.toml:5: api.key never stands in the configuration file, which people copy, commit and paste into tickets; take it out and give it as the systemd credential `api-key`, in a file named by `api.key_file`, or in the variable KLINGD_API__KEY
    /etc/klingd/klingd.toml:7: submit.workers = 65 is not within 1 to 64, because each holds a connection and a request that is paid; write one that is; the default is 4
    /etc/klingd/klingd.toml:9: submit.start_in_flight = 3 is not within 1 to 2, because it begins at one or more and ends at submit.max_in_flight; write one that is; the default is 2
    /etc/klingd/klingd.toml:10: submit.on_unclean_stop = "stop" is not one of its words; write "go" or "hold"
    /etc/klingd/klingd.toml:11: submit.worker is not a key of klingd; did you mean submit.workers?
    /etc/klingd/klingd.toml:13: poll.every = "soon" is not a duration; write a text such as "10s", "250ms" or "1h30m"
    /etc/klingd/klingd.toml:14: poll.max_per_second = 0 is not within 0.01 to 1000, because the provider counts status calls, and 0 would never see a video; write one that is; the default is 2
    /etc/klingd/klingd.toml:16: budget.per_day = -1 is negative; write a whole number from 0 up
    /etc/klingd/klingd.toml:18: output.root = "films" is relative, and a daemon's working directory is nobody's choice; write it from / or from ~/
    /etc/klingd/klingd.toml:19: output.min_free = "1.5 GiB" is not a size in whole units; write a text such as "5 GiB" or "500 MB"
    /etc/klingd/klingd.toml:20: output.sidecar = "perhaps" is neither true nor false; write true or false, without quotes
    /etc/klingd/klingd.toml:22: download.max_bytes = 5 has no unit; write a text such as "5 GiB" or "500 MB"
    /etc/klingd/klingd.toml:23: download.idle_timeout = "1month" is not a duration; write a text such as "10s", "250ms" or "1h30m"
    /etc/klingd/klingd.toml:25: metrics.listen = "localhost" is not a socket address; write an address with a port, such as "127.0.0.1:9187", a port alone for this machine, or "off"
    /etc/klingd/klingd.toml:27: prices.pro-text-to-video.silent = 54 has no price with sound beside it; write both, such as { silent = 54, sound = 80 }
    /etc/klingd/klingd.toml:28: prices.o3-pro-video-edit.silent is not a key of klingd; did you mean prices.o3-pro-video-edit?
    /etc/klingd/klingd.toml:28: prices.o3-pro-video-edit.sound is not a key of klingd; did you mean prices.o3-pro-video-edit?
    /etc/klingd/klingd.toml:29: prices.date = "yesterday" is not a date; write the day the prices were read, such as "2026-01-31"
    /etc/klingd/klingd.toml:31: defaults.type = "pro-text-to-vide" is not one of the provider's twelve types; did you mean "pro-text-to-video"?
    /etc/klingd/klingd.toml:32: defaults.sounds is not a key of klingd; did you mean defaults.sound?
    /etc/klingd/klingd.toml:34: log.level = "loud" is not one of its words; write "error" or "warn" or "info" or "debug" or "trace"
    KLINGD_API__BASEURL: api.baseurl is not a key of klingd; did you mean KLINGD_API__BASE_URL?
    KLINGD_SUBMIT__COOLDOWN: submit.cooldown = "2h" is not within 100ms to 10m, because it grows from here to submit.cooldown_max; write one that is; the default is 2s
    "#);
}

#[test]
fn base_urls_are_https_or_loopback() {
    for good in [
        ("https://kling3api.com", "https://kling3api.com/"),
        ("https://gateway.example:8443/kling", "https://gateway.example:8443/kling/"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/"),
        ("http://127.8.9.1", "http://127.8.9.1/"),
        ("http://[::1]:9000/", "http://[::1]:9000/"),
        ("http://localhost:9000", "http://localhost:9000/"),
    ] {
        let config = Machine::new().set("KLINGD_API__BASE_URL", good.0).load();
        assert_eq!(config.api.base_url.as_str(), good.1);
        assert_eq!(config.download.allow_private, good.1.starts_with("http:"), "{}", good.0);
    }
    for (bad, why) in [
        ("http://kling3api.com", "would send the API key in the clear"),
        ("http://192.168.1.4", "would send the API key in the clear"),
        ("http://localhost.example.com", "would send the API key in the clear"),
        ("http://127.0.0.1.example.com", "would send the API key in the clear"),
        ("ftp://kling3api.com", "is neither https nor http"),
        ("kling3api.com", "is not a URL (relative URL without a base)"),
        ("https://user:hunter2@kling3api.com", "carries a user name or password"),
        ("https://kling3api.com/?key=hunter2", "carries a query or a fragment"),
        ("https://kling3api.com/#x", "carries a query or a fragment"),
    ] {
        let complaint = Machine::new().set("KLINGD_API__BASE_URL", bad).complaint();
        assert!(complaint.starts_with("KLINGD_API__BASE_URL: api.base_url"), "{complaint}");
        assert!(complaint.contains(why) && !complaint.contains("hunter2"), "{complaint}");
    }
}

#[test]
fn a_private_endpoint_allows_private_links_unless_told_otherwise() {
    let private = |url: &str| Machine::new().set("KLINGD_API__BASE_URL", url);
    assert!(private("https://10.1.2.3").load().download.allow_private);
    assert!(private("https://[fd00::1]").load().download.allow_private);
    assert!(!private("https://8.8.8.8").load().download.allow_private);
    let told = private("https://10.1.2.3").set("KLINGD_DOWNLOAD__ALLOW_PRIVATE", "false");
    assert!(!told.load().download.allow_private);
}

#[test]
fn bounds_that_depend_on_others_follow_them() {
    let config =
        Machine::with_file("[submit]\nmax_in_flight = 2\ncooldown_max = '1s'\n[poll]\nslowest = '5s'").load();
    assert_eq!((config.submit.start_in_flight, config.submit.cooldown), (2, Duration::from_secs(1)));
    assert_eq!((config.poll.first, config.poll.every), (None, None), "learned within it");
    let set = Machine::with_file("[poll]\nfirst = 'learned'\nevery = '3s'").load();
    assert_eq!((set.poll.first, set.poll.every), (None, Some(Duration::from_secs(3))));
    let late = Machine::with_file("[poll]\nfirst = '10m'\nslowest = '1m'").load();
    assert_eq!(late.poll.first, Some(Duration::from_secs(600)), "a person may know how long renders take");
    let complaint = Machine::with_file("[poll]\nfirst = '3h'").complaint();
    assert!(
        complaint.contains("not within 100ms to 1h, because") && complaint.contains("links"),
        "{complaint}"
    );
    let complaint = Machine::with_file("[poll]\nslowest = '5s'\nevery = '6s'").complaint();
    assert!(complaint.contains("not within 100ms to 5s"), "{complaint}");
    let complaint = Machine::with_file("[api]\nsubmit_timeout = '90s'\nconnect_timeout = '2m'").complaint();
    assert_eq!(
        complaint,
        "/etc/klingd/klingd.toml:3: api.connect_timeout = \"2m\" is not within 100ms to 1m30s, because \
         connecting is part of api.submit_timeout; write one that is; the default is 10s"
    );
    let short = Machine::with_file("[api]\nsubmit_timeout = '5s'").load();
    assert_eq!(short.warnings, ["api.submit_timeout is below 60s: each slow answer becomes a job in doubt"]);
}

#[test]
fn prices_and_defaults_take_the_names_of_the_page() {
    let config = Machine::with_file(
        "[prices]\ndate = 2026-12-01\npro-text-to-video = { silent = 50, sound = 70 }\nstd-text-to-video = 33\n\
         o3-pro-video-edit = 400\n[defaults]\nimages = ['https://a.example/1.png']\nduration = 8\ncfg_scale = 1\n\
         prompt = \"\"\"two\nlines\"\"\"\n",
    );
    let config =
        config.set("KLINGD_PRICES__O3_STD_TEXT_TO_VIDEO", "30").set("KLINGD_DEFAULTS__SOUND", "off").load();
    let each = |silent, sound| Price::PerSecond { silent: Credits::new(silent), sound: Credits::new(sound) };
    assert_eq!(config.prices.as_of, "2026-12-01");
    assert_eq!(config.prices.of(JobType::ProTextToVideo), each(50, 70));
    assert_eq!(config.prices.of(JobType::StdTextToVideo), each(33, 33));
    assert_eq!(config.prices.of(JobType::O3ProVideoEdit), Price::Fixed(Credits::new(400)));
    assert_eq!(config.prices.of(JobType::O3StdTextToVideo), each(30, 30));
    assert_eq!(config.prices.of(JobType::O3ProTextToVideo), each(48, 48), "the page's, untouched");
    assert_eq!(config.defaults.images.as_deref(), Some(["https://a.example/1.png".to_owned()].as_slice()));
    assert_eq!((config.defaults.duration, config.defaults.cfg_scale), (Some(8), Some(1.0)));
    assert_eq!((config.defaults.sound, config.defaults.prompt.as_deref()), (Some(false), Some("two\nlines")));
}

#[test]
fn what_is_written_never_lies_in_what_is_watched() {
    let machine = Machine::with_file(
        "data_dir = '/share/jobs/data'\n[inbox]\npath = '/share/jobs'\naccepted = '/share/jobs/done'\n\
         [output]\nroot = '/share/jobs'\n",
    );
    insta::assert_snapshot!(machine.complaint(), @r#"
    /etc/klingd/klingd.toml:1: data_dir = /share/jobs/data lies in the watched folder /share/jobs; name a place outside of inbox.path
    /etc/klingd/klingd.toml:4: inbox.accepted = /share/jobs/done lies in the watched folder /share/jobs; name a place outside of inbox.path
    /etc/klingd/klingd.toml:6: output.root = /share/jobs lies in the watched folder /share/jobs; name a place outside of inbox.path
    "#);
}

#[test]
fn a_variable_steers_no_terminal() {
    let complaint = Machine::with_file("").set("KLINGD_\u{1b}[31mX", "x").complaint();
    assert!(complaint.starts_with(r"KLINGD_\u{1b}[31mX: "), "{complaint:?}");
    assert!(!complaint.contains('\u{1b}'), "{complaint:?}");
    let complaint = Machine::with_file("").set("KLINGD_A____\u{1b}[31mX", "x").complaint();
    assert!(complaint.contains(r"a..\u{1b}[31mx") && !complaint.contains('\u{1b}'), "{complaint:?}");
}

#[test]
fn a_key_that_only_looks_like_a_path_is_unknown() {
    let complaint = Machine::with_file("\"submit.workers\" = 9\n").complaint();
    assert_eq!(
        complaint,
        "/etc/klingd/klingd.toml:1: \"submit.workers\" is not a key of klingd; did you mean submit.workers?"
    );
    let machine = Machine::with_file("submit = 9\nzzz = 1\n[inbocks]\n")
        .set("KLINGD_POLL", "x")
        .set("KLINGD_A____B", "x");
    insta::assert_snapshot!(machine.complaint(), @r#"
    /etc/klingd/klingd.toml:1: submit is a section; write its keys one by one, such as submit.cooldown
    /etc/klingd/klingd.toml:2: zzz is not a key of klingd; `klingd config show` lists every key
    /etc/klingd/klingd.toml:3: inbocks is not a key of klingd; did you mean inbox?
    KLINGD_A____B: a..b is not a key of klingd; unset it, or write one like KLINGD_API__BASE_URL
    KLINGD_POLL: poll is a section; write its keys one by one, such as KLINGD_POLL__CONFIRM_FAILED
    "#);
}

#[test]
fn a_broken_file_is_shown_without_the_secret_in_it() {
    insta::assert_snapshot!(Machine::with_file("[submit]\nworkers 4\n[poll\nevery = '1s'\n").complaint(), @r#"
    /etc/klingd/klingd.toml:2:9: key with no value, expected `=`
        workers 4
    /etc/klingd/klingd.toml:3:6: unclosed table, expected `]`
        [poll
    "#);
    for text in [
        format!("api.key \"{SECRET}\"\n"),
        format!("api.key = \"{SECRET}\n"),
        format!("[api]\nkey =\n  \"{SECRET}\"\n"),
        format!("{SECRET}\n"),
        format!("Authorization: Bearer {SECRET}\n"),
        format!("proxy = http://me:{SECRET}@proxy\n"),
        format!("[api]\nkeys = \"{SECRET}\"\n"),
        format!("[api]\nkey = {{ value = \"{SECRET}\" }}\n"),
        format!("[api]\nkey_file = \"{SECRET}\"\n"),
        format!("[api]\nproxy = \"socks://{SECRET}@host\"\n"),
        format!("[api]\nbase_url = \"https://{SECRET}@host\"\n"),
    ] {
        let complaint = Machine::with_file(&text).complaint();
        assert!(!complaint.contains("9f8e7d"), "{text}\n{complaint}");
        let error = Config::load(&Overrides::default(), &Machine::with_file(&text).environment).unwrap_err();
        assert!(!format!("{error:?}").contains("9f8e7d"), "{text}\n{error:?}");
    }
    let binary = Machine::new();
    #[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
    fs::write(binary.write("etc/klingd/klingd.toml", ""), [0xff, 0xfe, 0x00]).unwrap();
    assert!(binary.complaint().ends_with("save it as UTF-8 text"), "{}", binary.complaint());
}

#[test]
fn the_key_comes_from_variable_credential_or_file_and_is_never_seen() {
    let machine = Machine::new();
    let file = machine.write("key-file", "key-from-file\n");
    let credential = machine.write("credentials/api-key", "key-from-credential\n");
    machine.write("etc/klingd/klingd.toml", &format!("[api]\nkey_file = {:?}\n", file.to_str().unwrap()));
    let key = |machine: &Machine| machine.load().require_key().unwrap().expose().to_owned();

    assert_eq!(key(&machine), "key-from-file");
    let machine = machine.set("CREDENTIALS_DIRECTORY", credential.parent().unwrap().to_str().unwrap());
    assert_eq!(key(&machine), "key-from-credential");
    let machine = machine.set("KLINGD_API__KEY_FILE", file.to_str().unwrap());
    assert_eq!(key(&machine), "key-from-file", "a variable goes before the credential");
    let machine = machine.set("KLINGD_API__KEY", SECRET);
    assert_eq!(key(&machine), SECRET);

    let config = machine.load();
    assert!(!format!("{config:?}").contains(SECRET));
    let fingerprint = config.api_key.as_ref().unwrap().fingerprint();
    assert_eq!(row(&config, "api.key").value, format!("hidden, fingerprint {fingerprint}"));
    assert_eq!(row(&config, "api.key").origin, Origin::Variable("KLINGD_API__KEY".to_owned()));
    assert!(config.show().iter().all(|row| !row.value.contains(SECRET)));
}

#[test]
fn without_a_usable_key_only_who_needs_one_fails() {
    insta::assert_snapshot!(Machine::new().load().require_key().unwrap_err(), @r#"no usable API key: KLINGD_API__KEY is not set; there are no systemd credentials; `api.key_file` is not set. Give one in any of three ways: the systemd credential `api-key` (LoadCredential=api-key:FILE), a file named by `api.key_file`, or the variable KLINGD_API__KEY"#);
    let broken = Machine::new().set("KLINGD_API__KEY", "Bearer sk-1234").load();
    insta::assert_snapshot!(broken.require_key().unwrap_err(), @r#"no usable API key: KLINGD_API__KEY is set, but it has a space or a character that no key has; write the bare key, without `Bearer`. Give one in any of three ways: the systemd credential `api-key` (LoadCredential=api-key:FILE), a file named by `api.key_file`, or the variable KLINGD_API__KEY"#);
    let absent = Machine::new().set("KLINGD_API__KEY_FILE", "/absent/key").load();
    insta::assert_snapshot!(absent.require_key().unwrap_err(), @r#"no usable API key: the key file /absent/key cannot be read: No such file or directory (os error 2). Give one in any of three ways: the systemd credential `api-key` (LoadCredential=api-key:FILE), a file named by `api.key_file`, or the variable KLINGD_API__KEY"#);
}

#[test]
fn a_key_file_open_to_others_is_a_warning() {
    let machine = Machine::new();
    let file = machine.write("key-file", SECRET);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let machine = machine.set("KLINGD_API__KEY_FILE", file.to_str().unwrap());
    assert!(machine.load().warnings.is_empty(), "the group may");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = machine.load().warnings;
    assert!(warnings[0].contains("is open to every user (mode 0644): chmod 0640"), "{warnings:?}");
    assert!(machine.load().api_key.is_some());
}

#[test]
fn a_proxys_password_is_hidden() {
    let config = Machine::new().set("KLINGD_API__PROXY", "http://me:hunter2@proxy.example:3128").load();
    assert_eq!(config.api.proxy.as_ref().unwrap().expose().password(), Some("hunter2"));
    assert_eq!(row(&config, "api.proxy").value, "http://…@proxy.example:3128");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn text_that_is_not_utf8_is_a_sentence() {
    use std::os::unix::ffi::OsStringExt;
    let mut machine = Machine::new();
    let latin1 = std::ffi::OsString::from_vec(vec![b'/', 0xe9]);
    machine.overrides.data_dir = Some(latin1.clone().into());
    machine.environment.variables.insert("KLINGD_OUTPUT__ROOT".into(), latin1);
    insta::assert_snapshot!(machine.complaint(), @r#"
    KLINGD_OUTPUT__ROOT: output.root is not UTF-8 text; write it in UTF-8
    --data-dir: data_dir is not UTF-8 text; write it in UTF-8
    "#);
}

#[test]
fn stderr_is_the_journal_only_when_the_variable_names_it() {
    let stderr = rustix::fs::fstat(std::io::stderr()).unwrap();
    let named = format!("{}:{}", stderr.st_dev, stderr.st_ino);
    assert!(Machine::new().set("JOURNAL_STREAM", &named).environment.stderr_is_journal());
    assert!(!Machine::new().set("JOURNAL_STREAM", "8:12345678").environment.stderr_is_journal());
    assert!(!Machine::new().environment.stderr_is_journal());
}
