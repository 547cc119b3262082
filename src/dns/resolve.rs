//! What the world's name servers say: which zone a name is in, who serves it, and whether every one of them has the
//! records by now.
//!
//! Invariant: a zone's own name servers are asked, never a cache, unless none of them can be reached from here.

pub mod ask;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::ask::{Answer, Code, Data, Question, Sort, ask};
use super::{Kind, RecordSet, Zone, zones};
use crate::error::{Exit, Failure};
use crate::providers::cloud::Progress;

/// The environment variable that names the servers to ask instead of all others: `address` or `address:port`, separated
/// by commas. For networks that are closed, or have names of their own.
pub const OVERRIDE: &str = "SHIP_NAMESERVERS";

/// How long to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one answer.
    pub per_try: Duration,
    /// How often one server is asked in a row.
    pub tries: u32,
    /// After which a server that has never answered is not waited for.
    pub silence: Duration,
    /// For all servers to have all records. Zero looks once.
    pub total: Duration,
}

impl Limits {
    /// The usual ones.
    pub fn within(total: Duration) -> Self {
        Self { per_try: Duration::from_secs(2), tries: 2, silence: Duration::from_secs(20), total }
    }
}

/// A name server of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    /// Its name.
    pub name: String,
    /// Where it is reached; empty if its name has no address.
    pub addresses: Vec<SocketAddr>,
}

/// Asks.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// Who is asked for everything that is not about a zone of its own.
    system: Vec<SocketAddr>,
    /// Whether they are asked for everything.
    alone: bool,
    port: u16,
    limits: Limits,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The environment variable makes no sense.
    #[error("{OVERRIDE} has `{0}`, which is no address")]
    Override(String),
    /// This computer doesn't say whom to ask.
    #[error("can't tell which name servers this computer asks: {0}")]
    System(String),
    /// Nobody answers.
    #[error("can't look up {what}: {why}")]
    Silent {
        /// What was asked for.
        what: String,
        /// Why there is no answer.
        why: String,
    },
    /// Nobody has such a zone.
    #[error("no name server knows a zone that {0} is in")]
    NoZone(String),
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        let message = error.to_string();
        match error {
            ResolveError::Override(_) => Failure::input(message)
                .hint("it takes addresses, with a port or without: 192.0.2.53,[2001:db8::53]:5353"),
            ResolveError::System(_) | ResolveError::Silent { .. } => Failure::new(Exit::Unreachable, message)
                .hint(format!("if this network has name servers of its own, name them in {OVERRIDE}")),
            ResolveError::NoZone(_) => {
                Failure::input(message).hint("is the domain registered, and spelled right in `domains`?")
            }
        }
    }
}

/// What the parent zone says of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delegation {
    /// It leads to the zone's name servers.
    Right,
    /// It leads to these, none of which is the zone's.
    Elsewhere(Vec<String>),
    /// It leads to some of the zone's, and to these others.
    Partly(Vec<String>),
    /// It has never heard of the zone.
    Nowhere,
    /// It says which keys sign the zone, and nothing signs it: resolvers that check don't believe the zone.
    Unsigned,
    /// It can't be asked.
    Untold,
}

impl Delegation {
    /// Whether the world finds the zone.
    pub fn leads_here(&self) -> bool {
        match self {
            Delegation::Right | Delegation::Partly(_) | Delegation::Untold => true,
            Delegation::Elsewhere(_) | Delegation::Nowhere | Delegation::Unsigned => false,
        }
    }

    /// What to do about it, if something is to be done.
    pub fn warning(&self, zone: &Zone) -> Option<String> {
        let name = &zone.name;
        let servers = zone.name_servers.join(", ");
        let enter = format!("enter these name servers where {name} is registered: {servers}");
        match self {
            Delegation::Right | Delegation::Untold => None,
            Delegation::Elsewhere(others) => Some(format!(
                "the world asks {} for {name}, not the zone with these records; {enter}",
                others.join(", ")
            )),
            Delegation::Partly(others) => Some(format!(
                "the world asks {} for {name} too, which may answer differently; {enter}",
                others.join(", ")
            )),
            Delegation::Nowhere => Some(format!("the world doesn't know {name} yet; {enter}")),
            Delegation::Unsigned => Some(format!(
                "{name} has a DS record where it is registered, but the zone is not signed, so most of the world refuses \
                 its answers; remove the DS record (switch DNSSEC off) there"
            )),
        }
    }
}

