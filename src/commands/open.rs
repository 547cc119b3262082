//! `ship open`: the site in a browser.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use serde_json::json;

use crate::cli::Open;
use crate::engine;
use crate::error::Failure;
use crate::facts::Ask;
use crate::tls;
use crate::ui::Ui;

use super::{Workspace, up};

/// Opens it where there is a browser; prints where it is in any case.
pub async fn run(workspace: Workspace, args: &Open, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let config = &workspace.config;
    let (session, address) = workspace.connect(false, ui).await?;
    let asks: BTreeSet<Ask> = tls::question(config, &[], false).map(Ask::Certificate).into_iter().collect();
    let facts = engine::probe(&session, &asks).await?;
    session.close().await;
    ui.idle();
    let site = up::url(config, &address, tls::look(config, &[], &facts.certificate, None).is_served());
    let url = format!("{}/{}", site.trim_end_matches('/'), args.path.trim_start_matches('/'));
    let opened = !ui.is_json() && opener().is_some_and(|words| start(&words, &url));
    ui.result_or_json(&url, &json!({ "url": url }));
    if !opened && !ui.is_json() {
        ui.note("there is no browser to open it in: set BROWSER to one");
    }
    Ok(ExitCode::SUCCESS)
}

/// What opens an address here, if anything does.
fn opener() -> Option<Vec<String>> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(browser) = set("BROWSER") {
        return Some(browser.split_whitespace().map(str::to_owned).collect());
    }
    if cfg!(target_os = "macos") {
        return Some(vec!["open".to_owned()]);
    }
    (set("DISPLAY").is_some() || set("WAYLAND_DISPLAY").is_some()).then(|| vec!["xdg-open".to_owned()])
}

fn start(words: &[String], url: &str) -> bool {
    let Some((program, rest)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(rest).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}
