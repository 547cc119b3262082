//! What is wrong with a site, from what its server said and what this computer saw; the cause before its consequences.
//!
//! Invariant: pure. Every finding names a command, or the one thing to do, that mends it.

use std::fmt::Write as _;

use serde::Serialize;

use crate::config::backups::Store;
use crate::config::tls::Origin;
use crate::config::{Config, Database, PlaybookRef};
use crate::facts::Facts;
use crate::facts::health::{Disk, Health, HealthUnit, Listener};
use crate::human::{bytes, count};
use crate::process::services::Service;
use crate::release::instances;
use crate::tls;

/// What can be wrong, in the order in which one thing brings the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nobody answers, or nobody may log in.
    Unreachable,
    /// A file system is full, or can't be written to.
    Disk,
    /// A file system can hold no more files.
    Inodes,
    /// The kernel has just killed processes for want of memory.
    Memory,
    /// The clocks of the server and of this computer differ.
    Clock,
    /// dpkg has left packages half-way.
    Packages,
    /// The database doesn't answer.
    Database,
    /// Another service that the site needs doesn't answer.
    Service,
    /// nginx would not start with its configuration.
    Nginx,
    /// Somebody else has a port of the site's.
    Port,
    /// Somebody can't read or write what they must.
    Permissions,
    /// The database lacks migrations of the live release.
    Migration,
    /// A process of the site doesn't run.
    Process,
    /// The site answers with an error.
    Site,
    /// The server answers itself, and nobody else.
    Firewall,
    /// A name doesn't lead to the server.
    Dns,
    /// Visitors can't be served by HTTPS, or soon can't.
    Certificate,
    /// Backups fail.
    Backups,
    /// A unit that has nothing to do with the site has failed.
    Unit,
    /// The server is not as `ship.yml` says.
    Drift,
    /// The kernel killed processes some hours ago.
    EarlierMemory,
    /// Something lies about in the cloud.
    Leftover,
}

/// Something wrong, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub fault: Fault,
    /// What is wrong: one line.
    pub what: String,
    /// What shows it: lines of a log, say.
    pub evidence: Vec<String>,
    /// What mends it.
    pub mend: String,
}

impl Finding {
    /// A finding without evidence.
    pub fn new(fault: Fault, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { fault, what: what.into(), evidence: Vec::new(), mend: mend.into() }
    }

    fn with(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

/// What this computer saw of the server and the site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// This computer's clock before and after the server was asked, in seconds since 1970.
    pub asked_s: (i64, i64),
    /// Why the site can't be asked from here, if so: `it refuses the connection`.
    pub closed: Option<String>,
    /// The same for HTTPS, where the site is served by it.
    pub https_closed: Option<String>,
    /// How it is with HTTPS.
    pub tls: tls::State,
    /// Names that don't lead to the server: the name, and where it leads.
    pub astray: Vec<(String, String)>,
    /// The server's address, for whoever sets a record.
    pub address: String,
    /// What `up` would change on the server, as the plan's lines have it.
    pub drift: Vec<String>,
}

/// A clock may differ that many seconds: sessions and signatures live with it.
const CLOCK_S: i64 = 60;
/// What was killed longer ago is no longer the first thing to look at, in seconds.
const RECENT_S: i64 = 3600;
/// With fewer free bytes than that a database stops, whatever share of the disk it is.
const LEAST_FREE: u64 = 100 << 20;
/// With fewer free inodes than that, packages and releases can't be unpacked.
const LEAST_INODES: u64 = 2000;
/// So many restarts within a minute are no accident.
const LOOP: u32 = 3;

/// Everything that is wrong, the most likely cause first.
pub fn diagnose(config: &Config, facts: &Facts, view: &View) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(health) = &facts.health {
        found.extend(health.disks.iter().filter_map(disk));
        found.extend(killed(health));
        found.extend(clock(health, view));
        found.extend(packages(health));
        // Before the first deploy nothing needs them.
        if health.release.is_some() {
            found.extend(database(config, health));
            found.extend(services(config, health));
        }
        found.extend(nginx(health));
        found.extend(port(config, health));
        found.extend(permissions(config, health));
        found.extend(migrations(health));
        found.extend(processes(config, facts, health));
        found.extend(site(health));
        found.extend(firewall(health, view));
        found.extend(units(health));
    }
    found.extend(names(config, view));
    found.extend(certificate(config, facts, view));
    found.extend(backups(config, facts));
    found.extend(drift(view));
    found.sort_by_key(|finding| finding.fault);
    found
}

