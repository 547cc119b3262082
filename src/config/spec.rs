//! `ship.yml` as it is written: what may stand there, with the words that editors show.
//!
//! Invariant: a key is here only if it does what its text says; what is left out is `None`, and
//! every default is filled in by `validate`. The doc comments are the JSON Schema's descriptions.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::backups::BackupsSpec;
use super::de::{Advice, fields_of};
use super::hardening::{HardeningSpec, LimitsSpec, Network};
use super::tls::TlsSpec;
use super::yaml::Node;
use crate::nearest::nearest;

/// A Django project's deployment by ship. Only `server` is required.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "ship.yml")]
pub struct Spec {
    /// Name of the site on the server: its user, database, folders and services. Lowercase letters,
    /// digits and dashes, at most 30. Default: the project folder's name. Two environments on one
    /// server need two names.
    #[schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$"), example = &"library")]
    pub app: Option<String>,
    /// Where the site runs.
    pub server: ServerSpec,
    /// Host names that the site answers to, the main one first. Default: any name.
    #[schemars(example = ["library.example.com", "www.library.example.com"])]
    pub domains: Option<Vec<String>>,
    /// Where the domains' records are kept. Default: none, and `ship up` says which records to set.
    pub dns: Option<DnsSpec>,
    /// Where the site's certificate comes from. Default: letsencrypt with `domains`, else none; none for Vagrant.
    pub tls: Option<TlsSpec>,
    /// Python version, in quotes: without them, YAML tools read 3.10 as 3.1. Default: runtime.txt,
    /// .python-version, Pipfile, or what pyproject.toml allows. Another than the distribution's comes from uv.
    #[schemars(with = "Option<PythonText>")]
    pub python: Option<String>,
    /// Where uv finds Pythons that the distribution doesn't have, for networks without GitHub: the address of a copy of
    /// python-build-standalone's releases, or of a list of downloads as uv reads it, ending in .json.
    #[schemars(example = &"https://mirror.example.com/python-build-standalone/releases/download")]
    pub python_mirror: Option<String>,
    /// Whether node builds the front end of each release. Default: auto, if package.json has a build script.
    #[schemars(extend("default" = "auto"))]
    pub node: Option<NodeSpec>,
    /// Where Django is. Everything is detected; a key here overrides it.
    pub django: Option<DjangoSpec>,
    /// Requirements file or files, relative to the project. Default: what is found: a lock file of uv, poetry, PDM or
    /// pipenv, requirements.txt or the production, prod or base file in requirements/, pyproject.toml, setup.py.
    pub requirements: Option<OneOrMany>,
    /// Database of the site. Default: postgres, or mysql for a project that is written for it.
    #[schemars(extend("default" = "postgres"))]
    pub database: Option<DatabaseSpec>,
    /// What runs: gunicorn under `web`, and any number of workers by name.
    pub processes: Option<ProcessesSpec>,
    /// Commands that run at set times, by name.
    pub schedule: Option<BTreeMap<String, JobSpec>>,
    /// Services on the same server. Default: those that the project's settings look for on their own host.
    pub services: Option<ServicesSpec>,
    /// What protects the server. Default: on, all of it; `off` for nothing.
    #[schemars(extend("default" = "on"))]
    pub hardening: Option<HardeningSpec>,
    /// The port on 127.0.0.1 that the site's own server listens on, behind nginx. Default: 8000, for a second site on the
    /// server the next free one.
    #[schemars(range(min = 1024, max = 65535))]
    pub port: Option<u16>,
    /// Requests a second that one address may make to the application; a burst of five times as many passes. Default: no limit.
    #[schemars(range(min = 1, max = 100_000))]
    pub rate_limit: Option<u32>,
    /// Largest upload in MiB. Default: 20.
    #[schemars(range(min = 1, max = 10240), extend("default" = 20))]
    pub upload_limit: Option<u32>,
    /// Environment variables that are not secret, as text.
    #[schemars(with = "Option<Variables>")]
    pub env: Option<BTreeMap<String, String>>,
    /// Names of secret environment variables; `ship config set NAME=VALUE` sets them on the server.
    #[schemars(inner(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$")), example = ["SENTRY_DSN"])]
    pub secrets: Option<Vec<String>>,
    /// Secret files that git must not have, such as `secrets.json`: names in the project, or a map of them to where
    /// they are on your computer. They are sent once and readable by the site alone.
    pub files: Option<FilesSpec>,
    /// Further playbooks, in order: names of ship's own, or files relative to the project.
    #[schemars(example = ["redis", "./ops/custom.yml"])]
    pub playbooks: Option<Vec<String>>,
    /// How many releases stay on the server to roll back to. Default: 5.
    #[schemars(range(min = 2, max = 100), extend("default" = 5))]
    pub keep: Option<u32>,
    /// A database larger than this, in MiB, is not dumped before a migration; 0 never dumps. Default: 2048.
    #[schemars(range(max = 1_000_000), extend("default" = 2048))]
    pub dump_limit: Option<u32>,
    /// Backups of the database and the uploaded files by the clock: `daily`, a time, or a map. Default: off.
    pub backups: Option<BackupsSpec>,
    /// Variants by name, chosen with `-e NAME`. Any key from above: maps are merged key by key,
    /// everything else is replaced. Another `provider` replaces the whole `server`.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub environments: Option<BTreeMap<String, IgnoredAny>>,
}

