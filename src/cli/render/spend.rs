//! `klingd spend`: the ledger as a table with a small bar chart, as CSV and as JSON.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{
    super::{price::credits, spend::By, view::View},
    Look, budget,
    list::withheld,
    table::{Cell, Column, Fit, table},
    text::{count, line},
    time::exact,
};
use crate::{
    domain::{Credits, Timestamp},
    store::{
        budget::CLOCK_ERROR,
        ledger::{Drift, Key, Spending, Sums},
    },
};

/// The longest bar: beyond this a chart says no more.
const BAR_MAX: u16 = 30;
/// A chart of fewer columns says nothing.
const BAR_MIN: u16 = 6;
/// Blanks behind a column.
const GAP: usize = 2;
/// Columns that a name may take from the chart.
const NAME_MAX: usize = 32;

/// What was spent, and what may still be.
pub struct Spend {
    /// What a row is about.
    pub by: By,
    /// The rows.
    pub rows: Vec<SpendRow>,
    /// All attempts, each once.
    pub total: SpendRow,
    /// Where the provider charged otherwise than expected.
    pub drifts: Vec<Drift>,
    /// The day of each of their types' prices; none for a type that is no longer known.
    pub drift_dates: Vec<Option<String>>,
    /// The day of the price table.
    pub prices_as_of: String,
    /// The latest intent, for a clock that is behind it.
    pub latest_intent: Option<Timestamp>,
    /// The caps, and what counts against them.
    pub view: View,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpendRow {
    /// The day, type, tag or batch; nothing for the total, and for jobs without a tag.
    pub key: Option<String>,
    /// Its money.
    pub sums: Sums,
    /// Attempts that cost something, or may.
    pub attempts: u64,
}

impl SpendRow {
    fn add(&mut self, sums: Sums, attempts: u64) {
        self.sums = self.sums.plus(sums);
        self.attempts += attempts;
    }
}

/// Rows in the order in which they are shown (days as they came, all else by what was spent), and their total.
pub fn in_groups(groups: Vec<Spending>, zone: &TimeZone) -> (Vec<SpendRow>, SpendRow) {
    let by_day = groups.iter().all(|group| matches!(group.key, Key::Quarter(_)));
    let mut rows: BTreeMap<Option<String>, SpendRow> = BTreeMap::new();
    let mut total = SpendRow::default();
    for Spending { key, sums, attempts } in groups {
        total.add(sums, attempts);
        let keys = match key {
            Key::Quarter(at) => vec![Some(day(at, zone))],
            Key::Type(name) | Key::Batch(name) => vec![Some(name)],
            Key::Tags(tags) if tags.is_empty() => vec![None],
            Key::Tags(tags) => tags.into_iter().map(Some).collect(),
        };
        for key in keys {
            let empty = SpendRow { key: key.clone(), ..SpendRow::default() };
            rows.entry(key).or_insert(empty).add(sums, attempts);
        }
    }
    // An attempt that was refused or put off costs nothing: a group of only those is no row.
    let mut rows: Vec<_> = rows.into_values().filter(|row| row.attempts > 0).collect();
    if !by_day {
        rows.sort_by_key(|row| Reverse(row.sums.spent()));
    }
    (rows, total)
}

fn day(at: Timestamp, zone: &TimeZone) -> String {
    exact(at, zone).split(' ').next().unwrap_or_default().to_owned()
}

/// The table; on a terminal with a bar for each row and the total below.
pub fn table_of(s: &Spend, look: Look) -> String {
    let number = |title, from_width| Column { title, fit: Fit::Number, from_width };
    // A day is never too long; names of other things are cut.
    let name = if s.by == By::Day { Fit::Whole } else { Fit::Cut };
    let mut columns = vec![
        Column { title: title(s.by), fit: name, from_width: 0 },
        number("CHARGED", 0),
        number("RESERVED", 56),
        number("IN DOUBT", 56),
        number("REFUNDED", 66),
        number("SPENT", 0),
        number("ATTEMPTS", 90),
    ];
    let Look::Terminal { width, .. } = look else {
        return table(&columns, &s.rows.iter().map(|row| cells(row, "", look)).collect::<Vec<_>>(), look);
    };
    if s.rows.is_empty() {
        return "Nothing was spent.".to_owned();
    }
    let mut rows: Vec<_> = s.rows.iter().map(|row| cells(row, "(no tag)", look)).collect();
    rows.push(cells(&s.total, "total", look));
    if let Some(bars) = bars(s, room(&columns, &rows, width)) {
        columns.push(Column { title: "", fit: Fit::Whole, from_width: 0 });
        rows.iter_mut().zip(bars).for_each(|(row, bar)| row.push(bar.into()));
    }
    table(&columns, &rows, look)
}

const fn title(by: By) -> &'static str {
    match by {
        By::Day => "DAY",
        By::Type => "TYPE",
        By::Tag => "TAG",
        By::Batch => "BATCH",
    }
}

