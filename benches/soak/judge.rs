//! The promise against the provider's books: facts in, broken lines out. Pure, so that it can be shown to notice.

use std::collections::{BTreeMap, BTreeSet};

/// Everything that a promise is about, when nothing moves any more.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Every job that was acknowledged, by its prompt, which no other has.
    pub offered: BTreeMap<String, Offer>,
    /// What the provider took money for, by prompt.
    pub paid: BTreeMap<String, Vec<Paid>>,
    /// What the queue has.
    pub rows: Vec<Row>,
    /// The tasks that the queue's attempts know of, pruned jobs included.
    pub known_tasks: BTreeSet<String>,
    /// The videos under their final names, by task; whether they are the provider's, byte for byte, and whole.
    pub videos: BTreeMap<String, bool>,
    /// Files that belong to nothing that is at rest: parts, claims, spooled answers, what lies in the inbox.
    pub strays: Vec<String>,
    /// What SQLite, the ledger or the search for the key found.
    pub damage: Vec<String>,
}

/// What was asked for, and what a person said besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// New renders that a person paid for on purpose.
    pub rendered_anew: usize,
    /// A person took it back: it may be unpaid, or paid without a file.
    pub cancelled: bool,
}

/// A task that was paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    pub task: String,
    pub has_video: bool,
}

/// A job of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: i64,
    pub prompt: String,
    pub state: String,
    pub ended: bool,
    pub needs_person: bool,
    /// What its history leads to is what its row says.
    pub replays: bool,
}

/// Every broken line of the promise.
pub fn broken(facts: &Facts) -> Vec<String> {
    let mut broken = facts.damage.clone();
    broken.extend(facts.strays.iter().map(|path| format!("left behind: {path}")));
    broken.extend(facts.rows.iter().filter_map(row));
    let rows: BTreeMap<&str, &Row> = facts.rows.iter().map(|row| (row.prompt.as_str(), row)).collect();
    for (prompt, offer) in &facts.offered {
        let paid = facts.paid.get(prompt).map_or(&[][..], Vec::as_slice);
        let found = money(offer, paid, rows.get(prompt.as_str()).copied());
        broken.extend(found.map(|what| format!("{prompt:?} {what}")));
        broken.extend(paid.iter().filter_map(|paid| followed(facts, offer, paid)));
    }
    let strangers = facts.paid.keys().filter(|prompt| !facts.offered.contains_key(*prompt));
    broken.extend(strangers.map(|prompt| format!("{prompt:?} was paid and never asked for")));
    broken
}

fn row(row: &Row) -> Option<String> {
    let Row { id, state, .. } = row;
    if !row.ended || row.needs_person {
        return Some(format!("job {id} is {state} at rest"));
    }
    (!row.replays).then(|| format!("job {id}: its history does not lead to {state}"))
}

fn money(offer: &Offer, paid: &[Paid], row: Option<&Row>) -> Option<String> {
    if paid.len() > 1 + offer.rendered_anew {
        return Some(format!("was paid {} times, a person said {}", paid.len(), 1 + offer.rendered_anew));
    }
    // A pruned job is known by what it cost; one that cost nothing was taken back, or is lost.
    if paid.is_empty() && !offer.cancelled {
        return Some(match row {
            Some(row) => format!("is {} and was never paid", row.state),
            None => "is lost".to_owned(),
        });
    }
    None
}

fn followed(facts: &Facts, offer: &Offer, paid: &Paid) -> Option<String> {
    let task = &paid.task;
    if !facts.known_tasks.contains(task) {
        return Some(format!("task {task} is paid, and the queue does not know it"));
    }
    match facts.videos.get(task) {
        Some(true) => None,
        Some(false) => Some(format!("the video of task {task} is torn")),
        None if paid.has_video && !offer.cancelled => {
            Some(format!("task {task} is paid, and its video lost"))
        }
        None => None,
    }
}
