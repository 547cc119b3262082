//! `ship completions`, `ship schema`, `ship man`: what other programs read.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, Man};
use crate::config::schema;
use crate::error::Failure;
use crate::ui::Ui;

/// Prints completions for a shell.
pub fn run(shell: Shell) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ship", &mut text);
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(&text);
    Ok(ExitCode::SUCCESS)
}

/// Prints the JSON Schema of `ship.yml`.
pub fn schema(ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    ui.result(&schema::json_schema());
    Ok(ExitCode::SUCCESS)
}

/// Prints a manual page, or writes all of them into a folder.
pub fn man(args: &Man) -> Result<ExitCode, Failure> {
    // Built, so that pages of subcommands know their whole names.
    let mut ship = Cli::command();
    ship.build();
    let cant = |error: std::io::Error| Failure::failed(format!("can't write the manual page: {error}"));
    if let Some(folder) = &args.into {
        std::fs::create_dir_all(folder).map_err(cant)?;
        return write_all(&ship, "ship", folder).map_err(cant).map(|()| ExitCode::SUCCESS);
    }
    let mut command = &ship;
    let mut name = "ship".to_owned();
    for word in &args.command {
        command = command.find_subcommand(word).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            Failure::input(format!("there is no command `{name} {word}`"))
                .hint(format!("there are {}", known.join(", ")))
        })?;
        name = format!("{name}-{word}");
    }
    let mut text = Vec::new();
    page(command, &name).render(&mut text).map_err(cant)?;
    let _ = std::io::stdout().write_all(&text);
    Ok(ExitCode::SUCCESS)
}

fn page(command: &clap::Command, name: &str) -> clap_mangen::Man {
    clap_mangen::Man::new(command.clone()).title(name.to_uppercase())
}

fn write_all(command: &clap::Command, name: &str, folder: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::create(folder.join(format!("{name}.1")))?;
    page(command, name).render(&mut file)?;
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|below| write_all(below, &format!("{name}-{}", below.get_name()), folder))
}
