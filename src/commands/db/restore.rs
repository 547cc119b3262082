//! `ship db restore`: a dump, a copy or a backup in the place of the database.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::engine;
use crate::error::Failure;
use crate::facts::app::App;
use crate::release::database::{Restore, Source, file_name};
use crate::ui::Ui;

use super::super::Workspace;
use super::spool::{self, Line};
use super::{agree, must_be_here};

/// What is to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// Files here: a dump, and an archive of media.
    Files { database: Option<PathBuf>, media: Option<PathBuf> },
    /// A dump on the server.
    Kept(String),
    /// A backup.
    Backup(String),
}

/// Asks, sends, restores.
pub(super) async fn run(
    workspace: Workspace,
    what: &str,
    confirm: Option<&str>,
    media: bool,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let wanted = wanted(what, Path::new(what), file_name(workspace.config.database))?;
    restore(workspace, wanted, what, confirm, media, ui).await
}

/// The same for a file, for other commands.
pub(in super::super) async fn restore_file(
    workspace: Workspace,
    file: &Path,
    confirm: Option<&str>,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let wanted = Wanted::Files { database: Some(file.to_path_buf()), media: None };
    restore(workspace, wanted, &file.display().to_string(), confirm, false, ui).await
}

async fn restore(
    workspace: Workspace,
    wanted: Wanted,
    what: &str,
    confirm: Option<&str>,
    media: bool,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    must_be_here(&workspace.config)?;
    let app = workspace.config.app.clone();
    ui.note(&format!("{what} takes the place of {app}'s database: what it holds now is dumped first"));
    agree(&app, confirm, ui)?;
    let spool = spool::new_id();
    let stamp = format!("before-restore-{}", crate::backup::stamp());
    let mut database = true;
    let source = match &wanted {
        Wanted::Files { database: dump, media: archive } => {
            database = dump.is_some();
            let mut line = Line::new(&workspace, ui);
            if let Some(dump) = dump {
                spool::send(&mut line, &spool, dump, "database").await?;
            }
            if let (Some(archive), true) = (archive, media) {
                spool::send(&mut line, &spool, archive, "media.tar.gz").await?;
            }
            line.close().await;
            Source::Spool
        }
        Wanted::Kept(name) => Source::Kept(format!("/var/backups/ship/{app}/{name}.dump")),
        Wanted::Backup(id) => Source::Backup(id.clone()),
    };
    let session = workspace.connect(true, ui).await?.0;
    let (folder, desired) = workspace.without_source()?;
    let media = media && !matches!(wanted, Wanted::Kept(_));
    let changes = |app: &App| {
        let live = app.current.is_some();
        let (config, source) = (desired.config(), source.clone());
        Ok(Restore { config, live, spool: &spool, source, shown: what, database, media, stamp: &stamp }
            .changes())
    };
    engine::change_database(&session, &desired, &folder, &changes, ui).await?;
    session.close().await;
    ui.done(&format!("{app} has the data of {what}"), &json!({"restored": what, "before": stamp}));
    Ok(ExitCode::SUCCESS)
}

/// A path counts first; a folder is a copy with files of the names that ship gives.
fn wanted(what: &str, path: &Path, database: &str) -> Result<Wanted, Failure> {
    if path.is_dir() {
        let file = |name: &str| Some(path.join(name)).filter(|path| path.is_file());
        let found = Wanted::Files { database: file(database), media: file("media.tar.gz") };
        return match &found {
            Wanted::Files { database: None, media: None } => {
                Err(Failure::input(format!("{what} has neither {database} nor media.tar.gz"))
                    .hint("`ship destroy` and `ship db backups fetch` leave such folders"))
            }
            Wanted::Files { .. } | Wanted::Kept(_) | Wanted::Backup(_) => Ok(found),
        };
    }
    if path.exists() {
        return Ok(Wanted::Files { database: Some(path.to_path_buf()), media: None });
    }
    let release = what
        .strip_prefix('v')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    let before = what
        .strip_prefix("before-restore-")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if release || before {
        return Ok(Wanted::Kept(what.to_owned()));
    }
    let id = what.len() >= 8 && what.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    if id || what == "latest" {
        return Ok(Wanted::Backup(what.to_owned()));
    }
    Err(Failure::input(format!("{what} is neither a file here nor the name of a backup"))
        .hint("`ship db backups` lists them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_follows_from_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| {
            wanted(name, &folder.path().join(name), "database.dump").map_err(|failure| failure.message)
        };
        assert_eq!(of("v7"), Ok(Wanted::Kept("v7".into())));
        assert_eq!(
            of("before-restore-20260101T000000Z"),
            Ok(Wanted::Kept("before-restore-20260101T000000Z".into()))
        );
        assert!(of("before-restore-../../etc").is_err());
        assert_eq!(of("latest"), Ok(Wanted::Backup("latest".into())));
        assert_eq!(of("1a2b3c4d"), Ok(Wanted::Backup("1a2b3c4d".into())));
        assert!(of("nothing.dump").unwrap_err().contains("neither a file here nor"));
        std::fs::create_dir(folder.path().join("copy")).unwrap();
        assert!(of("copy").unwrap_err().contains("has neither database.dump nor"));
        let media = folder.path().join("copy/media.tar.gz");
        std::fs::write(&media, "").unwrap();
        assert_eq!(of("copy"), Ok(Wanted::Files { database: None, media: Some(media) }));
        std::fs::write(folder.path().join("v7"), "").unwrap();
        assert_eq!(of("v7"), Ok(Wanted::Files { database: Some(folder.path().join("v7")), media: None }));
    }
}
