//! A restart of the live release: as a plan of its own, under the same lock as a deploy.
//!
//! Invariant: somebody answers all the time. While the site's own instance restarts, a second one of the same release does; if
//! that one does not start, nothing else is touched.

use crate::config::Config;
use crate::plan::{Action, Change, ResourceId};
use crate::shell::{Cmd, Script};

/// The processes whose name or whose replicas' common name that is; all of them for none. `None` if there is no such.
pub fn processes(config: &Config, wanted: Option<&str>) -> Option<Vec<String>> {
    let all = std::iter::once("web".to_owned()).chain(config.workers.keys().cloned());
    let Some(name) = wanted else { return Some(all.collect()) };
    let is =
        |own: &String| own == name || config.workers.get(own).is_some_and(|worker| worker.process == name);
    let found: Vec<String> = all.filter(is).collect();
    (!found.is_empty()).then_some(found)
}

/// The restart of these processes of a release.
pub fn changes(config: &Config, number: u32, processes: &[String]) -> Vec<Change> {
    processes.iter().map(|process| change(config, number, process)).collect()
}

fn change(config: &Config, number: u32, process: &str) -> Change {
    let app = &config.app;
    let script = Script::new().set("app", app).set("n", format!("v{number}")).line("top=/srv/$app");
    let (unit, why, script) = if process != "web" {
        let unit = format!("{app}-{process}@v{number}.service");
        let settle = config.workers.get(process).map_or(5, |worker| worker.settle_s.min(5));
        let script = script
            .set("unit", &unit)
            .set("settle", settle.to_string())
            .then(&Script::fixed(TELL_WHY))
            .then(&Script::fixed(WORKER));
        (unit, String::new(), script)
    } else {
        let unit = format!("{app}@v{number}.service");
        let script = script.set("unit", &unit).then(&Script::fixed(TELL_WHY));
        if config.web.serving.is_alone() {
            let restart = Cmd::new("systemctl").arg("restart").arg("--").raw("\"$unit\"");
            let script = script.line(&format!("{} || tell_why", restart.text()));
            let why = format!(
                "{} can't take over a socket: requests fail for some seconds until it listens again",
                config.web.serving.name()
            );
            (unit, why, script)
        } else {
            (unit, "a second instance answers meanwhile".to_owned(), script.then(&Script::fixed(WEB)))
        }
    };
    Change::run(ResourceId::new("unit", unit), Action::Restart, why, script)
}

/// Says why a unit does not start, and ends the step.
const TELL_WHY: &str = r#"began=$(date '+%F %T')
tell_why() {
  unit=${1:-$unit}
  journalctl -q -o cat -n 30 -u "$unit" --since "$began" 2>/dev/null || true
  why=$(journalctl -q -o cat -n 30 -u "$unit" --since "$began" -t "${unit%@*}" 2>/dev/null | grep '^[^[:space:]]' | tail -n 1)
  echo "ship-cause: ${unit%.service} does not start again${why:+: $why}"
  exit 1
}
"#;

/// The release under a second name, for as long as it takes.
const WEB: &str = r#"twin=$n.restart
forget() {
  rm -f "$top/releases/$twin" "$top/venvs/$twin" "/etc/ship/$app/$twin.env"
}
if systemctl -q is-active "$unit"; then
  ln -sfn "$n" "$top/releases/$twin"
  ln -sfn "$(readlink "$top/venvs/$n")" "$top/venvs/$twin"
  ln -sfn "$n.env" "/etc/ship/$app/$twin.env"
  if ! systemctl start "$app@$twin.service" 2>/dev/null; then
    systemctl stop "$app@$twin.service" 2>/dev/null || true
    forget
    echo "ship-hint: nothing was restarted: $n serves as before"
    tell_why "$app@$twin.service"
  fi
fi
if ! systemctl restart "$unit" 2>/dev/null; then
  echo "ship-hint: its second instance serves until you run \`ship up\`"
  tell_why
fi
# What it has begun to answer may take its time.
timeout 60 systemctl stop "$app@$twin.service" 2>/dev/null || true
forget
"#;

const WORKER: &str = r#"systemctl restart "$unit" 2>/dev/null || tell_why
until_s=$(($(cut -d. -f1 /proc/uptime) + settle))
while :; do
  state_of=$(systemctl show -p SubState -p NRestarts "$unit")
  case $state_of in *NRestarts=0*) ;; *) tell_why ;; esac
  case $state_of in *SubState=running*|*SubState=start*) ;; *) tell_why ;; esac
  [ "$(cut -d. -f1 /proc/uptime)" -lt "$until_s" ] || break
  sleep 0.2
done
"#;

#[cfg(test)]
mod tests {
    use super::super::gates::CAUSE;
    use super::*;

    #[test]
    fn the_cause_is_said_as_the_message_wants_it() {
        assert!(TELL_WHY.contains(&format!("echo \"{CAUSE}")));
    }
}
