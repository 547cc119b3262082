//! What the records should be, what differs, and what must not be done.
//!
//! Invariant: a change that leaves here names A or AAAA of one of the site's own names, and nothing else.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;

use super::{DnsChange, Kind, Obstacle, RecordSet, listed, zones};
use crate::cloud::{Found, Wish};
use crate::plan::{Action, Change, ResourceId};

/// What stands for an address that the cloud will choose. No provider ever gets it.
pub const NEW_ADDRESS: &str = "(the new server's address)";

/// Seconds that resolvers may keep an address that is about to change.
pub const MOVING_TTL_S: u32 = 60;

/// What is known of one of the server's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address<T> {
    /// This one.
    Known(T),
    /// It will have one, which the cloud will choose.
    Coming,
    /// It has none of this family, and records of it must go.
    Absent,
    /// Nobody knows: records of this family are left as they are.
    Untold,
}

/// Where the names should lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The server's IPv4 address.
    pub ipv4: Address<Ipv4Addr>,
    /// The server's IPv6 address.
    pub ipv6: Address<Ipv6Addr>,
}

impl Target {
    /// A server that has these addresses and no others.
    pub fn known(ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Self {
        Self {
            ipv4: ipv4.map_or(Address::Absent, Address::Known),
            ipv6: ipv6.map_or(Address::Absent, Address::Known),
        }
    }

    /// A host of the user's own of which nothing but this address is known.
    pub fn host(address: IpAddr) -> Self {
        Self::resolved([address])
    }

    /// A host of the user's own whose name has these addresses: the first of each family counts. Of a family without one
    /// nothing is known.
    pub fn resolved(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut target = Self { ipv4: Address::Untold, ipv6: Address::Untold };
        for address in addresses {
            match address {
                IpAddr::V4(ip) if target.ipv4 == Address::Untold => target.ipv4 = Address::Known(ip),
                IpAddr::V6(ip) if target.ipv6 == Address::Untold => target.ipv6 = Address::Known(ip),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
        }
        target
    }

    /// A cloud server once everything wished for is done; `replaced` if another takes the place of the one that is there.
    pub fn cloud(wish: &Wish, found: &Found, replaced: bool) -> Self {
        let server = found.server.as_ref().filter(|_| !replaced);
        let coming = |known: Option<Ipv4Addr>| known.map_or(Address::Coming, Address::Known);
        let ipv4 = match (&found.address, wish.fixed_address) {
            (Some(address), true) => Address::Known(address.ip),
            // With the fixed address the server loses the one that it is reached at now.
            (Some(_), false) | (None, true) => Address::Coming,
            (None, false) => coming(server.and_then(|server| server.ipv4)),
        };
        let ipv6 = match server.and_then(|server| server.ipv6) {
            Some(ip) if wish.settings.ipv6 => Address::Known(ip),
            None if wish.settings.ipv6 => Address::Coming,
            Some(_) | None => Address::Absent,
        };
        Self { ipv4, ipv6 }
    }

    /// Whether all is known that is to be said about it.
    pub fn is_known(&self) -> bool {
        self.ipv4 != Address::Coming && self.ipv6 != Address::Coming
    }

    /// Whether it has an address, or will have.
    pub fn leads_somewhere(&self) -> bool {
        matches!(self.ipv4, Address::Known(_) | Address::Coming)
            || matches!(self.ipv6, Address::Known(_) | Address::Coming)
    }

    /// The addresses that are known.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ipv4 = match self.ipv4 {
            Address::Known(ip) => Some(IpAddr::V4(ip)),
            Address::Coming | Address::Absent | Address::Untold => None,
        };
        let ipv6 = match self.ipv6 {
            Address::Known(ip) => Some(IpAddr::V6(ip)),
            Address::Coming | Address::Absent | Address::Untold => None,
        };
        ipv4.into_iter().chain(ipv6).collect()
    }

    /// An address that only a part of the world can reach, if there is one.
    pub fn private(&self) -> Option<IpAddr> {
        let ipv4 = match self.ipv4 {
            Address::Known(ip) if ip.is_private() || ip.is_loopback() || ip.is_link_local() => Some(ip),
            Address::Known(_) | Address::Coming | Address::Absent | Address::Untold => None,
        };
        let ipv6 = match self.ipv6 {
            Address::Known(ip) if ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local() => {
                Some(ip)
            }
            Address::Known(_) | Address::Coming | Address::Absent | Address::Untold => None,
        };
        ipv4.map(IpAddr::V4).or(ipv6.map(IpAddr::V6))
    }
}

