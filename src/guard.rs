//! The way back from changes that could lock the user out: sshd's settings, the firewall.
//!
//! Before the first of them the server keeps what it has and sets a clock; after the last, the client logs in afresh. If
//! no new login gets through, the server takes everything back by itself, also if its power fails meanwhile.
//!
//! Invariant: pure. Both steps are changes of the plan like every other.

use crate::apply::heredoc;
use crate::plan::{Action, Change, ResourceId};
use crate::shell::{Cmd, Script};

/// Seconds from the first change until the server takes everything back.
pub const PATIENCE_S: u32 = 50;

/// The line that asks the client for a new login.
pub const KNOCK: &str = "ship-login";

/// A step exits with this code when everything was taken back.
pub const TAKEN_BACK: i32 = 78;

const KIND: &str = "guard";

/// Puts the way back around the changes that need one.
pub fn guarded(mut changes: Vec<Change>, app: &str) -> Vec<Change> {
    let risky = |change: &Change| change.may_lock_out;
    let (Some(first), Some(last)) = (changes.iter().position(risky), changes.iter().rposition(risky)) else {
        return changes;
    };
    let within: Vec<&Change> =
        changes.iter().skip(first).take(last - first + 1).filter(|one| risky(one)).collect();
    let prepare = prepare(&within, app);
    let script = Script::new().set("app", app).then(&Script::fixed(CONFIRM));
    let why = "a new login proves that nobody is locked out";
    changes.insert(last + 1, Change::run(ResourceId::new(KIND, "log in afresh"), Action::Run, why, script));
    let why =
        format!("the server takes back what follows unless a new login gets through within {PATIENCE_S} s");
    changes
        .insert(first, Change::run(ResourceId::new(KIND, "prepare the way back"), Action::Run, why, prepare));
    changes
}

/// Whether a change may be the one that locks the user out, or the wait for a new login.
pub fn is_within(change: &Change) -> bool {
    change.may_lock_out || change.id.kind == KIND
}

/// What a client runs over its new connection.
pub fn confirm_script(app: &str) -> Script {
    Script::new().set("app", app).line(": >\"/var/lib/ship/$app/guard/confirmed\"")
}

fn prepare(changes: &[&Change], app: &str) -> Script {
    let mut script = Script::new().set("app", app).then(&Script::fixed(PREPARE));
    let names = |kinds: &[&str]| {
        let mut names: Vec<String> = changes
            .iter()
            .filter(|one| kinds.contains(&one.id.kind))
            .map(|one| one.id.name.clone())
            .collect();
        names.dedup();
        names
    };
    for path in names(&["file", "link"]) {
        script = script.cmd(Cmd::new("keep").arg(path));
    }
    for unit in names(&["unit"]) {
        script = script.cmd(Cmd::new("note").arg(unit));
    }
    script
        .then(&heredoc("cat >\"$guard/revert\"", REVERT))
        .set("patience", PATIENCE_S.to_string())
        .then(&Script::fixed(ARM))
}

const PREPARE: &str = r#"guard=/var/lib/ship/$app/guard
systemctl stop "ship-guard-$app.timer" 2>/dev/null || true
rm -rf "$guard"
install -d -m 0700 "$guard" "$guard/before"
: >"$guard/files"; : >"$guard/units"
keep() {
  printf '%s\n' "$1" >>"$guard/files"
  if [ -e "$1" ] || [ -L "$1" ]; then mkdir -p "$guard/before${1%/*}"; cp -aT -- "$1" "$guard/before$1"; fi
}
note() {
  printf '%s %s\n' "$1" "$(systemctl is-active "$1" || true)" >>"$guard/units"
}
"#;

const ARM: &str = r#"# A power failure is no way around it: at the next boot everything is taken back before sshd starts.
cat >"/etc/systemd/system/ship-guard-boot-$app.service" <<END
[Unit]
Description=Takes back what might have locked the user out
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target ssh.service sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh $guard/revert boot
END
mkdir -p /etc/systemd/system/sysinit.target.wants
ln -sfn "../ship-guard-boot-$app.service" "/etc/systemd/system/sysinit.target.wants/ship-guard-boot-$app.service"
sync -f "$guard"
read -r now _ </proc/uptime
echo $((${now%.*} + patience)) >"$guard/until"
systemd-run --quiet --collect --unit="ship-guard-$app" --on-active="$patience" --timer-property=AccuracySec=500ms \
  --property=OOMScoreAdjust=-500 /bin/sh "$guard/revert"
