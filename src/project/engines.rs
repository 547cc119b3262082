//! Which database a project itself works with: MySQL or MariaDB when its files say so.
//!
//! Invariant: a project keeps MySQL only if nothing of it speaks of PostgreSQL as loudly; its SQL may depend on the one that
//! it was written for, while a project on SQLite loses nothing with another.

use std::collections::BTreeSet;

/// Django's drivers of MySQL and MariaDB.
pub const MYSQL_DRIVERS: [&str; 3] = ["mysqlclient", "pymysql", "mysql-connector-python"];

const POSTGRES_DRIVERS: [&str; 6] =
    ["psycopg", "psycopg-binary", "psycopg2", "psycopg2-binary", "psycopg2cffi", "pg8000"];

/// The databases that settings name, each with the first file that does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Engines {
    /// What they name MySQL by, and where.
    mysql: Option<(String, String)>,
    postgres: bool,
    sqlite: bool,
}

impl Engines {
    /// Takes note of a file of settings, without its comments.
    pub fn read(&mut self, path: &str, code: &str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.contains("test") {
            // What tests run on says nothing of production.
            return;
        }
        let names = |marks: &[&'static str]| marks.iter().copied().find(|mark| code.contains(mark));
        let mysql =
            names(&["backends.mysql", "mysql.connector.django", "mysql://", "mariadb://", "mysqlgis://"]);
        if let (Some(mark), None) = (mysql, &self.mysql) {
            self.mysql = Some((mark.to_owned(), path.to_owned()));
        }
        self.postgres |=
            names(&["backends.postgresql", "backends.postgis", "postgres://", "postgresql://", "postgis://"])
                .is_some();
        // A URL is a default of the day before; an engine is meant.
        self.sqlite |= names(&["backends.sqlite3", "backends.spatialite"]).is_some();
    }

    /// Why the project's own database is MySQL or MariaDB, if it is.
    pub fn mysql(&self, packages: &BTreeSet<String>) -> Option<String> {
        let driver = MYSQL_DRIVERS.into_iter().find(|name| packages.contains(*name));
        let other_driver = POSTGRES_DRIVERS.iter().any(|name| packages.contains(*name));
        match (&self.mysql, driver) {
            (Some((mark, path)), None) if !self.postgres && !other_driver => {
                Some(format!("{path} names {mark}"))
            }
            (Some((mark, path)), Some(driver)) if !(self.postgres && other_driver) => {
                Some(format!("{path} names {mark}, and {driver} is among the packages"))
            }
            (None, Some(driver)) if !self.postgres && !self.sqlite && !other_driver => {
                Some(format!("{driver} is among the packages, and no driver of another database"))
            }
            (Some(_) | None, Some(_) | None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_of_mysql_is_told_from_others() {
        let check = |files: &[(&str, &str)], packages: &str| {
            let mut engines = Engines::default();
            for (path, text) in files {
                engines.read(path, text);
            }
            let packages = packages.split_whitespace().map(str::to_owned).collect();
            engines.mysql(&packages).unwrap_or_default()
        };
        let mysql = ("site/settings.py", "'ENGINE': 'django.db.backends.mysql',");
        let postgres = ("site/production.py", "'ENGINE': 'django.db.backends.postgresql',");
        let sqlite = ("site/settings.py", "'ENGINE': 'django.db.backends.sqlite3',");
        let environment =
            ("site/settings.py", "DATABASES = {'default': env.db(default='sqlite:///db.sqlite3')}");
        let both = "site/settings.py names backends.mysql, and mysqlclient is among the packages";
        assert_eq!(check(&[mysql], "django mysqlclient"), both);
        assert_eq!(check(&[mysql], "django"), "site/settings.py names backends.mysql");
        assert_eq!(check(&[mysql], "mysqlclient psycopg2"), both);
        assert_eq!(check(&[mysql, postgres], "mysqlclient"), both);
        let default = ("site/settings.py", "dj_database_url.config(default='mysql://root@localhost/x')");
        assert!(check(&[default], "pymysql").starts_with("site/settings.py names mysql://"));
        let driver = "pymysql is among the packages, and no driver of another database";
        assert_eq!(check(&[environment], "pymysql"), driver);
        assert_eq!(check(&[], "pymysql"), driver);
        for (files, packages) in [
            (&[][..], "django"),
            (&[environment][..], "psycopg2 mysqlclient"),
            (&[sqlite][..], "mysqlclient"),
            (&[postgres][..], "mysqlclient"),
            (&[mysql][..], "psycopg"),
            (&[mysql, postgres][..], "mysqlclient psycopg2-binary"),
            (&[mysql, postgres][..], ""),
            (&[("site/settings/test.py", "backends.mysql"), sqlite][..], ""),
        ] {
            assert_eq!(check(files, packages), "", "{files:?} {packages}");
        }
    }
}
