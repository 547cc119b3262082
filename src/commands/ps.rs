//! `ship ps`: what runs of the site, with release, memory, CPU, restarts.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::apply::heredoc;
use crate::config::Config;
use crate::error::Failure;
use crate::human;
use crate::shell::Cmd;
use crate::table::{Table, Tone};
use crate::ui::Ui;

use super::Workspace;

/// What looks on the server.
const LOOK: &str = include_str!("../../templates/operate/ps.py");

/// Asks once and prints.
pub async fn run(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    let app = &workspace.config.app;
    ui.working("looking at the server");
    let look = Cmd::new("python3").arg("-I").arg("-").arg(app);
    let output = session.exec(&heredoc(look.text(), LOOK), Bytes::new()).await?;
    session.close().await;
    ui.idle();
    let seen: Seen = serde_json::from_slice(&output.stdout)
        .map_err(|_| Failure::failed("can't see what runs").detail(output.stderr_text()))?;
    let rows = rows(&workspace.config, &seen);
    if rows.is_empty() && !ui.is_json() {
        ui.note("Nothing runs yet: `ship up` makes the first release.");
        return Ok(ExitCode::SUCCESS);
    }
    ui.result_or_json(&ui.table(&table(&rows, seen.now)), &json!(rows));
    Ok(ExitCode::SUCCESS)
}

/// What the server said.
#[derive(Debug, Deserialize)]
struct Seen {
    current: Option<String>,
    now: f64,
    units: Vec<Unit>,
}

#[derive(Debug, Clone, Deserialize)]
struct Unit {
    unit: String,
    state: String,
    detail: String,
    result: String,
    restarts: u32,
    since: Option<f64>,
    next: Option<String>,
    processes: u32,
    memory: u64,
    cpu_percent: f64,
    cpu_seconds: f64,
}

/// A process of the site.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    process: String,
    /// `up`, `starting`, `ending`, `failed`, `waiting` (a job), `missing`.
    state: &'static str,
    release: Option<String>,
    unit: String,
    processes: u32,
    /// Bytes.
    memory: u64,
    cpu_percent: f64,
    cpu_seconds: f64,
    restarts: u32,
    /// Seconds since 1970.
    since: Option<f64>,
    /// When a job runs next.
    next: Option<String>,
    /// Why it failed.
    result: Option<String>,
}

/// The site's processes: web first, then the others by name, old releases last.
fn rows(config: &Config, seen: &Seen) -> Vec<Row> {
    let app = &config.app;
    let mut rows: Vec<Row> = seen.units.iter().filter_map(|unit| row(app, unit, seen)).collect();
    if let Some(current) = &seen.current {
        let names = std::iter::once("web").chain(config.workers.keys().map(String::as_str));
        for name in names {
            let there = rows.iter().any(|row| row.process == name && row.release.as_ref() == Some(current));
            if !there {
                rows.push(Row {
                    process: name.into(),
                    state: "missing",
                    release: Some(current.clone()),
                    unit: if name == "web" {
                        format!("{app}@{current}.service")
                    } else {
                        format!("{app}-{name}@{current}.service")
                    },
                    ..Row::none()
                });
            }
        }
    }
    let place = |row: &Row| {
        let kind = match (row.process.as_str(), row.unit.contains('@')) {
            ("web", _) => 0,
            (_, true) => 1,
            (_, false) => 2,
        };
        (row.state == "ending", kind, row.process.clone(), row.release.clone())
    };
    rows.sort_by_key(place);
    rows
}

impl Row {
    fn none() -> Self {
        Self {
            process: String::new(),
            state: "missing",
            release: None,
            unit: String::new(),
            processes: 0,
            memory: 0,
            cpu_percent: 0.0,
            cpu_seconds: 0.0,
            restarts: 0,
            since: None,
            next: None,
            result: None,
        }
    }
}

fn row(app: &str, unit: &Unit, seen: &Seen) -> Option<Row> {
    let name = unit.unit.strip_prefix(app)?;
    let (process, release) = match name.strip_suffix(".service") {
        Some(name) => match name.split_once('@') {
            Some(("", release)) => ("web", Some(release)),
            Some((worker, release)) => (worker.strip_prefix('-')?, Some(release)),
            None => (name.strip_prefix('-')?, None),
        },
        None => (name.strip_suffix(".timer")?.strip_prefix('-')?, None),
    };
    let timer = unit.unit.ends_with(".timer");
    let job = process.starts_with("job-");
    // A job that is not at work is its timer.
    if job && !timer && unit.state != "active" && unit.state != "activating" && unit.state != "failed" {
        return None;
    }
    let state = match (unit.state.as_str(), timer) {
        ("active", true) => "waiting",
        ("active" | "reloading", false) => "up",
        ("activating", _) if job => "up",
        ("activating", _) if unit.detail == "auto-restart" => "failing",
        ("activating", _) => "starting",
        ("deactivating", _) => "ending",
        ("failed", _) => "failed",
        _ if release.is_some() && release != seen.current.as_deref() => return None,
        _ => "stopped",
    };
    let process = process.strip_prefix("job-").unwrap_or(process);
    Some(Row {
        process: process.to_owned(),
        state,
        release: release.map(|release| release.split('.').next().unwrap_or(release).to_owned()),
        unit: unit.unit.clone(),
        processes: unit.processes,
        memory: unit.memory,
        cpu_percent: unit.cpu_percent,
        cpu_seconds: unit.cpu_seconds,
        restarts: unit.restarts,
        since: unit.since,
        next: unit.next.clone(),
        result: (unit.result != "success").then(|| unit.result.clone()),
    })
}

fn table(rows: &[Row], now: f64) -> Table {
    let mut table = Table::new(&[
        "process", "state", "release", "procs", "memory", "cpu", "cpu time", "restarts", "since",
    ])
    .whole(&["release", "procs", "memory", "cpu", "cpu time", "restarts", "since"])
    .spare(&["cpu time", "procs", "restarts", "cpu", "release"]);
    for row in rows {
        let tone = match row.state {
            "up" => Tone::Good,
            "failed" | "failing" | "missing" => Tone::Bad,
            "starting" | "stopped" => Tone::Odd,
            _ => Tone::Dim,
        };
        let runs = row.processes > 0;
        let some = |text: String| if runs { text } else { "-".to_owned() };
        let state = match &row.result {
            Some(result) => format!("{} ({result})", row.state),
            None => row.state.to_owned(),
        };
        let since = match (row.since, &row.next) {
            (_, Some(next)) => format!("next {next}"),
            (Some(since), None) => {
                human::duration(Duration::from_secs_f64((now - since).max(0.0))).to_string()
            }
            (None, None) => "-".to_owned(),
        };
        table.row(
            tone,
            [
                row.process.clone(),
                state,
                row.release.clone().unwrap_or_else(|| "-".into()),
                some(row.processes.to_string()),
                some(human::bytes(row.memory)),
                some(format!("{:.0} %", row.cpu_percent)),
                some(human::duration(Duration::from_secs_f64(row.cpu_seconds.max(0.0)))),
                row.restarts.to_string(),
                since,
            ],
        );
    }
    table
}
