//! `ship.yml`: the types as written (`spec`) and the validated types that the rest of the code sees.
//!
//! Invariant: nothing downstream of this module sees an `Option` that stands for a default, and
//! nothing is created anywhere before the whole file is valid.

pub mod backups;
mod de;
pub mod edit;
pub mod error;
pub mod hardening;
pub mod init;
mod processes;
pub mod schema;
pub mod spec;
pub mod tls;
mod validate;
mod yaml;

use std::collections::BTreeMap;

pub use error::{ConfigError, Place, Problem};
pub use validate::{DEFAULT_PORT, app_name};

use self::hardening::{Hardening, Limits};
use self::spec::{Spec, SpecAdvice};
use self::tls::Tls;
use self::validate::Around;
use self::yaml::{Kind, Node};
use crate::nearest::nearest;
use crate::process::services::Service;
use crate::process::serving::Serving;
use crate::project::{Bounds, Dependencies, Node as FrontEnd, Project};

/// What the file may leave out and the project's files don't say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults<'a> {
    /// The name of the project's folder, for `app`.
    pub folder_name: &'a str,
    /// The names of the product's own playbooks; when empty, `playbooks` takes any name.
    pub playbooks: &'a [&'a str],
}

/// Reads and checks the text of a configuration file, with `environment` laid over it.
///
/// The other environments are checked too, so that a file is either good for all or refused;
/// only what is missing outside the chosen one is let pass.
pub fn load(
    file_name: &str,
    text: &str,
    environment: Option<&str>,
    project: &Project,
    defaults: &Defaults<'_>,
) -> Result<Config, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let fail = |problems| ConfigError::new(file_name, text, problems);
    let root = yaml::parse(text).map_err(|problem| fail(vec![problem]))?;
    if !matches!(root.kind, Kind::Map(_)) {
        let problem = Problem::new("expected keys and values, such as `app: library`");
        return Err(fail(vec![problem.at(root.span.clone(), "")]));
    }
    let mut problems = Vec::new();
    let environments = environments(&root, &mut problems);
    if let Some(name) = environment
        && !environments.iter().any(|(known, _)| *known == name)
    {
        return Err(fail(vec![unknown_environment(name, file_name, &root)]));
    }
    let mut chosen = None;
    for (name, view) in std::iter::once((None, root.clone())).chain(
        environments.iter().map(|(name, over)| (Some(*name), root.without("environments").overlaid(over))),
    ) {
        let around = Around { file: file_name, environment: name, project, defaults };
        let (config, found) = check(&view, &around);
        for problem in found {
            if (name == environment || !problem.missing) && !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        if name == environment {
            chosen = config;
        }
    }
    match chosen {
        Some(config) if problems.is_empty() => Ok(config),
        Some(_) | None => {
            if environment.is_none() && !environments.is_empty() {
                let names: Vec<&str> = environments.iter().map(|(name, _)| *name).collect();
                for problem in problems.iter_mut().filter(|problem| problem.missing) {
                    problem.hints.push(format!(
                        "or choose an environment that has it with `-e`: {}",
                        names.join(", ")
                    ));
                }
            }
            Err(fail(problems))
        }
    }
}

/// Reads YAML text into any type, with the same errors as `ship.yml` has.
///
/// Positions are exact except inside `#[serde(flatten)]`, untagged and internally tagged types,
/// where serde itself forgets them; an enum renamed to `@key` is tagged by `key` without that loss.
pub fn from_str<T: serde::de::DeserializeOwned>(file_name: &str, text: &str) -> Result<T, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let fail = |problems| ConfigError::new(file_name, text, problems);
    let root = yaml::parse(text).map_err(|problem| fail(vec![problem]))?;
    match de::read(&root, &de::NoAdvice) {
        (Some(value), problems) if problems.is_empty() => Ok(value),
        (_, problems) => Err(fail(problems)),
    }
}

fn check(view: &Node, around: &Around<'_>) -> (Option<Config>, Vec<Problem>) {
    let (spec, mut problems) = de::read::<Spec>(view, &SpecAdvice);
    let Some(spec) = spec else { return (None, problems) };
    let (config, found) = validate::validate(spec, view, around);
    problems.extend(found);
    (config, problems)
}

