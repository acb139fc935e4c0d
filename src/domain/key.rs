//! Keys against accidental repetition: the same key is not queued twice.

use std::fmt;

use sha2::{Digest, Sha256};

use super::request::Request;

/// What makes a job the same job. Unique in the database until the job ends provably uncharged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(String);

impl JobKey {
    /// The user's own key; `cell` is the matrix cell, `take` counts from 1. The first take of a plain job bears the
    /// key as it was typed, so that raising `takes` later adds the new takes only.
    pub fn own(key: &str, cell: Option<&str>, take: u32) -> Self {
        let cell = cell.map(|c| format!("/{c}")).unwrap_or_default();
        let take = if take > 1 { format!("#{take}") } else { String::new() };
        Self(format!("{key}{cell}{take}"))
    }

    /// A key from the meaning of the job: the whole request with all defaults applied, its own name, its take.
    pub fn of(request: &Request, name: Option<&str>, take: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(request.canonical());
        // A zero byte ends each part: no two different triples run together into the same bytes.
        hash.update([0]);
        hash.update(name.unwrap_or_default());
        hash.update([0, u8::from(name.is_some())]);
        hash.update(take.to_be_bytes());
        Self(format!("sha256:{}", hex(&hash.finalize())))
    }

    /// As it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text that is stored and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail; the result carries nothing.
        write!(out, "{byte:02x}").ok();
        out
    })
}

#[cfg(test)]
mod tests {
    use super::{super::request::Draft, *};

    #[test]
    fn a_key_follows_the_meaning() {
        let request = |prompt: &str| {
            Request::parse(&Draft {
                job_type: Some("std-text-to-video".into()),
                prompt: Some(prompt.into()),
                ..Draft::default()
            })
            .unwrap()
        };
        let (a, b) = (request("a"), request("b"));
        let key = JobKey::of(&a, None, 1);
        assert_eq!(key, JobKey::of(&request("a"), None, 1));
        for other in [
            JobKey::of(&b, None, 1),
            JobKey::of(&a, Some("x"), 1),
            JobKey::of(&a, Some(""), 1),
            JobKey::of(&a, None, 2),
        ] {
            assert_ne!(key, other);
        }
        // Keys in databases were made so: another text for the same job would queue it twice.
        assert_eq!(
            a.canonical(),
            r#"{"aspect_ratio":"16:9","cfg_scale":0.5,"duration":5,"prompt":"a","sound":true,"type":"std-text-to-video"}"#
        );
        assert_eq!(JobKey::own("shot-12", None, 1).as_str(), "shot-12");
        assert_eq!(JobKey::own("shot-12", Some("9:16"), 3).as_str(), "shot-12/9:16#3");
    }
}
