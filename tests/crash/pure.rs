//! The pure rung: the library's own property tests of the state machine, run by its own test binary.

use std::process::Stdio;

use tokio::process::Command;

use super::tally::{Invariant, Tally, Verdict};

/// Cases of one climb, for each property.
const CASES: u64 = 4_000;
/// Properties that hold the promise in each case.
const PROPERTIES: [(&str, &[Invariant]); 3] = [
    ("the_promise_holds_in_every_life", &[Invariant::PaidOnce, Invariant::OnRecord]),
    ("a_start_after_any_step_keeps_the_promise", &[Invariant::PaidOnce, Invariant::OnRecord]),
    ("a_history_replays_to_the_same_state", &[Invariant::Sound]),
];

pub async fn climb(seed: u64, tally: &mut Tally) {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--locked", "--lib", "--", "domain::promise_tests", "domain::state"]);
    command.env("PROPTEST_CASES", CASES.to_string()).env("PROPTEST_RNG_SEED", seed.to_string());
    let command = command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        tally.broke(&format!("seed {seed}"), &said);
        return;
    }
    let mut verdict = Verdict::default();
    for (property, invariants) in PROPERTIES {
        assert!(said.contains(&format!("{property} ... ok")), "{property} was not run:\n{said}");
        invariants.iter().for_each(|invariant| verdict.count(*invariant, CASES));
    }
    tally.lived(&verdict);
    tally.lives += CASES - 1;
}
