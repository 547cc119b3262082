use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::providers::digitalocean::rules::FirewallInfo;

/// DigitalOcean's own description of its API, with examples of answers.
fn document() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/digitalocean/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every example of an answer to a call.
fn examples(method: &str, path: &str) -> Vec<Value> {
    let document = document();
    let mut found = Vec::new();
    let responses = document["paths"][path][method]["responses"].as_object().unwrap();
    let resolved = |value: &Value| match value["$ref"].as_str() {
        Some(to) => document.pointer(to.trim_start_matches('#')).unwrap().clone(),
        None => value.clone(),
    };
    for (_, response) in responses.iter().filter(|(status, _)| status.starts_with('2')) {
        let response = resolved(response);
        let content = &response["content"]["application/json"];
        found.extend(content.get("example").cloned());
        let named = content["examples"].as_object().into_iter().flatten();
        found.extend(named.map(|(_, example)| resolved(example)["value"].clone()));
    }
    assert!(!found.is_empty(), "no example of {method} {path}");
    found
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn lists<T: DeserializeOwned>(path: &str, key: &str) -> Vec<T> {
    examples("get", path).iter().flat_map(|example| read::<Vec<T>>(&example[key])).collect()
}

fn library() -> Owner {
    Owner { app: "library".into(), environment: "default".into() }
}

#[test]
fn the_documents_examples_are_read() {
    let droplets: Vec<Droplet> = lists("/v2/droplets", "droplets");
    let one = droplets.iter().find(|droplet| droplet.name == "example.com").unwrap();
    insta::assert_debug_snapshot!(one.server(&library(), &[]), @r#"
        Server {
            id: "3164444",
            state: Running,
            region: "nyc3",
            size: "s-1vcpu-1gb",
            image: None,
            disk_gb: Some(
                25,
            ),
            network: Some(
                "760e09ef-dc84-11e8-981e-3cfdfeaae000",
            ),
            subnet: None,
            ipv4: Some(
                192.241.165.154,
            ),
            ipv6: Some(
                2604:a880:0:1010::18a:a001,
            ),
            birth_key: None,
            host_key: None,
            settings: Settings {
                backups: true,
                ipv6: true,
                protected: false,
                labels: {
                    "env:prod": "",
                    "web": "",
                },
                project: None,
            },
        }
        "#);
    assert!(droplets.iter().all(|droplet| !droplet.size_slug.is_empty() && !droplet.region.slug.is_empty()));

    let ordered: Ordered = read(&examples("post", "/v2/droplets")[1]);
    assert!(ordered.links.action().is_some() || !ordered.droplet.name.is_empty());

    let firewalls: Vec<FirewallInfo> = lists("/v2/firewalls", "firewalls");
    let rules = &firewalls[0].firewall(&library(), Some("8043964"));
    let shown: Vec<String> = rules.rules.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "tcp 22 from 18.0.0.0/8",
            "tcp 22 from tag gateway",
            "tcp 80 from load balancer 4de7ac8b-495b-4884-9a69-1050c6793cd6"
        ]
    );
    assert!(rules.applied);

    let volumes: Vec<VolumeInfo> = lists("/v2/volumes", "volumes");
    assert_eq!(volumes[0].volume().device, "/dev/disk/by-id/scsi-0DO_Volume_example");
    let image: Image = read(&examples("get", "/v2/images/{image_id}")[0]["image"]);
    assert!(image.min_disk_size > 0 && !image.regions.is_empty());
    let actions = examples("post", "/v2/volumes/{volume_id}/actions");
    let states: BTreeSet<String> =
        actions.iter().map(|example| read::<Action>(&example["action"]).status).collect();
    assert!(states.contains("in-progress"), "{states:?}");
}

#[test]
fn a_reserved_ip_leads_somewhere_or_nowhere() {
    let taken: Vec<Taken> = examples("post", "/v2/reserved_ips").iter().map(read).collect();
    assert!(taken.iter().all(|taken| taken.reserved_ip.droplet().is_none()));
    assert!(taken.iter().any(|taken| taken.reserved_ip.locked && taken.links.action().is_some()));
    let seen: Vec<ReservedIp> = examples("get", "/v2/reserved_ips/{reserved_ip}")
        .iter()
        .map(|example| read(&example["reserved_ip"]))
        .collect();
    let to: BTreeSet<Option<String>> = seen.iter().map(ReservedIp::droplet).collect();
    assert_eq!(to, BTreeSet::from([None, Some("3164444".into())]));
    assert_eq!(read::<ReservedIp>(&json!({"ip": "203.0.113.7", "droplet": {}})).droplet(), None);
}

