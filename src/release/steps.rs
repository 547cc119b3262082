//! The steps of a release, each a script that can run again after any interruption.
//!
//! Every step reads and leaves stamps in `/var/lib/ship/APP/releases/vN`; a stamp is put in place by a rename, last.

use crate::apply::{heredoc, trash, wait_for_upload};
use crate::config::Config;
use crate::facts::app::{App, Record};
use crate::facts::unit::READING;
use crate::human::{bytes, count};
use crate::plan::{Action, Change, ResourceId};
use crate::project::join;
use crate::resources::placed::kept_as;
use crate::shell::{Cmd, Script, quote};
use crate::tls;
use crate::tree::Delta;

use super::overlay;
use super::{Context, Layout, instances};

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
        Script::fixed(AS_APP)
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
            .then(&Script::fixed(PRUNE_FAILED))
            .line("install -d -m 0750 -g \"$app\" \"$release.new\"")
            .line("export LC_ALL=C")
            .then(&heredoc("cat >added", delta.added.clone()))
            .then(&heredoc("cat >removed", delta.removed.clone()))
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
            .line("echo \"$digest  $state/manifest\" | sha256sum --quiet -c - || { echo 'the files on the server are not those of the laptop'; exit 1; }")
            .line("find \"$release.new\" ! -group \"$app\" -exec chgrp -h \"$app\" {} + 2>/dev/null || true")
            .line(if delta.send.len() > FEW { "sync -f \"$release.new\"" } else { SYNC_FEW })
            .line("rm -f kept added removed")
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

    /// Composes the environment and what is laid over the settings.
    pub(super) fn prepare(&self, why: String) -> Change {
        let (config, source) = (self.context.config, self.context.source);
        let overlay = match overlay::program(config, &source.settings) {
            Some(program) => Script::fixed(OVERLAY_FOLDER)
                .then(&heredoc("cat >\"$folder.new/ship_settings.py\"", program))
                .line(OVERLAY_IN_PLACE),
            None => Script::new().line("rm -rf \"/etc/ship/$app/overlay/$n\""),
        };
        let overlay = overlay.then(&self.secret_files());
        let mut change = self.prepare_with(why, &Script::fixed(PARTS_OF_NOW), &overlay);
        let last = self.app.builds.get(&self.number).and_then(overlay::answered);
        let last = last.or_else(|| self.app.live().and_then(|(_, build)| overlay::answered(build)));
        let overrides = overlay::expected(config, &source.settings, last, self.context.https_soon);
        let mut lines = overlay::lines(&overrides);
        if !lines.is_empty() && change.why.is_empty() {
            change.why = format!("{} over the settings", count(lines.len(), "override"));
        }
        lines.extend(overlay::remark(config, &source.settings));
        if lines.is_empty() { change } else { change.with_diff(lines.join("\n")) }
    }

    /// Links to what the project looks for in its own folders, and nobody else may read.
    fn secret_files(&self) -> Script {
        let (config, source) = (self.context.config, self.context.source);
        let mut script = Script::new();
        for file in &source.files {
            script = script
                .set("file", &file.name)
                .set("kept", kept_as(&file.name))
                .line("mkdir -p \"$(dirname \"$release/$file\")\"; ln -sfn \"/etc/ship/$app/files/$kept\" \"$release/$file\"");
        }
        let env_file = join(&config.django.root, ".env");
        let has = |path: &str| source.tree.entries().iter().any(|entry| entry.path == path);
        if source.settings.reads_env_file() && !has(&env_file) && !config.files.contains_key(&env_file) {
            script =
                script.set("file", env_file).line("ln -sfn \"/etc/ship/$app/$n.env\" \"$release/$file\"");
        }
        script
    }

    /// The same with the overlay that a release has which is taken over as it is.
    pub(super) fn prepare_as(&self, base: u32) -> Change {
        let overlay = Script::new().set("base", format!("v{base}")).then(&Script::fixed(OVERLAY_OF_THEN));
        self.prepare_with(String::new(), &Script::fixed(PARTS_OF_NOW), &overlay)
    }

    /// The same with the environment that a release of before had.
    pub(super) fn prepare_of(&self, base: u32) -> Change {
        let parts = Script::new().set("base", format!("v{base}")).then(&Script::fixed(PARTS_OF_THEN));
        self.prepare_with(String::new(), &parts, &Script::fixed(OVERLAY_OF_THEN))
    }

    fn prepare_with(&self, why: String, parts: &Script, overlay: &Script) -> Change {
        let config = self.context.config;
        let mut script = self
            .guarded("prepare")
            .line("ln -sfn \"$venv\" \"$top/venvs/$n\"")
            .then(parts)
            .then(overlay)
            .set(
                "pythonpath",
                self.context.config.env.get("PYTHONPATH").map(|path| format!(":{path}")).unwrap_or_default(),
            )
            .then(&https(config))
            .line("( cd \"$state/parts\"; env=/etc/ship/$app/$n.env")
            .line("  umask 027; cat -- *.env >\"$env.new\"")
            .line("  printf 'SHIP_HTTPS=\"%s\"\\n' \"$https\" >>\"$env.new\"")
            .line(UNDER_OVERLAY)
            .line("  chgrp \"$app\" \"$env.new\"; mv \"$env.new\" \"$env\"")
            .line("  sha256sum -- *.env >\"$state/config\" )")
            .line(FILES_OF_NOW);
        // Python files of the site itself are compiled once, by root, since the site can't write there. The
        // system's Python does it: root must not run what the virtual environment brings. Nobody waits for it: who is
        // earlier reads the source.
        let base = self.app.newest_tree().map(|(number, _)| number).filter(|base| *base != self.number);
        script = script
            .set("base", base.map(|base| format!("v{base}")).unwrap_or_default())
            .then(&heredoc("compile() {\npython3 -I - \"$release\" \"$top/releases/$base\" \"/etc/ship/$app/overlay/$n\"", COMPILE))
            .line("}")
            .line("compile >/dev/null 2>&1 &");
        self.change(&format!("prepare v{}", self.number), why, script)
    }

    /// What puts links to the shared folders in the places of STATIC_ROOT and MEDIA_ROOT: `shares share`.
    pub(super) fn shares(&self) -> Script {
        let script = Script::fixed(
            r#"share() {
  here=$release/$1
  if [ -L "$here" ]; then rm -f "$here"; fi
  if [ -d "$here" ]; then
    # Files of this folder that came with the project are offered once and never overwrite.
    whose=$(stat -c %U:%G "$2"); mode=$(stat -c %a "$2")
    cp -an "$here/." "$2/"; chown -R "$app:$app" "$2"; chown "$whose" "$2"; chmod "$mode" "$2"; rm -rf "$here"
  fi
  mkdir -p "$(dirname "$here")"
  ln -s "$2" "$here"
}
shares() {
  :
"#,
        );
        let shares = [(&self.layout.static_root, "static"), (&self.layout.media_root, "shared/media")];
        let relative = shares.iter().filter_map(|(root, target)| {
            let root = root.as_deref().filter(|root| !root.starts_with('/'))?;
            Some(format!("  \"$1\" {} \"$top/{target}\"", quote(root)))
        });
        relative.fold(script, |script, line| script.line(&line)).line("}")
    }

    fn manage(&self, arguments: &[&str]) -> String {
        let cmd = Cmd::new("manage.py").args(arguments);
        format!("as_app \"$top/venvs/$n/bin/python\" {}", cmd.text())
    }

    pub(super) fn collectstatic(&self) -> Change {
        let words = ["collectstatic", "--noinput", "--verbosity", "0"];
        // A manage.py that names its settings itself would collect for others.
        let insists = self.context.source.settings.insists().is_some();
        let command = if insists {
            format!("as_app \"$top/venvs/$n/bin/python\" -m django {}", words.join(" "))
        } else {
            self.manage(&words)
        };
        self.collect(&Script::new().line(&command))
    }

    /// The same when what is there may be newer.
    pub(super) fn collect_again(&self) -> Change {
        self.collect(&heredoc("as_app \"$top/venvs/$n/bin/python\" -", COLLECT_AGAIN))
    }

    fn collect(&self, command: &Script) -> Change {
        let script = self
            .guarded("collectstatic")
            .then(&self.as_app())
            .then(&Script::fixed(IS_COLLECTED))
            .line("if is_collected; then : >idle; exit 0; fi")
            .line("rm -f \"$collected\"")
            .then(command)
            .then(&self.pack())
            .line("[ -z \"$proof\" ] || { echo \"$proof\" >\"$state/.new\" && mv \"$state/.new\" \"$collected\"; }");
        self.change("collect static files", "unless nothing of them changed", script)
    }

    /// Packs what nginx serves of the static files.
    fn pack(&self) -> Script {
        let (Some(root), Some(_)) = (&self.layout.static_root, &self.layout.static_url) else {
            return Script::new();
        };
        let folder = if root.starts_with('/') { quote(root) } else { "\"$top/static\"".to_string() };
        heredoc(&format!("{PYTHON_AS_APP} - {folder}"), PACK)
    }

    /// Gives later releases the environment that this one has.
    pub(super) fn put_environment_back(&self) -> Change {
        self.change("put the environment back", "", self.prelude().then(&Script::fixed(PUT_BACK)))
    }

    /// Runs the new release beside the old one, asks it through nginx, and only then points everything to it.
    ///
    /// `before` are the changes of the same plan: a web server's site that came with the release goes back with it.
    pub(super) fn switch(&self, before: &[Change]) -> Change {
        let config = self.context.config;
        let units = instances(config, self.number).into_iter().fold(Cmd::new("set").arg("--"), Cmd::arg);
        let begin = self.guarded("switch").then(&self.last_preflight()).then(&self.warm_up());
        let mut script = begin.cmd(units).then(&Script::fixed(
            r#"set_live() {
  install -d "/etc/systemd/system/$app.socket.d"
  printf '# Managed by ship: who answers when nobody does.\n[Socket]\nService=%s@%s.service\n' "$app" "$1" \
    >"/etc/systemd/system/$app.socket.d/.live.new"
  mv "/etc/systemd/system/$app.socket.d/.live.new" "/etc/systemd/system/$app.socket.d/live.conf"
}
# Nothing points to the new release yet: without it, everything is as it was.
give_up() {
  # It answers nobody new from the moment it is told; what it has open may take its time, but nobody waits for it.
  case " $started " in *" $app@$n.service "*) $patience systemctl stop "$app@$n.service" 2>/dev/null || true ;; esac
  # Workers may finish what they have begun.
  [ -z "$started" ] || systemctl stop --no-block $started 2>/dev/null || true
  # What must be alone is gone before the old one comes back.
  [ -z "$alone" ] || systemctl stop $alone 2>/dev/null || true
  come_back
  exit 1
}
tell_why() {
  why=$(journalctl -q -o cat -n 30 -u "$1" --since "$began" -t "${1%@*}" 2>/dev/null | grep '^[^[:space:]]' | tail -n 1)
  echo "ship-cause: the process ${1%@*} ends as soon as it is started${why:+: $why}"
}
start() {
  started="$started $1"
  verb=restart
  case $1 in "$app@"*)
    if [ -s held ]; then
      # It is there already, and waits to be let go on.
      verb=start
      rm -f held "/run/ship/$app/$n/preflight.py"
      : >"/run/ship/$app/$n/go"
    else
      rm -rf "/run/ship/$app/$n"
    fi ;;
  esac
  if ! systemctl $verb "$1" 2>/dev/null; then
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
alone=
began=$(date '+%F %T')
# The socket must name a unit that exists before it can listen at all.
[ -e "/etc/systemd/system/$app.socket.d/live.conf" ] || set_live "$n"
case $(systemctl show -p NeedDaemonReload --value "$app.socket" "$@") in *yes*) systemctl daemon-reload ;; esac
"#,
        ));
        let (verb, wanted) =
            if config.web.serving.is_alone() { ("disable", "''") } else { ("enable", "enable") };
        let verb = Cmd::new("systemctl").arg(verb).arg("--quiet");
        // The port must be free before the old one comes back to it.
        let patience = if config.web.serving.is_alone() { "" } else { "timeout 20" };
        script = script
            .set("patience", patience)
            .line(&format!(
                "case $([ ! -L \"/etc/systemd/system/sockets.target.wants/$app.socket\" ] || echo enable) in {wanted}) ;; *)"
            ))
            .line(&format!(
                "{} --no-reload \"$app.socket\" 2>/dev/null || {} \"$app.socket\" ;; esac",
                verb.text(),
                verb.text()
            ))
            .then(&self.make_room(before));
        script = script.then(&self.start_gated()).then(&self.health_gate(before));
        script = script
            .line("set_live \"$n\"")
            .line("ln -sfn \"releases/$n\" \"$top/.current.new\" && mv -fT \"$top/.current.new\" \"$top/current\"")
            .set("recipe", self.recipe)
            .line("printf '%s\\n' \"$recipe\" >\"$state/recipe\"");
        let script = script.set("reading", READING).then(&Script::fixed(
            r#"systemctl enable --quiet --no-reload "$@"
keep=" $* "
# Every other instance of this application drains; those of removed processes, too.
others=$( { systemctl list-units --all --plain --no-legend "$app@*.service" "$app-*@*.service" | cut -d' ' -f1
  cd /etc/systemd/system/multi-user.target.wants && ls -d -- "$app"@*.service "$app"-*@*.service 2>/dev/null; } | sort -u)
for unit in $others; do
  case "$keep" in *" $unit "*) continue ;; esac
  # Another application's name may begin as this one's.
  file=/etc/systemd/system/${unit%@*}@.service
  [ ! -e "$file" ] || grep -q "^WorkingDirectory=$top/" "$file" || continue
  rm -f /etc/systemd/system/*.wants/"$unit"
  systemctl stop --no-block "$unit"
done
# The next step does not have to wait for it, only who looks at units.
exec 7>"$reading"; flock 7
systemctl daemon-reload >/dev/null 2>&1 </dev/null &
exec 7>&-
# There was nothing to return to.
[ -z "$sick" ]"#,
        ));
        let why = match self.app.current {
            Some(old) if config.web.serving.is_alone() => format!(
                "{} can't take over a socket: v{old} ends first, and requests fail for some seconds until v{} listens",
                config.web.serving.name(),
                self.number
            ),
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
            .set("trash", trash(&self.context.config.app))
            .then(&Script::fixed(
                r#"at=$(date -u +%Y-%m-%dT%H:%M:%SZ)
log=/var/lib/ship/$app/releases.jsonl
applied=$(awk '{ printf "%s\"%s\"", (NR > 1 ? "," : ""), $0 }' "$state/applied" 2>/dev/null || true)
printf '%s\n' "$record" | sed "s/\"at\":\"\"/\"at\":\"$at\"/; s/\"migrations\":\[\]/\"migrations\":[$applied]/" >>"$log"
sync -- "$log"
rm -f "$state/failed"
# Releases beyond the last few good ones go, and so does every virtual environment that no release uses. A failed
# one stays to be looked at as long as it is newer than the oldest good one, and there are not too many.
cd "$top/releases"
mkdir -p "$trash"
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
  mv -T "v$old" "$trash/v$old.$$"
  rm -rf "$state/../v$old" "/etc/ship/$app/v$old.env" "/etc/ship/$app/overlay/v$old" "$top/venvs/v$old" "/var/backups/ship/$app/v$old.dump"
done
rm -rf ./*.new
cd "$top/venvs"
for link in v[0-9]*; do
  if [ -L "$link" ] && [ ! -d "$top/releases/$link" ]; then rm -f "$link"; fi
done
used=$(find . -mindepth 1 -maxdepth 1 -type l -name 'v[0-9]*' -printf ' %l ')
for folder in *; do
  if [ -L "$folder" ] || [ ! -d "$folder" ]; then continue; fi
  case $used in *" $folder "*) ;; *) mv -T "$folder" "$trash/venv-$folder.$$" ;; esac
done"#,
            ));
        self.change(&format!("record v{}", self.number), "", script)
    }
}

/// So many files are written to the disk one by one, without waiting for what others write.
const FEW: usize = 64;

/// Folders too: links of kept files are new in them.
const SYNC_FEW: &str = r#"{ cut -c68- added | tr '\n' '\0' | ( cd "$release.new" && xargs -0r sync -- ) && find "$release.new" -type d -print0 | xargs -0 sync -- "$state/manifest"; } 2>/dev/null || sync -f "$release.new""#;

/// However often in a row releases fail, only the last few of them stay to be looked at.
const PRUNE_FAILED: &str = r#"live=$(readlink "$top/current" 2>/dev/null || true); live=${live##*/}
ls -d "$top"/releases/v* 2>/dev/null | sed 's/.*\/v//' | grep -x '[0-9]*' | sort -rn | while IFS= read -r old; do
  if [ "v$old" = "$live" ] || [ ! -e "$state/../v$old/failed" ]; then continue; fi
  failed=$((${failed:-0} + 1))
  [ "$failed" -ge "$keep" ] || continue
  rm -rf "$top/releases/v$old" "$state/../v$old" "/etc/ship/$app/v$old.env" "$top/venvs/v$old"
