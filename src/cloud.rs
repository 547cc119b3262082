//! A server in a cloud as data: what `ship.yml` wants, what the cloud has, and the acts that lead from one to the other.
//!
//! The two clouds differ in words and calls, not in this. Invariant: nothing is found by a file on this computer; what
//! ship made carries its owner's tag, and the clouds' answers are the only state.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::{CloudServer, Config, DigitalOceanServer, Ec2Server, Server as Place};
use crate::plan::{Action, Change, ResourceId};

/// Whose a resource is: the application and its environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The application.
    pub app: String,
    /// The environment; `default` without one.
    pub environment: String,
}

impl Owner {
    /// The owner that a configuration speaks for.
    pub fn of(config: &Config) -> Self {
        Self {
            app: config.app.clone(),
            environment: config.environment.clone().unwrap_or_else(|| "default".into()),
        }
    }

    /// The host name of its server: `library`, `library-staging`.
    pub fn host_name(&self) -> String {
        match self.environment.as_str() {
            "default" => self.app.clone(),
            environment => format!("{}-{environment}", self.app),
        }
    }

    /// A name that no other owner has, for what must be unique in an account: `ship.library.default`.
    pub fn unique_name(&self) -> String {
        format!("ship.{}.{}", self.app, self.environment)
    }
}

/// The value of the tag `ship`: `library/default`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.environment)
    }
}

/// What one kind of cloud calls its things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// `DigitalOcean`.
    pub cloud: &'static str,
    /// `droplet`.
    pub server: &'static str,
    /// `firewall`.
    pub firewall: &'static str,
    /// `reserved IP`.
    pub address: &'static str,
    /// `SSH key`.
    pub key: &'static str,
    /// `volume`.
    pub volume: &'static str,
}

/// DigitalOcean's words.
pub const DIGITALOCEAN: Words = Words {
    cloud: "DigitalOcean",
    server: "droplet",
    firewall: "firewall",
    address: "reserved IP",
    key: "SSH key",
    volume: "volume",
};

/// EC2's words.
pub const EC2: Words = Words {
    cloud: "EC2",
    server: "instance",
    firewall: "security group",
    address: "elastic IP",
    key: "key pair",
    volume: "volume",
};

/// What a firewall rule lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// TCP to a port.
    Tcp(u16),
    /// ping, and what path MTU discovery needs.
    Icmp,
    /// Anything else that a rule made by hand lets in, as the cloud words it.
    Other(OtherTraffic),
}

/// A protocol and a range of ports that ship never asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherTraffic {
    /// Whether it is UDP; otherwise TCP, or all protocols when `all`.
    pub udp: bool,
    /// All protocols.
    pub all: bool,
    /// The first port.
    pub from: u16,
    /// The last port.
    pub to: u16,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Traffic::Tcp(port) => write!(f, "tcp {port}"),
            Traffic::Icmp => f.write_str("icmp"),
            Traffic::Other(OtherTraffic { all: true, .. }) => f.write_str("anything"),
            Traffic::Other(other) => {
                let protocol = if other.udp { "udp" } else { "tcp" };
                write!(f, "{protocol} {}-{}", other.from, other.to)
            }
        }
    }
}

/// One thing that a firewall lets in from one network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// What.
    pub traffic: Traffic,
    /// A network in CIDR notation; or what else a rule made by hand names, as the cloud words it.
    pub source: String,
}

impl Rule {
    /// A rule.
    pub fn new(traffic: Traffic, source: impl Into<String>) -> Self {
        Self { traffic, source: source.into() }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.traffic, self.source)
    }
}

/// What can be switched on and off, or set, at a server that runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The cloud's own backups of the disk.
    pub backups: bool,
    /// An IPv6 address. Clouds can add one, not take it away.
    pub ipv6: bool,
    /// Whether the cloud refuses to destroy the server.
    pub protected: bool,
    /// The user's own tags; the value is empty where tags have none.
    pub labels: BTreeMap<String, String>,
    /// The project it is shown under, by name or id; `None` where there are none or nobody asked.
    pub project: Option<String>,
}

