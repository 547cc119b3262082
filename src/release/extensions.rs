//! Extensions of PostgreSQL that a project needs and may not create itself.
//!
//! Invariant: what the database's owner may create (`citext`, `pg_trgm` and all that PostgreSQL trusts) is left to the
//! project's own migrations, unless `ship.yml` asks for it.

use crate::config::Config;

use super::Source;

/// An extension of the site's database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// What Debian's package of it is called after `postgresql-15-`; empty if it comes with PostgreSQL itself.
    pub package: &'static str,
}

/// Debian's packages of what does not come with PostgreSQL, by the extension's first letters.
const PACKAGES: [(&str, &str); 8] = [
    ("postgis", "postgis-3"),
    ("address_standardizer", "postgis-3"),
    ("vector", "pgvector"),
    ("pgrouting", "pgrouting"),
    ("hll", "hll"),
    ("pg_cron", "cron"),
    ("hypopg", "hypopg"),
    ("periods", "periods"),
];

/// What the project's migrations call an extension that only a superuser creates.
const IN_MIGRATIONS: [(&str, &str); 2] = [("PostGISExtension", "postgis"), ("VectorExtension", "vector")];

/// The extensions that the site's database gets: those of `ship.yml`, and those that the project plainly needs.
pub fn extensions(config: &Config, source: &Source) -> Vec<Extension> {
    let mut names = config.extensions.clone();
    let gis = ["django.contrib.gis", "django.contrib.gis.db.backends.postgis"];
    if gis.iter().any(|name| source.settings.mentions(name)) {
        names.push("postgis".into());
    }
    for (_, text) in &source.migrations {
        let created = |name: &str| {
            text.contains(&format!("CreateExtension(\"{name}\""))
                || text.contains(&format!("CreateExtension('{name}'"))
        };
        for (operation, name) in IN_MIGRATIONS {
            if text.contains(&format!("{operation}(")) || created(name) {
                names.push(name.into());
            }
        }
    }
    let package = |name: &str| {
        PACKAGES.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or("", |(_, package)| package)
    };
    let mut found: Vec<Extension> =
        names.into_iter().map(|name| Extension { package: package(&name), name }).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::settings::Settings;

    #[test]
    fn only_what_the_owner_may_not_create_is_noticed() {
        let files = |text: &'static str| move |path: &str| (path == "s.py").then(|| text.to_owned());
        let names = |settings: &'static str, migration: &str| {
            let source = Source {
                migrations: vec![("a/migrations/0001_initial.py".into(), migration.into())],
                settings: Settings::find(".", "s", "w", &[], &files(settings)),
                ..Source::without_code(String::new())
            };
            let mut config = crate::release::tests::config("database: {extensions: [citext]}");
            let found = extensions(&config, &source);
            config.extensions.clear();
            assert_eq!(found.len(), extensions(&config, &source).len() + 1);
            found.iter().map(|one| format!("{} {}", one.name, one.package)).collect::<Vec<_>>().join(",")
        };
        assert_eq!(names("", "operations = [TrigramExtension(), CreateExtension('unaccent')]"), "citext ");
        assert_eq!(names("INSTALLED_APPS = ['django.contrib.gis']", ""), "citext ,postgis postgis-3");
        assert_eq!(
            names("", "CreateExtension(\"postgis\")\nVectorExtension()"),
            "citext ,postgis postgis-3,vector pgvector"
        );
    }
}