/// The named variants that are maps; an empty one changes nothing and is one too.
fn environments<'n>(root: &'n Node, problems: &mut Vec<Problem>) -> Vec<(&'n str, &'n Node)> {
    let Some(Node { kind: Kind::Map(entries), .. }) = root.get("environments") else { return Vec::new() };
    let mut environments = Vec::new();
    for (name, node) in entries {
        let blame = |message: String| Problem::new(message).at(node.key_span.clone(), node.path.clone());
        if !validate::is_name(name) {
            problems.push(blame(format!(
                "`{}`: an environment is named with lowercase letters, digits and dashes, starting with a letter",
                node.path
            )));
        }
        if name == "default" {
            problems.push(
                blame(format!("`{}`: `default` is the name of what is outside the environments", node.path))
                    .hint("such as `production`"),
            );
        }
        match &node.kind {
            Kind::Map(_) => environments.push((name.as_str(), node)),
            Kind::Scalar { .. } | Kind::List(_) => problems.push(
                blame(format!("`{}`: expected a map of the keys that differ", node.path))
                    .hint(format!("`{name}: {{}}` for one that differs in nothing")),
            ),
        }
        if let Some(nested) = node.get("environments") {
            let message = format!("`{}`: environments can't hold environments", nested.path);
            problems.push(Problem::new(message).at(nested.key_span.clone(), nested.path.clone()));
        }
    }
    environments
}

fn unknown_environment(name: &str, file_name: &str, root: &Node) -> Problem {
    let node = root.get("environments");
    let names: Vec<&str> = match node.map(|node| &node.kind) {
        Some(Kind::Map(entries)) => entries.iter().map(|(name, _)| name.as_str()).collect(),
        Some(Kind::Scalar { .. } | Kind::List(_)) | None => Vec::new(),
    };
    let problem = Problem::new(format!("no environment `{name}`"));
    let problem = match node {
        Some(node) => problem.at(node.key_span.clone(), node.path.clone()),
        None => problem.at(0..0, ""),
    };
    let problem = match nearest(name, names.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `-e {near}`?")),
        None => problem,
    };
    if names.is_empty() {
        problem.hint(format!("{file_name} has no `environments`; run without `-e`"))
    } else {
        problem.hint(format!("{file_name} has {}", names.join(", ")))
    }
}

/// A whole deployment, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name of the application: lowercase letters, digits and dashes, at most 30 characters.
    pub app: String,
    /// The environment chosen with `-e`, if any.
    pub environment: Option<String>,
    /// Where the site runs.
    pub server: Server,
    /// Names the site answers to; empty means any.
    pub domains: Vec<String>,
    /// The domains' records.
    pub dns: Dns,
    /// The certificate.
    pub tls: Tls,
    /// The Python the project wants.
    pub python: PythonWish,
    /// Where uv finds other Pythons than the distribution's; `None` is GitHub.
    pub python_mirror: Option<String>,
    /// The front end to build, if any.
    pub node: Option<FrontEnd>,
    /// Where Django is.
    pub django: Django,
    /// The database.
    pub database: Database,
    /// What of the project made ship choose it; empty if the user did, or nothing.
    pub database_why: String,
    /// Whether the site speaks to a MySQL or MariaDB, here or elsewhere.
    pub speaks_mysql: bool,
    /// Extensions that a PostgreSQL on the server gets.
    pub extensions: Vec<String>,
    /// gunicorn's settings.
    pub web: Web,
    /// Further long-running processes, by name; replicas are there each.
    pub workers: BTreeMap<String, Worker>,
    /// What runs once for each release, and what says so.
    pub release_command: Option<(String, String)>,
    /// Commands that run at set times, by name.
    pub jobs: BTreeMap<String, Job>,
    /// Services on the same server, and why each is there.
    pub services: BTreeMap<Service, String>,
    /// Where those are, for the variables that the project reads and nobody sets.
    pub service_variables: BTreeMap<String, String>,
    /// What protects the server.
    pub hardening: Hardening,
    /// The port on 127.0.0.1 that the site's server listens on: written, or found when the server is known.
    pub port: u16,
    /// Whether ship.yml names the port.
    pub port_written: bool,
    /// Requests a second that one address may make to the application.
    pub rate_limit: Option<u32>,
    /// Environment of the site, not secret.
    pub env: BTreeMap<String, String>,
    /// Names of the secrets that must be set on the server.
    pub secrets: Vec<String>,
    /// Secret files: the path in the project, and where it is on this computer, relative to the project.
    pub files: BTreeMap<String, String>,
    /// Extra playbooks, in order.
    pub playbooks: Vec<PlaybookRef>,
    /// Backups by the clock, if there are any.
    pub backups: Option<backups::Backups>,
    /// How many releases stay on the server.
    pub keep_releases: u32,
    /// Databases larger than this, in MiB, are not dumped before a migration; 0 dumps none.
    pub dump_limit_mb: u32,
}

