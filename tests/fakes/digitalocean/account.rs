//! What an account has, as data, and how it shows on the wire.
//!
//! Invariant: nothing here answers a request or waits for anything; what takes time is an [`Action`] that a look at it
//! brings forward, and what a real server must do for it is [`Work`] that someone else does.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::catalog::{self, Size};

/// An SSH key.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Number.
    pub id: u64,
    /// MD5 of the key, as colon-separated hex.
    pub fingerprint: String,
    /// Whatever its owner called it; several may have the same.
    pub name: String,
    /// As uploaded.
    pub public_key: String,
}

/// Whether a droplet runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Being made; it has no addresses yet.
    New,
    /// Running.
    Active,
    /// Shut down or switched off.
    Off,
}

/// A droplet.
#[derive(Debug, Clone, PartialEq)]
pub struct Droplet {
    /// Number.
    pub id: u64,
    /// Not unique.
    pub name: String,
    /// `fra1`
    pub region: String,
    /// `s-1vcpu-1gb`
    pub size: String,
    /// Gigabytes; a resize may leave it smaller than the size's.
    pub disk: u64,
    /// `debian-12-x64`
    pub image: String,
    /// In the order that they were added.
    pub tags: Vec<String>,
    /// The numbers of the keys that it was made with.
    pub ssh_keys: Vec<u64>,
    /// Exactly as sent.
    pub user_data: Option<String>,
    /// Whether backups are made of it.
    pub backups: bool,
    /// Whether it has an IPv6 address once it runs.
    pub ipv6: bool,
    /// Whether the metrics agent was asked for.
    pub monitoring: bool,
    /// Whether the console's agent was asked for, if anything was said.
    pub with_droplet_agent: Option<bool>,
    /// The network that it is in.
    pub vpc: String,
    /// Whether it runs.
    pub status: Status,
    /// When it was made.
    pub created_at: String,
    /// Its own public address, from the time when it runs.
    pub address: Option<Ipv4Addr>,
}

impl Droplet {
    /// Its IPv6 address, of the range for documentation: nothing answers there.
    pub fn ipv6_address(&self) -> Option<Ipv6Addr> {
        let [high, low] = [(self.id >> 16) as u16, self.id as u16];
        (self.ipv6 && self.address.is_some()).then(|| Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, high, low))
    }
}

/// A firewall. Its rules are kept as they were sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Firewall {
    /// UUID.
    pub id: String,
    /// Unique in the account.
    pub name: String,
    /// What may come in.
    pub inbound_rules: Vec<Value>,
    /// What may go out.
    pub outbound_rules: Vec<Value>,
    /// Droplets that it is for, by number.
    pub droplet_ids: Vec<u64>,
    /// Droplets that it is for, by tag.
    pub tags: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// Looks until it is in force everywhere.
    pub pending: u32,
}

/// A reserved address.
#[derive(Debug, Clone, PartialEq)]
pub struct ReservedIp {
    /// The address, which is also how it is known.
    pub ip: Ipv4Addr,
    /// Where it can be used.
    pub region: String,
    /// Which droplet has it.
    pub droplet: Option<u64>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// UUID.
    pub id: String,
    /// Unique in its region.
    pub name: String,
    /// Where it is.
    pub region: String,
    /// Gigabytes.
    pub size: u64,
    /// Free text.
    pub description: String,
    /// `ext4`, `xfs`, or nothing.
    pub filesystem_type: String,
    /// The file system's label.
    pub filesystem_label: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The one droplet that has it.
    pub droplet: Option<u64>,
    /// When it was made.
    pub created_at: String,
}

/// A project: a drawer for resources.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// UUID.
    pub id: String,
    /// Unique in the account.
    pub name: String,
    /// Whether new resources go there.
    pub is_default: bool,
    /// URNs (`do:droplet:123`) and when each was assigned.
    pub resources: Vec<(String, String)>,
    /// When it was made.
    pub created_at: String,
}

/// A private network.
#[derive(Debug, Clone, PartialEq)]
pub struct Vpc {
    /// UUID.
    pub id: String,
    /// `default-fra1`
    pub name: String,
    /// Where it is.
    pub region: String,
    /// CIDR.
    pub ip_range: String,
    /// When it was made.
    pub created_at: String,
}

/// A DNS zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// `example.com`
    pub name: String,
    /// Its records, SOA and NS included.
    pub records: Vec<Record>,
}

