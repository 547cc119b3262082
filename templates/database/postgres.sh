# The site $app's database in a PostgreSQL of the server's own. Every engine has these functions, and whoever dumps, restores,
# backs up or drills knows no others:
#   db_there             whether it is there          db_bytes             how large it is
#   db_dump FILE ROWS [NAME]   the database into FILE, and the rows of each table as of the same moment into ROWS
#   db_load FILE NAME    FILE into a new database NAME db_rows NAME         the rows of each of its tables
#   db_swap NAME         NAME takes the place of the site's own, which is kept until db_forget
#   db_drop NAME                                     db_target NAME       what Django calls it
pg() { (cd / && PGOPTIONS="-c client_min_messages=warning" exec runuser -u postgres -- "$@"); }
pg_sql() { pg psql -qAtX -F "$(printf '\t')" -v ON_ERROR_STOP=1 -v name="$app" "$@"; }

db_there() {
  command -v psql >/dev/null && id postgres >/dev/null 2>&1 &&
    [ -n "$(echo "select 1 from pg_database where datname = :'name'" | pg_sql -d postgres)" ]
}

db_target() { echo "$1"; }

db_bytes() { echo "select pg_database_size(:'name')" | pg_sql -d postgres; }

# Tables of extensions count what the extension brings, which is not the site's.
db_rows_query="select format('select %L, count(*) from %I.%I', n.nspname || '.' || c.relname, n.nspname, c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and n.nspname !~ '^(pg_|information_schema\$)'
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
  order by n.nspname, c.relname"

db_rows() { printf '%s \\gexec\n' "$db_rows_query" | pg_sql -d "$1"; }

# One transaction's view for both: what is written meanwhile is in neither.
db_dump() {
  rm -f "$1.done"
  pg_sql -d "${3:-$app}" 3>"$1" 4>"$1.done" >"$2" <<SQL
begin isolation level repeatable read read only;
select pg_export_snapshot() as snapshot \\gset
\\setenv SHIP_SNAPSHOT :snapshot
\\setenv SHIP_DATABASE :DBNAME
\\! pg_dump --format=custom --compress=${db_compress:-6} --snapshot="\$SHIP_SNAPSHOT" --dbname="\$SHIP_DATABASE" </dev/null >&3 && echo ok >&4
$db_rows_query \\gexec
commit;
SQL
  [ "$(cat "$1.done")" = ok ] || { rm -f "$1.done"; return 1; }
  rm -f "$1.done"
  sync "$1"
}

db_drop() { echo 'drop database if exists :"what" with (force);' | pg_sql -d postgres -v what="$1" 2>/dev/null; }

# As the site, whose objects they become; what only a superuser creates, extensions and their schemas, beforehand. Grants
# to roles of the server that it comes from mean nothing here.
db_load() {
  if ! pg_restore --list <"$1" >"$1.all" 2>/dev/null; then
    rm -f "$1.all"
    echo "ship-cause: it is no archive of pg_dump's, or not all of it"
    echo "ship-hint: \`pg_dump --format=custom\` writes one"
    return 1
  fi
  db_drop "$2" || return 1
  printf '%s\n' 'create database :"what" owner :"name";' 'revoke connect, temporary on database :"what" from public;' |
    pg_sql -d postgres -v what="$2" || return 1
  grep '^[0-9]*; [0-9]* [0-9]* EXTENSION - ' "$1.all" >"$1.list" || true
  if [ -s "$1.list" ]; then
    pg_restore --use-list="$1.list" -f - <"$1" |
      sed -n 's/^\(CREATE EXTENSION IF NOT EXISTS .* WITH SCHEMA \(.*\)\);$/\2\t\1 CASCADE;/p' >"$1.extensions"
    {
      cut -f1 "$1.extensions" | sort -u | grep -v '^\(public\|pg_catalog\)$' |
        sed "s/.*/create schema & authorization \"$app\";/"
      cut -f2- "$1.extensions"
      # What an extension keeps in tables of its own, the site may have added to.
      printf 'grant all on all tables in schema public to "%s";\n' "$app"
    } | pg_sql -d "$2" >/dev/null || return 1
    # Where they are is part of what names mean, as it was there.
    path=$(cut -f1 "$1.extensions" | sort -u | grep -v '^\(public\|pg_catalog\)$' | sed 's/^/, /' | tr -d '\n')
    [ -z "$path" ] || echo "alter database :\"what\" set search_path to \"\$user\", public$path;" | pg_sql -d postgres -v what="$2" || return 1
    cut -f1 "$1.extensions" | sort -u | sed 's/.*/^[0-9]*; [0-9]* [0-9]* SCHEMA - & /' >"$1.schemas"
  else
    : >"$1.schemas"
  fi
  echo '^[0-9]*; [0-9]* [0-9]* SCHEMA - public ' >>"$1.schemas"
  list=$(mktemp -p /var/lib/ship) || return 1
  grep -v '^[0-9]*; [0-9]* [0-9]* \(EXTENSION - \|COMMENT - EXTENSION \|COMMENT - SCHEMA \)' "$1.all" | grep -v -f "$1.schemas" >"$list" || true
  chown postgres "$list"
  rm -f "$1.all" "$1.list" "$1.extensions" "$1.schemas"
  rc=0
  pg pg_restore --exit-on-error --no-owner --no-privileges --role="$app" --use-list="$list" --dbname="$2" <"$1" || rc=$?
  rm -f "$list"
  [ "$rc" -ne 0 ] || echo 'analyze;' | pg_sql -d "$2"
  return "$rc"
}

# Everything is ready before the site lets go, so that it does without a database for no longer than two names change.
db_swap() {
  pipe=$(mktemp -d -p /run)
  mkfifo "$pipe/in"
  pg_sql -d postgres -v new="$1" -v old="$app.before" <"$pipe/in" &
  swapping=$!
  exec 7>"$pipe/in"
  rm -rf "$pipe"
  cat >&7 <<'SQL'
drop database if exists :"old" with (force);
select set_config('ship.name', :'name', false), set_config('ship.new', :'new', false), set_config('ship.old', :'old', false) \g /dev/null
SQL
  hold_site || return 1
  cat >&7 <<'SQL'
do $swap$
declare
  name text := current_setting('ship.name');
  new text := current_setting('ship.new');
  attempt int := 0;
begin
  loop
    perform pg_stat_clear_snapshot();
    perform pg_terminate_backend(pid) from pg_stat_activity where datname in (name, new) and pid <> pg_backend_pid();
    begin
      if exists (select from pg_database where datname = name) then
        execute format('alter database %I rename to %I', name, current_setting('ship.old'));
      end if;
      execute format('alter database %I rename to %I', new, name);
      return;
    exception when object_in_use then
      attempt := attempt + 1;
      if attempt >= 20 then raise; end if;
      perform pg_sleep(0.05);
    end;
  end loop;
end $swap$;
SQL
  exec 7>&-
  if ! wait "$swapping"; then
    echo "ship-cause: the database is in use all the time, so nothing can take its place"
    return 1
  fi
}

db_forget() { db_drop "$app.before"; }
