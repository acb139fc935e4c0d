//! The commands that klingd suggests, with the flags that lead to the queue they speak of: `klingd resolve 2` typed after
//! `klingd --sandbox list` would settle a job of the real queue.

use std::{fmt::Write as _, path::Path};

use super::Global;

/// Verbs that look at a queue. Words after "klingd" that are none of them belong to a sentence.
const VERBS: [&str; 17] = [
    "backup", "cancel", "config", "doctor", "enqueue", "list", "pause", "prune", "resolve", "resume",
    "retry", "run", "set", "show", "spend", "status", "wait",
];

/// The flags that lead to the queue of this call; empty for the one that everybody sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    sandbox: bool,
    place: String,
}

impl Aim {
    /// The flags of this call.
    pub fn of(global: &Global) -> Self {
        let mut place = String::new();
        for (flag, path) in [("--config", &global.config), ("--data-dir", &global.data_dir)] {
            if let Some(path) = path {
                // Writing to a String cannot fail.
                write!(place, "{flag} {} ", word(path)).ok();
            }
        }
        Self { sandbox: global.sandbox, place }
    }

    /// A text with its commands led to this queue. Done twice it changes nothing more.
    pub fn at(&self, text: &str) -> String {
        let mut aimed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("klingd ") {
            aimed.push_str(before);
            aimed.push_str("klingd ");
            let verb = after.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
            if VERBS.contains(&verb) && !before.ends_with(|c: char| c.is_alphanumeric() || "-./".contains(c))
            {
                // Who names `run` says by himself whether the provider is the simulated one.
                aimed.push_str(if self.sandbox && verb != "run" { "--sandbox " } else { "" });
                aimed.push_str(&self.place);
            }
            rest = after;
        }
        aimed.push_str(rest);
        aimed
    }
}

/// A path as a shell reads it as one word.
fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%:,~".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_leads_to_the_queue_it_speaks_of() {
        let real = Aim::default();
        let sandbox = Aim { sandbox: true, ..Aim::default() };
        let place = Aim { sandbox: true, place: format!("--data-dir {} ", word(Path::new("/srv/a b"))) };
        for (aim, text, aimed) in [
            (&real, "in doubt: klingd resolve 2", "in doubt: klingd resolve 2"),
            (&sandbox, "in doubt: klingd resolve 2", "in doubt: klingd --sandbox resolve 2"),
            (&sandbox, "start one: klingd run --sandbox", "start one: klingd run --sandbox"),
            (&place, "klingd run --sandbox", "klingd --data-dir '/srv/a b' run --sandbox"),
            (
                &place,
                "klingd list, klingd show 1",
                "klingd --sandbox --data-dir '/srv/a b' list, klingd --sandbox --data-dir '/srv/a b' show 1",
            ),
            (
                &sandbox,
                "klingd is stopping; systemctl start klingd",
                "klingd is stopping; systemctl start klingd",
            ),
            (&sandbox, "/srv/klingd list", "/srv/klingd list"),
        ] {
            assert_eq!(aim.at(text), aimed);
            assert_eq!(aim.at(&aim.at(text)), aimed, "done twice");
        }
    }
}
