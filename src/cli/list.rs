//! `klingd list`.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use clap::{Args, builder::PossibleValuesParser, builder::TypedValueParser as _};

use super::{
    Context, Exit,
    arriving::Arrivals,
    json,
    render::{
        Look,
        list::{Listing, list, notices, rows_only},
        text::count,
    },
    view::View,
    when::Since,
};
use crate::{
    config::Config,
    domain::{Job, JobId, State, state::Label},
    store::{Store, download::Output, view::Filter},
};

/// Jobs that are read and printed at once when another program reads: bounds memory, whatever the queue's length.
const PAGE: u32 = 1000;
/// Jobs shown to a person who did not ask for more.
const SCREENFUL: u32 = 200;
/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Lines of a watched screen that are not jobs: notices, the header, the rest.
const WATCH_MARGIN: u16 = 5;

/// Flags of `list`.
#[derive(Args, Default)]
pub struct ListArgs {
    /// All jobs, however old
    #[arg(short, long)]
    all: bool,
    /// Only jobs in this state (repeatable)
    #[arg(long, value_name = "STATE", value_parser = states())]
    state: Vec<Label>,
    /// Only jobs with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only jobs of this batch
    #[arg(long)]
    batch: Option<String>,
    /// Only jobs queued since: 2h, 3d, or a time such as 2026-02-05T10:30:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// At most so many, the newest
    #[arg(short = 'n', long = "limit", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Go on showing it, until interrupted
    #[arg(short, long)]
    watch: bool,
}

fn states() -> impl clap::builder::TypedValueParser<Value = Label> {
    PossibleValuesParser::new(Label::ALL.map(Label::as_str))
        .try_map(|word| Label::parse(&word).ok_or("no state of a job"))
}

/// Lists jobs.
pub async fn run(context: Context, args: ListArgs) -> Result<Exit> {
    let config = context.config()?;
    let arrivals = Mutex::new(Arrivals::new(&config));
    let verb = Verb { context: &context, config: &config, args: &args, arrivals };
    context
        .with_store(&config, async |store| match context.look() {
            _ if context.global.json => verb.print_json(&store).await,
            Look::Piped => verb.print_piped(&store).await,
            look @ Look::Terminal { .. } if args.watch => verb.watch(&store, look).await,
            look @ Look::Terminal { .. } => {
                verb.show(&store, look, SCREENFUL).await.map(|text| context.print(&text))
            }
        })
        .await?;
    Ok(Exit::Done)
}

struct Verb<'a> {
    context: &'a Context,
    config: &'a Config,
    args: &'a ListArgs,
    /// Remembered from look to look, so that `--watch` knows rates.
    arrivals: Mutex<Arrivals>,
}

/// What is read for a page.
struct Page {
    jobs: Vec<Job>,
    outputs: HashMap<JobId, Vec<Output>>,
    view: View,
}