/// Where the site runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// An existing Debian or Ubuntu host.
    Ssh(SshServer),
    /// A local virtual machine.
    Vagrant(VagrantServer),
    /// A droplet at DigitalOcean.
    DigitalOcean(DigitalOceanServer),
    /// An instance of Amazon EC2.
    Ec2(Ec2Server),
}

/// What servers of every cloud have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudServer {
    /// The size as the cloud calls it: `s-1vcpu-1gb`, `t3.small`.
    pub size: String,
    /// `debian-12` and the like, or the cloud's own name of an image.
    pub image: String,
    /// Login name of the user who deploys.
    pub user: String,
    /// Private key file; `None` takes the agent's or the usual files.
    pub key: Option<String>,
    /// Networks in CIDR notation from which SSH may be reached.
    pub ssh_from: Vec<String>,
    /// Whether the server keeps its address when it is replaced: a reserved or elastic IP.
    pub fixed_address: bool,
    /// Size of a volume of its own for the site's data in GiB, if there is to be one.
    pub volume_gb: Option<u32>,
}

/// A droplet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigitalOceanServer {
    /// What every cloud has.
    pub common: CloudServer,
    /// Region, `fra1`.
    pub region: String,
    /// DigitalOcean's metrics agent.
    pub monitoring: bool,
    /// Whether the droplet has an IPv6 address.
    pub ipv6: bool,
    /// DigitalOcean's own weekly backups, which cost extra.
    pub backups: bool,
    /// UUID of a VPC; `None` is the region's default.
    pub vpc: Option<String>,
    /// Name or UUID of the project it is shown under.
    pub project: Option<String>,
    /// Further tags.
    pub tags: Vec<String>,
}

/// An instance of EC2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ec2Server {
    /// What every cloud has.
    pub common: CloudServer,
    /// Region; `None` is the environment's or the profile's.
    pub region: Option<String>,
    /// Size of the root disk in GiB.
    pub disk_gb: u32,
    /// Id of the VPC; `None` is the default one.
    pub vpc: Option<String>,
    /// Id of the subnet; `None` is one of the VPC's public ones.
    pub subnet: Option<String>,
    /// Whether EC2 refuses to terminate it.
    pub termination_protection: bool,
    /// Further tags.
    pub tags: BTreeMap<String, String>,
}

/// Who tells the world where the domains are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DnsHost {
    /// DigitalOcean.
    DigitalOcean,
    /// Amazon Route 53.
    Route53,
}

/// How the domains' records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where the zones are; `None` leaves the records to the user.
    pub host: Option<DnsHost>,
    /// Seconds that resolvers may keep an answer.
    pub ttl_s: u32,
    /// Whether a zone that is missing is made.
    pub create_zone: bool,
}

/// How to reach an existing host. What is `None` is left to `~/.ssh/config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshServer {
    /// Host name, address or alias of `~/.ssh/config`.
    pub host: String,
    /// Login name.
    pub user: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// Private key file; `~` is expanded.
    pub key: Option<String>,
}