/// A DNS record. Empty fields are `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// Number.
    pub id: u64,
    /// A, AAAA, CNAME…
    pub kind: String,
    /// Relative to the domain; `@` is the domain itself.
    pub name: String,
    /// What it says; names without their final dot.
    pub data: String,
    /// Seconds.
    pub ttl: u64,
    /// Of MX and SRV.
    pub priority: Option<u64>,
    /// Of SRV.
    pub port: Option<u64>,
    /// Of SRV.
    pub weight: Option<u64>,
    /// Of CAA.
    pub flags: Option<u64>,
    /// Of CAA.
    pub tag: Option<String>,
}

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A droplet, by number.
    Droplet(u64),
    /// A reserved address.
    Ip(Ipv4Addr),
    /// A volume: the first 64 bits of its UUID.
    Volume(u64),
}

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Done after that many more looks, and when its work is done.
    Going(u32),
    /// Done.
    Completed,
    /// Failed.
    Errored,
}

/// What an action changes when it completes.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The droplet runs.
    Run,
    /// The droplet is off.
    Off,
    /// The droplet has another size, and its disk too if so.
    Resize(String, bool),
    /// Backups on or off.
    Backups(bool),
    /// The droplet has an IPv6 address.
    Ipv6,
    /// The reserved address belongs to that droplet, or to none.
    Assign(Option<u64>),
    /// The volume belongs to that droplet, or to none.
    Attach(Option<u64>),
    /// The volume has that many gigabytes.
    Grow(u64),
}

/// Something that takes time.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Number.
    pub id: u64,
    /// `create`, `power_off`, `assign_ip`…
    pub kind: String,
    /// What it is done to.
    pub target: Target,
    /// The droplet that can do nothing else meanwhile.
    pub droplet: Option<u64>,
    /// Where.
    pub region: String,
    /// How far it is.
    pub progress: Progress,
    /// What a completion changes.
    pub effect: Effect,
    /// Whether a server still has work to do for it.
    pub working: bool,
    /// When it was started.
    pub started_at: String,
    /// When it ended.
    pub completed_at: Option<String>,
}

/// What real servers have to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Make and boot the droplet's server.
    Boot(u64),
    /// Power on.
    Start(u64),
    /// Power off, properly or not.
    Stop(u64, bool),
    /// Move an address from one droplet to another.
    Move(Ipv4Addr, Option<u64>, Option<u64>),
    /// Remove the droplet's server.
    Remove(u64),
}

/// Something made lately that lists do not show yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// The list's name on the wire, or `key identifiers` for keys that droplets can't be made with yet.
    pub list: &'static str,
    /// The thing's identifier.
    pub id: String,
    /// For how many more lists.
    pub lists: u32,
}

/// An account with everything in it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Whether servers boot for droplets.
    pub boots: bool,
    /// Looks until an action completes.
    pub polls: u32,
    /// Droplets at most.
    pub droplet_limit: usize,
    /// Reserved addresses at most.
    pub reserved_ip_limit: usize,
    /// `active`, `warning` or `locked`; a locked one can only be looked at.
    pub status: String,
    /// SSH keys.
    pub keys: Vec<Key>,
    /// Droplets.
    pub droplets: Vec<Droplet>,
    /// All actions ever.
    pub actions: Vec<Action>,
    /// Tags, in the order that they were made.
    pub tags: Vec<String>,
    /// Firewalls.
    pub firewalls: Vec<Firewall>,
    /// Reserved addresses.
    pub reserved_ips: Vec<ReservedIp>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Projects; the first is the default one.
    pub projects: Vec<Project>,
    /// Private networks: one a region.
    pub vpcs: Vec<Vpc>,
    /// DNS zones.
    pub domains: Vec<Domain>,
    /// What lists do not show yet.
    pub unsettled: Vec<Unsettled>,
    /// What servers have to do now, with the action that waits for it.
    pub work: Vec<(Option<u64>, Work)>,
    /// Reserved addresses that nobody has.
    pub free_ips: Vec<Ipv4Addr>,
    next: u64,
    invented: u32,
}

