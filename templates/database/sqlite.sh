# The site $app's database in a file of SQLite's. The functions are those that postgres.sh explains. The folder is the
# site's own, so that what is written there is written as the site.
db=/srv/$app/shared/database/db.sqlite3
db_path() { if [ "$1" = "$app" ]; then echo "$db"; else echo "$db.${1##*.}"; fi; }
as_site() { (cd / && exec runuser -u "$app" -- "$@"); }

db_target() { db_path "$1"; }

db_there() { [ -e "$db" ]; }

db_bytes() { stat -c %s "$db"; }

db_rows() { db_rows_of "$(db_path "$1")"; }

db_rows_of() {
  python3 -I - "$1" <<'PYTHON'
import sqlite3, sys
db = sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True)
quoted = lambda name: '"%s"' % name.replace('"', '""')
for (name,) in db.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name").fetchall():
    print(name, db.execute("select count(*) from " + quoted(name)).fetchone()[0], sep="\t")
PYTHON
}

db_dump() {
  python3 -I -c 'import sqlite3, sys; sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True).backup(sqlite3.connect(sys.argv[2]))' "$(db_path "${3:-$app}")" "$1" || return 1
  db_rows_of "$1" >"$2" || return 1
  sync "$1"
}

db_drop() { path=$(db_path "$1"); rm -f "$path" "$path-wal" "$path-shm"; }

db_load() {
  path=$(db_path "$2")
  db_drop "$2"
  as_site sh -c 'umask 077; cat >"$1"' sh "$path" <"$1" || return 1
  if ! why=$(python3 -I -c 'import sqlite3, sys
said = sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True).execute("pragma integrity_check").fetchone()[0]
sys.exit(None if said == "ok" else said)' "$path" 2>&1); then
    rm -f "$path"
    echo "ship-cause: it is no sound database of SQLite's: $(printf '%s\n' "$why" | tail -n 1)"
    return 1
  fi
}

db_swap() {
  path=$(db_path "$1")
  sync "$path"
  hold_site || return 1
  as_site ln -f "$db" "$db.before" 2>/dev/null || true
  rm -f "$db-wal" "$db-shm" "$path-wal" "$path-shm"
  mv -fT "$path" "$db"
}

db_forget() { rm -f "$db.before"; }
