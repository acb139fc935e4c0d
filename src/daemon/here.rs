//! Where this queue runs: the machine and the file, as far as they tell a copy from the queue that it was.

use std::{fmt::Write as _, fs, path::Path};

use sha2::{Digest, Sha256};

use crate::{
    config::{Config, DATABASE},
    disk::filesystem::lasting_number,
    domain::origin::Here,
    worker::origin::Place,
};

/// machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";
/// What container engines leave in their containers. An id there is the image's or made anew with each container: it names
/// no machine, and a queue must not be held for an upgrade of its image.
const CONTAINER_SIGNS: [&str; 3] = ["/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io"];

/// Where the queue of this configuration is. Its database exists.
pub(super) fn place(config: &Config) -> Place {
    let in_container = CONTAINER_SIGNS.iter().any(|sign| Path::new(sign).exists());
    let machine_id = fs::read_to_string(MACHINE_ID).ok().filter(|_| !in_container);
    Place {
        data_dir: config.data_dir.clone(),
        database: DATABASE,
        output_root: config.videos_root().to_owned(),
        here: Here {
            machine: machine_id.and_then(|id| machine(&id)),
            // What can't be told tells nothing.
            file: lasting_number(&config.database()).ok().flatten(),
        },
    }
}

/// The machine under a name that only klingd has for it: systemd asks programs not to show the id itself. Nothing where
/// there is none, or none yet ("uninitialized").
fn machine(id: &str) -> Option<String> {
    let id = id.trim();
    let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0');
    is_id.then(|| {
        let digest = Sha256::new().chain_update(b"klingd machine ").chain_update(id).finalize();
        digest.iter().take(16).fold(String::new(), |mut name, byte| {
            // Writing to a String cannot fail.
            write!(name, "{byte:02x}").unwrap_or_default();
            name
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_a_name_that_does_not_show_its_id() {
        let id = "0123456789abcdef0123456789abcdef";
        let name = machine(&format!("{id}\n")).unwrap();
        assert_eq!(name.len(), 32);
        assert!(!name.contains(&id[..8]));
        assert_eq!(machine(id), Some(name.clone()));
        assert_ne!(machine(&id.replace('4', "5")), Some(name));
        for none in ["", "uninitialized\n", "4f1c", &"0".repeat(32), &"g".repeat(32)] {
            assert_eq!(machine(none), None, "{none:?}");
        }
    }
}
