//! From what people write to jobs: files, and the flags of `enqueue`, checked as a whole before anything is queued; and
//! the watched folder that files are dropped into.
//!
//! Owns the rules of job files and the texts of their diagnostics. What a request may hold is the domain's; nothing
//! here asks a clock, opens a file or knows the queue, but for the shell of the inbox.

pub mod flags;
pub mod inbox;
pub mod jobfile;