/// What there should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Whose it is.
    pub owner: Owner,
    /// The cloud's words.
    pub words: Words,
    /// Region; `None` is the environment's or the profile's.
    pub region: Option<String>,
    /// Size.
    pub size: String,
    /// Image, as written.
    pub image: String,
    /// Size of the root disk in GiB where it is asked for; elsewhere the size decides.
    pub disk_gb: Option<u32>,
    /// The network the server is in; `None` is the default one.
    pub network: Option<String>,
    /// The part of that network.
    pub subnet: Option<String>,
    /// The cloud's metrics agent.
    pub monitoring: bool,
    /// What can change at any time.
    pub settings: Settings,
    /// What the firewall lets in.
    pub rules: BTreeSet<Rule>,
    /// Whether the server has an address that stays.
    pub fixed_address: bool,
    /// Size of the data volume in GiB.
    pub volume_gb: Option<u32>,
    /// Login name of the user who deploys.
    pub user: String,
    /// That user's public key, an `authorized_keys` line.
    pub public_key: String,
}

impl Wish {
    /// What the configuration wants, if it wants a cloud server. `public_key` is an `authorized_keys` line.
    pub fn of(config: &Config, public_key: &str) -> Option<Self> {
        match &config.server {
            Place::DigitalOcean(droplet) => Some(Self::droplet(config, droplet, public_key)),
            Place::Ec2(instance) => Some(Self::instance(config, instance, public_key)),
            Place::Ssh(_) | Place::Vagrant(_) => None,
        }
    }

    /// Whether the account is given the public key, too: EC2 takes Ed25519 and RSA keys only.
    pub fn shares_key(&self) -> bool {
        self.words != EC2 || ["ssh-ed25519 ", "ssh-rsa "].iter().any(|kind| self.public_key.starts_with(kind))
    }

    fn droplet(config: &Config, droplet: &DigitalOceanServer, public_key: &str) -> Self {
        Self {
            region: Some(droplet.region.clone()),
            network: droplet.vpc.clone(),
            monitoring: droplet.monitoring,
            settings: Settings {
                backups: droplet.backups,
                ipv6: droplet.ipv6,
                protected: false,
                labels: droplet.tags.iter().map(|tag| (tag.clone(), String::new())).collect(),
                project: droplet.project.clone(),
            },
            ..Self::common(config, &droplet.common, public_key, DIGITALOCEAN)
        }
    }

    fn instance(config: &Config, instance: &Ec2Server, public_key: &str) -> Self {
        Self {
            region: instance.region.clone(),
            network: instance.vpc.clone(),
            subnet: instance.subnet.clone(),
            disk_gb: Some(instance.disk_gb),
            settings: Settings {
                protected: instance.termination_protection,
                labels: instance.tags.clone(),
                ..Settings::default()
            },
            ..Self::common(config, &instance.common, public_key, EC2)
        }
    }

    fn common(config: &Config, server: &CloudServer, public_key: &str, words: Words) -> Self {
        Self {
            owner: Owner::of(config),
            words,
            region: None,
            size: server.size.clone(),
            image: server.image.clone(),
            disk_gb: None,
            network: None,
            subnet: None,
            monitoring: false,
            settings: Settings::default(),
            rules: rules(&server.ssh_from),
            fixed_address: server.fixed_address,
            volume_gb: server.volume_gb,
            user: server.user.clone(),
            public_key: public_key.into(),
        }
    }
}

/// SSH from where the user says, the site from anywhere, nothing else.
fn rules(ssh_from: &[String]) -> BTreeSet<Rule> {
    const ANYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];
    let site = [Traffic::Tcp(80), Traffic::Tcp(443), Traffic::Icmp]
        .into_iter()
        .flat_map(|traffic| ANYWHERE.map(|source| Rule::new(traffic, source)));
    site.chain(ssh_from.iter().map(|source| Rule::new(Traffic::Tcp(22), source))).collect()
}

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made or powered on just now.
    Starting,
    /// It runs.
    Running,
    /// On its way to being stopped.
    Stopping,
    /// Powered off.
    Stopped,
}