/// Where the site runs: `digitalocean` and `ec2` make a server, `ssh` takes a host you have, `vagrant` a local machine.
// The name's `@` asks the reader in `de` for a variant named by the key `provider`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename = "@provider", rename_all = "lowercase")]
#[schemars(rename = "Server", tag = "provider")]
pub enum ServerSpec {
    /// An existing Debian or Ubuntu host, reached over SSH.
    Ssh(SshSpec),
    /// A local virtual machine or container, run by Vagrant.
    Vagrant(VagrantSpec),
    /// A droplet, made at DigitalOcean with the token in DIGITALOCEAN_TOKEN.
    DigitalOcean(DigitalOceanSpec),
    /// An instance, made at Amazon EC2 with the credentials that every AWS tool takes.
    Ec2(Ec2Spec),
}

/// A droplet at DigitalOcean.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigitalOceanSpec {
    /// Region.
    #[schemars(example = &"fra1")]
    pub region: String,
    /// Size. Default: s-1vcpu-1gb.
    #[schemars(example = &"s-1vcpu-2gb", extend("default" = "s-1vcpu-1gb"))]
    pub size: Option<String>,
    /// Image: debian-12, debian-13, ubuntu-22.04, ubuntu-24.04, or a slug of DigitalOcean's. Default: debian-12.
    #[schemars(extend("default" = "debian-12"))]
    pub image: Option<String>,
    /// Login name of the user that is made on the server for deploying. Default: deploy.
    #[schemars(extend("default" = "deploy"))]
    pub user: Option<String>,
    /// Your private key file; `~` is expanded. Default: the agent's first key, else the usual files in ~/.ssh.
    #[schemars(example = &"~/.ssh/id_ed25519")]
    pub key: Option<String>,
    /// Networks from which SSH may be reached. Default: any.
    #[schemars(example = ["203.0.113.0/24"])]
    pub ssh_from: Option<Vec<String>>,
    /// Whether the address stays when the droplet is replaced. Default: true.
    #[schemars(extend("default" = true))]
    pub reserved_ip: Option<bool>,
    /// A volume for the site's data (database, media), in GiB. Default: none, the data is on the droplet's disk.
    #[schemars(range(min = 1, max = 16384))]
    pub volume: Option<u32>,
    /// DigitalOcean's metrics agent, free of charge. Default: true.
    #[schemars(extend("default" = true))]
    pub monitoring: Option<bool>,
    /// An IPv6 address, free of charge. Default: true.
    #[schemars(extend("default" = true))]
    pub ipv6: Option<bool>,
    /// DigitalOcean's own weekly backups of the whole disk, at extra cost. Default: false.
    #[schemars(extend("default" = false))]
    pub backups: Option<bool>,
    /// UUID of the VPC. Default: the region's default one.
    pub vpc: Option<String>,
    /// Name or UUID of the project that the droplet is shown under. Default: the account's default one.
    pub project: Option<String>,
    /// Further tags.
    pub tags: Option<Vec<String>>,
}

/// An instance of Amazon EC2.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ec2Spec {
    /// Region. Default: AWS_REGION or the profile's.
    #[schemars(example = &"eu-central-1")]
    pub region: Option<String>,
    /// Instance type. Default: t3.small.
    #[schemars(example = &"t4g.small", extend("default" = "t3.small"))]
    pub size: Option<String>,
    /// Image: debian-12, debian-13, ubuntu-22.04, ubuntu-24.04, or the id of an AMI. Default: debian-12.
    #[schemars(extend("default" = "debian-12"))]
    pub image: Option<String>,
    /// Root disk in GiB, gp3 and encrypted. Default: 20.
    #[schemars(range(min = 8, max = 16384), extend("default" = 20))]
    pub disk: Option<u32>,
    /// Login name of the user that is made on the server for deploying. Default: deploy.
    #[schemars(extend("default" = "deploy"))]
    pub user: Option<String>,
    /// Your private key file; `~` is expanded. Default: the agent's first key, else the usual files in ~/.ssh.
    #[schemars(example = &"~/.ssh/id_ed25519")]
    pub key: Option<String>,
    /// Networks from which SSH may be reached. Default: any.
    #[schemars(example = ["203.0.113.0/24"])]
    pub ssh_from: Option<Vec<String>>,
    /// Whether the address stays when the instance is stopped or replaced. Default: true.
    #[schemars(extend("default" = true))]
    pub elastic_ip: Option<bool>,
    /// A volume for the site's data (database, media), in GiB. Default: none, the data is on the root disk.
    #[schemars(range(min = 1, max = 16384))]
    pub volume: Option<u32>,
    /// Id of the VPC. Default: the default one.
    #[schemars(example = &"vpc-0abc")]
    pub vpc: Option<String>,
    /// Id of the subnet. Default: one of the VPC's.
    #[schemars(example = &"subnet-0abc")]
    pub subnet: Option<String>,
    /// Whether EC2 refuses to terminate the instance. Default: false.
    #[schemars(extend("default" = false))]
    pub termination_protection: Option<bool>,
    /// Further tags.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// Where the domains' records are kept, as a word or with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSpec {
    /// Where the zone is.
    pub provider: DnsProviderSpec,
    /// Seconds that resolvers may keep an answer.
    pub ttl: Option<u32>,
    /// Whether a missing zone is made.
    pub create_zone: Option<bool>,
}

