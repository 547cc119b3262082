//! `ship config`: the site's environment on the server. Values travel on stdin and never come back unasked.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use serde_json::json;

use crate::cli::{Config as Args, ConfigAction};
use crate::dotenv;
use crate::engine::{self, Reconfigured};
use crate::error::{Exit, Failure};
use crate::playbook::envfile;
use crate::release::{PLAIN_ENV, secret_file, secret_name};
use crate::shell::{Script, Secret};
use crate::transport::Session;
use crate::ui::Ui;

use super::Workspace;

/// Does what is asked; a change restarts the live release with it.
pub async fn run(workspace: Workspace, args: Args, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    match args.action {
        None => list(&workspace, args.reveal, ui).await,
        Some(ConfigAction::Get { name }) => get(&workspace, &name, ui).await,
        Some(ConfigAction::Set { pairs, env_file, no_restart }) => {
            let mut changes = Changes::new();
            if let Some(file) = &env_file {
                changes.extend(read_env_file(file)?);
            }
            if pairs.iter().filter(|pair| pair.ends_with("=-")).count() > 1 {
                return Err(Failure::input("stdin can be one value only"));
            }
            for pair in &pairs {
                let (name, value) = read_pair(pair)?;
                changes.insert(name, Some(value));
            }
            change(workspace, &changes, !no_restart, ui).await
        }
        Some(ConfigAction::Unset { names, no_restart }) => {
            let checked = names.into_iter().map(|name| check_name(&name).map(|()| (name, None)));
            change(workspace, &checked.collect::<Result<Changes, Failure>>()?, !no_restart, ui).await
        }
        Some(ConfigAction::Edit) => edit(workspace, ui).await,
    }
}

/// What is to be set, and what to be removed.
pub(super) type Changes = BTreeMap<String, Option<Secret>>;

/// What a release is made for, as `ship releases` shows it: names only.
fn title(changes: &Changes) -> String {
    let of = |set: bool| -> Vec<&str> {
        changes.iter().filter(|(_, value)| value.is_some() == set).map(|(name, _)| name.as_str()).collect()
    };
    match (of(true).as_slice(), of(false).as_slice()) {
        (set, []) => format!("config set {}", set.join(" ")),
        ([], unset) => format!("config unset {}", unset.join(" ")),
        (set, unset) => format!("config set {}, unset {}", set.join(" "), unset.join(" ")),
    }
}

/// A variable of the site's environment.
struct Variable {
    value: String,
    /// Whether it is in `ship.yml` for everyone to read.
    plain: bool,
    /// Whether `config set` has set it.
    own: bool,
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
        let (plain, own) = (part == PLAIN_ENV, secret_name(part).is_some());
        variables.extend(values.into_iter().map(|(name, value)| (name, Variable { value, plain, own })));
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

pub(super) async fn change(
    workspace: Workspace,
    changes: &Changes,
    restart: bool,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let what = title(changes);
    let app = workspace.config.app.clone();
    let session = workspace.connect(true, ui).await?.0;
    ui.working(&what);
    let (script, stdin) = change_script(&app, changes);
    let output = session.exec(&script, stdin).await?;
    if !output.success() {
        return Err(Failure::failed(format!("`{what}` failed on the server")).detail(output.stderr_text()));
    }
    let live = output.stdout_text().trim().to_string();
    if live.is_empty() || !restart {
        session.exec(&settle_script(&app, changes, true), Bytes::new()).await?;
        session.close().await;
        let when = if live.is_empty() { "the first" } else { "the next" };
        ui.done(&format!("{what}: kept on the server for {when} `ship up`"), &json!({"release": null}));
        return Ok(ExitCode::SUCCESS);
    }
    let (folder, desired) = workspace.without_source()?;
    let outcome = engine::restart_with_config(&session, &desired, &folder, &what, ui).await;
    let stays = match &outcome {
        Ok(_) => true,
        // Nobody knows what the server has come to by then.
        Err(failure) => !matches!(failure.exit, Exit::Failed | Exit::Input),
    };
    session.exec(&settle_script(&app, changes, stays), Bytes::new()).await?;
    session.close().await;
    match outcome {
        Ok(Reconfigured::Live(number)) => {
            ui.done(&format!("{what}: {app} runs with it as v{number}"), &json!({"release": number}));
            Ok(ExitCode::SUCCESS)
        }
        Ok(Reconfigured::Answered) => {
            Err(Failure::failed("Django answers otherwise with this config than the live release did")
                .hint("it is kept on the server: `ship up` puts it live together with what depends on it"))
        }
        Err(failure) if stays => Err(failure),
        Err(failure) => Err(failure.hint(
            "the config is as it was; `ship config set --no-restart` keeps values for code that `ship up` brings",
        )),
    }
}

/// What the file for the editor begins with.
const EDIT_HEAD: &str = "\
# Values that `ship config set` has set, a line each; a line that goes away unsets its value. Quotes as in any .env file.
# NAME=$(COMMAND) without quotes takes what the command prints on this computer, a password manager's for example.

";

/// Changes values in the user's editor.
async fn edit(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    let values = environment(&session, &workspace.config.app).await?;
    session.close().await;
    ui.idle();
    let own: BTreeMap<String, String> = values
        .into_iter()
        .filter(|(_, variable)| variable.own)
        .map(|(name, one)| (name, one.value))
        .collect();
    let wanted = ask_editor(&own, &workspace.config.secrets, ui)?;
    let mut changes: Changes =
        own.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), None)).collect();
    let set = wanted.into_iter().filter(|(name, value)| own.get(name) != Some(value));
    changes.extend(set.map(|(name, value)| (name, Some(Secret::new(value)))));
    if changes.is_empty() {
        ui.done("nothing was changed", &json!({"release": null}));
        return Ok(ExitCode::SUCCESS);
    }
    change(workspace, &changes, true, ui).await
}

