//! What is there when nothing moves any more: the queue, the provider's books, the files. Gathered, not judged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use klingd::{
    disk,
    domain::{JobId, State},
    sandbox::TaskState,
    store::{Access, Store, view::Filter},
};
use serde_json::Value;

use super::{
    Result,
    judge::{Facts, Paid, Row},
    traffic::Traffic,
    world::{KEY, World},
};

/// Looks at everything; the daemon has stopped.
pub async fn gather(world: &World, traffic: &Traffic<'_>) -> Result<Facts> {
    let offered = traffic.book().offered.clone();
    let mut facts = Facts { offered, ..Facts::default() };
    for task in world.sandbox.tasks() {
        let paid = Paid { task: task.id, has_video: task.state == TaskState::Success };
        facts.paid.entry(task.prompt).or_default().push(paid);
    }
    let (store, writer) = Store::open(&world.data().join("klingd.db"), Access::Use).await?;
    let (written, read) = tokio::join!(writer.run(), read_queue(store, &mut facts));
    written?;
    read?;
    look_at_videos(world, &mut facts)?;
    for place in [world.data().join("staging"), world.data().join("spool"), world.inbox()] {
        // klingd's mark stays in the folder that it watches.
        let strays = files_below(&place).into_iter().filter(|path| !path.ends_with(".klingd-inbox"));
        facts.strays.extend(strays.map(|path| path.display().to_string()));
    }
    for file in [world.log(), world.data().join("klingd.db"), world.data().join("klingd.db-wal")] {
        let bytes = fs::read(&file).unwrap_or_default();
        if bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()) {
            facts.damage.push(format!("the key is in {}", file.display()));
        }
    }
    Ok(facts)
}

async fn read_queue(store: Store, facts: &mut Facts) -> Result<()> {
    facts.damage = store.check().await?;
    for job in store.list(&Filter { all: true, ..Filter::default() }).await? {
        facts.rows.push(Row {
            id: job.id.0,
            prompt: job.request.prompt().to_owned(),
            state: job.state.label().as_str().to_owned(),
            ended: job.state.has_ended(),
            needs_person: job.state.needs_person().is_some(),
            replays: store.replay(job.id).await.is_ok_and(|state| state == job.state),
        });
        if matches!(job.state, State::Done { .. }) {
            for output in store.outputs(job.id).await? {
                let whole = output.published_at.and(output.file);
                let there = whole.is_some_and(|file| {
                    fs::metadata(&file.path).is_ok_and(|found| found.len() == file.bytes)
                });
                if !there {
                    facts.damage.push(format!("job {} is done and its file is not there", job.id));
                }
            }
        }
    }
    // Each number was given once, and pruned jobs leave gaps: the attempts with a task stay.
    let last = facts.rows.iter().map(|row| row.id).max().unwrap_or(0).max(facts.offered.len() as i64);
    for id in 1..=last {
        let attempts = store.attempts(JobId(id)).await?;
        facts.known_tasks.extend(attempts.into_iter().filter_map(|attempt| attempt.task_id));
    }
    Ok(())
}

/// Each video is told by the sidecar beside it; whatever else lies there is a stray.
fn look_at_videos(world: &World, facts: &mut Facts) -> Result<()> {
    for path in files_below(&world.videos()) {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".klingd-"));
        match extension {
            "mp4" if !hidden => {
                let told: Value =
                    serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap_or_default())
                        .unwrap_or_default();
                let Some(task) = told["task_id"].as_str() else {
                    facts.strays.push(format!("{} without a sidecar", path.display()));
                    continue;
                };
                let exact = world
                    .sandbox
                    .video(task, 1)
                    .is_some_and(|video| fs::read(&path).is_ok_and(|f| f == video));
                facts.videos.insert(task.to_owned(), exact);
            }
            // What came in place of a video and was none: kept for a person. The tally of what was sent.
            "suspect" | "sent" => {}
            "json" if path.with_extension("mp4").exists() => {}
            _ if path.ends_with(disk::root::MARK) => {}
            _ => facts.strays.push(path.display().to_string()),
        }
    }
    Ok(())
}

/// All regular files, however deep; none where there is no folder.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}