/// Now, to the second.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Account {
    /// A new account, with a default project and a network in every region.
    pub fn new(boots: bool, free_ips: Vec<Ipv4Addr>) -> Self {
        let mut account = Self {
            boots,
            polls: 2,
            droplet_limit: 25,
            reserved_ip_limit: 5,
            status: "active".into(),
            keys: Vec::new(),
            droplets: Vec::new(),
            actions: Vec::new(),
            tags: Vec::new(),
            firewalls: Vec::new(),
            reserved_ips: Vec::new(),
            volumes: Vec::new(),
            projects: Vec::new(),
            vpcs: Vec::new(),
            domains: Vec::new(),
            unsettled: Vec::new(),
            work: Vec::new(),
            free_ips,
            next: 3_164_443,
            invented: 0,
        };
        account.add_project("first-project");
        for (number, (region, ..)) in catalog::REGIONS.iter().enumerate() {
            let (id, region) = (account.next_uuid(), (*region).to_owned());
            let (name, ip_range) = (format!("default-{region}"), format!("10.{}.0.0/20", 114 + number));
            account.vpcs.push(Vpc { id, name, region, ip_range, created_at: now() });
        }
        account
    }

    /// A number that nothing else has.
    pub fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A UUID that nothing else has.
    pub fn next_uuid(&mut self) -> String {
        let id = self.next_id();
        format!("{id:08x}-2fa2-41ed-92d3-{:012x}", id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16)
    }

    /// An address of the ranges for documentation and then benchmarks: nothing answers there.
    fn invent_address(&mut self) -> Ipv4Addr {
        self.invented += 1;
        let range =
            if self.invented < 255 { Ipv4Addr::new(203, 0, 113, 0) } else { Ipv4Addr::new(198, 18, 0, 0) };
        Ipv4Addr::from(u32::from(range) + self.invented)
    }

    // --- making things, for requests and for tests that need an account with something in it ---

    /// An SSH key; nothing if that is none.
    pub fn add_key(&mut self, name: &str, public_key: &str) -> Option<Key> {
        let fingerprint = fingerprint(public_key)?;
        let key =
            Key { id: self.next_id(), fingerprint, name: name.into(), public_key: public_key.trim().into() };
        self.keys.push(key.clone());
        Some(key)
    }

    /// Someone else's droplet, which runs (though nothing boots for it), and does not count against the limit.
    pub fn add_droplet(&mut self, name: &str, region: &str, tags: &[&str]) -> u64 {
        let mut droplet = self.blank_droplet(name, region);
        droplet.status = Status::Active;
        droplet.address = Some(self.invent_address());
        droplet.tags = tags.iter().map(|tag| self.add_tag(tag)).collect();
        self.droplet_limit += 1;
        let id = droplet.id;
        self.insert_droplet(droplet);
        id
    }

    /// A droplet as if just asked for, not yet part of the account.
    pub fn blank_droplet(&mut self, name: &str, region: &str) -> Droplet {
        let vpc = self.vpcs.iter().find(|vpc| vpc.region == region);
        let vpc = vpc.unwrap_or_else(|| panic!("there is no region {region}")).id.clone();
        Droplet {
            id: self.next_id(),
            name: name.into(),
            region: region.into(),
            size: "s-1vcpu-1gb".into(),
            disk: 25,
            image: "debian-12-x64".into(),
            tags: Vec::new(),
            ssh_keys: Vec::new(),
            user_data: None,
            backups: false,
            ipv6: false,
            monitoring: false,
            with_droplet_agent: None,
            vpc,
            status: Status::New,
            created_at: now(),
            address: None,
        }
    }

    /// Makes a droplet part of the account.
    pub fn insert_droplet(&mut self, droplet: Droplet) {
        self.assign_to_project(0, format!("do:droplet:{}", droplet.id));
        self.droplets.push(droplet);
    }

    /// That tag, made if there is none; in the spelling that it was made with.
    pub fn add_tag(&mut self, name: &str) -> String {
        if let Some(tag) = self.tags.iter().find(|tag| tag.eq_ignore_ascii_case(name)) {
            return tag.clone();
        }
        self.tags.push(name.into());
        name.into()
    }

    /// A project.
    pub fn add_project(&mut self, name: &str) -> String {
        let (id, is_default) = (self.next_uuid(), self.projects.is_empty());
        let (name, resources, created_at) = (name.into(), Vec::new(), now());
        self.projects.push(Project { id: id.clone(), name, is_default, resources, created_at });
        id
    }

    /// A firewall with one inbound rule, for droplets with these tags.
    pub fn add_firewall(&mut self, name: &str, tags: &[&str]) -> String {
        let everywhere = json!({"addresses": ["0.0.0.0/0", "::/0"]});
        let firewall = Firewall {
            id: self.next_uuid(),
            name: name.into(),
            inbound_rules: vec![json!({"protocol": "tcp", "ports": "22", "sources": everywhere})],
            outbound_rules: vec![json!({"protocol": "tcp", "ports": "0", "destinations": everywhere})],
            droplet_ids: Vec::new(),
            tags: tags.iter().map(|tag| self.add_tag(tag)).collect(),
            created_at: now(),
            pending: 0,
        };
        self.firewalls.push(firewall);
        self.firewalls[self.firewalls.len() - 1].id.clone()
    }

    /// A domain with the records that every new one has.
    pub fn add_domain(&mut self, name: &str) -> &mut Domain {
        self.assign_to_project(0, format!("do:domain:{name}"));
        self.domains.push(Domain { name: name.into(), records: Vec::new() });
        self.add_record(name, "SOA", "@", "1800");
        for server in ["ns1", "ns2", "ns3"] {
            self.add_record(name, "NS", "@", &format!("{server}.digitalocean.com"));
        }
        self.domains.last_mut().expect("just made")
    }

    /// A record of a domain that there is.
    pub fn add_record(&mut self, domain: &str, kind: &str, name: &str, data: &str) -> u64 {
        let id = self.next_id();
        let (kind, name, data) = (kind.into(), name.into(), data.into());
        let domain = self.domains.iter_mut().find(|has| has.name == domain).expect("a domain of the account");
        domain.records.push(Record { id, kind, name, data, ttl: 1800, ..Record::default() });
        id
    }

    /// A reserved address that no droplet has; nothing if there are no more.
    pub fn add_reserved_ip(&mut self, region: &str) -> Option<Ipv4Addr> {
        let ip = self.free_ips.pop()?;
        self.reserved_ips.push(ReservedIp { ip, region: region.into(), droplet: None });
        self.assign_to_project(0, format!("do:floatingip:{ip}"));
        Some(ip)
    }

    // --- finding ---

    /// That droplet.
    pub fn droplet(&self, id: u64) -> Option<&Droplet> {
        self.droplets.iter().find(|droplet| droplet.id == id)
    }

    /// That droplet, to be changed.
    pub fn droplet_mut(&mut self, id: u64) -> Option<&mut Droplet> {
        self.droplets.iter_mut().find(|droplet| droplet.id == id)
    }

    /// That reserved address.
    pub fn reserved_ip(&self, ip: Ipv4Addr) -> Option<&ReservedIp> {
        self.reserved_ips.iter().find(|reserved| reserved.ip == ip)
    }

    /// Whether the droplet is busy with an action.
    pub fn is_busy(&self, id: u64) -> bool {
        self.going(|action| action.droplet == Some(id) || action.target == Target::Droplet(id))
    }

    /// Whether something is being done to it.
    pub fn is_locked(&self, target: Target) -> bool {
        self.going(|action| action.target == target)
    }

    fn going(&self, concerns: impl Fn(&Action) -> bool) -> bool {
        self.actions.iter().any(|action| matches!(action.progress, Progress::Going(_)) && concerns(action))
    }

    /// The droplets that a firewall is for.
    pub fn droplets_behind<'a>(&'a self, firewall: &'a Firewall) -> impl Iterator<Item = &'a Droplet> {
        let behind = |droplet: &&Droplet| {
            firewall.droplet_ids.contains(&droplet.id)
                || droplet.tags.iter().any(|tag| firewall.tags.contains(tag))
        };
        self.droplets.iter().filter(behind)
    }

    /// Puts a resource into a project, and out of all others.
    pub fn assign_to_project(&mut self, project: usize, urn: String) {
        self.leave_projects(&urn);
        self.projects[project].resources.push((urn, now()));
    }

    /// Takes a resource out of every project.
    pub fn leave_projects(&mut self, urn: &str) {
        self.projects.iter_mut().for_each(|project| project.resources.retain(|(has, _)| has != urn));
    }

    // --- actions ---

    /// Starts an action; with `work`, a server has to do something before it can complete.
    pub fn act(
        &mut self,
        kind: &str,
        target: Target,
        droplet: Option<u64>,
        effect: Effect,
        work: Option<Work>,
    ) -> u64 {
        let region = match target {
            Target::Droplet(id) => self.droplet(id).map(|droplet| droplet.region.clone()),
            Target::Ip(ip) => self.reserved_ip(ip).map(|reserved| reserved.region.clone()),
            Target::Volume(number) => self
                .volumes
                .iter()
                .find(|volume| volume.number() == number)
                .map(|volume| volume.region.clone()),
        };
        let (id, work) = (self.next_id(), work.filter(|_| self.boots));
        self.actions.push(Action {
            id,
            kind: kind.into(),
            target,
            droplet,
            region: region.expect("the target exists"),
            progress: Progress::Going(self.polls),
            effect,
            working: work.is_some(),
            started_at: now(),
            completed_at: None,
        });
        self.work.extend(work.map(|work| (Some(id), work)));
        id
    }

    /// A look at something: its actions come one step nearer to their end.
    pub fn look(&mut self, concerns: impl Fn(&Action) -> bool) {
        let mut completed = Vec::new();
        for action in self.actions.iter_mut().filter(|action| concerns(action)) {
            match action.progress {
                Progress::Going(0) if !action.working => {
                    action.progress = Progress::Completed;
                    action.completed_at = Some(now());
                    completed.push((action.target, action.effect.clone()));
                }
                Progress::Going(polls) => action.progress = Progress::Going(polls.saturating_sub(1)),
                Progress::Completed | Progress::Errored => {}
            }
        }
        completed.into_iter().for_each(|(target, effect)| self.take_effect(target, effect));
    }

    /// A look at a droplet.
    pub fn look_at_droplet(&mut self, id: u64) {
        self.look(|action| action.target == Target::Droplet(id) || action.droplet == Some(id));
    }

    fn take_effect(&mut self, target: Target, effect: Effect) {
        match target {
            Target::Droplet(id) => {
                let invented = (effect == Effect::Run && !self.boots).then(|| self.invent_address());
                let Some(droplet) = self.droplet_mut(id) else { return };
                match effect {
                    Effect::Run => {
                        droplet.status = Status::Active;
                        droplet.address = droplet.address.or(invented);
                    }
                    Effect::Off => droplet.status = Status::Off,
                    Effect::Resize(size, disk) => {
                        droplet.disk =
                            if disk { Size::find(&size).expect("checked").disk } else { droplet.disk };
                        droplet.size = size;
                    }
                    Effect::Backups(on) => droplet.backups = on,
                    Effect::Ipv6 => droplet.ipv6 = true,
                    Effect::Assign(_) | Effect::Attach(_) | Effect::Grow(_) => {
                        unreachable!("no droplet's action")
                    }
                }
            }
            Target::Ip(ip) => {
                let Effect::Assign(droplet) = effect else { unreachable!("no address's action") };
                let droplet = droplet.filter(|id| self.droplet(*id).is_some());
                let reserved = self.reserved_ips.iter_mut().find(|reserved| reserved.ip == ip);
                reserved.into_iter().for_each(|reserved| reserved.droplet = droplet);
            }
            Target::Volume(number) => {
                let Some(volume) = self.volumes.iter_mut().find(|volume| volume.number() == number) else {
                    return;
                };
                if let Effect::Attach(droplet) = effect {
                    volume.droplet = droplet;
                } else if let Effect::Grow(size) = effect {
                    volume.size = size;
                }
            }
        }
    }

    // --- on the wire ---

    /// A droplet's address in its private network, which is a /20.
    fn private_address(&self, droplet: &Droplet) -> Ipv4Addr {
        let vpc = self.vpcs.iter().find(|vpc| vpc.id == droplet.vpc).expect("a network of the account");
        let first: Ipv4Addr = vpc.ip_range.trim_end_matches("/20").parse().expect("a /20");
        Ipv4Addr::from(u32::from(first) + (droplet.id as u32 & 0xfff))
    }

    /// A droplet as the API shows it.
    pub fn droplet_json(&self, droplet: &Droplet) -> Value {
        let size = Size::find(&droplet.size).expect("a size of the catalog");
        let mut features = vec!["private_networking"];
        let wanted =
            [("backups", droplet.backups), ("ipv6", droplet.ipv6), ("monitoring", droplet.monitoring)];
        features.extend(wanted.iter().filter(|(_, on)| *on).map(|(name, _)| *name));
        if droplet.with_droplet_agent != Some(false) {
            features.push("droplet_agent");
        }
        let networks = droplet.address.map(|address| {
            let [a, b, c, _] = address.octets();
            json!([
                {"ip_address": self.private_address(droplet), "netmask": "255.255.240.0", "gateway": "nil", "type": "private"},
                {"ip_address": address, "netmask": "255.255.255.0", "gateway": format!("{a}.{b}.{c}.1"), "type": "public"},
            ])
        });
        let ipv6 = droplet.ipv6_address().map(|address| {
            json!([{"ip_address": address, "netmask": 64, "gateway": "2001:db8:0:1::1", "type": "public"}])
        });
        let backup_window =
            droplet.backups.then(|| json!({"start": "2026-11-22T00:00:00Z", "end": "2026-11-22T23:00:00Z"}));
        let volumes =
            self.volumes.iter().filter(|volume| volume.droplet == Some(droplet.id)).map(|volume| &volume.id);
        let status = match droplet.status {
            Status::New => "new",
            Status::Active => "active",
            Status::Off => "off",
        };
        json!({
            "id": droplet.id, "name": droplet.name, "memory": size.memory, "vcpus": size.vcpus, "disk": droplet.disk,
            "disk_info": catalog::disk_info(droplet.disk), "locked": self.is_busy(droplet.id), "status": status,
            "kernel": null, "created_at": droplet.created_at, "features": features, "backup_ids": [],
            "next_backup_window": backup_window, "snapshot_ids": [], "image": catalog::image_json(&droplet.image),
            "volume_ids": volumes.collect::<Vec<_>>(), "size": size.json(), "size_slug": droplet.size,
            "networks": {"v4": networks.unwrap_or_else(|| json!([])), "v6": ipv6.unwrap_or_else(|| json!([]))},
            "region": catalog::region(&droplet.region), "tags": droplet.tags, "vpc_uuid": droplet.vpc,
        })
    }

    /// An action as the API shows it.
    pub fn action_json(&self, action: &Action) -> Value {
        let (resource_id, resource_type) = match action.target {
            Target::Droplet(id) => (json!(id), "droplet"),
            Target::Ip(ip) => (json!(u32::from(ip)), "reserved_ip"),
            Target::Volume(_) => (Value::Null, "volume"),
        };
        let status = match action.progress {
            Progress::Going(_) => "in-progress",
            Progress::Completed => "completed",
            Progress::Errored => "errored",
        };
        json!({
            "id": action.id, "status": status, "type": action.kind, "started_at": action.started_at,
            "completed_at": action.completed_at, "resource_id": resource_id, "resource_type": resource_type,
            "region": catalog::region(&action.region), "region_slug": action.region,
        })
    }

    /// A firewall as the API shows it.
    pub fn firewall_json(&self, firewall: &Firewall) -> Value {
        let waiting = firewall.pending > 0;
        let change =
            |droplet: &Droplet| json!({"droplet_id": droplet.id, "removing": false, "status": "waiting"});
        let changes: Vec<_> = self.droplets_behind(firewall).filter(|_| waiting).map(change).collect();
        json!({
            "id": firewall.id, "name": firewall.name, "status": if waiting { "waiting" } else { "succeeded" },
            "inbound_rules": firewall.inbound_rules, "outbound_rules": firewall.outbound_rules,
            "created_at": firewall.created_at, "droplet_ids": firewall.droplet_ids, "tags": firewall.tags,
            "pending_changes": changes,
        })
    }

    /// A reserved address as the API shows it.
    pub fn reserved_ip_json(&self, reserved: &ReservedIp) -> Value {
        let droplet =
            reserved.droplet.and_then(|id| self.droplet(id)).map(|droplet| self.droplet_json(droplet));
        json!({
            "ip": reserved.ip, "droplet": droplet, "region": catalog::region(&reserved.region),
            "locked": self.is_locked(Target::Ip(reserved.ip)),
            "project_id": self.project_of(&format!("do:floatingip:{}", reserved.ip)),
        })
    }

    /// The project that a resource is in.
    pub fn project_of(&self, urn: &str) -> Option<&str> {
        let within = |project: &&Project| project.resources.iter().any(|(has, _)| has == urn);
        self.projects.iter().find(within).map(|project| project.id.as_str())
    }

    /// A tag as the API shows it, with what carries it.
    pub fn tag_json(&self, tag: &str) -> Value {
        let droplets = self.droplets.iter().filter(|droplet| droplet.tags.iter().any(|has| has == tag));
        let droplets: Vec<_> = droplets.map(|droplet| format!("/v2/droplets/{}", droplet.id)).collect();
        let volumes = self.volumes.iter().filter(|volume| volume.tags.iter().any(|has| has == tag));
        let volumes: Vec<_> = volumes.map(|volume| format!("/v2/volumes/{}", volume.id)).collect();
        let counted = |uris: &[String]| {
            let mut counted = BTreeMap::from([("count", json!(uris.len()))]);
            let last = uris.last().map(|uri| json!(format!("https://api.digitalocean.com{uri}")));
            counted.extend(last.map(|last| ("last_tagged_uri", last)));
            json!(counted)
        };
        let mut resources = counted(&[droplets.as_slice(), volumes.as_slice()].concat());
        resources["droplets"] = counted(&droplets);
        resources["volumes"] = counted(&volumes);
        for others in ["images", "volume_snapshots", "databases"] {
            resources[others] = counted(&[]);
        }
        json!({"name": tag, "resources": resources})
    }
}

