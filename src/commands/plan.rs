//! `ship plan`: shows what `up` would change.

use std::process::ExitCode;
use std::sync::Arc;

use crate::engine;
use crate::error::{Exit, Failure};
use crate::facts::Facts;
use crate::plan::Plan;
use crate::providers;
use crate::providers::machine::Machine;
use crate::ui::Ui;

use super::names::Names;
use super::{Workspace, release_name, up};

/// Probes and shows the difference; changes nothing.
pub async fn run(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let mut desired = workspace.desired()?;
    if let Some(cloud) = providers::cloud_of(&workspace.config).await? {
        let place = workspace.place(false);
        let mut machine = Machine::look(&place, cloud, false, ui).await?;
        let names = Names::survey(&workspace.config, &machine.target(), ui).await?;
        desired.set_volume(machine.volume_device());
        let (plan, session) = up::whole_plan(&mut machine, &names, &desired, &workspace.folder, ui).await?;
        if let Some(session) = session {
            session.close().await;
        }
        for reason in machine.replaces() {
            ui.warn(&format!("{reason}: this would replace the server, which takes `ship up --replace`"));
        }
        let replaces = !machine.replaces().is_empty();
        return Ok(show(&plan, "the server is as it should be", replaces, ui));
    }
    let session = workspace.connect(false, ui).await?.0;
    ui.working("looking at the server");
    let facts = engine::probe(&session, &desired.asks()?).await?;
    let mut planned = desired.plan(&facts)?;
    engine::preview(&session, &desired, &workspace.folder, &facts, &mut planned).await?;
    session.close().await;
    tell_of_another(&facts, ui);
    Ok(show(&planned.plan, &format!("{} is live", release_name(facts.app.current)), false, ui))
}

fn tell_of_another(facts: &Facts, ui: &Ui) {
    ui.idle();
    if let Some(running) = &facts.app.applying {
        ui.warn(&format!("{} is changing this server since {}", running.who, running.since));
    }
}

fn show(plan: &Plan, settled: &str, differs: bool, ui: &Ui) -> ExitCode {
    ui.idle();
    if plan.is_empty() {
        ui.result_or_json(&format!("Nothing to change: {settled}."), &plan.to_json());
        return if differs { Exit::Changes.into() } else { ExitCode::SUCCESS };
    }
    let text = format!("{}\n{}.", ui.plan_text(plan, true), sentence(&plan.summary()));
    ui.result_or_json(&text, &plan.to_json());
    Exit::Changes.into()
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
