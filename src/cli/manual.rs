//! What the command line says of itself: help with examples first, man pages, completions. All of it is made from the
//! parser, so that none of it can be out of date.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _, FromArgMatches as _};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::Cli;
use crate::disk;

/// Each verb with what people use it for: a command, and what it does. The first one is what most of them want.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "run",
        &[
            ("klingd run", "serve the queue until interrupted"),
            ("klingd run --until-idle", "end when nothing moves by itself; the exit code tells how"),
            ("klingd run --sandbox", "try it: simulated provider, no key, no cost"),
        ],
    ),
    ("demo", &[("klingd demo", "render the example's jobs into ./klingd-demo, simulated")]),
    (
        "enqueue",
        &[
            ("klingd enqueue shots.toml", "queue every job of a file, or none"),
            (
                "klingd enqueue --type std-text-to-video --prompt 'A lighthouse at dusk' --duration 5",
                "queue one job",
            ),
            ("klingd enqueue --dry-run shots.toml", "what it would queue and cost"),
            ("klingd enqueue --wait --max-credits 2000 shots.toml", "at most so much; wait for the videos"),
            ("generate-jobs | klingd enqueue -", "job files on standard input"),
        ],
    ),
    (
        "check",
        &[
            ("klingd check shots.toml", "every mistake, with its line; and the price"),
            ("klingd check --expand shots.toml", "every job that it would make"),
        ],
    ),
    (
        "list",
        &[
            ("klingd list", "what is under way, and the last few that ended"),
            ("klingd list --watch", "go on showing it"),
            ("klingd list --state in_doubt --state failed", "only these"),
            ("klingd list -a --json", "everything, for a program"),
        ],
    ),
    (
        "show",
        &[
            ("klingd show 12", "request, attempts, money, files, history"),
            ("klingd show 12 --json", "the same for a program"),
        ],
    ),
    (
        "wait",
        &[
            ("klingd wait 12 13", "until both rest"),
            ("klingd wait --batch shots.toml --timeout 2h", "a whole batch, but not for ever"),
        ],
    ),
    (
        "set",
        &[
            ("klingd set 12 --priority 50", "let it go first"),
            ("klingd set 12 13 --not-before 2030-01-31T22:00:00+01:00", "not before the night"),
        ],
    ),
    (
        "retry",
        &[
            ("klingd retry 12", "fetch a paid video again, for free; or ask before a new render"),
            ("klingd retry 12 --new-render --yes", "pay again"),
        ],
    ),
    ("cancel", &[("klingd cancel 12 13", "drop what is queued; ask before leaving what is paid")]),
    (
        "resolve",
        &[
            ("klingd resolve 12 --task-id n75abc", "the provider's panel shows this task"),
            ("klingd resolve 12 --not-charged", "the panel shows none: back to the queue"),
            ("klingd resolve 12 --write-off", "give it up, as spent"),
        ],
    ),
    ("pause", &[("klingd pause", "submit nothing more")]),
    (
        "resume",
        &[
            ("klingd resume", "submit again"),
            ("klingd resume --hold unclean_stop", "lift a hold that must be named"),
        ],
    ),
    ("status", &[("klingd status", "the daemon, what holds it, the queue's depth, today's credits")]),
    (
        "spend",
        &[
            ("klingd spend", "credits by day"),
            ("klingd spend --by tag --since 30d --csv", "a month by project, for a spreadsheet"),
        ],
    ),
    (
        "doctor",
        &[
            ("klingd doctor", "check the installation; each line says what to do"),
            ("klingd doctor --online", "ask the provider, too: a free call"),
            ("klingd doctor --json", "the bug report, without secrets"),
        ],
    ),
    (
        "prune",
        &[
            ("klingd prune --dry-run", "what would be forgotten"),
            ("klingd prune --older-than 30d --yes", "from a timer; money, keys and videos stay"),
        ],
    ),
    ("backup", &[("klingd backup /srv/backup/klingd.db", "copy the queue, whether the daemon runs or not")]),
    (
        "config",
        &[
            ("klingd config init", "write the commented file with every key"),
            ("klingd config show", "what is in force, and where it comes from"),
            ("klingd config completions bash", "print completions for a shell"),
        ],
    ),
    ("sandbox", &[("klingd sandbox --listen 127.0.0.1:8080", "the provider's double, for api.base_url")]),
];

/// For whoever has not chosen a verb yet.
const FIRST: &[(&str, &str)] = &[
    ("klingd demo", "see it work: no key, no cost"),
    ("klingd enqueue shots.toml", "queue jobs"),
    ("klingd run", "serve the queue"),
    ("klingd list", "what there is, why it does not move, what to do"),
];

