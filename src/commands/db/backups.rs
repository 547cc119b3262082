//! `ship db backups`: what is kept, and what keeps it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::backup;
use crate::cli::BackupsAction;
use crate::cloud::Owner;
use crate::error::{Exit, Failure};
use crate::human::{bytes, moment};
use crate::playbook::envfile;
use crate::release::backups::{self, BUCKET_KEYS, OWN_KEY};
use crate::table::{Table, Tone};
use crate::transport::Exec;
use crate::ui::Ui;

use super::super::Workspace;
use super::super::config::read_pair;
use super::spool::{self, Line};

/// Does what is asked.
pub(super) async fn run(
    workspace: &Workspace,
    action: Option<BackupsAction>,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    match action {
        None | Some(BackupsAction::List) => list(workspace, ui).await,
        Some(BackupsAction::Now) => start(workspace, "backup", ui).await,
        Some(BackupsAction::Drill) => start(workspace, "drill", ui).await,
        Some(BackupsAction::Fetch { id, to }) => fetch(workspace, &id, to, ui).await,
        Some(BackupsAction::Key) => key(workspace, ui).await,
        Some(BackupsAction::Set { pairs }) => set(workspace, &pairs, ui).await,
    }
}

fn no_backups() -> Failure {
    Failure::failed("the server takes no backups yet")
        .hint("`backups: {at: \"03:30\", to: s3://my-backups}` in ship.yml, then `ship up`")
}

/// A backup as restic lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Snapshot {
    short_id: String,
    time: String,
}

/// A backup, or a dump on the server.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Kept {
    name: String,
    at: String,
    what: &'static str,
    bytes: Option<u64>,
}

/// Reads what [`backups::list_script`] printed, the newest first.
fn read(text: &str) -> Result<Vec<Kept>, serde_json::Error> {
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(kept) = line.strip_prefix("kept\t") {
            let fields: Vec<&str> = kept.split('\t').collect();
            let [name, bytes, at] = fields.as_slice() else { continue };
            let what =
                if name.starts_with('v') { "dump before its migrations" } else { "dump before a restore" };
            found.push(Kept { name: (*name).into(), at: (*at).into(), what, bytes: bytes.parse().ok() });
        } else if line.starts_with(['[', 'n']) {
            let snapshots: Option<Vec<Snapshot>> = serde_json::from_str(line)?;
            found.extend(snapshots.into_iter().flatten().map(|Snapshot { short_id, time }| {
                let at = time.get(..19).map_or(time.clone(), |second| format!("{second}Z"));
                // restic writes the server's own time zone.
                let at = time
                    .parse::<jiff::Timestamp>()
                    .map_or(at, |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
                Kept { name: short_id, at, what: "backup", bytes: None }
            }));
        }
    }
    found.sort_by(|a, b| b.at.cmp(&a.at));
    Ok(found)
}

async fn list(workspace: &Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    ui.working("looking at the backups");
    let script = backups::list_script(&workspace.config);
    let output = session.exec(&script, Bytes::new()).await?;
    session.close().await;
    if !output.success() {
        return Err(Failure::failed("the backups can't be listed").detail(output.stderr_text()));
    }
    let said = output.stdout_text();
    if let Some(why) = said.lines().find_map(|line| line.strip_prefix("unlisted\t")) {
        ui.warn(&format!("the backups are out of reach: {why}"));
    }
    let kept =
        read(&said).map_err(|error| Failure::failed(format!("restic's list can't be read: {error}")))?;
    if kept.is_empty() && !ui.is_json() {
        ui.result("no backup yet, and no dump");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["name", "when", "what", "size"]);
    for one in &kept {
        let size = one.bytes.map(bytes).unwrap_or_default();
        table.row(Tone::Plain, [one.name.clone(), moment(&one.at), one.what.to_owned(), size]);
    }
    ui.result_or_json(&ui.table(&table), &json!(kept));
    Ok(ExitCode::SUCCESS)
}

async fn start(workspace: &Workspace, what: &str, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    ui.working(match what {
        "drill" => "restoring the newest backup for trial",
        _ => "taking a backup",
    });
    let output = session.exec(&backups::start_script(&workspace.config, what), Bytes::new()).await?;
    session.close().await;
    ui.idle();
    let said = output.stdout_text();
    match output.status {
        0 => {
            let text = said.lines().rfind(|line| line.starts_with("backup ")).unwrap_or("done");
            ui.done(text, &json!({"said": text}));
            Ok(ExitCode::SUCCESS)
        }
        44 => Err(no_backups()),
        _ => {
            let cause = said.lines().find_map(|line| line.strip_prefix("ship-cause: "));
            let failure = Failure::failed(format!("the {what} failed: {}", cause.unwrap_or("it broke off")));
            let failure = if cause.is_none() { failure.detail(said.clone()) } else { failure };
            Err(match cause {
                Some(cause) if cause.contains("keys of") => {
                    failure.hint("ship db backups set AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=@FILE")
                }
                Some(cause) if cause.contains("wrong password") => failure.hint(
                    "`ship db backups set BACKUP_KEY=@FILE` with the key of the server that they are from",
                ),
                Some(cause) if what == "drill" && cause.contains("damaged") => {
                    failure.hint("`ship doctor` says how to begin anew; older backups may be good")
                }
                Some(_) | None => failure,
            })
        }
    }
}

