//! Where a site is on a server that others share: its port, and whose its name is.
//!
//! Invariant: pure. What was decided stands on the server: the port in the socket's unit, the environment in a file.
//! A site that is new to a server takes nobody's account or database.

use crate::config::{Config, DEFAULT_PORT, Database};
use crate::facts::Facts;

/// Why a site can't be on this server as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Another application has the port.
    #[error("port {port} on the server is {owner}'s")]
    Taken {
        /// As ship.yml has it.
        port: u16,
        /// The application.
        owner: String,
    },
    /// The site of that name is another environment's.
    #[error("{app} on the server is the environment {is}, and this is {wanted}")]
    OtherEnvironment {
        /// The application.
        app: String,
        /// Whose it is.
        is: String,
        /// Who wants it.
        wanted: String,
    },
    /// The account that the site would get is somebody's.
    #[error("the server has a user {app} already, whose home is {home}")]
    OtherUser {
        /// The application.
        app: String,
        /// The account's home.
        home: String,
    },
    /// The database that the site would get is somebody's.
    #[error("the server has a database {app} already, which is {owner}'s")]
    OtherDatabase {
        /// The application.
        app: String,
        /// The role that owns it, or the accounts that may use it.
        owner: String,
    },
}

/// What is written down of an environment.
pub fn environment(config: &Config) -> &str {
    config.environment.as_deref().unwrap_or("default")
}

/// The port of the site's own server: the one that ship.yml names, the one that it has, or the first free one.
pub fn port(config: &Config, facts: &Facts) -> Result<u16, PlaceError> {
    let app = &facts.app;
    if let Some(is) = app.environment.as_deref().filter(|is| *is != environment(config)) {
        return Err(PlaceError::OtherEnvironment {
            app: config.app.clone(),
            is: is.to_owned(),
            wanted: environment(config).to_owned(),
        });
    }
    taken(config, facts)?;
    let owner = |port: u16| app.sockets.iter().find(|(name, is)| **is == port && **name != config.app);
    if config.port_written {
        return match owner(config.port) {
            Some((owner, _)) => Err(PlaceError::Taken { port: config.port, owner: owner.clone() }),
            None => Ok(config.port),
        };
    }
    if let Some(port) = app.sockets.get(&config.app).filter(|port| owner(**port).is_none()) {
        return Ok(*port);
    }
    let mut free = (DEFAULT_PORT..u16::MAX)
        .filter(|port| owner(*port).is_none() && !facts.host.taken_ports.contains(port));
    Ok(free.next().unwrap_or(DEFAULT_PORT))
}

