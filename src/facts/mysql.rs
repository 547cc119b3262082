//! The accounts and databases of a MySQL or MariaDB.

use std::collections::{BTreeMap, BTreeSet};

use crate::shell::Script;

/// Asks for all accounts of this host and all databases; a server that isn't there or doesn't run has none.
pub fn script() -> Script {
    Script::from_text(
        r"if command -v mariadb >/dev/null 2>&1 && [ -S /run/mysqld/mysqld.sock ]; then
  (cd / && mariadb --batch --skip-column-names 2>/dev/null) <<'SQL'
select 'user', user, '' from mysql.user where host = 'localhost';
select 'database', schema_name, '' from information_schema.schemata
  where schema_name not in ('information_schema', 'mysql', 'performance_schema', 'sys');
select 'grant', replace(db, '\\_', '_'), user from mysql.db where host = 'localhost' and create_priv = 'Y' and drop_priv = 'Y';
SQL
fi
",
    )
}

/// Reads what [`script`] printed: accounts, and databases with the accounts that may do anything in them.
pub fn parse(body: &str) -> (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>) {
    let mut users = BTreeSet::new();
    let mut databases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in body.lines() {
        let mut fields = line.split('\t');
        match (fields.next(), fields.next(), fields.next()) {
            (Some("user"), Some(name), _) => {
                users.insert(name.to_string());
            }
            (Some("database"), Some(name), _) => {
                databases.entry(name.to_string()).or_default();
            }
            // A grant outlives its database.
            (Some("grant"), Some(name), Some(user)) => {
                if let Some(users) = databases.get_mut(name) {
                    users.insert(user.to_string());
                }
            }
            _ => {}
        }
    }
    (users, databases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_without_its_grant_and_a_grant_without_its_database() {
        let (users, databases) = parse(
            "user\troot\nuser\tshop\ndatabase\tshop\t\ndatabase\tbare\t\ngrant\tshop\tshop\ngrant\tgone\tshop\n",
        );
        assert_eq!(users.into_iter().collect::<Vec<_>>(), ["root", "shop"]);
        assert_eq!(databases["shop"], BTreeSet::from(["shop".to_string()]));
        assert!(databases["bare"].is_empty() && !databases.contains_key("gone"));
    }
}