async fn fetch(
    workspace: &Workspace,
    id: &str,
    to: Option<PathBuf>,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let good = id == "latest" || (id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !good {
        return Err(Failure::input(format!("{id} is not a backup")).hint("`ship db backups` lists them"));
    }
    let in_project = to.is_none();
    let folder = to.unwrap_or_else(|| {
        let name = Owner::of(&workspace.config).host_name();
        backup::project_folder(&workspace.folder, &format!("{name}-{id}"))
    });
    if folder.exists() {
        return Err(Failure::input(format!("{} is there already", folder.display())));
    }
    let mut line = Line::new(workspace, ui);
    let name = spool::new_id();
    let script = backups::spool_backup(&workspace.config, &name, id);
    let doing = format!("fetching {id} onto the server");
    let spooled = spool::spool(
        &mut line,
        &name,
        &script,
        Bytes::new(),
        &doing,
        "the backup was not fetched",
        &no_backups,
    )
    .await?;
    let cant = |error: std::io::Error| Failure::failed(format!("can't write {}: {error}", folder.display()));
    backup::private_folder(&folder).map_err(cant)?;
    if in_project {
        backup::keep_out_of_git(&folder).map_err(cant)?;
    }
    let archive = folder.join("archive.part");
    let mut out = std::fs::File::create(&archive).map_err(cant)?;
    spool::fetch(&mut line, &spooled, 0, Sha256::new(), &mut out).await?;
    line.close().await;
    std::fs::File::open(&archive).and_then(|file| tar::Archive::new(file).unpack(&folder)).map_err(cant)?;
    std::fs::remove_file(&archive).map_err(cant)?;
    ui.done(
        &format!("{id} is in {}: `ship db restore` takes the folder", folder.display()),
        &json!({"folder": folder}),
    );
    Ok(ExitCode::SUCCESS)
}

async fn key(workspace: &Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    let output = session.exec(&backups::key_script(&workspace.config), Bytes::new()).await?;
    session.close().await;
    match output.status {
        0 => {
            let key = output.stdout_text().trim().to_owned();
            ui.result_or_json(&key, &json!({"key": key}));
            Ok(ExitCode::SUCCESS)
        }
        44 => Err(no_backups()),
        _ => Err(Failure::failed("the key can't be read").detail(output.stderr_text())),
    }
}

async fn set(workspace: &Workspace, pairs: &[String], ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let (mut names, mut lines, mut own) = (Vec::new(), String::new(), String::new());
    for pair in pairs {
        let (name, value) = read_pair(pair)?;
        if name == OWN_KEY {
            let good = |c: char| c.is_ascii_graphic();
            if value.reveal().is_empty() || !value.reveal().chars().all(good) {
                return Err(Failure::input(format!(
                    "{OWN_KEY} is not a key: `ship db backups key` prints one"
                )));
            }
            own = value.reveal().to_owned();
            continue;
        }
        let Some(known) = BUCKET_KEYS.iter().find(|known| **known == name) else {
            return Err(Failure::new(Exit::Input, format!("{name} is nothing that backups know")).hint(
                format!(
                    "there are {} and {OWN_KEY}; what the site itself reads is set by `ship config set`",
                    BUCKET_KEYS.join(", ")
                ),
            ));
        };
        lines.push_str(&format!("{name}={}\n", envfile(value.reveal())));
        names.push(*known);
    }
    let script = backups::set_script(&workspace.config, &names, lines.len(), own.len());
    let session = workspace.connect(true, ui).await?.0;
    let stdin = Bytes::from(format!("{lines}{own}"));
    let output = session.run(Exec::as_root(&script).stdin(crate::transport::Stdin::Bytes(stdin))).await?;
    session.close().await;
    if !output.success() {
        return Err(Failure::failed("the keys can't be kept on the server").detail(output.stderr_text()));
    }
    ui.done("kept on the server, out of the site's reach", &json!({"set": pairs.len()}));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_and_dumps_are_one_list() {
        let said = "kept\tv3\t53166\t2026-01-02T00:00:00Z\nkept\tbefore-restore-20260103T000000Z\t7\t2026-01-03T00:00:00Z\n\
                    [{\"time\":\"2026-01-02T05:30:00.123456789+02:00\",\"tree\":\"x\",\"id\":\"1a2b3c4dffff\",\"short_id\":\"1a2b3c4d\"}]\n";
        let text = |text: &str| {
            read(text)
                .unwrap()
                .iter()
                .map(|one| format!("{} {} {}", one.name, one.at, one.what))
                .collect::<Vec<_>>()
                .join("\n")
        };
        insta::assert_snapshot!(text(said), @r"
        before-restore-20260103T000000Z 2026-01-03T00:00:00Z dump before a restore
        1a2b3c4d 2026-01-02T03:30:00Z backup
        v3 2026-01-02T00:00:00Z dump before its migrations
        ");
        assert_eq!((text(""), text("null\n"), text("[]\n")), Default::default());
    }
}
