//! What Route 53 does and ministack doesn't: it looks at records before it takes them, and sorts zones by their names read
//! from the end.
//!
//! Invariant: a batch is refused as a whole, with everything that is wrong with it in one message.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use roxmltree::Node;

use super::answer::{child, child_text, items_named, parse};
use super::call::{Call, Refusal, escape};
use super::upstream::Upstream;

/// The path of version 2013-04-01.
const VERSION: &str = "/2013-04-01";

/// A record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// In lower case, with its last dot.
    pub name: String,
    /// `A`, `CNAME`…
    pub kind: String,
    /// Seconds.
    pub ttl: String,
    /// One for each record.
    pub values: Vec<String>,
    /// What tells it from others of the same name and type.
    pub identifier: String,
}

impl RecordSet {
    fn read(node: Node) -> Self {
        let records = child(node, "ResourceRecords").map(|all| items_named(all, "ResourceRecord"));
        Self {
            name: absolute(child_text(node, "Name")),
            kind: child_text(node, "Type").to_owned(),
            ttl: child_text(node, "TTL").to_owned(),
            values: records.into_iter().flatten().map(|one| child_text(one, "Value").to_owned()).collect(),
            identifier: child_text(node, "SetIdentifier").to_owned(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        (&self.name, &self.kind, &self.identifier) == (&other.name, &other.kind, &other.identifier)
    }

    fn same_values(&self, other: &Self) -> bool {
        let values = |set: &Self| set.values.iter().cloned().collect::<BTreeSet<_>>();
        self.ttl == other.ttl && values(self) == values(other)
    }
}

/// Refuses a batch of changes that Route 53 would refuse.
pub fn judge(ministack: &Upstream, call: &Call) -> Result<(), Refusal> {
    let zone = call.path.split('/').nth(3).unwrap_or_default();
    let Some(name) = zone_name(ministack, zone) else { return Ok(()) }; // ministack itself says that there is none
    let records = records(ministack, zone);
    let document = parse(&call.body);
    let changes: Vec<(String, RecordSet)> = document
        .descendants()
        .filter(|node| node.tag_name().name() == "Change")
        .filter_map(|change| {
            Some((
                child_text(change, "Action").to_owned(),
                RecordSet::read(child(change, "ResourceRecordSet")?),
            ))
        })
        .collect();
    let wrong = complaints(&name, &records, &changes);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(400, "InvalidChangeBatch", format!("[{}]", wrong.join(", "))))
}

/// What is wrong with changes to a zone with those records.
fn complaints(zone: &str, records: &[RecordSet], changes: &[(String, RecordSet)]) -> Vec<String> {
    let mut now = records.to_vec();
    let mut wrong = Vec::new();
    for (action, set) in changes {
        let known = format!("resource record set [name='{}', type='{}']", set.name, set.kind);
        let has = now.iter().position(|has| has.is(set));
        match (action.as_str(), has) {
            ("CREATE", Some(_)) => wrong.push(format!("Tried to create {known} but it already exists")),
            ("DELETE", None) => wrong.push(format!("Tried to delete {known} but it was not found")),
            ("DELETE", Some(at)) if !now[at].same_values(set) => wrong.push(format!(
                "Tried to delete {known} but the values provided do not match the current values"
            )),
            ("DELETE", Some(at)) => drop(now.remove(at)),
            (_, Some(at)) => now[at] = set.clone(),
            (_, None) => now.push(set.clone()),
        }
        if action != "DELETE" {
            wrong.extend(out_of_place(zone, set));
            wrong.extend(set.values.iter().filter_map(|value| unfit(&set.kind, value)));
            let several: BTreeSet<&String> = set.values.iter().collect();
            if several.len() < set.values.len() {
                wrong.push(format!("Duplicate Resource Record: '{}'", set.values.join("', '")));
            }
        }
    }
    for (_, set) in changes.iter().filter(|(action, _)| action != "DELETE") {
        let beside = now.iter().find(|has| {
            has.name == set.name && has.kind != set.kind && (has.kind == "CNAME" || set.kind == "CNAME")
        });
        wrong.extend(beside.map(|other| {
            format!(
                "RRSet of type {} with DNS name {} is not permitted because a conflicting RRSet of type {} with the \
                 same DNS name already exists in zone {zone}",
                set.kind, set.name, other.kind
            )
        }));
    }
    for (kind, rule) in
        [("SOA", "exactly one SOA record"), ("NS", "at least one NS record for the zone itself")]
    {
        if !now.iter().any(|has| has.kind == kind && has.name == zone) {
            wrong.push(format!("A HostedZone must contain {rule}."));
        }
    }
    wrong
}

fn out_of_place(zone: &str, set: &RecordSet) -> Option<String> {
    let inside = set.name == zone || set.name.ends_with(&format!(".{zone}"));
    (!inside).then(|| format!("RRSet with DNS name {} is not permitted in zone {zone}", set.name))
}

fn unfit(kind: &str, value: &str) -> Option<String> {
    let (problem, what) = match kind {
        "A" if value.parse::<Ipv4Addr>().is_err() => {
            ("ARRDATAIllegalIPv4Address", "Value is not a valid IPv4 address")
        }
        "AAAA" if value.parse::<Ipv6Addr>().is_err() => {
            ("AAAARRDATAIllegalIPv6Address", "Value is not a valid IPv6 address")
        }
        "TXT" if !(value.len() > 1 && value.starts_with('"') && value.ends_with('"')) => {
            ("InvalidCharacterString", "Value should be enclosed in quotation marks")
        }
        _ => return None,
    };
    Some(format!("Invalid Resource Record: 'FATAL problem: {problem} ({what}) encountered with '{value}''"))
}

/// Answers `ListHostedZonesByName`: ministack drops zones between pages.
pub fn zones_by_name(ministack: &Upstream, call: &Call) -> String {
    let mut zones: Vec<(String, String, String)> = Vec::new();
    let mut marker = String::new();
    loop {
        let answer = get(ministack, &format!("/hostedzone?maxitems=100{marker}")).unwrap_or_default();
        let document = parse(&answer);
        for zone in document.descendants().filter(|node| node.tag_name().name() == "HostedZone") {
            let id = child_text(zone, "Id").trim_start_matches("/hostedzone/").to_owned();
            zones.push((from_the_end(child_text(zone, "Name")), id, answer[zone.range()].to_owned()));
        }
        match child_text(document.root_element(), "NextMarker") {
            "" => break,
            next => marker = format!("&marker={next}"),
        }
    }
    zones.sort();
    let start =
        (from_the_end(&absolute(call.parameter("dnsname"))), call.parameter("hostedzoneid").to_owned());
    zones.retain(|(name, id, _)| (name, id) >= (&start.0, &start.1));
    let most: usize = call.parameter("maxitems").parse().unwrap_or(100).min(100);
    let next = zones.get(most).map(|(name, id, _)| {
        let name = escape(&from_the_end(name));
        format!("<NextDNSName>{name}</NextDNSName><NextHostedZoneId>{id}</NextHostedZoneId>")
    });
    let shown: String = zones.iter().take(most).map(|(.., xml)| xml.as_str()).collect();
    let asked = match (call.parameters.get("dnsname"), call.parameters.get("hostedzoneid")) {
        (None, _) => String::new(),
        (Some(name), None) => format!("<DNSName>{}</DNSName>", escape(&absolute(name))),
        (Some(name), Some(id)) => {
            format!("<DNSName>{}</DNSName><HostedZoneId>{id}</HostedZoneId>", escape(&absolute(name)))
        }
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListHostedZonesByNameResponse \
         xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><HostedZones>{shown}</HostedZones>{asked}\
         <IsTruncated>{}</IsTruncated>{}<MaxItems>{most}</MaxItems></ListHostedZonesByNameResponse>",
        next.is_some(),
        next.unwrap_or_default()
    )
}

fn zone_name(ministack: &Upstream, zone: &str) -> Option<String> {
    let answer = get(ministack, &format!("/hostedzone/{zone}"))?;
    let document = parse(&answer);
    child(document.root_element(), "HostedZone").map(|zone| absolute(child_text(zone, "Name")))
}

/// All of a zone's record sets.
pub fn records(ministack: &Upstream, zone: &str) -> Vec<RecordSet> {
    let mut all = Vec::new();
    let mut from = String::new();
    loop {
        let answer =
            get(ministack, &format!("/hostedzone/{zone}/rrset?maxitems=300{from}")).unwrap_or_default();
        let document = parse(&answer);
        let root = document.root_element();
        all.extend(child(root, "ResourceRecordSets").into_iter().flat_map(|sets| {
            items_named(sets, "ResourceRecordSet").map(RecordSet::read).collect::<Vec<_>>()
        }));
        if child_text(root, "IsTruncated") != "true" {
            return all;
        }
        from = format!(
            "&name={}&type={}",
            child_text(root, "NextRecordName"),
            child_text(root, "NextRecordType")
        );
    }
}

fn get(ministack: &Upstream, target: &str) -> Option<String> {
    let answer = ministack.ask("route53", "us-east-1", "GET", &format!("{VERSION}{target}"), b"");
    (answer.status == 200).then(|| String::from_utf8(answer.body).expect("XML in UTF-8"))
}

/// A name as Route 53 keeps it.
fn absolute(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace("\\052", "*");
    if name.is_empty() || name.ends_with('.') { name } else { format!("{name}.") }
}

/// `www.example.com.` ↔ `com.example.www.`
fn from_the_end(name: &str) -> String {
    let labels: Vec<&str> = name.trim_end_matches('.').rsplit('.').collect();
    if name.is_empty() { String::new() } else { format!("{}.", labels.join(".")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, kind: &str, values: &[&str]) -> RecordSet {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        RecordSet {
            name: absolute(name),
            kind: kind.into(),
            ttl: "300".into(),
            values,
            identifier: String::new(),
        }
    }

    fn check(changes: &[(&str, RecordSet)], wrong: &[&str]) {
        let zone = [
            set("example.com", "SOA", &["s"]),
            set("example.com", "NS", &["n"]),
            set("www.example.com", "CNAME", &["x"]),
            set("a.example.com", "A", &["203.0.113.1", "203.0.113.2"]),
        ];
        let changes: Vec<_> =
            changes.iter().map(|(action, set)| ((*action).to_owned(), set.clone())).collect();
        assert_eq!(complaints("example.com.", &zone, &changes), wrong);
    }

    #[test]
    fn good_batches_pass() {
        check(&[("CREATE", set("new.example.com", "A", &["203.0.113.5"]))], &[]);
        check(&[("UPSERT", set("A.example.com.", "A", &["203.0.113.5"]))], &[]);
        check(&[("DELETE", set("a.example.com", "A", &["203.0.113.2", "203.0.113.1"]))], &[]);
        check(
            &[
                ("DELETE", set("www.example.com", "CNAME", &["x"])),
                ("CREATE", set("www.example.com", "A", &["203.0.113.5"])),
            ],
            &[],
        );
        check(&[("CREATE", set("\\052.example.com", "TXT", &["\"v=spf1\""]))], &[]);
    }

    #[test]
    fn bad_batches_are_refused_in_the_words_of_route53() {
        check(
            &[("CREATE", set("www.example.com", "A", &["203.0.113.5"]))],
            &[
                "RRSet of type A with DNS name www.example.com. is not permitted because a conflicting RRSet of type CNAME \
               with the same DNS name already exists in zone example.com.",
            ],
        );
        check(
            &[("CREATE", set("a.example.com", "A", &["203.0.113.5"]))],
            &["Tried to create resource record set [name='a.example.com.', type='A'] but it already exists"],
        );
        check(
            &[
                ("DELETE", set("b.example.com", "A", &["203.0.113.5"])),
                ("DELETE", set("a.example.com", "A", &["203.0.113.5"])),
            ],
            &[
                "Tried to delete resource record set [name='b.example.com.', type='A'] but it was not found",
                "Tried to delete resource record set [name='a.example.com.', type='A'] but the values provided do not \
                 match the current values",
            ],
        );
        check(
            &[("UPSERT", set("www.example.org", "A", &["host.example.org"]))],
            &[
                "RRSet with DNS name www.example.org. is not permitted in zone example.com.",
                "Invalid Resource Record: 'FATAL problem: ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address) \
                 encountered with 'host.example.org''",
            ],
        );
        check(
            &[("DELETE", set("example.com", "NS", &["n"]))],
            &["A HostedZone must contain at least one NS record for the zone itself."],
        );
    }

    #[test]
    fn names_are_sorted_from_the_end() {
        assert_eq!(from_the_end("www.example.com."), "com.example.www.");
        assert_eq!(from_the_end("com.example.www."), "www.example.com.");
        assert_eq!(from_the_end(""), "");
    }
}
