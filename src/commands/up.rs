//! `ship up`: makes it so.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::backup;
use crate::cli::Up;
use crate::config::{Config, Server};
use crate::dns::records::Target;
use crate::engine::{self, Desired, Outcome};
use crate::error::Failure;
use crate::plan::Plan;
use crate::providers::cloud::Cloud;
use crate::providers::machine::Machine;
use crate::providers::{self, AnyCloud};
use crate::source;
use crate::transport::Session;
use crate::ui::Ui;

use super::names::{self, Names};
use super::run::run_script;
use super::{Workspace, release_name};

/// Plans, asks, applies, verifies.
pub async fn run(workspace: Workspace, args: &Up, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    if args.clean && source::git(&workspace.folder).dirty {
        return Err(Failure::input("there are uncommitted changes, and --clean refuses them")
            .hint("commit or stash them"));
    }
    match providers::cloud_of(&workspace.config).await? {
        Some(cloud) => in_cloud(&workspace, cloud, args, ui).await,
        None => at_hand(&workspace, args, ui).await,
    }
}

/// A server that is there already, or that Vagrant makes.
async fn at_hand(workspace: &Workspace, args: &Up, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let (session, address) = workspace.connect(true, ui).await?;
    let mut desired = workspace.desired()?;
    let target = names_target(desired.config(), &address).await;
    desired.set_addresses(target.iter().flat_map(Target::addresses));
    let mut names = match &target {
        Some(target) => Some(Names::survey(desired.config(), target, ui).await?),
        None => None,
    };
    desired.set_names_move(names.as_ref().is_some_and(|names| !names.is_settled()));
    let mut made = 0;
    if let (Some(names), Some(target)) = (&mut names, &target)
        && !names.is_settled()
    {
        let plan = Plan { changes: names.changes() };
        ui.plan(&plan, ui.is_json() || ui.verbose());
        if !ui.confirm("Change these records?")? {
            return Err(Failure::failed("nothing was changed"));
        }
        made = plan.changes.len();
        names.apply(desired.config(), target, ui).await?;
    }
    let mut outcome = engine::up(&session, &desired, &workspace.folder, None, !args.no_wait, ui).await?;
    outcome.changes += made;
    if let Some(names) = &names {
        names.wait(ui).await?;
        certificate_too(&session, &mut desired, &workspace.folder, names, &mut outcome, ui).await?;
    }
    session.close().await;
    if let Some(target) = target.filter(|_| outcome.is_news() || args.wait_dns) {
        names::by_hand(desired.config(), &target, args.wait_dns, ui).await?;
    }
    done(desired.config(), &outcome, &address, ui)
}

/// The addresses that the world reaches the server at, as far as this computer knows them.
pub(super) async fn reached_at(config: &Config, address: &str) -> Vec<IpAddr> {
    match names_target(config, address).await {
        Some(target) => target.addresses(),
        None if matches!(config.server, Server::Vagrant(_)) => Vec::new(),
        None => address.trim_start_matches('[').trim_end_matches(']').parse().into_iter().collect(),
    }
}

/// Gets the certificate that had to wait for records which this run has changed.
async fn certificate_too(
    session: &Session,
    desired: &mut Desired,
    project: &Path,
    names: &Names,
    outcome: &mut Outcome,
    ui: &Ui,
) -> Result<(), Failure> {
    desired.set_names_move(false);
    if !names.were_changed() || !desired.config().tls.is_on() {
        return Ok(());
    }
    let before = outcome.changes;
    *outcome = engine::up(session, desired, project, Some(&Plan::default()), true, ui).await?;
    outcome.changes += before;
    Ok(())
}

/// Where the names of a host of the user's own lead to. A Vagrant machine has no names.
async fn names_target(config: &Config, address: &str) -> Option<Target> {
    if config.domains.is_empty() || !matches!(config.server, Server::Ssh(_)) {
        return None;
    }
    let host = address.trim_start_matches('[').trim_end_matches(']');
    let target = Target::resolved(tokio::net::lookup_host((host, 0)).await.ok()?.map(|address| address.ip()));
    target.leads_somewhere().then_some(target)
}

/// Tells how it ended. That a certificate is yet to come is a warning: the release is live, and everybody is served. That
/// visitors are shown one that has ended is a failure.
fn done(config: &Config, outcome: &Outcome, address: &str, ui: &Ui) -> Result<ExitCode, Failure> {
    let url = url(config, address, outcome.tls.is_served());
    let obstacles = outcome.tls.obstacles();
    if outcome.tls.is_broken() {
        let failure = Failure::failed(format!(
            "{} is live, but its certificate {}",
            release_name(outcome.live),
            outcome.tls.line()
        ));
        return Err(failure
            .detail(obstacles.join("\n"))
            .hint("`ship doctor` looks at it closely; `ship up` tries again"));
    }
    for obstacle in &obstacles {
        ui.warn(obstacle);
    }
    if !outcome.tls.waiting.is_empty() {
        ui.note("the site is served by HTTP under such names until then; `ship up` finishes it once they lead here");
    }
    let live = release_name(outcome.live);
    let text = match outcome.changes {
        0 => format!("Nothing to change: {live} serves {url}"),
        _ => format!("{live} serves {url}"),
    };
    ui.done(&text, &json!({"changed": outcome.changes > 0, "changes": outcome.changes, "release": outcome.live, "url": url, "https": outcome.tls.is_served(), "obstacles": obstacles}));
    if outcome.live == Some(1) && outcome.changes > 0 && !ui.is_json() {
        ui.note("next: `ship open` shows it, `ship manage createsuperuser` makes a login for its admin, `ship logs -f` follows it");
    }
    Ok(ExitCode::SUCCESS)
}

