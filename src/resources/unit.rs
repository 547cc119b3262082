//! systemd units: enabled, running, and restarted or reloaded when what they read has changed.

use crate::apply::restore_script;
use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, ResourceId, Step};
use crate::shell::{Cmd, Script};

use super::{DiffError, Resource};

/// The folder where unit files of the administrator live.
const UNIT_FILES: &str = "/etc/systemd/system/";

/// A unit and how it should be.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its full name, `nginx.service`.
    pub name: String,
    /// Whether it starts at boot; `None` leaves that alone.
    pub enabled: Option<bool>,
    /// Whether it runs; `None` leaves that alone.
    pub running: Option<bool>,
    /// Beginnings of the paths that it reads only at its start.
    pub restart_on: Vec<String>,
    /// Beginnings of the paths that it reads again on reload.
    pub reload_on: Vec<String>,
    /// The signal that has it read them, where its own way does not work in every language of a server.
    pub reload_signal: Option<String>,
    /// Succeeds as soon as what has just been started can be used, where systemd hears of it much later.
    pub ready: Option<Script>,
    /// Runs before every start, restart and reload; a failure stops there and leaves the unit alone.
    pub check: Option<Script>,
}

impl Unit {
    fn systemctl(&self, verb: &str, before: &[Change]) -> Script {
        let check = match (&self.check, verb) {
            (Some(check), "start" | "restart" | "reload") => self.checked(check, before),
            _ => Script::new(),
        };
        let command = match (&self.reload_signal, verb) {
            (Some(signal), "reload") => {
                Cmd::new("systemctl").args(["kill", "--kill-who=main", "--signal", signal]).arg(&self.name)
            }
            _ => Cmd::new("systemctl").arg(verb).arg(&self.name),
        };
        match verb {
            // The bundle brings it: systemd itself only names the commands that would tell.
            "start" | "restart" => {
                let name = crate::shell::quote(&self.name);
                let start = format!("{} || sh why-not {name}", command.text());
                match &self.ready {
                    Some(ready) => check
                        .line("ready() {")
                        .then(ready)
                        .line("}")
                        .line(&format!("if systemctl -q is-active {name}; then"))
                        .line(&start)
                        .line("else")
                        .line(&format!("systemctl --no-block start {name}"))
                        .wait_until("ready >/dev/null 2>&1", 100)
                        .line(&format!("[ $tries -lt 100 ] || systemctl start {name} || sh why-not {name}"))
                        .line("fi"),
                    None => check.line(&start),
                }
            }
            _ => check.cmd(command),
        }
    }

    /// The check with a way back: if it fails, what this plan put below the watched paths is taken away again. A
    /// refused file would otherwise wait there for the next boot, and the next plan would think it was read.
    fn checked(&self, check: &Script, before: &[Change]) -> Script {
        let watched = |path: &str| {
            self.restart_on.iter().chain(&self.reload_on).any(|prefix| path.starts_with(prefix.as_str()))
        };
        let undo =
            before.iter().filter(|change| watched(&change.id.name)).fold(Script::new(), |undo, change| {
                let written = change.steps.iter().any(|step| matches!(step, Step::Write(_)));
                match (written, change.id.kind, change.action) {
                    (true, _, _) => undo.then(&restore_script(&change.id.name)),
                    (false, "link", Action::Create) => {
                        undo.cmd(Cmd::new("rm").arg("-f").arg("--").arg(&change.id.name))
                    }
                    (false, _, _) => undo,
                }
            });
        if undo.is_empty() {
            return check.clone();
        }
        Script::new()
            .line("put_back() {")
            .then(&undo)
            .set("unit", &self.name)
            .line("echo \"$unit was left alone, and its files are as they were\"")
            .line("}")
            .line("trap put_back EXIT")
            .then(check)
            .line("trap - EXIT")
    }
}

impl Resource for Unit {
    fn id(&self) -> ResourceId {
        ResourceId::new("unit", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::Unit(self.name.clone())]
    }