/// The public half of a host key as it stands in a tag: the 32 bytes of an Ed25519 key in lower-case hex.
pub type KeyHex = String;

/// A server that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The cloud's id.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// Region.
    pub region: String,
    /// Size.
    pub size: String,
    /// The image it was made from, as the configuration named it then.
    pub image: Option<String>,
    /// Size of the root disk in GiB where the cloud tells it.
    pub disk_gb: Option<u32>,
    /// The network it is in.
    pub network: Option<String>,
    /// The part of that network.
    pub subnet: Option<String>,
    /// Its public addresses.
    pub ipv4: Option<Ipv4Addr>,
    /// Its public IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The host key it was born with, as long as that is still in use: the metadata service knows it.
    pub birth_key: Option<KeyHex>,
    /// The host key it has made itself.
    pub host_key: Option<KeyHex>,
    /// What can change at any time.
    pub settings: Settings,
}

/// A firewall that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The cloud's id.
    pub id: String,
    /// What it lets in.
    pub rules: BTreeSet<Rule>,
    /// Whether it is in front of the server; while there is none, whether it will be in front of the next.
    pub applied: bool,
}

/// An address that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The cloud's id.
    pub id: String,
    /// The address.
    pub ip: Ipv4Addr,
    /// The server it leads to.
    pub server: Option<String>,
    /// Whether it carries its owner's tag, and so is found without a server that it leads to.
    pub tagged: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The cloud's id.
    pub id: String,
    /// Size in GiB.
    pub size_gb: u32,
    /// The server it is attached to.
    pub server: Option<String>,
    /// Where the server finds it: a path below `/dev/disk/by-id`.
    pub device: String,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The server.
    pub server: Option<Server>,
    /// The id of the account's key with the user's public key.
    pub key: Option<String>,
    /// The firewall.
    pub firewall: Option<Firewall>,
    /// The address.
    pub address: Option<Address>,
    /// The volume.
    pub volume: Option<Volume>,
}

impl Found {
    /// Where the server is reached.
    pub fn reachable_at(&self) -> Option<Ipv4Addr> {
        let server = self.server.as_ref()?;
        let fixed = self.address.as_ref().filter(|address| address.server.as_ref() == Some(&server.id));
        fixed.map(|address| address.ip).or(server.ipv4)
    }
}

/// What a size is.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote {
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Processors.
    pub cores: u32,
    /// Price a month, `6.00 USD`, where the cloud's API tells it.
    pub monthly: Option<String>,
    /// Why the server that is there can't take this size, if it can't: only another server could.
    pub obstacle: Option<String>,
}

/// One call, or a few that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Gives the account the user's public key.
    AddKey,
    /// Makes the firewall.
    AddFirewall,
    /// Sets the firewall's rules and what it stands in front of.
    SetFirewall,
    /// Makes the server and waits until it runs.
    CreateServer,
    /// Powers it on, and waits until it runs. One that is starting already is only waited for.
    StartServer,
    /// Powers it off, gives it another size, powers it on.
    Resize,
    /// Takes an address and leads it to the server.
    AddAddress,
    /// Leads the address to the server, and sees to its tag.
    AttachAddress,
    /// Gives the address back.
    RemoveAddress,
    /// Makes the volume and attaches it.
    AddVolume,
    /// Attaches it.
    AttachVolume,
    /// Makes it larger.
    GrowVolume,
    /// Sets one of the settings that can change at any time.
    Set(Setting),
    /// Destroys the server, to make another.
    DestroyServer,
}

