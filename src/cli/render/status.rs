//! `klingd status`.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use serde_json::{Value, json};

use super::{
    super::{json::time, view::View},
    budget,
    hold::{since, trial},
    list::refusal,
    spend::clock_is_behind,
    text::{counted, line},
    time::{at, span, until as until_when, wall},
};
use crate::{
    domain::{Credits, Timestamp, state::Label},
    store::{budget::Cap, inbox::InboxView, ledger::Sums},
};

/// The daemon and its queue.
pub struct Status {
    /// Where the queue lives.
    pub data_dir: PathBuf,
    /// Who holds it, by their own word; `None` when no daemon runs.
    pub holder: Option<String>,
    /// `real` or `sandbox`; `None` before the first run.
    pub world: Option<String>,
    /// Holds, gate, caps.
    pub view: View,
    /// Tasks in flight that are tried at the moment.
    pub slots: u32,
    /// Jobs by state, all states.
    pub depth: BTreeMap<Label, u64>,
    /// Jobs that need a person.
    pub in_need: u64,
    /// Queued jobs that a cap stops.
    pub stopped: Vec<(Cap, u64)>,
    /// The ledger since midnight.
    pub today: Sums,
    /// The latest intent, for a clock that is behind it.
    pub latest_intent: Option<Timestamp>,
    /// When the oldest queued job was made.
    pub oldest_waiting: Option<Timestamp>,
    /// The watched folder, and what came through it since midnight; `None` when none is watched.
    pub inbox: Option<(PathBuf, InboxView)>,
}

impl Status {
    fn of(&self, label: Label) -> u64 {
        self.depth.get(&label).copied().unwrap_or(0)
    }

    /// Tasks that hold one of the provider's slots, or may.
    fn in_flight(&self) -> u64 {
        self.of(Label::Submitting) + self.of(Label::Generating)
    }
}

/// For a person.
pub fn status(s: &Status) -> String {
    let view = &s.view;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut row = |key: &str, value: String| writeln!(text, "{key:<14}{value}").ok();
    row(
        "Daemon",
        s.holder.as_deref().map_or_else(
            || format!("not running: {}", view.start()),
            |by| format!("running ({})", running(by, view)),
        ),
    );
    row("Queue", format!("{} ({})", s.data_dir.display(), s.world.as_deref().unwrap_or("never run")));
    for hold in view.holds.iter().filter(|hold| hold.holds(view.now)) {
        let why = line(&hold.why);
        row("Hold", format!("{}: {why}\n{:14}{}", since(hold, view), "", hold.name.remedy()));
    }
    for trial in view.holds.iter().filter_map(|hold| trial(hold, view)) {
        row("Hold", trial);
    }
    row("Gate", gate(s));
    if let Some(looks) = looks(view) {
        row("Status calls", looks);
    }
    row("In flight", format!("{} of {} slots{}", s.in_flight(), s.slots, ceiling(s)));
    let depth: Vec<_> =
        Label::ALL.iter().filter(|l| s.of(**l) > 0).map(|l| format!("{} {l}", s.of(*l))).collect();
    row("Jobs", if depth.is_empty() { "none".to_owned() } else { depth.join(", ") });
    if s.in_need > 0 {
        row("Needs you", format!("{}: klingd list shows which and how", s.in_need));
    }
    let second = u64::try_from(view.unfollowed.len()).unwrap_or(u64::MAX);
    if second > 0 {
        let have = if second == 1 { "has" } else { "have" };
        let jobs = counted(second, "job");
        row("Not fetched", format!("{jobs} {have} a second paid task: klingd list shows which and how"));
    }
    if let Some(oldest) = s.oldest_waiting {
        row("Oldest waits", span(view.now.since(oldest)));
    }
    if let Some((path, InboxView { trouble, accepted, rejected })) = &s.inbox {
        let today = format!("{}: {accepted} files accepted today, {rejected} rejected", path.display());
        let trouble = trouble.as_ref().map(|(what, since)| {
            format!("\n{:14}trouble since {}: {}", "", wall(*since, view.now, &view.zone), line(what))
        });
        row("Inbox", today + &trouble.unwrap_or_default());
    }
    row("Today", today(s.today));
    budget::lines(view, &s.stopped).into_iter().for_each(|line| {
        row("Budget", line);
    });
    if let Some(sentence) = clock_is_behind(s.latest_intent, view) {
        row("Clock", sentence);
    }
    text.trim_end().to_owned()
}

