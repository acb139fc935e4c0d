//! `klingd config`: the configuration as klingd sees it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{
    Context, Exit,
    exit::Refusal,
    manual,
    render::{
        table::{Column, Fit, table},
        text::line,
    },
};
use crate::{
    config::{self, Config},
    disk,
    domain::{
        JobType,
        job_type::{PRICES_AS_OF, Price},
    },
    intake::jobfile,
};

/// Where the provider publishes its prices.
const PRICES_SOURCE: &str = "https://kling3api.com";

/// Flags of `config`.
#[derive(Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

/// What there is a schema of.
#[derive(Clone, Copy, ValueEnum)]
enum Document {
    /// A job file
    Job,
}

#[derive(Subcommand)]
enum Verb {
    /// Write the commented file with every key; never over one that is there
    Init {
        /// Where to, instead of where klingd looks for it
        #[arg(long, value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Every key with its value and where it comes from; secrets hidden
    Show,
    /// Every problem at once, and whether there is a key
    Check,
    /// The JSON Schema of job files, for editors: klingd config schema job > job.schema.json
    Schema {
        /// Of what
        #[arg(value_enum)]
        of: Document,
    },
    /// What each type costs
    Prices,
    /// Completions for a shell, on standard output
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
    /// Write the man pages: klingd.1, and one for each verb
    Man {
        /// Where to
        dir: PathBuf,
    },
}

/// Shows, checks or writes it.
pub async fn run(context: Context, args: ConfigArgs) -> Result<Exit> {
    match args.verb {
        Verb::Init { path } => init(&context, path)?,
        Verb::Show => show(&context, &context.config()?),
        Verb::Check => check(&context, &context.config()?),
        Verb::Schema { of: Document::Job } => context.print(&format!("{:#}", jobfile::schema())),
        Verb::Prices => prices(&context, &context.config()?),
        Verb::Completions { shell } => context.print(manual::completions(shell).trim_end()),
        Verb::Man { dir } => man(&context, &dir)?,
    }
    Ok(Exit::Done)
}

/// Works without a configuration, and with a broken one.
fn init(context: &Context, path: Option<PathBuf>) -> Result<()> {
    let path = path
        .or_else(|| config::place(context.global.config.as_deref(), &context.environment))
        .ok_or_else(|| Refusal::usage("there is no home directory to put it in; name a file with --path"))?;
    let path = context.environment.current_dir.join(path);
    if let Some(folder) = path.parent() {
        disk::create_root(folder)?;
    }
    disk::write_atomically(&path, config::EXAMPLE.as_bytes(), disk::Access::Group, disk::Clobber::Refuse)
        .context("the configuration was not written")?;
    let path = path.display().to_string();
    context.print(&if context.global.json { json!({ "path": path }).to_string() } else { path });
    context.say("every key is in it, with its default; klingd config check reads it");
    Ok(())
}

fn man(context: &Context, dir: &Path) -> Result<()> {
    let dir = context.environment.current_dir.join(dir);
    for name in manual::write_man_pages(&dir)? {
        let path = dir.join(name).display().to_string();
        context.print(&if context.global.json { json!({ "path": path }).to_string() } else { path });
    }
    Ok(())
}

fn show(context: &Context, config: &Config) {
    if context.global.json {
        for row in config.show() {
            let object = json!({ "key": row.key, "value": row.value, "origin": row.origin.to_string() });
            context.print(&object.to_string());
        }
        return;
    }
    let column = |title, fit| Column { title, fit, from_width: 0 };
    let columns = [column("KEY", Fit::Whole), column("VALUE", Fit::Cut), column("ORIGIN", Fit::Cut)];
    let rows = config.show().iter().map(|row| {
        vec![row.key.as_str().into(), line(&row.value).into(), line(&row.origin.to_string()).into()]
    });
    context.print(&table(&columns, &rows.collect::<Vec<_>>(), context.look()));
}

/// What is wrong is an error of [`Context::config`], which names all of it.
fn check(context: &Context, config: &Config) {
    let file = config.file.as_ref().map(|file| file.display().to_string());
    let origin = config.show().iter().find(|row| row.key == "api.key").map(|row| row.origin.to_string());
    let key = match config.require_key() {
        _ if config.sandbox => "not needed: the provider is simulated".to_owned(),
        Ok(key) => format!("found: {}, fingerprint {}", origin.unwrap_or_default(), key.fingerprint()),
        Err(why) => why.to_string(),
    };
    if context.global.json {
        let found = config.api_key.is_some();
        context.print(&json!({ "valid": true, "file": file, "key_found": found, "key": key }).to_string());
        return;
    }
    context.print(&format!("configuration: valid ({})", file.as_deref().unwrap_or("no file, all defaults")));
    context.print(&format!("API key: {key}"));
}

/// The day of a type's price: the configuration's for one that it sets, else the built-in table's.
pub(super) fn priced_as_of(config: &Config, job_type: JobType) -> &str {
    if overridden_at(config, job_type).is_some() { &config.prices.as_of } else { PRICES_AS_OF }
}

fn prices(context: &Context, config: &Config) {
    if context.global.json {
        for job_type in JobType::ALL {
            let (unit, silent, sound) = amounts(config.prices.of(job_type));
            let overridden = overridden_at(config, job_type);
            let as_of = priced_as_of(config, job_type);
            let object = json!({
                "type": job_type, "unit": unit, "silent": silent, "sound": sound,
                "overridden": overridden.is_some(), "origin": overridden,
                "as_of": as_of, "source": PRICES_SOURCE,
            });
            context.print(&object.to_string());
        }
        return;
    }
    let column = |title, fit| Column { title, fit, from_width: 0 };
    let columns = [
        column("TYPE", Fit::Whole),
        column("SILENT", Fit::Number),
        column("SOUND", Fit::Number),
        column("CREDITS", Fit::Whole),
        column("FROM", Fit::Cut),
    ];
    let rows = JobType::ALL.map(|job_type| {
        let (unit, silent, sound) = amounts(config.prices.of(job_type));
        let from = match overridden_at(config, job_type) {
            Some(origin) => format!("{}, as of {}", line(&origin), config.prices.as_of),
            None => format!("the page, as of {PRICES_AS_OF}"),
        };
        vec![
            job_type.as_str().into(),
            silent.to_string().into(),
            sound.to_string().into(),
            unit.into(),
            from.into(),
        ]
    });
    context.print(&table(&columns, &rows, context.look()));
    context.say(&format!(
        "the page is {PRICES_SOURCE}; where it has changed, set prices.TYPE and prices.date in the configuration"
    ));
}

/// Where the price of a type was overridden, if it was.
fn overridden_at(config: &Config, job_type: JobType) -> Option<String> {
    config.prices.overrides.get(&job_type)?;
    let key = format!("prices.{job_type}");
    // Two prices, with sound and without, have a row each below the type's key.
    let row = config.show().iter().find(|row| {
        row.key.strip_prefix(&key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })?;
    Some(row.origin.to_string())
}

fn amounts(price: Price) -> (&'static str, u64, u64) {
    match price {
        Price::PerSecond { silent, sound } => ("per second", silent.get(), sound.get()),
        Price::Fixed(credits) => ("per video", credits.get(), credits.get()),
    }
}
