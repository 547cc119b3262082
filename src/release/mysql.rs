//! A MariaDB's part of dumps and restores, as pieces of scripts that run as root with the site's name in `$app`.
//!
//! Invariant: a dump counts only with its last line, and what is restored has been read in whole beside the database first.

/// Sets `$size`.
pub(super) const SIZE: &str = r#"size=$(mariadb --batch --skip-column-names <<SQL
select coalesce(sum(data_length + index_length), 0) from information_schema.tables where table_schema = '$app';
SQL
)
"#;

/// Prints the database, packed. Whether all of it, its last line says.
pub const DUMP: &str = r#"dump_database() {
  mariadb-dump --single-transaction --quick --routines --triggers --events --hex-blob --default-character-set=utf8mb4 "$app" | gzip -1
}
whole() { gzip -dc "$1" 2>/dev/null | tail -n 1 | grep -q '^-- Dump completed'; }
"#;

/// Dumps into `$dump.part`; `$why` and `$failed` tell of an error.
pub(super) const TAKE: &str = r#"umask 077
why=$( { dump_database >"$dump.part"; } 2>&1 ) || failed=1
whole "$dump.part" || { failed=1; why=${why:-the dump broke off}; }
"#;

/// Makes the site's database empty.
pub const EMPTY: &str = r#"empty_database() {
  mariadb <<SQL
drop database if exists \`$1\`;
create database \`$1\` character set utf8mb4 collate utf8mb4_unicode_ci;
SQL
}
"#;

/// After a first migration that failed: what was empty is made so again, since MySQL takes back no table that was made.
pub(super) const EMPTY_AGAIN: &str = r#"if [ "$rc" -ne 0 ] && [ -e "$state/empty" ] && [ ! -e "$top/current" ]; then
  empty_database "$app"
  told=
  rm -f "$state/applied"
  echo "ship-hint: the database was empty before, and is again: mend the migration and run \`ship up\`"
fi
"#;
