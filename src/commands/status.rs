//! `ship status`: the server, its units, the live release.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::config::backups::Store;
use crate::engine;
use crate::error::Failure;
use crate::facts::Ask;
use crate::human::{bytes, count, moment};
use crate::release::instances;
use crate::release::processes::job_units;
use crate::release::protection;
use crate::tls;
use crate::ui::Ui;

use super::{Workspace, maintenance, release_name};

/// The units of the server itself that a site needs.
const SERVICES: [&str; 5] =
    ["nginx.service", "postgresql.service", "mariadb.service", "redis-server.service", "memcached.service"];

/// The timer of a job.
fn timer(app: &str, name: &str) -> String {
    let [timer, _] = job_units(app, name);
    timer
}

/// systemd's `Sat 2026-11-21 21:01:51 UTC` as the other times are shown.
fn since(text: &str) -> String {
    match text.split(' ').collect::<Vec<_>>().as_slice() {
        [_, day, time, "UTC"] => format!("{day} {time}Z"),
        _ => text.to_owned(),
    }
}

/// Asks once and prints.
pub async fn run(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let (session, address) = workspace.connect(false, ui).await?;
    let config = &workspace.config;
    let addresses = super::up::reached_at(config, &address).await;
    let asks = [
        Ask::Host,
        Ask::App { app: config.app.clone(), tree: String::new() },
        Ask::Unit(format!("{}.socket", config.app)),
    ]
    .into_iter()
    .chain(SERVICES.into_iter().map(|name| Ask::Unit(name.into())))
    .chain(config.backups.iter().map(|_| Ask::Backups(config.app.clone())))
    .chain(config.jobs.keys().map(|name| Ask::Unit(timer(&config.app, name))))
    .chain(tls::question(config, &addresses, true).map(Ask::Certificate))
    .chain([Ask::Path { path: maintenance::flag(&config.app), unless_sha256: None }])
    .collect();
    ui.working("looking at the server");
    let facts = engine::probe(&session, &asks).await?;
    session.close().await;
    ui.idle();

    let app = &facts.app;
    let host = &facts.host;
    // An own certificate is the one on the server here, whatever this computer has.
    let tls = tls::look(config, &addresses, &facts.certificate, None);
    let url = super::up::url(config, &address, tls.is_served());
    let away = facts.paths.contains_key(&maintenance::flag(&config.app));
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "{}{text}", ui.bold(&format!("{name:<11}")));
    };
    line("app", &format!("{} at {url}", config.app));
    if away {
        line(
            "",
            &ui.yellow("in maintenance: visitors are shown a page that says so (`ship maintenance off`)"),
        );
    }
    line("server", &format!("{address}, {}, {}", host.os_name, count(host.cores as usize, "core")));
    let of = |free: u64, all: u64| format!("{} free of {}", bytes(free << 20), bytes(all << 20));
    line("memory", &of(host.available_mb, host.memory_mb));
    let disk = of(host.free_mb, host.disk_mb);
    line("disk", &if host.is_short_of_disk() { ui.yellow(&disk) } else { disk });
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
                format!("v{}, {} by {}{commit}", record.number, moment(&record.at), record.who)
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
        let mut text = state.clone();
        if let Some(memory) = instance.memory {
            let _ = write!(text, "  {}", bytes(memory));
        }
        if !instance.since.is_empty() {
            let _ = write!(text, "  since {}", since(&instance.since));
        }
        if instance.restarts > 0 {
            let _ = write!(text, "  {} restarts", instance.restarts);
        }
        units.push((name, state == "active", text));
    }
    let socket = format!("{}.socket", config.app);
    for name in std::iter::once(socket.as_str()).chain(SERVICES) {
        let Some(unit) = facts.units.get(name).filter(|unit| unit.loaded) else { continue };
        units.push((name.into(), unit.active, unit.active_state.clone()));
    }
    for name in config.jobs.keys().map(|name| timer(&config.app, name)) {
        let unit = facts.units.get(&name).cloned().unwrap_or_default();
        let state = if unit.loaded { unit.active_state.as_str() } else { "not there yet" };
        units.push((name.clone(), unit.active, state.to_owned()));
    }
    let longest = units.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0);
    for (index, (name, good, text)) in units.iter().enumerate() {
        let text = format!("{name:<longest$}  {text}");
        line(if index == 0 { "units" } else { "" }, &if *good { text } else { ui.red(&text) });
    }
    let off = protection::switched_off(&config.hardening);
    let left = protection::left_out(config, host);
    let mut said = if off.is_empty() { "on".to_string() } else { format!("without {}", off.join(", ")) };
    if !left.is_empty() {
        let _ = write!(said, "; not on this server: {}", left.join(", "));
    }
    line("hardening", &said);
    line("HTTPS", &if tls.is_broken() { ui.red(&tls.line()) } else { tls.line() });
    for obstacle in tls.obstacles() {
        line("", &ui.yellow(&obstacle));
    }
    if let Some(backups) = &config.backups {
        let found = &facts.backups;
        for (index, text) in found.lines(&backups.store.text()).iter().enumerate() {
            line(if index == 0 { "backups" } else { "" }, text);
        }
        for one in found.complaints(&config.app, backups.drill.is_some(), backups.store != Store::Server) {
            line("", &ui.red(&format!("{}; {}", one.what, one.mend)));
        }
    }
    let dumps = app.builds.iter().filter_map(|(number, build)| Some((number, build.dump.as_ref()?)));
    line(
        if config.backups.is_some() { "dumps" } else { "backups" },
        &match dumps.clone().next_back() {
            Some((number, dump)) => format!(
                "{}, the newest of {} from before v{number} ({})",
                count(dumps.count(), "dump"),
                moment(&dump.at),
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
        "url": url,
        "maintenance": away,
        "certificate": tls.leaf.as_ref().map(|leaf| json!({
            "names": leaf.names,
            "issuer": leaf.issuer,
            "key": leaf.key,
            "until": leaf.not_after_s,
            "days_left": (leaf.not_after_s - tls.now_s).div_euclid(86_400),
            "served": tls.is_served(),
        })),
        "obstacles": tls.obstacles(),
        "host": host,
        "release": record,
        "current": app.current,
        "hardening": {"off": off, "left_out": left},
        "backups": app.builds.iter().filter_map(|(number, build)| Some(json!({"release": number, "dump": build.dump.as_ref()?}))).collect::<Vec<_>>(),
        "backup": config.backups.as_ref().map(|_| &facts.backups),
        "applying": app.applying.as_ref().map(ToString::to_string),
        "units": units.iter().map(|(name, good, _)| json!({"name": name, "active": good})).collect::<Vec<_>>(),
    });
    ui.result_or_json(&ui.out_wrapped(&out), &value);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_times_look_alike() {
        assert_eq!(since("Sat 2026-11-21 21:01:51 UTC"), "2026-11-21 21:01:51Z");
        assert_eq!(since("Sat 2026-11-21 22:01:51 CET"), "Sat 2026-11-21 22:01:51 CET");
        assert_eq!(moment("2026-11-21T21:01:51Z"), "2026-11-21 21:01:51Z");
    }
}
