//! PostgreSQL's roles and databases.

use std::collections::{BTreeMap, BTreeSet};

use crate::shell::Script;

/// Asks for all roles and databases; a server that isn't there or doesn't run has none.
pub fn script() -> Script {
    Script::from_text(
        r#"if command -v psql >/dev/null 2>&1 && [ -S /var/run/postgresql/.s.PGSQL.5432 ]; then
  (cd / && runuser -u postgres -- psql -XAtq -F "$(printf '\t')" -d postgres 2>/dev/null) <<'SQL'
select 'role', rolname, '' from pg_roles where rolname not like 'pg\_%';
select 'database', datname, pg_get_userbyid(datdba) from pg_database where not datistemplate;
SQL
fi
"#,
    )
}

/// Reads what [`script`] printed: roles, and databases with their owners.
pub fn parse(body: &str) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let mut roles = BTreeSet::new();
    let mut databases = BTreeMap::new();
    for line in body.lines() {
        let mut fields = line.split('\t');
        match (fields.next(), fields.next(), fields.next()) {
            (Some("role"), Some(name), _) => {
                roles.insert(name.to_string());
            }
            (Some("database"), Some(name), Some(owner)) => {
                databases.insert(name.to_string(), owner.to_string());
            }
            _ => {}
        }
    }
    (roles, databases)
}