fn disk(disk: &Disk) -> Option<Finding> {
    let at = &disk.at;
    if disk.read_only {
        return Some(Finding::new(
            Fault::Disk,
            format!("nothing can be written to {at}: the kernel mounts a disk so when it fails"),
            "fetch a copy (`ship db dump`), then look: ship ssh -- 'sudo dmesg | tail -n 40'",
        ));
    }
    if disk.free < LEAST_FREE.min(disk.total / 20) {
        return Some(Finding::new(
            Fault::Disk,
            format!("{at} is full: {} free of {}", bytes(disk.free), bytes(disk.total)),
            format!("see what fills it: ship ssh -- 'sudo du -xh -d 3 {at} | sort -h | tail -n 20'"),
        ));
    }
    if disk.inodes > 0 && disk.free_inodes < LEAST_INODES.min(disk.inodes / 20) {
        return Some(Finding::new(
            Fault::Inodes,
            format!(
                "{at} has room for {} more files only: it holds {}",
                disk.free_inodes,
                disk.inodes.saturating_sub(disk.free_inodes)
            ),
            format!("see where they are: ship ssh -- 'sudo du -x --inodes -d 3 {at} | sort -n | tail -n 20'"),
        ));
    }
    None
}

fn killed(health: &Health) -> Option<Finding> {
    let last = health.killed.last()?;
    let recent = health.now - last.at < RECENT_S;
    let ago = (health.now - last.at).max(0) / 60;
    let ago = match ago {
        0..=119 => format!("{ago} min ago"),
        _ => format!("{} h ago", ago / 60),
    };
    let unit = if last.unit.is_empty() { String::new() } else { format!(" of {}", last.unit) };
    let times = if health.killed.len() > 1 {
        format!(", {} in the last day", count(health.killed.len(), "time"))
    } else {
        String::new()
    };
    let fault = if recent { Fault::Memory } else { Fault::EarlierMemory };
    Some(
        Finding::new(
            fault,
            format!("a process{unit} was killed {ago}, as the kernel does when memory runs out{times}"),
            "fewer processes (`ship scale web=1`), or a server with more memory; `ship ps` shows who takes it",
        )
        .with([last.message.clone()]),
    )
}

fn clock(health: &Health, view: &View) -> Option<Finding> {
    let (before, after) = view.asked_s;
    // Whatever the server said between the two is right; beyond them, the nearer one counts.
    let ahead = health.now - health.now.clamp(before, after.max(before));
    if ahead.abs() <= CLOCK_S {
        return None;
    }
    let by = |seconds: i64| match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7140 => format!("{} min", (seconds + 30) / 60),
        7141..=171_000 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    };
    let which = if ahead > 0 { "ahead of" } else { "behind" };
    let what = format!("the server's clock is {} {which} this computer's", by(ahead.abs()));
    let mend = if health.synchronised {
        "the server follows a time server: set this computer's clock"
    } else {
        "ship ssh -- sudo timedatectl set-ntp true"
    };
    Some(Finding::new(Fault::Clock, what, mend))
}

fn packages(health: &Health) -> Option<Finding> {
    (!health.packages.is_empty()).then(|| {
        Finding::new(
            Fault::Packages,
            format!(
                "dpkg has left {} half-way: {}",
                count(health.packages.len(), "package"),
                health.packages.join(", ")
            ),
            "ship ssh -- 'sudo dpkg --configure -a && sudo apt-get -f -y install'",
        )
    })
}