/// Has the values edited in a file that nobody else can read, and that is gone afterwards.
fn ask_editor(
    own: &BTreeMap<String, String>,
    secrets: &[String],
    ui: &Ui,
) -> Result<BTreeMap<String, String>, Failure> {
    let cant = |what: &str, error: std::io::Error| {
        Failure::failed(format!("can't {what} the file for the editor: {error}"))
    };
    // In memory, where the system has such a place.
    let memory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_dir());
    let folder = tempfile::Builder::new()
        .prefix("ship-config-")
        .tempdir_in(memory.unwrap_or_else(std::env::temp_dir))
        .map_err(|error| cant("make", error))?;
    let file = folder.path().join("config.env");
    let missing: String = secrets
        .iter()
        .filter(|name| !own.contains_key(*name))
        .map(|name| format!("# {name}=        not set yet, and ship.yml wants it\n"))
        .collect();
    let pairs = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let text = format!("{EDIT_HEAD}{}{missing}", dotenv::render(pairs));
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(&file);
    made.and_then(|mut made| made.write_all(text.as_bytes())).map_err(|error| cant("write", error))?;
    // Ctrl-C is the editor's; without this it would leave the file behind.
    let _guard = ui.interrupts().guard();
    loop {
        run_editor(&file)?;
        let edited = std::fs::read(&file).map_err(|error| cant("read", error))?;
        let again = match read_edited(edited) {
            Ok(values) => return Ok(values),
            Err(failure) => failure,
        };
        if !ui.interactive() {
            return Err(again);
        }
        ui.failure(&again);
        if !ui.confirm("Edit it again?")? {
            return Err(Failure::failed("nothing was changed"));
        }
    }
}

fn run_editor(file: &Path) -> Result<(), Failure> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let script = format!("{editor} \"$1\"");
    let status = Command::new("/bin/sh").args(["-c", &script, "sh"]).arg(file).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::failed(format!("`{editor}` ended with {status}: nothing was changed"))
            .hint("VISUAL or EDITOR names another editor")),
        Err(error) => Err(Failure::failed(format!("can't start `{editor}`: {error}"))),
    }
}

fn read_edited(edited: Vec<u8>) -> Result<BTreeMap<String, String>, Failure> {
    let text = String::from_utf8(edited).map_err(|_| not_text("the file"))?;
    let entries = dotenv::parse(&text).map_err(|error| Failure::input(error.to_string()))?;
    let mut values = BTreeMap::new();
    for entry in entries {
        check_name(&entry.name)?;
        let command = entry.value.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')'));
        let value = match command.filter(|_| !entry.quoted) {
            Some(command) => said_by(&entry.name, command)?,
            None => entry.value,
        };
        check_value(&entry.name, &value)?;
        values.insert(entry.name, value);
    }
    Ok(values)
}

/// What a command on this computer prints.
fn said_by(name: &str, command: &str) -> Result<String, Failure> {
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::failed(format!("can't run the command for {name}: {error}")))?;
    if !output.status.success() {
        return Err(Failure::input(format!("the command for {name} ended with {}", output.status)));
    }
    without_line_end(name, output.stdout)
}

