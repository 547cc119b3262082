//! Accounts and databases of a MySQL or MariaDB.
//!
//! Invariant: every statement may run again. A server that still starts, as after a power loss, tells a probe nothing.

use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, ResourceId};
use crate::shell::{Cmd, Script, quote};

use super::{DiffError, Resource};

/// Runs SQL from stdin as root, known by its socket; passwords never reach argv or the server's log.
const MARIADB: &str = "mariadb --batch --skip-column-names";

/// How a database is made, for emoji and for comparisons that don't change with the server's version.
pub const CHARACTERS: &str = "character set utf8mb4 collate utf8mb4_unicode_ci";

/// An account for this host with a password kept in a file, or one that should be absent.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Whether it should be there.
    pub present: bool,
    /// The file on the server that holds its password, readable by root alone.
    pub password_file: String,
}

impl Resource for Account {
    fn id(&self) -> ResourceId {
        ResourceId::new("mysql user", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::MysqlUser(self.name.clone())]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let account = account(&self.name);
        Ok(match (self.present, facts.mysql_users.contains(&self.name)) {
            (true, true) | (false, false) => Vec::new(),
            (true, false) => {
                let [create, alter] = ["create user if not exists", "alter user"]
                    .map(|verb| quote(&format!("{verb} {account} identified by")));
                // printf is built into sh: nothing of this shows in a process list.
                let script = awaited()
                    .cmd(Cmd::new("exec").raw("8<").arg(&self.password_file))
                    .line("IFS= read -r password <&8")
                    .line(r#"quoted=$(printf '%s' "$password" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")"#)
                    .line(&format!(
                        "{{ printf '%s\\n' 'set sql_log_off = 1;' {create} \"'$quoted';\" {alter} \"'$quoted';\"; }} | {MARIADB}"
                    ));
                vec![Change::run(self.id(), Action::Create, "missing", script)]
            }
            (false, true) => {
                let script = sql(&format!("drop user if exists {account};"));
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
    /// The account that may do anything in it.
    pub owner: String,
}

impl Resource for Database {
    fn id(&self) -> ResourceId {
        ResourceId::new("mysql database", &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::MysqlDatabase(self.name.clone())]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let name = identifier(&self.name);
        // In a grant, `_` and `%` stand for anything.
        let pattern = identifier(&self.name.replace('_', "\\_").replace('%', "\\%"));
        let grant = format!("grant all privileges on {pattern}.* to {};", account(&self.owner));
        Ok(match (self.present, facts.mysql_databases.get(&self.name)) {
            (false, None) => Vec::new(),
            (false, Some(_)) => {
                vec![Change::run(self.id(), Action::Remove, "exists", sql(&format!("drop database {name};")))]
            }
            (true, None) => {
                let create = format!("create database if not exists {name} {CHARACTERS};\n{grant}");
                vec![Change::run(self.id(), Action::Create, "missing", awaited().then(&sql(&create)))]
            }
            (true, Some(users)) if users.contains(&self.owner) => Vec::new(),
            (true, Some(_)) => {
                let why = format!("{} may not use it", self.owner);
                vec![Change::run(self.id(), Action::Update, why, sql(&grant))]
            }
        })
    }
}

/// Waits for a server that still starts.
fn awaited() -> Script {
    Script::new().wait_until(&format!("{MARIADB} -e 'select 1' >/dev/null 2>&1"), 300)
}

fn sql(statements: &str) -> Script {
    Script::new().line(&format!("{MARIADB} <<'SHIP_SQL'\n{statements}\nSHIP_SQL"))
}

/// Quotes an SQL identifier.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// An account of this host.
fn account(name: &str) -> String {
    format!("{}@localhost", identifier(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Step;

    fn script(change: &Change) -> &str {
        let Step::Run(script) = &change.steps[0] else { panic!() };
        script.text()
    }

    #[test]
    fn a_database_is_created_granted_kept_and_removed() {
        let database = |present| Database { name: "my_shop".into(), present, owner: "my-shop".into() };
        let facts = |users: &[&str]| {
            let mut facts = Facts::default();
            let users = users.iter().map(|user| (*user).to_string()).collect();
            facts.mysql_databases.insert("my_shop".into(), users);
            facts
        };
        let created = database(true).diff(&Facts::default()).unwrap();
        insta::assert_snapshot!(script(&created[0]), @r"
        tries=0
        until mariadb --batch --skip-column-names -e 'select 1' >/dev/null 2>&1 || [ $tries = 300 ]; do tries=$((tries + 1)); sleep 0.1; done
        mariadb --batch --skip-column-names <<'SHIP_SQL'
        create database if not exists `my_shop` character set utf8mb4 collate utf8mb4_unicode_ci;
        grant all privileges on `my\_shop`.* to `my-shop`@localhost;
        SHIP_SQL
        ");
        assert!(database(true).diff(&facts(&["root", "my-shop"])).unwrap().is_empty());
        let granted = database(true).diff(&facts(&["root"])).unwrap();
        assert_eq!((granted[0].action, granted[0].why.as_str()), (Action::Update, "my-shop may not use it"));
        assert!(!script(&granted[0]).contains("create"));
        assert_eq!(database(false).diff(&facts(&[])).unwrap()[0].action, Action::Remove);
        assert!(database(false).diff(&Facts::default()).unwrap().is_empty());
    }

    #[test]
    fn an_account_is_created_kept_and_removed() {
        let account =
            |present| Account { name: "shop".into(), present, password_file: "/etc/ship/shop/pw".into() };
        let mut facts = Facts::default();
        let created = account(true).diff(&facts).unwrap();
        assert_eq!(created[0].action, Action::Create);
        insta::assert_snapshot!(script(&created[0]), @r#"
        tries=0
        until mariadb --batch --skip-column-names -e 'select 1' >/dev/null 2>&1 || [ $tries = 300 ]; do tries=$((tries + 1)); sleep 0.1; done
        exec 8< /etc/ship/shop/pw
        IFS= read -r password <&8
        quoted=$(printf '%s' "$password" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")
        { printf '%s\n' 'set sql_log_off = 1;' 'create user if not exists `shop`@localhost identified by' "'$quoted';" 'alter user `shop`@localhost identified by' "'$quoted';"; } | mariadb --batch --skip-column-names
        "#);
        facts.mysql_users.insert("shop".into());
        assert!(account(true).diff(&facts).unwrap().is_empty());
        assert_eq!(account(false).diff(&facts).unwrap()[0].action, Action::Remove);
    }
}
