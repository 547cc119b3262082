//! The steps of a release, each a script that can run again after any interruption.
//!
//! Every step reads and leaves stamps in `/var/lib/ship/APP/releases/vN`; a stamp is put in place by a rename, last.

use crate::apply::{heredoc, wait_for_upload};
use crate::facts::app::{App, Record};
use crate::human::{bytes, count};
use crate::plan::{Action, Change, ResourceId};
use crate::shell::{Cmd, Script};
use crate::tree::Delta;

use super::{ANSWER_DIFFERS, Context, Layout, extra_packages, instances};

/// What every step is made from.
pub(super) struct Steps<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) app: &'a App,
    pub(super) number: u32,
    pub(super) venv: &'a str,
    pub(super) recipe: &'a str,
    pub(super) layout: &'a Layout,
    pub(super) record: Record,
}

impl Steps<'_> {
    pub(super) fn change(&self, name: &str, why: impl Into<String>, script: Script) -> Change {
        Change::run(ResourceId::new("release", name), Action::Run, why, script)
    }

    /// Variables that every step uses; all paths follow from them.
    pub(super) fn prelude(&self) -> Script {
        let config = self.context.config;
        let root = config.django.suffix();
        Script::new()
            .set("app", &config.app)
            .set("n", format!("v{}", self.number))
            .set("venv", self.venv)
            .set("root", root)
            .line("top=/srv/$app; release=$top/releases/$n; state=/var/lib/ship/$app/releases/$n")
    }

    /// Runs a command as the site does: its user, its environment, its folder.
    pub(super) fn as_app(&self) -> Script {
        Script::from_text(AS_APP)
    }

    pub(super) fn upload(&self, delta: &Delta, why: &str) -> Change {
        let base = self.app.newest_tree().map(|(number, _)| format!("v{number}")).unwrap_or_default();
        let digest = self.context.source.tree.digest();
        let mut script = self
            .prelude()
            .set("base", base)
            .set("digest", digest)
            .line("umask 022")
            .line("rm -rf \"$release\" \"$release.new\" \"$state\"")
            .line("install -d -m 0700 \"$state\"")
            .set("keep", self.context.config.keep_releases.to_string())
            .then(&Script::from_text(PRUNE_FAILED))
            .line("install -d -m 0750 -g \"$app\" \"$release.new\"")
            .line("export LC_ALL=C")
            .then(&heredoc("cat >added", &delta.added))
            .then(&heredoc("cat >removed", &delta.removed))
            .line("sed -i '/^$/d' added removed")
            .line("if [ -n \"$base\" ]; then comm -23 \"$state/../$base/manifest\" removed >kept; else : >kept; fi")
            .line("sort -m kept added >\"$state/manifest\"")
            .line("cut -c68- kept | tr '\\n' '\\0' | ( cd \"$top/releases/${base:-.}\" && xargs -0r cp -lP --parents -t \"$release.new\" -- )");
        if !delta.send.is_empty() {
            script = script
                .then(&wait_for_upload())
                // -m: files are as old as their arrival. collectstatic only takes those newer than what it has.
                .line("tar -xmzf upload -C \"$release.new\" --no-same-owner --unlink-first --delay-directory-restore");
        }
        let script = script
            .line("rm -f kept added removed")
            .line("echo \"$digest  $state/manifest\" | sha256sum --quiet -c - || { echo 'the files on the server are not those of the laptop'; exit 1; }")
            .line("chgrp -R \"$app\" \"$release.new\" 2>/dev/null || true")
            .line("sync -f \"$release.new\"")
            .line("mv -T \"$release.new\" \"$release\"")
            .line("printf '%s\\n' \"$digest\" >\"$state/.new\" && mv \"$state/.new\" \"$state/tree\"");
        let size = if delta.send.is_empty() {
            String::new()
        } else {
            format!("{}, {}", count(delta.send.len(), "file"), bytes(delta.send_bytes))
        };
        let why = [why, size.as_str()]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("; ");
        let mut change = self.change(&format!("upload v{}", self.number), why, script);
        if self.app.newest_tree().is_some() {
            let mut list: Vec<String> = delta.send.iter().map(|path| format!("~ {path}")).collect();
            list.extend(delta.gone.iter().map(|path| format!("- {path}")));
            list.sort_by(|a, b| a.get(2..).cmp(&b.get(2..)));
            let more = list.len().saturating_sub(20);
            list.truncate(20);
            if more > 0 {
                list.push(format!("… and {more} more"));
            }
            if !list.is_empty() {
                change.diff = Some(list.join("\n"));
            }
        }
        change
    }

    /// Takes the live release's files as they are.
    pub(super) fn copy(&self, live: u32, why: &str) -> Change {
        let script = self.prelude().set("base", format!("v{live}")).line(
            r#"rm -rf "$release" "$release.new" "$state"
cp -al "$top/releases/$base" "$release.new"
install -d -m 0700 "$state"
cp "$state/../$base/manifest" "$state/manifest"
[ ! -e "$state/../$base/migrations" ] || cp "$state/../$base/migrations" "$state/migrations"
mv -T "$release.new" "$release"
cp "$state/../$base/tree" "$state/.new" && mv "$state/.new" "$state/tree""#,
        );
        self.change(&format!("take the files of v{live}"), why, script)
    }

    pub(super) fn venv(&self, python: &str) -> Change {
        let config = self.context.config;
        let extra = extra_packages(config, self.context.source);
        let mut install = Cmd::new("install");
        for file in &config.django.requirements {
            install = install.arg("-r").arg(file);
        }
        install = install.args(&extra);
        let inner = Script::from_text(
            r#"umask 022
cd "$release"
export HOME="/var/cache/ship/$app" UV_CACHE_DIR="/var/cache/ship/$app/uv" UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never \
  UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_NO_CONFIG=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
  PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_CACHE_DIR="/var/cache/ship/$app/pip"
target=$top/venvs/$venv
rm -rf "$target"
uv=/opt/ship/uv/bin/uv
if [ -x $uv ]; then
  $uv venv --quiet --python /usr/bin/python3 "$target" </dev/null
  install() { $uv pip install --quiet --python "$target/bin/python" --compile-bytecode "$@" </dev/null; }
else
  python3 -m venv "$target" </dev/null
  install() { "$target/bin/python" -m pip install -q "$@" </dev/null; }
fi
"#,
        )
        .cmd(install)
        .line("sync -f \"$target\"")
        .line("touch \"$target/.ship-complete\"");
        let body = self.prelude().then(&inner);
        let script = self
            .guarded("install Python packages")
            .line("install -d -o \"$app-build\" -g \"$app-build\" -m 0750 \"/var/cache/ship/$app\"")
            .then(&heredoc("runuser -u \"$app-build\" -- sh -eu", body.text()));
        let mut why = format!("Python {python}, {}", config.django.requirements.join(", "));
        for name in extra {
            why.push_str(&format!(" + {name}"));
        }
        self.change("install Python packages", why, script)
    }

    /// Composes the environment, links what is shared, and asks Django.
    pub(super) fn prepare(&self, why: String) -> Change {
        self.prepare_with(why, &Script::from_text(PARTS_OF_NOW))
    }

    /// The same with the environment that a release of before had.
    pub(super) fn prepare_of(&self, base: u32) -> Change {
        let parts = Script::new().set("base", format!("v{base}")).then(&Script::from_text(PARTS_OF_THEN));
        self.prepare_with(String::new(), &parts)
    }

    fn prepare_with(&self, why: String, parts: &Script) -> Change {
        let mut script = self
            .guarded("ask Django for its settings")
            .then(&self.as_app())
            .line("ln -sfn \"$venv\" \"$top/venvs/$n\"")
            .then(parts)
            .line("( cd \"$state/parts\"; env=/etc/ship/$app/$n.env")
            .line("  umask 027; cat -- *.env >\"$env.new\"; chgrp \"$app\" \"$env.new\"; mv \"$env.new\" \"$env\"")
            .line("  sha256sum -- *.env >\"$state/config\" )");
        // Python files of the site itself are compiled once, by root, since the site can't write there. The
        // system's Python does it: root must not run what the virtual environment brings.
        script = script.line("python3 -I -m compileall -q -j 0 \"$release\" >/dev/null 2>&1 || true");
        let domains = Cmd::new("-").raw("\"$release\"").args(&self.context.config.domains);
        let question = format!("answer=$(as_app \"$top/venvs/$n/bin/python\" {}", domains.text());
        script = script
            .then(&heredoc(&question, ASK))
            .line(")")
            .line("printf '%s\\n' \"$answer\" | tail -n 1 >\"$state/.new\" && mv \"$state/.new\" \"$state/answer.json\"")
            .line("printf '%s\\n' \"$venv\" >\"$state/venv\"")
            .set("expected", self.layout.line())
            .line("if [ \"$(cat \"$state/answer.json\")\" != \"$expected\" ]; then")
            .line("  printf 'Django answers otherwise than planned: %s\\n' \"$(cat \"$state/answer.json\")\"")
            .line(&format!("  exit {ANSWER_DIFFERS}"))
            .line("fi")
            .then(&self.link_shared());
        self.change("ask Django for its settings", why, script)
    }

    /// Puts links to the shared folders in the places of STATIC_ROOT and MEDIA_ROOT.
    fn link_shared(&self) -> Script {
        let mut script = Script::from_text(
            r#"share() {
  here=$release/$1
  if [ -L "$here" ]; then rm -f "$here"; fi
  if [ -d "$here" ]; then
    # Files of this folder that came with the project are offered once and never overwrite.
    cp -an "$here/." "$2/"; chown -R "$app:$app" "$2"; rm -rf "$here"
  fi
  mkdir -p "$(dirname "$here")"
  ln -s "$2" "$here"
}
"#,
        );
        let shares = [(&self.layout.static_root, "static"), (&self.layout.media_root, "shared/media")];
        for (root, target) in shares {
            if let Some(root) = root.as_deref().filter(|root| !root.starts_with('/')) {
                script = script.set("folder", root).line(&format!("share \"$folder\" \"$top/{target}\""));
            }
        }
        script
    }

    fn manage(&self, arguments: &[&str]) -> String {
        let cmd = Cmd::new("manage.py").args(arguments);
        format!("as_app \"$top/venvs/$n/bin/python\" {}", cmd.text())
    }

    pub(super) fn collectstatic(&self) -> Change {
        let script = self.guarded("collectstatic").then(&self.as_app()).line(&self.manage(&[
            "collectstatic",
            "--noinput",
            "--verbosity",
            "0",
        ]));
        self.change("collect static files", "", script)
    }

    /// The same when what is there may be newer.
    pub(super) fn collect_again(&self) -> Change {
        let script = self
            .guarded("collectstatic")
            .then(&self.as_app())
            .then(&heredoc("as_app \"$top/venvs/$n/bin/python\" -", COLLECT_AGAIN));
        self.change("collect static files", "", script)
    }

    /// Gives later releases the environment that this one has.
    pub(super) fn put_environment_back(&self) -> Change {
        self.change("put the environment back", "", self.prelude().then(&Script::from_text(PUT_BACK)))
    }

    /// Runs the new release beside the old one, asks it through nginx, and only then points everything to it.
    ///
    /// `before` are the changes of the same plan: a web server's site that came with the release goes back with it.
    pub(super) fn switch(&self, before: &[Change]) -> Change {
        let config = self.context.config;
        let mut script = self.guarded("switch").then(&self.last_preflight()).then(&Script::from_text(
            r#"set_live() {
  install -d "/etc/systemd/system/$app.socket.d"
  printf '# Managed by ship: who answers when nobody does.\n[Socket]\nService=%s@%s.service\n' "$app" "$1" \
    >"/etc/systemd/system/$app.socket.d/.live.new"
  mv "/etc/systemd/system/$app.socket.d/.live.new" "/etc/systemd/system/$app.socket.d/live.conf"
}
# Nothing points to the new release yet: without it, everything is as it was.
give_up() {
  case " $started " in *" $app@$n.service "*) systemctl stop "$app@$n.service" 2>/dev/null || true ;; esac
  # Workers may finish what they have begun.
  [ -z "$started" ] || systemctl stop --no-block $started 2>/dev/null || true
  exit 1
}
tell_why() {
  why=$(journalctl -q -o cat -n 30 -u "$1" --since "$began" -t "${1%@*}" 2>/dev/null | grep '^[^[:space:]]' | tail -n 1)
  echo "ship-cause: the process ${1%@*} ends as soon as it is started${why:+: $why}"
}
start() {
  started="$started $1"
  if ! systemctl restart "$1" 2>/dev/null; then
    echo "$1 does not start. Its last lines:"
    said=$(journalctl -q -o cat -n 40 -u "$1" --since "$began" 2>/dev/null | tail -n 40)
    printf '%s\n' "$said"
    case $said in *'out of memory?'*|*oom-kill*)
      echo "ship-cause: ${1%.service} was killed, as the kernel does when memory runs out"
      memory_hint ;;
    *) case $1 in "$app@"*) ;; *) tell_why "$1" ;; esac ;;
    esac
    give_up
  fi
}
started=
began=$(date '+%F %T')
# The socket must name a unit that exists before it can listen at all.
[ -e "/etc/systemd/system/$app.socket.d/live.conf" ] || set_live "$n"
systemctl daemon-reload
systemctl enable --quiet --no-reload "$app.socket" 2>/dev/null || systemctl enable --quiet "$app.socket"
"#,
        ));
        script = script.then(&self.start_gated()).then(&self.health_gate(before));
        script = script
            .line("set_live \"$n\"")
            .line("ln -sfn \"releases/$n\" \"$top/.current.new\" && mv -fT \"$top/.current.new\" \"$top/current\"")
            .set("recipe", self.recipe)
            .line("printf '%s\\n' \"$recipe\" >\"$state/recipe\"");
        let mut keep = Cmd::new("set").arg("--");
        for unit in instances(config, self.number) {
            keep = keep.arg(unit);
        }
        let script = script.cmd(keep).line(
            r#"systemctl enable --quiet --no-reload "$@"
keep=" $* "
# Every other instance of this application drains; those of removed processes, too.
others=$( { systemctl list-units --all --plain --no-legend "$app@*.service" "$app-*@*.service" | cut -d' ' -f1
  cd /etc/systemd/system/multi-user.target.wants && ls -d -- "$app"@*.service "$app"-*@*.service 2>/dev/null; } | sort -u)
for unit in $others; do
  case "$keep" in *" $unit "*) continue ;; esac
  systemctl disable --quiet --no-reload "$unit" 2>/dev/null || rm -f "/etc/systemd/system/multi-user.target.wants/$unit"
  systemctl stop --no-block "$unit"
