//! Text of strangers (a job's name, its prompt) made fit for one component of a path on ext4, NTFS and SMB.
//!
//! Pure. What it gives contains no separator, nothing a terminal obeys, nothing Windows refuses, and never
//! climbs.

/// Device names that Windows takes for a device in any folder, with any extension. The rest of the family are
/// COM and LPT with one digit.
const WINDOWS_DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// Makes text fit for a part of a component: separators become `-`, space of any kind one blank, and what no
/// file name should hold is left out.
#[must_use]
pub fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '/' | '\\' | ':' => safe.push('-'),
            c if c.is_whitespace() && !safe.ends_with(' ') => safe.push(' '),
            c if c.is_whitespace() || is_forbidden(c) => {}
            c => safe.push(c),
        }
    }
    safe.trim().to_owned()
}

/// Makes an assembled component fit as a whole: no dots, blanks, dashes or tildes in front (hidden files,
/// options, home directories), no dots or blanks behind (Windows drops them), no device name. Empty text
/// stays empty.
///
/// It may grow by one byte.
#[must_use]
pub fn component(text: &str) -> String {
    let trimmed = text.trim_start_matches(['.', ' ', '-', '~']).trim_end_matches(['.', ' ']);
    if is_windows_device(trimmed) { format!("_{trimmed}") } else { trimmed.to_owned() }
}

/// The longest start of `text` that has at most `max_bytes` bytes.
#[must_use]
pub fn cut(text: &str, max_bytes: usize) -> &str {
    text[..text.floor_char_boundary(max_bytes)].trim_end()
}

/// What may not stand in a file name anywhere, besides the separators.
#[must_use]
pub fn is_forbidden(c: char) -> bool {
    match c {
        '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\' => true,
        // Soft hyphen, Arabic letter mark, Mongolian separator, zero-width and bidi marks, line and paragraph
        // separators, byte order mark, interlinear marks: invisible, or turning the text around them.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fff0}'..='\u{fffd}' => true,
        // SMB clients write forbidden characters as private ones; tags are invisible.
        '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e0fff}' => true,
        c => c.is_control(),
    }
}

/// Windows looks at what stands before the first dot, without blanks.
fn is_windows_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    WINDOWS_DEVICES.contains(&stem.as_str())
        || numbered.is_some_and(|number| {
            let mut digits = number.chars();
            matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_what_is_harmless() {
        for (raw, safe) in [
            ("a cat, surprised", "a cat, surprised"),
            ("一只猫在雨中", "一只猫在雨中"),
            ("What? No: yes/maybe", "What No- yes-maybe"),
            ("  two\r\n lines\t", "two lines"),
            ("\u{202e}gpj.exe\u{200b}", "gpj.exe"),
            ("\x1b[31mred\x07", "[31mred"),
            ("../../etc/passwd", "..-..-etc-passwd"),
            ("C:\\Users", "C--Users"),
            ("\u{3000}full\u{a0}width", "full width"),
        ] {
            assert_eq!(text(raw), safe, "{raw:?}");
        }
    }

    #[test]
    fn components_are_neither_hidden_nor_devices() {
        for (raw, safe) in [
            ("..", ""),
            (".hidden", "hidden"),
            ("-rf", "rf"),
            ("~root", "root"),
            ("name. . ", "name"),
            ("con", "_con"),
            ("Nul.tar.gz", "_Nul.tar.gz"),
            ("aux .txt", "_aux .txt"),
            ("COM1", "_COM1"),
            ("lpt³", "_lpt³"),
            ("com", "com"),
            ("com10", "com10"),
            ("console", "console"),
        ] {
            assert_eq!(component(raw), safe, "{raw:?}");
        }
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("猫猫", 5), "猫");
        assert_eq!(cut("a b", 2), "a");
        assert_eq!(cut("ab", 9), "ab");
    }
}