fn database(config: &Config, health: &Health) -> Option<Finding> {
    let (name, unit) = match config.database {
        Database::Postgres => ("PostgreSQL", "postgresql"),
        Database::Mysql => ("MariaDB", "mariadb"),
        Database::Sqlite | Database::External => ("", ""),
    };
    let cluster = |one: &&HealthUnit| one.name.starts_with(&format!("{unit}@"));
    let log = |one: &HealthUnit| one.log.clone();
    if let (Some(why), false) = (&health.database, unit.is_empty()) {
        let log = health.units.iter().find(cluster).map(log).unwrap_or_default();
        return Some(
            Finding::new(
                Fault::Database,
                format!("{name} does not answer"),
                format!("ship ssh -- sudo systemctl restart {unit}"),
            )
            .with(std::iter::once(why.clone()).chain(log)),
        );
    }
    let django = health.django.as_ref()?;
    let (alias, why) = django.databases.iter().next()?;
    let place = format!("/etc/ship/{}/config/05-database.env", config.app);
    let mend = match config.database {
        // Without that file `up` sets the role's password anew, as the server keeps it.
        Database::Postgres | Database::Mysql => format!("ship ssh -- sudo rm {place} && ship up"),
        Database::Sqlite => "`ship up`; `ship db restore latest` brings a backup back".into(),
        Database::External => {
            "see `ship config get DATABASE_URL`, and whether its host lets this server in".into()
        }
    };
    Some(
        Finding::new(Fault::Database, format!("Django can't open its database `{alias}`"), mend)
            .with([why.clone()]),
    )
}

fn services(config: &Config, health: &Health) -> Vec<Finding> {
    let mut found = Vec::new();
    let wanted = |service: &Service| {
        config.services.contains_key(service)
            || config.playbooks.contains(&PlaybookRef::Builtin(service.name().into()))
    };
    for service in Service::ALL.iter().filter(|service| wanted(service)) {
        let (name, unit) = match service {
            Service::Redis => ("Redis", "redis-server"),
            Service::Memcached => ("memcached", "memcached"),
        };
        let state = health.units.iter().find(|one| one.name == format!("{unit}.service"));
        let silent = match service {
            Service::Redis => health.redis.clone(),
            Service::Memcached => None,
        };
        let runs = state.is_some_and(|one| one.state == "active");
        if runs && silent.is_none() {
            continue;
        }
        let what = match state {
            Some(one) if !runs => format!("{name} does not run: {unit}.service is {}", one.state),
            Some(_) => format!("{name} does not answer"),
            None => format!("{name} is not installed"),
        };
        let mend = if state.is_some() {
            format!("ship ssh -- sudo systemctl restart {unit}")
        } else {
            "ship up".into()
        };
        let log = state.map(|one| one.log.clone()).unwrap_or_default();
        found.push(Finding::new(Fault::Service, what, mend).with(silent).with(log));
    }
    found
}

fn nginx(health: &Health) -> Option<Finding> {
    let why = health.nginx.as_ref()?;
    Some(
        Finding::new(
            Fault::Nginx,
            "nginx would not start with its configuration, and takes no changes",
            "mend or remove that file (`ship ssh`); `ship up` puts ship's own back",
        )
        .with([why.clone()]),
    )
}

