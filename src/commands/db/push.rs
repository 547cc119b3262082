//! `ship db push`: the site's database in the place of another environment's.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::Global;
use crate::cloud::Owner;
use crate::error::Failure;
use crate::ui::Ui;

use super::super::Workspace;
use super::spool::{self, Line};
use super::{must_be_here, restore_file};

/// Fetches here what goes there, so that each server needs to know nothing of the other.
pub(super) async fn run(
    global: &Global,
    workspace: &Workspace,
    to: &str,
    anonymise: Option<&Path>,
    confirm: Option<&str>,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    must_be_here(&workspace.config)?;
    let environment = (to != "default").then(|| to.to_owned());
    let there = Global { dir: global.dir.clone(), file: global.file.clone(), environment, ..*global };
    let target = Workspace::open(&there)?;
    let (from, into) = (&workspace.config, &target.config);
    if Owner::of(from) == Owner::of(into) {
        return Err(Failure::input(format!("{} is where the data comes from", Owner::of(into))));
    }
    if (from.app == into.app) && from.server == into.server {
        return Err(Failure::input(format!("{to} is the same site on the same server"))
            .hint("two environments on one server need two names: `app` in each"));
    }
    if from.database != into.database {
        return Err(Failure::input(format!("{to} has another kind of database")));
    }
    must_be_here(into)?;
    let (of, script) = spool::read_script(anonymise)?;
    let folder =
        tempfile::tempdir().map_err(|error| Failure::failed(format!("can't make a folder: {error}")))?;
    let file = folder.path().join(Owner::of(from).host_name());
    let mut line = Line::new(workspace, ui);
    spool::into_file(&mut line, &file, of, script).await?;
    line.close().await;
    restore_file(target, &file, confirm, ui).await
}
