//! `ship config`: the site's environment on the server. Values travel on stdin and never come back unasked.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use serde_json::json;

use crate::cli::{Config as Args, ConfigAction};
use crate::engine;
use crate::error::Failure;
use crate::playbook::envfile;
use crate::release::{PLAIN_ENV, secret_file};
use crate::shell::{Script, Secret};
use crate::transport::Session;
use crate::ui::Ui;

use super::Workspace;

/// Does what is asked; a change restarts the live release with it.
pub async fn run(workspace: Workspace, args: Args, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    match args.action {
        None => list(&workspace, args.reveal, ui).await,
        Some(ConfigAction::Get { name }) => get(&workspace, &name, ui).await,
        Some(ConfigAction::Set { pairs }) => {
            let values = pairs.iter().map(|pair| read_pair(pair)).collect::<Result<BTreeMap<_, _>, _>>()?;
            let names: Vec<&str> = values.keys().map(String::as_str).collect();
            let what = format!("config set {}", names.join(" "));
            let (script, stdin) = set_script(&workspace.config.app, &values);
            change(workspace, &what, &script, stdin, ui).await
        }
        Some(ConfigAction::Unset { names }) => {
            for name in &names {
                check_name(name)?;
            }
            let what = format!("config unset {}", names.join(" "));
            let script = unset_script(&workspace.config.app, &names);
            change(workspace, &what, &script, Bytes::new(), ui).await
        }
    }
}

/// A variable of the site's environment.
struct Variable {
    value: String,
    /// Whether it is in `ship.yml` for everyone to read.
    plain: bool,
}

/// The environment, later parts winning.
async fn environment(session: &Session, app: &str) -> Result<BTreeMap<String, Variable>, Failure> {
    let script = Script::new()
        .set("app", app)
        .line("cd \"/etc/ship/$app/config\" 2>/dev/null || exit 0")
        .line("for part in *.env; do [ ! -e \"$part\" ] || printf '%s\\t%s\\n' \"$(base64 -w0 <\"$part\")\" \"$part\"; done");
    let output = session.exec(&script, Bytes::new()).await?;
    let mut variables = BTreeMap::new();
    for line in output.stdout_text().lines() {
        let Some((encoded, part)) = line.split_once('\t') else { continue };
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
        let values = parse_envfile(&String::from_utf8_lossy(&bytes));
        let plain = part == PLAIN_ENV;
        variables.extend(values.into_iter().map(|(name, value)| (name, Variable { value, plain })));
    }
    Ok(variables)
}

async fn list(workspace: &Workspace, reveal: bool, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    let values = environment(&session, &workspace.config.app).await?;
    session.close().await;
    let width = values.keys().map(String::len).max().unwrap_or(0);
    let shown: BTreeMap<&str, String> = values
        .iter()
        .map(|(name, variable)| {
            let value = if reveal || variable.plain { variable.value.clone() } else { "***".into() };
            (name.as_str(), value)
        })
        .collect();
    let mut text: Vec<String> =
        shown.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
    text.extend(
        workspace
            .config
            .secrets
            .iter()
            .filter(|name| !values.contains_key(*name))
            .map(|name| format!("{name:<width$}  (not set: ship config set {name}=…)")),
    );
    ui.result_or_json(&text.join("\n"), &json!(shown));
    Ok(ExitCode::SUCCESS)
}

async fn get(workspace: &Workspace, name: &str, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    let mut values = environment(&session, &workspace.config.app).await?;
    session.close().await;
    match values.remove(name) {
        Some(Variable { value, .. }) => {
            ui.result_or_json(&value, &json!({ name: value }));
            Ok(ExitCode::SUCCESS)
        }
        None => Err(Failure::input(format!("{name} is not set")).hint("`ship config` lists what is")),
    }
}

async fn change(
    workspace: Workspace,
    what: &str,
    script: &Script,
    stdin: Bytes,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let session = workspace.connect(true, ui).await?.0;
    ui.working(what);
    let output = session.exec(script, stdin).await?;
    if !output.success() {
        return Err(Failure::failed(format!("`{what}` failed on the server")).detail(output.stderr_text()));
    }
    let live = output.stdout_text().trim().to_string();
    if live.is_empty() {
        session.close().await;
        ui.done(&format!("{what}: kept on the server for the first `ship up`"), &json!({"release": null}));
        return Ok(ExitCode::SUCCESS);
    }
    let app = workspace.config.app.clone();
    let (folder, desired) = workspace.without_source()?;
    let outcome = engine::restart_with_config(&session, &desired, &folder, what, ui).await?;
    session.close().await;
    ui.done(
        &format!("{what}: {app} runs with it as {}", super::release_name(outcome)),
        &json!({"release": outcome}),
    );
    Ok(ExitCode::SUCCESS)
}