done
"#;

/// What the static files are made from: the files themselves as the preflight has seen them, the environment, the
/// settings and the packages. The folder that they are collected in is every release's.
pub(super) const IS_COLLECTED: &str = r#"collected=$state/../../static
proof=
is_collected() {
  [ -s "$state/static" ] || return 1
  read -r files there <"$state/static"
  proof=$({ echo "$files $venv"; cat "$state/config" "$state/https"; cat "/etc/ship/$app/overlay/$n/"*.py 2>/dev/null; } | sha256sum | cut -c1-64)
  [ "$there" = there ] && [ "$proof" = "$(cat "$collected" 2>/dev/null)" ]
}
"#;

/// Compiles what a folder of before doesn't have compiled.
pub(super) const COMPILE: &str = include_str!("../../templates/django/compile.py");

/// The system's Python as the application's user, for programs that need nothing of the project.
pub(super) const PYTHON_AS_APP: &str =
    r#"setpriv --reuid "$app" --regid "$app" --init-groups -- /usr/bin/python3 -I -S -E"#;

/// Packs static files.
const PACK: &str = include_str!("../../templates/django/pack.py");

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

/// Secret files count as parts of the environment, and a `.env` is that of this release.
const FILES_OF_NOW: &str = r#"if [ -d "/etc/ship/$app/files" ]; then
  ( cd "/etc/ship/$app/files"; sha256sum -- * 2>/dev/null | sed 's|^\([0-9a-f]*\)  |\1  files/|' >>"$state/config" )
