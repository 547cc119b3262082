//! What a release runs, for templates and for the switch: the site's server, the processes beside it, jobs.
//!
//! Invariant: the names of units follow from the configuration alone.

use minijinja::Value;

use crate::apply::restore_script;
use crate::config::Config;
use crate::facts::app::App;
use crate::plan::{Action, Change, ResourceId, Step};
use crate::playbook::Vars;
use crate::process::serving::{Interface, PORT, Server};
use crate::shell::{Cmd, Script};

use super::steps::Steps;

/// The application as servers other than gunicorn load it.
const MODULE: &str = "ship_serve:application";

/// What templates and playbooks know of what runs.
pub fn vars(config: &Config) -> Vars {
    let jobs: Vec<Value> = config
        .jobs
        .iter()
        .map(|(name, job)| {
            Value::from_pairs([
                ("name", Value::from(name.as_str())),
                ("command", job.command.as_str().into()),
                ("calendar", job.calendar.as_str().into()),
                ("timeout_s", job.timeout_s.into()),
                ("may", super::protection::may(&job.limits)),
            ])
        })
        .collect();
    // A playbook that somebody names runs without a reason of ours.
    let named = || "ship.yml names it".to_owned();
    let services = crate::process::services::Service::ALL.map(|service| {
        (service.name(), Value::from(config.services.get(&service).cloned().unwrap_or_else(named)))
    });
    let mut vars = super::protection::vars(config);
    vars.extend(Vars::from([
        ("serving".into(), serving(config)),
        ("preload".into(), Value::from(config.web.preload)),
        ("drain_s".into(), Value::from(config.web.drain_s)),
        ("jobs".into(), Value::from(jobs)),
        ("services".into(), Value::from_pairs(services)),
    ]));
    vars
}

/// The site's server as templates know it.
fn serving(config: &Config) -> Value {
    let (app, serving) = (&config.app, &config.web.serving);
    let asgi = serving.interface == Interface::Asgi;
    let module = matches!(&serving.server, Server::Inherits { .. });
    let (command, class) = match &serving.server {
        Server::Gunicorn { class, flags } if flags.is_empty() => (String::new(), class.clone()),
        Server::Gunicorn { class, flags } => {
            let application = crate::shell::quote(&serving.application);
            let command = format!("exec gunicorn --config /etc/ship/{app}/gunicorn.py {flags} {application}");
            (command, class.clone())
        }
        Server::Inherits { command, .. } => {
            let path = format!("PYTHONPATH=/etc/ship/{app}/python${{PYTHONPATH:+:$PYTHONPATH}}");
            (format!("{path} {}", command.replace("{app}", MODULE)), None)
        }
        Server::Alone { command, .. } => (command.replace(PORT, &config.port.to_string()), None),
    };
    let websockets = asgi || module || serving.is_alone() || class.is_some();
    let name = serving.name();
    let why = match (&serving.server, asgi) {
        (Server::Gunicorn { .. }, false) => "one instance a release".to_owned(),
        (Server::Gunicorn { .. }, true) => {
            format!("one instance a release, by ASGI: {}", serving.origin)
        }
        (Server::Inherits { .. }, _) => format!("one instance a release, by {name}: {}", serving.origin),
        (Server::Alone { .. }, _) => format!("by {name}, one instance at a time: {}", serving.origin),
    };
    Value::from_pairs([
        ("asgi", Value::from(asgi)),
        ("alone", serving.is_alone().into()),
        ("module", module.into()),
        ("websockets", websockets.into()),
        ("name", name.into()),
        ("origin", serving.origin.as_str().into()),
        ("why", why.into()),
        ("application", serving.application.as_str().into()),
        ("command", command.into()),
        ("class", class.unwrap_or_default().into()),
    ])
}

/// The units of a job.
pub fn job_units(app: &str, name: &str) -> [String; 2] {
    [format!("{app}-job-{name}.timer"), format!("{app}-job-{name}.service")]
}

/// Removes the units of jobs that nobody wants any more. One that is at work may finish.
pub fn removed_jobs(config: &Config, app: &App) -> Vec<Change> {
    let wanted: Vec<String> = config.jobs.keys().flat_map(|name| job_units(&config.app, name)).collect();
    let gone = app.job_units.iter().filter(|unit| !wanted.contains(unit));
    // A timer that finds nothing to start has failed: it goes before its service does.
    let (timers, services): (Vec<_>, Vec<_>) = gone.partition(|unit| unit.ends_with(".timer"));
    timers
        .into_iter()
        .chain(services)
        .map(|unit| {
            let path = format!("/etc/systemd/system/{unit}");
            let mut script = Script::new();
            if unit.ends_with(".timer") {
                script =
                    script.cmd(Cmd::new("systemctl").arg("disable").arg("--quiet").arg("--now").arg(unit));
            }
            let script = script
                .cmd(Cmd::new("rm").arg("-f").arg("--").arg(&path))
                .cmd(Cmd::new("systemctl").arg("daemon-reload"));
            Change::run(ResourceId::new("file", path), Action::Remove, "no job of ship.yml", script)
        })
        .collect()
}

