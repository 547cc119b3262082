#!/bin/bash
# Runs the steps of one `ship up`, until a file `stop` turns up between two of them. systemd starts it as a transient unit, so it outlives the connection; the
# lock it holds dies with it. Arguments: the folder of the apply, the generation the plan was made for, who;
# `steps` where it is the process that runs them.
set -u
app=${1#/var/lib/ship/}
app=${app%%/*}
if [ "$#" = 3 ]; then
  bash "$0" "$@" steps
  # Nobody waits for what releases have thrown away.
  rm -rf "/srv/$app/releases/.gone"
  find "/var/lib/ship/$app/kept" -type f -mtime +60 -delete 2>/dev/null
  # An installation that was interrupted has left it behind. It keeps nothing from starting, but is nobody's any more.
  if grep -qs '^# Managed by ship' /usr/sbin/policy-rc.d; then rm -f /usr/sbin/policy-rc.d; fi
  exit
fi
umask 022
export LC_ALL=C.UTF-8 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$1" || exit 1
exec >>journal 2>&1 </dev/null
# Milliseconds since 1970, without a process for it.
say() { local now=${EPOCHREALTIME/[.,]/}; printf '\036%s\t%s\n' "${now%???}" "$*"; }
exec 9>>../../lock
if ! flock -w 2 9; then say 'end busy'; exit 75; fi
seen=$(cat ../../generation 2>/dev/null)
if [ "${seen:-0}" != "$2" ]; then say 'end stale'; exit 75; fi
# Steps are whole once the parts of ship that the server keeps are in them.
put_together() {
  if [ -d parts ]; then mkdir -p ../../kept && mv -f parts/* ../../kept/ && rmdir parts || return 1; fi
  LC_ALL=C awk '
    FNR == 1 { if (out) close(out); out = FILENAME ".whole" }
    /^\037/ {
      part = "../../kept/" substr($0, 2)
      while ((got = (getline line <part)) > 0) print line >out
      close(part)
      if (got < 0) exit 9
      next
    }
    { print >out }' steps/*
}
put_together
case $? in
  0) ;;
  9) say 'end stale'; exit 75 ;;
  *) say 'end 74'; exit 74 ;;
esac
if ! { echo "$(($2 + 1))" >../../generation.new && mv ../../generation.new ../../generation; }; then say 'end 74'; exit 74; fi
# Commands that run as the site end with this unit.
export SHIP_UNIT="ship-$app-${1##*/}.service"
# Units that must still be restarted or reloaded if this stops half-way: what they read will look unchanged then.
if [ -s pending ]; then cat pending >>../../pending; sync ../../pending; fi
printf '%s\t%s\t%s\n' "${1##*/}" "$3" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >../../applying
# A unit that no later step concerns needs nothing any more, whatever becomes of the rest.
settled() {
  if awk -v step="$step" -v unit="$1" '$1 > step && $3 == unit && $2 ~ /^(start|restart|reload)$/ { found = 1 } END { exit !found }' order; then return; fi
  [ -s ../../pending ] || return 0
  grep -vxF -e "$1" ../../pending >../../pending.new || true
  mv ../../pending.new ../../pending
}
say "begin $$"
stopped=
while read -r step title; do
  if [ -e stop ]; then stopped=1; break; fi
  say "start $step $title"
  rc=0
  sh -eu "steps/$step.whole" || rc=$?
  # A step that has found nothing to do has left word of it.
  idle=
  if [ -e idle ]; then rm idle; idle=' idle'; fi
  say "done $step $rc$idle"
  # Only a step that waits for the laptop looks at `stop` itself.
  if [ "$rc" -eq 77 ] && [ -e stop ]; then stopped=1; fi
  if [ "$rc" -ne 0 ]; then break; fi
  case $title in 'start '*|'restart '*|'reload '*) settled "${title#* }" ;; esac
done <order
# What waits for a switch that doesn't come serves nobody.
if [ -s held ]; then systemctl stop --no-block "$(cat held)"; rm -rf "/run/ship/$app"; fi
rm -rf steps data held holdable before upload upload.part upload.failed
rm -f ../../applying
if [ -n "$stopped" ]; then say 'end stopped'; exit 0; fi
[ "${rc:-0}" -ne 0 ] || rm -f ../../pending
say "end ${rc:-0}"