fi
case $(readlink "$release$root/.env" || true) in
  "/etc/ship/$app/v"*) ln -sfn "/etc/ship/$app/$n.env" "$release$root/.env" ;;
esac"#;

/// Whether the site is served by HTTPS, as the server itself sees it: a certificate may have come a moment ago.
fn https(config: &Config) -> Script {
    let Some(files) = tls::files(config) else {
        return Script::new().line("https=off; echo off >\"$state/https\"");
    };
    let script = Script::new().set("certificate", files.certificate).set("key", files.key).line("https=off");
    let script = if config.domains.is_empty() {
        script.line("if [ -s \"$certificate\" ] && [ -s \"$key\" ]; then https=on; fi")
    } else {
        script
            .cmd(Cmd::new("set").arg("--").args(&config.domains))
            .line("[ ! -s \"$key\" ] || for name do")
            .line("  if openssl x509 -in \"$certificate\" -noout -checkhost \"$name\" 2>/dev/null | grep -q 'does match'; then https=on; fi")
            .line("done")
    };
    script.line("echo \"$https\" >\"$state/https\"")
}

/// Makes room for the overlay, which the site may read and root alone may write.
const OVERLAY_FOLDER: &str = r#"folder=/etc/ship/$app/overlay/$n
install -d -m 0750 -g "$app" "/etc/ship/$app/overlay"
rm -rf "$folder.new"
install -d -m 0750 -g "$app" "$folder.new"
"#;