impl Steps<'_> {
    /// Runs what the project wants done once for each release.
    pub(super) fn release_command(&self) -> Option<Change> {
        let (command, origin) = self.context.config.release_command.as_ref()?;
        let script = self
            .guarded("release command")
            .then(&self.as_app())
            .set("command", command)
            .line("venv_path=$top/venvs/$n/bin:/usr/local/bin:/usr/bin:/bin")
            .line(
                "[ -e \"$state/released\" ] || as_app /usr/bin/env PATH=\"$venv_path\" SHIP_RELEASE=\"$n\" /bin/bash -c \"$command\"",
            )
            .line("touch \"$state/released\"");
        let why = format!("{command}, once for v{}; {origin}", self.number);
        Some(self.change("run the release command", why, script))
    }

    /// What the switch needs to make room for what must be alone, and to put back what made room.
    pub(super) fn make_room(&self, before: &[Change]) -> Script {
        let app = &self.context.config.app;
        let unit = |name: &str| {
            let name =
                name.strip_prefix("/etc/systemd/system/").and_then(|name| name.strip_suffix("@.service"));
            name.is_some_and(|name| name == app || name.starts_with(&format!("{app}-")))
        };
        let files = before
            .iter()
            .filter(|change| {
                unit(&change.id.name) || change.id.name.starts_with(&format!("/etc/ship/{app}/"))
            })
            .filter(|change| !change.id.name.ends_with(".env"))
            .filter(|change| change.steps.iter().any(|step| matches!(step, Step::Write(_))))
            .fold(Script::new(), |script, change| script.then(&restore_script(&change.id.name)));
        Script::fixed(MAKE_ROOM)
            .line("come_back() {")
            .line("[ -n \"$stopped$closed\" ] || return 0")
            .then(&files)
            .line(
                r#"systemctl daemon-reload
[ -z "$closed" ] || systemctl start "$app.socket" || true
for unit in $stopped; do systemctl start "$unit" || true; done
}"#,
            )
    }

    /// Makes room on the port where only one can have it.
    pub(super) fn take_port(&self) -> Script {
        if !self.context.config.web.serving.is_alone() {
            // The one before may have had the port to itself.
            return Script::new().line(
                "if ! systemctl -q is-active \"$app.socket\"; then make_room \"$app\"; systemctl start \"$app.socket\"; fi",
            );
        }
        Script::new().line("make_room \"$app\"").line(
            "if systemctl -q is-active \"$app.socket\"; then closed=1; systemctl stop \"$app.socket\"; fi",
        )
    }

    /// Waits until a server that says nothing of itself listens.
    pub(super) fn wait_for_port(&self) -> Script {
        if !self.context.config.web.serving.is_alone() {
            return Script::new();
        }
        Script::new()
            .set("boot", self.context.config.web.boot_timeout_s.to_string())
            .set("port", self.context.config.port.to_string())
            .then(&Script::fixed(WAIT_FOR_PORT))
    }
}

const MAKE_ROOM: &str = r#"stopped=
closed=
# Stops every other instance of a process, and waits for its end.
make_room() {
  for unit in $(systemctl list-units --plain --no-legend "$1@*.service" | cut -d' ' -f1); do
    case $unit in "$1@$n.service") continue ;; esac
    case $(systemctl show -p ActiveState --value "$unit") in
      active|activating|reloading) stopped="$stopped $unit"; systemctl stop "$unit" ;;
      deactivating) systemctl stop "$unit" ;;
    esac
  done
}
"#;

const WAIT_FOR_PORT: &str = r#"/usr/bin/python3 -I - "$app@$n.service" "$boot" "$port" <<'SHIP_PORT' || { journalctl -q -o cat -n 40 -u "$app@$n.service" --since "$began" 2>/dev/null | tail -n 40; echo "ship-cause: $app@$n.service does not listen on 127.0.0.1:$port"; give_up; }
import socket, subprocess, sys, time

unit, seconds, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
deadline = time.monotonic() + seconds
while time.monotonic() < deadline:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        sys.exit(0)
    except OSError:
        pass
    state = subprocess.run(["systemctl", "show", "-p", "ActiveState", "-p", "NRestarts", unit], capture_output=True, text=True).stdout
    if "NRestarts=0" not in state or "=failed" in state or "=inactive" in state:
        sys.exit(1)
    time.sleep(0.1)
sys.exit(1)
SHIP_PORT
"#;
