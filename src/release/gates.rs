//! What a release must pass: the preflight before anything of it runs, and the health check when it does.
//!
//! Invariant: whatever fails here leaves the old release as it was, and a stamp that says what failed and why.

use serde_json::json;

use crate::apply::heredoc;
use crate::plan::{Change, Step};
use crate::shell::{Cmd, Script};

use super::instances;
use super::steps::Steps;

/// Beginning of a line that says why a step failed, for the first line of the message.
pub const CAUSE: &str = "ship-cause: ";

/// Beginning of a line that says what to do about it.
pub const HINT: &str = "ship-hint: ";

/// Beginning of a line that the user reads as it comes, whether or not anything fails.
pub const NOTE: &str = "ship-note: ";

/// What an answer means, for both scripts below.
const ANSWERS: &str = include_str!("../../templates/django/answers.py");
/// The preflight.
const PREFLIGHT: &str = include_str!("../../templates/django/preflight.py");
/// The check through nginx.
const HEALTH: &str = include_str!("../../templates/django/health.py");

/// The name of the unit that is the release's own, with the preflight as its command.
///
/// What the site's unit says (user, environment, folder, limits, and what an administrator added) holds for it
/// too; only what concerns serving is replaced. It has a name of its own, so nothing of it can stay behind in
/// the site's unit.
const RUN_PREFLIGHT: &str = r#"memory_hint() {
  echo "ship-hint: the server has $(awk '/^MemTotal/ { all = $2 } /^MemAvailable/ { left = $2 } END { printf "%d MiB of memory, %d of it available beside what runs", all / 1024, left / 1024 }' /proc/meminfo)"
}
preflight() {
  stage=$1
  old=$(readlink "$top/current" 2>/dev/null || true); old=${old##*/}
  # A site that has had nothing at the page that nobody named is not worse for still having nothing there.
  if [ ! -e "$state/../$old/preflight" ] || grep -qs '"status": 404' "$state/../$old/preflight"; then stage=$stage,tolerant; fi
  units=/run/systemd/system
  unit=ship-preflight-$app@
  rm -rf "$units/$unit.service" "$units/$unit.service.d" "$state/preflight.out"
  mkdir -p "$units/$unit.service.d"
  sed '/^Sockets=/d' "/etc/systemd/system/$app@.service" >"$units/$unit.service"
  if [ -d "/etc/systemd/system/$app@.service.d" ]; then
    cp "/etc/systemd/system/$app@.service.d/"*.conf "$units/$unit.service.d/" 2>/dev/null || true
  fi
  cat >"$units/$unit.service.d/zz-ship.conf" <<END
[Unit]
BindsTo=$SHIP_UNIT
After=$SHIP_UNIT
[Service]
Type=oneshot
RemainAfterExit=no
Restart=no
WatchdogSec=0
OOMScoreAdjust=900
ExecStart=
ExecStart=$top/venvs/%i/bin/python -
Environment=SHIP_PREFLIGHT=$stage
TimeoutStartSec=$limit
StandardInput=file:$state/preflight.py
StandardOutput=append:$state/preflight.out
StandardError=inherit
END
  systemctl daemon-reload
  passed=
  if systemctl start "$unit$n.service" 2>/dev/null; then passed=1; fi
  touch "$state/preflight.out"
  sed -n 's/^ship-result: //p' "$state/preflight.out" | tail -n 1 >"$state/.new"
  mv "$state/.new" "$state/preflight"
  sed -n 's/^ship-warning: //p' "$state/preflight.out" | sort -u >"$state/warnings"
  # A traceback in the project's own log is the evidence once more.
  grep -v -e '^ship-result: ' -e '^ship-warning: ' "$state/preflight.out" |
    awk '/^ship-evidence$/ { kept = ""; next } { kept = kept $0 "\n" } END { printf "%s", kept }' || true
  if [ "$1" = first ]; then
    sed -n 's/.*"pending": \[\([^]]*\)\].*/\1/p' "$state/preflight" | tr -d '"' >"$state/brings"
  fi
  # What was said of the live release is not said again.
  said=$state/../$old/warnings
  if [ -z "$old" ] || [ ! -e "$said" ]; then said=/dev/null; fi
  grep -vxF -f "$said" "$state/warnings" | sed 's/^/ship: /' || true
  if [ -z "$passed" ] && ! grep -q '^ship-cause: ' "$state/preflight.out"; then
    ended=$(systemctl show -p Result -p ExecMainStatus "$unit$n.service" | sort -r | tr '\n' ' ')
    case $ended in
      *oom-kill*|*signal*Status=9\ *) echo "ship-cause: the preflight was killed, as the kernel does when memory runs out"
        memory_hint ;;
      *) echo "ship-cause: the preflight was ended: $ended" ;;
    esac
  fi
  systemctl reset-failed "$unit$n.service" 2>/dev/null || true
  rm -rf "$units/$unit.service" "$units/$unit.service.d" "$state/preflight.out"
  [ -n "$passed" ]
}
"#;

