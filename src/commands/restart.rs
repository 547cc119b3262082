//! `ship restart`: the live release once more, without losing a request.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cli::Restart;
use crate::engine;
use crate::error::Failure;
use crate::release::restart::processes;
use crate::ui::Ui;

use super::Workspace;

/// Restarts.
pub async fn run(workspace: Workspace, args: &Restart, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let config = &workspace.config;
    let Some(names) = processes(config, args.process.as_deref()) else {
        let known: Vec<&str> =
            std::iter::once("web").chain(config.workers.keys().map(String::as_str)).collect();
        let name = args.process.as_deref().unwrap_or_default();
        return Err(Failure::input(format!("there is no process `{name}`"))
            .hint(format!("there are {}", known.join(", "))));
    };
    let session = workspace.connect(true, ui).await?.0;
    let (folder, desired) = workspace.without_source()?;
    let live = engine::restart(&session, &desired, &folder, &names, ui).await?;
    session.close().await;
    ui.done(
        &format!("restarted {} of v{live}", names.join(", ")),
        &json!({"release": live, "processes": names}),
    );
    Ok(ExitCode::SUCCESS)
}
