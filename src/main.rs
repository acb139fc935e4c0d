//! The `klingd` program: parse, run, exit code.

use klingd::cli::{Cli, Exit, dispatch, report};

fn main() -> std::process::ExitCode {
    let cli = Cli::read();
    let global = cli.global.clone();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(&anyhow::Error::from(error).context("klingd can't start"), &global).into();
        }
    };
    let exit = runtime.block_on(dispatch(cli)).unwrap_or_else(|error| report(&error, &global));
    // Blocking work that hangs (a dead network share) must not keep a stopped process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Exit::into(exit)
}
