//! The site's records from survey to proof: looked at, planned, changed, and waited for until every name server has them.
//!
//! Invariant: surveys write nothing, and no change is sent that `records::refusal` has not let pass.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::records::{self, Purpose, Refusal, Target};
use super::resolve::{Limits, ResolveError, Resolver, Seen, Wrong};
use super::zones::{self, Place};
use super::{DnsChange, Obstacle, RecordSet, Zone};
use crate::config::Config;
use crate::error::Failure;
use crate::plan::{Action, Change, ResourceId};
use crate::providers::cloud::{DnsProvider, Progress};
use crate::providers::error::CloudError;

/// Why the records are not as they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The zones' host.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Something in the account has to go, or to be made, first.
    #[error("{}", first(.0))]
    InTheWay(Vec<Obstacle>),
    /// A plan that can't be right.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody to ask.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The server has no address that a record could have.
    #[error("the server has no public address for the records of {0}")]
    NoAddress(String),
    /// The name servers don't agree within the time.
    #[error("the name servers of {zone} don't all have the records after {seconds} s")]
    Unsettled {
        /// The zone.
        zone: String,
        /// What they say instead.
        wrong: Vec<Wrong>,
        /// How long it was waited for.
        seconds: u64,
    },
}

fn first(obstacles: &[Obstacle]) -> String {
    match obstacles {
        [only] => only.to_string(),
        several => format!("{} things are in the way of the site's records", several.len()),
    }
}

impl From<DnsError> for Failure {
    fn from(error: DnsError) -> Self {
        let message = error.to_string();
        match error {
            DnsError::Cloud(error) => error.into(),
            DnsError::Resolve(error) => error.into(),
            DnsError::InTheWay(obstacles) => {
                let several = obstacles.len() > 1;
                let lines: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
                let failure =
                    Failure::input(message).detail(if several { lines.join("\n") } else { String::new() });
                let mut hints: Vec<String> = obstacles.iter().flat_map(Obstacle::hints).collect();
                let mut seen = BTreeSet::new();
                hints.retain(|hint| seen.insert(hint.clone()));
                hints.into_iter().fold(failure, Failure::hint)
            }
            DnsError::Refused(_) => Failure::failed(message).hint(
                "nothing was changed; this is a fault of ship's, or a strange answer of the zone's host",
            ),
            DnsError::NoAddress(_) => Failure::input(message),
            DnsError::Unsettled { wrong, .. } => Failure::failed(message)
                .detail(lines(&wrong))
                .hint("`ship up` carries on from here; new records can take some minutes"),
        }
    }
}

/// What is wrong, a line each, without end.
fn lines(wrong: &[Wrong]) -> String {
    const MOST: usize = 12;
    let mut lines: Vec<String> = wrong.iter().take(MOST).map(ToString::to_string).collect();
    if wrong.len() > MOST {
        lines.push(format!("and {} more", wrong.len() - MOST));
    }
    lines.join("\n")
}

/// The records of one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    place: Place,
    wanted: Vec<RecordSet>,
    found: Vec<RecordSet>,
    changes: Vec<DnsChange>,
}

/// What is to be done about the records, and what they will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsPlan {
    parts: Vec<Part>,
    purpose: Purpose,
    warnings: Vec<String>,
}

impl DnsPlan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.place.zone.is_some() && part.changes.is_empty())
    }

    /// What is to be done, as a plan shows it.
    pub fn changes(&self) -> Vec<Change> {
        let of_part = |part: &Part| {
            let id = ResourceId::new("zone", part.place.name.clone());
            let why = "its name servers are then to be entered where the domain is registered";
            let zone = part.place.zone.is_none().then(|| Change::new(id, Action::Create, why, Vec::new()));
            let records = part.changes.iter().map(|change| records::describe(change, self.purpose));
            zone.into_iter().chain(records).collect::<Vec<Change>>()
        };
        self.parts.iter().flat_map(of_part).collect()
    }

    /// What [`lower_ttl`] would do, as a plan shows it.
    pub fn lowered(&self) -> Vec<Change> {
        let moving = self.parts.iter().flat_map(Part::before_move);
        let describe = |change: DnsChange| {
            let mut change = records::describe(&change, self.purpose);
            change.why = format!("{}, before the address moves", change.why);
            change
        };
        moving.map(describe).collect()
    }

    /// What is worth a second look.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Part {
    fn before_move(&self) -> Vec<DnsChange> {
        records::before_move(&self.wanted, &self.found)
    }
}