/// A setting, with its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The cloud's own backups.
    Backups(bool),
    /// An IPv6 address.
    Ipv6,
    /// Protection against being destroyed.
    Protected(bool),
    /// A tag of the user's.
    Label(String, String),
    /// The project.
    Project(String),
}

/// A change in the cloud: as the plan shows it, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// As the plan shows it.
    pub change: Change,
    /// What it takes.
    pub act: Act,
}

/// Everything to do in the cloud, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The changes.
    pub steps: Vec<Step>,
    /// Why the server would have to be replaced: `server.image: debian-12 → debian-13`.
    pub replaces: Vec<String>,
}

/// Compares. With `replace`, what can't change in place is done by another server instead of being left.
pub fn plan(wish: &Wish, found: &Found, quote: Option<&Quote>, replace: bool) -> Plan {
    let replaces = replacements(wish, found, quote);
    let words = &wish.words;
    let name = wish.owner.host_name();
    let replaced = replace && !replaces.is_empty();
    let server = found.server.as_ref().filter(|_| !replaced);
    let mut steps = Vec::new();
    let mut step = |kind: &'static str, name: &str, action, why: String, diff: Option<String>, act| {
        let mut change = Change::new(ResourceId::new(kind, name), action, why, Vec::new());
        change.diff = diff;
        steps.push(Step { change, act });
    };
    if wish.shares_key() && found.key.is_none() && server.is_none() {
        let comment = wish.public_key.split_whitespace().nth(2).unwrap_or("your public key");
        step(words.key, comment, Action::Create, "the account doesn't have it".into(), None, Act::AddKey);
    }
    let unique = wish.owner.unique_name();
    match &found.firewall {
        None => {
            let diff = wish.rules.iter().map(|rule| format!("+{rule}\n")).collect();
            step(words.firewall, &unique, Action::Create, "is missing".into(), Some(diff), Act::AddFirewall);
        }
        Some(firewall) => {
            let gone = firewall.rules.difference(&wish.rules).map(|rule| format!("-{rule}\n"));
            let missing = wish.rules.difference(&firewall.rules).map(|rule| format!("+{rule}\n"));
            let diff: String = gone.chain(missing).collect();
            if !diff.is_empty() {
                step(
                    words.firewall,
                    &unique,
                    Action::Update,
                    "its rules differ".into(),
                    Some(diff),
                    Act::SetFirewall,
                );
            } else if !firewall.applied && (server.is_some() || found.server.is_none()) {
                let why = format!("is not in front of the {}", words.server);
                step(words.firewall, &unique, Action::Update, why, None, Act::SetFirewall);
            }
        }
    }
    if replaced {
        let why = format!("another takes its place ({})", replaces.join(", "));
        step(words.server, &name, Action::Remove, why, None, Act::DestroyServer);
    }
    match server {
        None => {
            let diff = describe(wish, quote);
            step(words.server, &name, Action::Create, summary(wish, quote), Some(diff), Act::CreateServer);
        }
        Some(server) => {
            let fits = quote.is_none_or(|quote| quote.obstacle.is_none());
            if server.size != wish.size && fits {
                let price = quote.and_then(|quote| quote.monthly.as_ref());
                let price = price.map(|price| format!("; {price} a month")).unwrap_or_default();
                let why = format!(
                    "size {} → {}; it is powered off for a few minutes{price}",
                    server.size, wish.size
                );
                step(words.server, &name, Action::Update, why, None, Act::Resize);
            } else if server.state != State::Running {
                let why = match server.state {
                    State::Starting => "is still starting".to_string(),
                    State::Running | State::Stopping | State::Stopped => "is powered off".to_string(),
                };
                step(words.server, &name, Action::Start, why, None, Act::StartServer);
            }
        }
    }
    let server_id = server.map(|server| &server.id);
    let moved = replaced && replaces.iter().any(|reason| reason.starts_with("server.region:"));
    match (&found.address, wish.fixed_address) {
        (Some(address), true) if moved => {
            let why = "an address stays in its region".to_string();
            step(
                words.address,
                &address.ip.to_string(),
                Action::Remove,
                why.clone(),
                None,
                Act::RemoveAddress,
            );
            step(words.address, &name, Action::Create, why, None, Act::AddAddress);
        }
        (None, true) => {
            let why = "so that the address stays when the server doesn't".to_string();
            step(words.address, &name, Action::Create, why, None, Act::AddAddress);
        }
        (Some(address), true) if address.server.as_ref() != server_id || server_id.is_none() => {
            let why = format!("does not lead to the {}", words.server);
            step(words.address, &address.ip.to_string(), Action::Update, why, None, Act::AttachAddress);
        }
        (Some(address), true) if !address.tagged => {
            let why = "has no tag that says whose it is".to_string();
            step(words.address, &address.ip.to_string(), Action::Update, why, None, Act::AttachAddress);
        }
        (Some(address), false) => {
            let why = "is not wanted any more".to_string();
            step(words.address, &address.ip.to_string(), Action::Remove, why, None, Act::RemoveAddress);
        }
        (Some(_), true) | (None, false) => {}
    }
    match (&found.volume, wish.volume_gb) {
        (None, Some(size)) => {
            step(words.volume, &unique, Action::Create, format!("{size} GiB"), None, Act::AddVolume);
        }
        (Some(volume), Some(size)) => {
            if volume.size_gb < size {
                let why = format!("{} → {size} GiB", volume.size_gb);
                step(words.volume, &unique, Action::Update, why, None, Act::GrowVolume);
            }
            if volume.server.as_ref() != server_id || server_id.is_none() {
                let why = format!("is not attached to the {}", words.server);
                step(words.volume, &unique, Action::Update, why, None, Act::AttachVolume);
            }
        }
        // A volume holds data: it goes with `ship destroy` only.
        (Some(_) | None, None) => {}
    }
    if let Some(server) = server {
        for (setting, why) in settings(&wish.settings, &server.settings) {
            step(words.server, &name, Action::Update, why, None, Act::Set(setting));
        }
    }
    Plan { steps, replaces }
}

