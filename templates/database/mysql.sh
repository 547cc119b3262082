# The site $app's database in a MariaDB of the server's own. The functions are those that postgres.sh explains.
my() { mariadb --batch --skip-column-names "$@"; }

db_there() { command -v mariadb-dump >/dev/null && [ -n "$(my -e "show databases like '$app'")" ]; }

db_target() { echo "$1"; }

db_bytes() {
  my -e "select coalesce(sum(data_length + index_length), 0) from information_schema.tables where table_schema = '$app'"
}

db_rows() {
  my -e "select concat('select \"', table_name, '\", count(*) from \`', table_schema, '\`.\`', table_name, '\`;')
    from information_schema.tables where table_schema = '$1' and table_type = 'BASE TABLE' order by binary table_name" >"/run/$app.rows.sql" || return 1
  my --raw <"/run/$app.rows.sql"
  rm -f "/run/$app.rows.sql"
}

# A row is a line, so that those of the dump itself are counted: no second look would see the same moment.
db_dump() {
  rm -f "$1.rows"
  {
    mariadb-dump --single-transaction --quick --routines --triggers --events --hex-blob --skip-extended-insert --no-autocommit \
      --default-character-set=utf8mb4 "${3:-$app}" && echo '-- ship: all of it'
  } | LC_ALL=C awk -v rows="$1.rows" '
    /^CREATE TABLE `/ { split($0, part, "`"); if (!(part[2] in n)) n[part[2]] = 0 }
    /^INSERT INTO `/ { split(substr($0, 1, 200), part, "`"); n[part[2]] += 1 }
    { print }
    END { for (name in n) printf "%s\t%d\n", name, n[name] > rows }' | gzip -1 --rsyncable >"$1"
  gzip -dc "$1" | tail -n 1 | grep -qx -e '-- ship: all of it' || return 1
  touch "$1.rows"
  LC_ALL=C sort -t "$(printf '\t')" -k1,1 "$1.rows" >"$2"
  rm -f "$1.rows"
  sync "$1"
}

# What the site may do with a copy of its database it may do under its name alone.
db_grant() { my -e "$1 all privileges on \`$(printf "%s" "$3" | sed "s/[_%]/\\\\&/g")\`.* $2 \`$app\`@localhost" 2>/dev/null; }

db_drop() {
  db_grant revoke from "$1" || true
  my -e "drop database if exists \`$1\`"
}

db_load() {
  if ! gzip -dcf "$1" 2>/dev/null | tail -n 2 | grep -q -e '^-- Dump completed' -e '^-- ship: all of it'; then
    echo "ship-cause: it is no dump of MariaDB's or MySQL's, or not all of it"
    return 1
  fi
  db_drop "$2" || return 1
  my -e "create database \`$2\` character set utf8mb4 collate utf8mb4_unicode_ci" || return 1
  db_grant grant to "$2" || return 1
  gzip -dcf "$1" | my --default-character-set=utf8mb4 "$2"
}

# All tables change places at once. Triggers, views and routines can't be moved: with them, the database is emptied and
# filled from the copy beside it.
db_swap() {
  old=$app.before
  my -e "drop database if exists \`$old\`; create database \`$old\` character set utf8mb4 collate utf8mb4_unicode_ci" || return 1
  fixed=$(my -e "select (select count(*) from information_schema.triggers where trigger_schema in ('$app', '$1'))
     + (select count(*) from information_schema.views where table_schema in ('$app', '$1'))
     + (select count(*) from information_schema.routines where routine_schema in ('$app', '$1'))
     + (select count(*) from information_schema.events where event_schema in ('$app', '$1'))") || return 1
  hold_site || return 1
  my -e "select concat('kill ', id, ';') from information_schema.processlist where db in ('$app', '$1') and id <> connection_id()" |
    my --force 2>/dev/null || true
  if [ "$fixed" != 0 ]; then
    my -e "drop database \`$app\`; create database \`$app\` character set utf8mb4 collate utf8mb4_unicode_ci" || return 1
    mariadb-dump --single-transaction --quick --routines --triggers --events --hex-blob --default-character-set=utf8mb4 "$1" >"/var/lib/ship/$app/swap.sql" || return 1
    my --default-character-set=utf8mb4 "$app" <"/var/lib/ship/$app/swap.sql" || return 1
    rm -f "/var/lib/ship/$app/swap.sql"
  else
    {
      echo "set lock_wait_timeout = 20; set group_concat_max_len = 100000000;"
      cat <<SQL
select concat('rename table ', group_concat(move order by place separator ', '), ';') from (
  select 1 as place, concat('\`$app\`.\`', table_name, '\` to \`$old\`.\`', table_name, '\`') as move
    from information_schema.tables where table_schema = '$app'
  union all
  select 2, concat('\`$1\`.\`', table_name, '\` to \`$app\`.\`', table_name, '\`')
    from information_schema.tables where table_schema = '$1'
) as moves having count(*) > 0;
SQL
    } | my --raw >"/run/$app.moves.sql" || return 1
    my <"/run/$app.moves.sql" || { echo "ship-cause: the database is in use all the time, so nothing can take its place"; return 1; }
    rm -f "/run/$app.moves.sql"
  fi
  db_drop "$1"
}

db_forget() { my -e "drop database if exists \`$app.before\`"; }