/// Looks at the zones and compares. Before the server exists its addresses may be unknown; such a plan can be shown, and
/// its TTLs lowered, but it can't be applied. Without a host for the zones there is nothing to plan.
pub async fn survey<P: DnsProvider>(
    provider: &P,
    config: &Config,
    target: &Target,
) -> Result<DnsPlan, DnsError> {
    let mut plan = DnsPlan { parts: Vec::new(), purpose: Purpose::Serve, warnings: Vec::new() };
    let Some(host) = config.dns.host.filter(|_| !config.domains.is_empty()) else { return Ok(plan) };
    if !target.leads_somewhere() {
        return Err(DnsError::NoAddress(config.domains.join(", ")));
    }
    plan.warnings.extend(private(target));
    let zones = provider.zones(&zones::questions(&config.domains)).await?;
    let places = zones::places(&config.domains, &zones, host, config.dns.create_zone);
    let mut obstacles = Vec::new();
    for place in places.map_err(DnsError::InTheWay)? {
        let found = match &place.zone {
            Some(zone) => provider.records(zone, &records::questions(&zone.name, &place.domains)).await?,
            None => Vec::new(),
        };
        let wanted = records::wanted(&place.domains, target, config.dns.ttl_s);
        match records::plan(&place.name, &wanted, &found) {
            Ok(changes) => plan.parts.push(Part { place, wanted, found, changes }),
            Err(found) => obstacles.extend(found),
        }
    }
    if obstacles.is_empty() { Ok(plan) } else { Err(DnsError::InTheWay(obstacles)) }
}

fn private(target: &Target) -> Option<String> {
    let address = target.private()?;
    Some(format!("{address} is an address of a private network: nobody outside it will find the site"))
}

/// Looks for what leads to a server that goes: A and AAAA of the site's names, as far as they have these addresses.
/// Zones stay.
pub async fn survey_removal<P: DnsProvider>(
    provider: &P,
    config: &Config,
    addresses: &BTreeSet<IpAddr>,
) -> Result<DnsPlan, DnsError> {
    let mut plan = DnsPlan { parts: Vec::new(), purpose: Purpose::Leave, warnings: Vec::new() };
    let Some(host) = config.dns.host.filter(|_| !addresses.is_empty()) else { return Ok(plan) };
    let zones = provider.zones(&zones::questions(&config.domains)).await?;
    for domain in &config.domains {
        // A domain without a zone has no records to remove, and that is none of today's problems.
        let places = zones::places(std::slice::from_ref(domain), &zones, host, false);
        let Ok([place]) = places.as_deref() else { continue };
        match plan.parts.iter_mut().find(|part| part.place.name == place.name) {
            Some(part) => part.place.domains.push(domain.clone()),
            None => {
                let place = place.clone();
                plan.parts.push(Part { place, wanted: Vec::new(), found: Vec::new(), changes: Vec::new() });
            }
        }
    }
    for part in &mut plan.parts {
        let Some(zone) = &part.place.zone else { continue };
        part.found = provider.records(zone, &part.place.domains).await?;
        let (changes, kept) = records::removals(&part.place.domains, addresses, &part.found);
        part.changes = changes;
        plan.warnings.extend(kept);
    }
    Ok(plan)
}

