//! A SHA-256 as a value: how it is printed, parsed and stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The SHA-256 of a file; 64 lower-case hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

/// Text that is no SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 hex digits, not {text:?}")]
pub struct NotASha256 {
    text: String,
}

impl Sha256 {
    /// Wraps a digest that is already computed.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Sha256 {
        Sha256(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = NotASha256;

    fn from_str(text: &str) -> Result<Sha256, NotASha256> {
        let refuse = || NotASha256 { text: text.chars().take(80).collect() };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(refuse()) };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|&[high, low]| u8::try_from(digit(high)? * 16 + digit(low)?).ok()).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Sha256).ok_or_else(refuse)
    }
}

impl TryFrom<String> for Sha256 {
    type Error = NotASha256;

    fn try_from(text: String) -> Result<Sha256, NotASha256> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> String {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_back() {
        let hash: Sha256 = OF_NOTHING.parse().unwrap();
        assert_eq!(hash.as_bytes()[..3], [0xe3, 0xb0, 0xc4]);
        assert_eq!(hash.to_string(), OF_NOTHING);
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{OF_NOTHING}\""));
        assert_eq!(serde_json::from_str::<Sha256>(&format!("\"{OF_NOTHING}\"")).unwrap(), hash);
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "e3b0", &OF_NOTHING[1..], &format!("{OF_NOTHING}00"), &"ää".repeat(16), &"+f".repeat(32)]
        {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }
}
