//! `ship db psql`: the database's own client, as the site.

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Config, Database};
use crate::error::Failure;
use crate::shell::Script;
use crate::transport::{Exec, Flow, Stdin, Stream};
use crate::ui::Ui;

use super::super::ssh::pty;
use super::super::{Workspace, exit_code};

/// Opens it and passes its exit code on.
pub(super) async fn run(
    workspace: &Workspace,
    command: Option<&str>,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    ui.idle();
    let status = match command {
        // What is said may be secret: it travels on stdin.
        Some(command) => {
            use std::io::Write as _;
            let mut show = |stream: Stream, piece: &[u8]| {
                let written = match stream {
                    Stream::Out => std::io::stdout().lock().write_all(piece),
                    Stream::Err => std::io::stderr().lock().write_all(piece),
                };
                if written.is_ok() { Flow::Continue } else { Flow::Stop }
            };
            let script = script(&workspace.config, false)?;
            let stdin = Stdin::Bytes(Bytes::from(format!("{command}\n;\n")));
            session.stream(Exec::as_root(&script).stdin(stdin), &mut show).await?.unwrap_or(0)
        }
        None => {
            let size = pty(true);
            let script = script(&workspace.config, size.is_some())?;
            session.interactive(&script, true, size).await?
        }
    };
    session.close().await;
    Ok(exit_code(status))
}

/// PostgreSQL's client comes in as its own user and is the site's role from the start, so that no password is needed.
fn script(config: &Config, terminal: bool) -> Result<Script, Failure> {
    let script = Script::from_text("set -eu\ncd /").set("app", &config.app);
    match config.database {
        Database::Postgres => Ok(script
            .line("command -v psql >/dev/null || { echo \"$app has no database yet: ship up\" >&2; exit 1; }")
            .line("export PGOPTIONS=\"-c role=$app\" PGAPPNAME='ship db psql'")
            .line(&format!(
                "exec runuser -u postgres -- env HOME=/var/lib/postgresql PSQL_HISTORY=/dev/null psql -d \"$app\"{}",
                if terminal { "" } else { " -X -q -v ON_ERROR_STOP=1 -f -" }
            ))),
        Database::Sqlite => Ok(script
            .line("command -v sqlite3 >/dev/null || { echo 'the server has no sqlite3: ship ssh -- sudo apt-get install sqlite3' >&2; exit 1; }")
            .line("exec runuser -u \"$app\" -- sqlite3 \"/srv/$app/shared/database/db.sqlite3\"")),
        Database::Mysql => Ok(script
            .line("command -v mariadb >/dev/null || { echo \"$app has no database yet: ship up\" >&2; exit 1; }")
            .line("exec mariadb \"$app\"")),
        Database::External => Err(Failure::input("`database` is external: it is not on the server")
            .hint("`ship manage dbshell` talks to it, if the server has its client")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psql_is_the_sites_role() {
        let mut config = crate::release::tests::config("");
        let text = script(&config, false).unwrap().text().to_owned();
        assert!(text.contains("PGOPTIONS=\"-c role=$app\"") && text.contains("-f -"), "{text}");
        config.database = Database::External;
        assert!(script(&config, true).is_err());
    }
}
