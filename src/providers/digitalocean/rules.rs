//! Firewall rules as DigitalOcean writes them, and as ship compares them.
//!
//! Invariant: what the firewall lets in is read without loss, so that a rule added by hand shows as a difference; what
//! ship does not compare (outbound rules, other droplets and tags behind the firewall) is written back as it was.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cloud::{Firewall, OtherTraffic, Owner, Rule, Traffic};

use super::api::{filled, nullable};
use super::tags;

/// A firewall.
#[derive(Debug, Clone, Deserialize)]
pub struct FirewallInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    #[serde(default, deserialize_with = "nullable")]
    inbound_rules: Vec<Inbound>,
    #[serde(default, deserialize_with = "nullable")]
    outbound_rules: Vec<Map<String, Value>>,
    #[serde(default, deserialize_with = "nullable")]
    droplet_ids: Vec<i64>,
    #[serde(default, deserialize_with = "nullable")]
    tags: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Inbound {
    protocol: String,
    #[serde(default, deserialize_with = "nullable")]
    ports: String,
    #[serde(default, deserialize_with = "nullable")]
    sources: BTreeMap<String, Value>,
}

impl FirewallInfo {
    /// The firewall that it is, in front of that droplet or of whatever has the owner's tag.
    pub fn firewall(&self, owner: &Owner, droplet: Option<&str>) -> Firewall {
        let by_tag = self.tags.iter().any(|tag| tags::is_owner(owner, tag));
        let by_id = droplet.is_some_and(|id| self.droplet_ids.iter().any(|has| has.to_string() == id));
        Firewall {
            id: self.id.clone(),
            rules: self.inbound_rules.iter().flat_map(Inbound::rules).collect(),
            // Without a droplet only the tag can protect the next one from its first moment.
            applied: by_tag || by_id,
        }
    }

    /// It, with these rules and in front of the owner's droplets.
    pub fn with_rules(&self, owner: &Owner, rules: &BTreeSet<Rule>) -> Value {
        let mut tags = self.tags.clone();
        if !tags.iter().any(|tag| tags::is_owner(owner, tag)) {
            tags.push(tags::owner(owner));
        }
        let outbound: Vec<Value> = self.outbound_rules.iter().map(written_back).collect();
        filled(json!({
            "name": self.name,
            "inbound_rules": inbound(rules),
            "outbound_rules": if outbound.is_empty() { outbound_everywhere() } else { outbound.into() },
            "tags": tags,
            "droplet_ids": Some(&self.droplet_ids).filter(|ids| !ids.is_empty()),
        }))
    }
}

impl Inbound {
    fn rules(&self) -> impl Iterator<Item = Rule> {
        let traffic = traffic(&self.protocol, &self.ports);
        self.sources.iter().flat_map(move |(kind, values)| {
            let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
            values.iter().map(move |value| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let source = match kind.as_str() {
                    "addresses" => network(&text),
                    "tags" => format!("tag {text}"),
                    "droplet_ids" => format!("droplet {text}"),
                    "load_balancer_uids" => format!("load balancer {text}"),
                    "kubernetes_ids" => format!("cluster {text}"),
                    other => format!("{other} {text}"),
                };
                Rule::new(traffic, source)
            })
        })
    }
}

fn traffic(protocol: &str, ports: &str) -> Traffic {
    let range = match ports.split_once('-') {
        // What DigitalOcean calls all ports.
        None if matches!(ports, "" | "0" | "all") => Some((1, u16::MAX)),
        None => ports.parse().ok().map(|port| (port, port)),
        Some((from, to)) => from.parse().ok().zip(to.parse().ok()),
    };
    match (protocol, range) {
        ("icmp", _) => Traffic::Icmp,
        ("tcp", Some((from, to))) if from == to => Traffic::Tcp(from),
        ("tcp" | "udp", Some((from, to))) => {
            Traffic::Other(OtherTraffic { udp: protocol == "udp", all: false, from, to })
        }
        _ => Traffic::Other(OtherTraffic { udp: false, all: true, from: 0, to: 0 }),
    }
}