fn cells(row: &SpendRow, unnamed: &str, look: Look) -> Vec<Cell> {
    let Sums { charged, refunded, reserved, in_doubt } = row.sums;
    let name = row.key.as_deref().map_or_else(|| unnamed.to_owned(), line);
    let amounts = [charged, reserved, in_doubt, refunded, row.sums.spent()];
    let mut cells = vec![Cell::from(name)];
    cells.extend(amounts.map(|amount| Cell::from(credits(amount, look))));
    cells.push(row.attempts.to_string().into());
    cells
}

/// Columns that the table leaves to the chart.
fn room(columns: &[Column], rows: &[Vec<Cell>], width: u16) -> u16 {
    let shown = columns.iter().enumerate().filter(|(_, column)| width >= column.from_width);
    let used: usize = shown
        .map(|(i, column)| {
            let widest = rows.iter().filter_map(|row| Some(row.get(i)?.text.chars().count())).max();
            let name = if i == 0 { NAME_MAX } else { usize::MAX };
            widest.unwrap_or(0).min(name).max(column.title.len()) + GAP
        })
        .sum();
    width.saturating_sub(u16::try_from(used + GAP).unwrap_or(u16::MAX)).min(BAR_MAX)
}

/// A bar for each row, the longest for the largest: solid for what is gone, light for what is reserved or in doubt. No
/// chart where there is no room, or nothing to compare. The total has none.
fn bars(s: &Spend, width: u16) -> Option<Vec<String>> {
    let most = s.rows.iter().map(|row| row.sums.spent().get()).max().filter(|most| *most > 0)?;
    if width < BAR_MIN || s.rows.len() < 2 {
        return None;
    }
    // Rounded up, so that the least credit shows. No sum of credits comes near u128.
    let cells = |amount: Credits| {
        let exact = u128::from(amount.get()) * u128::from(width);
        usize::try_from(exact.div_ceil(u128::from(most))).unwrap_or(0)
    };
    let bar = |row: &SpendRow| {
        let (gone, all) = (cells(row.sums.gone()), cells(row.sums.spent()));
        format!("{}{}", "█".repeat(gone), "░".repeat(all.saturating_sub(gone)))
    };
    Some(s.rows.iter().map(bar).chain([String::new()]).collect())
}

/// What belongs to the table: budgets, price drift, and how to read it.
pub fn notes(s: &Spend) -> Vec<String> {
    let mut notes = budgets(s);
    notes.extend(drift(s));
    notes.extend(withheld(&s.view));
    notes.extend(clock_is_behind(s.latest_intent, &s.view));
    if s.by == By::Tag {
        notes.push("A job with several tags counts under each of them, and once in the total.".to_owned());
    }
    notes
}

fn budgets(s: &Spend) -> Vec<String> {
    let View { budget, spent, .. } = &s.view;
    let capped = |what: &str, key: &str, used: Credits, cap: Credits| {
        let left = cap.minus(used);
        format!("{what}: {used} of {cap} credits are spent, reserved or in doubt ({key}); {left} left")
    };
    let mut lines = Vec::new();
    if budget.per_day > Credits::ZERO {
        lines.push(capped("Today", "budget.per_day", spent.of_day(), budget.per_day));
    }
    if budget.total > Credits::ZERO {
        lines.push(capped("In all", "budget.total", spent.in_total(), budget.total));
    }
    lines
}

