//! Checks: scripts that tell by their exit code whether a command's result is there.

use std::collections::{BTreeMap, BTreeSet};

use crate::shell::{Script, quote};

use super::Ask;

/// Asks for all checks, each in a subshell of its own.
pub fn script(asks: &BTreeSet<Ask>) -> Script {
    let mut script = Script::new();
    for ask in asks {
        if let Ask::Check { name, script: check } = ask {
            script = script
                .line("(")
                .then(check)
                .line(") </dev/null >/dev/null 2>&1")
                .line(&format!("printf '%s\\t%s\\n' \"$?\" {}", quote(name)));
        }
    }
    script
}

/// Reads what [`script`] printed.
pub fn parse(body: &str) -> BTreeMap<String, bool> {
    body.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(code, name)| (name.to_string(), code == "0"))
        .collect()
}
