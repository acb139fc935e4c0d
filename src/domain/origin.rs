//! Whether a database is the one that it was, or a copy: restored from a backup, or taken to another machine. What is
//! queued in a copy may have been paid since it was made, and nobody but a person can know.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// As what a queue knew itself when it last ran. It is in the database, and so in every copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A random name. The mark in the output root that counts this queue's requests bears it.
    pub queue: String,
    /// Where it ran.
    #[serde(flatten)]
    pub here: Here,
}

/// Where a queue runs, as far as that can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// The machine, by a hash of its id; nothing where it has none of its own.
    pub machine: Option<String>,
    /// The number of the database's file; nothing where the filesystem gives other numbers after a mount.
    pub file: Option<u64>,
}

/// What klingd writes into a copy that it makes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStamp {
    /// When it was made, if that is known.
    pub made_at: Option<Timestamp>,
    /// What made it, as a noun: "a backup".
    pub what: String,
}

/// Something that tells a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It says so itself.
    Stamped(CopyStamp),
    /// It ran on another machine.
    OtherMachine,
    /// It ran as another file.
    OtherFile,
    /// The queue that it was copied from still stands there.
    Twin(String),
    /// More requests are known of than it has.
    Behind {
        /// So many more.
        by: u64,
    },
}

impl Identity {
    /// The same queue, when it runs `here`. What can't be told this time is known from the time before.
    pub fn now_at(&self, here: &Here) -> Self {
        let machine = here.machine.clone().or_else(|| self.here.machine.clone());
        let file = here.file.or(self.here.file);
        Self { queue: self.queue.clone(), here: Here { machine, file } }
    }

    /// What tells that this queue was copied since, seen from `here`. What is not known on either side tells nothing.
    pub fn signs(&self, here: &Here) -> Vec<Sign> {
        let differ =
            |then: Option<bool>, sign: Sign| then.is_some_and(|is_the_same| !is_the_same).then_some(sign);
        let machine = self.here.machine.as_ref().zip(here.machine.as_ref()).map(|(then, now)| then == now);
        let file = self.here.file.zip(here.file).map(|(then, now)| then == now);
        [differ(machine, Sign::OtherMachine), differ(file, Sign::OtherFile)].into_iter().flatten().collect()
    }
}

/// Why nothing is submitted, for the hold.
pub fn why(signs: &[Sign]) -> String {
    let signs: Vec<String> = signs.iter().map(ToString::to_string).collect();
    let signs = signs.join(", ");
    format!(
        "{signs}: what is queued may have been paid since the copy, and what was paid since is not known here"
    )
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::Stamped(CopyStamp { made_at: Some(at), what }) => write!(f, "this is {what} of {at}"),
            Sign::Stamped(CopyStamp { made_at: None, what }) => write!(f, "this is {what}"),
            Sign::OtherMachine => f.write_str("this queue ran on another machine before"),
            Sign::OtherFile => f.write_str("the database is a copied file"),
            Sign::Twin(dir) => write!(f, "the queue this was copied from is still in {dir}"),
            Sign::Behind { by: 1 } => f.write_str("a request was sent that this database does not know"),
            Sign::Behind { by } => write!(f, "{by} requests were sent that this database does not know"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(machine: Option<&str>, file: Option<u64>) -> Here {
        Here { machine: machine.map(str::to_owned), file }
    }

    #[test]
    fn what_differs_tells_and_what_is_unknown_does_not() {
        let known = Identity { queue: "q".into(), here: here(Some("a"), Some(7)) };
        for (now, signs) in [
            (here(Some("a"), Some(7)), vec![]),
            (here(None, None), vec![]),
            (here(Some("b"), Some(7)), vec![Sign::OtherMachine]),
            (here(Some("a"), Some(8)), vec![Sign::OtherFile]),
            (here(None, Some(8)), vec![Sign::OtherFile]),
            (here(Some("b"), Some(8)), vec![Sign::OtherMachine, Sign::OtherFile]),
        ] {
            assert_eq!(known.signs(&now), signs, "{now:?}");
        }
        assert_eq!(known.now_at(&here(None, Some(8))).here, here(Some("a"), Some(8)));
        let unknown = Identity { queue: "q".into(), here: Here::default() };
        assert_eq!(unknown.signs(&here(Some("b"), Some(8))), []);
    }

    #[test]
    fn it_says_what_is_not_known() {
        let made_at = Some("2026-02-05T03:00:00Z".parse().unwrap());
        let stamp = CopyStamp { made_at, what: "a backup".into() };
        let signs = [Sign::Stamped(stamp), Sign::Behind { by: 2 }];
        assert_eq!(
            why(&signs),
            "this is a backup of 2026-02-05T03:00:00.000Z, 2 requests were sent that this database does not know: \
             what is queued may have been paid since the copy, and what was paid since is not known here"
        );
    }
}