/// Where the domains' zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DnsProviderSpec {
    /// DigitalOcean, with the token in DIGITALOCEAN_TOKEN.
    DigitalOcean,
    /// Amazon Route 53, with the credentials that every AWS tool takes.
    Route53,
    /// Elsewhere: `ship up` says which records to set.
    None,
}

/// The records' settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DnsSettings")]
struct DnsMap {
    /// Where the zone is.
    provider: DnsProviderSpec,
    /// Seconds that resolvers may keep an answer. Default: 300.
    #[schemars(range(min = 30, max = 86400), extend("default" = 300))]
    ttl: Option<u32>,
    /// Whether a zone that is missing is made. Default: false.
    #[schemars(extend("default" = false))]
    create_zone: Option<bool>,
}

/// An existing Debian or Ubuntu host.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshSpec {
    /// Host name, address, or alias of ~/.ssh/config.
    #[schemars(example = &"203.0.113.7")]
    pub host: String,
    /// Login name: root or one that may use sudo. Default: what ~/.ssh/config says.
    #[schemars(example = &"root")]
    pub user: Option<String>,
    /// TCP port. Default: what ~/.ssh/config says, else 22.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Private key file; `~` is expanded. Default: what ~/.ssh/config or the agent offers.
    #[schemars(example = &"~/.ssh/id_ed25519")]
    pub key: Option<String>,
}

/// A local machine run by Vagrant.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VagrantSpec {
    /// What Vagrant drives. Default: auto, whatever this machine has.
    #[schemars(extend("default" = "auto"))]
    pub vagrant_provider: Option<VagrantProviderSpec>,
    /// Vagrant box. Default: a Debian one that the provider has.
    #[serde(rename = "box")]
    #[schemars(example = &"debian/bookworm64")]
    pub vagrant_box: Option<String>,
    /// Memory in MiB. Default: 1024.
    #[schemars(range(min = 256, max = 1048576), extend("default" = 1024))]
    pub memory: Option<u32>,
    /// Virtual processors. Default: 1.
    #[schemars(range(min = 1, max = 256), extend("default" = 1))]
    pub cpus: Option<u32>,
}

/// Which hypervisor Vagrant drives.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VagrantProviderSpec {
    /// Whatever this machine has.
    Auto,
    /// Linux containers.
    Lxc,
    /// VirtualBox.
    Virtualbox,
    /// KVM through libvirt.
    Libvirt,
}

/// Where Django is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DjangoSpec {
    /// Folder of manage.py, relative to the project. Needed when there are several.
    #[schemars(example = &".")]
    pub root: Option<String>,
    /// Settings module.
    #[schemars(example = &"library.settings")]
    pub settings: Option<String>,
    /// WSGI module, or `module:callable`.
    #[schemars(example = &"library.wsgi")]
    pub wsgi: Option<String>,
    /// ASGI module, or `module:callable`; the site is then served by it. Default: when the project names an ASGI
    /// server, or requires channels or daphne and sets ASGI_APPLICATION.
    #[schemars(example = &"library.asgi")]
    pub asgi: Option<String>,
    /// Path that must answer before a release goes live. Default: /.
    pub health: Option<HealthSpec>,
    /// What ship sets over the project's own settings for production. Default: whatever they lack.
    pub overlay: Option<OverlaySpec>,
}

/// Secret files: where each belongs in the project, and where it is on this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSpec {
    /// Name in the project and path here.
    pub items: Vec<(String, String)>,
    /// Whether they were written as a list.
    pub listed: bool,
}

/// What is set over the project's settings: all that they lack, nothing, or all but some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverlaySpec {
    /// Whether there is an overlay at all.
    pub on: bool,
    /// The overrides that are switched off.
    pub off: Vec<&'static str>,
}