/// What a name server said of one of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Its name.
    pub server: String,
    /// The record set: `library.example.com A`.
    pub record: String,
    /// What it said.
    pub seen: Seen,
}

/// What came instead of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Other addresses, or none.
    Addresses(BTreeSet<IpAddr>),
    /// Not the zone's word: `Query Refused`, or an answer from somewhere else.
    NotTheZone(String),
    /// Nothing.
    Silent(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { server, record, seen } = self;
        match seen {
            Seen::Addresses(ips) if ips.is_empty() => write!(f, "{server}: there is no {record}"),
            Seen::Addresses(ips) => {
                let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
                write!(f, "{server}: {record} is {}", ips.join(", "))
            }
            Seen::NotTheZone(what) => write!(f, "{server}: {what} when asked for {record}"),
            Seen::Silent(why) => write!(f, "{server}: {why}"),
        }
    }
}

/// How waiting ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// What is still wrong; empty when all is as wanted.
    pub wrong: Vec<Wrong>,
    /// What could not be asked, and what was done about it.
    pub warnings: Vec<String>,
}

impl Resolver {
    /// Asks whom this computer asks, and the zones' own name servers; or only those that [`OVERRIDE`] names.
    pub fn from_environment(limits: Limits) -> Result<Self, ResolveError> {
        if let Some(text) = std::env::var(OVERRIDE).ok().filter(|text| !text.trim().is_empty()) {
            return Ok(Self::only(servers_in(&text).map_err(ResolveError::Override)?, limits));
        }
        const FILE: &str = "/etc/resolv.conf";
        let text = std::fs::read_to_string(FILE)
            .map_err(|error| ResolveError::System(format!("can't read {FILE}: {error}")))?;
        Ok(Self::new(resolv_conf(&text), 53, limits))
    }

    /// Asks these for everything but a zone's own records, and the zones' name servers at that port.
    pub fn new(system: Vec<SocketAddr>, port: u16, limits: Limits) -> Self {
        Self { system, alone: false, port, limits }
    }

    /// Asks these for everything, and believes them.
    pub fn only(servers: Vec<SocketAddr>, limits: Limits) -> Self {
        Self { system: servers, alone: true, port: 53, limits }
    }