/// Shortens how long resolvers keep the addresses that the plan changes, so that they forget them in time: the earlier
/// before the move the better. Tells for how many seconds the old answers may live on.
pub async fn lower_ttl<P: DnsProvider>(
    provider: &P,
    plan: &mut DnsPlan,
    progress: Progress<'_>,
) -> Result<Option<u32>, DnsError> {
    let mut longest = None;
    for part in &mut plan.parts {
        let moving = part.before_move();
        let Some(zone) = part.place.zone.as_ref().filter(|_| !moving.is_empty()) else { continue };
        send(provider, zone, &part.place.domains, &moving, progress).await?;
        for old in moving.iter().filter_map(|change| change.old.as_ref()) {
            longest = longest.max(Some(old.ttl_s));
            for set in part.found.iter_mut().filter(|set| set.name == old.name && set.kind == old.kind) {
                set.ttl_s = records::MOVING_TTL_S;
            }
        }
        part.changes =
            records::plan(&part.place.name, &part.wanted, &part.found).map_err(DnsError::InTheWay)?;
    }
    Ok(longest)
}

/// Makes the zones that are missing and sends the changes.
pub async fn apply<P: DnsProvider>(
    provider: &P,
    plan: &mut DnsPlan,
    progress: Progress<'_>,
) -> Result<(), DnsError> {
    // All are judged before the first is sent.
    for part in &plan.parts {
        records::refusal(&part.place.domains, &part.changes)?;
    }
    for part in &mut plan.parts {
        let zone = match &part.place.zone {
            Some(zone) => zone.clone(),
            None => {
                progress(&format!("making the zone {}", part.place.name));
                provider.create_zone(&part.place.name).await?
            }
        };
        part.place.zone = Some(zone.clone());
        if !part.changes.is_empty() {
            send(provider, &zone, &part.place.domains, &part.changes, progress).await?;
            part.changes.clear();
        }
    }
    Ok(())
}

async fn send<P: DnsProvider>(
    provider: &P,
    zone: &Zone,
    domains: &[String],
    changes: &[DnsChange],
    progress: Progress<'_>,
) -> Result<(), DnsError> {
    records::refusal(domains, changes)?;
    progress(&format!("changing {}", crate::human::count(changes.len(), "record")));
    Ok(provider.apply(zone, changes, progress).await?)
}

/// What came of waiting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waited {
    /// What is worth a second look.
    pub warnings: Vec<String>,
    /// The domains that the world does not find yet although their zone has the records: a certificate for them is out of
    /// reach.
    pub unseen: Vec<String>,
}

/// Waits until every name server of the zones has the records, as long as the resolver's limits allow, and asks whether
/// the world is sent to those name servers at all.
pub async fn wait(resolver: &Resolver, plan: &DnsPlan, progress: Progress<'_>) -> Result<Waited, DnsError> {
    let mut waited = Waited::default();
    for part in &plan.parts {
        progress(&format!("asking the name servers of {}", part.place.name));
        let zone = match (&part.place.zone, part.place.domains.first()) {
            (Some(zone), _) => zone.clone(),
            (None, Some(domain)) => resolver.zone_of(domain).await?,
            (None, None) => continue,
        };
        if part.wanted.iter().any(|set| set.values.contains(records::NEW_ADDRESS)) {
            return Err(DnsError::NoAddress(part.place.domains.join(", ")));
        }
        let delegation = resolver.delegation(&zone).await;
        waited.warnings.extend(delegation.warning(&zone));
        if !delegation.leads_here() {
            waited.unseen.extend(part.place.domains.clone());
        }
        let servers = resolver.servers(&zone).await?;
        let settled = resolver.settled(&part.wanted, &servers, progress).await;
        waited.warnings.extend(settled.warnings);
        if !settled.wrong.is_empty() {
            let seconds = resolver.limits().total.as_secs();
            return Err(DnsError::Unsettled { zone: zone.name.clone(), wrong: settled.wrong, seconds });
        }
    }
    Ok(waited)
}

/// The records of somebody who sets them by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// To wait for.
    pub plan: DnsPlan,
    /// What the name servers say now that they should not.
    pub wrong: Vec<Wrong>,
}

