//! `klingd set`: changes of jobs that are not submitted yet.

use anyhow::Result;
use clap::Args;

use super::{
    Context, Exit,
    each::{changed, each},
    exit::Refusal,
    job_files::complain_of_flags,
    render::text::count,
};
use crate::{
    intake::flags::{Changes, CheckedChanges},
    store::person::Edit,
};

/// Flags of `set`.
#[derive(Args)]
pub struct SetArgs {
    /// Jobs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct ChangeArgs {
    /// -100 to 100, higher first
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    priority: Option<i64>,
    /// Not submitted earlier: RFC 3339 with an offset; a time that is past lets it go
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// Labels instead of those it has (repeatable)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The name in tables and file names
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Changes.
pub async fn run(context: Context, args: SetArgs) -> Result<Exit> {
    let config = context.config()?;
    let ChangeArgs { priority, not_before, tags, name } = args.change;
    let checked = Changes { name, tags, priority, not_before }.read().map_err(|errors| {
        complain_of_flags(&context, &errors);
        Refusal::usage(format!("nothing was changed: {}", count(errors.len(), "error")))
    })?;
    let CheckedChanges { name, tags, priority, not_before } = checked;
    let edit = Edit { priority, not_before, tags, name };
    context
        .with_store(&config, |store| async {
            // Owned here, so that the last handle goes with the work and the writer ends.
            let store = store;
            let set = async |id| {
                store.edit(id, edit.clone(), context.clock.now()).await?;
                changed(&context, &config, &store, id, &format!("job {id} is changed")).await
            };
            Ok(each(&context, &args.ids, set).await)
        })
        .await
}