fn port(config: &Config, health: &Health) -> Option<Finding> {
    let app = &config.app;
    let strange = |listener: &&Listener| match listener.port {
        80 | 443 => listener.name != "nginx",
        // systemd holds the socket for the site's processes.
        _ => {
            listener.pid != 1
                && !listener.unit.starts_with(&format!("{app}@"))
                && listener.unit != format!("{app}.socket")
        }
    };
    let needed = |listener: &&Listener| listener.port != 443 || config.tls.is_on();
    let ours =
        |port: u16| health.listeners.iter().any(|listener| listener.port == port && !strange(&listener));
    let other = health
        .listeners
        .iter()
        .find(|listener| needed(listener) && strange(listener) && !ours(listener.port))?;
    let needs = if matches!(other.port, 80 | 443) { "nginx" } else { "the site" };
    let end = if other.unit.ends_with(".service") {
        format!("ship ssh -- sudo systemctl disable --now {}", other.unit)
    } else {
        format!("ship ssh -- sudo kill {}", other.pid)
    };
    Some(Finding::new(
        Fault::Port,
        format!("{} (process {}) has port {}, which {needs} needs", other.name, other.pid, other.port),
        format!("{end} && ship up"),
    ))
}

fn permissions(config: &Config, health: &Health) -> Vec<Finding> {
    let app = &config.app;
    health
        .permissions
        .iter()
        .map(|wrong| {
            let path = &wrong.path;
            let is = if wrong.is.is_empty() { String::new() } else { format!(" ({})", wrong.is) };
            let of_a_release =
                ["releases", "venvs"].iter().any(|part| path.starts_with(&format!("/srv/{app}/{part}")));
            let mend = match wrong.user.as_str() {
                "others" => format!("ship ssh -- sudo chmod o= {path}"),
                _ if of_a_release => "`ship up`; a release with other files: `ship rollback`".into(),
                // A folder that the playbook describes.
                _ => "ship up".into(),
            };
            Finding::new(Fault::Permissions, format!("{path}{is}: {}", wrong.what), mend)
        })
        .collect()
}

fn migrations(health: &Health) -> Option<Finding> {
    let django = health.django.as_ref()?;
    if !django.unapplied.is_empty() {
        return Some(Finding::new(
            Fault::Migration,
            format!("the database lacks {}", some(&django.unapplied)),
            "ship manage migrate",
        ));
    }
    let why = django.error.as_ref()?;
    Some(
        Finding::new(
            Fault::Site,
            "the live release's Django does not start",
            "`ship logs -n 50 --process web` shows more; `ship rollback` goes back to the release before",
        )
        .with([why.clone()]),
    )
}

/// A few of many.
fn some(names: &[String]) -> String {
    const MOST: usize = 4;
    match names.get(..MOST) {
        Some(first) if names.len() > MOST => {
            format!("{} and {} more", first.join(", "), names.len() - MOST)
        }
        _ => names.join(", "),
    }
}

fn processes(config: &Config, facts: &Facts, health: &Health) -> Vec<Finding> {
    let app = &config.app;
    let mut found = Vec::new();
    if let Some(front) = health.units.iter().find(|unit| unit.name == "nginx.service" && !is_up(unit)) {
        let mend = "ship ssh -- sudo systemctl restart nginx";
        found.push(
            Finding::new(Fault::Process, format!("nginx does not run: it is {}", front.state), mend)
                .with(front.log.clone()),
        );
    }
    let Some(number) = facts.app.current else { return found };
    let socket = format!("{app}.socket");
    if health.units.iter().any(|unit| unit.name == socket && !is_up(unit)) {
        let what = format!("{socket} does not run: nobody listens where nginx sends requests");
        found.push(Finding::new(Fault::Process, what, "ship up"));
    }
    for name in instances(config, number) {
        let process = match name.split_once('@') {
            Some((unit, _)) => unit.strip_prefix(&format!("{app}-")).unwrap_or("web"),
            None => "web",
        };
        let unit = health.units.iter().find(|unit| unit.name == name);
        let Some(what) = trouble(unit) else { continue };
        let mend = match unit {
            Some(unit) if unit.state != "inactive" => format!(
                "`ship logs -n 50 --process {process}` shows why, `ship restart {process}` tries again, `ship rollback` goes back"
            ),
            _ => "ship up".into(),
        };
        found.push(
            Finding::new(Fault::Process, format!("{process} {what} ({name})"), mend)
                .with(unit.map(|unit| unit.log.clone()).unwrap_or_default()),
        );
    }
    for unit in &health.units {
        let job = unit.name.strip_prefix(&format!("{app}-job-"));
        if let (Some(job), "failed") = (job, unit.state.as_str()) {
            let job = job.rsplit_once('.').map_or(job, |(name, _)| name);
            found.push(
                Finding::new(
                    Fault::Process,
                    format!("the job {job} {}", ended(unit)),
                    format!(
                        "`ship logs -n 50 --process job-{job}` shows why; it runs again at its next time"
                    ),
                )
                .with(unit.log.clone()),
            );
        }
    }
    found
}

