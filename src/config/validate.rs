//! From `ship.yml` as written to the validated [`Config`], with every default filled in.
//!
//! Invariant: a value that gets past this module can be put into a unit, a site or a path by its
//! template without asking again what it may hold.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::error::Problem;
use super::processes::Asgi;
use super::spec::{
    DatabaseEngineSpec, DatabaseSpec, DigitalOceanSpec, DjangoSpec, DnsProviderSpec, DnsSpec, Ec2Spec,
    FilesSpec, HealthSpec, NodeSpec, OneOrMany, ServerSpec, Spec, SshSpec, VagrantProviderSpec, VagrantSpec,
};
use super::yaml::Node;
use super::{
    CloudServer, Config, Database, Defaults, DigitalOceanServer, Django, Dns, DnsHost, Ec2Server, Health,
    Overlay, PlaybookRef, PythonWish, Server, SshServer, VagrantProvider, VagrantServer,
};
use crate::nearest::nearest;
use crate::process::services;
use crate::project::{Dependencies, Project, ProjectError, Root, is_dotted, join, parse_version};

/// Names that are users, groups, databases or services of a Debian server already.
const TAKEN: [&str; 33] = [
    "cron",
    "getty",
    "postgresql",
    "ssh",
    "systemd",
    "user",
    "user-runtime-dir",
    "adm",
    "admin",
    "backup",
    "bin",
    "daemon",
    "games",
    "list",
    "mail",
    "man",
    "mariadb",
    "messagebus",
    "mysql",
    "news",
    "nginx",
    "nobody",
    "postgres",
    "proxy",
    "root",
    "ship",
    "sshd",
    "sudo",
    "sync",
    "sys",
    "uucp",
    "vagrant",
    "www-data",
];

/// Where the first site's own server listens.
pub const DEFAULT_PORT: u16 = 8000;

/// What is said once for all processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct May {
    /// Whether they are locked in.
    pub(super) locked: bool,
    /// Whether there is a firewall.
    pub(super) guarded: bool,
}

/// The longest name of an app or a worker.
pub(super) const LONGEST_NAME: usize = 30;

/// What a check needs to know beside the file.
pub(super) struct Around<'a> {
    pub(super) file: &'a str,
    pub(super) environment: Option<&'a str>,
    pub(super) project: &'a Project,
    pub(super) defaults: &'a Defaults<'a>,
}

/// Makes a folder's name a valid name of an app.
pub fn app_name(folder: &str) -> String {
    let mut name = String::new();
    for c in folder.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) || TAKEN.contains(&name.trim_end_matches('-')) {
        name.insert_str(0, "app-");
    }
    name.truncate(LONGEST_NAME);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "app".to_owned() } else { name.to_owned() }
}

