//! Accounts and groups.

use std::collections::{BTreeMap, BTreeSet};

use crate::shell::{Cmd, Script};

use super::FactError;

/// One account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// All its groups, the primary one included.
    pub groups: BTreeSet<String>,
}

/// Asks for accounts.
pub fn script_users(names: &[&str]) -> Script {
    if names.is_empty() {
        return Script::new();
    }
    let list = Cmd::new("for name in").args(names).text().replacen("'for name in'", "for name in", 1);
    Script::new()
        .line(&format!("{list}; do"))
        .line("  entry=$(getent passwd \"$name\") || continue")
        .line("  printf '%s\\t%s\\n' \"$entry\" \"$(id -Gn \"$name\" 2>/dev/null)\"")
        .line("done")
}

/// Asks for groups.
pub fn script_groups(names: &[&str]) -> Script {
    if names.is_empty() {
        return Script::new();
    }
    Script::new().cmd(Cmd::new("getent").arg("group").args(names).raw("| cut -d: -f1"))
}

/// Reads what [`script_users`] printed.
pub fn parse_users(body: &str) -> Result<BTreeMap<String, User>, FactError> {
    body.lines()
        .map(|line| {
            let (entry, groups) =
                line.split_once('\t').ok_or_else(|| FactError::new("user", "a line without groups"))?;
            let fields: Vec<&str> = entry.split(':').collect();
            let [name, _, _, _, _, home, shell] = fields.as_slice() else {
                return Err(FactError::new("user", entry));
            };
            Ok((
                (*name).to_string(),
                User {
                    home: (*home).into(),
                    shell: (*shell).into(),
                    groups: groups.split(' ').filter(|group| !group.is_empty()).map(Into::into).collect(),
                },
            ))
        })
        .collect()
}

/// Reads what [`script_groups`] printed.
pub fn parse_groups(body: &str) -> BTreeSet<String> {
    body.lines().map(str::to_string).collect()
}
