//! `ship plan`: shows what `up` would change.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{Plan as Args, PlanFormat};
use crate::engine;
use crate::error::{Exit, Failure};
use crate::facts::Facts;
use crate::plan::Plan;
use crate::plan::markdown::{About, markdown};
use crate::providers;
use crate::providers::machine::Machine;
use crate::source;
use crate::ui::Ui;

use super::names::Names;
use super::{Workspace, release_name, up};

/// Probes and shows the difference; changes nothing.
pub async fn run(workspace: Workspace, args: &Args, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let mut about = (args.format == PlanFormat::Markdown).then(|| About {
        app: workspace.config.app.clone(),
        environment: workspace.config.environment.clone(),
        commit: source::git(&workspace.folder).commit,
        ..About::default()
    });
    if about.is_some() && ui.is_json() {
        return Err(Failure::input("--json and --format markdown exclude each other"));
    }
    let mut desired = workspace.desired()?;
    if let Some(cloud) = providers::cloud_of(&workspace.config).await? {
        let place = workspace.place(false);
        let mut machine = Machine::look(&place, cloud, false, ui).await?;
        let names = Names::survey(&workspace.config, &machine.target(), ui).await?;
        desired.set_volume(machine.volume_device());
        desired.set_addresses(machine.target().addresses());
        let (plan, session) = up::whole_plan(&mut machine, &names, &desired, &workspace.folder, ui).await?;
        if let Some(session) = session {
            session.close().await;
        }
        for reason in machine.replaces() {
            let warning = format!("{reason}: this would replace the server, which takes `ship up --replace`");
            tell(&warning, &mut about, ui);
        }
        let replaces = !machine.replaces().is_empty();
        return Ok(show(&plan, "the server is as it should be", replaces, about, ui));
    }
    let (session, address) = workspace.connect(false, ui).await?;
    desired.set_addresses(up::reached_at(desired.config(), &address).await);
    ui.working("looking at the server");
    let facts = engine::probe(&session, &desired.asks()?).await?;
    let mut planned = desired.plan(&facts)?;
    engine::preview(&session, &desired, &workspace.folder, &facts, &mut planned).await?;
    session.close().await;
    tell_of_another(&facts, &mut about, ui);
    for obstacle in planned.tls.obstacles() {
        tell(&obstacle, &mut about, ui);
    }
    if facts.app.current.is_none() {
        engine::tell_what_is_left_out(&desired, &facts, ui);
    }
    Ok(show(&planned.plan, &format!("{} is live", release_name(facts.app.current)), false, about, ui))
}

fn tell_of_another(facts: &Facts, about: &mut Option<About>, ui: &Ui) {
    ui.idle();
    if let Some(running) = &facts.app.applying {
        tell(&format!("{} is changing this server since {}", running.who, running.since), about, ui);
    }
}

/// Warns on the terminal, and in the comment if there is to be one.
fn tell(warning: &str, about: &mut Option<About>, ui: &Ui) {
    ui.warn(warning);
    if let Some(about) = about {
        about.warnings.push(warning.to_owned());
    }
}

fn show(plan: &Plan, settled: &str, differs: bool, about: Option<About>, ui: &Ui) -> ExitCode {
    ui.idle();
    if let Some(about) = about {
        ui.result(&markdown(plan, &About { settled: settled.to_owned(), ..about }));
        return if differs || !plan.is_empty() { Exit::Changes.into() } else { ExitCode::SUCCESS };
    }
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