/// Leaves a stamp when a step of the release fails: what failed, in the words that the user reads.
const ON_FAILURE: &str = r#"failed() {
  case $1 in 0|64|77) return 0 ;; esac
  [ -d "$state" ] || return 0
  reason=$(awk '
    /^\036/ { if ($2 == "start") { cause = trace = thrown = last = "" } next }
    sub(/^ship-cause: /, "") { cause = $0; next }
    /^Traceback \(most recent/ { trace = 1; thrown = ""; next }
    trace && thrown == "" && /^[^ \t]/ { thrown = $0 }
    /^[^ \t]/ { last = $0 }
    END { print cause != "" ? cause : thrown != "" ? thrown : last }' "$journal" | cut -c1-300)
  printf '%s\t%s\t%s: %s\n' "$bad" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$doing" "$reason" >"$state/.new"
  mv "$state/.new" "$state/failed"
  live=$(readlink "$top/current" 2>/dev/null || true); live=${live##*/}
  if [ -e "$state/reversed" ] && [ "$live" != "$n" ]; then
    echo "ship-hint: the database was taken back already, and $live still serves: run the same \`ship rollback\` again, or \`ship manage migrate\` to stay with $live"
  fi
  case $doing in collectstatic|switch)
    brings=$(cat "$state/brings" 2>/dev/null)
    [ -z "$brings" ] || echo "ship-hint: the database keeps the migrations that $n brought: $brings" ;;
  esac
}
journal=$PWD/journal; bad=failed
trap 'failed $? || true' EXIT
"#;

/// Waits until workers that have been started prove to run on.
///
/// By the time since boot, since a clock may leap.
const WATCH: &str = r#"uptime_s() { cut -d. -f1 /proc/uptime; }
watch() {
  while :; do
    state_of=$(systemctl show -p SubState -p NRestarts "$1")
    case $state_of in *NRestarts=0*) ;; *) break ;; esac
    case $state_of in *SubState=running*|*SubState=start*) ;; *) break ;; esac
    if [ "$(uptime_s)" -ge "$((since + $2))" ]; then return 0; fi
    sleep 0.2
  done
  echo "$1 does not stay up. Its last lines:"
  journalctl -q -o cat -n 30 -u "$1" --since "$began" -t "${1%@*}" 2>/dev/null || true
  tell_why "$1"
  give_up
}
"#;

/// A script for Python with what it must know of the site.
fn program(site: &serde_json::Value, script: &str) -> String {
    // A JSON text as a Python string: JSON's string literals are a subset of Python's.
    let site = serde_json::Value::from(site.to_string());
    format!("import json\n\nSHIP = json.loads({site})\n{ANSWERS}\n\n{script}")
}

/// The program that asks the site through nginx; its argument is what the preflight found.
pub fn health_program(site: &serde_json::Value) -> String {
    program(site, HEALTH)
}

