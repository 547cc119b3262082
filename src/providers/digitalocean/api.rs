//! What DigitalOcean's API says, as far as it matters here, and what it means in ship's own words.
//!
//! Invariant: an answer with less in it than usual (null, a list left out) is read as empty, never refused.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::cloud::{Address, Owner, Server, Settings, State, Volume};

use super::tags::{self, Mark};

/// Reads null as nothing.
pub fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A body without its nulls, which the API does not take.
pub fn filled(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    body
}

/// A droplet.
#[derive(Debug, Clone, Deserialize)]
pub struct Droplet {
    /// Its id.
    pub id: i64,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `new`, `active`, `off`, `archive`.
    #[serde(default)]
    pub status: String,
    /// Whether something is being done to it.
    #[serde(default)]
    pub locked: bool,
    /// Size of its disk in GiB.
    #[serde(default)]
    pub disk: u32,
    /// `backups`, `ipv6`, `monitoring`…
    #[serde(default, deserialize_with = "nullable")]
    pub features: Vec<String>,
    /// Its size.
    #[serde(default)]
    pub size_slug: String,
    /// Its region.
    pub region: Slug,
    /// Its tags.
    #[serde(default, deserialize_with = "nullable")]
    pub tags: Vec<String>,
    /// The network it is in.
    pub vpc_uuid: Option<String>,
    /// Its addresses.
    #[serde(default, deserialize_with = "nullable")]
    pub networks: Networks,
}

/// Anything with a slug.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Slug {
    /// The slug.
    #[serde(default, deserialize_with = "nullable")]
    pub slug: String,
}

/// Addresses.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Networks {
    /// IPv4.
    #[serde(default, deserialize_with = "nullable")]
    pub v4: Vec<Network>,
    /// IPv6.
    #[serde(default, deserialize_with = "nullable")]
    pub v6: Vec<Network>,
}

/// One address.
#[derive(Debug, Clone, Deserialize)]
pub struct Network {
    /// The address.
    #[serde(default)]
    pub ip_address: String,
    /// `public` or `private`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

impl Droplet {
    /// Its public addresses. A reserved IP that leads to it stands among them, too.
    pub fn public_v4(&self) -> impl Iterator<Item = Ipv4Addr> {
        let public = self.networks.v4.iter().filter(|network| network.kind == "public");
        public.filter_map(|network| network.ip_address.parse().ok())
    }

    /// Its public IPv6 address.
    pub fn public_v6(&self) -> Option<Ipv6Addr> {
        let public = self.networks.v6.iter().filter(|network| network.kind == "public");
        public.filter_map(|network| network.ip_address.parse().ok()).next()
    }

    /// Whether it has backups.
    pub fn has_backups(&self) -> bool {
        self.features.iter().any(|feature| feature == "backups")
    }

    /// Whether it has an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.features.iter().any(|feature| feature == "ipv6") || self.public_v6().is_some()
    }

    /// Whether it can be logged in to as far as the API knows.
    pub fn is_up(&self) -> bool {
        self.status == "active" && self.public_v4().next().is_some()
    }

    /// Whether it is powered off.
    pub fn is_off(&self) -> bool {
        self.status == "off"
    }

    /// Whether it carries the owner's tag.
    pub fn belongs_to(&self, owner: &Owner) -> bool {
        self.tags.iter().any(|tag| tags::is_owner(owner, tag))
    }

    /// The server that it is, seen by its owner. `reserved` are addresses that only lead to it.
    pub fn server(&self, owner: &Owner, reserved: &[Ipv4Addr]) -> Server {
        let marks: Vec<Mark> = self.tags.iter().filter_map(|tag| tags::read(owner, tag)).collect();
        let foreign = self.tags.iter().filter(|tag| !tags::is_ours(owner, tag));
        Server {
            id: self.id.to_string(),
            state: match self.status.as_str() {
                "active" => State::Running,
                "off" | "archive" => State::Stopped,
                _ => State::Starting,
            },
            region: self.region.slug.clone(),
            size: self.size_slug.clone(),
            image: marks.iter().find_map(|mark| match mark {
                Mark::Image(image) => Some(image.clone()),
                Mark::BirthKey(_) | Mark::HostKey(_) | Mark::Address(_) => None,
            }),
            disk_gb: Some(self.disk),
            network: self.vpc_uuid.clone().filter(|vpc| !vpc.is_empty()),
            subnet: None,
            ipv4: self.public_v4().find(|ip| !reserved.contains(ip)),
            ipv6: self.public_v6(),
            birth_key: marks.iter().find_map(|mark| match mark {
                Mark::BirthKey(key) => Some(key.clone()),
                Mark::Image(_) | Mark::HostKey(_) | Mark::Address(_) => None,
            }),
            host_key: marks.iter().find_map(|mark| match mark {
                Mark::HostKey(key) => Some(key.clone()),
                Mark::Image(_) | Mark::BirthKey(_) | Mark::Address(_) => None,
            }),
            settings: Settings {
                backups: self.has_backups(),
                ipv6: self.has_ipv6(),
                protected: false,
                labels: foreign.map(|tag| (tag.clone(), String::new())).collect(),
                project: None,
            },
        }
    }
}

/// Spells the user's tags that are there as the user does: DigitalOcean keeps the case that a tag was first made with.
pub fn spell(have: &mut BTreeMap<String, String>, want: &BTreeMap<String, String>) {
    for name in want.keys() {
        if let Some(other) = have.keys().find(|other| other.eq_ignore_ascii_case(name)).cloned() {
            have.remove(&other);
            have.insert(name.clone(), String::new());
        }
    }
}

