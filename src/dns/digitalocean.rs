//! Zones and records at DigitalOcean.
//!
//! Invariant: a name that has records keeps at least one through every change, and a record whose making was unclear is
//! looked for before it is made again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::providers::cloud::{DnsProvider, Progress, once};
use crate::providers::digitalocean::client::{Access, Call, Client, Waits};
use crate::providers::error::CloudError;

use super::{DnsChange, Kind, RecordSet, Zone};

/// DigitalOcean's name servers, for a zone whose own records don't name any yet.
const NAME_SERVERS: [&str; 3] = ["ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com"];
/// Up to so many names are asked for one by one; for more, the whole list is read.
const FEW: usize = 12;

/// The zones of an account at DigitalOcean.
#[derive(Debug)]
pub struct DigitalOceanDns {
    client: Client,
}

#[derive(Debug, Clone, Deserialize)]
struct Domain {
    name: String,
    zone_file: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Record {
    id: i64,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    data: Option<String>,
    ttl: Option<u32>,
}

/// One call that brings the records of a name nearer to what they should be.
#[derive(Debug, PartialEq, Eq)]
enum Edit {
    Alter { id: i64, value: String },
    Create { value: String },
    Delete { id: i64 },
}

impl DigitalOceanDns {
    /// The zones of the account that `access` leads to. Nothing is sent.
    pub fn new(access: &Access, waits: Waits) -> Result<Self, CloudError> {
        Ok(Self { client: Client::new(access, waits)? })
    }

    async fn domain(client: &Client, name: &str) -> Result<Option<Domain>, CloudError> {
        client.find(&Call::get(&["domains", name], format!("look for the zone {name}")), "domain").await
    }

    /// The records at one name.
    async fn at(client: &Client, zone: &str, name: &str) -> Result<Vec<Record>, CloudError> {
        let call = Call::get(&["domains", zone, "records"], format!("read the records of {name}"));
        let mut records: Vec<Record> = client.list(&call.query("name", name), "domain_records").await?;
        records.retain(|record| full_name(&record.name, zone) == name);
        Ok(records)
    }

    async fn make_so(
        &self,
        zone: &str,
        name: &str,
        kind: &Kind,
        want: Option<&RecordSet>,
    ) -> Result<(), CloudError> {
        let of_kind = || async {
            let records = Self::at(&self.client, zone, name).await?;
            Ok::<_, CloudError>(
                records.into_iter().filter(|record| record.kind == kind.to_string()).collect::<Vec<_>>(),
            )
        };
        let ttl = want.map(|want| want.ttl_s).unwrap_or_default();
        let wanted = want.map(|want| want.values.clone()).unwrap_or_default();
        for edit in edits(&of_kind().await?, zone, &wanted, ttl) {
            match edit {
                Edit::Alter { id, value } => {
                    let body = json!({"type": kind.to_string(), "data": value, "ttl": ttl});
                    let doing = format!("change the {kind} record of {name} to {value}");
                    let id = id.to_string();
                    self.client.send(&Call::put(&["domains", zone, "records", &id], body, doing)).await?;
                }
                Edit::Create { value } => {
                    let body = json!({
                        "type": kind.to_string(), "name": relative(name, zone), "data": value, "ttl": ttl,
                    });
                    let doing = format!("create the {kind} record {value} of {name}");
                    let call = Call::post(&["domains", zone, "records"], body, doing);
                    let find = || async {
                        let made = of_kind().await?.iter().any(|record| data(record, zone) == value);
                        Ok(made.then_some(()))
                    };
                    once(&self.client.waits().looks, find, || self.client.send(&call)).await?;
                }
                Edit::Delete { id } => {
                    let doing = format!("delete a {kind} record of {name}");
                    let id = id.to_string();
                    self.client.delete(&Call::delete(&["domains", zone, "records", &id], doing)).await?;
                }
            }
        }
        Ok(())
    }
}

impl DnsProvider for DigitalOceanDns {
    async fn zones(&self, names: &[String]) -> Result<Vec<Zone>, CloudError> {
        let mut asked = JoinSet::new();
        for name in names.iter().map(|name| plain(name)).collect::<BTreeSet<_>>() {
            let client = self.client.clone();
            asked.spawn(async move { Self::domain(&client, &name).await });
        }
        let mut zones: Vec<Zone> = Vec::new();
        for found in asked.join_all().await {
            zones.extend(found?.map(zone));
        }
        zones.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(zones)
    }

    async fn records(&self, zone: &Zone, names: &[String]) -> Result<Vec<RecordSet>, CloudError> {
        let names: BTreeSet<String> = names.iter().map(|name| plain(name)).collect();
        let mut records = Vec::new();
        if names.len() <= FEW {
            let mut asked = JoinSet::new();
            for name in names {
                let (client, zone) = (self.client.clone(), zone.name.clone());
                asked.spawn(async move { Self::at(&client, &zone, &name).await });
            }
            for found in asked.join_all().await {
                records.extend(found?);
            }
        } else {
            let call = Call::get(&["domains", &zone.name, "records"], format!("read the zone {}", zone.name));
            let all: Vec<Record> = self.client.list(&call, "domain_records").await?;
            records.extend(
                all.into_iter().filter(|record| names.contains(&full_name(&record.name, &zone.name))),
            );
        }
        Ok(record_sets(&records, &zone.name))
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[DnsChange],
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        for change in changes {
            let Some(set) = change.new.as_ref().or(change.old.as_ref()) else { continue };
            progress(&format!("{} {}", set.kind, set.name));
            self.make_so(&zone.name, &set.name, &set.kind, change.new.as_ref()).await?;
        }
        Ok(())
    }