/// What can't change in place.
fn replacements(wish: &Wish, found: &Found, quote: Option<&Quote>) -> Vec<String> {
    let Some(server) = &found.server else { return Vec::new() };
    let mut reasons = Vec::new();
    let mut compare = |key: &str, want: Option<&str>, have: Option<&str>| {
        if let (Some(want), Some(have)) = (want, have)
            && want != have
        {
            reasons.push(format!("server.{key}: {have} → {want}"));
        }
    };
    compare("region", wish.region.as_deref(), Some(&server.region));
    compare("image", Some(&wish.image), server.image.as_deref());
    let disk = |size: Option<u32>| size.map(|size| size.to_string());
    compare("disk", disk(wish.disk_gb).as_deref(), disk(server.disk_gb).as_deref());
    compare("vpc", wish.network.as_deref(), server.network.as_deref());
    compare("subnet", wish.subnet.as_deref(), server.subnet.as_deref());
    if let Some(obstacle) = quote.and_then(|quote| quote.obstacle.as_ref()) {
        reasons.push(format!("server.size: {obstacle}"));
    }
    if server.settings.ipv6 && !wish.settings.ipv6 {
        reasons.push("server.ipv6: true → false".into());
    }
    reasons
}

/// `s-1vcpu-1gb in fra1, debian-12, 6.00 USD a month`.
fn summary(wish: &Wish, quote: Option<&Quote>) -> String {
    let region = wish.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
    let price = quote.and_then(|quote| quote.monthly.as_ref());
    let price = price.map(|price| format!(", {price} a month")).unwrap_or_default();
    format!("{}{region}, {}{price}", wish.size, wish.image)
}

