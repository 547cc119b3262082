//! `ship db`: the site's database. One file a verb; `spool` is how dumps travel.

mod backups;
mod dump;
mod import;
mod psql;
mod pull;
mod push;
mod restore;
mod spool;

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{Db as Args, DbAction, Global};
use crate::config::{Config, Database};
use crate::error::Failure;
use crate::ui::Ui;

use super::Workspace;

pub(super) use restore::restore_file;

/// Does what is asked.
pub async fn run(
    global: &Global,
    workspace: Workspace,
    args: Args,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    match args.action {
        DbAction::Psql { command } => psql::run(&workspace, command.as_deref(), ui).await,
        DbAction::Dump { to, anonymise } => {
            dump::run(&workspace, to.as_deref(), anonymise.as_deref(), ui).await
        }
        DbAction::Restore { what, confirm, no_media } => {
            restore::run(workspace, &what, confirm.as_deref(), !no_media, ui).await
        }
        DbAction::Backups(args) => backups::run(&workspace, args.action, ui).await,
        DbAction::Pull { to, anonymise } => {
            pull::run(&workspace, to.as_deref(), anonymise.as_deref(), ui).await
        }
        DbAction::Push { to, anonymise, confirm } => {
            push::run(global, &workspace, &to, anonymise.as_deref(), confirm.as_deref(), ui).await
        }
        DbAction::Import { file, replace } => import::import(&workspace, &file, replace, ui).await,
    }
}

/// What is elsewhere is dumped and restored with that place's own tools.
fn must_be_here(config: &Config) -> Result<(), Failure> {
    match config.database {
        Database::Postgres | Database::Sqlite | Database::Mysql => Ok(()),
        Database::External => Err(Failure::input("`database` is external: it is not on the server")
            .hint("use its provider's own tools, with the DATABASE_URL of `ship config --reveal`")),
    }
}

/// What is lost for good takes the app's name, or --yes.
fn agree(app: &str, confirm: Option<&str>, ui: &Ui) -> Result<(), Failure> {
    match confirm {
        Some(typed) if typed == app => Ok(()),
        Some(typed) => Err(Failure::input(format!("--confirm {typed} is not {app}: nothing was changed"))),
        None if ui.yes() => Ok(()),
        None if ui.confirm_by_name(app)? => Ok(()),
        None => Err(Failure::failed("nothing was changed")),
    }
}
