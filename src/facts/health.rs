//! What a site rests on: disks, clock, packages, database, services, ports, permissions, Django's own word.
//!
//! One program looks (`templates/operate/doctor.py`); what follows from it is decided in `diagnosis.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::apply::heredoc;
use crate::shell::{Cmd, Script};

use super::FactError;

/// What looks on the server.
const LOOK: &str = include_str!("../../templates/operate/doctor.py");

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Question {
    /// The application.
    pub app: String,
    /// The folder of `manage.py` in a release: empty, or with a slash before it.
    pub root: String,
    /// The name that the site is asked for.
    pub host: String,
    /// The path that the site is asked for.
    pub path: String,
    /// Where the site's socket listens.
    pub port: u16,
    /// The database on the server: `postgres`, `mysql`, or anything else for none.
    pub database: String,
}

/// What the server said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// The server's clock, in seconds since 1970.
    pub now: i64,
    /// Whether the clock follows a time server.
    pub synchronised: bool,
    /// The release that `current` names.
    pub release: Option<String>,
    /// File systems that the site needs.
    pub disks: Vec<Disk>,
    /// Units of the site, of what it needs, and whatever else has failed.
    pub units: Vec<HealthUnit>,
    /// Processes that were killed without being asked to end first, of the last day, oldest first.
    pub killed: Vec<Killed>,
    /// Packages that dpkg left half-way.
    pub packages: Vec<String>,
    /// Why the database on the server does not answer.
    pub database: Option<String>,
    /// Why Redis does not answer.
    pub redis: Option<String>,
    /// Why nginx would not start with its configuration.
    pub nginx: Option<String>,
    /// Who listens on the ports that the site needs.
    pub listeners: Vec<Listener>,
    /// Permissions that are not as they must be.
    pub permissions: Vec<Permission>,
    /// What the project's Django says; nothing without a release.
    pub django: Option<Django>,
    /// What the site answers to the server itself; nothing without a release.
    pub answer: Option<Answer>,
    /// What filters packets on the server: `ufw` or `nftables`.
    pub firewall: Option<String>,
}

/// A file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is mounted.
    pub at: String,
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that programs can still write.
    pub free: u64,
    /// How many files it can hold; 0 where the number is not fixed.
    pub inodes: u64,
    /// How many more.
    pub free_inodes: u64,
    /// Whether nothing can be written to it.
    pub read_only: bool,
}

/// A unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthUnit {
    /// Its name.
    pub name: String,
    /// Whether it is of this application.
    pub own: bool,
    /// `active`, `failed`, `activating` …
    pub state: String,
    /// `running`, `exited`, `auto-restart` …
    pub sub: String,
    /// `success`, `exit-code`, `oom-kill` …
    pub result: String,
    /// The exit code of its main process, or the signal.
    pub status: i32,
    /// How often systemd restarted it.
    pub restarts: u32,
    /// Seconds since it was started.
    pub for_s: Option<u64>,
    /// Its last lines, where something is odd.
    pub log: Vec<String>,
}

/// A process that was killed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Whose it was, if anyone said.
    pub unit: String,
    /// What the journal says.
    pub message: String,
}

/// Who listens on a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// The program.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// The unit that it is of.
    pub unit: String,
}

/// A file or folder that somebody can't use, or can.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// Its path.
    pub path: String,
    /// What is wrong: a whole sentence about `it`.
    pub what: String,
    /// Whose it is, and its mode.
    pub is: String,
    /// Who can't, or should not.
    pub user: String,
}

/// What Django says of its databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Django {
    /// Databases that can't be reached, by alias, and why.
    pub databases: BTreeMap<String, String>,
    /// Migrations of the live release that the database lacks.
    pub unapplied: Vec<String>,
    /// Why it said nothing.
    pub error: Option<String>,
}

/// An answer of the site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Its status.
    pub status: Option<u16>,
    /// Why there was none.
    pub error: Option<String>,
}

/// Asks for [`Health`].
pub fn script(question: &Question) -> Script {
    // A struct of texts and a number always becomes JSON.
    let words = serde_json::to_string(question).unwrap_or_default();
    heredoc(Cmd::new("python3").arg("-I").arg("-").arg(words).text(), LOOK)
}

/// Reads what [`script`] printed; a server without Python says nothing.
pub fn parse(body: &str) -> Result<Option<Health>, FactError> {
    let Some(line) = body.lines().rfind(|line| !line.trim().is_empty()) else { return Ok(None) };
    serde_json::from_str(line).map(Some).map_err(|error| FactError::new("health", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_read() {
        let said = r#"{"disks": [{"at": "/", "total": 10, "free": 1, "inodes": 0, "free_inodes": 0, "read_only": false}],
            "units": [], "killed": [], "packages": ["nginx"], "database": null, "redis": null, "nginx": "unknown directive",
            "listeners": [{"port": 80, "name": "nginx", "pid": 7, "unit": "nginx.service"}], "permissions": [],
            "django": {"databases": {}, "unapplied": ["a.0001_initial"], "error": null},
            "answer": {"status": 502, "error": null}, "firewall": null, "now": 5, "synchronised": true, "release": "v1"}"#
            .replace('\n', " ");
        let health = parse(&said).unwrap().unwrap();
        assert_eq!((health.now, health.packages.as_slice()), (5, ["nginx".to_string()].as_slice()));
        assert_eq!(health.django.unwrap().unapplied, ["a.0001_initial"]);
        assert_eq!(parse("").unwrap(), None, "no Python there");
        assert!(parse("Traceback").is_err());
    }

    #[test]
    fn the_question_is_one_quoted_word() {
        let question = Question {
            app: "library".into(),
            root: "/it's".into(),
            host: "example.com".into(),
            path: "/".into(),
            port: 8000,
            database: "postgres".into(),
        };
        let text = script(&question).text().to_string();
        let words = shlex::split(text.lines().next().unwrap()).unwrap();
        let asked: serde_json::Value = serde_json::from_str(&words[3]).unwrap();
        assert_eq!((&asked["root"], &asked["port"]), (&"/it's".into(), &8000.into()));
    }
}