fn drift(s: &Spend) -> Option<String> {
    let sum = |of: fn(&Drift) -> Credits| s.drifts.iter().map(of).sum::<Credits>();
    let attempts: u64 = s.drifts.iter().map(|drift| drift.attempts).sum();
    if attempts == 0 {
        return None;
    }
    let (charged, estimated) = (sum(|d| d.charged), sum(|d| d.estimated));
    let by = if charged >= estimated {
        format!("+{}", charged.minus(estimated))
    } else {
        format!("-{}", estimated.minus(charged))
    };
    let keys: Vec<_> = s.drifts.iter().map(|drift| format!("prices.{}", line(&drift.job_type))).collect();
    Some(format!(
        "Price drift: {by} credits on {} against the prices of {}. If the provider's page has changed, set {} and \
         prices.date in the configuration.",
        count(usize::try_from(attempts).unwrap_or(usize::MAX), "attempt"),
        s.prices_as_of,
        keys.join(", ")
    ))
}

/// What a clock that was ahead, or is behind, does to the budget of a day.
pub fn clock_is_behind(latest_intent: Option<Timestamp>, view: &View) -> Option<String> {
    let latest = latest_intent.filter(|latest| *latest > view.now)?;
    let at = exact(latest, &view.zone);
    Some(if latest.since(view.now) < CLOCK_ERROR {
        format!("The clock has been at {at} before: until then what was spent later counts as today's, too.")
    } else {
        format!(
            "The clock has been at {at} before, more than {} days ahead: what was spent then counts in no day until it comes.",
            CLOCK_ERROR.as_secs() / 86_400
        )
    })
}

/// For a spreadsheet (RFC 4180), without a total.
pub fn csv(s: &Spend) -> String {
    let mut lines =
        vec![format!("{},charged,reserved,in_doubt,refunded,spent,attempts", title(s.by).to_lowercase())];
    lines.extend(s.rows.iter().map(|row| {
        let Sums { charged, refunded, reserved, in_doubt } = row.sums;
        let amounts = [charged, reserved, in_doubt, refunded, row.sums.spent()].map(|c| c.get().to_string());
        let key = quoted(row.key.as_deref().unwrap_or_default());
        format!("{key},{},{}", amounts.join(","), row.attempts)
    }));
    lines.join("\n")
}