/// Checks what was written; the config counts only if there are no problems.
pub(super) fn validate(spec: Spec, root: &Node, around: &Around<'_>) -> (Option<Config>, Vec<Problem>) {
    let mut check = Check { root, problems: Vec::new() };
    let written_for = around.project.signs.engines.mysql(&around.project.packages);
    let (database, extensions) = check.database(spec.database, written_for.is_some());
    let env = check.env(spec.env.unwrap_or_default(), database);
    let speaks_mysql = speaks_mysql(database, env.get("DATABASE_URL"), written_for.is_some());
    let database_why = written_for.filter(|_| database == Database::Mysql).unwrap_or_default();
    let secrets = check.secrets(spec.secrets.unwrap_or_default(), &env, database);
    let app = check.app(spec.app, around);
    let server = check.server(spec.server);
    let domains = check.domains(spec.domains.unwrap_or_default());
    let dns = check.dns(spec.dns, &domains, &server);
    let tls = check.tls(spec.tls, &domains, &server);
    let python = check.python(spec.python, around);
    let python_mirror = check.mirror(spec.python_mirror);
    let node = match spec.node {
        Some(NodeSpec::Off) => None,
        Some(NodeSpec::Auto) | None => around.project.node.clone(),
    };
    let files = check.files(spec.files);
    let playbooks = check.playbooks(spec.playbooks.unwrap_or_default(), around);
    let keep_releases = check.number(&["keep"], spec.keep, 5, 2..=100, "releases");
    let dump_limit_mb = check.number(&["dump_limit"], spec.dump_limit, 2048, 0..=1_000_000, "MiB");
    let set = |name: &str| env.contains_key(name) || secrets.iter().any(|secret| secret == name);
    let found = check.services(spec.services, &playbooks, around.project, &set);
    let service_variables = services::variables(&around.project.signs, found.keys())
        .filter(|(name, _)| !set(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let backups = check.backups(spec.backups);
    let (hardening, locked) = check.hardening(spec.hardening);
    let may = May { locked, guarded: hardening.firewall.is_some() };
    let jobs = check.jobs(spec.schedule.unwrap_or_default(), may);
    let processes = spec.processes.unwrap_or_default();
    let (workers, release_command) = check.processes(&processes, &app, around.project, may);
    if spec.port.is_some_and(|port| port < 1024) {
        check.value(&["port"], "ports below 1024 are the system's", []);
    }
    if let Some(rate) = spec.rate_limit {
        check.number(&["rate_limit"], Some(rate), rate, 1..=100_000, "requests a second");
    }
    let line = check.web_line(processes.web.as_ref(), around.project);
    let django = check.django(spec.django, spec.requirements, around, &line);
    let config = django.map(|(django, asgi)| Config {
        web: check.web(processes.web.unwrap_or_default(), spec.upload_limit, line, &django, asgi, may),
        release_command,
        jobs,
        services: found,
        service_variables,
        hardening,
        port: spec.port.unwrap_or(DEFAULT_PORT),
        port_written: spec.port.is_some(),
        rate_limit: spec.rate_limit,
        app,
        environment: around.environment.map(str::to_owned),
        server,
        domains,
        dns,
        tls,
        python,
        python_mirror,
        node,
        django,
        database,
        database_why,
        speaks_mysql,
        extensions,
        workers,
        env,
        secrets,
        files,
        playbooks,
        keep_releases,
        dump_limit_mb,
        backups,
    });
    (config, check.problems)
}

/// What the specs of both clouds have in common.
struct CloudSpec {
    size: String,
    image: Option<String>,
    user: Option<String>,
    key: Option<String>,
    ssh_from: Option<Vec<String>>,
    fixed_address: Option<bool>,
    volume_gb: Option<u32>,
}

/// A network in CIDR notation, as clouds write it back: host bits cleared, an address alone as `/32` or `/128`.
fn network(text: &str) -> Result<String, String> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let bad = || format!("`{text}` is not a network such as 203.0.113.0/24");
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(width), |bits| bits.parse::<u32>().map_err(|_| bad()))?;
    if bits > width {
        return Err(bad());
    }
    let address = match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(width - bits).unwrap_or(0);
            IpAddr::from(core::net::Ipv4Addr::from(u32::from(address) & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(width - bits).unwrap_or(0);
            IpAddr::from(core::net::Ipv6Addr::from(u128::from(address) & mask))
        }
    };
    Ok(format!("{address}/{bits}"))
}