/// The daemon's own words, with its start on the reader's clock.
fn running(holder: &str, view: &View) -> String {
    match (pid(holder), started_at(holder)) {
        (Some(pid), Some(at)) => format!("process {pid}, since {}", wall(at, view.now, &view.zone)),
        (_, _) => line(holder),
    }
}

fn pid(holder: &str) -> Option<u32> {
    let (_, rest) = holder.split_once("process ")?;
    rest.split(',').next()?.trim().parse().ok()
}

fn started_at(holder: &str) -> Option<Timestamp> {
    holder.split_once("since ")?.1.trim().parse().ok()
}

fn today(Sums { charged, refunded, reserved, in_doubt }: Sums) -> String {
    let back = if refunded > Credits::ZERO { format!(" ({refunded} refunded)") } else { String::new() };
    format!("{charged} credits charged{back}, {reserved} reserved, {in_doubt} in doubt")
}

fn gate(s: &Status) -> String {
    let strikes = s.view.gate.strikes;
    // Refusals of the same moment are one strike; the gate opens for one submit at a time.
    let (in_a_row, one_by_one) = match strikes {
        0 => (String::new(), ""),
        1 => (String::new(), "; one submit at a time until one is accepted"),
        n => (format!("; {n} refusals in a row"), "; one submit at a time until one is accepted"),
    };
    let outages = match s.view.gate.outages {
        0 => String::new(),
        n => format!("; {n} without an answer in a row"),
    };
    let pace = s.view.gate.rate.map(|rate| format!(", paced at about {} (learned)", pace(rate.per_second())));
    let pace = pace.unwrap_or_default();
    match s.view.closed_until() {
        Some(until) => {
            format!("closed {}{in_a_row}{outages}{pace}", until_when(until, s.view.now, &s.view.zone))
        }
        None => format!("open{one_by_one}{outages}{pace}"),
    }
}