fn read_env_file(file: &Path) -> Result<Changes, Failure> {
    let shown = file.display();
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    let bytes = bytes.map_err(|error| Failure::input(format!("can't read {shown}: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| not_text(&shown.to_string()))?;
    let entries = dotenv::parse(&text).map_err(|error| Failure::input(format!("{shown}: {error}")))?;
    if entries.is_empty() {
        return Err(Failure::input(format!("there are no values in {shown}")));
    }
    let read = |entry: dotenv::Entry| {
        check_name(&entry.name)?;
        check_value(&entry.name, &entry.value)?;
        Ok((entry.name, Some(Secret::new(entry.value))))
    };
    entries.into_iter().map(read).collect()
}

/// `NAME=VALUE`, `NAME=@FILE`, `NAME=-`.
pub(super) fn read_pair(pair: &str) -> Result<(String, Secret), Failure> {
    let Some((name, value)) = pair.split_once('=') else {
        return Err(Failure::input(format!("`{pair}` is not NAME=VALUE")));
    };
    check_name(name)?;
    let cant =
        |from: &str, error: std::io::Error| Failure::input(format!("can't read {name} from {from}: {error}"));
    let value = if let Some(file) = value.strip_prefix('@') {
        without_line_end(name, std::fs::read(file).map_err(|error| cant(file, error))?)?
    } else if value == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map_err(|error| cant("stdin", error))?;
        without_line_end(name, bytes)?
    } else {
        value.to_string()
    };
    check_value(name, &value)?;
    Ok((name.to_string(), Secret::new(value)))
}

/// The content of a file or the output of a command as a value: the last line's end is not part of it.
fn without_line_end(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    let text = String::from_utf8(bytes).map_err(|_| not_text(name))?;
    Ok(text.strip_suffix('\n').map(str::to_string).unwrap_or(text))
}

fn not_text(what: &str) -> Failure {
    Failure::input(format!("{what} holds bytes that are not UTF-8 text, which systemd passes to no process"))
        .hint("encode it: `base64 <FILE | ship config set NAME=-`, and decode it in the settings")
}

fn check_value(name: &str, value: &str) -> Result<(), Failure> {
    if value.contains('\0') {
        return Err(Failure::input(format!("{name} holds a NUL byte, which no environment can"))
            .hint("encode it: `base64 <FILE | ship config set NAME=-`, and decode it in the settings"));
    }
    Ok(())
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

/// Values come on stdin as one stream: for each, so many bytes as its line in the file has. What was there before is kept
/// aside until it is known that the new values work.
fn change_script(app: &str, changes: &Changes) -> (Script, Bytes) {
    let mut script = Script::from_text("set -eu\numask 077")
        .set("app", app)
        // Before the first `up` there is nothing yet; later the folders have their owners and stay as they are.
        .line("for folder in /etc/ship \"/etc/ship/$app\"; do [ -d \"$folder\" ] || install -d -m 0755 \"$folder\"; done")
        .line("[ -d \"/etc/ship/$app/config\" ] || install -d -m 0700 \"/etc/ship/$app/config\"")
        .line("cd \"/etc/ship/$app/config\"");
    for (name, _) in changes.iter().filter(|(_, value)| value.is_none()) {
        script = script
            .set("file", secret_file(name))
            .set("name", name)
            .line("[ -e \"$file\" ] || { echo \"$name was not set with ship config set\" >&2; exit 1; }");
    }
    let mut stdin = Vec::new();
    for (name, value) in changes {
        script = script
            .set("file", secret_file(name))
            .line("rm -f -- \".before-$file\"; [ ! -e \"$file\" ] || cp -p -- \"$file\" \".before-$file\"");
        script = match value {
            Some(value) => {
                let line = format!("{name}={}\n", envfile(value.reveal()));
                stdin.extend_from_slice(line.as_bytes());
                script.line(&format!("head -c {} >.new", line.len())).line("mv .new \"$file\"")
            }
            None => script.line("rm -f -- \"$file\""),
        };
    }
    (script.line(LIVE), stdin.into())
}

/// Forgets what was there before, or puts it back.
fn settle_script(app: &str, changes: &Changes, stays: bool) -> Script {
    let script = Script::from_text("set -eu").set("app", app).line("cd \"/etc/ship/$app/config\"");
    changes.keys().fold(script, |script, name| {
        let script = script.set("file", secret_file(name));
        if stays {
            script.line("rm -f -- \".before-$file\"")
        } else {
            script.line(
                "if [ -e \".before-$file\" ]; then mv -f -- \".before-$file\" \"$file\"; else rm -f -- \"$file\"; fi",
            )
        }
    })
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
        let values = Changes::from([("TOKEN".to_string(), Some(Secret::new("hunter2")))]);
        let (script, stdin) = change_script("library", &values);
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