    /// Only what differs without any file having changed; see [`Resource::react`] for the rest.
    fn diff(&self, _facts: &Facts) -> Result<Vec<Change>, DiffError> {
        Ok(Vec::new())
    }

    fn react(&self, facts: &Facts, before: &[Change]) -> Vec<Change> {
        let fact = facts.units.get(&self.name).cloned().unwrap_or_default();
        let mut changes = Vec::new();
        // systemd must read changed unit files before anything is asked of any unit.
        let reload_needed =
            fact.needs_reload || before.iter().any(|change| change.id.name.starts_with(UNIT_FILES));
        let prepare = |script: Script| {
            if reload_needed {
                Script::new().cmd(Cmd::new("systemctl").arg("daemon-reload")).then(&script)
            } else {
                script
            }
        };
        let mut push = |action, why: String, script: Script| {
            changes.push(Change::run(self.id(), action, why, prepare(script)));
        };
        let enabled = matches!(
            fact.file_state.as_str(),
            "enabled" | "enabled-runtime" | "static" | "alias" | "indirect" | "generated"
        );
        match self.enabled {
            Some(true) if !enabled => {
                push(Action::Update, "does not start at boot".into(), self.systemctl("enable", before));
            }
            Some(false) if fact.file_state == "enabled" => {
                push(Action::Update, "starts at boot".into(), self.systemctl("disable", before));
            }
            Some(_) | None => {}
        }
        let left = facts.app.pending.contains(&self.name);
        let changed = |prefixes: &[String]| {
            if left && !prefixes.is_empty() {
                return Some("left undone by an interrupted deploy".to_string());
            }
            before
                .iter()
                .find(|change| prefixes.iter().any(|prefix| change.id.name.starts_with(prefix.as_str())))
                .map(|change| format!("{} changed", change.id.name))
        };
        match self.running {
            Some(true) if !fact.active => {
                let why = match fact.active_state.as_str() {
                    "failed" => "has failed",
                    _ => "is not running",
                };
                // A package that the same plan installs may have started it already.
                let script = match changed(&self.restart_on) {
                    Some(_) => self.systemctl("restart", before),
                    None if changed(&self.reload_on).is_some() => {
                        self.systemctl("start", before).then(&self.systemctl("reload", before))
                    }
                    None => self.systemctl("start", before),
                };
                push(Action::Start, why.into(), script);
            }
            Some(false) if fact.active => {
                push(Action::Stop, "is running".into(), self.systemctl("stop", before))
            }
            Some(_) | None if fact.active => {
                if let Some(why) = changed(&self.restart_on) {
                    push(Action::Restart, why, self.systemctl("restart", before));
                } else if let Some(why) = changed(&self.reload_on) {
                    push(Action::Reload, why, self.systemctl("reload", before));
                } else if fact.needs_reload {
                    push(
                        Action::Restart,
                        "its file changed since it started".into(),
                        self.systemctl("restart", before),
                    );
                }
            }
            Some(_) | None => {}
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::unit::Unit as Fact;

    fn nginx() -> Unit {
        Unit {
            name: "nginx.service".into(),
            enabled: Some(true),
            running: Some(true),
            restart_on: vec!["/etc/systemd/system/nginx.service.d/".into()],
            reload_on: vec!["/etc/nginx/".into()],
            reload_signal: None,
            ready: None,
            check: Some(Script::from_text("nginx -t -q")),
        }
    }

    fn facts(state: &str, file_state: &str) -> Facts {
        let mut facts = Facts::default();
        facts.units.insert(
            "nginx.service".into(),
            Fact {
                loaded: true,
                active: state == "active",
                active_state: state.into(),
                file_state: file_state.into(),
                ..Fact::default()
            },
        );
        facts
    }

    fn touched(path: &str) -> Vec<Change> {
        vec![Change::new(ResourceId::new("file", path), Action::Update, "", vec![])]
    }

    /// `action: script` of each change.
    fn check(unit: &Unit, facts: &Facts, before: &[Change]) -> Vec<String> {
        unit.react(facts, before)
            .iter()
            .map(|change| {
                let steps: Vec<String> = change
                    .steps
                    .iter()
                    .map(|step| match step {
                        crate::plan::Step::Run(script) => script.text().trim_end().replace('\n', "; "),
                        crate::plan::Step::Write(write) => format!("{write:?}"),
                    })
                    .collect();
                format!("{}: {}", change.action.verb(), steps.join("; "))
            })
            .collect()
    }

    #[test]
    fn nothing_to_do_when_it_runs_and_nothing_changed() {
        assert!(check(&nginx(), &facts("active", "enabled"), &[]).is_empty());
        assert!(check(&nginx(), &facts("active", "enabled"), &touched("/etc/hosts")).is_empty());
    }

    #[test]
    fn starts_enables_and_stops() {
        assert_eq!(
            check(&nginx(), &facts("inactive", "disabled"), &[]),
            [
                "update: systemctl enable nginx.service",
                "start: nginx -t -q; systemctl start nginx.service || sh why-not nginx.service"
            ]
        );
        let off = Unit { enabled: Some(false), running: Some(false), ..nginx() };
        assert_eq!(
            check(&off, &facts("active", "enabled"), &[]),
            ["update: systemctl disable nginx.service", "stop: systemctl stop nginx.service"]
        );
    }

    #[test]
    fn a_signal_may_stand_for_a_reload() {
        let unit = Unit { reload_signal: Some("HUP".into()), ..nginx() };
        assert_eq!(
            unit.systemctl("reload", &[]).text(),
            "nginx -t -q\nsystemctl kill '--kill-who=main' --signal HUP nginx.service\n"
        );
        assert!(
            unit.systemctl("restart", &[])
                .text()
                .ends_with("systemctl restart nginx.service || sh why-not nginx.service\n")
        );
    }

    #[test]
    fn reloads_and_restarts_when_what_it_reads_changed() {
        assert_eq!(
            check(&nginx(), &facts("active", "enabled"), &touched("/etc/nginx/sites-available/a.conf")),
            ["reload: nginx -t -q; systemctl reload nginx.service"]
        );
        assert_eq!(
            check(
                &nginx(),
                &facts("active", "enabled"),
                &touched("/etc/systemd/system/nginx.service.d/limits.conf")
            ),
            [
                "restart: systemctl daemon-reload; nginx -t -q; systemctl restart nginx.service || sh why-not nginx.service"
            ]
        );
    }

    #[test]
    fn a_refused_file_is_put_back() {
        let path = "/etc/nginx/sites-available/a.conf";
        let write = crate::plan::FileWrite {
            path: path.into(),
            content: Vec::new(),
            owner: "root".into(),
            group: "root".into(),
            mode: "0644".into(),
            secret: false,
        };
        let written =
            Change::new(ResourceId::new("file", path), Action::Update, "", vec![Step::Write(write)]);
        let changes = check(&nginx(), &facts("active", "enabled"), &[written]);
        insta::assert_snapshot!(changes.join("\n").replace("; ", "\n"), @r#"
    reload: put_back() {
    if [ -e before/etc/nginx/sites-available/a.conf ]
    then mv -fT -- before/etc/nginx/sites-available/a.conf /etc/nginx/sites-available/a.conf
    else rm -f -- /etc/nginx/sites-available/a.conf
    fi
    unit=nginx.service
    echo "$unit was left alone, and its files are as they were"
    }
    trap put_back EXIT
    nginx -t -q
    trap - EXIT
    systemctl reload nginx.service
    "#);
    }

    #[test]
    fn a_bare_host_is_planned_in_one_go() {
        assert_eq!(
            check(&nginx(), &Facts::default(), &touched("/etc/nginx/sites-available/a.conf")),
            [
                "update: systemctl enable nginx.service",
                "start: nginx -t -q; systemctl start nginx.service || sh why-not nginx.service; nginx -t -q; systemctl reload nginx.service"
            ]
        );
    }
}