pub(super) struct Check<'a> {
    root: &'a Node,
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// The node at `path`, or the innermost one on the way there.
    fn node(&self, path: &[&str]) -> &Node {
        path.iter().fold(self.root, |node, key| match key.parse::<usize>() {
            Ok(index) => node.element(index).or_else(|| node.get(key)).unwrap_or(node),
            Err(_) => node.get(key).unwrap_or(node),
        })
    }

    /// Blames the value at `path`.
    pub(super) fn value(
        &mut self,
        path: &[&str],
        message: impl AsRef<str>,
        hints: impl IntoIterator<Item = String>,
    ) {
        let node = self.node(path);
        let message = format!("`{}`: {}", node.path, message.as_ref());
        let problem = Problem::new(message).at(node.span.clone(), node.path.clone());
        self.problems.push(hints.into_iter().fold(problem, Problem::hint));
    }

    /// Blames the key at `path`.
    pub(super) fn key(
        &mut self,
        path: &[&str],
        message: impl AsRef<str>,
        hints: impl IntoIterator<Item = String>,
    ) {
        let node = self.node(path);
        let message = format!("`{}`: {}", node.path, message.as_ref());
        let problem = Problem::new(message).at(node.key_span.clone(), node.path.clone());
        self.problems.push(hints.into_iter().fold(problem, Problem::hint));
    }

    /// Blames the value at `path` if it was written, else the project.
    pub(super) fn project(&mut self, path: &[&str], written: bool, error: ProjectError) {
        if written {
            self.value(path, error.message, error.hints);
        } else {
            let problem = Problem::new(error.message);
            self.problems.push(error.hints.into_iter().fold(problem, Problem::hint));
        }
    }

    pub(super) fn number(
        &mut self,
        path: &[&str],
        written: Option<u32>,
        default: u32,
        range: RangeInclusive<u32>,
        unit: &str,
    ) -> u32 {
        let number = written.unwrap_or(default);
        if !range.contains(&number) {
            let (least, most) = (range.start(), range.end());
            self.value(path, format!("{number} is not from {least} to {most} {unit}"), []);
        }
        number
    }

    /// A text for a command line or a configuration file of one line.
    fn word(&mut self, path: &[&str], text: &str, what: &str) {
        if text.is_empty() {
            self.value(path, format!("{what} is empty"), []);
        } else if text.starts_with('-') {
            self.value(path, format!("{what} can't start with a dash"), []);
        } else if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'')) {
            self.value(path, format!("{what} can't hold spaces, quotes or control characters"), []);
        }
    }

    fn app(&mut self, written: Option<String>, around: &Around<'_>) -> String {
        let Some(app) = written else { return app_name(around.defaults.folder_name) };
        let suggestion = || [format!("such as `app: {}`", app_name(&app))];
        if !is_name(&app) {
            self.value(
                &["app"],
                format!("`{app}` is not a name of lowercase letters, digits and dashes, starting with a letter, at most {LONGEST_NAME} long"),
                suggestion(),
            );
        } else if TAKEN.contains(&app.as_str()) {
            self.value(&["app"], format!("`{app}` is a user or service of the server itself"), suggestion());
        }
        app
    }

    fn server(&mut self, spec: ServerSpec) -> Server {
        match spec {
            ServerSpec::Ssh(ssh) => Server::Ssh(self.ssh(ssh)),
            ServerSpec::Vagrant(vagrant) => Server::Vagrant(self.vagrant(vagrant)),
            ServerSpec::DigitalOcean(droplet) => Server::DigitalOcean(self.digitalocean(droplet)),
            ServerSpec::Ec2(instance) => Server::Ec2(self.ec2(instance)),
        }
    }

    fn digitalocean(&mut self, spec: DigitalOceanSpec) -> DigitalOceanServer {
        self.word(&["server", "region"], &spec.region, "the region");
        for (key, text) in [("vpc", &spec.vpc), ("project", &spec.project)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                self.value(&["server", key], format!("the {key} is empty"), []);
            }
        }
        let tags = spec.tags.unwrap_or_default();
        for (index, tag) in tags.iter().enumerate() {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_');
            if tag.is_empty() || tag.len() > 255 || !tag.chars().all(good) {
                self.value(
                    &["server", "tags", &index.to_string()],
                    "a tag of DigitalOcean's is letters, digits, colons, dashes and underscores",
                    [],
                );
            } else if tag == "ship" || tag.starts_with("ship:") {
                self.value(
                    &["server", "tags", &index.to_string()],
                    "tags that start with `ship` are ship's own",
                    [],
                );
            }
        }
        let written = CloudSpec {
            size: spec.size.unwrap_or_else(|| "s-1vcpu-1gb".to_owned()),
            image: spec.image,
            user: spec.user,
            key: spec.key,
            ssh_from: spec.ssh_from,
            fixed_address: spec.reserved_ip,
            volume_gb: spec.volume,
        };
        DigitalOceanServer {
            common: self.cloud(written),
            region: spec.region,
            monitoring: spec.monitoring.unwrap_or(true),
            ipv6: spec.ipv6.unwrap_or(true),
            backups: spec.backups.unwrap_or(false),
            vpc: spec.vpc,
            project: spec.project,
            tags,
        }
    }

    fn ec2(&mut self, spec: Ec2Spec) -> Ec2Server {
        for (key, text) in [("region", &spec.region), ("vpc", &spec.vpc), ("subnet", &spec.subnet)] {
            if let Some(text) = text {
                self.word(&["server", key], text, &format!("the {key}"));
            }
        }
        let tags = spec.tags.unwrap_or_default();
        for (key, value) in &tags {
            if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
                self.value(
                    &["server", "tags", key],
                    "a tag of AWS has at most 128 characters, its value 256",
                    [],
                );
            } else if key.starts_with("aws:") || key == "Name" || key.starts_with("ship") {
                self.value(&["server", "tags", key], "this tag is AWS's or ship's own", []);
            }
        }
        let disk_gb = self.number(&["server", "disk"], spec.disk, 20, 8..=16_384, "GiB");
        let written = CloudSpec {
            size: spec.size.unwrap_or_else(|| "t3.small".to_owned()),
            image: spec.image,
            user: spec.user,
            key: spec.key,
            ssh_from: spec.ssh_from,
            fixed_address: spec.elastic_ip,
            volume_gb: spec.volume,
        };
        Ec2Server {
            common: self.cloud(written),
            region: spec.region,
            disk_gb,
            vpc: spec.vpc,
            subnet: spec.subnet,
            termination_protection: spec.termination_protection.unwrap_or(false),
            tags,
        }
    }

    fn cloud(&mut self, spec: CloudSpec) -> CloudServer {
        let image = spec.image.unwrap_or_else(|| "debian-12".to_owned());
        self.word(&["server", "size"], &spec.size, "the size");
        self.word(&["server", "image"], &image, "the image");
        let user = spec.user.unwrap_or_else(|| "deploy".to_owned());
        if user == "root" {
            self.value(
                &["server", "user"],
                "root does not log in to servers that ship makes",
                ["leave it out: a user `deploy` with sudo is made".to_owned()],
            );
        } else if !is_name(&user) {
            self.value(&["server", "user"], format!("`{user}` is not a login name"), []);
        }
        if spec.key.as_ref().is_some_and(|key| key.is_empty() || key.contains(char::is_control)) {
            self.value(&["server", "key"], "not a file name", []);
        }
        let volume_gb = spec
            .volume_gb
            .map(|size| self.number(&["server", "volume"], Some(size), size, 1..=16_384, "GiB"));
        let written = spec.ssh_from.unwrap_or_else(|| vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()]);
        if written.is_empty() {
            self.value(&["server", "ssh_from"], "nobody could log in, not even ship", []);
        }
        let mut ssh_from = Vec::new();
        for (index, text) in written.iter().enumerate() {
            match network(text) {
                Ok(network) => ssh_from.push(network),
                Err(problem) => self.value(&["server", "ssh_from", &index.to_string()], problem, []),
            }
        }
        ssh_from.sort();
        ssh_from.dedup();
        CloudServer {
            size: spec.size,
            image,
            user,
            key: spec.key,
            ssh_from,
            fixed_address: spec.fixed_address.unwrap_or(true),
            volume_gb,
        }
    }

    fn dns(&mut self, spec: Option<DnsSpec>, domains: &[String], server: &Server) -> Dns {
        let Some(spec) = spec else { return Dns { host: None, ttl_s: 300, create_zone: false } };
        let host = match spec.provider {
            DnsProviderSpec::DigitalOcean => Some(DnsHost::DigitalOcean),
            DnsProviderSpec::Route53 => Some(DnsHost::Route53),
            DnsProviderSpec::None => None,
        };
        if host.is_some() && domains.is_empty() {
            self.key(&["dns"], "there are no `domains` to keep records of", []);
        }
        if host.is_some() && matches!(server, Server::Vagrant(_)) {
            self.key(&["dns"], "a Vagrant machine has no address that others could reach", []);
        }
        let ttl_s = self.number(&["dns", "ttl"], spec.ttl, 300, 30..=86_400, "seconds");
        Dns { host, ttl_s, create_zone: spec.create_zone.unwrap_or(false) }
    }

    fn ssh(&mut self, spec: SshSpec) -> SshServer {
        let path = ["server", "host"];
        match spec.host.split_once('@') {
            Some((user, host)) => self.value(
                &path,
                "the login name goes into a key of its own",
                [format!("`host: {host}` and `user: {user}`")],
            ),
            None if spec.host.contains("://") || spec.host.contains('/') => {
                self.value(&path, "a host name or an address, not a URL", []);
            }
            None => self.word(&path, &spec.host, "the host"),
        }
        if let Some(user) = &spec.user {
            self.word(&["server", "user"], user, "the login name");
        }
        if spec.port == Some(0) {
            self.value(&["server", "port"], "0 is not a port", []);
        }
        if let Some(key) = &spec.key
            && (key.is_empty() || key.contains(char::is_control))
        {
            self.value(&["server", "key"], "not a file name", []);
        }
        SshServer { host: spec.host, user: spec.user, port: spec.port, key: spec.key }
    }

    fn vagrant(&mut self, spec: VagrantSpec) -> VagrantServer {
        if let Some(name) = &spec.vagrant_box {
            self.word(&["server", "box"], name, "the name of the box");
        }
        VagrantServer {
            provider: match spec.vagrant_provider {
                None | Some(VagrantProviderSpec::Auto) => VagrantProvider::Auto,
                Some(VagrantProviderSpec::Lxc) => VagrantProvider::Lxc,
                Some(VagrantProviderSpec::Virtualbox) => VagrantProvider::Virtualbox,
                Some(VagrantProviderSpec::Libvirt) => VagrantProvider::Libvirt,
            },
            vagrant_box: spec.vagrant_box,
            memory_mb: self.number(&["server", "memory"], spec.memory, 1024, 256..=1_048_576, "MiB"),
            cpus: self.number(&["server", "cpus"], spec.cpus, 1, 1..=256, "processors"),
        }
    }

    fn domains(&mut self, written: Vec<String>) -> Vec<String> {
        let mut domains: Vec<String> = Vec::new();
        for (index, text) in written.iter().enumerate() {
            let domain = text.to_lowercase();
            let index = index.to_string();
            let path = ["domains", index.as_str()];
            match domain_problem(&domain) {
                Some((message, hint)) => self.value(&path, format!("`{text}` {message}"), hint),
                None if domains.contains(&domain) => {
                    self.value(&path, format!("`{domain}` is there twice"), []);
                }
                None => {}
            }
            domains.push(domain);
        }
        domains
    }

    fn python(&mut self, written: Option<String>, around: &Around<'_>) -> PythonWish {
        let Some(text) = written else {
            return match (&around.project.python, &around.project.python_bounds) {
                (Some(found), _) => {
                    PythonWish::Version { version: found.value.clone(), origin: found.origin.clone() }
                }
                (None, Some((bounds, origin))) => {
                    PythonWish::Bounds { bounds: bounds.clone(), origin: origin.clone() }
                }
                (None, None) => PythonWish::Distribution,
            };
        };
        let quoted =
            "write `python: \"3.10\"` if you meant 3.10: without quotes YAML tools turn 3.10 into 3.1";
        match parse_version(&text) {
            Some(version) if version.major == 3 && version.minor >= 6 => {}
            Some(version) if version.major == 3 && version.minor < 3 => {
                self.value(
                    &["python"],
                    format!("Python {version} is too old for Django"),
                    [quoted.to_owned()],
                );
            }
            Some(version) => self.value(&["python"], format!("Python {version} can't be installed"), []),
            None => self.value(
                &["python"],
                format!("`{text}` is not a version"),
                ["such as `python: \"3.11\"` or `python: \"3.11.4\"`".to_owned()],
            ),
        }
        PythonWish::Version { version: text, origin: around.file.to_owned() }
    }

    fn mirror(&mut self, written: Option<String>) -> Option<String> {
        let url = written?;
        let known = ["https://", "http://", "file:///"].iter().any(|scheme| url.starts_with(scheme));
        if !known || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            let such = "such as `python_mirror: https://mirror.example.com/python-build-standalone/releases/download`";
            self.value(&["python_mirror"], format!("`{url}` is not an address"), [such.to_owned()]);
        }
        Some(url)
    }

    fn env(&mut self, env: BTreeMap<String, String>, database: Database) -> BTreeMap<String, String> {
        for (name, value) in &env {
            let path = ["env", name.as_str()];
            if let Some((message, hint)) = name_problem(name, database) {
                self.key(&path, message, hint);
            }
            if value.contains('\0') {
                self.value(&path, "a value can't hold a NUL", []);
            }
        }
        env
    }

    fn secrets(
        &mut self,
        mut secrets: Vec<String>,
        env: &BTreeMap<String, String>,
        database: Database,
    ) -> Vec<String> {
        for (index, name) in secrets.iter().enumerate() {
            let text = index.to_string();
            let path = ["secrets", text.as_str()];
            if let Some((before, _)) = name.split_once('=') {
                self.value(
                    &path,
                    "only the names of secrets stand here, never a value",
                    [format!("`secrets: [{before}]`, and `ship config set {before}=…` for the value")],
                );
            } else if let Some((message, hint)) = name_problem(name, database) {
                self.value(&path, format!("`{name}` {message}"), hint);
            } else if env.contains_key(name) {
                let line = self.node(&["env", name]).path.clone();
                self.value(
                    &path,
                    format!("`{name}` is both a secret and in `{line}`"),
                    ["keep it in one of them".to_owned()],
                );
            } else if secrets.iter().take(index).any(|other| other == name) {
                self.value(&path, format!("`{name}` is there twice"), []);
            }
        }
        let url = "DATABASE_URL";
        if database == Database::External && !env.contains_key(url) && !secrets.iter().any(|name| name == url)
        {
            secrets.push(url.to_owned());
        }
        secrets
    }

    fn database(&mut self, written: Option<DatabaseSpec>, for_mysql: bool) -> (Database, Vec<String>) {
        let Some(DatabaseSpec { engine, extensions }) = written else {
            let database = if for_mysql { Database::Mysql } else { Database::Postgres };
            return (database, Vec::new());
        };
        let database = match engine {
            DatabaseEngineSpec::Postgres => Database::Postgres,
            DatabaseEngineSpec::Sqlite => Database::Sqlite,
            DatabaseEngineSpec::Mysql | DatabaseEngineSpec::Mariadb => Database::Mysql,
            DatabaseEngineSpec::External => Database::External,
        };
        if database != Database::Postgres && !extensions.is_empty() {
            self.key(&["database", "extensions"], "only a PostgreSQL on the server takes extensions", []);
        }
        for (index, name) in extensions.iter().enumerate() {
            let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.len() < 64
                && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
            if !valid {
                let path = ["database", "extensions", &index.to_string()];
                self.value(&path, format!("`{name}` is not the name of an extension"), []);
            }
        }
        (database, extensions)
    }

    fn files(&mut self, written: Option<FilesSpec>) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let Some(written) = written else { return files };
        for (index, (name, here)) in written.items.into_iter().enumerate() {
            let index = index.to_string();
            let path: [&str; 2] = ["files", if written.listed { &index } else { &name }];
            let inside = join(".", &name);
            if let Some(problem) = outside(&name) {
                self.value(&path, format!("`{name}` {problem}"), []);
            } else if here.is_empty() || here.contains(|c: char| c.is_control()) {
                self.value(&path, "not a file name", []);
            } else if let Some(before) = files.insert(inside.clone(), here) {
                self.value(&path, format!("`{inside}` is there twice, from {before} before"), []);
            }
        }
        files
    }

    fn playbooks(&mut self, written: Vec<String>, around: &Around<'_>) -> Vec<PlaybookRef> {
        let known = around.defaults.playbooks;
        let mut playbooks = Vec::new();
        for (index, text) in written.into_iter().enumerate() {
            let index = index.to_string();
            let path = ["playbooks", index.as_str()];
            if !text.contains('/') && !text.ends_with(".yml") && !text.ends_with(".yaml") {
                if !known.is_empty() && !known.contains(&text.as_str()) {
                    let near = nearest(&text, known.iter().copied());
                    let near = near.map(|near| format!("did you mean `{near}`?"));
                    let list = format!("ship's own: {}; a file is written `./{text}.yml`", known.join(", "));
                    self.value(&path, format!("no playbook `{text}`"), near.into_iter().chain([list]));
                }
                playbooks.push(PlaybookRef::Builtin(text));
                continue;
            }
            if let Some(file) = self.file(&path, &text, around.project) {
                playbooks.push(PlaybookRef::File(file));
            }
        }
        playbooks
    }

    /// A file of the project, without `./`.
    fn file(&mut self, path: &[&str], text: &str, project: &Project) -> Option<String> {
        if let Some(problem) = outside(text) {
            self.value(path, format!("`{text}` {problem}"), []);
            return None;
        }
        let file = join(".", text);
        if !project.has_file(&file) {
            let near = nearest(&file, project.files()).map(|near| format!("did you mean `{near}`?"));
            self.value(path, format!("`{file}` is not a file of the project"), near);
            return None;
        }
        Some(file)
    }

    fn django(
        &mut self,
        spec: Option<DjangoSpec>,
        requirements: Option<OneOrMany>,
        around: &Around<'_>,
        line: &super::processes::Line,
    ) -> Option<(Django, Option<Asgi>)> {
        let project = around.project;
        let spec = spec.unwrap_or(DjangoSpec {
            root: None,
            settings: None,
            wsgi: None,
            asgi: None,
            health: None,
            overlay: None,
        });
        let health = self.health(spec.health);
        let named = self.requirements(requirements, project);
        let root = self.django_root(spec.root, project)?;
        let settings = match project.settings(root, spec.settings.as_deref()) {
            Ok(settings) => Some(settings),
            Err(error) => {
                self.project(&["django", "settings"], spec.settings.is_some(), error);
                None
            }
        };
        let asgi = self.asgi(spec.asgi, settings.as_deref(), line, root, project);
        let wsgi = match (spec.wsgi, &settings) {
            (Some(wsgi), _) => self.wsgi(wsgi, root, project),
            (None, Some(settings)) => match (project.wsgi(root, settings), &asgi) {
                (Ok(wsgi), _) => Some(wsgi),
                (Err(_), Some(asgi)) => Some(asgi.application.clone()),
                (Err(error), None) => {
                    self.project(&["django", "wsgi"], false, error);
                    None
                }
            },
            (None, None) => None,
        };
        let dependencies = named.map(Dependencies::requirements).or_else(|| root.dependencies.clone());
        if dependencies.is_none() {
            self.problems.push(no_dependencies(root));
        }
        let overlay = spec
            .overlay
            .map_or(Overlay { on: true, off: Vec::new() }, |spec| Overlay { on: spec.on, off: spec.off });
        let django = Django {
            root: root.dir.clone(),
            settings: settings?,
            wsgi: wsgi?,
            dependencies: dependencies?,
            geodjango: project.geodjango,
            health,
            overlay,
        };
        Some((django, asgi))
    }

    fn django_root<'p>(&mut self, written: Option<String>, project: &'p Project) -> Option<&'p Root> {
        let path = ["django", "root"];
        if let Some(problem) = written.as_deref().and_then(outside) {
            self.value(&path, problem, []);
            return None;
        }
        let wanted = written.map(|text| {
            let dir = join(".", &text);
            if dir.is_empty() { ".".to_owned() } else { dir }
        });
        match project.root(wanted.as_deref()) {
            Ok(root) => Some(root),
            Err(error) => {
                self.project(&path, wanted.is_some(), error);
                None
            }
        }
    }

    fn wsgi(&mut self, text: String, root: &Root, project: &Project) -> Option<String> {
        let (module, callable) = text.split_once(':').unwrap_or((&text, "application"));
        if is_dotted(module) && is_dotted(callable) && project.has_module(root, module) {
            return Some(text);
        }
        let known = || root.wsgi_modules.iter().map(String::as_str);
        let mut hints = Vec::new();
        // `site.wsgi.application` is one of Django's own spellings; `site.wsgy` is a slip.
        let of_module = module
            .rsplit_once('.')
            .filter(|(package, _)| known().any(|name| name == *package))
            .map(|(package, name)| format!("{package}:{name}"));
        let near = || nearest(module, known()).map(str::to_string);
        let callable = || {
            let (package, name) = module.rsplit_once('.')?;
            project.has_module(root, package).then(|| format!("{package}:{name}"))
        };
        hints.extend(
            of_module.or_else(near).or_else(callable).map(|meant| format!("did you mean `{meant}`?")),
        );
        if !root.wsgi_modules.is_empty() {
            hints.push(format!("WSGI modules here: {}", root.wsgi_modules.join(", ")));
        }
        self.value(&["django", "wsgi"], format!("`{text}` is not a module of the project"), hints);
        None
    }

    fn health(&mut self, written: Option<HealthSpec>) -> Health {
        let spec = written.unwrap_or(HealthSpec { path: None, timeout: None, word: true });
        let timeout_s = self.number(&["django", "health", "timeout"], spec.timeout, 10, 1..=600, "seconds");
        let Some(health) = spec.path else {
            return Health { path: "/".to_owned(), timeout_s, guessed: true };
        };
        let path: &[&str] = if spec.word { &["django", "health"] } else { &["django", "health", "path"] };
        if !health.starts_with('/') {
            self.value(
                path,
                format!("`{health}` does not start with `/`"),
                [format!("`{}: /{health}`", if spec.word { "health" } else { "path" })],
            );
        } else if !health.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\')) {
            self.value(path, "spaces, quotes and letters beyond ASCII are written as %XX in a path", []);
        }
        Health { path: health, timeout_s, guessed: false }
    }

    fn requirements(&mut self, written: Option<OneOrMany>, project: &Project) -> Option<Vec<String>> {
        let written = written?;
        if written.items.is_empty() {
            self.value(&["requirements"], "the list is empty", []);
        }
        let mut files = Vec::new();
        for (index, text) in written.items.iter().enumerate() {
            let index = index.to_string();
            let path: &[&str] = if written.listed { &["requirements", &index] } else { &["requirements"] };
            // The name stands in for a file that is missing: one problem is enough.
            files.push(self.file(path, text, project).unwrap_or_else(|| text.clone()));
        }
        if files.is_empty() {
            files.push(String::new())
        }
        Some(files)
    }
}