#[test]
fn less_than_usual_is_read_as_nothing() {
    let droplet: Droplet = read(&json!({
        "id": 17, "status": "new", "region": {"slug": "fra1"}, "tags": null, "features": null, "networks": {},
    }));
    let server = droplet.server(&library(), &[]);
    assert_eq!((server.state, server.ipv4, server.network), (State::Starting, None, None));
    let size: Size =
        read(&json!({"slug": "s", "memory": 1, "vcpus": 1, "disk": 1, "price_monthly": 6, "regions": null}));
    assert!(!size.available && size.price_monthly > 5.9);
    let account: Account = read(&json!({"status": "active", "status_message": null}));
    assert_eq!(account.droplet_limit, None);
}

#[test]
fn tags_say_what_a_droplet_is() {
    let key = "0f".repeat(32);
    let droplet: Droplet = read(&json!({
        "id": 17, "name": "library", "status": "active", "size_slug": "s-1vcpu-1gb", "region": {"slug": "fra1"},
        "features": ["monitoring", "backups", "ipv6"], "vpc_uuid": "v", "disk": 25,
        "tags": [
            "ship:library:default", "ship:library:default:image:ubuntu-24_2e04", "Web",
            format!("ship:library:default:birthkey:{key}"), "ship:library2:default",
        ],
        "networks": {
            "v4": [
                {"ip_address": "10.114.0.2", "type": "private"}, {"ip_address": "203.0.113.7", "type": "public"},
                {"ip_address": "198.51.100.4", "type": "public"},
            ],
            "v6": [{"ip_address": "2001:db8::1", "type": "public"}],
        },
    }));
    let reserved = ["203.0.113.7".parse().unwrap()];
    insta::assert_debug_snapshot!(droplet.server(&library(), &reserved), @r#"
        Server {
            id: "17",
            state: Running,
            region: "fra1",
            size: "s-1vcpu-1gb",
            image: Some(
                "ubuntu-24.04",
            ),
            disk_gb: Some(
                25,
            ),
            network: Some(
                "v",
            ),
            subnet: None,
            ipv4: Some(
                198.51.100.4,
            ),
            ipv6: Some(
                2001:db8::1,
            ),
            birth_key: Some(
                "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
            ),
            host_key: None,
            settings: Settings {
                backups: true,
                ipv6: true,
                protected: false,
                labels: {
                    "Web": "",
                    "ship:library2:default": "",
                },
                project: None,
            },
        }
        "#);
    assert!(droplet.belongs_to(&library()) && droplet.is_up());
    let elsewhere = Owner { environment: "staging".into(), ..library() };
    assert!(!droplet.belongs_to(&elsewhere));
    let status =
        |status: &str| Droplet { status: status.into(), ..droplet.clone() }.server(&library(), &[]).state;
    assert_eq!(["off", "archive", "new"].map(status), [State::Stopped, State::Stopped, State::Starting]);
}

#[test]
fn a_tag_is_spelled_as_in_ship_yml() {
    let tags = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_owned(), String::new())).collect::<BTreeMap<_, _>>()
    };
    let mut have = tags(&["WEB", "other"]);
    spell(&mut have, &tags(&["web", "Blue"]));
    assert_eq!(have, tags(&["web", "other"]));
}

#[test]
fn a_key_is_itself_whatever_its_comment() {
    let key = |public_key: &str| SshKey { id: 1, name: String::new(), public_key: public_key.into() };
    assert!(key("ssh-ed25519 AAAA me@laptop").is("ssh-ed25519 AAAA\n"));
    assert!(!key("ssh-ed25519 AAAA").is("ssh-ed25519 AAAB me@laptop"));
    assert!(!key("ssh-ed25519 AAAA").is("ssh-rsa AAAA"));
}

/// What DigitalOcean's description asks for is what the table says: neither less nor, but for what it says in prose, more.
#[test]
fn the_scopes_are_the_documents() {
    let document = document();
    for endpoint in super::super::scopes::ENDPOINTS {
        let operation = &document["paths"][endpoint.path][endpoint.method.to_lowercase()];
        let alternatives =
            operation["security"].as_array().unwrap_or_else(|| panic!("{endpoint:?} is not in the document"));
        let met = alternatives.iter().any(|one| {
            let scopes = one["bearer_auth"].as_array().unwrap().iter().filter_map(Value::as_str);
            // Full access in one word, which no list of scopes can hold.
            scopes.filter(|scope| !scope.starts_with("api:")).all(|scope| endpoint.scopes.contains(&scope))
        });
        assert!(met, "{endpoint:?}: the document asks for {alternatives:?}");
    }
}
