//! Jobs queued one by one by a process that keeps the store open, as the inbox and an embedding program do: each is durable
//! before the next begins; with more at once, they share commits.

use std::{collections::VecDeque, fs, path::Path, time::Instant};

use klingd::{
    clock::Clock,
    domain::{Request, job::NewJob, request::Draft},
    store::{Access, Store, enqueue::NewBatch},
};
use tokio::task::JoinSet;

use crate::common::Result;

#[tokio::main]
pub async fn run(dir: &Path, file: &Path, at_once: usize) -> Result<()> {
    klingd::disk::create_root(dir)?;
    let (store, writer) = Store::open(&dir.join("klingd.db"), Access::Migrate).await?;
    let text = fs::read_to_string(file)?;
    let mut lines: VecDeque<String> = text.lines().map(str::to_owned).collect();
    let count = lines.len();
    let queueing = async move {
        let start = Instant::now();
        let mut hands = JoinSet::new();
        while !lines.is_empty() {
            while let (true, Some(line)) = (hands.len() < at_once, lines.front()) {
                let (store, batch) = (store.clone(), batch(line)?);
                lines.pop_front();
                hands.spawn(async move { store.enqueue(batch, Clock.now()).await });
            }
            if let Some(ended) = hands.join_next().await {
                ended??;
            }
        }
        while let Some(ended) = hands.join_next().await {
            ended??;
        }
        println!("wall {}", start.elapsed().as_secs_f64());
        let there: u64 = store.depth().await?.iter().map(|(_, n)| n).sum();
        if there == count as u64 { Ok(()) } else { Err(format!("{there} of {count} jobs are queued").into()) }
    };
    let (queued, written): (Result<()>, _) = tokio::join!(queueing, writer.run());
    written?;
    queued
}

/// One job of the line: its text is the prompt, as the others keep it.
fn batch(line: &str) -> Result<NewBatch> {
    let draft = Draft {
        job_type: Some("std-text-to-video".to_owned()),
        prompt: Some(line.trim_matches(['{', '}']).to_owned()),
        ..Draft::default()
    };
    let request = Request::parse(&draft).map_err(|problems| format!("{problems:?}"))?;
    let jobs = vec![NewJob::of(request, "bench")];
    Ok(NewBatch { name: "bench".into(), source: "bench".into(), max_credits: None, jobs })
}