/// How status calls are slowed down, if they are.
fn looks(view: &View) -> Option<String> {
    let pause = view.looks.pause(view.now).map(|(until, cause)| {
        let refusals = match view.looks.refusals() {
            0 | 1 => String::new(),
            n => format!("; {n} refusals in a row"),
        };
        format!("pause {}: {}{refusals}", until_when(until, view.now, &view.zone), refusal(cause))
    });
    let pace = view.looks.per_second().map(|rate| format!("paced at about {} (learned)", pace(rate)));
    let said: Vec<_> = [pause, pace].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// A rate in the unit in which it is a number of one or more.
fn pace(per_second: f64) -> String {
    if per_second >= 1.0 {
        format!("{per_second:.1} requests/s")
    } else {
        format!("{:.1} requests/min", per_second * 60.0)
    }
}

/// The known ceiling, and when it is tried again.
fn ceiling(s: &Status) -> String {
    let Some(ceiling) = s.view.gate.ceiling else { return String::new() };
    let again = if ceiling.retry_at > s.view.now {
        format!("tried again {}", at(ceiling.retry_at, s.view.now, &s.view.zone))
    } else {
        "tried again when all are taken".to_owned()
    };
    format!("; the provider took no more than {}, one more is {again}", ceiling.slots)
}

/// For a program.
pub fn status_json(s: &Status) -> Value {
    let jobs: serde_json::Map<String, Value> =
        Label::ALL.iter().map(|l| (l.as_str().to_owned(), s.of(*l).into())).collect();
    let holds: Vec<_> = s
        .view
        .holds
        .iter()
        .filter(|hold| hold.holds(s.view.now) || hold.is_on_trial(s.view.now))
        .map(|hold| {
            json!({
                "name": hold.name,
                "since": hold.since.to_string(),
                "why": hold.why,
                "until": time(hold.until),
                "on_trial": hold.is_on_trial(s.view.now),
                "probe_at": time(hold.probe_at),
                "remedy": hold.name.remedy(),
            })
        })
        .collect();
    json!({
        "running": s.holder.is_some(),
        "holder": s.holder,
        "pid": s.holder.as_deref().and_then(pid),
        "started_at": time(s.holder.as_deref().and_then(started_at)),
        "data_dir": s.data_dir,
        "world": s.world,
        "holds": holds,
        "gate": {
            "closed_until": time(s.view.closed_until()),
            "strikes": s.view.gate.strikes,
            "slots": s.slots,
            "ceiling": s.view.gate.ceiling.map(|c| c.slots),
            "ceiling_retry_at": time(s.view.gate.ceiling.map(|c| c.retry_at)),
            "requests_per_second": s.view.gate.rate.map(|rate| (rate.per_second() * 1000.0).round() / 1000.0),
        },
        "status_calls": {
            "paused_until": time(s.view.no_look_before()),
            "cause": s.view.looks.pause(s.view.now).map(|(_, cause)| cause),
            "requests_per_second": s.view.looks.per_second().map(|rate| (rate * 1000.0).round() / 1000.0),
        },
        "in_flight": s.in_flight(),
        "jobs": jobs,
        "needs_person": s.in_need,
        "unfollowed_tasks": s.view.unfollowed.len(),
        "budget": budget::json_with(&s.view, &s.stopped),
        "today": {
            "charged_credits": s.today.charged,
            "refunded_credits": s.today.refunded,
            "reserved_credits": s.today.reserved,
            "in_doubt_credits": s.today.in_doubt,
        },
        "oldest_waiting": time(s.oldest_waiting),
        "inbox": s.inbox.as_ref().map(|(path, view)| json!({
            "path": path,
            "trouble": view.trouble.as_ref().map(|(what, _)| what),
            "trouble_since": time(view.trouble.as_ref().map(|(_, since)| *since)),
            "accepted": view.accepted,
            "rejected": view.rejected,
        })),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::samples;
    use super::*;
    use crate::{
        domain::{Credits, HoldName, JobId, gate::Ceiling, hold::Hold},
        store::budget::{Budget, Spent},
    };

    fn quiet() -> Status {
        Status {
            data_dir: "/var/lib/klingd".into(),
            holder: None,
            world: None,
            view: samples::view(),
            slots: 3,
            depth: BTreeMap::new(),
            in_need: 0,
            stopped: Vec::new(),
            today: Sums::default(),
            latest_intent: None,
            oldest_waiting: None,
            inbox: None,
        }
    }

    fn busy() -> Status {
        let mut view = samples::view();
        view.gate.closed_until = Some(view.now + Duration::from_secs(60));
        view.gate.strikes = 2;
        view.gate.rate = serde_json::from_str(r#"{"limit":1900000,"stretch":240,"passed":88}"#).unwrap();
        view.gate.ceiling =
            Some(Ceiling { slots: 3, retry_at: view.now + Duration::from_secs(600), wait_ms: 600_000 });
        view.looks = samples::paused(400, "rate");
        view.holds.push(Hold {
            name: HoldName::Credits,
            since: samples::at(10),
            why: "402: not enough credits".into(),
            until: None,
            probe_at: Some(samples::at(910)),
        });
        // Over, and kept for the trial of the key and for nothing else.
        let until = Some(samples::at(20));
        view.holds.push(Hold { until, ..Hold::new(HoldName::Rate, "429".into(), samples::at(0)) });
        view.holds.push(Hold { until, ..Hold::new(HoldName::Key, "401".into(), samples::at(0)) });
        view.unfollowed = vec![JobId(3)];
        view.budget =
            Budget { per_job: Credits::new(300), per_day: Credits::new(13_000), total: Credits::new(50_000) };
        view.spent = Spent::new(Credits::new(12_900), Credits::new(31_000));
        Status {
            holder: Some("klingd, process 42, since 2026-02-05T10:29:52.965Z".into()),
            world: Some("real".into()),
            view,
            depth: [(Label::Queued, 12), (Label::Generating, 2), (Label::InDoubt, 1)].into(),
            in_need: 1,
            stopped: vec![(Cap::PerJob, 1), (Cap::PerDay, 22)],
            today: Sums {
                charged: Credits::new(12_400),
                refunded: Credits::new(800),
                reserved: Credits::new(400),
                in_doubt: Credits::new(200),
            },
            oldest_waiting: Some(samples::at(0)),
            inbox: Some((
                "/share/inbox".into(),
                InboxView {
                    trouble: Some(("/share/inbox is gone: is its disk mounted?".into(), samples::at(30))),
                    accepted: 12,
                    rejected: 1,
                },
            )),
            ..quiet()
        }
    }

    #[test]
    fn people_and_programs_see_the_same() {
        insta::assert_snapshot!("quiet", status(&quiet()));
        insta::assert_snapshot!("busy", status(&busy()));
        insta::assert_json_snapshot!("busy_json", status_json(&busy()));
    }

    #[test]
    fn keys_are_always_there() {
        let keys = |v: Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(status_json(&quiet())), keys(status_json(&busy())));
    }
}
