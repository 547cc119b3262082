//! `ship run`, `ship manage`, `ship shell`: a command in the live release, with its environment, user and folder.

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::config::Config;
use crate::error::Failure;
use crate::shell::{Cmd, Script};
use crate::ui::Ui;

use super::ssh::pty;
use super::{Workspace, exit_code};

/// How a command is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the user's terminal.
    Terminal,
    /// To stdin, stdout and stderr as they are.
    Pipes,
    /// To the journal.
    Detached,
}

/// Runs it and passes its exit code on.
pub async fn run(workspace: Workspace, words: &[String], ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    ui.idle();
    let size = pty(true);
    let way = if size.is_some() { Way::Terminal } else { Way::Pipes };
    let status = session.interactive(&script(&workspace.config, words, way), true, size).await?;
    session.close().await;
    Ok(exit_code(status))
}

/// A command with pipes, for what other commands do on their way.
pub(super) fn run_script(config: &Config, words: &[String]) -> Script {
    script(config, words, Way::Pipes)
}

/// Runs manage.py.
pub async fn manage(workspace: Workspace, arguments: Vec<String>, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let words: Vec<String> =
        ["python", "manage.py"].into_iter().map(str::to_owned).chain(arguments).collect();
    run(workspace, &words, ui).await
}

/// Leaves it running on the server.
pub async fn detach(workspace: Workspace, words: &[String], ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    let output = session.exec(&script(&workspace.config, words, Way::Detached), Bytes::new()).await?;
    session.close().await;
    if !output.success() {
        return Err(Failure::failed("the command does not start").detail(output.stderr_text()));
    }
    let unit = output.stdout_text().trim().to_owned();
    ui.result_or_json(&unit, &json!({ "unit": unit }));
    ui.note(&format!(
        "it runs as {unit}: `ship logs -f --process run` shows what it says, `ship ps` that it runs, `ship ssh -- systemctl stop {unit}` ends it"
    ));
    Ok(ExitCode::SUCCESS)
}

/// By what the journal knows the lines of commands that were left running.
pub(super) fn identifier(app: &str) -> String {
    format!("{app}-run")
}

/// The shell in between turns a death by signal n into the exit code 128 + n, which systemd-run does not pass on. Ctrl-C
/// is for the command alone.
const TELL_SIGNALS: &str = "trap : INT QUIT; \"$@\"; exit $?";

/// systemd sets up the same environment as for the site itself. Exit code 128 + n stands for signal n.
///
/// The command gets this very terminal: `--pty` makes another between, and what a short command says there is lost when
/// the unit's end is noticed first; it also writes titles. Type `exec` would tell a short command that fails from one that
/// succeeds, but not always with its own exit code (systemd before 254).
fn script(config: &Config, words: &[String], way: Way) -> Script {
    let root = config.django.suffix();
    let first: &[&str] = match words {
        // One word with spaces is a line for the shell, as `heroku run` takes it.
        [line] if line.contains(char::is_whitespace) => &["/bin/sh", "-c"],
        _ => &["/usr/bin/env"],
    };
    let all = ["/bin/sh", "-c", TELL_SIGNALS, "sh"].iter().chain(first).copied();
    // systemd replaces variables in arguments; that is the shell's work, if anyone's. `$$` is its `$`.
    let all = all.chain(words.iter().map(String::as_str)).map(|word| word.replace('$', "$$"));
    let command = Cmd::new("--").args(all);
    let how = match way {
        Way::Terminal => concat!(
            "--wait --property=TTYPath=\"$(tty)\" --property=StandardInput=tty-force ",
            "--property=StandardOutput=inherit --property=StandardError=inherit"
        ),
        Way::Pipes => "--wait --pipe",
        Way::Detached => "--property=SyslogIdentifier=\"$identifier\"",
    };
    let script = Script::new()
        .set("app", &config.app)
        .set("root", root)
        .set("identifier", identifier(&config.app))
        .line("release=$(readlink \"/srv/$app/current\") || { echo \"$app has no release yet: ship up\" >&2; exit 1; }")
        .line("n=${release##*/}")
        .line("unit=$identifier-$(head -c 8 /proc/sys/kernel/random/uuid)")
        .line(&format!(
            "{}systemd-run --quiet --collect --unit=\"$unit\" {how} --description=\"$app $n: a command of ship run\" \\\n  \
             --property=User=\"$app\" --property=Group=\"$app\" --property=UMask=0022 \\\n  \
             --property=WorkingDirectory=\"/srv/$app/releases/$n$root\" --property=EnvironmentFile=\"/etc/ship/$app/$n.env\" \\\n  \
             --setenv=PATH=\"/srv/$app/venvs/$n/bin:/usr/local/bin:/usr/bin:/bin\" --setenv=VIRTUAL_ENV=\"/srv/$app/venvs/$n\" \\\n  \
             --setenv=SHIP_RELEASE=\"$n\" --setenv=TERM=\"${{TERM:-dumb}}\" --setenv=HOME=\"/srv/$app/shared\" {}",
            if way == Way::Detached { "" } else { "exec " },
            command.text()
        ));
    if way == Way::Detached { script.line("printf '%s\\n' \"$unit\"") } else { script }
}

#[cfg(test)]
mod tests {
    use crate::shell::Cmd;

    #[test]
    fn words_stay_words() {
        let text = Cmd::new("/usr/bin/env").args(["python", "-c", "print('$x')"]).text().to_string();
        assert_eq!(text, "/usr/bin/env python -c \"print('\"'$x'\"')\"");
    }
}
