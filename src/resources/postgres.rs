//! PostgreSQL roles and databases.

use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, ResourceId};
use crate::shell::{Cmd, Script};

use super::{DiffError, Resource};

/// Runs SQL from stdin as the superuser; passwords never reach argv or the server's log.
const PSQL: &str = "runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d postgres";

/// A role that can log in with a password kept in a file, or that should be absent.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it should be there.
    pub present: bool,
    /// The file on the server that holds its password, readable by root alone.
    pub password_file: String,
}

impl Resource for Role {
    fn id(&self) -> ResourceId {
        ResourceId::new("postgres role", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::PostgresRole(self.name.clone())]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let there = facts.postgres_roles.contains(&self.name);
        let name = identifier(&self.name);
        Ok(match (self.present, there) {
            (true, true) | (false, false) => Vec::new(),
            (true, false) => {
                let script = Script::new()
                    .line("cd /")
                    .cmd(Cmd::new("exec").raw("8<").arg(&self.password_file))
                    .line("IFS= read -r password <&8")
                    .line("quoted=$(printf '%s' \"$password\" | sed \"s/'/''/g\")")
                    .then(&unless_there("pg_roles", "rolname", &self.name))
                    // printf is built into sh: nothing of this shows in a process list.
                    .line(&format!(
                        "{{ printf '%s\\n' \"set log_statement = 'none'; set log_min_error_statement = 'panic';\"; printf '%s\\n' \"$verb\" {} \"'$quoted';\"; }} | {PSQL}",
                        crate::shell::quote(&format!("role {name} login password"))
                    ));
                vec![Change::run(self.id(), Action::Create, "missing", script)]
            }
            (false, true) => {
                let script = sql(&format!("drop role {name};"));
                vec![Change::run(self.id(), Action::Remove, "exists", script)]
            }
        })
    }
}

/// A database that should be there, or absent.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Whether it should be there.
    pub present: bool,
    /// The role that owns it.
    pub owner: String,
}

impl Resource for Database {
    fn id(&self) -> ResourceId {
        ResourceId::new("postgres database", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::PostgresDatabase(self.name.clone())]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let (name, owner) = (identifier(&self.name), identifier(&self.owner));
        // Of several sites on a server, none may look into another's.
        let close = format!("revoke connect, temporary on database {name} from public;");
        Ok(match (self.present, facts.postgres_databases.get(&self.name)) {
            (false, None) => Vec::new(),
            (false, Some(_)) => {
                vec![Change::run(self.id(), Action::Remove, "exists", sql(&format!("drop database {name};")))]
            }
            (true, None) => {
                let create =
                    sql(&format!("create database {name} owner {owner} encoding 'UTF8' template template0;"));
                let script = unless_there("pg_database", "datname", &self.name)
                    .line("if [ \"$verb\" = create ]; then")
                    .then(&create)
                    .line("else")
                    .then(&sql(&format!("alter database {name} owner to {owner};")))
                    .line("fi")
                    .then(&sql(&close));
                vec![Change::run(self.id(), Action::Create, "missing", script)]
            }
            (true, Some(fact)) if fact.owner == self.owner && !fact.open => Vec::new(),
            (true, Some(fact)) => {
                let why = match fact.owner == self.owner {
                    true => "every role may connect to it".to_owned(),
                    false => format!("owner is {}, should be {}", fact.owner, self.owner),
                };
                let script = sql(&format!("alter database {name} owner to {owner};\n{close}"));
                vec![Change::run(self.id(), Action::Update, why, script)]
            }
        })
    }
}

/// Sets `verb` to `create`, or to `alter`: while PostgreSQL still starts, as after a power loss, a probe finds nothing. It is
/// waited for: only who is asked can tell what it has.
fn unless_there(catalog: &str, column: &str, name: &str) -> Script {
    let name = name.replace('\'', "''");
    let question = format!("select 'alter' from {catalog} where {column} = '{name}'");
    Script::new()
        .line("cd /")
        .wait_until("pg_isready -q", 300)
        .line(&format!("verb=$(printf '%s\\n' {} | {PSQL})", crate::shell::quote(&question)))
        .line("verb=${verb:-create}")
}

fn sql(statement: &str) -> Script {
    Script::new().line("cd /").line(&format!("{PSQL} <<'SHIP_SQL'\n{statement}\nSHIP_SQL"))
}

/// Quotes an SQL identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Step;

    fn database(present: bool) -> Database {
        Database { name: "my-shop".into(), present, owner: "my-shop".into() }
    }

    fn facts(owner: &str) -> Facts {
        let mut facts = Facts::default();
        let database = crate::facts::postgres::Database { owner: owner.into(), open: false };
        facts.postgres_databases.insert("my-shop".into(), database);
        facts
    }

    #[test]
    fn a_database_is_created_changed_kept_and_removed() {
        insta::assert_debug_snapshot!(database(true).diff(&Facts::default()).unwrap()[0].steps[0], @r#"
        Run(
            cd /
            tries=0
            until pg_isready -q || [ $tries = 300 ]; do tries=$((tries + 1)); sleep 0.1; done
            verb=$(printf '%s\n' "select 'alter' from pg_database where datname = 'my-shop'" | runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d postgres)
            verb=${verb:-create}
            if [ "$verb" = create ]; then
            cd /
            runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d postgres <<'SHIP_SQL'
            create database "my-shop" owner "my-shop" encoding 'UTF8' template template0;
            SHIP_SQL
            else
            cd /
            runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d postgres <<'SHIP_SQL'
            alter database "my-shop" owner to "my-shop";
            SHIP_SQL
            fi
            cd /
            runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d postgres <<'SHIP_SQL'
            revoke connect, temporary on database "my-shop" from public;
            SHIP_SQL
            ,
        )
        "#);
        assert!(database(true).diff(&facts("my-shop")).unwrap().is_empty());
        assert_eq!(database(true).diff(&facts("postgres")).unwrap()[0].action, Action::Update);
        assert_eq!(database(false).diff(&facts("x")).unwrap()[0].action, Action::Remove);
        assert!(database(false).diff(&Facts::default()).unwrap().is_empty());
    }

    #[test]
    fn a_role_is_created_kept_and_removed() {
        let role = |present| Role { name: "shop".into(), present, password_file: "/etc/ship/shop/pw".into() };
        let mut facts = Facts::default();
        let created = role(true).diff(&facts).unwrap();
        assert_eq!(created[0].action, Action::Create);
        let Step::Run(script) = &created[0].steps[0] else { panic!() };
        insta::assert_snapshot!(script.text(), @r#"
        cd /
        exec 8< /etc/ship/shop/pw
        IFS= read -r password <&8
        quoted=$(printf '%s' "$password" | sed "s/'/''/g")
        cd /
        tries=0
        until pg_isready -q || [ $tries = 300 ]; do tries=$((tries + 1)); sleep 0.1; done
        verb=$(printf '%s\n' "select 'alter' from pg_roles where rolname = 'shop'" | runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d postgres)
        verb=${verb:-create}
        { printf '%s\n' "set log_statement = 'none'; set log_min_error_statement = 'panic';"; printf '%s\n' "$verb" 'role "shop" login password' "'$quoted';"; } | runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d postgres
        "#);
        facts.postgres_roles.insert("shop".into());
        assert!(role(true).diff(&facts).unwrap().is_empty());
        assert_eq!(role(false).diff(&facts).unwrap()[0].action, Action::Remove);
    }
}