/// The record sets that there should be: A and AAAA of each domain. A set without values must not be there.
pub fn wanted(domains: &[String], target: &Target, ttl_s: u32) -> Vec<RecordSet> {
    fn values<T: ToString>(address: Address<T>) -> Option<BTreeSet<String>> {
        match address {
            Address::Known(ip) => Some(BTreeSet::from([ip.to_string()])),
            Address::Coming => Some(BTreeSet::from([NEW_ADDRESS.to_owned()])),
            Address::Absent => Some(BTreeSet::new()),
            Address::Untold => None,
        }
    }
    let kinds = [(Kind::A, values(target.ipv4)), (Kind::Aaaa, values(target.ipv6))];
    let sets = |domain: &String| {
        let domain = domain.clone();
        kinds.clone().into_iter().filter_map(move |(kind, values)| {
            let name = domain.clone();
            values.map(|values| RecordSet { name, kind, ttl_s, values, ids: Vec::new(), special: false })
        })
    };
    domains.iter().flat_map(sets).collect()
}

/// The names whose records have to be read: the domains, and what could take them away from the zone.
pub fn questions(zone: &str, domains: &[String]) -> Vec<String> {
    let mut names = domains.to_vec();
    for name in domains.iter().flat_map(|domain| zones::below(domain, zone)) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Compares what there should be in a zone with all that was found there.
pub fn plan(zone: &str, wanted: &[RecordSet], found: &[RecordSet]) -> Result<Vec<DnsChange>, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    for set in wanted {
        // A and AAAA of a name meet the same obstacle.
        if let Some(obstacle) = obstacle(zone, set, found)
            && !obstacles.contains(&obstacle)
        {
            obstacles.push(obstacle);
        }
    }
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    Ok(wanted.iter().filter_map(|set| difference(set, at(found, set))).collect())
}

fn at<'f>(found: &'f [RecordSet], set: &RecordSet) -> Option<&'f RecordSet> {
    found.iter().find(|other| other.name == set.name && other.kind == set.kind)
}

fn difference(set: &RecordSet, old: Option<&RecordSet>) -> Option<DnsChange> {
    let new = (!set.values.is_empty()).then(|| set.clone());
    match (old, new) {
        (None, None) => None,
        (Some(old), Some(new)) if same_values(old, &new) && old.ttl_s == new.ttl_s => None,
        (old, new) => Some(DnsChange { old: old.cloned(), new }),
    }
}

fn obstacle(zone: &str, set: &RecordSet, found: &[RecordSet]) -> Option<Obstacle> {
    let values = |set: &RecordSet| set.values.iter().cloned().collect::<Vec<String>>();
    let (domain, zone_name) = (set.name.clone(), zone.to_owned());
    let mut above = zones::below(&set.name, zone).into_iter();
    let cut = above.find_map(|name| found.iter().find(|other| other.name == name && is_ns(&other.kind)));
    if let Some(cut) = cut {
        return Some(Obstacle::Delegated { domain, at: cut.name.clone(), to: values(cut), zone: zone_name });
    }
    let mut here = found.iter().filter(|other| other.name == set.name);
    if let Some(cname) = here.clone().find(|other| other.kind == Kind::Cname) {
        let target = values(cname).join(", ");
        return Some(Obstacle::Cname { domain, target, zone: zone_name });
    }
    let special = here.find(|other| other.kind == set.kind && other.special)?;
    Some(Obstacle::Special { domain, kind: set.kind.clone(), values: values(special), zone: zone_name })
}

fn is_ns(kind: &Kind) -> bool {
    matches!(kind, Kind::Other(name) if name.eq_ignore_ascii_case("NS"))
}

/// IPv6 addresses have many spellings.
fn same_values(one: &RecordSet, other: &RecordSet) -> bool {
    let plain = |set: &RecordSet| -> BTreeSet<String> {
        let plain = |value: &String| value.parse::<IpAddr>().map_or(value.clone(), |ip| ip.to_string());
        set.values.iter().map(plain).collect()
    };
    plain(one) == plain(other)
}

/// Refuses what no plan of ship's may contain, so that neither a mistake here nor a strange answer of an API can empty a
/// zone.
pub fn refusal(domains: &[String], changes: &[DnsChange]) -> Result<(), Refusal> {
    let refuse = |what: String| Err(Refusal { what });
    let removals = changes.iter().filter(|change| change.new.is_none()).count();
    if removals > 2 * domains.len() {
        let most = 2 * domains.len();
        return refuse(format!("{removals} removals, where the site's names have at most {most} records"));
    }
    let mut seen: Vec<(&str, &Kind)> = Vec::new();
    for change in changes {
        let Some(first) = change.old.as_ref().or(change.new.as_ref()) else {
            return refuse("a change of nothing".into());
        };
        for set in change.old.iter().chain(&change.new) {
            if !set.kind.is_address() || !domains.contains(&set.name) {
                return refuse(format!("a change of {set}, which is not the site's"));
            }
            if set.special {
                return refuse(format!("a change of {set}, which is no plain record"));
            }
            if (&set.name, &set.kind) != (&first.name, &first.kind) {
                return refuse(format!("a change of {first} into {set}"));
            }
        }
        if seen.contains(&(first.name.as_str(), &first.kind)) {
            return refuse(format!("two changes of {first}"));
        }
        seen.push((&first.name, &first.kind));
        if let Some(new) = &change.new {
            let right = |value: &String| match new.kind {
                Kind::A => value.parse::<Ipv4Addr>().is_ok(),
                Kind::Aaaa => value.parse::<Ipv6Addr>().is_ok(),
                Kind::Cname | Kind::Other(_) => false,
            };
            match new.values.iter().find(|value| !right(value)) {
                Some(value) => return refuse(format!("{new} with the value `{value}`")),
                None if new.values.is_empty() => return refuse(format!("{new} without a value")),
                None => {}
            }
        }
    }
    Ok(())
}