/// The overrides of a project's settings by name, and what they do.
pub const OVERRIDES: [(&str, &str); 14] = [
    ("debug", "DEBUG off."),
    ("secret_key", "A SECRET_KEY of the server's own in place of one in the code."),
    ("allowed_hosts", "ALLOWED_HOSTS has `domains`."),
    ("csrf_trusted_origins", "CSRF_TRUSTED_ORIGINS has `domains`."),
    ("databases", "DATABASES from DATABASE_URL."),
    ("installed_apps", "INSTALLED_APPS has what its apps need on PostgreSQL."),
    ("static_url", "STATIC_URL, where it is missing."),
    ("static_root", "STATIC_ROOT, where it is missing or of no use."),
    ("media_root", "MEDIA_ROOT, where it is missing or of no use."),
    ("mailers", "A default mailer that sends, in place of one for development."),
    ("proxy_ssl_header", "SECURE_PROXY_SSL_HEADER, with TLS."),
    ("secure_cookies", "Cookies for HTTPS alone, with TLS, and the session's for no script."),
    ("security_headers", "X-Content-Type-Options and Referrer-Policy, where the project turns them off."),
    ("silenced_checks", "No warning of what nginx does for Django, with TLS."),
];

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch(pub bool);

/// The page that tells whether the site is well, as a path or with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSpec {
    /// Path on the site.
    pub path: Option<String>,
    /// Seconds that its answer may take.
    pub timeout: Option<u32>,
    /// Whether it was written as a path alone.
    pub word: bool,
}

/// The health check's settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HealthSettings")]
struct HealthMap {
    /// Path on the site. Default: /.
    #[schemars(regex(pattern = r"^/\S*$"), extend("default" = "/"))]
    path: Option<String>,
    /// Seconds that its answer may take. Default: 10.
    #[schemars(range(min = 1, max = 600), extend("default" = 10))]
    timeout: Option<u32>,
}

/// Whether node builds a front end.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeSpec {
    /// If package.json has a build script.
    Auto,
    /// Never; node is not installed either.
    Off,
}

/// The database of the site, as a word or with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSpec {
    /// Which one.
    pub engine: DatabaseEngineSpec,
    /// Extensions of PostgreSQL.
    pub extensions: Vec<String>,
}

/// The database's settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DatabaseSettings")]
struct DatabaseMap {
    /// Which one. Default: postgres.
    engine: Option<DatabaseEngineSpec>,
    /// Extensions of PostgreSQL that the site's database gets, such as postgis, pg_trgm or citext.
    #[schemars(example = ["postgis", "pg_trgm"])]
    extensions: Option<Vec<String>>,
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "DatabaseEngine")]
pub enum DatabaseEngineSpec {
    /// PostgreSQL on the same server.
    Postgres,
    /// A file in the site's shared folder.
    Sqlite,
    /// MariaDB on the same server.
    Mysql,
    /// The same.
    Mariadb,
    /// Elsewhere; the secret DATABASE_URL says where.
    External,
}

/// What runs.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename = "Processes")]
pub struct ProcessesSpec {
    /// The site itself.
    pub web: Option<WebSpec>,
    /// A command that runs once for each release, after the migrations and before it serves. Default: what the
    /// Procfile's `release` does beside migrating and collecting static files.
    pub release: Option<String>,
    /// Any other name: a long-running command, kept running beside the site. Default: the Procfile's other lines, else
    /// what the settings' task queue needs. Where one is named, these are all; `off` stands for none.
    #[schemars(flatten)]
    pub workers: BTreeMap<String, WorkerSpec>,
}

/// A long-running command, as a text or with settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSpec {
    /// The command line.
    pub command: String,
    /// Seconds that a new one must run before it counts as started.
    pub settle: Option<u32>,
    /// Seconds that it has to finish its work when it is told to stop.
    pub stop_timeout: Option<u32>,
    /// How many of it run.
    pub replicas: Option<u32>,
    /// Whether two must never run at once.
    pub singleton: Option<bool>,
    /// What it may do.
    pub limits: LimitsSpec,
    /// Whether it was written as a command alone.
    pub word: bool,
}

/// A worker's settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WorkerSettings")]
struct WorkerMap {
    /// The command line.
    #[schemars(example = &"celery -A library worker")]
    command: String,
    /// Seconds that a new release's worker must run before the release goes on. Default: 5.
    #[schemars(range(min = 0, max = 600), extend("default" = 5))]
    settle: Option<u32>,
    /// Seconds that the worker has to finish its work when a release replaces it. Default: 300.
    #[schemars(range(min = 1, max = 86400), extend("default" = 300))]
    stop_timeout: Option<u32>,
    /// How many of it run. Default: 1.
    #[schemars(range(min = 1, max = 64), extend("default" = 1))]
    replicas: Option<u32>,
    /// Whether two must never run at once: the old release's is stopped before the new one's starts. Default: true
    /// for what hands out work by the clock, such as `celery beat`.
    singleton: Option<bool>,
    /// Largest share of memory in MiB; what takes more is ended. Default: four fifths of the server's.
    #[schemars(range(min = 16))]
    memory: Option<u32>,
    /// Which network it has: on, local (this server alone: its database, its Redis), off (Unix sockets alone). Default: on.
    network: Option<Network>,
    /// Whether it sees and may do no more than it needs. Default: what `hardening.sandbox` says.
    sandbox: Option<Switch>,
    /// Folders that it may write to besides the site's shared one.
    #[schemars(inner(regex(pattern = r"^/")))]
    writable: Option<Vec<String>>,
}