done
systemctl daemon-reload
# There was nothing to return to.
[ -z "$sick" ]"#,
        );
        let why = match self.app.current {
            Some(old) => format!("v{old} serves until v{} is seen healthy", self.number),
            None => String::new(),
        };
        self.change(&format!("switch to v{}", self.number), why, script)
    }

    pub(super) fn numbered_record(&self) -> Record {
        Record { number: self.number, ..self.record.clone() }
    }

    pub(super) fn record(&self) -> Change {
        let record = serde_json::to_string(&self.numbered_record()).unwrap_or_default();
        let script = self
            .prelude()
            .set("record", record)
            .set("keep", self.context.config.keep_releases.to_string())
            .line(
                r#"at=$(date -u +%Y-%m-%dT%H:%M:%SZ)
log=/var/lib/ship/$app/releases.jsonl
applied=$(awk '{ printf "%s\"%s\"", (NR > 1 ? "," : ""), $0 }' "$state/applied" 2>/dev/null || true)
printf '%s\n' "$record" | sed "s/\"at\":\"\"/\"at\":\"$at\"/; s/\"migrations\":\[\]/\"migrations\":[$applied]/" >>"$log"
sync -f "$log"
rm -f "$state/failed"
# Releases beyond the last few good ones go, and so does every virtual environment that no release uses. A failed
# one stays to be looked at as long as it is newer than the oldest good one, and there are not too many.
cd "$top/releases"
good=0; failed=0
ls -d v* 2>/dev/null | sed 's/^v//' | grep -x '[0-9]*' | sort -rn | while IFS= read -r old; do
  [ "v$old" != "$n" ] || { good=$((good + 1)); continue; }
  if [ -e "$state/../v$old/failed" ]; then
    failed=$((failed + 1))
    [ "$good" -ge "$keep" ] || [ "$failed" -gt "$keep" ] || continue
  else
    good=$((good + 1))
    [ "$good" -gt "$keep" ] || continue
  fi
  rm -rf "v$old" "$state/../v$old" "/etc/ship/$app/v$old.env" "$top/venvs/v$old" "/var/backups/ship/$app/v$old.dump"
done
rm -rf ./*.new
cd "$top/venvs"
for link in v[0-9]*; do
  if [ -L "$link" ] && [ ! -d "$top/releases/$link" ]; then rm -f "$link"; fi
done
for folder in *; do
  if [ -L "$folder" ] || [ ! -d "$folder" ]; then continue; fi
  used=
  for link in v[0-9]*; do
    if [ -L "$link" ] && [ "$(readlink "$link")" = "$folder" ]; then used=1; break; fi
  done
  [ -n "$used" ] || rm -rf "$folder"
done"#,
            );
        self.change(&format!("record v{}", self.number), "", script)
    }
}

/// However often in a row releases fail, only the last few of them stay to be looked at.
const PRUNE_FAILED: &str = r#"live=$(readlink "$top/current" 2>/dev/null || true); live=${live##*/}
ls -d "$top"/releases/v* 2>/dev/null | sed 's/.*\/v//' | grep -x '[0-9]*' | sort -rn | while IFS= read -r old; do
  if [ "v$old" = "$live" ] || [ ! -e "$state/../v$old/failed" ]; then continue; fi
  failed=$((${failed:-0} + 1))
  [ "$failed" -ge "$keep" ] || continue
  rm -rf "$top/releases/v$old" "$state/../v$old" "/etc/ship/$app/v$old.env" "$top/venvs/v$old"
done
"#;

/// Collects static files by their content.
const COLLECT_AGAIN: &str = include_str!("../../templates/django/collectstatic.py");

/// Runs a command in the release that `$n`, `$release` and `$root` name, until the unit `$SHIP_UNIT` ends.
pub(super) const AS_APP: &str = r#"as_app() {
  systemd-run --quiet --collect --wait --pipe --service-type=exec --property=User="$app" --property=Group="$app" \
    --property=WorkingDirectory="$release$root" --property=EnvironmentFile="/etc/ship/$app/$n.env" \
    --property=UMask=0022 --property=BindsTo="$SHIP_UNIT" --property=After="$SHIP_UNIT" -- "$@"
}
"#;