impl ByHand {
    /// Whether all is as it should be.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// What to set, and what to remove, for a person in front of a registrar's form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.plan.parts {
            let servers =
                part.place.zone.iter().flat_map(|zone| zone.name_servers.clone()).collect::<Vec<String>>();
            let servers =
                if servers.is_empty() { String::new() } else { format!(" ({})", servers.join(", ")) };
            text += &format!("Set these records where the DNS of {} is kept{servers}:\n\n", part.place.name);
            let rows: Vec<(&str, &RecordSet)> =
                part.wanted.iter().map(|set| (part.place.name.as_str(), set)).collect();
            text += &records::table(&rows);
            text += "\n";
            for set in part.wanted.iter().filter(|set| set.values.is_empty()) {
                text += &self.to_remove(set);
            }
        }
        text
    }

    fn to_remove(&self, set: &RecordSet) -> String {
        let there = self.wrong.iter().find_map(|wrong| match &wrong.seen {
            Seen::Addresses(ips) if wrong.record == set.to_string() && !ips.is_empty() => Some(ips),
            Seen::Addresses(_) | Seen::NotTheZone(_) | Seen::Silent(_) => None,
        });
        there.map_or_else(String::new, |ips| {
            let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
            format!("Remove {set} {}: the server does not have that address.\n\n", ips.join(", "))
        })
    }
}

/// Looks once whether the records that the user keeps are right. Whatever can't be found out counts as wrong.
pub async fn by_hand(resolver: &Resolver, config: &Config, target: &Target) -> Result<ByHand, DnsError> {
    let mut plan = DnsPlan { parts: Vec::new(), purpose: Purpose::Serve, warnings: Vec::new() };
    if !config.domains.is_empty() && !target.leads_somewhere() {
        return Err(DnsError::NoAddress(config.domains.join(", ")));
    }
    plan.warnings.extend(private(target));
    let mut answers = true;
    for domain in &config.domains {
        let mut zone = None;
        if answers {
            match resolver.zone_of(domain).await {
                Ok(found) => zone = Some(found),
                Err(error) => {
                    // Whoever does not answer the first question answers none, and each takes its time.
                    answers = matches!(error, ResolveError::NoZone(_));
                    plan.warnings.push(error.to_string());
                }
            }
        }
        let registrable = || zones::registrable(domain).unwrap_or_else(|| domain.clone());
        let name = zone.as_ref().map_or_else(registrable, |zone| zone.name.clone());
        match plan.parts.iter_mut().find(|part| part.place.name == name) {
            Some(part) => part.place.domains.push(domain.clone()),
            None => {
                let place = Place { name, zone, domains: vec![domain.clone()] };
                plan.parts.push(Part { place, wanted: Vec::new(), found: Vec::new(), changes: Vec::new() });
            }
        }
    }
    let once = resolver.clone().with_limits(Limits { total: std::time::Duration::ZERO, ..resolver.limits() });
    let mut wrong = Vec::new();
    for part in &mut plan.parts {
        part.wanted = records::wanted(&part.place.domains, target, config.dns.ttl_s);
        let unknown = |why: &str| {
            let seen = |set: &RecordSet| {
                let seen = Seen::Silent(why.to_owned());
                Wrong { server: part.place.name.clone(), record: set.to_string(), seen }
            };
            part.wanted.iter().map(seen).collect::<Vec<Wrong>>()
        };
        let Some(zone) = &part.place.zone else {
            wrong.extend(unknown("its name servers can't be found"));
            continue;
        };
        if !target.is_known() {
            wrong.extend(unknown("the server isn't there yet"));
            continue;
        }
        let delegation = resolver.delegation(zone).await;
        plan.warnings.extend(delegation.warning(zone));
        match once.servers(zone).await {
            Ok(servers) => wrong.extend(once.settled(&part.wanted, &servers, &|_| {}).await.wrong),
            Err(error) => wrong.extend(unknown(&error.to_string())),
        }
    }
    Ok(ByHand { plan, wrong })
}
