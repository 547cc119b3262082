//! `ship doctor`: what is wrong, and what mends it. For now: what lies about in the cloud.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cloud::{Owner, leftovers};
use crate::error::{Exit, Failure};
use crate::providers;
use crate::providers::cloud::Cloud;
use crate::ui::Ui;

use super::Workspace;

/// Looks and tells; exits with 1 when something is wrong.
pub async fn run(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let Some(cloud) = providers::cloud_of(&workspace.config).await? else {
        ui.result_or_json("Nothing of this project is in a cloud.", &json!({"leftovers": []}));
        return Ok(ExitCode::SUCCESS);
    };
    let owner = Owner::of(&workspace.config);
    let words = cloud.words();
    ui.working(&format!("looking at {}", words.cloud));
    let things = cloud.things(&owner).await?;
    ui.idle();
    let left: Vec<String> = leftovers(&things)
        .iter()
        .map(|(thing, why)| format!("{} {}: {why}", thing.kind.word(words), thing.label))
        .collect();
    if left.is_empty() {
        ui.result_or_json(
            &format!("Nothing of {owner} lies about at {}.", words.cloud),
            &json!({"leftovers": []}),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let text = format!(
        "{}\n`ship up` takes them into use again, `ship destroy` removes them.",
        left.iter().map(|line| format!("✗ {line}\n")).collect::<String>()
    );
    ui.result_or_json(&text, &json!({"leftovers": left}));
    Ok(Exit::Failed.into())
}
