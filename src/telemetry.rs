//! The log: the one subscriber, how a line looks, and what must never be in one.
//!
//! Owns the format and the redaction; must not decide what is worth a line. Whoever handles a thing logs
//! it, once: a sentence with the id in it, and dotted fields to filter by:
//!
//! | field | is |
//! |---|---|
//! | `job.id`, `batch.id`, `task.id`, `attempt.no` | whom it is about |
//! | `state.from`, `state.to`, `reason` | what happened to it |
//! | `credits.estimated`, `credits.charged` | money |
//! | `http.status`, `url` (by [`redact_url`]) | the provider's side |
//! | `bytes`, `path`, `duration_ms` | the disk's side |
//! | `error` | a chain of causes |
//!
//! Never in a line: the key, bodies, whole prompts at info, URLs with their query (result links are
//! signed). Foreign text may be in a message or a field as it is: what would break a line or steer a
//! terminal is escaped here, for every format.

mod journal;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use thiserror::Error;
use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, FormatEvent, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use url::Url;

use self::journal::Journal;
use crate::config::{LogFormat, LogLevel};

/// Sends the log of this process to stderr, from here to its end.
///
/// # Errors
/// When this process has a subscriber already; that one stays.
pub fn init(look: Look, level: LogLevel) -> Result<(), AlreadySet> {
    let (subscriber, knob) = subscriber(look, level, Path::new(journal::SOCKET), io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadySet)?;
    KNOB.set(knob).map_err(|_| AlreadySet)
}

/// Changes what is worth a line in the log of this process, if [`init`] has set one up.
pub fn set_level(level: LogLevel) {
    if let Some(knob) = KNOB.get() {
        // The one way this fails is that the log has gone away.
        knob.reload(filter(level)).ok();
    }
}

/// What turns the level of the process's log.
type Knob = reload::Handle<Targets, Registry>;

static KNOB: OnceLock<Knob> = OnceLock::new();

/// A process has one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the log of this process is set up already; the earlier one stays")]
pub struct AlreadySet;

/// How a line looks, with nothing left to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Time, level, sentence, fields; colour for a terminal.
    Text {
        /// Whether the level has a colour.
        colour: bool,
    },
    /// To the journal, with the fields as fields; where it can't be reached, lines without time, which
    /// it has itself, and with the level as it reads it, a `<6>` that begins the line (sd-daemon(3)).
    Journal,
    /// One JSON object a line: `timestamp`, `level`, `message`, `target` and the fields.
    Json,
}

impl Look {
    /// What `log.format` means here and now.
    pub fn of(format: LogFormat, stderr_is_journal: bool, colour: bool) -> Self {
        match format {
            LogFormat::Auto if stderr_is_journal => Self::Journal,
            LogFormat::Auto | LogFormat::Text => Self::Text { colour },
            LogFormat::Journald => Self::Journal,
            LogFormat::Json => Self::Json,
        }
    }
}

/// A URL for a log line or a message: without its query, which signs it, and without a password.
pub fn redact_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

type Output = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(look: Look, level: LogLevel, journal: &Path, writer: W) -> (Output, Knob)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, knob) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry();
    let fields = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(Escaping(writer), "{value:?}"),
        name => write!(Escaping(writer), "{name}={value:?}"),
    })
    .delimited(" ");
    // A stderr that is gone must not take the daemon along, which reporting to stderr would.
    let lines = |writer| tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let output: Output = match look {
        Look::Text { colour } => {
            let lines = lines(writer).with_ansi(colour).with_target(false).fmt_fields(fields);
            Box::new(registry.with(lines.with_filter(filter)))
        }
        Look::Journal => Box::new(registry.with(Journal::new(journal, writer).with_filter(filter))),
        Look::Json => {
            let json = format::json().flatten_event(true).with_current_span(false).with_span_list(false);
            let lines = lines(writer).fmt_fields(format::JsonFields::new()).event_format(Json(json));
            Box::new(registry.with(lines.with_filter(filter)))
        }
    };
    (output, knob)
}

/// klingd's own lines by the level; those of the libraries only when they warn: their lower levels have
/// bodies, headers and statements in them, which no level of ours may show.
fn filter(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(own.min(LevelFilter::WARN)).with_target("klingd", own)
}

/// The JSON line, with escapes for what JSON itself lets through and some terminal obeys.
struct Json(format::Format<format::Json>);

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut json = String::new();
        self.0.format_event(context, Writer::new(&mut json), event)?;
        // Whatever must be escaped is inside of a string, where an escape may stand for any of them.
        for c in json.trim_end().chars() {
            if must_be_escaped(c) { write!(line, "\\u{:04x}", u32::from(c))? } else { line.write_char(c)? }
        }
        writeln!(line)
    }
}