fn is_up(unit: &HealthUnit) -> bool {
    matches!(unit.state.as_str(), "active" | "reloading")
}

/// What is wrong with a process of the site.
fn trouble(unit: Option<&HealthUnit>) -> Option<String> {
    let Some(unit) = unit else { return Some("does not run: its unit is not there".into()) };
    let looping = unit.sub == "auto-restart"
        || (unit.restarts >= LOOP && unit.for_s.is_some_and(|seconds| seconds < 60));
    if looping {
        let times = count(usize::try_from(unit.restarts).unwrap_or(usize::MAX), "restart");
        return Some(format!("{}, again and again: {times}", ended(unit)));
    }
    match unit.state.as_str() {
        "active" | "activating" | "reloading" => None,
        "failed" => Some(ended(unit)),
        state => Some(format!("does not run: it is {state}")),
    }
}

fn ended(unit: &HealthUnit) -> String {
    match unit.result.as_str() {
        "exit-code" => format!("ended with exit code {}", unit.status),
        "signal" | "core-dump" => format!("was ended by signal {}", unit.status),
        "oom-kill" => "was killed for want of memory".into(),
        "timeout" => "took too long".into(),
        "success" | "" => "ends by itself".into(),
        other => format!("failed ({other})"),
    }
}

fn site(health: &Health) -> Option<Finding> {
    let answer = health.answer.as_ref()?;
    let what = match (answer.status, &answer.error) {
        (Some(status @ (502..=504)), _) => {
            format!("nginx gets no answer from the site: it says {status}")
        }
        (Some(status @ (400 | 500..)), _) => format!("the site answers with {status}"),
        (Some(_), _) => return None,
        (None, why) => {
            let why = why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("nobody answers at port 80 on the server itself{why}")
        }
    };
    let mend = "`ship logs -n 50` shows why; `ship rollback` goes back to the release before";
    Some(Finding::new(Fault::Site, what, mend))
}

fn firewall(health: &Health, view: &View) -> Vec<Finding> {
    let closed = [(80, &view.closed, "http"), (443, &view.https_closed, "https")];
    let finding = |(port, why, service): (u16, &Option<String>, &str)| {
        let why = why.as_ref()?;
        // What nobody answers on the server itself, no firewall hides.
        let answers = match port {
            80 => health.answer.as_ref()?.status.is_some(),
            _ => health.listeners.iter().any(|listener| listener.port == port),
        };
        if !answers {
            return None;
        }
        let mend = match health.firewall.as_deref() {
            Some("ufw") => format!("ship ssh -- sudo ufw allow {port}/tcp"),
            Some(_) => {
                "open it in the server's packet filter (`ship ssh -- sudo nft list ruleset`) or its provider's"
                    .to_owned()
            }
            None => format!("open port {port} ({service}) in the firewall of the server's provider"),
        };
        Some(Finding::new(
            Fault::Firewall,
            format!("port {port} is closed between here and the server, which itself gets an answer: {why}"),
            mend,
        ))
    };
    closed.into_iter().filter_map(finding).collect()
}

