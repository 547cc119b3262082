//! `ship logs`: the journal of the site's units, nginx and PostgreSQL.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::Logs;
use crate::config::Config;
use crate::error::Failure;
use crate::shell::{Cmd, Script};
use crate::transport::{Exec, Flow, Stream};
use crate::ui::Ui;

use super::{Workspace, exit_code};

/// Prints or follows.
pub async fn run(workspace: Workspace, args: &Logs, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let script = script(&workspace.config, args, ui.is_json())?;
    let session = workspace.connect(false, ui).await?.0;
    ui.idle();
    let mut write = |stream: Stream, piece: &[u8]| {
        use std::io::Write as _;
        let written = match stream {
            Stream::Out => std::io::stdout().write_all(piece).and_then(|()| std::io::stdout().flush()),
            Stream::Err => std::io::stderr().write_all(piece),
        };
        // A closed pipe is the reader's choice.
        if written.is_ok() { Flow::Continue } else { Flow::Stop }
    };
    let status = session.stream(Exec::as_root(&script), &mut write).await?;
    session.close().await;
    Ok(exit_code(status.unwrap_or(0)))
}

fn script(config: &Config, args: &Logs, json: bool) -> Result<Script, Failure> {
    let app = &config.app;
    let mut cmd =
        Cmd::new("journalctl").arg("--quiet").arg("--no-pager").arg("--lines").arg(args.lines.to_string());
    cmd = cmd.arg("--output").arg(if json { "json" } else { "short-iso" });
    if args.follow {
        cmd = cmd.arg("--follow");
    }
    if let Some(since) = &args.since {
        cmd = cmd.arg("--since").arg(since);
    }
    let workers = config.workers.keys().map(|name| format!("{app}-{name}@*.service"));
    let units: Vec<String> = match args.process.as_deref() {
        None => std::iter::once(format!("{app}@*.service")).chain(workers).collect(),
        Some("web") => vec![format!("{app}@*.service")],
        Some("postgres") => vec!["postgresql@*.service".into()],
        Some("nginx") => return Ok(nginx(app, args)),
        Some(name) if config.workers.contains_key(name) => vec![format!("{app}-{name}@*.service")],
        Some(name) => {
            let mut known = vec!["web", "nginx", "postgres"];
            known.extend(config.workers.keys().map(String::as_str));
            return Err(Failure::input(format!("there is no process `{name}`"))
                .hint(format!("there are {}", known.join(", "))));
        }
    };
    for unit in units {
        cmd = cmd.arg("--unit").arg(unit);
    }
    Ok(Script::new().line("export LC_ALL=C.UTF-8").line(&format!("exec {}", cmd.text())))
}

/// nginx writes files, not the journal.
fn nginx(app: &str, args: &Logs) -> Script {
    let mut cmd = Cmd::new("tail").arg("-q").arg("-n").arg(args.lines.to_string());
    if args.follow {
        cmd = cmd.arg("-F");
    }
    let files = [format!("/var/log/nginx/{app}.access.log"), format!("/var/log/nginx/{app}.error.log")];
    Script::new().line(&format!("exec {}", cmd.arg("--").args(files).text()))
}