/// The cloud first, then the server in it, as one plan.
async fn in_cloud(
    workspace: &Workspace,
    cloud: AnyCloud,
    args: &Up,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let place = workspace.place(true);
    let mut desired = workspace.desired()?;
    let mut machine = Machine::look(&place, cloud, args.replace, ui).await?;
    refuse_replacement(&machine, args.replace)?;
    let mut names = Names::survey(&workspace.config, &machine.target(), ui).await?;
    desired.set_volume(machine.volume_device());
    desired.set_addresses(machine.target().addresses());
    desired.set_names_move(!names.is_settled());
    let mut made = 0;
    let mut agreed = None;
    let mut copy = None;
    if !machine.is_settled() || !names.is_settled() {
        let (plan, session) = whole_plan(&mut machine, &names, &desired, &workspace.folder, ui).await?;
        ui.plan(&plan, ui.is_json() || ui.verbose());
        warn_of_secrets(&machine, desired.config(), ui);
        if !ui.confirm("Apply this?")? {
            return Err(Failure::failed("nothing was changed"));
        }
        if let Some(session) = session {
            if machine.destroys() {
                let saved = backup::fetch(&session, &workspace.folder, desired.config(), ui).await?;
                ui.note(&format!("saved: {}", saved.text()));
                copy = Some(saved);
            }
            session.close().await;
        }
        made = machine.changes().count() + names.changes().len();
        let rest = plan.changes.into_iter().skip(made).collect();
        agreed = Some(Plan { changes: rest });
        names.prepare_move(ui).await?;
        machine.carry_out(ui).await?;
        names.apply(&workspace.config, &machine.target(), ui).await?;
        desired.set_volume(machine.volume_device());
        desired.set_addresses(machine.target().addresses());
    }
    let session = machine.login(ui).await?;
    let mut outcome =
        engine::up(&session, &desired, &workspace.folder, agreed.as_ref(), !args.no_wait, ui).await?;
    outcome.changes += made;
    if let Some(copy) = copy {
        bring_back(&session, desired.config(), &copy, outcome.live, ui).await?;
    }
    names.wait(ui).await?;
    certificate_too(&session, &mut desired, &workspace.folder, &names, &mut outcome, ui).await?;
    session.close().await;
    if made > 0 || outcome.is_news() || args.wait_dns {
        names::by_hand(desired.config(), &machine.target(), args.wait_dns, ui).await?;
    }
    let address = machine.found().reachable_at().map(|address| address.to_string()).unwrap_or_default();
    done(desired.config(), &outcome, &address, ui)
}

/// What changes in the cloud, in the DNS and on the server, as far as the server can be asked or foretold.
pub(super) async fn whole_plan<C: Cloud>(
    machine: &mut Machine<'_, C>,
    names: &Names,
    desired: &Desired,
    project: &Path,
    ui: &Arc<Ui>,
) -> Result<(Plan, Option<Session>), Failure> {
    let mut plan = Plan { changes: machine.changes().cloned().collect() };
    plan.changes.extend(names.changes());
    if let Some(host) = machine.expected_host() {
        plan.changes.extend(desired.plan_for_new(host)?.changes);
    }
    if !machine.answers() {
        return Ok((plan, None));
    }
    let session = machine.login(ui).await?;
    if !machine.destroys() {
        ui.working("looking at the server");
        let facts = engine::probe(&session, &desired.asks()?).await?;
        let mut planned = desired.plan(&facts)?;
        engine::preview(&session, desired, project, &facts, &mut planned).await?;
        plan.changes.extend(planned.plan.changes);
    }
    Ok((plan, Some(session)))
}

fn refuse_replacement<C: Cloud>(machine: &Machine<'_, C>, allowed: bool) -> Result<(), Failure> {
    if allowed || machine.replaces().is_empty() {
        return Ok(());
    }
    Err(Failure::input("this would replace the server, since it can't change in place")
        .detail(machine.replaces().join("\n"))
        .hint("`ship up --replace` makes another one and moves database and media to it")
        .hint("or put ship.yml back as it was"))
}

fn warn_of_secrets<C: Cloud>(machine: &Machine<'_, C>, config: &Config, ui: &Ui) {
    if machine.found().server.is_none() && !config.secrets.is_empty() {
        ui.warn(&format!(
            "{} can be set once the server is there; `ship up` will stop and say so",
            config.secrets.join(", ")
        ));
    }
}

/// Puts the data of the server that was replaced on the new one.
async fn bring_back(
    session: &Session,
    config: &Config,
    copy: &backup::Copy,
    live: Option<u32>,
    ui: &Ui,
) -> Result<(), Failure> {
    let with_copy = |failure: Failure| failure.hint(format!("the data is in {}", copy.folder.display()));
    backup::restore(session, config, copy, ui).await.map_err(with_copy)?;
    if copy.database.is_some() {
        ui.working("migrating the restored database");
        let words = ["python", "manage.py", "migrate", "--noinput"].map(String::from);
        let output = session.exec(&run_script(config, &words), bytes::Bytes::new()).await?;
        if !output.success() {
            return Err(with_copy(
                Failure::failed("the restored database does not migrate").detail(output.stderr_text()),
            ));
        }
        let restart = crate::shell::Script::new()
            .set("unit", format!("{}@v{}.service", config.app, live.unwrap_or(0)))
            .line("systemctl try-restart -- \"$unit\"");
        session.exec(&restart, bytes::Bytes::new()).await?;
    }
    ui.note("database and media of the old server are on the new one");
    Ok(())
}

/// Where a browser finds the site. `address` is the server's, for a site without names of its own.
pub fn url(config: &Config, address: &str, https: bool) -> String {
    let scheme = if https { "https" } else { "http" };
    format!("{scheme}://{}/", config.domains.first().map_or(address, String::as_str))
}