/// An address alone is a network of one.
fn network(text: &str) -> String {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    match (address.parse::<IpAddr>(), bits) {
        (Ok(address), Some(bits)) => format!("{address}/{bits}"),
        (Ok(address), None) => format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }),
        (Err(_), _) => text.to_owned(),
    }
}

/// A new firewall: these rules in, everything out, in front of whatever has the owner's tag.
pub fn new_firewall(owner: &Owner, rules: &BTreeSet<Rule>) -> Value {
    json!({
        "name": owner.unique_name(),
        "inbound_rules": inbound(rules),
        "outbound_rules": outbound_everywhere(),
        "tags": [tags::owner(owner)],
    })
}

fn inbound(rules: &BTreeSet<Rule>) -> Value {
    let mut by_traffic: BTreeMap<Traffic, Vec<&str>> = BTreeMap::new();
    for rule in rules {
        by_traffic.entry(rule.traffic).or_default().push(&rule.source);
    }
    let one = |(traffic, sources): (Traffic, Vec<&str>)| {
        let (protocol, ports) = match traffic {
            Traffic::Icmp => ("icmp", None),
            Traffic::Tcp(port) => ("tcp", Some(port.to_string())),
            Traffic::Other(other) => {
                (if other.udp { "udp" } else { "tcp" }, Some(format!("{}-{}", other.from, other.to)))
            }
        };
        rule(protocol, ports.as_deref(), "sources", json!({"addresses": sources}))
    };
    by_traffic.into_iter().map(one).collect()
}

fn outbound_everywhere() -> Value {
    let anywhere = json!({"addresses": ["0.0.0.0/0", "::/0"]});
    [("tcp", Some("1-65535")), ("udp", Some("1-65535")), ("icmp", None)]
        .into_iter()
        .map(|(protocol, ports)| rule(protocol, ports, "destinations", anywhere.clone()))
        .collect()
}

/// A rule. ICMP has no ports: DigitalOcean's description asks for some, its API has refused them (doctl#278), and its
/// own clients leave them out.
fn rule(protocol: &str, ports: Option<&str>, end: &str, target: Value) -> Value {
    filled(json!({"protocol": protocol, "ports": ports, end: target}))
}

