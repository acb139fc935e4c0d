//! Taking bytes apart, and what several properties hold.

/// An answer as the inputs of `submit` and `status` write it: words, `name: value` lines, a blank line, the body.
pub struct Answer<'i> {
    /// The words of the first line.
    pub first: Vec<&'i str>,
    pub headers: Vec<(String, &'i [u8])>,
    pub body: &'i [u8],
}

pub fn answer(bytes: &[u8]) -> Answer<'_> {
    let (first, mut rest) = line(bytes);
    let mut headers = Vec::new();
    loop {
        let (header, after) = line(rest);
        rest = after;
        let Some(colon) = header.iter().position(|b| *b == b':') else { break };
        let name = String::from_utf8_lossy(&header[..colon]).to_ascii_lowercase();
        headers.push((name, header[colon + 1..].trim_ascii()));
    }
    let first = std::str::from_utf8(first).unwrap_or_default().split_ascii_whitespace().collect();
    Answer { first, headers, body: rest }
}

/// The first line without its break, and what follows.
pub fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|b| *b == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// Whether a terminal would obey this character: controls, and those that turn the direction of writing.
pub fn steers(c: char) -> bool {
    let turns =
        "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
    c.is_control() || turns.contains(c)
}

/// That a text of several lines may be shown on a terminal.
pub fn assert_showable(text: &str) {
    let steering: Vec<char> = text.chars().filter(|c| *c != '\n' && steers(*c)).collect();
    assert!(steering.is_empty(), "{steering:?} in {text:?}");
}

/// That a sentence for people is one bounded line.
pub fn assert_sentence(text: &str) {
    assert!(!text.is_empty() && text.chars().count() <= 700, "{} characters: {text:?}", text.chars().count());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
