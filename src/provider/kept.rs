//! What is kept of an answer: bounded, and without secrets. Pure: bytes in, text out.

use std::borrow::Cow;

use crate::domain::evidence::MAX_BODY_BYTES;

/// Characters of a header's value that are kept as evidence: any date, any `Retry-After`, a long `Location`.
pub const MAX_HEADER_CHARS: usize = 1000;
/// A header with one of these in its name is never kept: what a session could be taken over with. By the word and not by
/// a list, since gateways have names of their own for theirs (`x-auth-token`, `x-session-cookie`).
const SECRET_WORDS: [&str; 2] = ["cookie", "auth"];
/// The shortest key, and the shortest beginning of one, that is blotted out where an answer repeats it. Shorter ones are
/// no secrets but a sandbox's word, which may be part of a task id.
pub const MIN_SECRET_LEN: usize = 8;
/// What stands in the place of a key.
const BLOT: &str = "[key]";

/// Text without our key, which some servers repeat in their errors.
pub fn blot(text: &str, key: &str) -> String {
    if key.len() < MIN_SECRET_LEN {
        return text.to_owned();
    }
    // Some writers of JSON escape the slash.
    let spellings = [Cow::Borrowed(key), Cow::Owned(key.replace('/', "\\/"))];
    let mut text = text.to_owned();
    for spelling in &spellings {
        text = text.replace(&**spelling, BLOT);
    }
    // The text may have been cut in the middle of the key.
    let (whole, mark) = text.strip_suffix('…').map_or((text.as_str(), ""), |whole| (whole, "…"));
    let ends = spellings.iter().filter_map(|key| {
        let beginnings = key.char_indices().map(|(at, _)| &key[..at]).rev();
        let cut =
            beginnings.take_while(|part| part.len() >= MIN_SECRET_LEN).find(|part| whole.ends_with(*part));
        cut.map(|part| whole.len() - part.len())
    });
    match ends.min() {
        Some(end) => format!("{}{BLOT}{mark}", &whole[..end]),
        None => text,
    }
}

/// A body as evidence.
pub fn body(bytes: &[u8], key: &str) -> String {
    let mut body = blot(&String::from_utf8_lossy(bytes), key);
    // Replaced bytes are longer than they were.
    body.truncate(body.floor_char_boundary(MAX_BODY_BYTES));
    body
}

/// The headers, by their lower-case names. hyper takes at most a hundred, so their number needs no bound of its own.
pub fn headers<'h>(all: impl Iterator<Item = (&'h str, &'h [u8])>, key: &str) -> Vec<(String, String)> {
    let kept = all.filter(|(name, _)| !SECRET_WORDS.iter().any(|word| name.contains(word)));
    kept.map(|(name, value)| {
        let value = blot(&String::from_utf8_lossy(value), key);
        (name.to_owned(), value.chars().take(MAX_HEADER_CHARS).collect())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-live/0123456789";

    #[test]
    fn a_key_is_blotted_out_whole_escaped_and_cut() {
        for (said, kept) in [
            ("the key sk-live/0123456789 is unknown", "the key [key] is unknown"),
            (r#"{"key":"sk-live\/0123456789"}"#, r#"{"key":"[key]"}"#),
            ("the key sk-live/01234", "the key [key]"),
            (r#"{"key":"sk-live\/01"#, r#"{"key":"[key]"#),
            ("the key sk-live/01…", "the key [key]…"),
            ("the key sk-live", "the key sk-live"),
            ("", ""),
        ] {
            assert_eq!(blot(said, KEY), kept, "{said}");
        }
        assert_eq!(blot("the key test is unknown", "test"), "the key test is unknown");
    }

    #[test]
    fn what_opens_a_session_is_not_kept_whatever_its_name() {
        let names = ["set-cookie", "cookie", "x-session-cookie", "www-authenticate", "x-auth-token", "date"];
        let kept = headers(names.iter().map(|name| (*name, &b"x"[..])), KEY);
        assert_eq!(kept, [("date".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn a_body_cut_in_the_middle_of_the_key_keeps_no_part_of_it() {
        let said = format!("{}{KEY}", "x".repeat(MAX_BODY_BYTES - 12));
        let kept = body(&said.as_bytes()[..MAX_BODY_BYTES], KEY);
        assert!(kept.ends_with("x[key]"), "{}", &kept[kept.len() - 20..]);
    }
}
