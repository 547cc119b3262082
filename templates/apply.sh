#!/bin/sh
# Runs the steps of one `ship up`, until a file `stop` turns up between two of them. systemd starts it as a transient unit, so it outlives the connection; the
# lock it holds dies with it. Arguments: the folder of the apply, the generation the plan was made for, who.
set -u
umask 022
export LC_ALL=C.UTF-8 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$1" || exit 1
exec >>journal 2>&1 </dev/null
say() { printf '\036%s\t%s\n' "$(date +%s%3N)" "$*"; }
exec 9>>../../lock
if ! flock -w 2 9; then say 'end busy'; exit 75; fi
seen=$(cat ../../generation 2>/dev/null)
if [ "${seen:-0}" != "$2" ]; then say 'end stale'; exit 75; fi
if ! { echo "$(($2 + 1))" >../../generation.new && mv ../../generation.new ../../generation; }; then say 'end 74'; exit 74; fi
# Commands that run as the site end with this unit.
app=${1#/var/lib/ship/}
export SHIP_UNIT="ship-${app%%/*}-${1##*/}.service"
# Units that must still be restarted or reloaded if this stops half-way: what they read will look unchanged then.
if [ -s pending ]; then cat pending >>../../pending; sync ../../pending; fi
printf '%s\t%s\t%s\n' "${1##*/}" "$3" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >../../applying
say "begin $$"
stopped=
while read -r step title; do
  if [ -e stop ]; then stopped=1; break; fi
  say "start $step $title"
  rc=0
  sh -eu "steps/$step" || rc=$?
  say "done $step $rc"
  # Only a step that waits for the laptop looks at `stop` itself.
  if [ "$rc" -eq 77 ] && [ -e stop ]; then stopped=1; fi
  if [ "$rc" -ne 0 ]; then break; fi
done <order
rm -rf steps data before upload upload.part upload.failed
rm -f ../../applying
if [ -n "$stopped" ]; then say 'end stopped'; exit 0; fi
[ "${rc:-0}" -ne 0 ] || rm -f ../../pending
say "end ${rc:-0}"
