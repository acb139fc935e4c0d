//! Jobs that were checked and wait for the last of their order: in memory while they are few, in a nameless file when
//! there are many, so that a hundred thousand take no more memory than a hundred.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};

use crate::{
    disk,
    domain::{Credits, JobType, job::NewJob},
    store::packed::{PACK, Packed},
};

/// Bytes of one pile in memory: a thousand jobs and more. What people write by hand never needs the file.
const IN_MEMORY_BYTES: usize = 1024 * 1024;

/// What sums and tables show of a job. Of these there is one in memory for each, so it is small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// Its name.
    pub name: Option<Box<str>>,
    /// Its type.
    pub job_type: JobType,
    /// What it will cost.
    pub estimate: Credits,
    /// Whether it is made again, whatever is there.
    pub again: bool,
}

/// The jobs of one batch, in order.
pub struct Pile {
    /// Where the file is made, if it must be.
    dir: PathBuf,
    packs: Vec<Pack>,
    /// What is not full yet.
    open: Packed,
    in_memory_bytes: usize,
    file: Option<Arc<File>>,
    file_bytes: u64,
    priced: Vec<Priced>,
}

#[derive(Clone)]
enum Pack {
    Memory(Arc<Packed>),
    File { file: Arc<File>, at: u64, bytes: usize, jobs: usize },
}

impl Pile {
    /// An empty one, which puts its file into the folder `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            packs: Vec::new(),
            open: Packed::default(),
            in_memory_bytes: 0,
            file: None,
            file_bytes: 0,
            priced: Vec::new(),
        }
    }

    /// Adds a job.
    pub fn push(&mut self, job: &NewJob) -> Result<()> {
        self.priced.push(Priced {
            name: job.name.as_deref().map(Box::from),
            job_type: job.request.job_type(),
            estimate: job.estimate,
            again: job.again,
        });
        self.open.push(job)?;
        if self.open.len() == PACK { self.close_pack() } else { Ok(()) }
    }

    /// Drops all of it: some job of the order is wrong, so none will be queued.
    pub fn clear(&mut self) {
        *self = Self::new(std::mem::take(&mut self.dir));
    }

    /// What is known of each job without reading it again.
    pub fn priced(&self) -> &[Priced] {
        &self.priced
    }

    /// The jobs, a pack at a time.
    pub fn packs(&self) -> impl Iterator<Item = io::Result<Packed>> + Send + use<> {
        let open = (!self.open.is_empty()).then(|| Pack::Memory(Arc::new(self.open.clone())));
        self.packs.clone().into_iter().chain(open).map(Pack::read)
    }

    fn close_pack(&mut self) -> Result<()> {
        let pack = std::mem::take(&mut self.open);
        if self.in_memory_bytes + pack.text().len() <= IN_MEMORY_BYTES {
            self.in_memory_bytes += pack.text().len();
            self.packs.push(Pack::Memory(Arc::new(pack)));
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => {
                disk::create_root(&self.dir)?;
                self.file.insert(Arc::new(disk::scratch(&self.dir)?))
            }
        };
        let (at, bytes) = (self.file_bytes, pack.text().len());
        file.write_all_at(pack.text().as_bytes(), at)
            .with_context(|| format!("the checked jobs can't be kept in {}", self.dir.display()))?;
        self.file_bytes += bytes as u64;
        self.packs.push(Pack::File { file: Arc::clone(file), at, bytes, jobs: pack.len() });
        Ok(())
    }
}

impl Pack {
    fn read(self) -> io::Result<Packed> {
        match self {
            Pack::Memory(packed) => Ok(Arc::unwrap_or_clone(packed)),
            Pack::File { file, at, bytes, jobs } => {
                let mut text = vec![0; bytes];
                file.read_exact_at(&mut text, at)?;
                Ok(Packed::from_text(String::from_utf8(text).map_err(io::Error::other)?, jobs))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobKey, Request, request::Draft};

    fn job(n: usize) -> NewJob {
        let draft = Draft {
            job_type: Some("std-text-to-video".into()),
            prompt: Some(format!("{n}: \"quoted\"\nlines, 雪 {}", "x".repeat(1500))),
            ..Draft::default()
        };
        let request = Request::parse(&draft).unwrap();
        NewJob {
            key: JobKey::of(&request, None, 1),
            estimate: request.estimate(request.job_type().price()),
            request,
            name: n.is_multiple_of(2).then(|| format!("n{n}\t\u{1f600}")),
            output: n.is_multiple_of(3).then(|| "{name}.mp4".into()),
            tags: vec![format!("t{}", n % 5)],
            priority: -5,
            take: 2,
            not_before: n.is_multiple_of(7).then(|| crate::domain::Timestamp::from_millis(1_770_287_400_123)),
            again: n.is_multiple_of(11),
            max_credits: n.is_multiple_of(4).then(|| Credits::new(1000)),
            source: "a \"file\".jsonl".into(),
        }
    }

    #[test]
    fn what_comes_out_is_what_went_in_through_memory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut pile = Pile::new(dir.path().join("data"));
        let jobs: Vec<NewJob> = (0..2 * IN_MEMORY_BYTES / 1500 + 17).map(job).collect();
        jobs.iter().for_each(|job| pile.push(job).unwrap());
        assert!(pile.file.is_some(), "it was more than fits into memory");
        for _ in 0..2 {
            let out: Vec<NewJob> = pile.packs().flat_map(|pack| pack.unwrap().jobs().unwrap()).collect();
            assert_eq!(out.len(), jobs.len());
            assert!(out == jobs);
        }
        assert_eq!(pile.priced().len(), jobs.len());
        assert_eq!(pile.priced()[2].name.as_deref(), Some("n2\t\u{1f600}"));
    }

    #[test]
    fn a_few_jobs_touch_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut pile = Pile::new(dir.path().join("data"));
        pile.push(&job(1)).unwrap();
        assert_eq!(pile.packs().next().unwrap().unwrap().jobs().unwrap(), [job(1)]);
        assert!(!dir.path().join("data").exists());
    }
}