"#;

/// Runs on the server by itself. Its argument is `boot` while the server starts.
const REVERT: &str = r#"# Takes back what might have locked the user out, once, unless a new login has got through.
cd "${0%/*}" || exit 1
exec 9>>lock
flock 9
if [ -e confirmed ] || [ -e reverted ]; then exit 0; fi
if [ "${1-}" != boot ]; then
  # What did not run before ends while its files can still tell how.
  while read -r unit state; do
    case $state in active|activating|reloading) ;; *) systemctl disable --now "$unit" ;; esac
  done <units
fi
while IFS= read -r file; do
  if [ -e "before$file" ] || [ -L "before$file" ]; then
    cp -aT --remove-destination -- "before$file" "$file.ship-back" && mv -fT -- "$file.ship-back" "$file"
  else
    rm -f -- "$file"
  fi
done <files
app=${PWD%/guard}; app=${app##*/}
rm -f "/etc/systemd/system/sysinit.target.wants/ship-guard-boot-$app.service" "/etc/systemd/system/ship-guard-boot-$app.service"
if [ "${1-}" != boot ]; then
  systemctl daemon-reload
  while read -r unit state; do
    case $state in active|activating|reloading) systemctl reload-or-restart "$unit" || systemctl restart "$unit" ;; esac
  done <units
fi
: >reverted
sync -f .
"#;

const CONFIRM: &str = r#"guard=/var/lib/ship/$app/guard
echo ship-login
read -r until <"$guard/until"
while [ ! -e "$guard/confirmed" ]; do
  if [ -e "$guard/reverted" ]; then break; fi
  read -r now _ </proc/uptime
  # The clock of systemd is late at most by its accuracy; then this does its work.
  if [ "${now%.*}" -gt $((until + 5)) ]; then sh "$guard/revert"; fi
  sleep 0.05
done
# Whoever holds the lock decides: what is taken back half-way is taken back.
exec 9>>"$guard/lock"
flock 9
if [ -e "$guard/reverted" ]; then
  echo 'ship-cause: no new login got through, so the server has taken the new settings of sshd and the firewall back'
  exit 78
fi
rm -f "/etc/systemd/system/sysinit.target.wants/ship-guard-boot-$app.service" "/etc/systemd/system/ship-guard-boot-$app.service"
systemctl stop "ship-guard-$app.timer" 2>/dev/null || true
rm -rf "$guard"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: &'static str, name: &str, may_lock_out: bool) -> Change {
        let mut change = Change::new(ResourceId::new(kind, name), Action::Update, "", Vec::new());
        change.may_lock_out = may_lock_out;
        change
    }

    fn titles(changes: &[Change]) -> Vec<String> {
        changes.iter().map(Change::title).collect()
    }

    #[test]
    fn the_way_back_is_around_what_could_lock_out() {
        let plain = vec![change("package", "nginx", false)];
        assert_eq!(guarded(plain.clone(), "a"), plain);
        let changes = vec![
            change("package", "nginx", false),
            change("file", "/etc/ssh/sshd_config.d/10-ship.conf", true),
            change("file", "/etc/motd", false),
            change("unit", "ssh.service", true),
            change("file", "/etc/hosts", false),
        ];
        let around = guarded(changes, "a");
        assert_eq!(
            titles(&around),
            [
                "update package nginx",
                "prepare the way back",
                "update file /etc/ssh/sshd_config.d/10-ship.conf",
                "update file /etc/motd",
                "update unit ssh.service",
                "log in afresh",
                "update file /etc/hosts"
            ]
        );
        let Some(crate::plan::Step::Run(script)) = around[1].steps.first() else { panic!() };
        let kept: Vec<&str> = script
            .text()
            .lines()
            .filter(|line| line.starts_with("keep ") || line.starts_with("note "))
            .collect();
        assert_eq!(kept, ["keep /etc/ssh/sshd_config.d/10-ship.conf", "note ssh.service"]);
    }
}
