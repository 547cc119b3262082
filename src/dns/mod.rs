//! The records of the site's names: what there should be, what there is, the changes between them, and how they are made.
//!
//! Here and in `zones` and `records` is what is data; `converge` and `resolve` talk to the world, and each zone host has a
//! file of its own. Invariant: only A and AAAA records of exactly the site's own names are ever changed.

pub mod any;
pub mod converge;
pub mod records;
pub mod resolve;
pub mod zones;

pub mod digitalocean;
#[cfg(feature = "aws")]
pub mod route53;

use std::collections::BTreeSet;
use std::fmt;

/// Kinds of records that matter here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Another name, which excludes every other record of the same name.
    Cname,
    /// Anything else, as the API calls it. Never touched.
    Other(String),
}

impl Kind {
    /// Whether ship may change records of this kind.
    pub fn is_address(&self) -> bool {
        match self {
            Kind::A | Kind::Aaaa => true,
            Kind::Cname | Kind::Other(_) => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Cname => "CNAME",
            Kind::Other(name) => name,
        })
    }
}

/// All records of one name and kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordSet {
    /// Full name, lower case, without the last dot.
    pub name: String,
    /// Kind.
    pub kind: Kind,
    /// Seconds that resolvers may keep it.
    pub ttl_s: u32,
    /// The values. In what there should be, none means that no such record may exist.
    pub values: BTreeSet<String>,
    /// The API's ids, where records have some: value and id.
    pub ids: Vec<(String, String)>,
    /// Whether the API has something here that is no plain set of records: an alias, a weighted or latency record.
    pub special: bool,
}

/// As plans and progress name it: `library.example.com A`.
impl fmt::Display for RecordSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}

/// A zone that the account has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The API's id; at DigitalOcean the name.
    pub id: String,
    /// Its name, lower case, without the last dot.
    pub name: String,
    /// The names of its name servers, where the API tells them.
    pub name_servers: Vec<String>,
}

/// What to do with one record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsChange {
    /// What is there.
    pub old: Option<RecordSet>,
    /// What should be; `None` removes it.
    pub new: Option<RecordSet>,
}

/// Something in the account that keeps a name from being the site's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A name of one label is in no zone that anyone could have.
    SingleLabel {
        /// The name.
        domain: String,
    },
    /// The account has no zone that the name is in.
    NoZone {
        /// The name.
        domain: String,
        /// The zones that were looked for.
        asked: Vec<String>,
        /// The zones that the account has for other domains.
        others: Vec<String>,
        /// The zone that `create_zone` would make.
        registrable: Option<String>,
        /// What `dns` says now.
        provider: &'static str,
    },
    /// No zone can be made for a name that is a public suffix itself.
    PublicSuffix {
        /// The name.
        domain: String,
    },
    /// Two zones of the same name: nobody here knows which one the world asks.
    TwoZones {
        /// Their name.
        name: String,
        /// Their ids and name servers.
        zones: Vec<Zone>,
    },
    /// The name is another name for something else.
    Cname {
        /// The name.
        domain: String,
        /// What it stands for.
        target: String,
        /// The zone.
        zone: String,
    },
    /// Something that only the zone's host understands.
    Special {
        /// The name.
        domain: String,
        /// The kind of record.
        kind: Kind,
        /// Where it leads, if anywhere by itself.
        values: Vec<String>,
        /// The zone.
        zone: String,
    },
    /// The zone hands the name to other name servers.
    Delegated {
        /// The name.
        domain: String,
        /// Where the NS record is: the name or one above it.
        at: String,
        /// The other name servers.
        to: Vec<String>,
        /// The zone.
        zone: String,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::SingleLabel { domain } => {
                write!(f, "`{domain}` is a single word, and no zone can have it")
            }
            Obstacle::NoZone { domain, asked, .. } => {
                write!(f, "there is no zone for {domain} in the account (looked for {})", listed(asked))
            }
            Obstacle::PublicSuffix { domain } => {
                write!(f, "there is no zone for {domain}, and none can be made: it is a public suffix")
            }
            Obstacle::TwoZones { name, zones } => {
                write!(f, "the account has {} zones named {name}", zones.len())
            }
            Obstacle::Cname { domain, target, .. } => {
                write!(f, "{domain} is a CNAME of {target}, and then it can't have addresses of its own")
            }
            Obstacle::Special { domain, kind, values, .. } => {
                write!(
                    f,
                    "{domain} {kind} is an alias, or one of several answers that the zone's host chooses from"
                )?;
                if values.is_empty() { Ok(()) } else { write!(f, " ({})", values.join(", ")) }
            }
            Obstacle::Delegated { domain, at, to, zone } => {
                write!(f, "the zone {zone} hands {at} to other name servers ({})", to.join(", "))?;
                if at == domain { Ok(()) } else { write!(f, ", and {domain} with it") }
            }
        }
    }
}

impl Obstacle {
    /// What to do about it.
    pub fn hints(&self) -> Vec<String> {
        let leave = |domain: &str| format!("or take {domain} out of `domains`");
        match self {
            Obstacle::SingleLabel { domain } => {
                vec![format!("write the whole name, such as {domain}.example.com")]
            }
            Obstacle::NoZone { asked: _, others, registrable, provider, domain: _ } => {
                let mut hints = Vec::new();
                if !others.is_empty() {
                    hints.push(format!("the account has {}", listed(others)));
                }
                if let Some(zone) = registrable {
                    hints.push(format!(
                        "`dns: {{provider: {provider}, create_zone: true}}` makes the zone {zone}; the name servers it gets \
                         are then to be entered where {zone} is registered"
                    ));
                }
                hints.push("or `dns: none`: then `ship up` prints the records for you to set".to_owned());
                hints
            }
            Obstacle::PublicSuffix { domain } => vec![format!("use a name below it: www.{domain}")],
            Obstacle::TwoZones { name, zones } => {
                let servers = |zone: &Zone| format!("{} has {}", zone.id, zone.name_servers.join(", "));
                let listed: Vec<String> = zones.iter().map(servers).collect();
                vec![
                    listed.join("; "),
                    format!("`dig NS {name}` tells which one the world asks; delete the other"),
                ]
            }
            Obstacle::Cname { domain, zone, .. } => vec![
                format!(
                    "remove that CNAME from the zone {zone}: `ship up` sets the addresses of each of `domains` itself"
                ),
                leave(domain),
            ],
            Obstacle::Special { domain, zone, .. } => vec![
                format!("remove it from the zone {zone}: `ship up` sets plain records"),
                format!("{}, or keep all records yourself with `dns: none`", leave(domain)),
            ],
            Obstacle::Delegated { domain, at, zone, .. } => vec![
                format!("if {at} is to be part of {zone}, remove that NS record"),
                format!(
                    "if not, the records belong to those name servers: `dns: none` prints them, {}",
                    leave(domain)
                ),
            ],
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed<'t>(texts: impl IntoIterator<Item = &'t String>) -> String {
    let mut texts: Vec<&str> = texts.into_iter().map(String::as_str).collect();
    match texts.pop() {
        Some(last) if !texts.is_empty() => format!("{} and {last}", texts.join(", ")),
        Some(last) => last.to_owned(),
        None => "nothing".to_owned(),
    }
}
