//! What is known of the server: one file a kind, each a piece of one script and the parser of what it prints.
//!
//! Invariant: a probe changes nothing on the server, and a missing tool or path means "absent", so a bare
//! host can be planned.

pub mod app;
pub mod backup;
pub mod certificate;
pub mod check;
pub mod health;
pub mod host;
pub mod mysql;
pub mod package;
pub mod path;
pub mod postgres;
pub mod unit;
pub mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use crate::shell::Script;

/// One thing a resource needs to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// The machine and its operating system.
    Host,
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
    /// An account of a MySQL or MariaDB.
    MysqlUser(String),
    /// A database of a MySQL or MariaDB.
    MysqlDatabase(String),
    /// Whether a script, run as root, exits with 0.
    Check {
        /// The resource that asks.
        name: String,
        /// The script; must not change anything.
        script: Script,
    },
    /// The backups of an application.
    Backups(String),
    /// What may be wrong with a server and its site.
    Health(health::Question),
    /// The releases of an application and who is deploying it.
    App {
        /// Its name.
        app: String,
        /// The digest of the tree that would be uploaded; its manifest is only sent when it differs.
        tree: String,
    },
    /// The site's certificate.
    Certificate(certificate::Question),
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
    /// PostgreSQL databases by name.
    pub postgres_databases: BTreeMap<String, postgres::Database>,
    /// Accounts of a MySQL or MariaDB.
    pub mysql_users: BTreeSet<String>,
    /// Databases of a MySQL or MariaDB, and the accounts that may do anything in them.
    pub mysql_databases: BTreeMap<String, BTreeSet<String>>,
    /// Results of the checks by name.
    pub checks: BTreeMap<String, bool>,
    /// The application's backups.
    pub backups: backup::Backups,
    /// What the site rests on; nothing if nobody asked, or nobody could look.
    pub health: Option<health::Health>,
    /// The application.
    pub app: app::App,
    /// The site's certificate.
    pub certificate: certificate::Certificate,
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
    // What takes about as long as the others: its parts run side by side.
    let [mut machine, mut files, mut services] = [Script::new(), Script::new(), Script::new()];
    let mut section = |part: Part, name: &str, body: Script| {
        let script = match part {
            Part::Machine => &mut machine,
            Part::Files => &mut files,
            Part::Services => &mut services,
        };
        if !body.is_empty() {
            *script = std::mem::take(script).line(&format!("section {name}")).then(&body);
        }
    };
    if asks.contains(&Ask::Host) {
        section(Part::Machine, "host", host::script());
    }
    section(
        Part::Files,
        "package",
        package::script(&names(|ask| if let Ask::Package(name) = ask { Some(name) } else { None })),
    );
    section(Part::Files, "path", path::script(asks));
    section(
        Part::Files,
        "user",
        user::script_users(&names(|ask| if let Ask::User(name) = ask { Some(name) } else { None })),
    );
    section(
        Part::Files,
        "group",
        user::script_groups(&names(|ask| if let Ask::Group(name) = ask { Some(name) } else { None })),
    );
    section(
        Part::Machine,
        "unit",
        unit::script(&names(|ask| if let Ask::Unit(name) = ask { Some(name) } else { None })),
    );
    let wants_postgres =
        asks.iter().any(|ask| matches!(ask, Ask::PostgresRole(_) | Ask::PostgresDatabase(_)));
    if wants_postgres {
        section(Part::Services, "postgres", postgres::script());
    }
    if asks.iter().any(|ask| matches!(ask, Ask::MysqlUser(_) | Ask::MysqlDatabase(_))) {
        section(Part::Services, "mysql", mysql::script());
    }
    section(Part::Machine, "check", check::script(asks));
    for ask in asks {
        if let Ask::App { app, tree } = ask {
            section(Part::Services, "app", app::script(app, tree));
        }
    }
    for ask in asks {
        if let Ask::Certificate(question) = ask {
            section(Part::Services, "certificate", certificate::script(question));
        }
    }
    for ask in asks {
        if let Ask::Backups(app) = ask {
            section(Part::Services, "backup", backup::script(app));
        }
    }
    for ask in asks {
        if let Ask::Health(question) = ask {
            section(Part::Services, "health", health::script(question));
        }
    }
    Script::from_text(
        "export LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         section() { printf '\\036%s\\n' \"$1\"; }",
    )
    .then(&side_by_side(&machine, &side_by_side(&files, &services)))
    .line("section end")
}

/// A part of a probe.
enum Part {
    Machine,
    Files,
    Services,
}

/// Two scripts at once, neither of which reads anything: what the first one says waits in a pipe until the second is done.
fn side_by_side(first: &Script, second: &Script) -> Script {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second.clone(),
        (_, true) => first.clone(),
        (false, false) => Script::from_text("(")
            .then(first)
            .line(") </dev/null | { (")
            .then(second)
            .line(") </dev/null; cat; }"),
    }
}

/// What of these a release alone may have changed.
pub fn of_release(asks: &BTreeSet<Ask>) -> BTreeSet<Ask> {
    asks.iter().filter(|ask| matches!(ask, Ask::App { .. } | Ask::Unit(_))).cloned().collect()
}

impl Facts {
    /// The same after a release, of which only [`of_release`] was asked.
    #[must_use]
    pub fn after_release(&self, asked: Self) -> Self {
        Self { app: asked.app, units: asked.units, ..self.clone() }
    }
}

/// The same script with what it prints packed: a probe's answer is many short lines.
pub fn packing(script: &Script) -> Script {
    Script::from_text("{").then(script).line("} | gzip -c")
}

/// What a script of [`packing`]'s printed, as far as it arrived.
pub fn unpacked(output: &[u8]) -> String {
    let mut bytes = Vec::new();
    // Half an answer has no end, which `parse` says.
    let _ = flate2::read::GzDecoder::new(output).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
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
            "mysql" => (facts.mysql_users, facts.mysql_databases) = mysql::parse(body),
            "check" => facts.checks = check::parse(body),
            "backup" => facts.backups = backup::parse(body),
            "health" => facts.health = health::parse(body)?,
            "app" => facts.app = app::parse(body)?,
            "certificate" => facts.certificate = certificate::parse(body)?,
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