/// A command that runs at set times.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Job")]
pub struct JobSpec {
    /// The command line.
    #[schemars(example = &"python manage.py clearsessions")]
    pub command: String,
    /// When: cron's five fields, or a calendar of systemd's.
    #[schemars(example = &"daily", example = &"*/10 * * * *", example = &"Mon..Fri 08:30")]
    pub at: String,
    /// Seconds after which a run is ended. Default: 3600.
    #[schemars(range(min = 1, max = 604_800), extend("default" = 3600))]
    pub timeout: Option<u32>,
    /// Largest share of memory in MiB; what takes more is ended. Default: four fifths of the server's.
    #[schemars(range(min = 16))]
    pub memory: Option<u32>,
    /// Which network it has: on, local (this server alone: its database, its Redis), off (Unix sockets alone). Default: on.
    pub network: Option<Network>,
    /// Whether it sees and may do no more than it needs. Default: what `hardening.sandbox` says.
    pub sandbox: Option<Switch>,
    /// Folders that it may write to besides the site's shared one.
    #[schemars(inner(regex(pattern = r"^/")))]
    pub writable: Option<Vec<String>>,
}

/// Services on the same server.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Services")]
pub struct ServicesSpec {
    /// Redis.
    pub redis: Option<SwitchSpec>,
    /// memcached.
    pub memcached: Option<SwitchSpec>,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SwitchSpec {
    /// It is.
    On,
    /// It is not.
    Off,
    /// When the project's settings want it.
    Auto,
}

/// Which server serves the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebServerSpec {
    /// The one that the Procfile names, else gunicorn.
    Auto,
    /// gunicorn, for ASGI with uvicorn's workers.
    Gunicorn,
    /// uvicorn by itself.
    Uvicorn,
    /// daphne.
    Daphne,
    /// hypercorn.
    Hypercorn,
    /// waitress, which can't take over a socket: a release interrupts the site for seconds.
    Waitress,
}

/// How the site is served.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSpec {
    /// The server. Default: the one that the Procfile names, else gunicorn.
    pub server: Option<WebServerSpec>,
    /// The server's command line, as a Procfile has it. Where to listen is ship's.
    #[schemars(example = &"daphne library.asgi:application")]
    pub command: Option<String>,
    /// Worker processes. Default: auto, sized from the server's cores and memory.
    pub workers: Option<Workers>,
    /// Seconds after which a request is given up. Default: 30.
    #[schemars(range(min = 1, max = 3600), extend("default" = 30))]
    pub timeout: Option<u32>,
    /// Seconds that the application may take to load. Default: 120.
    #[schemars(range(min = 1, max = 3600), extend("default" = 120))]
    pub boot_timeout: Option<u32>,
    /// Whether gunicorn loads the application once, for all of its workers: half the memory and half the time. An application
    /// that starts threads or opens connections while it is loaded is loaded by each worker in any case. Default: on for
    /// WSGI.
    pub preload: Option<Switch>,
    /// Seconds that connections of the old release may go on when a new one serves. Default: 300 for ASGI, whose
    /// websockets stay open so long; else `timeout`.
    #[schemars(range(min = 1, max = 86400))]
    pub drain: Option<u32>,
    /// Largest share of memory in MiB; what takes more is ended. Default: four fifths of the server's.
    #[schemars(range(min = 16))]
    pub memory: Option<u32>,
    /// Which network it has: on, local (this server alone: its database, its Redis), off (Unix sockets alone). Default: on.
    pub network: Option<Network>,
    /// Whether it sees and may do no more than it needs. Default: what `hardening.sandbox` says.
    pub sandbox: Option<Switch>,
    /// Folders that it may write to besides the site's shared one.
    #[schemars(inner(regex(pattern = r"^/")))]
    pub writable: Option<Vec<String>>,
}

/// `auto` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// Sized from the server.
    Auto,
    /// This many.
    Exactly(u32),
}

/// One text or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany {
    /// The texts.
    pub items: Vec<String>,
    /// Whether they were written as a list.
    pub listed: bool,
}