/// Whether the name of a site that the server doesn't know yet is an account's or a database's of somebody else. To
/// take them over would lock that person out, and whatever runs with that database.
fn taken(config: &Config, facts: &Facts) -> Result<(), PlaceError> {
    let (name, app) = (&config.app, &facts.app);
    if app.environment.is_some() || app.sockets.contains_key(name) || !app.releases.is_empty() {
        return Ok(());
    }
    if let Some(user) = facts.users.get(name).filter(|user| user.home != format!("/srv/{name}")) {
        return Err(PlaceError::OtherUser { app: name.clone(), home: user.home.clone() });
    }
    let owner = match config.database {
        Database::Postgres => facts.postgres_databases.get(name).map(|found| found.owner.clone()),
        Database::Mysql => facts
            .mysql_databases
            .get(name)
            .filter(|users| !users.contains(name))
            .map(|users| users.first().cloned().unwrap_or_else(|| "root".to_owned())),
        Database::Sqlite | Database::External => None,
    };
    match owner {
        Some(owner) if owner != *name => Err(PlaceError::OtherDatabase { app: name.clone(), owner }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{self, Defaults};
    use crate::project::{Tree, detect};

    fn check(
        yaml: &str,
        sockets: &[(&str, u16)],
        taken: &[u16],
        environment: Option<&str>,
    ) -> Result<u16, String> {
        let mut facts = Facts::default();
        facts.app.sockets = sockets.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect();
        facts.host.taken_ports = taken.iter().copied().collect();
        facts.app.environment = environment.map(str::to_owned);
        place(yaml, &facts)
    }

    fn place(yaml: &str, facts: &Facts) -> Result<u16, String> {
        let files = BTreeMap::from([
            (
                "manage.py".to_owned(),
                "setdefault('DJANGO_SETTINGS_MODULE', 'a.settings') # django".to_owned(),
            ),
            ("a/settings.py".to_owned(), String::new()),
            ("a/wsgi.py".to_owned(), String::new()),
            ("requirements.txt".to_owned(), "Django".to_owned()),
        ]);
        let text = format!("app: a\nserver: {{provider: ssh, host: h}}\n{yaml}");
        let defaults = Defaults { folder_name: "a", playbooks: &[] };
        let config =
            config::load("ship.yml", &text, None, &detect(&Tree::from_map(files)), &defaults).unwrap();
        port(&config, facts).map_err(|error| error.to_string())
    }

    #[test]
    fn a_new_site_takes_nobodys_account_or_database() {
        let mut facts = Facts::default();
        let user = |home: &str| crate::facts::user::User { home: home.into(), ..Default::default() };
        let database = |owner: &str| crate::facts::postgres::Database { owner: owner.into(), open: true };
        facts.users.insert("a".into(), user("/home/a"));
        let refused = Err("the server has a user a already, whose home is /home/a".into());
        assert_eq!(place("", &facts), refused);
        facts.users.insert("a".into(), user("/srv/a"));
        facts.postgres_databases.insert("a".into(), database("sammy"));
        let refused = Err("the server has a database a already, which is sammy's".into());
        assert_eq!(place("", &facts), refused);
        assert_eq!(place("database: sqlite", &facts), Ok(8000), "it wants none");
        // What differs on a server that has the site is drift.
        facts.app.environment = Some("default".into());
        assert_eq!(place("", &facts), Ok(8000));
        // Left by a site of that name, or moved here with its volume.
        facts.app.environment = None;
        facts.postgres_databases.insert("a".into(), database("a"));
        assert_eq!(place("", &facts), Ok(8000));
        facts.mysql_databases.insert("a".into(), ["a".to_owned()].into());
        assert_eq!(place("database: mysql", &facts), Ok(8000));
        facts.mysql_databases.insert("a".into(), ["sammy".to_owned()].into());
        let refused = Err("the server has a database a already, which is sammy's".into());
        assert_eq!(place("database: mysql", &facts), refused);
    }

    #[test]
    fn each_site_of_a_server_has_its_own_port() {
        assert_eq!(check("", &[], &[], None), Ok(8000));
        assert_eq!(check("", &[("a", 8000)], &[8000], None), Ok(8000), "its own");
        assert_eq!(check("", &[("b", 8000)], &[8000], None), Ok(8001));
        assert_eq!(
            check("", &[("b", 8000)], &[8000, 8001], Some("default")),
            Ok(8002),
            "something else listens"
        );
        assert_eq!(check("", &[("a", 8001), ("b", 8000)], &[], None), Ok(8001), "where it was before");
        // From before each had its own: the one that deploys first moves.
        assert_eq!(check("", &[("a", 8000), ("b", 8000)], &[8000], None), Ok(8001));
        assert_eq!(check("port: 9000", &[("a", 8000)], &[], None), Ok(9000));
        assert_eq!(
            check("port: 9000", &[("b", 9000)], &[], None),
            Err("port 9000 on the server is b's".into())
        );
    }

    #[test]
    fn a_name_is_one_environments() {
        let refused = "a on the server is the environment staging, and this is default";
        assert_eq!(check("", &[], &[], Some("staging")), Err(refused.into()));
        assert_eq!(check("", &[], &[], Some("default")), Ok(8000));
    }
}
