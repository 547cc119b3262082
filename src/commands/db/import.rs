//! `ship db import`: a fixture or an SQLite database of before, read by the live release's own Django.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::apply::heredoc;
use crate::error::Failure;
use crate::human::count;
use crate::release::gates::{CAUSE, HINT};
use crate::shell::Script;
use crate::transport::{Exec, Stdin};
use crate::ui::Ui;

use super::Workspace;

/// Sends a file and lets the live release's own Django read it.
pub(super) async fn import(
    workspace: &Workspace,
    file: &Path,
    replace: bool,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let shown = file.display().to_string();
    let unreadable = |error: std::io::Error| Failure::input(format!("can't read {shown}: {error}"));
    let mut input = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let app = &workspace.config.app;
    if replace && !ui.confirm(&format!("Replace all that {app}'s database holds by {shown}?"))? {
        return Err(Failure::failed("nothing was changed"));
    }
    let session = workspace.connect(false, ui).await?.0;
    ui.working(&format!("importing {shown}"));
    let script = import_script(app, &workspace.config.django.suffix(), &name, replace);
    let output = session.run(Exec::as_root(&script).stdin(Stdin::Stream(&mut input))).await?;
    session.close().await;
    let said = output.stdout_text();
    let after =
        |beginning: &str| said.lines().filter_map(|line| line.strip_prefix(beginning)).collect::<Vec<_>>();
    if output.success() {
        let rows = after("ship-rows: ").first().and_then(|rows| rows.parse::<usize>().ok()).unwrap_or(0);
        let text = format!("{shown}: {app}'s database has {} now", count(rows, "row"));
        ui.done(&text, &json!({"rows": rows}));
        return Ok(ExitCode::SUCCESS);
    }
    let why = after(CAUSE).first().map_or_else(|| "the import failed".to_owned(), |why| (*why).to_owned());
    let failure = Failure::failed(format!("{shown} was not imported: {why}")).detail(output.stderr_text());
    Err(after(HINT).into_iter().fold(failure, Failure::hint))
}

/// The script that reads the file from stdin. What it keeps for a while, root and the site alone can read.
fn import_script(app: &str, root: &str, name: &str, replace: bool) -> Script {
    Script::from_text("set -eu\numask 077")
        .set("app", app)
        .set("root", root)
        .set("name", name)
        .set("mode", if replace { "replace" } else { "empty" })
        .line("release=$(readlink \"/srv/$app/current\") || { echo \"ship-cause: $app has no release yet\"; echo 'ship-hint: ship up'; exit 1; }")
        .line("n=${release##*/}")
        .line("tmp=$(mktemp -d -p /var/lib/ship)")
        .line("trap 'rm -rf \"$tmp\"' EXIT")
        .line("cat >\"$tmp/data\"")
        .then(&heredoc("cat >\"$tmp/import.py\"", IMPORT))
        .line("chown -R \"$app:$app\" \"$tmp\"")
        .line(
            "systemd-run --quiet --collect --wait --pipe --description=\"ship db import\" --service-type=exec \
             --property=User=\"$app\" --property=Group=\"$app\" --property=WorkingDirectory=\"/srv/$app/releases/$n$root\" \
             --property=EnvironmentFile=\"/etc/ship/$app/$n.env\" --property=UMask=0077 --setenv=TMPDIR=\"$tmp\" \
             -- \"/srv/$app/venvs/$n/bin/python\" \"$tmp/import.py\" \"$tmp/data\" \"$name\" \"$mode\" </dev/null",
        )
}

/// What the project's Django does with the file.
const IMPORT: &str = include_str!("../../../templates/django/import.py");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_a_word() {
        let script = import_script("site", "/src", "a b; $(x).json", true);
        assert!(script.text().contains("name='a b; $(x).json'\nmode=replace\n"), "{}", script.text());
    }
}
