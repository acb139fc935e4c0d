//! What every verb starts from: the global flags, the configuration, the clock, the store.

use std::{future::Future, io::IsTerminal as _, path::Path};

use anyhow::{Context as _, Result};

use super::{Color, Global, aim::Aim, exit::Refusal, render::Look};
use crate::{
    clock::Clock,
    config::{Config, Environment, LogLevel, Overrides},
    disk,
    store::{Access, Store, doorbell},
};

/// The global flags and what follows from them.
#[derive(Clone)]
pub struct Context {
    /// The flags.
    pub global: Global,
    /// The clock.
    pub clock: Clock,
    /// The process's environment.
    pub environment: Environment,
}

impl Context {
    /// From the flags.
    pub fn new(global: Global) -> Self {
        Self { global, clock: Clock, environment: Environment::from_process() }
    }

    /// The configuration, as flags, variables and files give it. Its warnings are said once, here.
    pub fn config(&self) -> Result<Config> {
        self.config_with(self.global.sandbox)
    }

    /// The same, for the sandbox's queue or the real one.
    pub fn config_with(&self, sandbox: bool) -> Result<Config> {
        let config = self.config_unsaid(sandbox)?;
        for warning in &config.warnings {
            self.say(&format!("warning: {warning}"));
        }
        Ok(config)
    }

    /// The same, for those who say its warnings elsewhere.
    pub fn config_unsaid(&self, sandbox: bool) -> Result<Config> {
        let log_level = match self.global.verbose {
            0 => None,
            1 => Some(LogLevel::Debug),
            _ => Some(LogLevel::Trace),
        };
        let overrides = Overrides {
            config: self.global.config.clone(),
            data_dir: self.global.data_dir.clone(),
            sandbox,
            log_level,
        };
        Ok(Config::load(&overrides, &self.environment)?)
    }

    /// Opens the queue for a command, runs `work` beside its writer, and rings the daemon's doorbell afterwards.
    pub async fn with_store<T, F>(&self, config: &Config, work: impl FnOnce(Store) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        disk::create_root(&config.data_dir)?;
        let (store, writer) = Store::open(&config.database(), Access::Use)
            .await
            .with_context(|| format!("the queue in {} can't be used", config.data_dir.display()))?;
        let bells = std::sync::Arc::clone(store.bells());
        // On one task, side by side: the writer ends when the work has dropped the last handle.
        let (written, done) = tokio::join!(writer.run(), work(store));
        if *bells.commits.borrow() > 0 {
            doorbell::ring(&config.doorbell());
        }
        let value = done?;
        written?;
        Ok(value)
    }

    /// The flags that lead a suggested command to this queue.
    pub fn aim(&self) -> Aim {
        Aim::of(&self.global)
    }

    /// Says something to people, unless they asked for quiet.
    #[expect(clippy::print_stderr, reason = "what commands say to people goes through here")]
    pub fn say(&self, sentence: &str) {
        if !self.global.quiet {
            eprintln!("{}", self.aim().at(sentence));
        }
    }

    /// Says what is wrong, to those who asked for quiet too.
    #[expect(clippy::print_stderr, reason = "what commands say to people goes through here")]
    pub fn complain(&self, text: &str) {
        eprintln!("{}", self.aim().at(text.trim_end_matches('\n')));
    }

    /// Prints a result.
    pub fn print(&self, text: &str) {
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        // A reader that went away (`klingd ls | head`) is no error.
        writeln!(out, "{}", text.trim_end_matches('\n')).ok();
    }

    /// Asks on a terminal; without one, `--yes` is needed.
    #[expect(clippy::print_stderr, reason = "a question belongs on the terminal, not into the result")]
    pub fn confirm(&self, question: &str) -> Result<bool> {
        if self.global.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Refusal::usage(format!("{question} There is no terminal to ask on: say --yes")));
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// Whether stdout is a terminal (else tables are tab-separated and untruncated).
    pub fn out_is_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// For whom results are rendered: the terminal on stdout with its size, or another program.
    pub fn look(&self) -> Look {
        if !self.out_is_terminal() {
            return Look::Piped;
        }
        // 80 × 24, where a terminal does not know itself (a serial line).
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let (width, height) =
            size.map(|s| (s.ws_col, s.ws_row)).filter(|s| s.0 > 0 && s.1 > 0).unwrap_or((80, 24));
        Look::Terminal { width, height, colour: self.colour() }
    }

    /// Whether progress is shown: only on a terminal.
    pub fn shows_progress(&self) -> bool {
        std::io::stderr().is_terminal() && !self.global.quiet && !self.global.json
    }

    /// Whether to use colours on stdout.
    pub fn colour(&self) -> bool {
        self.colour_on(self.out_is_terminal())
    }

    /// Whether to use colours on stderr.
    pub fn err_colour(&self) -> bool {
        self.colour_on(std::io::stderr().is_terminal())
    }

    fn colour_on(&self, terminal: bool) -> bool {
        match self.global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !self.environment.no_colour(),
        }
    }

    /// Whether a daemon serves this data directory.
    pub fn daemon_runs(&self, data_dir: &Path) -> bool {
        disk::lock::DirLock::is_held(data_dir).unwrap_or(false)
    }
}
