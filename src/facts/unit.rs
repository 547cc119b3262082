//! systemd units.

use std::collections::BTreeMap;

use crate::shell::{Cmd, Script};

/// One unit as `systemctl show` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// Whether systemd finds its file.
    pub loaded: bool,
    /// Whether it runs (`active`, or on its way there).
    pub active: bool,
    /// `active`, `failed`, `inactive` …
    pub active_state: String,
    /// `enabled`, `disabled`, `static` …
    pub file_state: String,
    /// Whether its file changed since systemd read it.
    pub needs_reload: bool,
}

/// Locked by what reloads systemd while nobody waits for it.
pub const READING: &str = "/run/ship.reading-units";

/// Asks for units, in order.
pub fn script(names: &[&str]) -> Script {
    if names.is_empty() {
        return Script::new();
    }
    // A release that was switched to has not waited for systemd to read its units again.
    let reading = Cmd::new("flock").arg("-s").arg("-w").arg("30").arg(READING).arg("true").raw("2>/dev/null");
    Script::new().line(&format!("[ ! -e {READING} ] || {}", reading.text())).cmd(
        Cmd::new("systemctl")
            .arg("show")
            .arg("--property=LoadState,ActiveState,UnitFileState,NeedDaemonReload,Job")
            .arg("--")
            .args(names)
            .raw("2>/dev/null"),
    )
}

/// Reads what [`script`] printed: one block a unit, in the order asked, with a blank line between.
pub fn parse<'a>(names: impl Iterator<Item = &'a str>, body: &str) -> BTreeMap<String, Unit> {
    names.zip(body.split("\n\n")).map(|(name, block)| (name.to_string(), parse_block(block))).collect()
}

fn parse_block(block: &str) -> Unit {
    let map = super::key_values(block);
    let text = |key: &str| map.get(key).map(|value| (*value).to_string()).unwrap_or_default();
    let active_state = text("ActiveState");
    Unit {
        loaded: text("LoadState") == "loaded",
        // A job of a unit that is at rest is the one that starts it: it waits for what goes before.
        active: matches!(active_state.as_str(), "active" | "activating" | "reloading")
            || (active_state == "inactive" && map.get("Job").is_some_and(|job| !matches!(*job, "" | "0"))),
        active_state,
        file_state: text("UnitFileState"),
        needs_reload: text("NeedDaemonReload") == "yes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_started_is_on_its_way() {
        let active = |block: &str| parse_block(block).active;
        assert!(active("LoadState=loaded\nActiveState=inactive\nJob=1204\n"));
        assert!(active("LoadState=loaded\nActiveState=activating\nJob=1204\n"));
        assert!(!active("LoadState=loaded\nActiveState=inactive\nJob=0\n"));
        assert!(!active("LoadState=loaded\nActiveState=inactive\n"));
        assert!(!active("LoadState=loaded\nActiveState=failed\nJob=1204\n"));
    }
}