fn no_dependencies(root: &Root) -> Problem {
    match &root.export {
        Some(found) => Problem::new(format!("{} alone does not say what exactly is installed", found.origin))
            .hint(format!("write a file that does with `{}`, and commit it", found.value)),
        None => Problem::new("the project has no requirements file: nothing says that it needs Django")
            .hint("`pip freeze > requirements.txt` in its virtual environment writes one")
            .hint("if it is called otherwise: `requirements: path/to/file.txt`"),
    }
}

/// Whether `text` names an app, a process or an environment.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        // Part of host names, which don't end so.
        && !text.ends_with('-')
        && text.len() <= LONGEST_NAME
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Why a path can't be one inside the project.
fn outside(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.starts_with(['/', '~']) {
        Some("must be relative to the project")
    } else if text.split('/').any(|part| part == "..") {
        Some("must be inside the project")
    } else if text.contains(|c: char| c.is_control() || c == '\\') {
        Some("can't hold backslashes or control characters")
    } else {
        None
    }
}

/// Whether the database is a MySQL or MariaDB. Where a secret says where it is, the project itself must know.
fn speaks_mysql(database: Database, url: Option<&String>, written_for: bool) -> bool {
    match (database, url) {
        (Database::Mysql, _) => true,
        (Database::External, Some(url)) => ["mysql", "mariadb"].iter().any(|scheme| url.starts_with(scheme)),
        (Database::External, None) => written_for,
        (Database::Postgres | Database::Sqlite, _) => false,
    }
}

