#!/bin/sh
# Says why a unit did not start, where systemd itself only names the commands that would, and fails. Argument: the unit.
said=$(journalctl -q -o cat -n 12 -u "$1" 2>/dev/null || true)
printf '%s\n' "$said"
port=$(printf '%s\n' "$said" | sed -n 's/.*bind() to [^ ]*:\([0-9][0-9]*\) failed.*in use.*/\1/p' | tail -n 1)
[ -n "$port" ] || exit 1
holder=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\2 \1/p' | head -n 1)
pid=${holder%% *}
[ -n "$pid" ] || exit 1
unit=$(sed -n 's,.*/\([^/]*\.service\)$,\1,p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
echo "ship-cause: port $port is taken by ${holder#* } (process $pid${unit:+ of $unit})"
if [ -n "$unit" ]; then
  # shellcheck disable=SC2016 # Backticks are for the reader.
  printf 'ship-hint: if nothing needs it: `ship ssh -- sudo systemctl disable --now %s`\n' "$unit"
fi
exit 1
