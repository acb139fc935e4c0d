//! The page that Prometheus reads: what this process has counted, and what the database says at this moment.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{Vitals, meter::Word};
use crate::domain::{Credits, HoldName, state::Label};

/// What the database says at this moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Jobs in each state that is not at rest.
    pub jobs: Vec<(Label, u64)>,
    /// Jobs that wait for a person, for whatever reason.
    pub needs_person: u64,
    /// The holds that are in force.
    pub holds: Vec<HoldName>,
    /// Whether submits wait because the provider asked for quiet.
    pub gate_closed: bool,
    /// Submits a second that the provider is known to take; `None` while nothing was refused.
    pub gate_per_second: Option<f64>,
    /// Tasks at once that the provider is tried with.
    pub gate_slots: u32,
    /// How long the oldest job that may go now has been waiting.
    pub oldest: Option<Duration>,
    /// Charged since there is a ledger, refunded or not.
    pub charged: Credits,
    /// Given back of that.
    pub refunded: Credits,
    /// Held back until an outcome is known.
    pub reserved: Credits,
    /// Perhaps taken.
    pub in_doubt: Credits,
    /// What counts against the day's budget.
    pub spent_today: Credits,
    /// The caps, by the name of their key; those that are set.
    pub caps: Vec<(&'static str, Credits)>,
}

/// The whole page, in the text format of OpenMetrics.
///
/// # Errors
/// None that can be met: it writes into memory.
pub fn page(vitals: &Vitals, census: &Census) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("klingd");
    vitals.meter.register(&mut registry);
    census.register(&mut registry);
    registry.register(
        "build",
        "The version that runs",
        Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
    );
    registry.register(
        "on_the_wire",
        "Requests that may be paid and have no answer yet",
        gauge(vitals.wire.count().into()),
    );
    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    encode_eof(&mut text)?;
    Ok(text)
}

impl Census {
    fn register(&self, to: &mut Registry) {
        let jobs = Label::ALL.into_iter().filter_map(|label| {
            let at_rest = matches!(label, Label::Done | Label::Failed | Label::Cancelled);
            let n = self.jobs.iter().filter(|(l, _)| *l == label).map(|(_, n)| n).sum();
            (!at_rest).then_some(([("state", label.as_str())], n))
        });
        to.register("jobs", "Jobs that are not at rest, by state", family(jobs));
        to.register("jobs_in_need", "Jobs that wait for a person", gauge(self.needs_person));
        let holds = HoldName::ALL
            .into_iter()
            .map(|name| ([("hold", name.as_str())], u64::from(self.holds.contains(&name))));
        to.register("hold", "Whether this hold keeps jobs from being submitted", family(holds));
        to.register(
            "gate_closed",
            "Whether submits wait because the provider asked for quiet",
            gauge(self.gate_closed.into()),
        );
        if let Some(per_second) = self.gate_per_second {
            let rate = Gauge::<f64, AtomicU64>::default();
            rate.set(per_second);
            to.register(
                "gate_submits_per_second",
                "Submits a second that the provider is known to take",
                rate,
            );
        }
        to.register(
            "gate_slots",
            "Tasks at once that the provider is tried with",
            gauge(self.gate_slots.into()),
        );
        to.register_with_unit(
            "oldest_queued",
            "For how long the oldest job that may go now has waited",
            Unit::Seconds,
            gauge(self.oldest.unwrap_or_default().as_secs()),
        );
        self.register_money(to);
    }

    fn register_money(&self, to: &mut Registry) {
        to.register(
            "credits_charged",
            "Credits charged since there is a ledger, refunded or not",
            counter(self.charged),
        );
        to.register("credits_refunded", "Credits given back of those charged", counter(self.refunded));
        to.register(
            "credits_reserved",
            "Credits held back until an outcome is known",
            gauge(self.reserved.get()),
        );
        to.register(
            "credits_in_doubt",
            "Credits that may have been charged, which a person settles",
            gauge(self.in_doubt.get()),
        );
        to.register(
            "credits_spent_today",
            "Credits that count against the day's budget",
            gauge(self.spent_today.get()),
        );
        let caps = self.caps.iter().map(|(key, cap)| ([("cap", *key)], cap.get()));
        to.register("budget_credits", "The caps of the budget that are set", family(caps));
    }
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

/// It is a counter to those who read it: it goes on where the last process stopped.
fn counter(value: Credits) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value.get());
    counter
}

fn family(values: impl Iterator<Item = (Word, u64)>) -> Family<Word, Gauge> {
    let family = Family::<Word, Gauge>::default();
    for (word, value) in values {
        family.get_or_create_owned(&word).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vitals::{Call, Download, File, Poll, Submit};

    #[test]
    fn the_page_says_what_was_counted_and_what_is() {
        let vitals = Vitals::default();
        let meter = &vitals.meter;
        meter.submit(Submit::Accepted);
        meter.submit(Submit::Unknown);
        meter.rate_limited(Call::Generate);
        meter.called(Call::Generate, Duration::from_millis(300));
        meter.poll(Poll::Running);
        meter.download(Download::Published);
        meter.wrote(1_000_000);
        meter.file(File::Rejected);
        meter.waited(Duration::from_secs(20));
        meter.rendered(Duration::from_secs(100));
        meter.committed(Duration::from_millis(3));
        meter.moved(Label::Done, 2);
        meter.reloaded(true);
        let _post = vitals.wire.leaves(Duration::from_secs(1));
        let census = Census {
            jobs: vec![(Label::Queued, 12), (Label::Generating, 3)],
            needs_person: 1,
            holds: vec![HoldName::Key],
            gate_slots: 7,
            oldest: Some(Duration::from_secs(90)),
            charged: Credits::new(3_010),
            in_doubt: Credits::new(200),
            caps: vec![("per_day", Credits::new(20_000))],
            ..Census::default()
        };
        let page = page(&vitals, &census).unwrap();
        // The series of a family come in any order, and each histogram has a dozen of them.
        let mut lines: Vec<_> = page.lines().filter(|line| !line.contains("_bucket")).collect();
        assert_eq!(lines.pop(), Some("# EOF"));
        lines.sort_unstable();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
