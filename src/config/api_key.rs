//! The API key: a type that hides it, and the three places it may come from.
//!
//! Nothing here may put the key, or what a person pasted in its stead, into a message.

use std::fmt::{self, Write};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::environment::Environment;
use super::raw::Origin;

/// Keys have some fifty characters; whoever names a file of more than this named the wrong one.
const MAX_BYTES: u64 = 4096;

/// The provider's key. `Debug` shows its fingerprint, and nothing shows the key but [`ApiKey::expose`].
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// Takes a key as a person wrote it, with the line end an editor may have added.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it and never repeats it.
    pub fn parse(written: &str) -> Result<Self, &'static str> {
        let key = written.trim();
        if key.is_empty() {
            return Err("it is empty");
        }
        if key.lines().nth(1).is_some() {
            return Err("it has more than one line; it may hold the key and nothing else");
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "it has a space or a character that no key has; write the bare key, without `Bearer`",
            );
        }
        Ok(Self(key.into()))
    }

    /// The key itself, for the request's header and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The first 8 hexadecimal digits of its SHA-256: tells keys apart, gives nothing away.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.expose()).iter().take(4).fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}…)", self.fingerprint())
    }
}

/// Why there is no key: what was found at each place that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Error)]
#[error(
    "no usable API key: {}. Give one in any of three ways: the systemd credential `api-key` \
     (LoadCredential=api-key:FILE), a file named by `api.key_file`, or the variable KLINGD_API__KEY",
    looked_at.join("; ")
)]
pub struct KeyError {
    /// One clause for each place.
    pub looked_at: Vec<String>,
}

/// What the search found.
pub(super) struct Search {
    pub(super) key: Result<(ApiKey, Origin), KeyError>,
    pub(super) warnings: Vec<String>,
}

/// Looks for the key: variable, credential, file, in the order of all settings. The first place that
/// holds anything decides: going on from a broken one would use a key nobody meant.
pub(super) fn search(environment: &Environment, key_file: Option<(PathBuf, Origin)>) -> Search {
    let mut search = Search { key: Err(KeyError::default()), warnings: Vec::new() };
    let mut looked_at = Vec::new();
    let found = from_variable(environment, &mut looked_at)
        .or_else(|| match &key_file {
            // A variable that names the file goes before the credential, as any variable does.
            Some((path, Origin::Variable(_))) => Some(from_file(path, &mut search.warnings)),
            Some(_) | None => None,
        })
        .or_else(|| from_credential(environment, &mut looked_at))
        .or_else(|| match &key_file {
            Some((path, _)) => Some(from_file(path, &mut search.warnings)),
            None => {
                looked_at.push("`api.key_file` is not set".to_owned());
                None
            }
        });
    search.key = match found {
        Some(Ok(found)) => Ok(found),
        Some(Err(why)) => Err(KeyError { looked_at: vec![why] }),
        None => Err(KeyError { looked_at }),
    };
    search
}

type Found = Result<(ApiKey, Origin), String>;

fn from_variable(environment: &Environment, looked_at: &mut Vec<String>) -> Option<Found> {
    const NAME: &str = "KLINGD_API__KEY";
    let Some(written) = environment.variable(NAME) else {
        looked_at.push(format!("{NAME} is not set"));
        return None;
    };
    let key = written.to_str().ok_or("it is not text").and_then(ApiKey::parse);
    Some(match key {
        Ok(key) => Ok((key, Origin::Variable(NAME.to_owned()))),
        Err(why) => Err(format!("{NAME} is set, but {why}")),
    })
}

fn from_credential(environment: &Environment, looked_at: &mut Vec<String>) -> Option<Found> {
    let Some(path) = environment.credential("api-key") else {
        looked_at.push("there are no systemd credentials".to_owned());
        return None;
    };
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            looked_at.push(format!("the credential {} does not exist", path.display()));
            None
        }
        written => Some(parsed(&path, written)),
    }
}

fn from_file(path: &Path, warnings: &mut Vec<String>) -> Found {
    if let Ok(metadata) = path.metadata() {
        let mode = metadata.mode() & 0o777;
        if mode & 0o007 != 0 {
            let path = path.display();
            warnings.push(format!(
                "the key file {path} is open to every user (mode {mode:04o}): chmod 0640 {path}"
            ));
        }
    }
    parsed(path, read(path))
}

fn parsed(path: &Path, written: io::Result<Zeroizing<String>>) -> Found {
    let place = path.display();
    let written = written.map_err(|error| format!("the key file {place} cannot be read: {error}"))?;
    let key = ApiKey::parse(&written).map_err(|why| format!("the key file {place} holds no key: {why}"))?;
    Ok((key, Origin::Secret(path.to_owned())))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    // Looked at before it is opened: opening a pipe waits for its other end.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let mut text = Zeroizing::new(String::new());
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_BYTES {
        return Err(io::Error::other("it has more than 4096 bytes, so it is no key"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_bare_word() {
        assert_eq!(ApiKey::parse(" sk-abc\r\n").unwrap().expose(), "sk-abc");
        for bad in ["", " \n", "sk-abc\nsk-def", "Bearer sk-abc", "sk\u{7}abc", "schlüssel", "\u{feff}sk-abc"]
        {
            assert!(ApiKey::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_the_fingerprint_alone() {
        let key = ApiKey::parse("sk-abc").unwrap();
        // printf %s sk-abc | sha256sum
        assert_eq!(key.fingerprint(), "1460db1b");
        assert_eq!(format!("{key:?}"), "ApiKey(1460db1b…)");
    }
}
