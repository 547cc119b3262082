//! PostgreSQL's roles and databases.

use std::collections::{BTreeMap, BTreeSet};

use crate::shell::Script;

/// Asks for all roles and databases; a server that isn't there or doesn't run has none. One that starts, as after a power
/// loss, is given a moment.
pub fn script() -> Script {
    Script::from_text(
        r#"if command -v psql >/dev/null 2>&1 && [ -S /var/run/postgresql/.s.PGSQL.5432 ]; then
  # Debian's psql is a program that looks for the right one first, which takes longer than the questions.
  psql=psql
  for one in /usr/lib/postgresql/*/bin/psql; do [ ! -x "$one" ] || psql=$one; done
  ask() {
    (cd / && HOME=/ setpriv --reuid postgres --regid postgres --init-groups -- "$psql" -XAtq -F "$(printf '\t')" -d postgres 2>/dev/null) <<'SQL'
select 'role', rolname, '', '' from pg_roles where rolname not like 'pg\_%';
select 'database', datname, pg_get_userbyid(datdba), has_database_privilege('public', oid, 'connect') from pg_database where not datistemplate;
SQL
  }
  tries=0
  until ask; do
    starts=0
    "${psql%psql}pg_isready" -q || starts=$?
    [ "$starts" = 1 ] && [ "$tries" -lt 100 ] || break
    tries=$((tries + 1))
    sleep 0.1
  done
fi
"#,
    )
}

/// A database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// The role that owns it.
    pub owner: String,
    /// Whether every role may connect to it.
    pub open: bool,
}

/// Reads what [`script`] printed: roles, and databases.
pub fn parse(body: &str) -> (BTreeSet<String>, BTreeMap<String, Database>) {
    let mut roles = BTreeSet::new();
    let mut databases = BTreeMap::new();
    for line in body.lines() {
        let mut fields = line.split('\t');
        match (fields.next(), fields.next(), fields.next()) {
            (Some("role"), Some(name), _) => {
                roles.insert(name.to_string());
            }
            (Some("database"), Some(name), Some(owner)) => {
                let open = fields.next() == Some("t");
                databases.insert(name.to_string(), Database { owner: owner.to_string(), open });
            }
            _ => {}
        }
    }
    (roles, databases)
}
