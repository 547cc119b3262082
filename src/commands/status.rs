//! `ship status`: the server, its units, the live release.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::engine;
use crate::error::Failure;
use crate::facts::Ask;
use crate::human::{bytes, count};
use crate::release::instances;
use crate::ui::Ui;

use super::{Workspace, release_name};

/// The units of the server itself that a site needs.
const SERVICES: [&str; 2] = ["nginx.service", "postgresql.service"];

/// Asks once and prints.
pub async fn run(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let (session, address) = workspace.connect(false, ui).await?;
    let config = &workspace.config;
    let asks = [
        Ask::App { app: config.app.clone(), tree: String::new() },
        Ask::Unit(format!("{}.socket", config.app)),
    ]
    .into_iter()
    .chain(SERVICES.into_iter().map(|name| Ask::Unit(name.into())))
    .collect();
    ui.working("looking at the server");
    let facts = engine::probe(&session, &asks).await?;
    session.close().await;
    ui.idle();

    let app = &facts.app;
    let host = &facts.host;
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "{}{text}", ui.bold(&format!("{name:<10}")));
    };
    line("app", &format!("{} at {}", config.app, super::up::url(config, &address)));
    line("server", &format!("{address}, {}, {}", host.os_name, count(host.cores as usize, "core")));
    let of = |free: u64, all: u64| format!("{} free of {}", bytes(free << 20), bytes(all << 20));
    line("memory", &of(host.available_mb, host.memory_mb));
    let disk = of(host.free_mb, host.disk_mb);
    line("disk", &if host.is_short_of_disk() { ui.red(&disk) } else { disk });
    if let (true, Some(free)) = (host.is_short_of_inodes(), host.free_inodes) {
        line("inodes", &ui.red(&format!("room for {free} more files only")));
    }
    let record = app.releases.iter().rev().find(|record| Some(record.number) == app.current);
    line(
        "release",
        &match record {
            None => release_name(app.current),
            Some(record) => {
                let commit = match (&record.commit, record.dirty) {
                    (Some(commit), true) => format!(", {commit} with uncommitted changes"),
                    (Some(commit), false) => format!(", {commit}"),
                    (None, _) => String::new(),
                };
                format!("v{}, {} by {}{commit}", record.number, record.at, record.who)
            }
        },
    );
    if let Some(running) = &app.applying {
        line("deploy", &ui.yellow(&running.to_string()));
    }
    let mut units = Vec::new();
    for name in app.current.map(|number| instances(config, number)).unwrap_or_default() {
        let instance = app.active.get(&name).cloned().unwrap_or_default();
        let state = if instance.state.is_empty() { "inactive".to_string() } else { instance.state.clone() };
        let mut text = format!("{name}  {state}");
        if let Some(memory) = instance.memory {
            let _ = write!(text, "  {}", bytes(memory));
        }
        if !instance.since.is_empty() {
            let _ = write!(text, "  since {}", instance.since);
        }
        if instance.restarts > 0 {
            let _ = write!(text, "  {} restarts", instance.restarts);
        }
        units.push((name, state == "active", text));
    }
    let socket = format!("{}.socket", config.app);
    for name in std::iter::once(socket.as_str()).chain(SERVICES) {
        let Some(unit) = facts.units.get(name).filter(|unit| unit.loaded) else { continue };
        units.push((name.into(), unit.active, format!("{name}  {}", unit.active_state)));
    }
    for (index, (_, good, text)) in units.iter().enumerate() {
        line(if index == 0 { "units" } else { "" }, &if *good { text.clone() } else { ui.red(text) });
    }
    line("HTTPS", "no certificate: the site is served over HTTP");
    let dumps = app.builds.iter().filter_map(|(number, build)| Some((number, build.dump.as_ref()?)));
    line(
        "backups",
        &match dumps.clone().next_back() {
            Some((number, dump)) => format!(
                "{}, the newest of {} from before v{number} ({})",
                count(dumps.count(), "dump"),
                dump.at,
                bytes(dump.bytes)
            ),
            None => "none: no release has migrated a database with anything in it".to_string(),
        },
    );
    if host.reboot_required {
        line("reboot", &ui.yellow("due: packages were updated that only a reboot activates"));
    }
    let value = json!({
        "app": config.app,
        "address": address,
        "url": super::up::url(config, &address),
        "host": host,
        "release": record,
        "current": app.current,
        "backups": app.builds.iter().filter_map(|(number, build)| Some(json!({"release": number, "dump": build.dump.as_ref()?}))).collect::<Vec<_>>(),
        "applying": app.applying.as_ref().map(ToString::to_string),
        "units": units.iter().map(|(name, good, _)| json!({"name": name, "active": good})).collect::<Vec<_>>(),
    });
    ui.result_or_json(&out, &value);
    Ok(ExitCode::SUCCESS)
}
