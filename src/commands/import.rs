//! `ship import heroku`: `ship.yml` from the project's files and Heroku's config, secrets to the server, data into its
//! database.

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cli::{Global, Heroku, Import, ImportFrom, Up};
use crate::config::{init, schema};
use crate::error::Failure;
use crate::heroku::{self, Imported};
use crate::human::count;
use crate::source;
use crate::ui::Ui;

use super::{Workspace, config, db, detect, folder, folder_name, up};

/// Brings it.
pub async fn run(global: &Global, args: Import, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    match args.from {
        ImportFrom::Heroku(args) => from_heroku(global, &args, ui).await,
    }
}

async fn from_heroku(global: &Global, args: &Heroku, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    if let Some(data) = args.data.as_ref().filter(|data| !data.is_file()) {
        return Err(Failure::input(format!("{} is no file", data.display())));
    }
    let folder = folder(global)?;
    let file = folder.join(&global.file);
    let paths = source::list(&folder)?;
    let project = detect(&folder, &paths);
    let entries = match &args.config {
        Some(from) => {
            let text = read(from)?;
            heroku::parse_config(&text)
                .map_err(|bad| Failure::input(format!("{from}:{}: {}", bad.line, bad.why)))?
        }
        None => Vec::new(),
    };
    let app_json = std::fs::read_to_string(folder.join("app.json")).unwrap_or_default();
    let in_git = project.app_json.clone().unwrap_or_default().env;
    let imported = heroku::sort(entries, &in_git, &heroku::addons(&app_json), args.keep_addons);
    let writes = args.force || !file.exists();
    if !writes && args.server.is_some() {
        return Err(Failure::input(format!(
            "{} is there already, and says itself where the site runs",
            global.file
        ))
        .hint("write it anew with --force"));
    }
    if writes {
        let written = init::render(&project, &folder_name(&folder));
        let text = heroku::ship_yml(&written, &imported, args.server.as_deref());
        let cant = |error: std::io::Error| Failure::failed(format!("can't write {}: {error}", global.file));
        std::fs::write(&file, text).map_err(cant)?;
        let own = folder.join(".ship");
        std::fs::create_dir_all(&own)
            .and_then(|()| std::fs::write(own.join("schema.json"), schema::json_schema()))
            .map_err(cant)?;
        ui.note(&format!("wrote {}", global.file));
    }
    tell(&imported, ui);
    if writes && args.server.is_none() {
        let rest = if imported.secrets.is_empty() && args.data.is_none() {
            "then run `ship up`"
        } else {
            "then run the same command again: it sets the secrets there, and restores the data"
        };
        ui.done(
            &format!("say in {} where the site runs (`server`), {rest}", global.file),
            &json!({"written": global.file}),
        );
        return Ok(ExitCode::SUCCESS);
    }
    // Whatever was written must be good before a secret leaves this computer.
    let workspace = Workspace::open(global)?;
    if !imported.secrets.is_empty() {
        let changes = imported.secrets.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        config::change(workspace, &changes.collect(), false, ui).await?;
    }
    let Some(data) = &args.data else {
        ui.note("`ship up` is next; `ship import heroku --data latest.dump` brings the data");
        return Ok(ExitCode::SUCCESS);
    };
    let first = Up { clean: false, replace: false, no_dump: false, no_wait: false, wait_dns: false };
    up::run(Workspace::open(global)?, &first, ui).await?;
    db::restore_file(Workspace::open(global)?, data, None, ui).await
}

fn read(from: &str) -> Result<String, Failure> {
    let cant = |error: std::io::Error| Failure::input(format!("can't read {from}: {error}"));
    if from == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(cant)?;
        return Ok(text);
    }
    std::fs::read_to_string(from).map_err(cant)
}

/// Says what comes along and what doesn't. Names only.
fn tell(imported: &Imported, ui: &Ui) {
    if !imported.secrets.is_empty() {
        let names: Vec<&str> = imported.secrets.keys().map(String::as_str).collect();
        ui.note(&format!("{}: {}", count(names.len(), "secret"), names.join(", ")));
    }
    let width = imported.left.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, why) in &imported.left {
        ui.note(&format!("left behind: {name:<width$}  {why}"));
    }
    for note in &imported.notes {
        ui.note(note);
    }
}
