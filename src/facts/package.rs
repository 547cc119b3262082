//! Debian packages: which are installed, and which dpkg left half-way.

use std::collections::BTreeMap;

use crate::shell::{Cmd, Script};

/// One package as dpkg knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Whether it is installed and configured.
    pub installed: bool,
    /// Its version, empty if not installed.
    pub version: String,
}

/// Asks for packages by name, and for everything half-configured.
pub fn script(names: &[&str]) -> Script {
    if names.is_empty() {
        return Script::new();
    }
    let query =
        Cmd::new("dpkg-query").arg("-W").arg("-f").arg("${db:Status-Abbrev}\t${Package}\t${Version}\n");
    // One listing of all packages costs about 20 ms and tells the broken ones, too.
    let mut wanted = String::from(" ");
    for name in names {
        wanted.push_str(name);
        wanted.push(' ');
    }
    Script::new()
        .set("wanted", wanted)
        .cmd(query.raw("2>/dev/null | awk -F '\\t' -v wanted=\"$wanted\" '"))
        .line(
            r#"{ status = substr($1, 1, 3) }
index(wanted, " " $2 " ") || (status !~ /^(ii|hi|rc|un|pn) $/ && status !~ /^.[nc] $/) { print }'"#,
        )
}

/// Reads what [`script`] printed: the packages by name, and the broken ones.
pub fn parse(body: &str) -> (BTreeMap<String, Package>, Vec<String>) {
    let mut packages = BTreeMap::new();
    let mut broken = Vec::new();
    for line in body.lines() {
        let mut fields = line.split('\t');
        let (Some(status), Some(name), Some(version)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let state = status.as_bytes().get(1).copied().unwrap_or(b'?');
        let installed = state == b'i' && !status.trim_end().ends_with('R');
        // n: not installed, c: only its configuration is left.
        if !installed && !matches!(state, b'n' | b'c') {
            broken.push(name.to_string());
        }
        let version = if installed { version.to_string() } else { String::new() };
        let entry = packages.entry(name.to_string()).or_insert(Package { installed, version });
        entry.installed |= installed;
    }
    (packages, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_installed_removed_and_broken_apart() {
        let (packages, broken) = parse(
            "ii \tnginx\t1.22.1-9\nrc \tredis\t7.0\nun \tsudo\t\niF \tpostgresql-15\t15.6\niHR\tlibx\t1.0\n",
        );
        assert!(packages["nginx"].installed);
        assert!(!packages["redis"].installed);
        assert!(!packages["sudo"].installed);
        assert!(!packages["postgresql-15"].installed);
        assert_eq!(broken, ["postgresql-15", "libx"]);
    }
}