/// Why changes were not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused to send changes of DNS records: {what}")]
pub struct Refusal {
    /// What was wrong with them.
    pub what: String,
}

/// The changes that only shorten how long resolvers keep an address which is about to change or to go.
pub fn before_move(wanted: &[RecordSet], found: &[RecordSet]) -> Vec<DnsChange> {
    let moves = |set: &RecordSet| {
        let old = at(found, set)?;
        let long = old.ttl_s > MOVING_TTL_S && !old.special && !same_values(old, set);
        long.then(|| DnsChange {
            old: Some(old.clone()),
            new: Some(RecordSet { ttl_s: MOVING_TTL_S, ..old.clone() }),
        })
    };
    wanted.iter().filter_map(moves).collect()
}

/// What has to go with a server that had these addresses, and what stays because it leads elsewhere, in words.
pub fn removals(
    domains: &[String],
    addresses: &BTreeSet<IpAddr>,
    found: &[RecordSet],
) -> (Vec<DnsChange>, Vec<String>) {
    let (mut changes, mut kept) = (Vec::new(), Vec::new());
    let ours = |value: &String| value.parse::<IpAddr>().is_ok_and(|ip| addresses.contains(&ip));
    for set in found.iter().filter(|set| domains.contains(&set.name)) {
        let others: BTreeSet<String> = set.values.iter().filter(|value| !ours(value)).cloned().collect();
        if !set.kind.is_address() {
            if set.kind == Kind::Cname {
                kept.push(format!("{set} stays: it leads to {}", listed(&others)));
            }
        } else if set.special {
            kept.push(format!("{set} stays: it is no plain record"));
        } else if others.is_empty() {
            changes.push(DnsChange { old: Some(set.clone()), new: None });
        } else if others.len() == set.values.len() {
            kept.push(format!("{set} stays: it leads to {}", listed(&others)));
        } else {
            let new = RecordSet { values: others, ids: Vec::new(), ..set.clone() };
            changes.push(DnsChange { old: Some(set.clone()), new: Some(new) });
        }
    }
    (changes, kept)
}

/// What changes are made for, which is the reason that a plan shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The site is to be found.
    Serve,
    /// The server goes.
    Leave,
}

/// A change as a plan shows it.
pub fn describe(change: &DnsChange, purpose: Purpose) -> Change {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let title = old.or(new).map(ToString::to_string).unwrap_or_default();
    let (action, why) = match (old, new) {
        (None, new) => {
            let to = new.map(|new| listed(&new.values)).unwrap_or_default();
            (Action::Create, format!("will lead to {to}"))
        }
        (Some(_), None) if purpose == Purpose::Leave => {
            (Action::Remove, "leads to the server that goes".to_owned())
        }
        (Some(old), None) => {
            let family = if old.kind == Kind::Aaaa { "IPv6" } else { "IPv4" };
            (Action::Remove, format!("the server has no {family} address, and visitors would try this one"))
        }
        (Some(old), Some(new)) if same_values(old, new) => {
            (Action::Update, format!("TTL {} → {}", old.ttl_s, new.ttl_s))
        }
        (Some(old), Some(new)) => {
            let gone: BTreeSet<String> = old.values.difference(&new.values).cloned().collect();
            let too = gone.len() < old.values.len();
            let then =
                if too { " too".to_owned() } else { format!(", will lead to {}", listed(&new.values)) };
            (Action::Update, format!("leads to {}{then}", listed(&gone)))
        }
    };
    let lines = |set: Option<&RecordSet>| -> Vec<String> {
        let line = |set: &RecordSet, value: &String| format!("{value}  TTL {}\n", set.ttl_s);
        set.iter().flat_map(|set| set.values.iter().map(|value| line(set, value))).collect()
    };
    let (before, after) = (lines(old), lines(new));
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("-{line}"));
    let made = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+{line}"));
    let diff: String = gone.chain(made).collect();
    Change::new(ResourceId::new("record", title), action, why, Vec::new()).with_diff(diff)
}

/// Records as a person types them into any registrar's form; each with the zone that it is in.
pub fn table(records: &[(&str, &RecordSet)]) -> String {
    let head = ["name", "full name", "type", "value", "TTL"].map(str::to_owned).to_vec();
    let rows = records.iter().flat_map(|(zone, set)| {
        set.values.iter().map(|value| {
            let kind = set.kind.to_string();
            let name = zones::relative(&set.name, zone).to_owned();
            vec![name, set.name.clone(), kind, value.clone(), set.ttl_s.to_string()]
        })
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column)));
        format!("  {}\n", cells.collect::<Vec<String>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