/// Quoted where a reader would split it, or where a spreadsheet would take it for a formula.
fn quoted(text: &str) -> String {
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// For a program: an object each row, the last one the total with the budgets.
pub fn json_lines(s: &Spend) -> Vec<Value> {
    let object = |by: &str, row: &SpendRow| {
        json!({
            "by": by,
            "key": row.key,
            "charged_credits": row.sums.charged,
            "reserved_credits": row.sums.reserved,
            "in_doubt_credits": row.sums.in_doubt,
            "refunded_credits": row.sums.refunded,
            "spent_credits": row.sums.spent(),
            "attempts": row.attempts,
        })
    };
    let mut total = object("total", &s.total);
    total["budget"] = budget::json(&s.view);
    total["price_drift"] =
        s.drifts.iter().zip(&s.drift_dates).map(|(drift, date)| drift_json(drift, date.as_deref())).collect();
    total["prices_as_of"] = json!(s.prices_as_of);
    let by = title(s.by).to_lowercase();
    s.rows.iter().map(|row| object(&by, row)).chain([total]).collect()
}

fn drift_json(drift: &Drift, as_of: Option<&str>) -> Value {
    json!({
        "type": drift.job_type,
        "attempts": drift.attempts,
        "estimated_credits": drift.estimated,
        "charged_credits": drift.charged,
        "prices_as_of": as_of,
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::store::budget::{Budget, Spent};

    fn sums([charged, reserved, in_doubt, refunded]: [u64; 4]) -> Sums {
        let [charged, reserved, in_doubt, refunded] =
            [charged, reserved, in_doubt, refunded].map(Credits::new);
        Sums { charged, refunded, reserved, in_doubt }
    }

    fn group(key: Key, amounts: [u64; 4], attempts: u64) -> Spending {
        Spending { key, sums: sums(amounts), attempts }
    }

    fn spend(by: By, groups: Vec<Spending>) -> Spend {
        let mut view = samples::view();
        view.budget =
            Budget { per_day: Credits::new(5000), total: Credits::new(20_000), ..Budget::default() };
        view.spent = Spent::new(Credits::new(1200), Credits::new(15_130));
        let (rows, total) = in_groups(groups, &TimeZone::UTC);
        let drifts = vec![Drift {
            job_type: "std-text-to-video".into(),
            attempts: 3,
            estimated: Credits::new(600),
            charged: Credits::new(640),
        }];
        let prices_as_of = "2026-11-22".into();
        let drift_dates = vec![Some("2026-11-20".to_owned())];
        Spend { by, rows, total, drifts, drift_dates, prices_as_of, latest_intent: None, view }
    }

    fn days() -> Spend {
        // The second and the third quarter of an hour are one day.
        let at = |hours: u64| Key::Quarter(samples::at(hours * 3600));
        spend(
            By::Day,
            vec![
                group(at(0), [12_400, 0, 0, 400], 31),
                group(at(24), [2000, 0, 200, 0], 6),
                group(at(25), [0, 0, 0, 0], 0),
                group(at(26), [240, 0, 0, 0], 2),
                group(at(48), [0, 0, 0, 0], 0),
                group(at(72), [400, 320, 0, 0], 3),
            ],
        )
    }

    fn tags() -> Spend {
        let tags = |tags: &[&str]| Key::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        spend(
            By::Tag,
            vec![
                group(tags(&[]), [120, 0, 0, 0], 1),
                group(tags(&["night", "client, \"A\""]), [400, 0, 0, 0], 2),
                group(tags(&["night"]), [200, 0, 200, 0], 2),
            ],
        )
    }

    fn page(s: &Spend, width: u16) -> String {
        let look = Look::Terminal { width, height: 24, colour: false };
        [vec![table_of(s, look), String::new()], notes(s)].concat().join("\n")
    }

    #[test]
    fn people_see_a_table_with_bars() {
        insta::assert_snapshot!("days", page(&days(), 80));
        insta::assert_snapshot!("days_wide", page(&days(), 120));
        insta::assert_snapshot!("tags", page(&tags(), 100));
        insta::assert_snapshot!("days_narrow", page(&days(), 60));
    }

    #[test]
    fn programs_see_plain_numbers() {
        insta::assert_snapshot!("piped", table_of(&tags(), Look::Piped));
        insta::assert_snapshot!("csv", csv(&tags()));
        let lines: Vec<_> = json_lines(&tags()).iter().map(Value::to_string).collect();
        insta::assert_snapshot!("json", lines.join("\n"));
        assert_eq!(quoted("=1+1"), "'=1+1");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_the_least_credit_shows() {
        for width in 40..140 {
            let look = Look::Terminal { width, height: 24, colour: false };
            let text = table_of(&days(), look);
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{width}:\n{text}");
        }
        let text = table_of(&days(), Look::Terminal { width: 120, height: 24, colour: false });
        assert!(text.lines().any(|line| line.starts_with("2026-02-08") && line.contains('█')), "{text}");
    }

    #[test]
    fn a_clock_that_is_behind_is_said() {
        let mut view = samples::view();
        assert_eq!(clock_is_behind(Some(view.now), &view), None);
        let latest = Some(view.now + std::time::Duration::from_secs(86_400));
        assert!(clock_is_behind(latest, &view).unwrap().contains("counts as today's"));
        view.now = view.now - std::time::Duration::from_secs(365 * 86_400);
        assert!(clock_is_behind(latest, &view).unwrap().contains("counts in no day"));
    }

    #[test]
    fn a_day_is_local() {
        let east = TimeZone::fixed(jiff::tz::offset(14));
        assert_eq!((day(samples::at(0), &TimeZone::UTC), day(samples::at(0), &east)).1, "2026-02-06");
    }

    #[test]
    fn nothing_is_said_plainly() {
        let nothing = spend(By::Day, Vec::new());
        assert!(page(&nothing, 80).starts_with("Nothing was spent."));
        assert_eq!(csv(&nothing).lines().count(), 1);
    }
}
