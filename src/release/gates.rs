//! What a release must pass: the preflight before anything of it runs, and the health check when it does.
//!
//! Invariant: whatever fails here leaves the old release as it was, and a stamp that says what failed and why.

use std::sync::LazyLock;

use serde_json::json;

use crate::apply::heredoc;
use crate::plan::{Change, Step};
use crate::process::serving::Interface;
use crate::shell::{Cmd, Script};

use super::instances;
use super::migrations::{self, KEEP_ANSWERS};
use super::steps::{IS_COLLECTED, PYTHON_AS_APP, Steps};

/// The step that only asks for the settings.
pub const ASKING: &str = "ask Django for its settings";

/// Beginning of a line that says why a step failed, for the first line of the message.
pub const CAUSE: &str = "ship-cause: ";

/// Beginning of a line that says what to do about it.
pub const HINT: &str = "ship-hint: ";

/// Beginning of a line that the user reads as it comes, whether or not anything fails.
pub const NOTE: &str = "ship-note: ";

/// What an answer means, for both scripts below.
const ANSWERS: &str = include_str!("../../templates/django/answers.py");
/// The question about the settings, a part of the preflight.
const ASK: &str = include_str!("../../templates/django/ask.py");
/// The proof that the static files are collected already, another.
const STATIC: &str = include_str!("../../templates/django/static.py");
/// The preflight.
const PREFLIGHT: &str = concat!(
    include_str!("../../templates/django/trace.py"),
    "\n\n",
    include_str!("../../templates/django/preflight.py")
);
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
  printf 'SHIP_PREFLIGHT=%s\n' "$stage" >"$state/stage.env"
  out=$state/preflight.out
  rm -f "$out"
  # systemd reads a file of a name that it has never heard of without being told to.
  unit=ship-preflight-$app@$n.service
  file=/run/systemd/system/$unit
  passed=
  code=0
  if [ "$1" = first ] && hold; then passed=1; else in_a_unit; fi
  touch "$out"
  rm -rf "$state/.said"; mkdir "$state/.said"
  # What it said becomes stamps, the last line of a kind each; what the project itself printed is the evidence, but for a
  # traceback in its own log, which is the same once more.
  awk -v to="$state/.said/" -v stage="$1" '
    function stamp(name, text) { printf "%s", text >(to name); close(to name) }
    sub(/^ship-answer: /, "") { answer = $0 "\n"; next }
    sub(/^ship-settings: /, "") { settings = $0 "\n"; next }
    sub(/^ship-static: /, "") { static = $0 "\n"; next }
    sub(/^ship-override: /, "") { overrides = overrides $0 "\n"; next }
    sub(/^ship-result: /, "") { result = $0 "\n"; next }
    sub(/^ship-told: /, "") { told = told $0 "\n"; next }
    sub(/^ship-warning: /, "") { if (!warned[$0]++) warnings = warnings $0 "\n"; next }
    /^ship-end: / { next }
    /^ship-evidence$/ { kept = ""; next }
    { kept = kept $0 "\n" }
    END {
      printf "%s", kept
      if (stage != "final") {
        if (answer != "") stamp("answer.json", answer)
        if (settings != "") stamp("settings.json", settings)
        if (static != "") stamp("static", static)
        stamp("overrides", overrides)
      }
      stamp("preflight", result)
      stamp("warnings", warnings)
      stamp("told", told)
      if (match(result, /"pending": \[[^]]*\]/)) brings = substr(result, RSTART + 12, RLENGTH - 13) "\n"
      gsub(/"/, "", brings)
      if (stage == "first") stamp("brings", brings)
    }' "$out"
  # What is laid over the settings is told when it is not what the live release has, once.
  new=$state/.said/overrides
  if [ -s "$new" ] && ! same "$new" "$state/overrides" && ! same "$new" "$state/../$old/overrides"; then
    sed 's/^/ship-note: /' "$new"
  fi
  # What the first preflight of a release has said, the second one doesn't say again; nor what was said of the live release.
  if [ -s "$state/.said/warnings" ]; then
    said=$state/../$old/warnings; before=$state/warnings
    if [ -z "$old" ] || [ ! -e "$said" ]; then said=/dev/null; fi
    if [ "$1" = first ] || [ ! -e "$before" ]; then before=/dev/null; fi
    grep -vxF -f "$said" -f "$before" "$state/.said/warnings" | sed 's/^/ship: /' || true
  fi
  mv -t "$state" "$state/.said/"*
  if [ "$1" != final ] && [ -s "$state/answer.json" ]; then printf '%s\n' "$venv" >"$state/venv"; fi
  if [ -z "$passed" ] && [ "$code" != 64 ] && ! grep -q '^ship-cause: ' "$out"; then
    ended=$(systemctl show -p Result -p ExecMainStatus "$unit" | sort -r | tr '\n' ' ')
    case $ended in
      *oom-kill*|*signal*Status=9\ *) echo "ship-cause: the preflight was killed, as the kernel does when memory runs out"
        memory_hint ;;
      *) echo "ship-cause: the preflight was ended: $ended" ;;
    esac
  fi
  [ -n "$passed" ] || systemctl reset-failed "$unit" 2>/dev/null || true
  rm -rf "$file" "$out" "$state/stage.env" "$state/.said"
  # However it was ended, it is no success.
  if [ -z "$passed" ] && [ "$code" -eq 0 ]; then code=1; fi
}
in_a_unit() {
  { sed '/^Sockets=/d' "/etc/systemd/system/$app@.service"
    sed -s '$a\' "/etc/systemd/system/$app@.service.d/"*.conf 2>/dev/null || true
    cat <<END

[Unit]
BindsTo=$SHIP_UNIT
After=$SHIP_UNIT
[Service]
Type=oneshot
RemainAfterExit=no
Restart=no
WatchdogSec=0
OOMScoreAdjust=900
Nice=5
ExecStart=
ExecStart=$top/venvs/%i/bin/python -
EnvironmentFile=$state/stage.env
TimeoutStartSec=$limit
StandardInput=file:$state/preflight.py
StandardOutput=append:$out
StandardError=inherit
END
  } >"$file.new"
  mv "$file.new" "$file"
  if systemctl start "$unit" 2>/dev/null; then passed=1
  else code=$(systemctl show -p ExecMainStatus --value "$unit"); fi
}
same() { [ -e "$2" ] && cmp -s "$1" "$2"; }
"#;

