//! `ship completions`, `ship schema`, `ship man`: what other programs read.

use std::process::ExitCode;
use std::sync::Arc;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::config::schema;
use crate::error::Failure;
use crate::ui::Ui;

/// Prints completions for a shell.
pub fn run(shell: Shell) -> Result<ExitCode, Failure> {
    clap_complete::generate(shell, &mut Cli::command(), "ship", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

/// Prints the JSON Schema of `ship.yml`.
pub fn schema(ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    ui.result(&schema::json_schema());
    Ok(ExitCode::SUCCESS)
}

/// Prints the manual page.
pub fn man() -> Result<ExitCode, Failure> {
    clap_mangen::Man::new(Cli::command())
        .render(&mut std::io::stdout())
        .map_err(|error| Failure::failed(format!("can't print the manual page: {error}")))?;
    Ok(ExitCode::SUCCESS)
}
