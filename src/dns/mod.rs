//! The records of the site's names as data: what there should be, what there is, and the changes between them.
//!
//! Invariant: only A and AAAA records of exactly the site's own names are ever changed.

pub mod digitalocean;

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
    /// The values.
    pub values: BTreeSet<String>,
    /// The API's ids, where records have some: value and id.
    pub ids: Vec<(String, String)>,
    /// Whether the API has something here that is no plain set of records: an alias, a weighted or latency record.
    pub special: bool,
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