impl<'de> Deserialize<'de> for ProcessesSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Processes;
        impl<'de> Visitor<'de> for Processes {
            type Value = ProcessesSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`web` and the names of workers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProcessesSpec, A::Error> {
                let mut processes = ProcessesSpec::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "web" {
                        processes.web = map.next_value()?;
                    } else if name == "release" {
                        processes.release = map.next_value()?;
                    } else {
                        processes.workers.insert(name, map.next_value()?);
                    }
                }
                Ok(processes)
            }
        }
        deserializer.deserialize_map(Processes)
    }
}

impl<'de> Deserialize<'de> for DnsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;
        impl<'de> Visitor<'de> for WordOrMap {
            type Value = DnsSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`digitalocean`, `route53` or `none`, or a map with `provider`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DnsSpec, E> {
                let provider = DnsProviderSpec::deserialize(de::value::StrDeserializer::<E>::new(text))
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(DnsSpec { provider, ttl: None, create_zone: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DnsSpec, A::Error> {
                let map = DnsMap::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(DnsSpec { provider: map.provider, ttl: map.ttl, create_zone: map.create_zone })
            }
        }
        deserializer.deserialize_any(WordOrMap)
    }
}

impl<'de> Deserialize<'de> for HealthSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrMap;
        impl<'de> Visitor<'de> for PathOrMap {
            type Value = HealthSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path such as `/`, or a map (path, timeout)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HealthSpec, E> {
                Ok(HealthSpec { path: Some(text.to_owned()), timeout: None, word: true })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HealthSpec, A::Error> {
                let map = HealthMap::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(HealthSpec { path: map.path, timeout: map.timeout, word: false })
            }
        }
        deserializer.deserialize_any(PathOrMap)
    }
}

impl<'de> Deserialize<'de> for DatabaseSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;
        impl<'de> Visitor<'de> for WordOrMap {
            type Value = DatabaseSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`postgres`, `sqlite`, `mysql` or `external`, or a map (engine, extensions)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DatabaseSpec, E> {
                let engine = DatabaseEngineSpec::deserialize(de::value::StrDeserializer::<E>::new(text))
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(DatabaseSpec { engine, extensions: Vec::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DatabaseSpec, A::Error> {
                let map = DatabaseMap::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let engine = map.engine.unwrap_or(DatabaseEngineSpec::Postgres);
                Ok(DatabaseSpec { engine, extensions: map.extensions.unwrap_or_default() })
            }
        }
        deserializer.deserialize_any(WordOrMap)
    }
}

impl<'de> Deserialize<'de> for FilesSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrMap;
        impl<'de> Visitor<'de> for ListOrMap {
            type Value = FilesSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of files, or a map such as `{secrets.json: ./secrets.json}`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FilesSpec, A::Error> {
                let mut items = Vec::new();
                while let Some(name) = list.next_element::<String>()? {
                    items.push((name.clone(), name));
                }
                Ok(FilesSpec { items, listed: true })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FilesSpec, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = map.next_entry()? {
                    items.push(item);
                }
                Ok(FilesSpec { items, listed: false })
            }
        }
        deserializer.deserialize_any(ListOrMap)
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnOrOff;
        impl Visitor<'_> for OnOrOff {
            type Value = Switch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`on` or `off`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Switch, E> {
                Ok(Switch(on))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Switch, E> {
                match text {
                    "on" | "yes" => Ok(Switch(true)),
                    "off" | "no" => Ok(Switch(false)),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(OnOrOff)
    }
}

impl<'de> Deserialize<'de> for OverlaySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OffOrMap;
        impl<'de> Visitor<'de> for OffOrMap {
            type Value = OverlaySpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a map of overrides such as `{allowed_hosts: off}`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<OverlaySpec, E> {
                Ok(OverlaySpec { on, off: Vec::new() })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OverlaySpec, E> {
                match text {
                    "on" => Ok(OverlaySpec { on: true, off: Vec::new() }),
                    "off" => Ok(OverlaySpec::default()),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OverlaySpec, A::Error> {
                let mut spec = OverlaySpec { on: true, off: Vec::new() };
                while let Some((key, Switch(on))) = map.next_entry::<String, Switch>()? {
                    let names = OVERRIDES.iter().map(|(name, _)| *name);
                    let Some(name) = names.clone().find(|name| *name == key) else {
                        let near = nearest(&key, names.clone());
                        let near = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
                        let all: Vec<&str> = names.collect();
                        let text = format!("no override `{key}`{near} (there are {})", all.join(", "));
                        return Err(de::Error::custom(text));
                    };
                    if !on {
                        spec.off.push(name);
                    }
                }
                Ok(spec)
            }
        }
        deserializer.deserialize_any(OffOrMap)
    }
}

impl<'de> Deserialize<'de> for WorkerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CommandOrMap;
        impl<'de> Visitor<'de> for CommandOrMap {
            type Value = WorkerSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command, or a map with `command`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<WorkerSpec, E> {
                Ok(WorkerSpec {
                    command: text.to_owned(),
                    settle: None,
                    stop_timeout: None,
                    replicas: None,
                    singleton: None,
                    limits: LimitsSpec::default(),
                    word: true,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WorkerSpec, A::Error> {
                let map = WorkerMap::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let WorkerMap { command, settle, stop_timeout, replicas, singleton, .. } = map;
                let WorkerMap { memory, network, sandbox, writable, .. } = map;
                let limits = LimitsSpec { memory, network, sandbox, writable };
                Ok(WorkerSpec { command, settle, stop_timeout, replicas, singleton, limits, word: false })
            }
        }
        deserializer.deserialize_any(CommandOrMap)
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrNumber;
        impl Visitor<'_> for AutoOrNumber {
            type Value = Workers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number from 1 to 256")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Workers, E> {
                match u32::try_from(number) {
                    Ok(number @ 1..=256) => Ok(Workers::Exactly(number)),
                    Ok(_) | Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Workers, E> {
                match text {
                    "auto" => Ok(Workers::Auto),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(AutoOrNumber)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrList;
        impl<'de> Visitor<'de> for TextOrList {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file or a list of files")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany { items: vec![text.to_owned()], listed: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany { items, listed: true })
            }
        }
        deserializer.deserialize_any(TextOrList)
    }
}

/// What is written as a word, or with settings.
fn word_or_map<W: JsonSchema, M: JsonSchema>(generator: &mut SchemaGenerator, default: &str) -> Schema {
    let (word, map) = (generator.subschema_for::<W>(), generator.subschema_for::<M>());
    json_schema!({"anyOf": [word, map], "default": default})
}

impl JsonSchema for DnsSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dns".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        word_or_map::<DnsProviderSpec, DnsMap>(generator, "none")
    }
}

impl JsonSchema for HealthSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Health".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<HealthMap>();
        json_schema!({"anyOf": [{"type": "string", "pattern": r"^/\S*$"}, map], "default": "/"})
    }
}

impl JsonSchema for DatabaseSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Database".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        word_or_map::<DatabaseEngineSpec, DatabaseMap>(generator, "postgres")
    }
}

