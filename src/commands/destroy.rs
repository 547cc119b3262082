//! `ship destroy`: removes the server and everything that was made for it, after a last copy of its data.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::backup;
use crate::cli::Destroy;
use crate::cloud::{Owner, Thing, ThingKind, Words};
use crate::config::Server;
use crate::error::Failure;
use crate::providers::cloud::Cloud;
use crate::providers::{self, vagrant};
use crate::ui::Ui;

use super::Workspace;
use super::names::Names;

/// Lists, asks, copies, removes.
pub async fn run(workspace: Workspace, args: &Destroy, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    match providers::cloud_of(&workspace.config).await? {
        Some(cloud) => in_cloud(&workspace, &cloud, cloud.words(), args, ui).await,
        None => match &workspace.config.server {
            Server::Vagrant(_) => {
                let owner = Owner::of(&workspace.config);
                ui.note(&format!("the Vagrant machine {} goes, with all that is on it", owner.host_name()));
                agree(&owner.host_name(), args, ui)?;
                if !args.no_backup {
                    save(&workspace, ui).await?;
                }
                vagrant::destroy(&workspace.place(false), ui).await?;
                ui.done("destroyed", &json!({"destroyed": [owner.host_name()]}));
                Ok(ExitCode::SUCCESS)
            }
            Server::Ssh(_) | Server::DigitalOcean(_) | Server::Ec2(_) => {
                Err(Failure::input("`server.provider` is ssh: that server isn't ship's to destroy")
                    .hint("ship destroys what it has made, at DigitalOcean, EC2 or with Vagrant"))
            }
        },
    }
}

async fn in_cloud<C: Cloud>(
    workspace: &Workspace,
    cloud: &C,
    words: &'static Words,
    args: &Destroy,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let owner = Owner::of(&workspace.config);
    ui.working(&format!("looking at {}", words.cloud));
    let mut things = cloud.things(&owner).await?;
    things.sort();
    ui.idle();
    if things.is_empty() {
        ui.done(&format!("There is nothing of {owner} at {}.", words.cloud), &json!({"destroyed": []}));
        return Ok(ExitCode::SUCCESS);
    }
    for thing in things.iter().filter(|thing| thing.kind != ThingKind::Tag) {
        ui.note(&format!("- {}", describe(thing, words)));
    }
    let addresses: BTreeSet<IpAddr> = things.iter().flat_map(|thing| thing.addresses.clone()).collect();
    let mut names = Names::removal(&workspace.config, &addresses, ui).await?;
    for change in names.changes() {
        ui.note(&format!("- {}", change.id));
    }
    agree(&owner.host_name(), args, ui)?;
    let server = things.iter().any(|thing| thing.kind == ThingKind::Server);
    if server && !args.no_backup {
        save(workspace, ui).await?;
    }
    // First, so that nobody is led to an address that is somebody else's tomorrow.
    names.remove(ui).await?;
    for thing in &things {
        let title = format!("remove {}", describe(thing, words));
        let progress = |text: &str| ui.step_output(text);
        ui.step(&title, cloud.remove(&owner, thing, &progress)).await?;
    }
    let labels: Vec<String> = things.iter().map(|thing| describe(thing, words)).collect();
    ui.done(&format!("{owner} is gone from {}", words.cloud), &json!({"destroyed": labels}));
    Ok(ExitCode::SUCCESS)
}

fn describe(thing: &Thing, words: &Words) -> String {
    format!("{} {}", thing.kind.word(words), thing.label)
}

/// What can't be undone takes more than a yes.
fn agree(name: &str, args: &Destroy, ui: &Ui) -> Result<(), Failure> {
    match &args.confirm {
        Some(typed) if typed == name => Ok(()),
        Some(typed) => Err(Failure::input(format!("--confirm {typed} is not {name}: nothing was removed"))),
        None if ui.confirm_by_name(name)? => Ok(()),
        None => Err(Failure::failed("nothing was removed")),
    }
}

async fn save(workspace: &Workspace, ui: &Arc<Ui>) -> Result<(), Failure> {
    let (session, _) = workspace.connect(false, ui).await.map_err(|failure| {
        failure.hint("`ship destroy --no-backup` removes the server without a last copy of its data")
    })?;
    let saved = backup::fetch(&session, &workspace.folder, &workspace.config, ui).await?;
    session.close().await;
    ui.note(&format!("saved: {}", saved.text()));
    Ok(())
}