    /// The same, with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long it asks.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    async fn ask_at(
        &self,
        server: SocketAddr,
        name: &str,
        sort: Sort,
        recurse: bool,
    ) -> Result<Answer, String> {
        let question = Question { name: name.to_owned(), sort, recurse };
        ask(server, &question, self.limits.per_try, self.limits.tries).await
    }

    /// Asks the system's servers, one after the other.
    async fn look_up(&self, name: &str, sort: Sort) -> Result<Answer, ResolveError> {
        let mut why = "there is no name server to ask".to_owned();
        for server in &self.system {
            match self.ask_at(*server, name, sort, true).await {
                Ok(Answer { code: Code::Failed(code), .. }) => why = format!("{server}: {code}"),
                Ok(answer) => return Ok(answer),
                Err(error) => why = format!("{server}: {error}"),
            }
        }
        let what = if name.is_empty() { "the root's name servers" } else { name };
        Err(ResolveError::Silent { what: what.to_owned(), why })
    }

    async fn names(&self, zone: &str) -> Result<Vec<String>, ResolveError> {
        let answer = self.look_up(zone, Sort::Ns).await?;
        Ok(name_servers(&answer.answers, zone).into_iter().collect())
    }

    async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let (four, six) = tokio::join!(self.look_up(name, Sort::A), self.look_up(name, Sort::Aaaa));
        // IPv4 first: not every network has IPv6.
        let found = [four, six].into_iter().flatten();
        found.flat_map(|answer| chain(&answer, name, None).addresses).collect()
    }

    /// Where a name leads, as whoever is asked from here says; an error if nobody says anything.
    pub async fn leads_to(&self, name: &str) -> Result<BTreeSet<IpAddr>, ResolveError> {
        let (four, six) = tokio::join!(self.look_up(name, Sort::A), self.look_up(name, Sort::Aaaa));
        let (four, six) = match (four, six) {
            (Err(error), Err(_)) => return Err(error),
            answers => answers,
        };
        Ok([four, six]
            .into_iter()
            .flatten()
            .flat_map(|answer| chain(&answer, name, None).addresses)
            .collect())
    }

    /// Finds the zone that a name is in, as the world sees it, with the names of its servers.
    ///
    /// Caches are asked for what is registered only: asked for a name below that isn't there yet, they would remember for
    /// many minutes that it is missing, and the user's browser with them.
    pub async fn zone_of(&self, domain: &str) -> Result<Zone, ResolveError> {
        let registered = zones::registrable(domain).unwrap_or_default();
        let mut zone: Option<Zone> = None;
        for name in zones::candidates(domain).into_iter().rev().filter(|name| name.len() >= registered.len())
        {
            let below = match &zone {
                Some(zone) if !self.alone => self.zone_below(zone, &name).await?,
                Some(_) | None => self.zone_at(&name).await?,
            };
            zone = below.or(zone);
        }
        zone.ok_or_else(|| ResolveError::NoZone(domain.to_owned()))
    }

    async fn zone_at(&self, name: &str) -> Result<Option<Zone>, ResolveError> {
        let answer = self.look_up(name, Sort::Soa).await?;
        // A CNAME answers with the SOA of where it leads.
        if !answer.answers.iter().any(|entry| entry.name == name && entry.data == Data::Soa) {
            return Ok(None);
        }
        let name_servers = self.names(name).await?;
        Ok(Some(Zone { id: name.to_owned(), name: name.to_owned(), name_servers }))
    }

    /// Asks a zone's name servers whether another zone begins at a name below.
    async fn zone_below(&self, zone: &Zone, name: &str) -> Result<Option<Zone>, ResolveError> {
        for address in self.servers(zone).await?.into_iter().flat_map(|server| server.addresses) {
            let Ok(answer) = self.ask_at(address, name, Sort::Ns, false).await else { continue };
            let mut names = name_servers(&answer.answers, name);
            names.extend(name_servers(&answer.authorities, name));
            let name_servers: Vec<String> = names.into_iter().collect();
            let found = Zone { id: name.to_owned(), name: name.to_owned(), name_servers };
            return Ok((!found.name_servers.is_empty()).then_some(found));
        }
        // Out of reach from here; the zone above is the best guess.
        Ok(None)
    }

    /// The name servers of a zone: those that the zone names, or those that the world knows.
    pub async fn servers(&self, zone: &Zone) -> Result<Vec<NameServer>, ResolveError> {
        if self.alone {
            let server =
                |address: &SocketAddr| NameServer { name: address.to_string(), addresses: vec![*address] };
            return Ok(self.system.iter().map(server).collect());
        }
        let names = match zone.name_servers.as_slice() {
            [] => self.names(&zone.name).await?,
            names => names.to_vec(),
        };
        if names.is_empty() {
            return Err(ResolveError::NoZone(zone.name.clone()));
        }
        let mut servers = Vec::new();
        for name in names {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let addresses = self.addresses(&name).await.into_iter().map(|ip| SocketAddr::new(ip, self.port));
            servers.push(NameServer { addresses: addresses.collect(), name });
        }
        Ok(servers)
    }

    /// Asks the zone above whether it leads to this zone's name servers.
    pub async fn delegation(&self, zone: &Zone) -> Delegation {
        if self.alone || zone.name_servers.is_empty() {
            return Delegation::Untold;
        }
        let Some(parents) = self.parents(&zone.name).await else { return Delegation::Untold };
        for parent in parents {
            let Ok(answer) = self.ask_at(parent, &zone.name, Sort::Ns, false).await else { continue };
            let mut there = name_servers(&answer.answers, &zone.name);
            there.extend(name_servers(&answer.authorities, &zone.name));
            match (&answer.code, there.is_empty()) {
                (Code::Failed(_), _) => continue,
                (Code::Fine | Code::NoSuchName, true) if !answer.authoritative => continue,
                (Code::Fine | Code::NoSuchName, true) => return Delegation::Nowhere,
                (Code::Fine | Code::NoSuchName, false) => {}
            }
            let plain = |name: &String| name.trim_end_matches('.').to_ascii_lowercase();
            let ours: BTreeSet<String> = zone.name_servers.iter().map(plain).collect();
            let others: Vec<String> = there.difference(&ours).cloned().collect();
            return match (others.is_empty(), others.len() == there.len()) {
                (true, _) if self.is_unsigned(zone, parent).await => Delegation::Unsigned,
                (true, _) => Delegation::Right,
                (false, true) => Delegation::Elsewhere(others),
                (false, false) => Delegation::Partly(others),
            };
        }
        Delegation::Untold
    }

    /// The servers of the nearest zone above.
    async fn parents(&self, zone: &str) -> Option<Vec<SocketAddr>> {
        let mut name = zone;
        while !name.is_empty() {
            name = name.split_once('.').map_or("", |(_, above)| above);
            let servers = self.names(name).await.ok()?;
            let mut addresses = Vec::new();
            // Two are enough: all say the same.
            for server in servers.iter().take(2) {
                addresses.extend(self.addresses(server).await);
            }
            if !addresses.is_empty() {
                return Some(addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect());
            }
        }
        None
    }

    async fn is_unsigned(&self, zone: &Zone, parent: SocketAddr) -> bool {
        let has = |answer: &Answer, kind: &str| {
            answer
                .answers
                .iter()
                .any(|entry| entry.name == zone.name && entry.data == Data::Other(kind.into()))
        };
        let Ok(ds) = self.ask_at(parent, &zone.name, Sort::Ds, false).await else { return false };
        if !has(&ds, "DS") {
            return false;
        }
        for server in self.servers(zone).await.unwrap_or_default() {
            for address in server.addresses {
                match self.ask_at(address, &zone.name, Sort::Dnskey, false).await {
                    Ok(keys) if keys.authoritative => return !has(&keys, "DNSKEY"),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        false
    }

    /// Waits until every one of the servers has all the records, or the time is over. A set without values must not be
    /// there. Servers that have never answered are given up after a while; if that is all of them, the system's own are
    /// asked instead.
    pub async fn settled(
        &self,
        wanted: &[RecordSet],
        servers: &[NameServer],
        progress: Progress<'_>,
    ) -> Settled {
        const PAUSES_MS: [u64; 5] = [500, 1000, 2000, 3000, 5000];
        let started = Instant::now();
        let mut asked = servers.to_vec();
        let mut authoritative = !self.alone;
        let mut warnings = Vec::new();
        let mut answered: BTreeSet<String> = BTreeSet::new();
        let mut pauses = PAUSES_MS.into_iter();
        let mut pause = Duration::from_millis(500);
        loop {
            let round = self.round(wanted, &asked, authoritative).await;
            answered
                .extend(round.iter().filter(|(_, wrong)| !is_silent(wrong)).map(|(name, _)| name.clone()));
            let wrong: Vec<Wrong> = round.into_iter().filter_map(|(_, wrong)| wrong).collect();
            let (given_up, waited_for): (Vec<Wrong>, Vec<Wrong>) =
                wrong.into_iter().partition(|wrong| !answered.contains(&wrong.server));
            let left = self.limits.total.saturating_sub(started.elapsed());
            let silent_for_long = started.elapsed() >= self.limits.silence || left.is_zero();
            if waited_for.is_empty() && given_up.is_empty() {
                return Settled { wrong: Vec::new(), warnings };
            }
            if silent_for_long && answered.is_empty() && authoritative {
                let names: Vec<String> = self.system.iter().map(ToString::to_string).collect();
                let first = given_up.first().map(ToString::to_string).unwrap_or_default();
                warnings.push(format!(
                    "none of the zone's name servers can be asked from here ({first}); asked {} instead, who may remember \
                     an old answer",
                    names.join(", ")
                ));
                asked = self
                    .system
                    .iter()
                    .map(|address| NameServer { name: address.to_string(), addresses: vec![*address] })
                    .collect();
                authoritative = false;
                continue;
            }
            if silent_for_long && waited_for.is_empty() && !answered.is_empty() {
                let mut names: Vec<&str> = given_up.iter().map(|wrong| wrong.server.as_str()).collect();
                names.dedup();
                warnings
                    .push(format!("could not ask {}; the other name servers are right", names.join(", ")));
                return Settled { wrong: Vec::new(), warnings };
            }
            if left.is_zero() {
                return Settled { wrong: waited_for.into_iter().chain(given_up).collect(), warnings };
            }
            if let Some(first) = waited_for.first().or(given_up.first()) {
                progress(&waiting(first, &waited_for, asked.len()));
            }
            pause = pauses.next().map_or(pause, Duration::from_millis);
            tokio::time::sleep(pause.min(left)).await;
        }
    }

    /// Asks every server for every set at once: the server's name, and what is wrong.
    async fn round(
        &self,
        wanted: &[RecordSet],
        servers: &[NameServer],
        authoritative: bool,
    ) -> Vec<(String, Option<Wrong>)> {
        const AT_ONCE: usize = 32;
        let (resolver, sockets) = (Arc::new(self.clone()), Arc::new(Semaphore::new(AT_ONCE)));
        let mut questions = JoinSet::new();
        for (place, (server, set)) in
            servers.iter().flat_map(|server| wanted.iter().map(move |set| (server, set))).enumerate()
        {
            let (resolver, server, set) = (Arc::clone(&resolver), server.clone(), set.clone());
            let sockets = Arc::clone(&sockets);
            questions.spawn(async move {
                // The semaphore is never closed.
                let _one = sockets.acquire().await;
                let seen = resolver.check(&server, &set, authoritative).await;
                let wrong =
                    seen.map(|seen| Wrong { server: server.name.clone(), record: set.to_string(), seen });
                (place, server.name, wrong)
            });
        }
        let mut answers = questions.join_all().await;
        answers.sort_by_key(|(place, _, _)| *place);
        answers.into_iter().map(|(_, name, wrong)| (name, wrong)).collect()
    }

    /// What a server says instead of a record set.
    async fn check(&self, server: &NameServer, set: &RecordSet, authoritative: bool) -> Option<Seen> {
        let sort = match set.kind {
            Kind::A => Sort::A,
            Kind::Aaaa => Sort::Aaaa,
            Kind::Cname | Kind::Other(_) => return None,
        };
        let mut silence = Seen::Silent("its name has no address".into());
        for address in &server.addresses {
            match self.ask_at(*address, &set.name, sort, !authoritative).await {
                Ok(answer) => return self.judge(&answer, set, sort, authoritative).await,
                Err(why) => silence = Seen::Silent(format!("{why} ({address})")),
            }
        }
        Some(silence)
    }

    async fn judge(&self, answer: &Answer, set: &RecordSet, sort: Sort, authoritative: bool) -> Option<Seen> {
        if let Code::Failed(code) = &answer.code {
            return Some(Seen::NotTheZone(format!("answers \"{code}\"")));
        }
        if authoritative && !answer.authoritative {
            return Some(Seen::NotTheZone("does not have the zone".into()));
        }
        let Chain { mut addresses, leads_to } = chain(answer, &set.name, Some(sort));
        // A CNAME out of the zone, set by hand: whoever visits the site follows it.
        if addresses.is_empty()
            && let Some(name) = leads_to
            && let Ok(further) = self.look_up(&name, sort).await
        {
            addresses = chain(&further, &name, Some(sort)).addresses;
        }
        let wanted: BTreeSet<IpAddr> = set.values.iter().filter_map(|value| value.parse().ok()).collect();
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().collect();
        (addresses != wanted).then_some(Seen::Addresses(addresses))
    }
}

fn is_silent(wrong: &Option<Wrong>) -> bool {
    matches!(wrong, Some(Wrong { seen: Seen::Silent(_), .. }))
}

/// `waiting for ns2.example.net (1 of 3 name servers): library.example.com A is 203.0.113.9`
fn waiting(first: &Wrong, waited_for: &[Wrong], all: usize) -> String {
    let behind: BTreeSet<&str> = waited_for.iter().map(|wrong| wrong.server.as_str()).collect();
    format!("waiting for {} of {all} name servers; {first}", behind.len().max(1))
}

/// Where a name leads within one answer.
struct Chain {
    addresses: Vec<IpAddr>,
    /// The last name of the chain, if that is another one.
    leads_to: Option<String>,
}

/// Follows CNAMEs through an answer.
fn chain(answer: &Answer, name: &str, sort: Option<Sort>) -> Chain {
    let mut name = name;
    // An answer can't have a chain longer than itself, unless it turns in a circle.
    for _ in &answer.answers {
        let next = answer.answers.iter().find_map(|entry| match &entry.data {
            Data::Cname(target) if entry.name == name => Some(target.as_str()),
            Data::Cname(_) | Data::Address(_) | Data::Ns(_) | Data::Soa | Data::Other(_) => None,
        });
        let Some(next) = next else { break };
        name = next;
    }
    let right = |ip: &IpAddr| match sort {
        Some(Sort::A) => ip.is_ipv4(),
        Some(Sort::Aaaa) => ip.is_ipv6(),
        Some(Sort::Ns | Sort::Soa | Sort::Ds | Sort::Dnskey) | None => true,
    };
    let address = |entry: &ask::Entry| match &entry.data {
        Data::Address(ip) if entry.name == name && right(ip) => Some(*ip),
        Data::Address(_) | Data::Cname(_) | Data::Ns(_) | Data::Soa | Data::Other(_) => None,
    };
    let addresses = answer.answers.iter().filter_map(address).collect();
    let is_alias = answer.answers.iter().any(|entry| entry.data == Data::Cname(name.to_owned()));
    Chain { addresses, leads_to: is_alias.then(|| name.to_owned()) }
}

fn name_servers(entries: &[ask::Entry], zone: &str) -> BTreeSet<String> {
    let server = |entry: &ask::Entry| match &entry.data {
        Data::Ns(name) if entry.name == zone => Some(name.clone()),
        Data::Ns(_) | Data::Address(_) | Data::Cname(_) | Data::Soa | Data::Other(_) => None,
    };
    entries.iter().filter_map(server).collect()
}

/// Servers written as `address` or `address:port`, separated by commas. The error is what is no address.
fn servers_in(text: &str) -> Result<Vec<SocketAddr>, String> {
    let server = |word: &str| {
        let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
        let address = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        address.or_else(|_| word.parse::<SocketAddr>()).map_err(|_| word.to_owned())
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(server).collect()
}

/// The servers that /etc/resolv.conf names; like the C library, this computer's own if there are none.
fn resolv_conf(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        let ip = words.next().filter(|_| is_server)?.parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(ip, 53))
    };
    let servers: Vec<SocketAddr> = text.lines().filter_map(server).collect();
    if servers.is_empty() { vec![([127, 0, 0, 1], 53).into()] } else { servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(servers: &[SocketAddr]) -> Vec<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_named_with_a_port_or_without() {
        let table: [(&str, Result<&[&str], &str>); 8] = [
            ("192.0.2.53", Ok(&["192.0.2.53:53"])),
            ("192.0.2.53:5353, 192.0.2.54,", Ok(&["192.0.2.53:5353", "192.0.2.54:53"])),
            ("2001:db8::53", Ok(&["[2001:db8::53]:53"])),
            ("[2001:db8::53],[2001:db8::54]:5353", Ok(&["[2001:db8::53]:53", "[2001:db8::54]:5353"])),
            ("", Ok(&[])),
            ("ns1.example.com", Err("ns1.example.com")),
            ("192.0.2.53, 192.0.2.300", Err("192.0.2.300")),
            ("192.0.2.53:70000", Err("192.0.2.53:70000")),
        ];
        for (text, expect) in table {
            let expect = expect.map(|servers| servers.iter().map(|server| (*server).to_owned()).collect());
            assert_eq!(
                servers_in(text).map(|servers| texts(&servers)),
                expect.map_err(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn the_system_s_servers_are_found() {
        let text = "# by hand\nsearch example.com\nnameserver 192.0.2.53\n; no\nnameserver\t2001:db8::53 \n\
                    nameserver fe80::1%eth0\nnameserver\noptions ndots:2\nnameservers 192.0.2.99\n";
        assert_eq!(texts(&resolv_conf(text)), ["192.0.2.53:53", "[2001:db8::53]:53"]);
        assert_eq!(texts(&resolv_conf("search example.com\n")), ["127.0.0.1:53"]);
    }
}