    async fn create_zone(&self, name: &str) -> Result<Zone, CloudError> {
        let name = plain(name);
        let call = Call::post(&["domains"], json!({"name": name}), format!("create the zone {name}"));
        let made = once(
            &self.client.waits().looks,
            || Self::domain(&self.client, &name),
            || self.client.call::<Domain>(&call, "domain"),
        );
        match made.await {
            Ok(domain) => Ok(zone(domain)),
            Err(error @ CloudError::Refused { .. }) => match Self::domain(&self.client, &name).await? {
                Some(domain) => Ok(zone(domain)),
                None => Err(elsewhere(error)),
            },
            Err(error) => Err(error),
        }
    }
}

/// A zone that exists and is not ours is somebody else's.
fn elsewhere(mut error: CloudError) -> CloudError {
    if let CloudError::Refused { message, hints, .. } = &mut error
        && message.to_ascii_lowercase().contains("exist")
    {
        hints.push("it may be in another DigitalOcean account or team: use a token of that one".into());
    }
    error
}

fn zone(domain: Domain) -> Zone {
    let name = plain(&domain.name);
    let servers = name_servers(domain.zone_file.as_deref().unwrap_or_default());
    Zone { id: name.clone(), name, name_servers: servers }
}

/// The name servers of the zone itself, as its zone file has them.
fn name_servers(zone_file: &str) -> Vec<String> {
    let server = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [.., "IN", "NS", server] => Some(plain(server)),
            _ => None,
        }
    };
    let named: BTreeSet<String> = zone_file.lines().filter_map(server).collect();
    if named.is_empty() { NAME_SERVERS.map(str::to_owned).into() } else { named.into_iter().collect() }
}

/// A name without its last dot, in lower case.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn full_name(relative: &str, zone: &str) -> String {
    match relative {
        "@" | "" => zone.to_owned(),
        relative => format!("{}.{zone}", plain(relative)),
    }
}

fn relative(name: &str, zone: &str) -> String {
    match name.strip_suffix(zone) {
        Some("") | None => "@".to_owned(),
        Some(host) => host.trim_end_matches('.').to_owned(),
    }
}

/// A record's value: names in full and without their last dot.
fn data(record: &Record, zone: &str) -> String {
    let data = record.data.as_deref().unwrap_or_default();
    match record.kind.as_str() {
        "CNAME" if data == "@" => zone.to_owned(),
        "CNAME" | "A" => plain(data),
        "AAAA" => data.parse::<Ipv6Addr>().map_or_else(|_| plain(data), |address| address.to_string()),
        _ => data.to_owned(),
    }
}

fn kind(name: &str) -> Kind {
    match name {
        "A" => Kind::A,
        "AAAA" => Kind::Aaaa,
        "CNAME" => Kind::Cname,
        other => Kind::Other(other.to_owned()),
    }
}

/// Records as sets. Records of a set whose times to live differ count with the longest.
fn record_sets(records: &[Record], zone: &str) -> Vec<RecordSet> {
    let mut sets: BTreeMap<(String, Kind), RecordSet> = BTreeMap::new();
    for record in records {
        let (name, kind) = (full_name(&record.name, zone), kind(&record.kind));
        let set = sets.entry((name.clone(), kind.clone())).or_insert_with(|| RecordSet {
            name,
            kind,
            ttl_s: 0,
            values: BTreeSet::new(),
            ids: Vec::new(),
            special: false,
        });
        let value = data(record, zone);
        set.ttl_s = set.ttl_s.max(record.ttl.unwrap_or_default());
        set.ids.push((value.clone(), record.id.to_string()));
        set.values.insert(value);
    }
    sets.into_values().collect()
}

