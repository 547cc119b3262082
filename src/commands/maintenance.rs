//! `ship maintenance`: a page that says to come back soon, in place of the site.
//!
//! A file is all there is to it: nginx looks for it at each request, so neither it nor the site is touched.

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::cli::{Maintenance, Switch};
use crate::error::Failure;
use crate::shell::Script;
use crate::ui::Ui;

use super::Workspace;

/// The file that nginx looks for.
pub(super) fn flag(app: &str) -> String {
    format!("/var/lib/ship/{app}/maintenance")
}

/// Turns it on or off.
pub async fn run(workspace: Workspace, args: &Maintenance, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let (session, _) = workspace.connect(false, ui).await?;
    let app = &workspace.config.app;
    let script = Script::new().set("flag", flag(app)).set("app", app);
    let script = match args.state {
        // Without a site of ship's nobody would look for it.
        Switch::On => script.line("[ -d \"/var/lib/ship/$app/pages\" ] || exit 3").line("touch -- \"$flag\""),
        Switch::Off => script.line("rm -f -- \"$flag\""),
    };
    let output = session.exec(&script, Bytes::new()).await?;
    session.close().await;
    ui.idle();
    if output.status == 3 {
        return Err(Failure::failed(format!(
            "there is no site {app} on the server that could be in maintenance"
        ))
        .hint("`ship up` puts it there"));
    }
    if !output.success() {
        return Err(Failure::failed("the server could not do it").detail(output.stderr_text()));
    }
    let (text, on) = match args.state {
        Switch::On => (
            "On: visitors are asked to come back soon, with status 503. `ship maintenance off` ends it.",
            true,
        ),
        Switch::Off => ("Off: the site is shown.", false),
    };
    ui.result_or_json(text, &json!({"maintenance": on}));
    Ok(ExitCode::SUCCESS)
}
