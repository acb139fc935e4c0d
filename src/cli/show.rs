//! `klingd show`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{
    Context, Exit,
    arriving::Arrivals,
    json,
    render::show::{Everything, show},
    view::View,
};
use crate::domain::JobId;

/// Long enough for a rate that means something, too short to be noticed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Flags of `show`.
#[derive(Args)]
pub struct ShowArgs {
    /// The job's number
    #[arg(value_name = "ID")]
    id: i64,
}

/// Shows a job.
pub async fn run(context: Context, args: ShowArgs) -> Result<Exit> {
    let config = context.config()?;
    let text = context
        .with_store(&config, async |store| {
            let id = JobId(args.id);
            let (job, outputs) = (store.job(id).await?, store.outputs(id).await?);
            let (history, attempts) = (store.history(id).await?, store.attempts(id).await?);
            let mut arrivals = Arrivals::new(&config);
            let mut view = View::read(&store, &config, &context).await?;
            view.arriving = arrivals.look(std::slice::from_ref(&job), view.now);
            if !context.global.json && view.arriving.contains_key(&job.id) {
                // A second look tells how fast it comes.
                tokio::time::sleep(BETWEEN_LOOKS).await;
                view.now = context.clock.now();
                view.arriving = arrivals.look(std::slice::from_ref(&job), view.now);
            }
            Ok(if context.global.json {
                json::whole_job(&job, &outputs, &history, &attempts, &view).to_string()
            } else {
                let (outputs, history, attempts) = (&outputs, &history, &attempts);
                show(&Everything { job: &job, outputs, history, attempts, view: &view })
            })
        })
        .await?;
    context.print(&text);
    Ok(Exit::Done)
}