/// Escapes what would break a line, steer a terminal or turn the direction of its text.
struct Escaping<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&escape(text))
    }
}

/// Text without what would break a line or steer a terminal.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(must_be_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if must_be_escaped(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

fn must_be_escaped(c: char) -> bool {
    // Control characters, the line and paragraph separators, and the marks that reorder text.
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

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

    /// What is written while `log` runs.
    fn written(look: Look, level: LogLevel, log: impl FnOnce()) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        let nobody = Path::new("/dev/null/socket");
        let (subscriber, _knob) = subscriber(look, level, nobody, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_has_time_level_sentence_and_fields() {
        let line = written(Look::Text { colour: false }, LogLevel::Info, || {
            tracing::info!(job.id = 17, task.id = "n75abc", "job 17 is submitted");
        });
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert_eq!(rest, " INFO job 17 is submitted job.id=17 task.id=\"n75abc\"\n");
    }

    #[test]
    fn the_journal_gets_its_priority_and_no_time() {
        let text = written(Look::Journal, LogLevel::Trace, || {
            tracing::error!("a");
            tracing::warn!(job.id = 1, "b");
            tracing::info!("c");
            tracing::debug!("d");
            tracing::trace!("e");
        });
        assert_eq!(text, "<3>a\n<4>b job.id=1\n<6>c\n<7>d\n<7>e\n");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line =
            written(Look::Json, LogLevel::Info, || tracing::warn!(job.id = 17, error = %"a\nb", "it\nbroke"));
        assert_eq!(line.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&json["message"], &json["job.id"], &json["error"]),
            (&"it\nbroke".into(), &17.into(), &"a\nb".into())
        );
        assert_eq!((&json["level"], &json["target"]), (&"WARN".into(), &"klingd::telemetry::tests".into()));
    }

    #[test]
    fn foreign_text_can_neither_break_a_line_nor_steer_a_terminal() {
        let nasty = "evil\r\n2026-01-01T00:00:00Z ERROR forged \u{1b}[2J\u{9b}31m\u{202e}txt\u{2028}";
        for look in [Look::Text { colour: false }, Look::Journal, Look::Json] {
            let line = written(look, LogLevel::Info, || {
                tracing::info!(display = %nasty, debug = ?nasty, text = nasty, "{nasty}");
            });
            assert_eq!(line.matches('\n').count(), 1, "{look:?} {line:?}");
            assert!(!line.trim_end_matches('\n').contains(must_be_escaped), "{look:?} {line:?}");
            assert!(line.contains("evil\\r\\n2026"), "{line}");
            if look == Look::Json {
                let json: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(json["message"], nasty, "the text itself is whole");
            }
        }
    }

    #[test]
    fn libraries_are_heard_only_when_they_warn() {
        let log = || {
            tracing::info!(target: "hyper::proto", "a body");
            tracing::warn!(target: "sqlx::query", "a slow statement");
            tracing::debug!("own");
        };
        assert_eq!(written(Look::Journal, LogLevel::Trace, log), "<4>a slow statement\n<7>own\n");
        assert_eq!(written(Look::Journal, LogLevel::Info, log), "<4>a slow statement\n");
        assert_eq!(written(Look::Journal, LogLevel::Error, log), "");
    }

    #[test]
    fn colour_is_for_those_who_ask() {
        let log = || tracing::info!("x");
        assert!(written(Look::Text { colour: true }, LogLevel::Info, log).contains('\u{1b}'));
        assert!(!written(Look::Text { colour: false }, LogLevel::Info, log).contains('\u{1b}'));
    }

    #[test]
    fn auto_is_the_journal_where_there_is_one() {
        assert_eq!(Look::of(LogFormat::Auto, true, false), Look::Journal);
        assert_eq!(Look::of(LogFormat::Auto, false, true), Look::Text { colour: true });
        assert_eq!(Look::of(LogFormat::Text, true, false), Look::Text { colour: false });
        assert_eq!(Look::of(LogFormat::Json, true, true), Look::Json);
        assert_eq!(Look::of(LogFormat::Journald, false, true), Look::Journal);
    }

    #[test]
    fn urls_lose_their_query_and_their_password() {
        let url = Url::parse("https://me:pw@cdn.example:8443/a/b.mp4?Signature=s3cret#f").unwrap();
        assert_eq!(redact_url(&url), "https://cdn.example:8443/a/b.mp4");
    }

    #[test]
    fn a_second_log_is_refused_and_no_panic() {
        let twice = [Look::Journal, Look::Json].map(|look| init(look, LogLevel::Error));
        assert_eq!(twice[1], Err(AlreadySet));
    }
}