/// A droplet that was just ordered, with what is being done for it.
#[derive(Debug, Clone, Deserialize)]
pub struct Ordered {
    /// The droplet.
    pub droplet: Droplet,
    /// Where to look further.
    #[serde(default, deserialize_with = "nullable")]
    pub links: Links,
}

/// A reserved IP that was just taken, with what is being done for it.
#[derive(Debug, Clone, Deserialize)]
pub struct Taken {
    /// The address.
    pub reserved_ip: ReservedIp,
    /// Where to look further.
    #[serde(default, deserialize_with = "nullable")]
    pub links: Links,
}

/// What belongs to an answer.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Links {
    /// What is being done.
    #[serde(default, deserialize_with = "nullable")]
    pub actions: Vec<Id>,
}

impl Links {
    /// The id of what is being done.
    pub fn action(&self) -> Option<String> {
        self.actions.first().map(|action| action.id.to_string())
    }
}

/// Anything with an id.
#[derive(Debug, Clone, Deserialize)]
pub struct Id {
    /// The id.
    pub id: i64,
}

/// What something leads to, if to anything.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Holder {
    /// The id.
    pub id: Option<i64>,
}

/// Something that takes its time.
#[derive(Debug, Clone, Deserialize)]
pub struct Action {
    /// Its id.
    pub id: i64,
    /// `in-progress`, `completed`, `errored`.
    pub status: String,
}

/// A reserved IP.
#[derive(Debug, Clone, Deserialize)]
pub struct ReservedIp {
    /// The address.
    pub ip: Ipv4Addr,
    /// The droplet it leads to.
    #[serde(default, deserialize_with = "nullable")]
    pub droplet: Holder,
    /// The region outside of which it leads nowhere.
    #[serde(default, deserialize_with = "nullable")]
    pub region: Slug,
    /// Whether something is being done to it.
    #[serde(default, deserialize_with = "nullable")]
    pub locked: bool,
}

impl ReservedIp {
    /// The id of the droplet that it leads to.
    pub fn droplet(&self) -> Option<String> {
        self.droplet.id.map(|id| id.to_string())
    }

    /// The address that it is.
    pub fn address(&self, tagged: bool) -> Address {
        Address { id: self.ip.to_string(), ip: self.ip, server: self.droplet(), tagged }
    }
}

/// A volume.
#[derive(Debug, Clone, Deserialize)]
pub struct VolumeInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its size in GiB.
    pub size_gigabytes: u32,
    /// Where it is attached.
    #[serde(default, deserialize_with = "nullable")]
    pub droplet_ids: Vec<i64>,
    /// Its tags.
    #[serde(default, deserialize_with = "nullable")]
    pub tags: Vec<String>,
    /// Its region.
    #[serde(default, deserialize_with = "nullable")]
    pub region: Slug,
}

impl VolumeInfo {
    /// The volume that it is.
    pub fn volume(&self) -> Volume {
        Volume {
            id: self.id.clone(),
            size_gb: self.size_gigabytes,
            server: self.droplet_ids.first().map(ToString::to_string),
            device: format!("/dev/disk/by-id/scsi-0DO_Volume_{}", self.name),
        }
    }

    /// Whether it carries the owner's tag.
    pub fn belongs_to(&self, owner: &Owner) -> bool {
        self.tags.iter().any(|tag| tags::is_owner(owner, tag))
    }
}

/// An SSH key of the account.
#[derive(Debug, Clone, Deserialize)]
pub struct SshKey {
    /// Its id.
    pub id: i64,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// An `authorized_keys` line.
    #[serde(default)]
    pub public_key: String,
}

impl SshKey {
    /// Whether it is the key in this `authorized_keys` line, whatever the comment.
    pub fn is(&self, line: &str) -> bool {
        let key = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        key(&self.public_key) == key(line)
    }
}

/// A tag.
#[derive(Debug, Clone, Deserialize)]
pub struct Tag {
    /// Its name.
    pub name: String,
}

/// A project.
#[derive(Debug, Clone, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// A resource of a project.
#[derive(Debug, Clone, Deserialize)]
pub struct Resource {
    /// `do:droplet:17`.
    #[serde(default)]
    pub urn: String,
}

/// The account.
#[derive(Debug, Clone, Deserialize)]
pub struct Account {
    /// How many droplets it may have.
    pub droplet_limit: Option<u64>,
    /// `active`, `warning`, `locked`.
    #[serde(default)]
    pub status: String,
    /// What there is to say about it.
    #[serde(default, deserialize_with = "nullable")]
    pub status_message: String,
}

/// A size.
#[derive(Debug, Clone, Deserialize)]
pub struct Size {
    /// Its name.
    pub slug: String,
    /// Memory in MiB.
    pub memory: u64,
    /// Processors.
    pub vcpus: u32,
    /// Disk in GiB.
    pub disk: u32,
    /// Price a month in US dollars.
    pub price_monthly: f64,
    /// Where it can be had.
    #[serde(default, deserialize_with = "nullable")]
    pub regions: Vec<String>,
    /// Whether it can be had at all.
    #[serde(default)]
    pub available: bool,
}

/// An image.
#[derive(Debug, Clone, Deserialize)]
pub struct Image {
    /// Where it can be had.
    #[serde(default, deserialize_with = "nullable")]
    pub regions: Vec<String>,
    /// The smallest disk in GiB that it fits on.
    #[serde(default, deserialize_with = "nullable")]
    pub min_disk_size: u32,
    /// `available`, `retired`…
    #[serde(default, deserialize_with = "nullable")]
    pub status: String,
}

/// How many there are of what a list lists.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Total {
    /// How many.
    #[serde(default)]
    pub total: u64,
}

#[cfg(test)]
mod tests;
