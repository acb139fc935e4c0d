//! Text of strangers (prompts, names, the provider's messages) made fit for a terminal, and small words.

use crate::domain::Credits;

/// On one line: runs of blanks and line breaks become one blank, what steers a terminal or turns text around is
/// escaped.
pub fn line(foreign: &str) -> String {
    let mut safe = String::with_capacity(foreign.len());
    for c in foreign.trim().chars() {
        match c {
            c if c.is_whitespace() && safe.ends_with(' ') => {}
            c if c.is_whitespace() => safe.push(' '),
            c if is_steering(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// On as many lines as it has, each indented by `indent`.
pub fn block(foreign: &str, indent: usize) -> String {
    let lines: Vec<String> = foreign.trim().lines().map(line).collect();
    lines.join(&format!("\n{:indent$}", ""))
}

/// Controls; marks that turn the direction of the text around them (Unicode TR 9); what is invisible. The two joiners
/// stay: scripts and emoji need them.
fn is_steering(c: char) -> bool {
    match c {
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => true,
        '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e0fff}' => true,
        c => c.is_control(),
    }
}

/// At most so many characters, the last one an ellipsis if there were more.
pub fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// `1 job`, `2 jobs`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The same for a number of the database: `1 job`, `10,000 jobs`.
pub fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{} {what}s", Credits::new(n)) }
}

/// A size as people read it.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        // A tenth is exact enough, and no video is large enough for the rounding of f64 to show.
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_steer_the_terminal() {
        for (foreign, safe) in [
            ("a cat,\n\ton  a roof ", "a cat, on a roof"),
            ("\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            ("gpj\u{202e}exe", "gpj\\u{202e}exe"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("一只猫 👩‍🚀", "一只猫 👩‍🚀"),
        ] {
            assert_eq!(line(foreign), safe);
        }
        assert_eq!(block("one\x08\ntwo\n", 4), "one\\u{8}\n    two");
    }

    #[test]
    fn small_words() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!((count(1, "job"), count(0, "job")), ("1 job".into(), "0 jobs".into()));
        assert_eq!((size(900), size(4_260_000)), ("900 B".into(), "4.3 MB".into()));
    }
}
