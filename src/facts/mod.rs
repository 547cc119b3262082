//! What is known of the server: one file a kind, each a piece of one script and the parser of what it prints.
//!
//! Invariant: a probe changes nothing on the server, and a missing tool or path means "absent", so a bare
//! host can be planned.

pub mod app;
pub mod check;
pub mod host;
pub mod package;
pub mod path;
pub mod postgres;
pub mod unit;
pub mod user;

use std::collections::{BTreeMap, BTreeSet};

use crate::shell::Script;

/// One thing a resource needs to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// Whether a package is installed.
    Package(String),
    /// What is at a path; the content too if it is a file whose SHA-256 isn't `unless_sha256`.
    Path {
        /// Absolute path.
        path: String,
        /// The digest in lower-case hex that makes the content uninteresting; `None` never wants the content.
        unless_sha256: Option<String>,
    },
    /// An account.
    User(String),
    /// A group.
    Group(String),
    /// A systemd unit.
    Unit(String),
    /// A PostgreSQL role.
    PostgresRole(String),
    /// A PostgreSQL database.
    PostgresDatabase(String),
    /// Whether a script, run as root, exits with 0.
    Check {
        /// The resource that asks.
        name: String,
        /// The script; must not change anything.
        script: Script,
    },
    /// The releases of an application and who is deploying it.
    App {
        /// Its name.
        app: String,
        /// The digest of the tree that would be uploaded; its manifest is only sent when it differs.
        tree: String,
    },
}

/// Everything a probe learned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The machine and its operating system.
    pub host: host::Host,
    /// Packages by name.
    pub packages: BTreeMap<String, package::Package>,
    /// Packages that dpkg left half-way.
    pub broken_packages: Vec<String>,
    /// What is at the paths asked for; a path that isn't there is missing here.
    pub paths: BTreeMap<String, path::PathFact>,
    /// Accounts by name.
    pub users: BTreeMap<String, user::User>,
    /// Groups by name.
    pub groups: BTreeSet<String>,
    /// Units by the name asked for.
    pub units: BTreeMap<String, unit::Unit>,
    /// PostgreSQL roles.
    pub postgres_roles: BTreeSet<String>,
    /// PostgreSQL databases and their owners.
    pub postgres_databases: BTreeMap<String, String>,
    /// Results of the checks by name.
    pub checks: BTreeMap<String, bool>,
    /// The application.
    pub app: app::App,
}

/// A probe's answer that can't be read: a defect of ours or a very odd server.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the server's answer to `{section}` can't be read: {problem}")]
pub struct FactError {
    /// The section of the probe.
    pub section: String,
    /// What was wrong with it.
    pub problem: String,
}

impl FactError {
    fn new(section: &str, problem: impl Into<String>) -> Self {
        Self { section: section.into(), problem: problem.into() }
    }
}

/// Starts a line that names a section. Never part of what a section prints: contents travel as base64.
const SECTION: char = '\u{1e}';

/// Merges all asks into one script; the kinds that nobody asked for cost nothing.
pub fn probe_script(asks: &BTreeSet<Ask>) -> Script {
    let names = |pick: fn(&Ask) -> Option<&str>| -> Vec<&str> { asks.iter().filter_map(pick).collect() };
    let mut script = Script::from_text(
        "export LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         section() { printf '\\036%s\\n' \"$1\"; }",
    );
    let mut section = |name: &str, body: Script| {
        if !body.is_empty() {
            script = std::mem::take(&mut script).line(&format!("section {name}")).then(&body);
        }
    };
    section("host", host::script());
    section(
        "package",
        package::script(&names(|ask| if let Ask::Package(name) = ask { Some(name) } else { None })),
    );
    section("path", path::script(asks));
    section(
        "user",
        user::script_users(&names(|ask| if let Ask::User(name) = ask { Some(name) } else { None })),
    );
    section(
        "group",
        user::script_groups(&names(|ask| if let Ask::Group(name) = ask { Some(name) } else { None })),
    );
    section("unit", unit::script(&names(|ask| if let Ask::Unit(name) = ask { Some(name) } else { None })));
    let wants_postgres =
        asks.iter().any(|ask| matches!(ask, Ask::PostgresRole(_) | Ask::PostgresDatabase(_)));
    if wants_postgres {
        section("postgres", postgres::script());
    }
    section("check", check::script(asks));
    for ask in asks {
        if let Ask::App { app, tree } = ask {
            section("app", app::script(app, tree));
        }
    }
    section("end", Script::from_text(":"));
    script
}

/// Reads what [`probe_script`] printed.
pub fn parse(asks: &BTreeSet<Ask>, output: &str) -> Result<Facts, FactError> {
    let mut facts = Facts::default();
    let mut ended = false;
    for part in output.split(SECTION).skip(1) {
        let (name, body) = part.split_once('\n').unwrap_or((part, ""));
        match name {
            "host" => facts.host = host::parse(body)?,
            "package" => (facts.packages, facts.broken_packages) = package::parse(body),
            "path" => facts.paths = path::parse(body)?,
            "user" => facts.users = user::parse_users(body)?,
            "group" => facts.groups = user::parse_groups(body),
            "unit" => {
                let names = asks.iter().filter_map(|ask| match ask {
                    Ask::Unit(name) => Some(name.as_str()),
                    _ => None,
                });
                facts.units = unit::parse(names, body);
            }
            "postgres" => (facts.postgres_roles, facts.postgres_databases) = postgres::parse(body),
            "check" => facts.checks = check::parse(body),
            "app" => facts.app = app::parse(body)?,
            "end" => ended = true,
            other => return Err(FactError::new(other, "nobody asked for it")),
        }
    }
    if ended { Ok(facts) } else { Err(FactError::new("end", "the probe stopped half-way")) }
}

/// `key=value` lines into a map.
fn key_values(body: &str) -> BTreeMap<&str, &str> {
    body.lines().filter_map(|line| line.split_once('=')).collect()
}
