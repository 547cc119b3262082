//! `ship releases`: what was released when, by whom, and what it is worth now.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cli::Releases;
use crate::engine;
use crate::error::Failure;
use crate::facts::Ask;
use crate::facts::app::{App, Dump};
use crate::human::{bytes, count, moment};
use crate::release::rollback::{State, state};
use crate::table::{Table, Tone};
use crate::ui::Ui;

use super::Workspace;

/// Asks once and prints.
pub async fn run(workspace: Workspace, args: &Releases, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    let asks = [Ask::App { app: workspace.config.app.clone(), tree: String::new() }].into_iter().collect();
    ui.working("looking at the server");
    let facts = engine::probe(&session, &asks).await?;
    session.close().await;
    ui.idle();
    let rows = rows(&facts.app);
    if rows.is_empty() && !ui.is_json() {
        ui.note("There is no release yet: `ship up` makes the first.");
        return Ok(ExitCode::SUCCESS);
    }
    let shown: Vec<&Row> = rows.iter().take(args.lines).collect();
    ui.result_or_json(&ui.table(&table(&shown)), &json!(shown));
    Ok(ExitCode::SUCCESS)
}

/// A release.
#[derive(Debug, serde::Serialize)]
struct Row {
    number: u32,
    state: State,
    at: Option<String>,
    who: Option<String>,
    commit: Option<String>,
    branch: Option<String>,
    dirty: bool,
    what: String,
    migrations: Vec<String>,
    dump: Option<Dump>,
    /// Why it failed.
    reason: Option<String>,
}

/// All that is known of, the newest first.
fn rows(app: &App) -> Vec<Row> {
    let numbers: BTreeSet<u32> =
        app.releases.iter().map(|record| record.number).chain(app.builds.keys().copied()).collect();
    numbers.into_iter().rev().map(|number| row(app, number)).collect()
}

fn row(app: &App, number: u32) -> Row {
    let build = app.builds.get(&number);
    let recorded = app.releases.iter().rev().find(|record| record.number == number);
    let record = recorded.or_else(|| build?.record.as_ref());
    let failed = build.and_then(|build| build.failed.as_ref());
    let unfinished = recorded.is_none() && failed.is_none();
    let applied = || build.map(|build| build.applied.clone()).unwrap_or_default();
    Row {
        number,
        state: state(app, number),
        at: failed.map(|failed| failed.at.clone()).or(record.map(|record| record.at.clone())),
        who: record.map(|record| record.who.clone()),
        commit: record.and_then(|record| record.commit.clone()),
        branch: record.and_then(|record| record.branch.clone()),
        dirty: record.is_some_and(|record| record.dirty),
        what: record.map(|record| record.what.clone()).unwrap_or_default(),
        migrations: recorded.map_or_else(applied, |record| record.migrations.clone()),
        dump: build.and_then(|build| build.dump.clone()),
        reason: failed
            .map(|failed| failed.reason.clone())
            .or_else(|| unfinished.then(|| "not finished".into())),
    }
}

fn table(rows: &[&Row]) -> Table {
    let mut table = Table::new(&["", "state", "when", "who", "commit", "what", "migrations"])
        .whole(&["", "state", "when", "commit"])
        .spare(&["who", "commit", "migrations"]);
    for row in rows {
        let tone = match row.state {
            State::Live => Tone::Good,
            State::Bad | State::Failed => Tone::Bad,
            State::Good => Tone::Plain,
            State::Gone => Tone::Dim,
        };
        table.row(tone, cells(row));
    }
    table
}

fn cells(row: &Row) -> [String; 7] {
    let commit = match (&row.commit, row.dirty) {
        (Some(commit), true) => format!("{commit}+"),
        (Some(commit), false) => commit.clone(),
        (None, _) => "-".into(),
    };
    let mut migrations = match row.migrations.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one}, {two}"),
        [.., last] => format!("{}, to {last}", count(row.migrations.len(), "migration")),
    };
    if let Some(dump) = &row.dump {
        let _ = write!(migrations, " (dump {})", bytes(dump.bytes));
    }
    let what = match &row.reason {
        Some(reason) => format!("{}; {}", row.what, reason.chars().take(60).collect::<String>()),
        None => row.what.clone(),
    };
    let at = row.at.as_deref().filter(|at| !at.is_empty()).unwrap_or("-");
    [
        format!("v{}", row.number),
        row.state.word().into(),
        moment(at),
        row.who.clone().unwrap_or_else(|| "-".into()),
        commit,
        what,
        migrations.trim_start().into(),
    ]
}