/// Which folders are shared follows from what the settings answer, and the page that is asked for may need them. Where the
/// release has no files of its own, the links are made before and go again if the answer is another: one start of Django does.
const ASK_FIRST: &str = r#"late=
early() { if [ -d "$release/$1" ] && [ ! -L "$release/$1" ]; then late=1; else share "$@"; fi; }
take_back() { if [ -L "$release/$1" ]; then rm -f "$release/$1"; fi; }
judge() {
  if [ "$code" -eq 64 ]; then
    printf 'Django answers otherwise than planned: %s\n' "$(cat "$state/answer.json")"
    shares take_back
  fi
  [ "$code" -eq 0 ] || exit "$code"
}
shares early
if [ -n "$late" ]; then
  preflight settings
  judge
  shares share
fi
"#;

/// Who has seen the database or the static files as they were is not the one to serve.
const UNLESS_NEEDED: &str = r#"if [ -s "$state/pending" ] || ! is_collected; then let_go; fi
"#;

/// Leaves a stamp when a step of the release fails: what failed, in the words that the user reads.
const ON_FAILURE: &str = r#"failed() {
  case $1 in 0|64|77) return 0 ;; esac
  [ -d "$state" ] || return 0
  reason=$(awk '
    /^\036/ { if ($2 == "start") { cause = trace = thrown = said = last = "" } next }
    sub(/^ship-cause: /, "") { cause = $0; next }
    /^Traceback \(most recent/ { trace = 1; thrown = ""; next }
    trace && thrown == "" && /^[^ \t]/ { thrown = $0 }
    /^error: / && said == "" { said = substr($0, 8) }
    /^[^ \t]/ && !/^hint: / { last = $0 }
    END { print cause != "" ? cause : thrown != "" ? thrown : said != "" ? said : last }' "$journal" | cut -c1-300)
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

/// The beginning of a program for Python, with what it must know of the site.
fn program(site: &serde_json::Value) -> Script {
    // JSON's string literals are a subset of Python's.
    let site = serde_json::Value::from(site.to_string());
    Script::new().line("import json").line(&format!("SHIP = json.loads({site})")).then(&ANSWERS.into())
}

/// The parts of the preflight that are programs of their own.
static PARTS: LazyLock<String> = LazyLock::new(|| {
    let parts = json!({ "ask": ASK, "migrations": migrations::QUESTIONS, "static": STATIC });
    format!("PARTS = {parts}\n")
});

/// The preflight with its parts.
fn preflight_program(site: &serde_json::Value) -> Script {
    program(site).then(&PARTS.as_str().into()).then(&PREFLIGHT.into())
}

/// The program that asks the site through nginx; its argument is what the preflight found.
pub fn health_program(site: &serde_json::Value) -> Script {
    program(site).then(&HEALTH.into())
}

impl Steps<'_> {
    /// What every step of a release begins with from the moment that there is a folder for its stamps.
    pub(super) fn guarded(&self, doing: &str) -> Script {
        let record = serde_json::to_string(&self.numbered_record()).unwrap_or_default();
        self.prelude()
            .set("doing", doing)
            .set("record", record)
            .then(&Script::fixed(ON_FAILURE))
            .line("at=$(date -u +%Y-%m-%dT%H:%M:%SZ)")
            .line("[ ! -d \"$state\" ] || { printf '%s\\n' \"$record\" | sed \"s/\\\"at\\\":\\\"\\\"/\\\"at\\\":\\\"$at\\\"/\" >\"$state/.new\" && mv \"$state/.new\" \"$state/record\"; rm -f \"$state/failed\"; }")
    }

    /// What the scripts know of the site.
    fn site(&self, look: bool) -> serde_json::Value {
        let config = self.context.config;
        json!({
            "release": format!("v{}", self.number),
            "look": look,
            "answer": self.layout.line(),
            "folder": format!("/srv/{}/releases/", config.app),
            "domains": config.domains,
            "path": config.django.health.path,
            "guessed": config.django.health.guessed,
            "timeout": config.django.health.timeout_s,
            "boot_timeout": config.web.boot_timeout_s,
            "wsgi": config.web.serving.application,
            "asgi": config.web.serving.interface == Interface::Asgi,
            "port": config.port,
            "web": 80,
            "tls": 443,
        })
    }

    /// Asks the release, in its own unit's environment, what it needs and whether it can serve. With `look`, also which
    /// migrations it brings.
    ///
    /// With `hold`, nothing comes between it and the switch, and the process that asks may be the one that serves.
    pub(super) fn preflight(&self, look: bool, hold: bool) -> Change {
        let config = self.context.config;
        let script = self.asking("preflight", look, hold).line("preflight first").line("judge");
        let script = if look { script.then(&Script::fixed(KEEP_ANSWERS)) } else { script };
        let script = if hold {
            script.then(&Script::fixed(IS_COLLECTED)).then(&Script::fixed(UNLESS_NEEDED))
        } else {
            script
        };
        let host = config.domains.first().map(|domain| format!(" as {domain}")).unwrap_or_default();
        let migrations = if look { "migrations, " } else { "" };
        let why = format!("settings, check --deploy, {migrations}GET {}{host}", config.django.health.path);
        self.change(&format!("preflight v{}", self.number), why, script)
    }

    /// Only asks for the settings, before something that can't be taken back.
    pub(super) fn ask(&self) -> Change {
        let script = self.asking(ASKING, false, false);
        let script = script.line("[ -n \"$late\" ] || { preflight settings; judge; }");
        self.change(ASKING, "", script)
    }

    fn asking(&self, doing: &str, look: bool, hold: bool) -> Script {
        let site = self.site(look);
        self.guarded(doing)
            .then(&heredoc("cat >\"$state/preflight.py\"", preflight_program(&site)))
            .then(&self.hold_functions(hold))
            .then(&self.preflight_function())
            .then(&self.shares())
            .then(&Script::fixed(ASK_FIRST))
    }

    fn preflight_function(&self) -> Script {
        let config = self.context.config;
        // Loading, migrations, checks, and as many requests as redirects are followed; each ends by itself before.
        let limit = 3 * config.web.boot_timeout_s + 7 * config.django.health.timeout_s + 30;
        Script::new().set("limit", limit.to_string()).then(&Script::fixed(RUN_PREFLIGHT))
    }

    /// The preflight once more where the first one could not tell, now that nothing is left that may cure it.
    pub(super) fn last_preflight(&self) -> Script {
        self.preflight_function().line(
            "if ! grep -q '\"again\": null' \"$state/preflight\"; then doing=preflight; preflight final; [ \"$code\" -eq 0 ] || exit \"$code\"; doing=switch; fi",
        )
    }

    /// Starts the workers, which must stay up, then the site.
    pub(super) fn start_gated(&self) -> Script {
        let config = self.context.config;
        let mut script = Script::fixed(WATCH);
        let units = instances(config, self.number);
        let (web, workers) = units.split_at(1);
        // Workers first: a release whose worker crashes must not have answered a single request.
        let single = |unit: &&String| {
            workers.iter().zip(config.workers.values()).any(|(own, worker)| own == *unit && worker.singleton)
        };
        for unit in workers.iter().filter(|unit| !single(unit)) {
            script = script.cmd(Cmd::new("start").arg(unit));
        }
        // What must be alone: the old one ends before the new one starts.
        for unit in workers.iter().filter(single) {
            let process = unit.split('@').next().unwrap_or_default();
            script = script
                .set("unit", unit)
                .line("alone=\"$alone $unit\"")
                .cmd(Cmd::new("make_room").arg(process))
                .cmd(Cmd::new("start").arg(unit));
        }
        if !workers.is_empty() {
            script = script.line("since=$(uptime_s)");
        }
        for (unit, worker) in workers.iter().zip(config.workers.values()) {
            if worker.settle_s > 0 {
                script = script.cmd(Cmd::new("watch").arg(unit).arg(worker.settle_s.to_string()));
            }
        }
        let script = script.then(&self.take_port());
        web.iter()
            .fold(script, |script, unit| script.cmd(Cmd::new("start").arg(unit)))
            .then(&self.wait_for_port())
    }

    /// The health check's script in a file that the site's user may read, and what runs it.
    fn health_function(&self) -> Script {
        Script::new()
            .line("ask=$(mktemp -d)")
            .then(&heredoc("cat >\"$ask/health.py\"", health_program(&self.site(false))))
            .line("chmod 0755 \"$ask\"; chmod 0644 \"$ask/health.py\"")
            .line(&format!("healthy() {{ {PYTHON_AS_APP} \"$ask/health.py\" \"$(cat \"$state/preflight\" 2>/dev/null)\" \"$@\"; }}"))
    }

    /// Loads the health check before there is anything to check: Python takes as long to start as a release to answer.
    pub(super) fn warm_up(&self) -> Script {
        self.health_function().line(
            r#"mkfifo -m 0600 "$ask/go"
exec 4<>"$ask/go"
healthy wait <&4 &
asking=$!
healthy() { echo go >&4; wait "$asking"; }"#,
        )
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
        put_back.line(
            r#"rm -rf "/run/ship/$app"
old=$(readlink "$top/current" 2>/dev/null || true); old=${old##*/}
case " $stopped " in
  *" $app@$old.service "*) ;;
  *) [ "$old" != "$n" ] && [ -n "$old" ] && systemctl -q is-active "$app@$old.service" || old= ;;
esac
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
