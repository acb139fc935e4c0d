//! What holds for any bytes that strangers write: one file a fuzz target. cargo-fuzz looks for bytes that break it, and
//! klingd's own tests replay the seeds, which hold what was found.
//!
//! A property states its rules by itself: it never asks the code under test what is right.

pub mod config;
pub mod inbox;
pub mod job_file;
pub mod mp4;
pub mod name;
mod parts;
pub mod retry_after;
pub mod same_job;
pub mod status;
pub mod submit;

#[cfg(test)]
mod seeds {
    use std::{fs, path::Path};

    /// Checks every file of one target.
    fn replay(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(!seeds.is_empty());
        for seed in seeds {
            eprintln!("{}", seed.display());
            check(&fs::read(&seed).unwrap());
        }
    }

    macro_rules! replay {
        ($($target:ident)+) => {
            $(
                #[test]
                fn $target() {
                    replay(stringify!($target), super::$target::check);
                }
            )+

            /// A target without a test here would never be replayed.
            #[test]
            fn every_target_is_replayed() {
                let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
                let mut names: Vec<_> = fs::read_dir(targets).unwrap().map(|entry| entry.unwrap().path()).collect();
                names.sort();
                let names: Vec<_> = names.iter().map(|path| path.file_stem().unwrap()).collect();
                assert_eq!(names, [$(stringify!($target)),+]);
            }
        };
    }

    replay!(config inbox job_file mp4 name retry_after same_job status submit);
}
