//! The values that the inbox and the store hand to each other, as the store defines them.

pub mod enqueue {
    use crate::domain::{Credits, job::NewJob};

    #[derive(Clone, Debug)]
    pub struct NewBatch {
        pub name: String,
        pub source: String,
        pub max_credits: Option<Credits>,
        pub jobs: Vec<NewJob>,
    }
}

pub mod inbox {
    use std::path::PathBuf;

    use crate::domain::{Credits, JobId, State, Timestamp, state::Failure};

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct InboxFile {
        pub id: i64,
        pub name: String,
        pub held: PathBuf,
        pub place: PathBuf,
        pub accepted: bool,
        pub remarks: String,
        pub taken_at: Timestamp,
        pub changes: i64,
        pub told_at: Timestamp,
    }

    #[derive(Clone, Debug)]
    pub struct FileJob {
        pub id: JobId,
        pub existing: bool,
        pub found: Option<Found>,
    }

    #[derive(Clone, Debug)]
    pub struct Found {
        pub name: Option<String>,
        pub state: State,
        pub error: Option<Failure>,
        pub estimate: Credits,
        pub videos: Vec<String>,
    }
}
