//! `ship run` and `ship manage`: a command in the live release, with its environment, user and folder.

use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Config;
use crate::error::Failure;
use crate::shell::{Cmd, Script};
use crate::ui::Ui;

use super::ssh::pty;
use super::{Workspace, exit_code};

/// Runs it and passes its exit code on.
pub async fn run(workspace: Workspace, words: &[String], ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let session = workspace.connect(false, ui).await?.0;
    ui.idle();
    let size = pty(true);
    let script = run_script(&workspace.config, words, size.is_some());
    let status = session.interactive(&script, true, size).await?;
    session.close().await;
    Ok(exit_code(status))
}

/// systemd sets up the same environment as for the site itself. Exit code 128 + n stands for signal n.
pub(super) fn run_script(config: &Config, words: &[String], terminal: bool) -> Script {
    let root = config.django.suffix();
    // systemd replaces variables in arguments; that is the shell's work, if anyone's. `$$` is its `$`.
    let words: Vec<String> = words.iter().map(|word| word.replace('$', "$$")).collect();
    let command = match words.as_slice() {
        // One word with spaces is a line for the shell, as `heroku run` takes it.
        [line] if line.contains(char::is_whitespace) => Cmd::new("/bin/sh").arg("-c").arg(line),
        _ => Cmd::new("/usr/bin/env").args(&words),
    };
    Script::new()
        .set("app", &config.app)
        .set("root", root)
        .line("release=$(readlink \"/srv/$app/current\") || { echo \"$app has no release yet: ship up\" >&2; exit 1; }")
        .line("n=${release##*/}")
        .line(&format!(
            "exec systemd-run --quiet --collect --wait {} --description=\"ship run\" --service-type=exec --property=User=\"$app\" --property=Group=\"$app\" \\\n  \
             --property=WorkingDirectory=\"/srv/$app/releases/$n$root\" --property=EnvironmentFile=\"/etc/ship/$app/$n.env\" \\\n  \
             --setenv=PATH=\"/srv/$app/venvs/$n/bin:/usr/local/bin:/usr/bin:/bin\" --setenv=TERM=\"${{TERM:-dumb}}\" \\\n  \
             --setenv=HOME=\"/srv/$app/shared\" --property=UMask=0022 -- {}",
            if terminal { "--pty" } else { "--pipe" },
            command.text()
        ))
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
