//! `ship ssh`: a shell on the server, or one command there, as the login user.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::Ssh;
use crate::error::Failure;
use crate::shell::Script;
use crate::transport::{TermSize, terminal_size};
use crate::ui::Ui;

use super::{Workspace, exit_code};

/// Opens the shell.
pub async fn run(workspace: Workspace, args: &Ssh, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    ui.idle();
    // Like ssh: the words are joined and the login shell reads them.
    let command = args.command.join(" ");
    let script = if command.is_empty() {
        Script::new().line("exec \"${SHELL:-/bin/sh}\" -l")
    } else {
        Script::new().set("command", command).line("exec \"${SHELL:-/bin/sh}\" -c \"$command\"")
    };
    let status = session.interactive(&script, false, pty(args.command.is_empty())).await?;
    session.close().await;
    Ok(exit_code(status))
}

/// A terminal where both sides of one are there. One that does not know its size has the usual one.
pub fn pty(wanted: bool) -> Option<TermSize> {
    (wanted && std::io::stdin().is_terminal() && std::io::stdout().is_terminal())
        .then(|| terminal_size().unwrap_or(TermSize { columns: 80, rows: 24 }))
}