impl Key {
    /// As the API shows it.
    pub fn json(&self) -> Value {
        json!({"id": self.id, "fingerprint": self.fingerprint, "name": self.name, "public_key": self.public_key})
    }
}

impl Volume {
    /// What actions know it by.
    pub fn number(&self) -> u64 {
        u64::from_str_radix(&self.id[..8], 16).expect("a UUID")
    }

    /// As the API shows it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "region": catalog::region(&self.region), "size_gigabytes": self.size,
            "description": self.description, "filesystem_type": self.filesystem_type,
            "filesystem_label": self.filesystem_label, "tags": self.tags, "created_at": self.created_at,
            "droplet_ids": self.droplet.into_iter().collect::<Vec<_>>(),
        })
    }
}

impl Project {
    /// As the API shows it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "owner_uuid": "99525febec065ca37b2ffe4f852fd2b2581895e7", "owner_id": 258_992,
            "name": self.name, "description": "", "purpose": "Web Application", "environment": "Production",
            "is_default": self.is_default, "created_at": self.created_at, "updated_at": self.created_at,
        })
    }
}

impl Vpc {
    /// As the API shows it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "urn": format!("do:vpc:{}", self.id), "name": self.name, "description": "",
            "region": self.region, "ip_range": self.ip_range, "created_at": self.created_at, "default": true,
        })
    }
}