impl JsonSchema for FilesSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretFiles".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "array", "items": {"type": "string"}},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ],
            "examples": [["secrets.json"], {"secrets.json": "../keys/production.json"}],
        })
    }
}

impl JsonSchema for Switch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Switch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["on", "off", true, false], "default": "on"})
    }
}

impl JsonSchema for OverlaySpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Overlay".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let switch = generator.subschema_for::<Switch>();
        let mut properties = serde_json::Map::new();
        for (name, does) in OVERRIDES {
            let mut one = switch.clone().to_value();
            if let Some(one) = one.as_object_mut() {
                one.insert("description".to_owned(), does.into());
            }
            properties.insert(name.to_owned(), one);
        }
        json_schema!({
            "anyOf": [
                {"enum": ["on", "off", true, false]},
                {"type": "object", "properties": properties, "additionalProperties": false},
            ],
            "default": "on",
        })
    }
}

impl JsonSchema for WorkerSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Worker".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<WorkerMap>();
        json_schema!({
            "anyOf": [{"type": "string"}, map],
            "description": "Another process, by a name of yours: its command line, or a map. `off` for `worker` stands for none.",
        })
    }
}

impl JsonSchema for Workers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Workers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}],
            "default": "auto",
        })
    }
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Files".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
            "examples": ["requirements/production.txt"],
        })
    }
}

/// A version as editors should take it: a number too, since the typed text is what counts.
struct PythonText;

impl JsonSchema for PythonText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Python".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "pattern": r"^3\.[0-9]+(\.[0-9]+)?$",
            "examples": ["3.11"],
        })
    }
}

/// Environment variables as editors should take them.
struct Variables;

impl JsonSchema for Variables {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Variables".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "examples": [{"TIME_ZONE": "UTC"}],
        })
    }
}

/// Keys of later versions, or of what people know from elsewhere, with what to do instead.
const ELSEWHERE: [(&str, &str); 12] = [
    ("region", "did you mean `server: {region: …}`?"),
    ("size", "did you mean `server: {size: …}`?"),
    ("https", "did you mean `tls: letsencrypt`?"),
    ("provider", "did you mean `server: {provider: …}`?"),
    ("host", "did you mean `server: {provider: ssh, host: …}`?"),
    ("settings", "did you mean `django: {settings: …}`?"),
    ("wsgi", "did you mean `django: {wsgi: …}`?"),
    ("root", "did you mean `django: {root: …}`?"),
    ("web", "did you mean `processes: {web: …}`?"),
    ("workers", "did you mean `processes: {web: {workers: …}}`?"),
    ("timeout", "did you mean `processes: {web: {timeout: …}}`?"),
    ("memory", "did you mean `server: {provider: vagrant, memory: …}`?"),
];

