//! The README's sessions, played: each ```` ```console ```` block is typed into a shell, in order and in one home, against
//! the simulated provider, and has to print what the README shows.
//!
//! What differs between two runs is the same word on both sides: times, days, the home. Columns may be wider or narrower.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{path::Path, process::Command};

use assert_cmd::cargo::cargo_bin;

const README: &str = include_str!("../README.md");

#[test]
fn every_session_of_the_readme_prints_what_it_shows() {
    let home = tempfile::tempdir().unwrap();
    let mut played = 0;
    for session in sessions(README) {
        for (command, expected) in steps(&session) {
            let printed = typed(&command, home.path());
            let seen = format!("$ {command}\n{}", comparable(&printed, home.path()));
            snapbox::assert_data_eq!(seen, format!("$ {command}\n{}", comparable(&expected, home.path())));
            played += 1;
        }
    }
    assert!(played >= 5, "the README has sessions, and they were found");
}

/// The insides of the console blocks.
fn sessions(text: &str) -> Vec<String> {
    let blocks = text.split("```console\n").skip(1);
    blocks.map(|rest| rest.split("```").next().expect("a block ends").to_owned()).collect()
}

/// Each command with what it prints. A command goes on in the next line behind a backslash, as in a shell.
fn steps(session: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in session.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command.to_owned(), String::new())),
            (None, Some((command, _))) if command.ends_with('\\') => {
                command.truncate(command.len() - 1);
                command.push_str(line.trim_start());
            }
            (None, Some((_, printed))) => *printed += &format!("{line}\n"),
            (None, None) => panic!("a session begins with a command, not with {line:?}"),
        }
    }
    steps
}

/// What a person sees, on both streams, and an exit code that is not 0.
fn typed(command: &str, home: &Path) -> String {
    let program = cargo_bin("klingd");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display());
    // The shell joins the streams: two pipes would lose the order.
    let output = Command::new("/bin/sh")
        .args([
            "-c",
            &format!("exec 2>&1; {command}\nstatus=$?; [ $status = 0 ] || echo \"(exit code $status)\""),
        ])
        .env_clear()
        .envs([("HOME", home.as_os_str()), ("PATH", path.as_ref())])
        .current_dir(home)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Without what is another one in every run.
fn comparable(text: &str, home: &Path) -> String {
    let text = text.replace(&home.display().to_string(), "~");
    let line = |line: &str| {
        let words =
            line.split_whitespace().map(|word| word.split('/').map(part).collect::<Vec<_>>().join("/"));
        words.collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

/// A day, a time of day, a span of time, a task's id.
fn part(word: &str) -> String {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let number = |unit: &str| {
        word.strip_suffix(unit).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    match shape.as_str() {
        "0000-00-00" => "DAY".to_owned(),
        "00:00:00" => "TIME".to_owned(),
        _ if number("s") || number("ms") => "SPAN".to_owned(),
        _ => word.to_owned(),
    }
}
