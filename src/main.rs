//! The `klingd` program: parse, run, exit code.

fn main() {}
