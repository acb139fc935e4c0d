//! `klingd spend`: where the credits went, and what is left of the budgets.

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::{
    Context, Exit,
    config::priced_as_of,
    exit::Refusal,
    render::{
        Look,
        spend::{Spend, csv, in_groups, json_lines, notes, table_of},
    },
    view::View,
    when::Since,
};
use crate::{
    config::Config,
    domain::JobType,
    store::{
        Store,
        ledger::{Drift, Group},
    },
};

/// Flags of `spend`.
#[derive(Args)]
pub struct SpendArgs {
    /// One line for each of these
    #[arg(long, value_enum, default_value_t = By::Day, value_name = "WHAT")]
    by: By,
    /// Only attempts since: 2h, 3d, or a time such as 2026-02-05T10:30:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Comma-separated values, for a spreadsheet
    #[arg(long)]
    csv: bool,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A local day
    Day,
    /// A request type
    Type,
    /// A tag; a job with two counts under each
    Tag,
    /// A batch
    Batch,
}

impl By {
    const fn group(self) -> Group {
        match self {
            By::Day => Group::Quarter,
            By::Type => Group::Type,
            By::Tag => Group::Tags,
            By::Batch => Group::Batch,
        }
    }
}

/// Shows it.
pub async fn run(context: Context, args: SpendArgs) -> Result<Exit> {
    if args.csv && context.global.json {
        return Err(Refusal::usage("either --csv or --json"));
    }
    let config = context.config()?;
    let found =
        context.with_store(&config, async |store| read(&context, &config, &store, &args).await).await?;
    if context.global.json {
        json_lines(&found).iter().for_each(|object| context.print(&object.to_string()));
        return Ok(Exit::Done);
    }
    if args.csv {
        context.print(&csv(&found));
        return Ok(Exit::Done);
    }
    let look = context.look();
    context.print(&table_of(&found, look));
    let notes = notes(&found);
    match look {
        Look::Terminal { .. } if notes.is_empty() => {}
        Look::Terminal { .. } => context.print(&format!("\n{}", notes.join("\n"))),
        // The table is another program's; what is said of it is a person's.
        Look::Piped => notes.iter().for_each(|note| context.say(note)),
    }
    Ok(Exit::Done)
}

async fn read(context: &Context, config: &Config, store: &Store, args: &SpendArgs) -> Result<Spend> {
    let view = View::read(store, config, context).await?;
    let since = args.since.map(|since| since.from(view.now));
    let groups = store.spending(args.by.group(), since).await?;
    let (rows, total) = in_groups(groups, &view.zone);
    let drifts = store.drifts(since).await?;
    let of_type = |name: &str| JobType::ALL.into_iter().find(|t| t.as_str() == name);
    let dated = |drift: &Drift| of_type(&drift.job_type).map(|t| priced_as_of(config, t).to_owned());
    Ok(Spend {
        drift_dates: drifts.iter().map(dated).collect(),
        by: args.by,
        rows,
        total,
        drifts,
        prices_as_of: config.prices.as_of.clone(),
        latest_intent: store.latest_intent().await?,
        view,
    })
}
