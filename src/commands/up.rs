//! `ship up`: makes it so.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cli::Up;
use crate::config::Config;
use crate::engine;
use crate::error::Failure;
use crate::source;
use crate::ui::Ui;

use super::{Workspace, release_name};

/// Plans, asks, applies, verifies.
pub async fn run(workspace: Workspace, args: &Up, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    if args.clean && source::git(&workspace.folder).dirty {
        return Err(Failure::input("there are uncommitted changes, and --clean refuses them")
            .hint("commit or stash them"));
    }
    let (session, address) = workspace.connect(true, ui).await?;
    let (folder, desired) = workspace.desired()?;
    let outcome = engine::up(&session, &desired, &folder, ui).await?;
    let url = url(desired.config(), &address);
    session.close().await;
    let live = release_name(outcome.live);
    let text = match outcome.changes {
        0 => format!("Nothing to change: {live} serves {url}"),
        _ => format!("{live} serves {url}"),
    };
    ui.done(&text, &json!({"changed": outcome.changes > 0, "changes": outcome.changes, "release": outcome.live, "url": url}));
    Ok(ExitCode::SUCCESS)
}

/// Where a browser finds the site. `address` is the server's, for a site without names of its own.
pub fn url(config: &Config, address: &str) -> String {
    format!("http://{}/", config.domains.first().map_or(address, String::as_str))
}
