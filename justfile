# `just` lists these. Every recipe is one plain command; without just, type it.

[private]
default:
    @just --list --unsorted

# What CI runs: style, lints, tests and the demo end to end.
check:
    .ci/run

# All tests; `just test queue` those with "queue" in their name.
test *filter:
    cargo test --locked {{ filter }}

# Formats everything.
fmt:
    cargo fmt --all

# Lints as CI does.
lint:
    cargo clippy --locked --all-targets -- -D warnings

# The whole thing against the built-in provider, in ./klingd-demo: no key, no cost.
demo:
    cargo run --locked --release -- demo

# The provider's double as a server, for trying things by hand.
sandbox *options:
    cargo run --locked -- sandbox {{ options }}

# The state machine, the gate and the plans against so many arbitrary lives each; 2000000 is the long run.
prove cases="20000":
    PROPTEST_CASES={{ cases }} cargo test --locked --lib domain

# Any bytes against one of the targets in fuzz/fuzz_targets for so long (cargo install cargo-fuzz; a nightly toolchain).
fuzz target minutes="30":
    mkdir -p fuzz/corpus/{{ target }}
    cargo +nightly fuzz run {{ target }} fuzz/corpus/{{ target }} fuzz/seeds/{{ target }} -- -max_total_time=$(({{ minutes }} * 60)) -rss_limit_mb=4096 -timeout=20

# The walk through an MP4 and the name template against so many damaged files and odd texts each.
prove-files cases="2000000":
    PROPTEST_CASES={{ cases }} cargo test --locked --release --lib -- disk::mp4 disk::name

# Every test that kills the process or its effects, the long ones included.
crash:
    cargo test --locked --test crash -- --include-ignored

# An hour under mixed faults with everybody at it; what grows or breaks is said. Draws docs/soak.svg; `just soak 2 600` is a short one.
soak minutes="60" jobs="20000" seed="1" plot="docs/soak.svg":
    cargo bench --locked --bench soak -- --minutes {{ minutes }} --jobs {{ jobs }} --seed {{ seed }} --plot {{ plot }}

# A million finished and a million queued jobs next to a thousand of each, then 5,000 tasks in flight.
scale *options:
    cargo bench --locked --bench scale -- {{ options }}

# All benchmarks beside their peers, which are installed for it; about an hour (QUICK=yes: minutes, and only that it runs).
bench:
    tools/bench.sh

# Every rung of the ladder by seeds until the minutes are over, then a table: just torture --seed 7 --minutes 60
torture *options:
    tools/torture.sh {{ options }}

# Licences, advisories and banned crates (cargo install cargo-deny).
deny:
    cargo deny --locked check

# The Debian package and the static archive, in target/package (tools/package.sh says what they need).
package:
    tools/package.sh deb
    tools/package.sh tarball

# The package in a clean Debian, a booted one, and one whose power is cut; as root, some fifteen minutes.
prove-package old new:
    tests/packaging/install.sh {{ old }} {{ new }}
    tests/packaging/boot.sh {{ old }} {{ new }} target/debug/klingd
    tests/packaging/powercut.sh {{ new }}

# The documentation of the code, with the private parts.
doc:
    cargo doc --locked --no-deps --document-private-items --open
