//! `ship init`: looks at the project and writes `ship.yml`.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{Global, Init};
use crate::config::{init, schema};
use crate::error::Failure;
use crate::project::Project;
use crate::source;
use crate::ui::Ui;

use super::{detect, folder, folder_name};

/// Asks which of several sites it is about; without a terminal, that is an error that lists them. A folder without any is one too.
fn choose_root(project: &mut Project, ui: &Ui) -> Result<(), Failure> {
    if project.roots.len() < 2 {
        project.root(None)?;
        return Ok(());
    }
    if !ui.interactive() {
        return match project.root(None) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::from(error).hint("in a terminal, `ship init` asks which one it is")),
        };
    }
    let dirs: Vec<String> = project.roots.iter().map(|root| root.dir.clone()).collect();
    ui.note("The project has several manage.py, in");
    let chosen = ui.choose("Which one is to be deployed?", &dirs)?;
    let Some(dir) = chosen.and_then(|index| dirs.get(index)) else {
        return Err(Failure::input("none of them was chosen"));
    };
    project.prefer(dir);
    Ok(())
}

/// Writes the file, and the schema that editors complete it with.
pub fn run(global: &Global, args: &Init, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let folder = folder(global)?;
    let file = folder.join(&global.file);
    if file.exists() && !args.force {
        return Err(Failure::input(format!("{} is there already", global.file))
            .hint("edit it, or write it anew with --force"));
    }
    let paths = source::list(&folder)?;
    let mut project = detect(&folder, &paths);
    choose_root(&mut project, ui)?;
    let text = init::render(&project, &folder_name(&folder));
    let failed = |what: &str, error: std::io::Error| Failure::failed(format!("can't write {what}: {error}"));
    std::fs::write(&file, text).map_err(|error| failed(&global.file, error))?;
    let own = folder.join(".ship");
    std::fs::create_dir_all(&own)
        .and_then(|()| std::fs::write(own.join("schema.json"), schema::json_schema()))
        .map_err(|error| failed(".ship/schema.json", error))?;
    for finding in &project.findings {
        ui.note(&format!("  {:<44}  {}", finding.what, ui.dim(&finding.why)));
    }
    ui.result(&format!("Wrote {}. Look at it, then run `ship up`.", global.file));
    Ok(ExitCode::SUCCESS)
}