/// Puts it in place.
const OVERLAY_IN_PLACE: &str = r#"chgrp "$app" "$folder.new/ship_settings.py"; chmod 0640 "$folder.new/ship_settings.py"
rm -rf "$folder"; mv -T "$folder.new" "$folder""#;

/// Takes the overlay of `$base`, or none if it has none.
const OVERLAY_OF_THEN: &str = r#"rm -rf "/etc/ship/$app/overlay/$n"
[ ! -d "/etc/ship/$app/overlay/$base" ] || cp -a "/etc/ship/$app/overlay/$base" "/etc/ship/$app/overlay/$n"
"#;

/// Makes the overlay the settings module, and lets it know which one the project's is.
const UNDER_OVERLAY: &str = r#"  if [ -d "/etc/ship/$app/overlay/$n" ]; then
    sed -n 's/^DJANGO_SETTINGS_MODULE=/SHIP_SETTINGS_MODULE=/p' "$env.new" | tail -n 1 >"$env.module"
    cat "$env.module" >>"$env.new"; rm -f "$env.module"
    printf 'DJANGO_SETTINGS_MODULE="ship_settings"
PYTHONPATH="/etc/ship/%s/overlay/%s%s"
' "$app" "$n" "$pythonpath" >>"$env.new"
  fi"#;

/// Makes the parts of the live release those that every later one starts from.
const PUT_BACK: &str = r#"cd "/etc/ship/$app/config"
for part in *.env; do
  [ -e "$state/parts/$part" ] || rm -f -- "$part"
done
for part in "$state/parts"/*.env; do
  cmp -s "$part" "${part##*/}" || { cp -p -- "$part" .new && mv -f .new "${part##*/}"; }
done
"#;