/// A Vagrant machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VagrantServer {
    /// Vagrant's provider; `Auto` asks what is installed.
    pub provider: VagrantProvider,
    /// The box, if not the provider's usual one.
    pub vagrant_box: Option<String>,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Virtual processors.
    pub cpus: u32,
}

/// Which hypervisor Vagrant drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VagrantProvider {
    /// Whatever this machine has.
    Auto,
    /// Linux containers.
    Lxc,
    /// VirtualBox.
    Virtualbox,
    /// KVM through libvirt.
    Libvirt,
}

/// The Python version the project asks for, as `3.11` or `3.11.4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonWish {
    /// Whatever the distribution has.
    Distribution,
    /// This version; the origin tells which file or key said so.
    Version {
        /// `3.11` or `3.11.4`.
        version: String,
        /// The file or key that said so.
        origin: String,
    },
    /// One of these.
    Bounds {
        /// Which are allowed.
        bounds: Bounds,
        /// The file that said so.
        origin: String,
    },
}

/// Where Django is inside the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Django {
    /// Folder of `manage.py` relative to the project, `.` for the top.
    pub root: String,
    /// Settings module.
    pub settings: String,
    /// WSGI callable as gunicorn takes it, `package.wsgi` or `package.wsgi:application`; the ASGI one of a project that
    /// has no other.
    pub wsgi: String,
    /// The files that say which packages it needs.
    pub dependencies: Dependencies,
    /// Whether it uses GeoDjango, which needs libraries of the system.
    pub geodjango: bool,
    /// The page that the health check asks for.
    pub health: Health,
    /// What is set over the project's settings.
    pub overlay: Overlay,
}

/// What is set over the project's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Whether there is one at all.
    pub on: bool,
    /// The overrides that are switched off, by name.
    pub off: Vec<&'static str>,
}

/// The page that tells whether the site is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Its path.
    pub path: String,
    /// Seconds that its answer may take.
    pub timeout_s: u32,
    /// Whether nobody named the path: a site may have nothing at `/`.
    pub guessed: bool,
}

/// A long-running process beside the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its command line.
    pub command: String,
    /// Seconds that it must run before a release counts it as started.
    pub settle_s: u32,
    /// Seconds that it has to finish its work when it is told to stop.
    pub stop_timeout_s: u32,
    /// The process that it is one of.
    pub process: String,
    /// Whether two must never run at once.
    pub singleton: bool,
    /// What says that it should run.
    pub origin: String,
    /// What it may do.
    pub limits: Limits,
}

/// A command that runs at set times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its command line.
    pub command: String,
    /// When, as systemd writes it.
    pub calendar: String,
    /// Seconds after which a run is ended.
    pub timeout_s: u32,
    /// What it may do.
    pub limits: Limits,
}

impl Django {
    /// The folder of `manage.py` as the end of a path: empty for the top, else with a slash in front.
    pub fn suffix(&self) -> String {
        match self.root.as_str() {
            "." | "" => String::new(),
            root => format!("/{root}"),
        }
    }
}

/// Which database the site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// PostgreSQL on the same server.
    Postgres,
    /// A file in the shared folder.
    Sqlite,
    /// MariaDB on the same server.
    Mysql,
    /// Elsewhere; `DATABASE_URL` is a secret.
    External,
}

/// How the site is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// By what.
    pub serving: Serving,
    /// Seconds that connections of the old release may go on.
    pub drain_s: u32,
    /// Number of worker processes; `None` sizes them from cores and memory when the server is known.
    pub workers: Option<u32>,
    /// Seconds after which a request is given up, in nginx and in gunicorn.
    pub timeout_s: u32,
    /// Seconds that the application may take to load.
    pub boot_timeout_s: u32,
    /// Whether gunicorn loads the application once, for all of its workers.
    pub preload: bool,
    /// Largest request body in MiB.
    pub max_upload_mb: u32,
    /// What it may do.
    pub limits: Limits,
}

/// An extra playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaybookRef {
    /// One of the product's own, by name.
    Builtin(String),
    /// A file relative to the project.
    File(String),
}

#[cfg(test)]
mod tests;
