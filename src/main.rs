//! The `ship` binary: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use ship::cli::Cli;
use ship::error::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Input.into() } else { ExitCode::SUCCESS };
        }
    };
    ship::commands::run(cli)
}