/// An outbound rule as it may be sent. The API tells "all ports" as 0, which it has not always taken (api-v2#171).
fn written_back(rule: &Map<String, Value>) -> Value {
    let mut rule = rule.clone();
    let all = rule.get("ports").and_then(Value::as_str).is_none_or(|ports| matches!(ports, "" | "0" | "all"));
    if rule.get("protocol").and_then(Value::as_str) == Some("icmp") {
        rule.remove("ports");
    } else if all {
        rule.insert("ports".into(), "1-65535".into());
    }
    // Empty lists and nulls are not taken either.
    if let Some(target) = rule.get_mut("destinations").and_then(Value::as_object_mut) {
        target.retain(|_, values| values.as_array().is_some_and(|values| !values.is_empty()));
    }
    rule.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library() -> Owner {
        Owner { app: "library".into(), environment: "default".into() }
    }

    fn wished() -> BTreeSet<Rule> {
        [
            Rule::new(Traffic::Tcp(22), "203.0.113.0/24"),
            Rule::new(Traffic::Tcp(80), "0.0.0.0/0"),
            Rule::new(Traffic::Tcp(80), "::/0"),
            Rule::new(Traffic::Icmp, "0.0.0.0/0"),
        ]
        .into()
    }

    fn read(answer: Value) -> FirewallInfo {
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn a_new_firewall_is_read_back_as_wished() {
        let body = new_firewall(&library(), &wished());
        insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap(), @r#"
        {
          "inbound_rules": [
            {
              "ports": "22",
              "protocol": "tcp",
              "sources": {
                "addresses": [
                  "203.0.113.0/24"
                ]
              }
            },
            {
              "ports": "80",
              "protocol": "tcp",
              "sources": {
                "addresses": [
                  "0.0.0.0/0",
                  "::/0"
                ]
              }
            },
            {
              "protocol": "icmp",
              "sources": {
                "addresses": [
                  "0.0.0.0/0"
                ]
              }
            }
          ],
          "name": "ship.library.default",
          "outbound_rules": [
            {
              "destinations": {
                "addresses": [
                  "0.0.0.0/0",
                  "::/0"
                ]
              },
              "ports": "1-65535",
              "protocol": "tcp"
            },
            {
              "destinations": {
                "addresses": [
                  "0.0.0.0/0",
                  "::/0"
                ]
              },
              "ports": "1-65535",
              "protocol": "udp"
            },
            {
              "destinations": {
                "addresses": [
                  "0.0.0.0/0",
                  "::/0"
                ]
              },
              "protocol": "icmp"
            }
          ],
          "tags": [
            "ship:library:default"
          ]
        }
        "#);
        let mut answer = body;
        answer["id"] = "fw".into();
        let found = read(answer).firewall(&library(), None);
        assert_eq!(found, Firewall { id: "fw".into(), rules: wished(), applied: true });
    }

    #[test]
    fn rules_made_by_hand_show() {
        let answer = read(json!({
            "id": "fw", "name": "ship.library.default", "tags": null, "droplet_ids": [17],
            "inbound_rules": [
                {"protocol": "tcp", "ports": "22-22", "sources": {"addresses": ["203.0.113.9", "2001:DB8:0::/32"]}},
                {"protocol": "tcp", "ports": "8000-9000", "sources": {"tags": ["gateway"]}},
                {"protocol": "udp", "ports": "0", "sources": {"droplet_ids": [8], "load_balancer_uids": ["4de7"]}},
                {"protocol": "tcp", "ports": "all", "sources": {"kubernetes_ids": ["c1"], "addresses": null}},
                {"protocol": "icmp", "ports": "0", "sources": {"addresses": ["::/0"]}},
                {"protocol": "gre", "sources": {"addresses": ["::/0"]}},
            ],
        }));
        let shown = |id| {
            let found = answer.firewall(&library(), id);
            (found.rules.iter().map(ToString::to_string).collect::<Vec<_>>(), found.applied)
        };
        let (rules, applied) = shown(Some("17"));
        assert!(applied && !shown(Some("18")).1 && !shown(None).1);
        insta::assert_snapshot!(rules.join("\n"), @r#"
        tcp 22 from 2001:db8::/32
        tcp 22 from 203.0.113.9/32
        icmp from ::/0
        tcp 1-65535 from cluster c1
        tcp 8000-9000 from tag gateway
        anything from ::/0
        udp 1-65535 from droplet 8
        udp 1-65535 from load balancer 4de7
        "#);
    }

    #[test]
    fn what_is_not_compared_is_written_back() {
        let answer = read(json!({
            "id": "fw", "name": "ship.library.default", "tags": ["web"], "droplet_ids": [8],
            "inbound_rules": [{"protocol": "tcp", "ports": "9", "sources": {"addresses": ["0.0.0.0/0"]}}],
            "outbound_rules": [
                {"protocol": "udp", "ports": "53", "destinations": {"addresses": ["0.0.0.0/0"], "tags": []}},
                {"protocol": "tcp", "ports": "0", "destinations": {"addresses": ["0.0.0.0/0"], "droplet_ids": null}},
                {"protocol": "icmp", "ports": "0", "destinations": {"addresses": ["0.0.0.0/0"]}},
            ],
        }));
        let body = answer.with_rules(&library(), &[Rule::new(Traffic::Tcp(22), "::/0")].into());
        insta::assert_snapshot!(serde_json::to_string(&body).unwrap(), @r#"{"droplet_ids":[8],"inbound_rules":[{"ports":"22","protocol":"tcp","sources":{"addresses":["::/0"]}}],"name":"ship.library.default","outbound_rules":[{"destinations":{"addresses":["0.0.0.0/0"]},"ports":"53","protocol":"udp"},{"destinations":{"addresses":["0.0.0.0/0"]},"ports":"1-65535","protocol":"tcp"},{"destinations":{"addresses":["0.0.0.0/0"]},"protocol":"icmp"}],"tags":["web","ship:library:default"]}"#);
    }
}