/// What stands between visitors and HTTPS, but for what is wrong with the names themselves.
fn certificate(config: &Config, facts: &Facts, view: &View) -> Vec<Finding> {
    // Before the first release there is nothing to visit.
    if facts.app.current.is_none() {
        return Vec::new();
    }
    let state = &view.tls;
    let told = |what: String, mend: &str| Finding::new(Fault::Certificate, what, mend);
    let mut found = Vec::new();
    if state.is_broken() {
        found.push(told(format!("the certificate {}", state.line()), "ship up"));
    } else if let Some((_, why)) = &state.due {
        found.push(told(format!("another certificate is due: {why}"), "ship up"));
    }
    found.extend(state.troubles().into_iter().map(|(what, mend)| told(what, &mend)));
    let astray = |name: &String| view.astray.iter().any(|(astray, _)| astray == name);
    let waiting = state.waiting.iter().filter(|waiting| !astray(&waiting.name));
    found.extend(waiting.map(|waiting| {
        told(
            format!("no certificate yet: {}", waiting.text()),
            "set its record where its DNS is kept, then: ship up",
        )
    }));
    let renewed = facts.units.get("certbot.timer").is_some_and(|unit| unit.active);
    if matches!(config.tls.origin, Origin::Acme(_)) && state.leaf.is_some() && !renewed {
        found.push(told("nothing renews the certificate: certbot.timer does not run".into(), "ship up"));
    }
    found
}

fn names(config: &Config, view: &View) -> Vec<Finding> {
    view.astray
        .iter()
        .map(|(domain, leads)| {
            let kind = if view.address.contains(':') { "AAAA" } else { "A" };
            let mend = if config.dns.host.is_some() {
                "ship up".to_owned()
            } else {
                format!("set the record {domain} {kind} {} where its DNS is kept, unless a proxy of yours answers there", view.address)
            };
            Finding::new(Fault::Dns, format!("{domain} does not lead to this server: {leads}"), mend)
        })
        .collect()
}

fn backups(config: &Config, facts: &Facts) -> Vec<Finding> {
    let Some(wanted) = &config.backups else { return Vec::new() };
    let complaints =
        facts.backups.complaints(&config.app, wanted.drill.is_some(), wanted.store != Store::Server);
    complaints.into_iter().map(|one| Finding::new(Fault::Backups, one.what, one.mend)).collect()
}

/// Units of the server that are nothing of ship's.
fn units(health: &Health) -> Vec<Finding> {
    let known = ["nginx.", "postgresql", "mariadb.", "redis-server.", "memcached."];
    let strange = |unit: &&HealthUnit| {
        unit.state == "failed" && !unit.own && !known.iter().any(|name| unit.name.starts_with(name))
    };
    health
        .units
        .iter()
        .filter(strange)
        .map(|unit| {
            Finding::new(
                Fault::Unit,
                format!("{} {}", unit.name, ended(unit)),
                format!("ship ssh -- sudo systemctl restart {}", unit.name),
            )
            .with(unit.log.clone())
        })
        .collect()
}

fn drift(view: &View) -> Option<Finding> {
    const MOST: usize = 6;
    (!view.drift.is_empty()).then(|| {
        let more = view.drift.len().saturating_sub(MOST);
        let rest = (more > 0).then(|| format!("and {more} more"));
        Finding::new(
            Fault::Drift,
            format!("the server is not as ship.yml says: {} to make", count(view.drift.len(), "change")),
            "`ship plan` shows the differences, `ship up` makes it so",
        )
        .with(view.drift.iter().take(MOST).cloned().chain(rest))
    })
}

/// For a person: the most likely cause, then the rest. `paint` gets the parameter of a colour's escape sequence and a text.
pub fn text(found: &[Finding], paint: impl Fn(&str, &str) -> String) -> String {
    let mut out = String::new();
    for (index, finding) in found.iter().enumerate() {
        if index == 1 {
            out.push_str("\nAlso, perhaps because of it:\n\n");
        }
        let _ = writeln!(out, "{}", paint("31", &format!("✗ {}", finding.what)));
        for line in &finding.evidence {
            let _ = writeln!(out, "{}", paint("2", &format!("    {line}")));
        }
        let _ = writeln!(out, "  → {}", paint("1", &finding.mend));
    }
    out
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
