//! klingd's pure modules, built without the rest: no SQLite and no TLS under the sanitizer. They stand where they stand
//! in klingd, so that `properties/` reads the same here and in klingd's own tests, which replay the seeds.

#![allow(dead_code, unused_imports, missing_docs, reason = "the modules know more than the targets ask for")]

#[path = "../../src/config/mod.rs"]
pub mod config;

#[path = "../../src/disk"]
pub mod disk {
    pub mod error;
    pub mod mp4;
    pub mod name;
    mod open;
    pub mod safe;
    /// What errors say of the output root.
    mod root {
        pub const MARK: &str = ".klingd-root";
    }

    pub use error::DiskError;
    pub use name::{Fields, Template, numbered};
}

#[path = "../../src/domain/mod.rs"]
pub mod domain;

#[path = "../../src/intake"]
pub mod intake {
    #[path = "inbox"]
    pub mod inbox {
        pub mod claim;
        pub mod entry;
        pub mod judge;
        pub mod status;
    }
    #[path = "jobfile/mod.rs"]
    pub mod jobfile;
}

#[path = "../properties/mod.rs"]
pub mod properties;

#[path = "../../src/provider"]
pub mod provider {
    pub mod classify;
    pub mod kept;
    mod retry_after;
    mod task_id;
    mod text;
    mod wire;
}

#[path = "../../src/sandbox"]
pub mod sandbox {
    pub mod faults;
    pub mod model;
    mod options;
    mod video;

    pub use faults::{FaultError, Faults};
    pub use options::{AcceptKeys, Options};
}

pub mod store;
