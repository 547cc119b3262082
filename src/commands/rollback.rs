//! `ship rollback`: back to a release of before.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cli::Rollback;
use crate::engine::{self, Wish};
use crate::error::Failure;
use crate::facts::app::release_number;
use crate::release::rollback::Way;
use crate::ui::Ui;

use super::{Workspace, up};

/// Chooses, asks about the database, goes back.
pub async fn run(workspace: Workspace, args: &Rollback, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let wish = Wish { target: target(args)?, way: way(args), confirmed: args.confirm.clone() };
    let (session, address) = workspace.connect(true, ui).await?;
    let (folder, desired) = workspace.without_source()?;
    let done = engine::rollback(&session, &desired, &folder, &wish, ui).await?;
    session.close().await;
    let url = up::url(desired.config(), &address, done.https);
    let text = format!("v{} serves {url}: rollback to v{}", done.number, done.target);
    ui.done(&text, &json!({"release": done.number, "target": done.target, "url": url}));
    ui.note(&format!(
        "the files here are still those of before: `ship up` makes v{} of them, `ship plan` shows it",
        done.number + 1
    ));
    Ok(ExitCode::SUCCESS)
}

fn target(args: &Rollback) -> Result<Option<u32>, Failure> {
    let Some(name) = &args.release else { return Ok(None) };
    match release_number(name).or_else(|| name.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(Failure::input(format!("`{name}` is not a release")).hint("they are called v1, v2 …")),
    }
}

fn way(args: &Rollback) -> Option<Way> {
    match (args.reverse, args.restore_dump, args.keep_schema) {
        (true, _, _) => Some(Way::Reverse),
        (_, true, _) => Some(Way::Restore),
        (_, _, true) => Some(Way::Keep),
        (false, false, false) => None,
    }
}