/// What leads from the records that are there to the wanted values. A record that is in the way is altered rather than
/// deleted, and what is deleted comes last, so that the name never has none.
fn edits(there: &[Record], zone: &str, wanted: &BTreeSet<String>, ttl: u32) -> Vec<Edit> {
    let mut missing = wanted.clone();
    let mut surplus = Vec::new();
    let mut edits = Vec::new();
    for record in there {
        let value = data(record, zone);
        if !missing.remove(&value) {
            surplus.push(record.id);
        } else if record.ttl != Some(ttl) {
            edits.push(Edit::Alter { id: record.id, value });
        }
    }
    let mut surplus = surplus.into_iter();
    for value in missing {
        edits.push(match surplus.next() {
            Some(id) => Edit::Alter { id, value },
            None => Edit::Create { value },
        });
    }
    edits.extend(surplus.map(|id| Edit::Delete { id }));
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: &str = "example.com";

    fn record(id: i64, kind: &str, name: &str, data: &str, ttl: u32) -> Record {
        Record { id, kind: kind.into(), name: name.into(), data: Some(data.into()), ttl: Some(ttl) }
    }

    fn values(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn names_are_full_and_relative() {
        for (name, short) in [("example.com", "@"), ("www.example.com", "www"), ("*.a.example.com", "*.a")] {
            assert_eq!(relative(name, "example.com"), short);
            assert_eq!(full_name(short, "example.com"), name);
        }
        assert_eq!(full_name("WWW", "example.com"), "www.example.com");
    }

    #[test]
    fn records_of_one_name_are_one_set() {
        let sets = record_sets(
            &[
                record(1, "A", "@", "203.0.113.1", 300),
                record(2, "A", "@", "203.0.113.2", 1800),
                record(3, "CNAME", "www", "@", 300),
                record(4, "CNAME", "cdn", "Cdn.Example.Net.", 300),
                record(6, "AAAA", "@", "2001:DB8:0:0::1", 300),
                record(5, "TXT", "@", "v=spf1 -ALL.", 300),
            ],
            "example.com",
        );
        let shown: Vec<String> = sets
            .iter()
            .map(|set| format!("{} {} {} {:?} {:?}", set.name, set.kind, set.ttl_s, set.values, set.ids))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        cdn.example.com CNAME 300 {"cdn.example.net"} [("cdn.example.net", "4")]
        example.com A 1800 {"203.0.113.1", "203.0.113.2"} [("203.0.113.1", "1"), ("203.0.113.2", "2")]
        example.com AAAA 300 {"2001:db8::1"} [("2001:db8::1", "6")]
        example.com TXT 300 {"v=spf1 -ALL."} [("v=spf1 -ALL.", "5")]
        www.example.com CNAME 300 {"example.com"} [("example.com", "3")]
        "#);
    }

    #[test]
    fn a_record_is_altered_before_one_is_deleted() {
        let there = [record(1, "A", "@", "203.0.113.1", 300), record(2, "A", "@", "203.0.113.2", 300)];
        let alter = |id, value: &str| Edit::Alter { id, value: value.into() };
        assert_eq!(
            edits(&there, ZONE, &values(&["203.0.113.9"]), 300),
            [alter(1, "203.0.113.9"), Edit::Delete { id: 2 }]
        );
        assert_eq!(edits(&there, ZONE, &values(&["203.0.113.1"]), 300), [Edit::Delete { id: 2 }]);
        assert_eq!(
            edits(&there, ZONE, &values(&["203.0.113.2", "203.0.113.3", "203.0.113.4"]), 60),
            [alter(2, "203.0.113.2"), alter(1, "203.0.113.3"), Edit::Create { value: "203.0.113.4".into() }]
        );
        assert_eq!(
            edits(&there, ZONE, &BTreeSet::new(), 0),
            [Edit::Delete { id: 1 }, Edit::Delete { id: 2 }]
        );
        assert_eq!(edits(&there, ZONE, &values(&["203.0.113.1", "203.0.113.2"]), 300), []);
    }

    #[test]
    fn one_value_twice_is_one_too_many() {
        let there = [record(1, "A", "@", "203.0.113.1", 300), record(2, "A", "@", "203.0.113.1", 300)];
        assert_eq!(edits(&there, ZONE, &values(&["203.0.113.1"]), 300), [Edit::Delete { id: 2 }]);
    }

    proptest::proptest! {
        /// Whatever is there and whatever is wanted: at no time is there none, and in the end all is as wanted.
        #[test]
        fn a_name_always_has_a_record(there in proptest::collection::vec(0_u8..5, 1..5),
                                      wanted in proptest::collection::btree_set(0_u8..5, 1..5)) {
            let value = |n: &u8| format!("203.0.113.{n}");
            let mut zone: BTreeMap<i64, String> = there.iter().map(value).zip(1..).map(|(v, id)| (id, v)).collect();
            let records: Vec<Record> = zone.iter().map(|(id, value)| record(*id, "A", "@", value, 300)).collect();
            let wanted: BTreeSet<String> = wanted.iter().map(value).collect();
            for edit in edits(&records, ZONE, &wanted, 300) {
                match edit {
                    Edit::Alter { id, value } => drop(zone.insert(id, value)),
                    Edit::Create { value } => drop(zone.insert(100 + zone.len() as i64, value)),
                    Edit::Delete { id } => drop(zone.remove(&id)),
                }
                proptest::prop_assert!(!zone.is_empty());
            }
            let mut left: Vec<String> = zone.into_values().collect();
            left.sort();
            proptest::prop_assert_eq!(left, wanted.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn name_servers_come_from_the_zone_file() {
        let file = "$ORIGIN example.com.\n$TTL 1800\nexample.com. IN SOA ns1.digitalocean.com. hostmaster.example.com. 1 2 3 4 5\n\
                    example.com. 1800 IN NS ns1.example.net.\nexample.com. IN NS ns2.example.net.\n";
        assert_eq!(name_servers(file), ["ns1.example.net", "ns2.example.net"]);
        assert_eq!(name_servers(""), NAME_SERVERS);
    }
}