/// `NAME=VALUE`, `NAME=@FILE`, `NAME=-`.
fn read_pair(pair: &str) -> Result<(String, Secret), Failure> {
    let Some((name, value)) = pair.split_once('=') else {
        return Err(Failure::input(format!("`{pair}` is not NAME=VALUE")));
    };
    check_name(name)?;
    let value = if let Some(file) = value.strip_prefix('@') {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::input(format!("can't read {file} for {name}: {error}")))?;
        text.strip_suffix('\n').map(str::to_string).unwrap_or(text)
    } else if value == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::input(format!("can't read {name} from stdin: {error}")))?;
        text.strip_suffix('\n').map(str::to_string).unwrap_or(text)
    } else {
        value.to_string()
    };
    if value.contains('\0') {
        return Err(Failure::input(format!("{name} holds a NUL byte, which no environment can")));
    }
    Ok((name.to_string(), Secret::new(value)))
}

fn check_name(name: &str) -> Result<(), Failure> {
    const RESERVED: [&str; 5] = ["PORT", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(Failure::input(format!("`{name}` is not the name of an environment variable"))
            .hint("letters, digits and _, not starting with a digit"));
    }
    if RESERVED.contains(&name) {
        return Err(Failure::input(format!("{name} belongs to ship and systemd and can't be set")));
    }
    Ok(())
}

/// Values come on stdin as one archive-free stream: for each, the length of its line in the file, then the line.
fn set_script(app: &str, values: &BTreeMap<String, Secret>) -> (Script, Bytes) {
    let mut script = Script::from_text("set -eu\numask 077")
        .set("app", app)
        // Before the first `up` there is nothing yet; later the folders have their owners and stay as they are.
        .line("for folder in /etc/ship \"/etc/ship/$app\"; do [ -d \"$folder\" ] || install -d -m 0755 \"$folder\"; done")
        .line("[ -d \"/etc/ship/$app/config\" ] || install -d -m 0700 \"/etc/ship/$app/config\"")
        .line("cd \"/etc/ship/$app/config\"");
    let mut stdin = Vec::new();
    for (name, value) in values {
        let line = format!("{name}={}\n", envfile(value.reveal()));
        script = script
            .line(&format!("head -c {} >.new", line.len()))
            .set("file", secret_file(name))
            .line("mv .new \"$file\"");
        stdin.extend_from_slice(line.as_bytes());
    }
    (script.line(LIVE), stdin.into())
}

fn unset_script(app: &str, names: &[String]) -> Script {
    let mut script = Script::from_text("set -eu").set("app", app).line("cd \"/etc/ship/$app/config\"");
    for name in names {
        script = script
            .set("file", secret_file(name))
            .set("name", name)
            .line("[ -e \"$file\" ] || { echo \"$name was not set with ship config set\" >&2; exit 1; }");
    }
    for name in names {
        script = script.set("file", secret_file(name)).line("rm -f -- \"$file\"");
    }
    script.line(LIVE)
}

/// Says which release is live, if any.
const LIVE: &str = "readlink \"/srv/$app/current\" || true";

/// Reads systemd's format as our own quoting writes it.
fn parse_envfile(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line_end = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let (line, after) = rest.split_at(line_end);
        let Some((name, _)) = line.split_once("=\"").filter(|_| !line.starts_with('#')) else {
            rest = after;
            continue;
        };
        let mut value = String::new();
        let mut characters = rest.get(name.len() + 2..).unwrap_or_default().char_indices();
        let mut end = rest.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => value.extend(characters.next().map(|(_, next)| next)),
                '"' => {
                    end = name.len() + 2 + at + 1;
                    break;
                }
                other => value.push(other),
            }
        }
        values.insert(name.to_string(), value);
        rest = rest.get(end..).unwrap_or_default().trim_start_matches('\n');
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn values_survive_their_file(value in "[^\0]*", other in "[^\0]*") {
            let text = format!("# a comment\nA={}\nB={}\n", envfile(&value), envfile(&other));
            let parsed = parse_envfile(&text);
            proptest::prop_assert_eq!(parsed.get("A"), Some(&value));
            proptest::prop_assert_eq!(parsed.get("B"), Some(&other));
        }
    }

    #[test]
    fn a_value_never_shows_in_the_script() {
        let values = BTreeMap::from([("TOKEN".to_string(), Secret::new("hunter2"))]);
        let (script, stdin) = set_script("library", &values);
        assert!(!script.text().contains("hunter2"));
        assert_eq!(stdin, Bytes::from("TOKEN=\"hunter2\"\n"));
    }

    #[test]
    fn bad_names_are_refused() {
        for pair in ["TOKEN", "1A=x", "A-B=x", "PORT=1", "=x"] {
            assert!(read_pair(pair).is_err(), "{pair}");
        }
        assert_eq!(read_pair("A=b=c").unwrap().1.reveal(), "b=c");
    }
}