impl Verb<'_> {
    fn filter(&self) -> Filter {
        let args = self.args;
        Filter {
            states: args.state.clone(),
            // Whoever asks for a tag wants all that have it.
            all: args.all || args.tag.is_some(),
            tag: args.tag.clone(),
            batch: args.batch.clone(),
            since: args.since.map(|since| since.from(self.context.clock.now())),
            limit: args.limit,
            after: None,
        }
    }

    async fn page(&self, store: &Store, filter: &Filter) -> Result<Page> {
        let jobs = store.list(filter).await?;
        let with_files = |job: &&Job| matches!(job.state, State::Done { .. } | State::Downloading { .. });
        // JSON tells of the videos of failed jobs, too.
        let wanted = |job: &&Job| self.context.global.json || with_files(job);
        let ids: Vec<JobId> = jobs.iter().filter(wanted).map(|job| job.id).collect();
        let outputs = store.outputs_of(&ids).await?;
        let mut view = View::read(store, self.config, self.context).await?;
        view.arriving = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).look(&jobs, view.now);
        Ok(Page { jobs, outputs, view })
    }

    /// The pages of the whole list; `-n` makes it one.
    async fn pages(&self, store: &Store, mut print: impl FnMut(&Page, bool)) -> Result<()> {
        let mut filter = self.filter();
        let one = filter.limit.is_some();
        if !one {
            (filter.limit, filter.after) = (Some(PAGE), Some(JobId(0)));
        }
        let mut first = true;
        loop {
            let page = self.page(store, &filter).await?;
            let last = page.jobs.last().map(|job| job.id);
            print(&page, first);
            first = false;
            match last {
                Some(last) if !one => filter.after = Some(last),
                Some(_) | None => return Ok(()),
            }
        }
    }

    async fn print_json(&self, store: &Store) -> Result<()> {
        self.pages(store, |page, _| {
            for job in &page.jobs {
                let outputs = page.outputs.get(&job.id).map(Vec::as_slice).unwrap_or_default();
                self.context.print(&json::job(job, outputs, &page.view).to_string());
            }
        })
        .await
    }

    async fn print_piped(&self, store: &Store) -> Result<()> {
        let runs = self.context.daemon_runs(&self.config.data_dir);
        self.pages(store, |page, first| {
            if first {
                notices(&page.view, runs, &page.jobs).iter().for_each(|notice| self.context.say(notice));
                self.context.print(&list(&self.listing(page), Look::Piped));
            } else if !page.jobs.is_empty() {
                self.context.print(&rows_only(&self.listing(page)));
            }
        })
        .await
    }

    /// What a person sees: notices, the table, and whether there is more.
    async fn show(&self, store: &Store, look: Look, at_most: u32) -> Result<String> {
        let mut filter = self.filter();
        let unlimited = self.args.all && filter.limit.is_none() && !self.args.watch;
        let limit = filter.limit.unwrap_or(at_most).min(if self.args.watch { at_most } else { u32::MAX });
        // One more than is shown tells whether there are more.
        filter.limit = (!unlimited).then(|| limit.saturating_add(1));
        let mut page = self.page(store, &filter).await?;
        let more = !unlimited && page.jobs.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            page.jobs.remove(0);
        }
        let mut text = notices(&page.view, self.context.daemon_runs(&self.config.data_dir), &page.jobs);
        if page.jobs.is_empty() {
            text.push(self.context.aim().at(&self.nothing()));
        } else {
            text.push(list(&self.listing(&page), look));
        }
        if more && self.args.limit.is_none() {
            let shown = count(page.jobs.len(), "job");
            let rest = format!("Only the newest {shown} are shown; klingd list --all shows more.");
            text.push(self.context.aim().at(&rest));
        }
        Ok(text.join("\n"))
    }

    fn nothing(&self) -> String {
        let args = self.args;
        let filtered =
            !args.state.is_empty() || args.tag.is_some() || args.batch.is_some() || args.since.is_some();
        if filtered {
            return "No job matches.".to_owned();
        }
        "The queue is empty. To begin:\n  \
         klingd demo                 see it work, at no cost\n  \
         klingd enqueue jobs.toml    queue the jobs of a file\n  \
         klingd enqueue --help       queue one by flags"
            .to_owned()
    }

    fn listing<'p>(&'p self, page: &'p Page) -> Listing<'p> {
        Listing {
            jobs: &page.jobs,
            outputs: &page.outputs,
            view: &page.view,
            videos: self.config.videos_root(),
        }
    }

    /// Draws over what was there: home, each line to its end, then what is left below.
    async fn watch(&self, store: &Store, mut look: Look) -> Result<()> {
        self.context.print("\u{1b}[2J");
        while let Look::Terminal { height, .. } = look {
            let rows = u32::from(height.saturating_sub(WATCH_MARGIN).max(1));
            let text = self.show(store, look, rows).await?;
            self.context.print(&format!("\u{1b}[H{}\u{1b}[K\n\u{1b}[J", text.replace('\n', "\u{1b}[K\n")));
            tokio::time::sleep(WATCH_EVERY).await;
            // Terminals change their size.
            look = self.context.look();
        }
        Ok(())
    }
}
