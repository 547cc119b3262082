//! System packages that Python packages need, from the data in `libraries.yml`.
//!
//! Invariant: only what a distribution's own documentation names; a wheel that brings its libraries asks for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::Packages;

/// The name of GeoDjango in the data, which is no distribution.
pub const GEODJANGO: &str = "django.contrib.gis";

/// The data.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Libraries {
    distributions: BTreeMap<String, Needs>,
    missing: BTreeMap<String, Vec<String>>,
}

/// What one distribution needs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Needs {
    run: Vec<String>,
    build: Vec<String>,
    /// Distributions that bring it themselves.
    unless: Vec<String>,
    source: String,
}

static LIBRARIES: LazyLock<Libraries> = LazyLock::new(|| {
    // A test reads it; nothing else could be done about an error here.
    crate::config::from_str("libraries.yml", include_str!("libraries.yml")).unwrap_or_default()
});

/// The system packages that these Python packages and those of `extra` need, each with the distributions that need it.
pub fn needed(packages: &Packages, geodjango: bool, extra: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeSet<&str> =
        packages.names.keys().map(String::as_str).chain(extra.iter().copied()).collect();
    if geodjango {
        names.insert(GEODJANGO);
    }
    if packages.git {
        names.insert("git");
    }
    let mut needed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        let Some(needs) = LIBRARIES.distributions.get(name) else { continue };
        if needs.unless.iter().any(|other| packages.has(other)) {
            continue;
        }
        for library in needs.run.iter().chain(&needs.build) {
            needed.entry(library.clone()).or_default().push(name.to_owned());
        }
    }
    needed
}

/// The system packages of a distribution that has to be compiled.
pub fn for_building(name: &str) -> Option<&'static [String]> {
    LIBRARIES.distributions.get(name).map(|needs| needs.build.as_slice()).filter(|build| !build.is_empty())
}

/// The system packages that have a header, a program or a library which a build did not find.
pub fn having(missing: &str) -> Option<&'static [String]> {
    LIBRARIES.missing.get(missing).map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Dependencies;

    #[test]
    fn the_data_is_whole() {
        let read: Libraries =
            crate::config::from_str("libraries.yml", include_str!("libraries.yml")).unwrap();
        assert!(read.distributions.len() > 20 && read.missing.len() > 20);
        for (name, needs) in &read.distributions {
            assert!(needs.source.starts_with("https://"), "{name} has no source");
            assert!(!needs.run.is_empty() || !needs.build.is_empty(), "{name} needs nothing");
            let normal = crate::project::python::normalized(name);
            assert!(normal == *name || name == GEODJANGO, "{name} is compared as {normal}");
        }
    }

    #[test]
    fn what_is_needed() {
        let check = |text: &str, geodjango: bool| {
            let files = Dependencies::requirements(vec!["r.txt".into()]);
            let packages = Packages::read(&files, vec![("r.txt".into(), text.into())]).unwrap();
            needed(&packages, geodjango, &[]).into_keys().collect::<Vec<_>>().join(" ")
        };
        for (text, geodjango, expected) in [
            ("Django\npsycopg2-binary\nPillow\nlxml\n", false, ""),
            ("psycopg2\n", false, "gcc libpq-dev python3-dev"),
            ("psycopg\n", false, "libpq5"),
            ("psycopg[binary]\n", false, ""),
            ("psycopg[c]\n", false, "gcc libpq-dev python3-dev"),
            ("MySQLClient\n", false, "default-libmysqlclient-dev gcc pkg-config python3-dev"),
            ("python_magic\n", false, "file"),
            ("Django\n", true, "binutils gdal-bin libproj-dev"),
            ("x @ git+https://example.com/x.git\n", false, "git"),
        ] {
            assert_eq!(check(text, geodjango), expected, "{text}");
        }
    }
}