/// Takes the parts of the environment as they are now.
const PARTS_OF_NOW: &str = r#"rm -rf "$state/parts"
install -d -m 0700 "$state/parts"
cp -p -- "/etc/ship/$app/config"/*.env "$state/parts/"
"#;

/// Takes those of `$base` as it got them, but for what only the server knows: its key and where its database is.
const PARTS_OF_THEN: &str = r#"rm -rf "$state/parts"
install -d -m 0700 "$state/parts"
if [ -d "$state/../$base/parts" ]; then
  cp -p -- "$state/../$base/parts"/*.env "$state/parts/"
  rm -f "$state/parts"/00-*.env "$state/parts"/05-*.env
  for part in "/etc/ship/$app/config"/00-*.env "/etc/ship/$app/config"/05-*.env; do
    [ ! -e "$part" ] || cp -p -- "$part" "$state/parts/"
  done
else
  echo "ship: nobody kept the environment of $base, so it gets the one of now"
  cp -p -- "/etc/ship/$app/config"/*.env "$state/parts/"
fi
"#;

/// Makes the parts of the live release those that every later one starts from.
const PUT_BACK: &str = r#"cd "/etc/ship/$app/config"
for part in *.env; do
  [ -e "$state/parts/$part" ] || rm -f -- "$part"
done
for part in "$state/parts"/*.env; do
  cmp -s "$part" "${part##*/}" || { cp -p -- "$part" .new && mv -f .new "${part##*/}"; }
done
"#;

/// The question that the project's own Django answers.
const ASK: &str = include_str!("../../templates/django/ask.py");