/// What is known about names that this version of `ship.yml` does not take.
pub(crate) struct SpecAdvice;

impl Advice for SpecAdvice {
    fn unknown_key(&self, path: &str, node: &Node, key: &str) -> Option<String> {
        if path == "server" || path.ends_with(".server") {
            let provider = node.get("provider").and_then(Node::text)?;
            let meant = match key {
                "type" | "instance_type" | "flavor" => Some("size"),
                "zone" | "availability_zone" => Some("region"),
                "ami" | "slug" | "os" => Some("image"),
                "elastic_ip" | "floating_ip" if provider == "digitalocean" => Some("reserved_ip"),
                "reserved_ip" | "floating_ip" if provider == "ec2" => Some("elastic_ip"),
                _ => None,
            };
            if let (Some(meant), "digitalocean" | "ec2") = (meant, provider) {
                return Some(format!("did you mean `{meant}`?"));
            }
            let other = [
                ("ssh", fields_of::<SshSpec>()),
                ("vagrant", fields_of::<VagrantSpec>()),
                ("digitalocean", fields_of::<DigitalOceanSpec>()),
                ("ec2", fields_of::<Ec2Spec>()),
            ]
            .into_iter()
            .filter(|(name, fields)| *name != provider && fields.contains(&key))
            .map(|(name, _)| format!("`provider: {name}`"))
            .collect::<Vec<_>>();
            return match other.as_slice() {
                [] => None,
                names => {
                    Some(format!("`{key}` belongs to {}; this server's is `{provider}`", names.join(" and ")))
                }
            };
        }
        if path.is_empty() {
            return ELSEWHERE.iter().find(|(name, _)| *name == key).map(|(_, advice)| (*advice).to_owned());
        }
        None
    }

    fn missing_key(&self, path: &str, key: &str) -> Option<String> {
        let last = path.rsplit('.').next().unwrap_or_default();
        match (last, key) {
            ("", "server") => Some(
                "say where the site runs: `server: {provider: digitalocean, region: fra1}`, `{provider: ec2}`, \
                 `{provider: ssh, host: 203.0.113.7}` for a host you have, or `{provider: vagrant}` for a local machine"
                    .to_owned(),
            ),
            ("server", "provider") => Some(
                "`digitalocean` or `ec2` make a server, `ssh` is for a host you have, `vagrant` for a local machine"
                    .to_owned(),
            ),
            ("server", "region") => Some("such as `region: fra1`; DigitalOcean's regions: https://docs.digitalocean.com/platform/regional-availability/".to_owned()),
            ("server", "host") => Some("a host name, an address, or an alias of ~/.ssh/config".to_owned()),
            (_, _) => None,
        }
    }

    fn bad_value(&self, path: &str, node: &Node) -> Option<String> {
        let mut names = path.rsplit('.');
        match (names.next().unwrap_or_default(), names.next().unwrap_or_default(), node.text()) {
            ("provider", "server", Some("do")) => Some("did you mean `digitalocean`?".to_owned()),
            ("provider", "server", Some("aws" | "amazon")) => Some("did you mean `ec2`?".to_owned()),
            ("dns", _, Some("aws" | "ec2")) => Some("did you mean `route53`?".to_owned()),
            ("tls", _, Some("on" | "true" | "yes" | "lets-encrypt")) => Some("did you mean `letsencrypt`?".to_owned()),
            ("tls", _, Some("off" | "false" | "no")) => Some("did you mean `none`?".to_owned()),
            ("database" | "engine", _, Some("postgresql" | "pg" | "psql")) => Some("did you mean `postgres`?".to_owned()),
            ("database" | "engine", _, Some("sqlite3")) => Some("did you mean `sqlite`?".to_owned()),
            ("database" | "engine", _, Some("none" | "off")) => {
                Some("a site without a database keeps to `sqlite`, which takes nothing until it is written to".to_owned())
            }
            ("dns", _, Some("do")) => Some("did you mean `digitalocean`?".to_owned()),
            ("server", _, Some(_)) => Some("such as `server: {provider: ssh, host: 203.0.113.7}`".to_owned()),
            ("web", "processes", Some(_)) => Some(
                "`web` takes settings: `web: {workers: auto, timeout: 30}`, `web: {command: daphne library.asgi}`"
                    .to_owned(),
            ),
            ("secrets", _, None) => Some(
                "only names stand here: `secrets: [NAME]`; `ship config set NAME=…` sets the value"
                    .to_owned(),
            ),
            (name @ ("domains" | "secrets" | "playbooks"), _, Some(text)) if !text.is_empty() => {
                Some(format!("`{name}: [{text}]`"))
            }
            (_, "env", _) if node.is_null() => Some("write `\"\"` for an empty value".to_owned()),
            (_, _, _) => None,
        }
    }
}
