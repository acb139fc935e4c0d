//! Foreign words, made safe to keep and to show.

/// Characters of foreign text that are kept in a sentence: enough for any message a person reads, little enough for a
/// row of the history. The evidence keeps the whole answer.
const MAX_CHARS: usize = 300;

/// One line of at most [`MAX_CHARS`] characters without control characters.
pub(super) fn clean(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.take(MAX_CHARS).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        None => line,
        Some(_) => line.chars().take(MAX_CHARS - 1).chain(['…']).collect(),
    }
}

/// An error with its causes, outermost first, on one line. Layers that repeat their cause are said once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !said.ends_with(&words) {
            said.push_str(": ");
            said.push_str(&words);
        }
        cause = next.source();
    }
    clean(&said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bounded_line_without_control_characters() {
        assert_eq!(clean("  too\r\nmany\u{1b}[31m  requests\0 "), "too many [31m requests");
        assert_eq!(clean(""), "");
        let exact = "ü".repeat(MAX_CHARS);
        assert_eq!(clean(&exact), exact, "what just fits is whole");
        let cut = clean(&"ü".repeat(MAX_CHARS + 1));
        assert_eq!(cut.chars().count(), MAX_CHARS);
        assert!(cut.ends_with('…'));
        assert_eq!(clean(&"a ".repeat(1_000_000)).chars().count(), MAX_CHARS);
    }
}
