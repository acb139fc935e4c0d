//! `klingd pause` and `klingd resume`: the holds on submitting.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{
    Context, Exit,
    exit::Refusal,
    json::time,
    render::{
        text::line,
        time::{until as until_when, wall},
    },
    view::no_daemon,
};
use crate::{
    clock::local,
    domain::{
        Timestamp,
        hold::{Hold, HoldName},
        request::nearest,
    },
    store::Store,
};

/// Flags of `pause`.
#[derive(Args)]
pub struct PauseArgs {}

/// Flags of `resume`.
#[derive(Args)]
pub struct ResumeArgs {
    /// Lift this hold (repeatable); without it: paused, rate, key and credits
    #[arg(long = "hold", value_name = "NAME")]
    holds: Vec<String>,
}

/// Stops submitting.
pub async fn pause(context: Context, _: PauseArgs) -> Result<Exit> {
    let config = context.config()?;
    let now = context.clock.now();
    let why = "a person paused it".to_owned();
    let hold = Hold { name: HoldName::Paused, since: now, why, until: None, probe_at: None };
    let since = context
        .with_store(&config, |store| async move {
            let earlier = store.holds().await?.into_iter().find(|h| h.name == HoldName::Paused);
            store.hold(hold).await?;
            Ok(earlier.map(|hold| hold.since))
        })
        .await?;
    if context.global.json {
        let since = since.unwrap_or(now).to_string();
        context.print(&json!({ "hold": HoldName::Paused, "holds": true, "since": since }).to_string());
    }
    match since {
        Some(since) => context.say(&format!("paused already, since {}; klingd resume", at(&context, since))),
        None => context.say("paused: nothing more is submitted; polling and downloads go on; klingd resume"),
    }
    Ok(Exit::Done)
}

/// Lifts holds, and says what still holds.
pub async fn resume(context: Context, args: ResumeArgs) -> Result<Exit> {
    let config = context.config()?;
    let names = if args.holds.is_empty() {
        HoldName::ALL.into_iter().filter(|name| name.lifted_by_resume()).collect()
    } else {
        args.holds.iter().map(|word| parse(word)).collect::<Result<Vec<_>>>()?
    };
    let resumed = context.with_store(&config, |store| lift(store, &context, names.clone())).await?;
    if context.global.json {
        resumed.print(&context);
    } else {
        resumed.say(&context, if args.holds.is_empty() { &[] } else { &names });
    }
    if !context.daemon_runs(&config.data_dir) {
        context.say(&no_daemon(config.sandbox));
    }
    Ok(Exit::Done)
}

fn parse(word: &str) -> Result<HoldName> {
    HoldName::parse(word).ok_or_else(|| {
        let all = HoldName::ALL.map(HoldName::as_str);
        let instead = match nearest(word, all.into_iter()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", all.join(", ")),
        };
        Refusal::usage(format!("there is no hold {word:?}; {instead}"))
    })
}

/// What `resume` did.
struct Resumed {
    lifted: Vec<Hold>,
    /// The gate was closed, and is open again.
    gate_opened: bool,
    standing: Vec<Hold>,
}

async fn lift(store: Store, context: &Context, names: Vec<HoldName>) -> Result<Resumed> {
    let now = context.clock.now();
    let before = store.holds().await?;
    let gate_closed = store.gate().await?.closed(now).is_some();
    let gate_opened = gate_closed && names.contains(&HoldName::Rate);
    let gone = store.lift(names).await?;
    let lifted = before.into_iter().filter(|hold| gone.contains(&hold.name)).collect();
    let standing = store.holds().await?.into_iter().filter(|hold| hold.holds(now)).collect();
    Ok(Resumed { lifted, gate_opened, standing })
}

impl Resumed {
    fn print(&self, context: &Context) {
        let all = self.lifted.iter().map(|h| (h, false)).chain(self.standing.iter().map(|h| (h, true)));
        for (Hold { name, since, why, until, probe_at }, holds) in all {
            let whole = json!({
                "hold": name,
                "holds": holds,
                "since": since.to_string(),
                "why": why,
                "until": time(*until),
                "probe_at": time(*probe_at),
                "remedy": holds.then_some(name.remedy()),
            });
            context.print(&whole.to_string());
        }
    }

    fn say(&self, context: &Context, asked: &[HoldName]) {
        for Hold { name, since, why, .. } in &self.lifted {
            let since = at(context, *since);
            context.say(&format!("{} is lifted; it held since {since}: {}", name.as_str(), line(why)));
        }
        if self.gate_opened {
            context.say("the gate is open again: the wait is over");
        }
        for name in asked.iter().filter(|name| !self.lifted.iter().any(|hold| hold.name == **name)) {
            if !(*name == HoldName::Rate && self.gate_opened) {
                context.say(&format!("{} did not hold", name.as_str()));
            }
        }
        for Hold { name, since, why, until, .. } in &self.standing {
            let (name, since, remedy) = (name.as_str(), at(context, *since), name.remedy());
            let until = until
                .map(|until| {
                    format!(
                        ", {}",
                        until_when(until, context.clock.now(), local(context.clock.now()).time_zone())
                    )
                })
                .unwrap_or_default();
            context.say(&format!("{name} still holds since {since}{until}: {}; {remedy}", line(why)));
        }
        if self.standing.is_empty() {
            context.say("nothing holds: jobs are submitted as the gate and the budget allow");
        }
    }
}

/// A time as the clock on the wall showed it.
fn at(context: &Context, t: Timestamp) -> String {
    let now = context.clock.now();
    wall(t, now, local(now).time_zone())
}