fn describe(wish: &Wish, quote: Option<&Quote>) -> String {
    let mut lines = Vec::new();
    if let Some(region) = &wish.region {
        lines.push(format!("region {region}"));
    }
    lines.push(match quote {
        Some(quote) => {
            let gib = quote.memory_mb as f64 / 1024.0;
            let price = quote.monthly.as_ref().map(|price| format!(", {price} a month")).unwrap_or_default();
            format!("size {}: {} cores, {gib:.1} GiB memory{price}", wish.size, quote.cores)
        }
        None => format!("size {}", wish.size),
    });
    lines.push(format!("image {}", wish.image));
    if let Some(disk) = wish.disk_gb {
        lines.push(format!("disk {disk} GiB"));
    }
    if wish.settings.backups {
        lines.push("backups, at extra cost".into());
    }
    lines.push(format!("user {} with your key, no root login, no passwords", wish.user));
    lines.into_iter().map(|line| format!("+{line}\n")).collect()
}

fn settings(want: &Settings, have: &Settings) -> Vec<(Setting, String)> {
    let mut changes = Vec::new();
    let switch = |on: bool| if on { "on" } else { "off" };
    if want.backups != have.backups {
        changes.push((Setting::Backups(want.backups), format!("backups {}", switch(want.backups))));
    }
    if want.ipv6 && !have.ipv6 {
        changes.push((Setting::Ipv6, "an IPv6 address".into()));
    }
    if want.protected != have.protected {
        let why = format!("termination protection {}", switch(want.protected));
        changes.push((Setting::Protected(want.protected), why));
    }
    for (name, value) in &want.labels {
        if have.labels.get(name) != Some(value) {
            let shown = if value.is_empty() { name.clone() } else { format!("{name}={value}") };
            changes.push((Setting::Label(name.clone(), value.clone()), format!("tag {shown}")));
        }
    }
    if let Some(project) = &want.project
        && have.project.as_ref() != Some(project)
    {
        changes.push((Setting::Project(project.clone()), format!("project {project}")));
    }
    changes
}

/// Something in an account that carries the owner's tag or name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thing {
    /// What it is.
    pub kind: ThingKind,
    /// The cloud's id.
    pub id: String,
    /// What a person recognises it by: a name, an address, a size.
    pub label: String,
    /// Addresses that lead to it, if it is a server or an address.
    pub addresses: Vec<IpAddr>,
}

/// Kinds of things, in the order in which they are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThingKind {
    /// A server.
    Server,
    /// An address that stays.
    Address,
    /// A volume.
    Volume,
    /// A firewall.
    Firewall,
    /// A key that ship gave to the account.
    Key,
    /// A tag that exists by itself.
    Tag,
}

impl ThingKind {
    /// What the cloud calls it.
    pub fn word(self, words: &Words) -> &'static str {
        match self {
            ThingKind::Server => words.server,
            ThingKind::Address => words.address,
            ThingKind::Volume => words.volume,
            ThingKind::Firewall => words.firewall,
            ThingKind::Key => words.key,
            ThingKind::Tag => "tag",
        }
    }
}

/// Things that cost money or stand in the way although no server needs them, and why they are that.
pub fn leftovers(things: &[Thing]) -> Vec<(&Thing, String)> {
    let servers = things.iter().filter(|thing| thing.kind == ThingKind::Server).count();
    let mut left = Vec::new();
    let mut seen: BTreeSet<ThingKind> = BTreeSet::new();
    for thing in things.iter().filter(|thing| thing.kind != ThingKind::Tag) {
        let again = !seen.insert(thing.kind);
        match thing.kind {
            ThingKind::Server if servers > 1 => {
                left.push((thing, format!("one of {servers} with the same tag, and there should be one")));
            }
            ThingKind::Server | ThingKind::Tag => {}
            ThingKind::Address | ThingKind::Volume | ThingKind::Firewall | ThingKind::Key => {
                if servers == 0 {
                    left.push((thing, "there is no server that it is for".to_owned()));
                } else if again {
                    left.push((thing, "there is more than one of them".to_owned()));
                }
            }
        }
    }
    left
}

#[cfg(test)]
pub(crate) mod tests;
