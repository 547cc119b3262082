//! `ship plan`: shows what `up` would change.

use std::process::ExitCode;
use std::sync::Arc;

use crate::engine;
use crate::error::{Exit, Failure};
use crate::ui::Ui;

use super::{Workspace, release_name};

/// Probes and shows the difference; changes nothing.
pub async fn run(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    let (_, desired) = workspace.desired()?;
    ui.working("looking at the server");
    let facts = engine::probe(&session, &desired.asks()?).await?;
    let planned = desired.plan(&facts)?;
    session.close().await;
    ui.idle();
    if let Some(running) = &facts.app.applying {
        ui.warn(&format!("{} is changing this server since {}", running.who, running.since));
    }
    if planned.plan.is_empty() {
        let text = format!("Nothing to change: {} is live.", release_name(facts.app.current));
        ui.result_or_json(&text, &planned.plan.to_json());
        return Ok(ExitCode::SUCCESS);
    }
    let text = format!("{}\n{}.", ui.plan_text(&planned.plan, true), sentence(&planned.plan.summary()));
    ui.result_or_json(&text, &planned.plan.to_json());
    Ok(Exit::Changes.into())
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
