//! The quick way through the preflight: the very process that will serve loads the application, runs the preflight in a fork
//! of itself, and waits for the switch. Django starts once for the whole release.
//!
//! Invariant: it only ever passes. Whatever else happens, the process is ended before it has listened to anybody, and the
//! preflight runs in a unit of its own, which tells why.

use crate::shell::Script;

use super::steps::Steps;

impl Steps<'_> {
    /// Whether a live release waits to be followed by one whose gunicorn can be held back before it forks.
    fn may_hold(&self) -> bool {
        let config = self.context.config;
        self.app.current.is_some() && config.web.preload && config.release_command.is_none()
    }

    /// `hold` tries the quick way; `let_go` ends what it has started.
    pub(super) fn hold_functions(&self, may: bool) -> Script {
        Script::new()
            .set("may_hold", if may && self.may_hold() { "1" } else { "" })
            .then(&Script::fixed(HOLD))
    }
}

/// Where the process looks for the preflight is gunicorn.py.j2's business too. Its file system is read-only, but for a pipe.
///
/// The other end of the pipe is opened for a process that has ended before it did so itself. `held` in the apply's folder
/// names the process, so that it ends with an apply that does not come to the switch.
const HOLD: &str = r#"let_go() {
  [ -s held ] || return 0
  systemctl stop "$app@$n.service" 2>/dev/null || true
  systemctl reset-failed "$app@$n.service" 2>/dev/null || true
  rm -rf held "/run/ship/$app/$n"
}
hold() {
  [ -n "$may_hold" ] || return 1
  # Settings or a unit of somebody's own may know nothing of it, and would serve at once.
  grep -qs '^def run_preflight' "/etc/ship/$app/gunicorn.py" || return 1
  grep -qs "^ExecStart=.*gunicorn --config /etc/ship/$app/gunicorn.py" "/etc/systemd/system/$app@.service" || return 1
  [ ! -e "/etc/systemd/system/$app@.service.d" ] || return 1
  systemctl show -p ActiveState -p NeedDaemonReload "$app@$n.service" >holdable &
  asked=$!
  hold=/run/ship/$app/$n
  rm -rf "$hold"
  install -d -m 0755 /run/ship "/run/ship/$app"
  install -d -m 0750 -g "$app" "$hold"
  wait "$asked" || true
  one= two=
  { IFS= read -r one; IFS= read -r two; } <holdable || true
  case "$one $two" in *=inactive*=no|*=no*=inactive) ;; *) return 1 ;; esac
  printf '%s' "$stage" >"$hold/stage"
  install -m 0640 -g "$app" "$state/preflight.py" "$hold/preflight.py"
  mkfifo -m 0600 "$hold/told"; chown "$app" "$hold/told"
  echo "$app@$n.service" >held
  { systemctl start "$app@$n.service" || true; exec 3<>"$hold/told"; } >/dev/null 2>&1 &
  timeout "$limit" cat "$hold/told" >"$out" || true
  if grep -qx 'ship-end: 0' "$out" && grep -q '"again": null' "$out"; then return 0; fi
  let_go
  rm -f "$out"
  return 1
}
"#;
