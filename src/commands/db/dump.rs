//! `ship db dump`: a dump of the database on this computer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::backup::stamp;
use crate::cloud::Owner;
use crate::config::{Config, Database};
use crate::error::Failure;
use crate::human::bytes;
use crate::ui::Ui;

use super::super::Workspace;
use super::must_be_here;
use super::spool::{self, Line};

/// Dumps, fetches, compares.
pub(super) async fn run(
    workspace: &Workspace,
    to: Option<&str>,
    anonymise: Option<&Path>,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    must_be_here(&workspace.config)?;
    let (of, script) = spool::read_script(anonymise)?;
    let mut line = Line::new(workspace, ui);
    if to == Some("-") {
        let spooled = spool::make(&mut line, of, script).await?;
        spool::fetch(&mut line, &spooled, 0, Sha256::new(), &mut std::io::stdout()).await?;
        line.close().await;
        return Ok(ExitCode::SUCCESS);
    }
    let file = to.map_or_else(|| usual_name(&workspace.config), PathBuf::from);
    let spooled = spool::into_file(&mut line, &file, of, script).await?;
    line.close().await;
    let value = json!({"file": file, "bytes": spooled.bytes, "sha256": spooled.sha256});
    ui.done(&format!("{} ({}), its checksum compared", file.display(), bytes(spooled.bytes)), &value);
    Ok(ExitCode::SUCCESS)
}

/// A name with the site's, and the time.
pub(super) fn usual_name(config: &Config) -> PathBuf {
    let end = match config.database {
        Database::Sqlite => "sqlite3",
        Database::Mysql => "sql.gz",
        Database::Postgres | Database::External => "dump",
    };
    PathBuf::from(format!("{}-{}.{end}", Owner::of(config).host_name(), stamp()))
}