/// What it is, then examples, then the rest.
const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

impl Cli {
    /// Reads the command line of this process. clap prints help and errors itself, and ends it with 0 or 2 as the
    /// contract asks.
    pub fn read() -> Self {
        let matches = command().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The parser, with examples.
fn command() -> Command {
    let verbs: Vec<String> =
        Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    verbs.iter().fold(with_examples(Cli::command(), FIRST), |command, verb| {
        command.mut_subcommand(verb, |verb| {
            let examples = examples_of(verb.get_name());
            with_examples(verb, examples)
        })
    })
}

fn examples_of(verb: &str) -> &'static [(&'static str, &'static str)] {
    EXAMPLES.iter().find(|(name, _)| *name == verb).map_or(&[], |(_, examples)| examples)
}

fn with_examples(command: Command, examples: &[(&str, &str)]) -> Command {
    if examples.is_empty() {
        return command;
    }
    let lines: String = examples.iter().map(|(line, what)| format!("  {line}\n      {what}\n")).collect();
    command.help_template(TEMPLATE).before_help(format!("Examples:\n{lines}"))
}

/// Completions for a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "klingd", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes `klingd.1`, and a page for each verb, into a directory; says which.
///
/// # Errors
/// A directory or a file that can't be written.
pub(super) fn write_man_pages(directory: &Path) -> Result<Vec<String>> {
    disk::create_root(directory)?;
    let mut command = Cli::command();
    command.build();
    let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
    let pages = std::iter::once((command.clone(), FIRST))
        .chain(verbs.map(|verb| (verb.clone(), examples_of(verb.get_name()))));
    let mut written = Vec::new();
    for (command, examples) in pages {
        let name = format!("{}.1", command.get_display_name().unwrap_or(command.get_name()));
        let text = man_page(command, examples).context("a man page can't be made")?;
        disk::write_atomically(&directory.join(&name), &text, disk::Access::World, disk::Clobber::Replace)
            .with_context(|| format!("{name} was not written"))?;
        written.push(name);
    }
    Ok(written)
}

fn man_page(command: Command, examples: &[(&str, &str)]) -> std::io::Result<Vec<u8>> {
    let has_verbs = command.get_subcommands().next().is_some();
    let man = Man::new(command).manual("klingd");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    let mut section = Roff::new();
    section.control("SH", ["EXAMPLES"]);
    for (line, what) in examples {
        section.control("TP", []).text([bold(*line)]).text([roman(*what)]);
    }
    section.to_writer(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_verbs {
        man.render_subcommands_section(&mut text)?;
    }
    man.render_version_section(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_examples_and_every_example_is_a_command() {
        let command = command();
        let verbs: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        for verb in &verbs {
            assert!(!examples_of(verb).is_empty(), "{verb} has no example");
        }
        for (verb, examples) in EXAMPLES {
            assert!(verbs.contains(verb), "there is no {verb}");
            assert!(examples.iter().all(|(line, _)| line.contains(&format!("klingd {verb}"))), "{verb}");
        }
        for (line, _) in EXAMPLES.iter().flat_map(|(_, examples)| *examples).chain(FIRST) {
            let words =
                line.split(" | ").last().unwrap_or_default().replace("'A lighthouse at dusk'", "text");
            let read = super::command().try_get_matches_from(words.split_whitespace());
            assert!(read.is_ok(), "{line}: {}", read.err().map_or_else(String::new, |e| e.to_string()));
        }
    }

    #[test]
    fn help_begins_with_what_it_is_and_examples() {
        insta::assert_snapshot!(command().term_width(100).render_help().to_string());
    }

    #[test]
    fn each_verb_has_a_man_page() {
        let dir = tempfile::tempdir().unwrap();
        let written = write_man_pages(dir.path()).unwrap();
        assert_eq!(written.len(), EXAMPLES.len() + 1);
        let page = std::fs::read_to_string(dir.path().join("klingd-resolve.1")).unwrap();
        assert!(page.contains(".SH EXAMPLES") && page.contains("klingd resolve 12"), "{page}");
    }

    #[test]
    fn each_shell_completes_every_verb() {
        for shell in <clap_complete::Shell as clap::ValueEnum>::value_variants() {
            let text = completions(*shell);
            assert!(EXAMPLES.iter().all(|(verb, _)| text.contains(verb)), "{shell}");
        }
    }
}
