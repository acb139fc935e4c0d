//! The crash proof: the real daemon is killed at every named step and at random instants, stopped, starved of room and
//! meddled with while it pays, and must keep its promise each time: no job lost, nothing paid twice, nothing paid lost,
//! no torn file.
//!
//! | module | does |
//! |---|---|
//! | `points` | SIGKILL at every [`klingd::failpoint::Point`], once, later, and again |
//! | `outside` | signals from outside while a POST is on the wire; a second daemon |
//! | `download` | SIGTERM in a download, rests that are not the rest, and the way through staging |
//! | `inbox` | SIGKILL at every step of a dropped file, and a full disk under it |
//! | `random` | SIGKILL at random instants, under random faults of the provider, with `traffic` beside |
//! | `traffic` | commands and dropped files, and what they were told |
//! | `chaos` | every fault of the sandbox mixed, by seeds, with the daemon in this process |
//! | `years` | ten years of the pure core, in a simulated world |
//! | `pure` | the library's property tests of the state machine, as a rung |
//! | `ladder` | climbs all rungs until the minutes are over, and prints the table |
//! | `on_the_wire` | what other processes do to a job whose POST is on the wire |
//! | `disk_full` | a full disk when the answer comes, under the database and under the videos |
//! | `no_room` | no room at each step of a video's way to its name |
//! | `budget` | sixteen workers and a budget for seven and a half jobs, killed at each point |
//! | `holds` | every hold survives a kill, and is lifted by its command |
//! | `calls` | every call that changes a file: killed there, failed, cut short, full or dead from there on |
//! | `power` | the power of ext4 and XFS is cut (as root) |
//! | `control` | shows that the judge notices what it is there for |
//! | `rig` | the directory, the double, the daemon, the facts and the judge |
//! | `tally` | what was lived, what fired, what was checked and what broke |

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a rig says its seed, what it ran and what it skipped")]

mod budget;
mod calls;
mod chaos;
#[path = "../common/mod.rs"]
mod common;
mod control;
mod disk_full;
mod download;
mod holds;
mod inbox;
mod ladder;
mod no_room;
mod on_the_wire;
mod outside;
mod points;
mod power;
mod pure;
mod random;
mod rig;
mod tally;
mod traffic;
mod years;