impl Steps<'_> {
    /// What every step of a release begins with from the moment that there is a folder for its stamps.
    pub(super) fn guarded(&self, doing: &str) -> Script {
        let record = serde_json::to_string(&self.numbered_record()).unwrap_or_default();
        self.prelude()
            .set("doing", doing)
            .set("record", record)
            .then(&Script::from_text(ON_FAILURE))
            .line("at=$(date -u +%Y-%m-%dT%H:%M:%SZ)")
            .line("[ ! -d \"$state\" ] || { printf '%s\\n' \"$record\" | sed \"s/\\\"at\\\":\\\"\\\"/\\\"at\\\":\\\"$at\\\"/\" >\"$state/.new\" && mv \"$state/.new\" \"$state/record\"; rm -f \"$state/failed\"; }")
    }

    /// What both scripts know of the site.
    fn site(&self) -> serde_json::Value {
        let config = self.context.config;
        json!({
            "release": format!("v{}", self.number),
            "folder": format!("/srv/{}/releases/", config.app),
            "domains": config.domains,
            "path": config.django.health.path,
            "guessed": config.django.health.guessed,
            "timeout": config.django.health.timeout_s,
            "boot_timeout": config.web.boot_timeout_s,
            "wsgi": config.django.wsgi,
            "port": 8000,
            "web": 80,
        })
    }

    /// Asks the release, in its own unit's environment, whether it can serve.
    pub(super) fn preflight(&self) -> Change {
        let config = self.context.config;
        let script = self
            .guarded("preflight")
            .then(&heredoc("cat >\"$state/preflight.py\"", &program(&self.site(), PREFLIGHT)))
            .then(&self.preflight_function())
            .line("preflight first");
        let host = config.domains.first().map(|domain| format!(" as {domain}")).unwrap_or_default();
        let why = format!("check --deploy, GET {}{host}", config.django.health.path);
        self.change(&format!("preflight v{}", self.number), why, script)
    }

    fn preflight_function(&self) -> Script {
        let config = self.context.config;
        // Loading, migrations, checks, and as many requests as redirects are followed; each ends by itself before.
        let limit = 3 * config.web.boot_timeout_s + 7 * config.django.health.timeout_s + 30;
        Script::new().set("limit", limit.to_string()).then(&Script::from_text(RUN_PREFLIGHT))
    }

    /// The preflight once more where the first one could not tell, now that nothing is left that may cure it.
    pub(super) fn last_preflight(&self) -> Script {
        self.preflight_function().line(
            "if ! grep -q '\"again\": null' \"$state/preflight\"; then doing=preflight; preflight final; doing=switch; fi",
        )
    }

    /// Starts the workers, which must stay up, then the site.
    pub(super) fn start_gated(&self) -> Script {
        let config = self.context.config;
        let mut script = Script::from_text(WATCH);
        let units = instances(config, self.number);
        let (web, workers) = units.split_at(1);
        // Workers first: a release whose worker crashes must not have answered a single request.
        for unit in workers {
            script = script.cmd(Cmd::new("start").arg(unit));
        }
        if !workers.is_empty() {
            script = script.line("since=$(uptime_s)");
        }
        for (unit, worker) in workers.iter().zip(config.workers.values()) {
            if worker.settle_s > 0 {
                script = script.cmd(Cmd::new("watch").arg(unit).arg(worker.settle_s.to_string()));
            }
        }
        web.iter().fold(script, |script, unit| script.cmd(Cmd::new("start").arg(unit)))
    }

    /// The health check's script in a file that the site's user may read, and what runs it.
    fn health_function(&self) -> Script {
        Script::new()
            .line("ask=$(mktemp -d)")
            .then(&heredoc("cat >\"$ask/health.py\"", &health_program(&self.site())))
            .line("chmod 0755 \"$ask\"; chmod 0644 \"$ask/health.py\"")
            .line("healthy() { runuser -u \"$app\" -- /usr/bin/python3 -I \"$ask/health.py\" \"$(cat \"$state/preflight\" 2>/dev/null)\"; }")
    }

    /// Asks the new release through nginx for every domain; a refusal takes it back where another one serves.
    pub(super) fn health_gate(&self, before: &[Change]) -> Script {
        let put_back = before
            .iter()
            .filter(|change| change.id.name.starts_with("/etc/nginx/"))
            .filter(|change| change.steps.iter().any(|step| matches!(step, Step::Write(_))))
            .fold(Script::new(), |script, change| {
                script.then(&crate::apply::restore_script(&change.id.name))
            });
        let put_back = if put_back.is_empty() {
            Script::new().line("put_back() { :; }")
        } else {
            Script::new()
                .line("put_back() {")
                .then(&put_back)
                .line("nginx -t -q && systemctl reload nginx.service")
                .line("}")
        };
        put_back.then(&self.health_function()).line(
            r#"old=$(readlink "$top/current" 2>/dev/null || true); old=${old##*/}
[ "$old" != "$n" ] && [ -n "$old" ] && systemctl -q is-active "$app@$old.service" || old=
sick=
healthy || sick=1
rm -rf "$ask"
if [ -n "$sick" ]; then
  bad=bad
  echo "$n's last lines:"
  journalctl -q -o cat -n 20 -u "$app@$n.service" --since "$began" 2>/dev/null || true
  if [ -n "$old" ]; then
    put_back || true
    echo "ship-hint: $n was taken back"
    give_up
  fi
  echo "ship-hint: there is nothing to return to, so $n is left running"
fi"#,
        )
    }

    /// Makes the record of a release that was live already but never well depend on its health.
    pub(super) fn health(&self) -> Change {
        let script = self
            .guarded("health check")
            .line("bad=bad")
            .then(&self.health_function())
            .line("sick=; healthy || sick=1")
            .line("rm -rf \"$ask\"; [ -z \"$sick\" ]");
        self.change(&format!("check v{}", self.number), "it was never seen healthy", script)
    }
}
