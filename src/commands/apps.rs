//! `ship apps`: what is on the server.

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::error::Failure;
use crate::human;
use crate::shell::Script;
use crate::table::{Table, Tone};
use crate::ui::Ui;

use super::Workspace;

/// Asks once and prints.
pub async fn run(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    ui.working("looking at the server");
    let output = session.exec(&Script::from_text(LOOK), Bytes::new()).await?;
    session.close().await;
    ui.idle();
    let apps: Vec<App> = output.stdout_text().lines().filter_map(App::read).collect();
    if apps.is_empty() && !ui.is_json() {
        ui.note("ship has put nothing on this server yet.");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["app", "release", "state", "port", "domains", "disk"]);
    for app in &apps {
        let own = if app.name == workspace.config.app { " *" } else { "" };
        let tone = match app.state.as_str() {
            "active" => Tone::Good,
            "failed" => Tone::Bad,
            _ => Tone::Odd,
        };
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        table.row(
            tone,
            [
                format!("{}{own}", app.name),
                or_none(&app.release),
                app.state.clone(),
                or_none(&app.port),
                if app.domains.is_empty() { "any".to_owned() } else { app.domains.join(", ") },
                human::bytes(app.disk),
            ],
        );
    }
    ui.result_or_json(&ui.table(&table), &json!(apps));
    Ok(ExitCode::SUCCESS)
}

/// An application.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct App {
    name: String,
    /// What is live.
    release: Option<String>,
    /// Of its site, as systemd says it.
    state: String,
    port: Option<String>,
    domains: Vec<String>,
    /// Bytes of its files and dumps; its database not counted.
    disk: u64,
}

/// Reads no more than what ship itself has written there.
const LOOK: &str = r#"for state in /var/lib/ship/*/; do
  app=$(basename "$state")
  [ -d "/srv/$app/releases" ] || [ -d "/etc/ship/$app" ] || continue
  release=$(readlink "/srv/$app/current" 2>/dev/null); release=${release##*/}
  active=$(systemctl is-active "$app@$release.service" 2>/dev/null)
  port=$(sed -n 's/^ListenStream=.*:\([0-9]*\)$/\1/p' "/etc/systemd/system/$app.socket" 2>/dev/null | head -n 1)
  domains=$(sed -n 's/^ *server_name \(.*\);$/\1/p' "/etc/nginx/sites-available/$app.conf" 2>/dev/null | tr ' ' '\n' | grep -vx '_' | sort -u | tr '\n' ' ')
  disk=$(du -skcx "/srv/$app" "/var/backups/ship/$app" "/var/cache/ship/$app" 2>/dev/null | tail -n 1 | cut -f1)
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$app" "$release" "$active" "$port" "$domains" "${disk:-0}"
done"#;

impl App {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(str::to_owned);
        let some = |text: String| (!text.is_empty()).then_some(text);
        let name = fields.next()?;
        let release = fields.next().and_then(some);
        let state = fields.next()?;
        let port = fields.next().and_then(some);
        let domains = fields.next()?.split_whitespace().map(str::to_owned).collect();
        let disk = fields.next()?.trim().parse::<u64>().ok()?.saturating_mul(1024);
        let state = if release.is_some() { state } else { "no release".to_owned() };
        Some(Self { name, release, state, port, domains, disk })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_application() {
        let app = App::read("library\tv7\tactive\t8000\texample.com www.example.com \t2048").unwrap();
        assert_eq!((app.name.as_str(), app.release.as_deref(), app.disk), ("library", Some("v7"), 2_097_152));
        assert_eq!(app.domains, ["example.com", "www.example.com"]);
        assert_eq!(App::read("shop\t\tinactive\t\t\t0").unwrap().state, "no release");
        assert_eq!(App::read("shop"), None);
    }
}
