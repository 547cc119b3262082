//! `ship scale`: how many of a process there are. ship.yml says it, so ship.yml is what changes; then it is deployed.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::cli::{Global, Scale, Up};
use crate::config::edit::{self, Value};
use crate::config::{Config, Worker};
use crate::engine;
use crate::error::{Exit, Failure};
use crate::table::{Table, Tone};
use crate::ui::Ui;

use super::{Workspace, up};

/// Shows what is there, or changes it.
pub async fn run(
    workspace: Workspace,
    global: &Global,
    args: &Scale,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    if args.wishes.is_empty() {
        show(&workspace.config, ui);
        return Ok(ExitCode::SUCCESS);
    }
    let file = workspace.folder.join(&global.file);
    let failed = |what: &str, error: std::io::Error| {
        Failure::failed(format!("can't {what} {}: {error}", file.display()))
    };
    let old = std::fs::read_to_string(&file).map_err(|error| failed("read", error))?;
    let mut new = old.clone();
    for wish in &args.wishes {
        new = changed(&new, &workspace.config, wish)?;
    }
    if new == old {
        ui.done("ship.yml says so already", &json!({"changed": false}));
        return Ok(ExitCode::SUCCESS);
    }
    // Whatever else differs would go live along with it.
    let session = workspace.connect(true, ui).await?.0;
    let desired = workspace.desired()?;
    ui.working("looking at the server");
    let facts = engine::probe(&session, &desired.asks()?).await?;
    session.close().await;
    let pending = desired.plan(&facts)?;
    if !pending.plan.is_empty() {
        ui.plan(&pending.plan, ui.is_json());
        ui.warn("this is not live yet, and would be deployed along with it");
        if !ui.confirm("Deploy this as well?")? {
            return Err(Failure::failed("nothing was changed"));
        }
    }
    std::fs::write(&file, &new).map_err(|error| failed("write", error))?;
    ui.note(&format!("{}: {}", global.file, args.wishes.join(" ")));
    let done = match Workspace::open(global) {
        Ok(workspace) => up::run(workspace, &Up::default(), ui).await,
        Err(failure) => Err(failure),
    };
    done.map_err(|failure| match failure.exit {
        Exit::Failed | Exit::Input => match std::fs::write(&file, &old) {
            Ok(()) => failure.hint(format!("{} is as it was", global.file)),
            Err(error) => {
                failure.hint(format!("{} says {} now: {error}", global.file, args.wishes.join(" ")))
            }
        },
        Exit::Changes | Exit::Unreachable | Exit::Interrupted => failure,
    })
}

fn show(config: &Config, ui: &Ui) {
    let mut table = Table::new(&["process", "number", "command"]);
    let web = config.web.workers.map_or_else(|| "auto".to_owned(), |number| number.to_string());
    table.row(Tone::Plain, ["web".to_owned(), web.clone(), config.web.serving.name().to_owned()]);
    let mut value = serde_json::Map::from_iter([("web".to_owned(), json!(web))]);
    for (name, worker) in config.workers.iter().filter(|(name, worker)| **name == worker.process) {
        let number = replicas(config, name);
        table.row(Tone::Plain, [name.clone(), number.to_string(), worker.command.clone()]);
        value.insert(name.clone(), json!(number));
    }
    ui.result_or_json(&ui.table(&table), &value.into());
}

fn replicas(config: &Config, process: &str) -> usize {
    config.workers.values().filter(|worker| worker.process == process).count()
}

/// The text of ship.yml with one wish in it.
fn changed(text: &str, config: &Config, wish: &str) -> Result<String, Failure> {
    let bad = || {
        Failure::input(format!("`{wish}` is not PROCESS=NUMBER"))
            .hint("such as `web=4`, `web=auto`, `worker=2`")
    };
    let (process, number) = wish.split_once('=').ok_or_else(bad)?;
    let is_number = number.parse::<u32>().is_ok();
    let is_auto = process == "web" && number == "auto";
    if !is_number && !is_auto {
        return Err(bad());
    }
    if process == "web" && number == "0" {
        return Err(Failure::input("a site without `web` answers nobody"));
    }
    let mut top: Vec<&str> = match &config.environment {
        Some(name) => vec!["environments", name],
        None => Vec::new(),
    };
    top.push("processes");
    let set = |text: &str, path: &[&str], value: &Value| {
        let whole: Vec<&str> = top.iter().copied().chain(path.iter().copied()).collect();
        edit::set(text, &whole, value).map_err(|error| {
            Failure::input(error.to_string())
                .hint(format!("write `{}: {number}` there yourself, and run `ship up`", path.join(".")))
        })
    };
    if process == "web" {
        return set(text, &["web", "workers"], &Value::text(number));
    }
    let own: Vec<&str> = top.iter().copied().chain([process]).collect();
    let written = edit::read(text, &own).or_else(|| edit::read(text, &["processes", process]));
    let with = |command: Value| {
        Value::Map(vec![("command".into(), command), ("replicas".into(), Value::text(number))])
    };
    match written {
        Some(Value::Map(_)) => set(text, &[process, "replicas"], &Value::text(number)),
        Some(command @ Value::Text(_)) => set(text, &[process], &with(command)),
        Some(Value::List(_)) | None => {
            let Some(worker) = config.workers.get(process) else {
                let known: Vec<&str> =
                    std::iter::once("web").chain(config.workers.keys().map(String::as_str)).collect();
                return Err(Failure::input(format!("there is no process `{process}`"))
                    .hint(format!("there are {}", known.join(", "))));
            };
            // What the Procfile or the project says holds only as long as ship.yml names no process of its own.
            let found = config.workers.iter().filter(|(name, _)| *name != process);
            let own = |(name, worker): (&String, &Worker)| (name.clone(), worker.command.clone());
            let mut text = text.to_owned();
            for (name, command) in found.map(own) {
                text = set(&text, &[&name], &Value::text(command))?;
            }
            set(&text, &[process], &with(Value::text(worker.command.clone())))
        }
    }
}
