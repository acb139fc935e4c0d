//! The journal's own protocol: one datagram an event, with its fields beside its sentence, so that
//! `journalctl -u klingd KLINGD_JOB=422` finds what happened to a job. Where there is no journal, or it does not take an
//! event, the same line goes to stderr with its priority in front (sd-daemon(3)): nothing is lost, and nothing panics.
//!
//! The crate made for it (tracing-journald) would name a job `KLINGD_JOB_ID`, and writes no line where the journal is away.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    os::unix::net::UnixDatagram,
    path::Path,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context};

use super::escape;

/// Where the journal listens (systemd-journald.service(8)).
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of one field, cut beyond: some forty fields of them fit into what a socket takes at once (208 KiB by default).
const MAX_FIELD_BYTES: usize = 4096;
/// Fields of one event; ours have five at most.
const MAX_FIELDS: usize = 32;

/// Sends events to the journal, or writes them as lines.
pub(super) struct Journal<W> {
    socket: Option<UnixDatagram>,
    lines: W,
}

impl<W> Journal<W> {
    /// To the journal at `path`, if one listens there.
    pub fn new(path: &Path, lines: W) -> Self {
        let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path).map(|()| socket));
        Self { socket: connected.ok(), lines }
    }
}

impl<S, W> Layer<S> for Journal<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(*event.metadata().level());
        event.record(&mut entry);
        let sent = self.socket.as_ref().is_some_and(|socket| socket.send(&entry.datagram()).is_ok());
        if !sent {
            // A stderr that is gone, too, must not take the daemon along.
            self.lines.make_writer().write_all(entry.line().as_bytes()).ok();
        }
    }
}

/// An event, as it is gathered.
struct Entry {
    priority: u8,
    sentence: String,
    fields: Vec<(String, String)>,
}

impl Entry {
    fn new(level: Level) -> Self {
        // syslog's numbers for err, warning, info and debug.
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        Self { priority, sentence: String::new(), fields: Vec::new() }
    }

    /// One `NAME=value` a line: no value has a line break, since that is escaped.
    fn datagram(&self) -> Vec<u8> {
        let mut text = format!("PRIORITY={}\nSYSLOG_IDENTIFIER=klingd\n", self.priority);
        // Writing to a String cannot fail.
        writeln!(text, "MESSAGE={}", cut(&self.sentence)).unwrap_or_default();
        for (name, value) in &self.fields {
            writeln!(text, "{name}={}", cut(value)).unwrap_or_default();
        }
        text.into_bytes()
    }

    fn line(&self) -> String {
        format!("<{}>{}\n", self.priority, self.sentence)
    }

    /// The sentence alone where it comes first, then ` name=value`: as in every other format, the line says it all.
    fn say(&mut self, field: &Field, shown: fmt::Arguments<'_>) {
        if !self.sentence.is_empty() {
            self.sentence.push(' ');
        }
        let shown = shown.to_string();
        let shown = escape(&shown);
        match field.name() {
            "message" => self.sentence.push_str(&shown),
            name => write!(self.sentence, "{name}={shown}").unwrap_or_default(),
        }
    }

    fn keep(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() != "message" && self.fields.len() < MAX_FIELDS {
            self.fields.push((name(field.name()), escape(&value.to_string()).into_owned()));
        }
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.say(field, format_args!("{value:?}"));
        self.keep(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.say(field, format_args!("{value:?}"));
        // Without quotes: this one is searched for as it is.
        self.keep(field, format_args!("{value}"));
    }
}

/// `job.id` is `KLINGD_JOB`, `state.to` is `KLINGD_STATE`, `credits.charged` is `KLINGD_CREDITS_CHARGED`.
fn name(field: &str) -> String {
    let short = match field {
        "state.to" => "state",
        _ => field.strip_suffix(".id").or_else(|| field.strip_suffix(".no")).unwrap_or(field),
    };
    let mut name = "KLINGD_".to_owned();
    name.extend(short.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }));
    name
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FIELD_BYTES)]
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a journal hears and what stderr gets.
    fn heard(socket: Option<&UnixDatagram>, path: &Path, log: impl FnOnce()) -> (Vec<String>, String) {
        let paper = Paper::default();
        let writer = paper.clone();
        let journal = Journal::new(path, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), log);
        let mut entries = Vec::new();
        if let Some(socket) = socket {
            socket.set_nonblocking(true).unwrap();
            let mut bytes = vec![0; 1024 * 1024];
            while let Ok(n) = socket.recv(&mut bytes) {
                entries.push(String::from_utf8(bytes[..n].to_vec()).unwrap());
            }
        }
        let lines = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        (entries, lines)
    }

    #[test]
    fn a_job_is_found_by_its_field() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (entries, lines) = heard(Some(&socket), &path, || {
            let task = "n75abc";
            tracing::info!(job.id = 422, task.id = %task, state.to = "generating", credits.charged = 200, "job 422 is generating");
            tracing::warn!(why = "a\nMESSAGE=forged", "b\nPRIORITY=0");
            tracing::error!(why = "x".repeat(1_000_000), "long");
        });
        assert_eq!(
            entries[0],
            "PRIORITY=6\nSYSLOG_IDENTIFIER=klingd\n\
             MESSAGE=job 422 is generating job.id=422 task.id=n75abc state.to=\"generating\" credits.charged=200\n\
             KLINGD_JOB=422\nKLINGD_TASK=n75abc\nKLINGD_STATE=generating\nKLINGD_CREDITS_CHARGED=200\n"
        );
        assert_eq!(
            entries[1],
            "PRIORITY=4\nSYSLOG_IDENTIFIER=klingd\nMESSAGE=b\\nPRIORITY=0 why=\"a\\nMESSAGE=forged\"\n\
             KLINGD_WHY=a\\nMESSAGE=forged\n",
            "no stranger's line break begins a field"
        );
        assert!(entries[2].len() < 3 * MAX_FIELD_BYTES, "{}", entries[2].len());
        assert_eq!(lines, "");
    }

    #[test]
    fn without_a_journal_the_lines_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let log = || tracing::info!(job.id = 1, "job 1 is done");
        assert_eq!(heard(None, &path, log).1, "<6>job 1 is done job.id=1\n");
        // One that has gone away since.
        let socket = UnixDatagram::bind(&path).unwrap();
        let gone = || {
            drop(socket);
            log();
        };
        assert_eq!(heard(None, &path, gone).1, "<6>job 1 is done job.id=1\n");
    }
}
