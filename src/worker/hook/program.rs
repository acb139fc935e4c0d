//! One run of a hook's program: an argv, the event on its standard input, an environment without secrets, and an end.

use std::{path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;

use super::Hook;
use crate::domain::hook::HookEvent;

/// What klingd was given for itself: secrets, and the service manager's ear.
const NOT_INHERITED: [&str; 7] = [
    "KLINGD_API__KEY",
    "KLINGD_API__PROXY",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
];
/// Bytes of a program's complaints that are read, and characters of them that are told.
const COMPLAINT_BYTES: usize = 4096;
const COMPLAINT_CHARS: usize = 300;
/// A program that has ended may have left a child that keeps its standard error open: no more is waited for than this.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How a run ended.
pub(super) enum Ended {
    /// With exit status 0.
    Well,
    /// In any other way.
    Badly(String),
    /// It was killed, since klingd stops.
    Stopped,
}

/// Runs the program and tells it the event.
pub(super) async fn run(
    hook: &Hook,
    directory: &Path,
    event: HookEvent,
    told: &Value,
    stop: &CancellationToken,
) -> Ended {
    let mut child = match command(hook, directory, event).spawn() {
        Ok(child) => child,
        Err(error) => return Ended::Badly(format!("{} can't be started: {error}", hook.program)),
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let ended = tokio::select! {
        ended = tokio::time::timeout(hook.timeout, talk(&mut child, told)) => ended,
        () = stop.cancelled() => {
            kill(group);
            return Ended::Stopped;
        }
    };
    match ended {
        Ok(ended) => ended,
        Err(_) => {
            kill(group);
            Ended::Badly(format!("it was killed, since it took more than {:?}", hook.timeout))
        }
    }
}

fn command(hook: &Hook, directory: &Path, event: HookEvent) -> Command {
    let mut command = Command::new(&hook.program);
    command.args(&hook.arguments).current_dir(directory).env("KLINGD_EVENT", event.as_str());
    NOT_INHERITED.into_iter().for_each(|name| _ = command.env_remove(name));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A group of its own: what it starts is killed with it.
    command.process_group(0).kill_on_drop(true);
    command
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        // Gone already is as good.
        kill_process_group(group, Signal::KILL).ok();
    }
}

async fn talk(child: &mut Child, told: &Value) -> Ended {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut complaint = Vec::new();
    // All at once: a program may end, or complain at length, before it has read a word.
    let status = {
        let listen = listen(stderr, &mut complaint);
        tokio::pin!(listen);
        let wait = async { tokio::join!(tell(stdin, told), child.wait()).1 };
        tokio::pin!(wait);
        tokio::select! {
            status = &mut wait => {
                tokio::time::timeout(LAST_WORDS, listen).await.ok();
                status
            }
            () = &mut listen => wait.await,
        }
    };
    match status {
        Ok(status) if status.success() => Ended::Well,
        Ok(status) => Ended::Badly(format!("{status}{}", said(&complaint))),
        Err(error) => Ended::Badly(error.to_string()),
    }
}

/// A program need not read what it is told.
async fn tell(stdin: Option<ChildStdin>, told: &Value) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(format!("{told}\n").as_bytes()).await.ok();
    }
}

/// Reads to the end, so that nobody waits for a full pipe, and keeps the beginning.
async fn listen(stderr: Option<ChildStderr>, complaint: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = stderr.read(&mut chunk).await {
        let room = COMPLAINT_BYTES.saturating_sub(complaint.len());
        complaint.extend_from_slice(&chunk[..n.min(room)]);
    }
}

/// The beginning of what it complained of.
fn said(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let text: String = text.trim().chars().take(COMPLAINT_CHARS).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hook(script: &str) -> Hook {
        let arguments = ["-c", script].map(str::to_owned).to_vec();
        let (name, program) = ("test".to_owned(), "/bin/sh".to_owned());
        Hook { name, program, arguments, timeout: Duration::from_secs(60) }
    }

    async fn ended(hook: &Hook, told: &Value) -> Ended {
        let dir = tempfile::tempdir().unwrap();
        run(hook, dir.path(), HookEvent::JobDone, told, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn a_program_reads_the_event_and_its_name() {
        let script = r#"test "$KLINGD_EVENT" = job.done && test "$(cat)" = '{"id":7}'"#;
        assert!(matches!(ended(&hook(script), &json!({"id": 7})).await, Ended::Well));
    }

    #[test]
    fn the_key_is_not_in_its_environment() {
        let command = command(&hook(""), Path::new("/"), HookEvent::JobDone);
        let removed = |name: &str| command.as_std().get_envs().any(|(n, value)| n == name && value.is_none());
        assert!(removed("KLINGD_API__KEY") && removed("CREDENTIALS_DIRECTORY"));
    }

    #[tokio::test]
    async fn a_program_that_reads_nothing_of_a_long_event_ends_well() {
        let long = json!({ "prompt": "x".repeat(1 << 20) });
        assert!(matches!(ended(&hook("exit 0"), &long).await, Ended::Well));
    }

    #[tokio::test]
    async fn a_failure_says_what_the_program_said() {
        let script = "echo no such channel >&2; head -c 1000000 /dev/zero >&2; exit 3";
        let Ended::Badly(why) = ended(&hook(script), &json!({})).await else { panic!("it failed") };
        assert!(why.contains('3') && why.contains("no such channel") && why.len() < 2000, "{why}");
    }

    #[tokio::test]
    async fn a_missing_program_is_a_failure_like_any_other() {
        let missing = Hook { program: "/no/such/program".to_owned(), ..hook("") };
        assert!(matches!(ended(&missing, &json!({})).await, Ended::Badly(_)));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let hung = Hook { timeout: Duration::from_millis(10), ..hook("sleep 1000") };
        let Ended::Badly(why) = ended(&hung, &json!({})).await else { panic!("it hung") };
        assert!(why.contains("10ms"), "{why}");
    }

    #[tokio::test]
    async fn a_stop_kills_a_program_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let hung = hook("sleep 1000 & echo $! > pid.new; mv pid.new pid; wait");
        let (told, pid) = (json!({}), dir.path().join("pid"));
        let run = run(&hung, dir.path(), HookEvent::HoldSet, &told, &stop);
        let stopper = async {
            while !pid.exists() {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(run, stopper);
        assert!(matches!(ended, Ended::Stopped));
        let child = std::fs::read_to_string(&pid).unwrap();
        // Gone, or a zombie that nobody has reaped yet.
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while runs() {
            tokio::task::yield_now().await;
        }
    }
}