impl Domain {
    /// As the API shows it; the zone file is missing right after its making.
    pub fn json(&self, zone_file: bool) -> Value {
        let zone_file = zone_file.then(|| self.zone_file());
        json!({"name": self.name, "ttl": 1800, "zone_file": zone_file})
    }

    /// All of it in the format of RFC 1035.
    pub fn zone_file(&self) -> String {
        let domain = &self.name;
        let mut zone = format!("$ORIGIN {domain}.\n$TTL 1800\n");
        for record in &self.records {
            let (fqdn, ttl, kind, data) = (self.fqdn(record), record.ttl, &record.kind, &record.data);
            let data = match kind.as_str() {
                "SOA" => {
                    format!("ns1.digitalocean.com. hostmaster.{domain}. 1763707800 10800 3600 604800 {ttl}")
                }
                "CNAME" | "NS" if data == "@" => format!("{domain}."),
                "CNAME" | "NS" => format!("{data}."),
                "MX" => format!("{} {data}.", record.priority.unwrap_or(0)),
                "TXT" => format!("{data:?}"),
                _ => data.clone(),
            };
            zone += &format!("{fqdn}. {ttl} IN {kind} {data}\n");
        }
        zone
    }

    /// A record's whole name, without the final dot.
    pub fn fqdn(&self, record: &Record) -> String {
        if record.name == "@" { self.name.clone() } else { format!("{}.{}", record.name, self.name) }
    }
}

impl Record {
    /// As the API shows it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "type": self.kind, "name": self.name, "data": self.data, "ttl": self.ttl,
            "priority": self.priority, "port": self.port, "weight": self.weight, "flags": self.flags, "tag": self.tag,
        })
    }
}

/// MD5 of a public key, as `ssh-keygen -E md5` prints it; nothing if it is none.
fn fingerprint(public_key: &str) -> Option<String> {
    use base64::Engine as _;

    let mut words = public_key.split_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let key = base64::engine::general_purpose::STANDARD.decode(key).ok()?;
    let length = u32::from_be_bytes(key.get(..4)?.try_into().ok()?) as usize;
    let named = key.get(4..4 + length)? == kind.as_bytes();
    named.then(|| md5::compute(&key).0.map(|byte| format!("{byte:02x}")).join(":"))
}