/// Why an environment variable can't have this name.
pub(super) fn name_problem(name: &str, database: Database) -> Option<(&'static str, Option<String>)> {
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match name {
        _ if !valid => Some((
            "an environment variable is named with letters, digits and `_`, not starting with a digit",
            None,
        )),
        "NOTIFY_SOCKET" | "LISTEN_FDS" | "LISTEN_PID" | "LISTEN_FDNAMES" => {
            Some(("systemd sets this one for each process; a value here would break the start", None))
        }
        "DATABASE_URL" if database != Database::External => Some((
            "ship sets this one itself",
            Some("`database: external` if the database is elsewhere".to_owned()),
        )),
        _ => None,
    }
}

/// Why a text is not a host name, with what to write instead.
fn domain_problem(domain: &str) -> Option<(&'static str, Option<String>)> {
    let bare = domain.split_once("://").map_or(domain, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or(bare).trim_end_matches('.');
    if domain.is_empty() {
        return Some(("is empty", None));
    }
    if domain.starts_with("*.") {
        return Some(("is a wildcard, which is not in this version", Some("list each name".to_owned())));
    }
    if !domain.is_ascii() {
        return Some(("has letters beyond ASCII", Some("write it as it is in DNS, with `xn--`".to_owned())));
    }
    let label = |text: &str| {
        (1..=63).contains(&text.len())
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_host = |text: &str| text.len() <= 253 && text.split('.').all(label);
    if domain != bare && is_host(bare) {
        return Some(("is more than a host name", Some(format!("write `{bare}`"))));
    }
    if !is_host(domain) {
        return Some(("is not a host name", Some("such as `library.example.com`".to_owned())));
    }
    let number = domain.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    number.then(|| {
        ("is an address, not a name", Some("without `domains` the site answers to any name".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_become_app_names() {
        for (folder, app) in [
            ("library", "library"),
            ("Django Local_Library", "django-local-library"),
            ("42", "app-42"),
            ("...", "app"),
            ("", "app"),
            ("Bücherei", "b-cherei"),
            ("postgres", "app-postgres"),
            ("-x-", "x"),
            ("a-very-long-folder-name-that-never-ends", "a-very-long-folder-name-that-n"),
        ] {
            assert_eq!(app_name(folder), app, "{folder}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_folder_gives_a_valid_name(folder in "\\PC*") {
            let name = app_name(&folder);
            proptest::prop_assert!(is_name(&name) && !TAKEN.contains(&name.as_str()), "{}", name);
        }
    }
}
