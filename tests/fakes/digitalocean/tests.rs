//! That the fake behaves as the API is known to; clients that others wrote say the same in `proof.rs`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::document::DOCUMENT;
use super::{Account, DigitalOcean, Fault, Status};

/// A client that takes nothing for granted and tries nothing twice.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    base: String,
    token: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answered {
    /// Asserts the status.
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Asserts an error's status and text.
    #[track_caller]
    pub fn refuses(self, status: u16, message: &str) {
        let (text, id) =
            (self.body["message"].as_str().unwrap_or_default(), self.body["request_id"].as_str());
        assert_eq!((self.status, text, id.is_some()), (status, message, true), "{}", self.body);
    }
}

impl Client {
    /// For an API at that address.
    pub fn new(base: &str, token: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build().unwrap();
        Self { runtime, http, base: base.to_owned(), token: token.to_owned() }
    }

    /// For a fake, with full access.
    pub fn of(cloud: &DigitalOcean) -> Self {
        Self::new(&cloud.url(), &cloud.token())
    }

    /// The same with another token.
    pub fn with(cloud: &DigitalOcean, token: &str) -> Self {
        Self::new(&cloud.url(), token)
    }

    /// One request; an error if no whole answer comes.
    pub fn try_send(&self, method: &str, path: &str, body: &Value) -> Result<Answered, reqwest::Error> {
        self.runtime.block_on(async {
            let url =
                if path.starts_with("http") { path.to_owned() } else { format!("{}/v2{path}", self.base) };
            let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(&self.token);
            if !body.is_null() {
                request = request.json(body);
            }
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let text = response.text().await?; // as it is where it isn't JSON
            let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
            Ok(Answered { status, headers, body })
        })
    }

    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Answered {
        self.try_send(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answered {
        self.send("GET", path, &Value::Null)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answered {
        self.send("POST", path, body)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answered {
        self.send("DELETE", path, &Value::Null)
    }

    /// Waits for the action that an answer speaks of; says how often it was in progress.
    #[track_caller]
    pub fn finish(&self, answer: &Value) -> usize {
        let id = answer["action"]["id"].as_u64().or_else(|| answer["links"]["actions"][0]["id"].as_u64());
        let id = id.unwrap_or_else(|| panic!("no action: {answer}"));
        let (deadline, mut looks) = (Instant::now() + Duration::from_secs(60), 0);
        loop {
            let action = self.get(&format!("/actions/{id}")).is(200);
            match action["action"]["status"].as_str() {
                Some("completed") => return looks,
                Some("in-progress") => looks += 1,
                other => panic!("{other:?}: {action}"),
            }
            assert!(Instant::now() < deadline, "action {id} does not complete");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn ordinary(name: &str) -> Value {
    json!({"name": name, "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64"})
}

pub const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIw8MkBv0ScRC4gk1x3FwZ9D9OQ1+C5T0Jc7z8rFKY2G me@example.com";

#[test]
fn a_droplet_lives() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    let key = client.post("/account/keys", &json!({"name": "me", "public_key": ED25519})).is(201);
    let fingerprint = key["ssh_key"]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(fingerprint.len(), 47, "{fingerprint}");
    let body = json!({
        "name": "web-1", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64", "ipv6": true,
        "ssh_keys": [fingerprint], "tags": ["ship", "ship:app:library"], "user_data": "#cloud-config\n{}\n",
    });
    let made = client.post("/droplets", &body).is(202);
    assert_eq!(made["droplet"]["status"], "new");
    assert_eq!(made["droplet"]["networks"], json!({"v4": [], "v6": []}));
    let id = made["droplet"]["id"].as_u64().unwrap();
    let droplet = format!("/droplets/{id}");
    client
        .post(&format!("{droplet}/actions"), &json!({"type": "power_off"}))
        .refuses(422, "Droplet already has a pending event.");
    assert_eq!(client.finish(&made), 2, "in progress for two looks");

    let shown = client.get(&droplet).is(200)["droplet"].clone();
    assert_eq!(shown["status"], "active");
    assert_eq!(shown["locked"], false);
    assert_eq!(shown["networks"]["v4"][1]["ip_address"], "203.0.113.1");
    assert_eq!(shown["networks"]["v4"][1]["type"], "public");
    assert_eq!(shown["networks"]["v6"][0]["netmask"], 64);
    assert_eq!(shown["tags"], json!(["ship", "ship:app:library"]));
    let kept = &cloud.droplets()[0];
    assert_eq!(kept.user_data.as_deref(), Some("#cloud-config\n{}\n"));
    assert_eq!(kept.ssh_keys, [cloud.keys()[0].id]);
    assert_eq!(client.get("/droplets?tag_name=ship").is(200)["meta"]["total"], 1);
    assert_eq!(client.get("/tags/ship").is(200)["tag"]["resources"]["droplets"]["count"], 1);

    let act = |body: Value| client.post(&format!("{droplet}/actions"), &body);
    act(json!({"type": "resize", "size": "s-1vcpu-2gb"}))
        .refuses(422, "Droplet is currently on. Please power it off to run this event.");
    client.finish(&act(json!({"type": "shutdown"})).is(201));
    assert_eq!(cloud.droplets()[0].status, Status::Off);
    client.finish(&act(json!({"type": "resize", "size": "s-1vcpu-2gb", "disk": true})).is(201));
    act(json!({"type": "resize", "size": "s-1vcpu-1gb"}))
        .refuses(422, "This size is not available because it has a smaller disk.");
    client.finish(&act(json!({"type": "power_on"})).is(201));
    client.finish(&act(json!({"type": "enable_backups"})).is(201));
    let shown = client.get(&droplet).is(200)["droplet"].clone();
    assert_eq!((&shown["size_slug"], &shown["disk"]), (&json!("s-1vcpu-2gb"), &json!(50)));
    assert_eq!(shown["features"][1], "backups");

    client.delete(&droplet).is(204);
    client.get(&droplet).refuses(404, "The resource you were accessing could not be found.");
    client.delete(&droplet).refuses(404, "The resource you were accessing could not be found.");
    assert_eq!(cloud.writes().last().unwrap().line(), format!("DELETE /v2{droplet} 404"));
}

#[test]
fn whoever_only_looks_at_the_droplet_sees_it_run() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    client.post("/droplets", &ordinary("one")).is(202);
    let looks =
        (1..10).find(|_| client.get("/droplets?name=one").is(200)["droplets"][0]["status"] == "active");
    assert_eq!(looks, Some(3));
}

#[test]
fn lists_come_in_pages() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    cloud.preload_droplets(250);
    cloud.with(|account| account.add_droplet("mine", "ams3", &["mine"]));
    let first = client.get("/droplets").is(200);
    assert_eq!(first["droplets"].as_array().unwrap().len(), 20);
    assert_eq!(first["meta"]["total"], 251);
    assert_eq!(first["links"]["pages"]["last"], format!("{}/v2/droplets?page=13", cloud.url()));
    assert!(first["links"]["pages"].get("prev").is_none());

    let (mut next, mut names) = (format!("{}/v2/droplets?per_page=200", cloud.url()), Vec::new());
    while !next.is_empty() {
        let page = client.get(&next).is(200);
        names.extend(page["droplets"].as_array().unwrap().iter().map(|droplet| droplet["name"].clone()));
        next = page["links"]["pages"]["next"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!((names.len(), names.last()), (251, Some(&json!("mine"))));
    let mine = client.get("/droplets?tag_name=mine").is(200);
    assert_eq!((&mine["meta"]["total"], &mine["links"]), (&json!(1), &json!({})));
    assert_eq!(client.get("/droplets?page=14").is(200)["droplets"], json!([]));
    // Their limit grew with them.
    client.post("/droplets", &ordinary("another")).is(202);

    cloud.preload_records("example.com", "www", 300);
    let all = client.get("/domains/example.com/records?per_page=200&page=2").is(200);
    assert_eq!((all["domain_records"].as_array().unwrap().len(), &all["meta"]["total"]), (104, &json!(304)));
    let one = client.get("/domains/example.com/records?name=www-1.example.com&type=A").is(200);
    assert_eq!(one["domain_records"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_refused_in_the_apis_words() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    Client::with(&cloud, "dop_v1_other").get("/account").refuses(401, "Unable to authenticate you.");
    let droplet = |key: &str, value: Value| {
        let mut body = ordinary("web-1");
        body[key] = value;
        client.post("/droplets", &body)
    };
    droplet("name", json!("web_1"))
        .refuses(422, "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)");
    droplet("size", json!("s-1vcpu-9gb")).refuses(422, "You specified an invalid size for Droplet creation.");
    droplet("region", json!("ber1")).refuses(422, "You specified an invalid region for Droplet creation.");
    droplet("region", json!("nyc2")).refuses(422, "Size is not available in this region.");
    droplet("size", json!("s-1vcpu-3gb")).refuses(422, "Size is not available in this region.");
    droplet("image", json!("debian-1-x64"))
        .refuses(422, "You specified an invalid image for Droplet creation.");
    droplet("ssh_keys", json!([12])).refuses(422, "12 are invalid key identifiers for Droplet creation.");
    droplet("tags", json!(["a b"])).refuses(422, "a b is not a valid tag name");
    let mut body = ordinary("web-1");
    (body["size"], body["region"]) = (json!("s-2vcpu-2gb"), json!("ams3"));
    client.post("/droplets", &body).refuses(422, "Size is not available in this region.");
    assert_eq!((cloud.droplets().len(), cloud.tags().len()), (0, 0), "nothing was made");
    cloud.with(|account| account.droplet_limit = 1);
    client.post("/droplets", &ordinary("one")).is(202);
    client
        .post("/droplets", &ordinary("two"))
        .refuses(422, "creating this/these droplet(s) will exceed your droplet limit");
    cloud.with(|account| account.status = "locked".into());
    client.post("/droplets", &ordinary("two")).refuses(403, "You are not allowed to perform this operation");
    cloud.with(|account| account.status = "active".into());

    let key =
        |public_key: &str| client.post("/account/keys", &json!({"name": "me", "public_key": public_key}));
    key("ssh-ed25519 AAAA").refuses(422, "Key invalid, key should be of the format `type key [comment]`");
    let made = key(ED25519).is(201);
    key(&format!("{ED25519}, again")).refuses(422, "SSH Key is already in use on your account");
    let fingerprint = made["ssh_key"]["fingerprint"].as_str().unwrap();
    assert_eq!(client.get(&format!("/account/keys/{fingerprint}")).is(200), made);
    assert_eq!(client.get(&format!("/account/keys/{}", made["ssh_key"]["id"])).is(200), made);

    let rule = json!({"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0", "::/0"]}});
    let firewall = |name: &str, tags: Value, rule: &Value| {
        client.post("/firewalls", &json!({"name": name, "tags": tags, "inbound_rules": [rule]}))
    };
    firewall("web", json!(["web"]), &rule).refuses(422, "tag web does not exist");
    client.post("/tags", &json!({"name": "web"})).is(201);
    client.post("/tags", &json!({"name": "WEB"})).refuses(422, "name already exists");
    firewall("web", json!(["web"]), &rule).is(202);
    firewall("web", json!([]), &rule).refuses(409, "duplicate name");
    firewall("a b", json!([]), &rule).refuses(422, "name is invalid");
    firewall("b", json!([]), &json!({"protocol": "tcp", "ports": "22"}))
        .refuses(422, "rule must have sources");
    let mut everywhere = rule.clone();
    everywhere["sources"]["addresses"] = json!(["everywhere"]);
    firewall("b", json!([]), &everywhere).refuses(422, "invalid address \"everywhere\"");

    let volume = json!({"name": "data", "region": "fra1", "size_gigabytes": 1});
    client.post("/volumes", &volume).is(201);
    client.post("/volumes", &volume).refuses(409, "failed to create volume: already exists");
    client.get("/images/debian-1-x64").refuses(404, "The resource you were accessing could not be found.");
    assert_eq!(client.get("/images/debian-13-x64").is(200)["image"]["distribution"], "Debian");
}

#[test]
fn a_reserved_address_moves() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    let droplets: Vec<_> =
        ["one", "two"].map(|name| client.post("/droplets", &ordinary(name)).is(202)).into();
    let ids: Vec<_> = droplets.iter().map(|made| made["droplet"]["id"].clone()).collect();
    let for_one = json!({"droplet_id": ids[0]});
    client.post("/reserved_ips", &for_one).refuses(422, "Droplet already has a pending event.");
    for made in &droplets {
        client.finish(made);
    }
    let made = client.post("/reserved_ips", &for_one).is(202);
    let ip = format!("/reserved_ips/{}", made["reserved_ip"]["ip"].as_str().unwrap());
    assert_eq!(made["reserved_ip"]["droplet"], Value::Null);
    client.delete(&ip).refuses(422, "The reserved IP already has a pending event.");
    client.finish(&made);
    assert_eq!(client.get(&ip).is(200)["reserved_ip"]["droplet"]["id"], ids[0]);

    let act = |body: Value| client.post(&format!("{ip}/actions"), &body);
    client.finish(&act(json!({"type": "assign", "droplet_id": ids[1]})).is(201));
    assert_eq!(cloud.reserved_ips()[0].droplet, ids[1].as_u64());
    client.delete(&format!("/droplets/{}", ids[1])).is(204);
    assert_eq!(client.get(&ip).is(200)["reserved_ip"]["droplet"], Value::Null);
    act(json!({"type": "unassign"})).refuses(422, "The reserved IP is not assigned to a Droplet.");

    cloud.with(|account| account.reserved_ip_limit = 1);
    client
        .post("/reserved_ips", &json!({"region": "fra1"}))
        .refuses(422, "creating this/these reserved IP(s) will exceed your Reserved IP limit");
    client.delete(&ip).is(204);
    client.post("/reserved_ips", &json!({"region": "nyc3"})).is(202);
    let elsewhere = client.get("/reserved_ips").is(200)["reserved_ips"][0]["ip"].as_str().unwrap().to_owned();
    client
        .post(&format!("/reserved_ips/{elsewhere}/actions"), &json!({"type": "assign", "droplet_id": ids[0]}))
        .refuses(422, "The Droplet and the reserved IP must be in the same region.");
}

#[test]
fn records_have_relative_names() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    let made = client.post("/domains", &json!({"name": "example.com", "ip_address": "192.0.2.7"})).is(201);
    assert_eq!(made, json!({"domain": {"name": "example.com", "ttl": 1800, "zone_file": null}}));
    client.post("/domains", &json!({"name": "example.com"})).refuses(422, "Name already exists");
    let kinds: Vec<_> =
        cloud.with(|account| account.domains[0].records.iter().map(|record| record.kind.clone()).collect());
    assert_eq!(kinds, ["SOA", "NS", "NS", "NS", "A"]);

    let records = "/domains/example.com/records";
    let add = |kind: &str, name: &str, data: &str| {
        client.post(records, &json!({"type": kind, "name": name, "data": data, "ttl": 60}))
    };
    let www = add("A", "www", "192.0.2.7").is(201)["domain_record"].clone();
    assert_eq!((&www["name"], &www["ttl"], &www["priority"]), (&json!("www"), &json!(60), &Value::Null));
    add("A", "www", "192.0.2.7").is(201);
    assert_eq!(client.get(&format!("{records}?name=www.example.com")).is(200)["meta"]["total"], 2);
    assert_eq!(client.get(&format!("{records}?name=www")).is(200)["meta"]["total"], 0);
    assert_eq!(client.get(&format!("{records}?name=example.com&type=A")).is(200)["meta"]["total"], 1);
    add("CNAME", "www", "example.com.").refuses(422, "CNAME records cannot share a name with other records");
    add("CNAME", "blog", "example.com").refuses(422, "Data needs to end with a dot (.)");
    assert_eq!(add("CNAME", "blog", "example.com.").is(201)["domain_record"]["data"], "example.com");
    add("TXT", "_acme-challenge.example.com.", "token").is(201);
    assert_eq!(cloud.records("example.com").last().unwrap().name, "_acme-challenge");
    add("A", "@", "2001:db8::1").refuses(422, "IP address did not match IPv4 format (e.g. 255.255.255.255).");
    add("AAAA", "*", "2001:db8::1").is(201);

    let one = format!("{records}/{}", www["id"]);
    assert_eq!(
        client.send("PATCH", &one, &json!({"type": "A", "data": "192.0.2.8"})).is(200)["domain_record"]["data"],
        "192.0.2.8"
    );
    assert_eq!(
        client.send("PUT", &one, &json!({"type": "A", "ttl": 300})).is(200)["domain_record"]["ttl"],
        300
    );
    client.delete(&one).is(204);
    let zone = client.get("/domains/example.com").is(200);
    insta::assert_snapshot!(zone["domain"]["zone_file"].as_str().unwrap(), @r#"
    $ORIGIN example.com.
    $TTL 1800
    example.com. 1800 IN SOA ns1.digitalocean.com. hostmaster.example.com. 1763707800 10800 3600 604800 1800
    example.com. 1800 IN NS ns1.digitalocean.com.
    example.com. 1800 IN NS ns2.digitalocean.com.
    example.com. 1800 IN NS ns3.digitalocean.com.
    example.com. 1800 IN A 192.0.2.7
    www.example.com. 60 IN A 192.0.2.7
    blog.example.com. 60 IN CNAME example.com.
    _acme-challenge.example.com. 60 IN TXT "token"
    *.example.com. 60 IN AAAA 2001:db8::1
    "#);
    client.delete("/domains/example.com").is(204);
    client.get(records).refuses(404, "The resource you were accessing could not be found.");
}

#[test]
fn a_token_can_do_what_its_scopes_say() {
    let cloud = DigitalOcean::start();
    cloud.with(|account| account.add_key("me", ED25519));
    let mut body = ordinary("web-1");
    (body["tags"], body["ssh_keys"]) = (json!(["web"]), json!([cloud.keys()[0].id]));
    let needed = ["droplet:create", "image:read", "tag:create", "ssh_key:read"];
    for left_out in needed {
        let rest: Vec<_> = needed.into_iter().filter(|scope| *scope != left_out).collect();
        let client = Client::with(&cloud, &cloud.scoped_token(&rest));
        client.post("/droplets", &body).refuses(403, "You are not authorized to perform this operation");
    }
    assert_eq!(cloud.droplets().len(), 0);
    Client::with(&cloud, &cloud.scoped_token(&needed)).post("/droplets", &body).is(202);

    // What one may not read is not shown.
    let with = |scopes: &[&str]| Client::with(&cloud, &cloud.scoped_token(scopes));
    let seen = with(&["droplet:read"]).get("/droplets").is(200)["droplets"][0].clone();
    assert_eq!((seen.get("tags"), seen.get("image"), seen.get("vpc_uuid")), (None, None, None));
    assert_eq!(seen["name"], "web-1");
    with(&["droplet:read"])
        .get("/droplets?tag_name=web")
        .refuses(403, "You are not authorized to perform this operation");
    let seen =
        with(&["droplet:read", "tag:read"]).get("/droplets?tag_name=web").is(200)["droplets"][0].clone();
    assert_eq!(seen["tags"], json!(["web"]));

    let droplet = cloud.droplets()[0].id;
    let path = format!("/droplets/{droplet}/actions");
    let resize = json!({"type": "resize", "size": "s-1vcpu-2gb"});
    with(&["droplet:update"])
        .post(&path, &resize)
        .refuses(403, "You are not authorized to perform this operation");
    with(&["droplet:update", "droplet:create"])
        .post(&path, &resize)
        .refuses(422, "Droplet already has a pending event.");
    // Either of two will do for records.
    cloud.with(|account| drop(account.add_domain("example.com").zone_file()));
    let record = json!({"type": "A", "name": "@", "data": "192.0.2.1"});
    for scope in ["domain:create", "domain:update"] {
        with(&[scope]).post("/domains/example.com/records", &record).is(201);
    }
    with(&["domain:read"])
        .post("/domains/example.com/records", &record)
        .refuses(403, "You are not authorized to perform this operation");
    with(&["block_storage:read"]).get("/volumes").is(200);
    let project = format!("/projects/{}/resources", cloud.projects()[0].id);
    let resources = json!({"resources": [format!("do:droplet:{droplet}")]});
    with(&["project:assign_resource"])
        .post(&project, &resources)
        .refuses(403, "You are not authorized to perform this operation");
    let assigned = with(&["project:update", "droplet:read"]).post(&project, &resources).is(200);
    assert_eq!(assigned["resources"][0]["status"], "already_assigned");
}

#[test]
fn what_goes_wrong_on_the_wire() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    let send = |name: &str| client.try_send("POST", "/droplets", &ordinary(name));

    cloud.fault(Fault::on("POST", "/v2/droplets").too_many_requests(3));
    cloud.fault(Fault::on("*", "/v2/*").status(503).after(1).times(2));
    let limited = send("limited").unwrap();
    assert_eq!(
        (limited.status, &limited.headers["retry-after"], &limited.headers["ratelimit-remaining"]),
        (429, &"3".parse().unwrap(), &"0".parse().unwrap())
    );
    assert_eq!(client.get("/account").status, 503);
    assert_eq!(client.get("/droplets").status, 503);
    assert_eq!(client.get("/droplets").is(200)["meta"]["total"], 0);

    cloud.fault(Fault::on("POST", "/v2/droplets").reset());
    let reset = send("reset").unwrap_err();
    assert!(format!("{reset:?}").contains("ConnectionReset"), "{reset:?}");
    assert_eq!(cloud.droplets().len(), 0);
    assert_eq!(cloud.writes().last().unwrap().line(), "POST /v2/droplets -");

    cloud.fault(Fault::on("POST", "/v2/droplets").lose_answer());
    cloud.fault(Fault::on("POST", "/v2/droplets").missing_from_lists(2));
    send("lost").unwrap_err();
    let names = |path: &str| -> Vec<_> {
        let body = client.get(path).is(200);
        body["droplets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|droplet| droplet["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(cloud.droplets()[0].name, "lost");
    assert_eq!(client.get(&format!("/droplets/{}", cloud.droplets()[0].id)).status, 200);
    assert_eq!(
        (names("/droplets"), names("/droplets?name=lost"), names("/droplets")),
        (vec![], vec![], vec!["lost".into()])
    );
    assert_eq!(cloud.writes().last().unwrap().line(), "POST /v2/droplets 202");

    cloud.fault(Fault::on("POST", "/v2/droplets").truncate());
    let truncated = send("truncated").unwrap_err();
    assert!(truncated.is_body() || truncated.is_decode(), "{truncated:?}");

    cloud.fault(Fault::on("GET", "/v2/droplets/*").hold(Duration::from_millis(300)));
    let began = Instant::now();
    client.get(&format!("/droplets/{}", cloud.droplets()[0].id)).is(200);
    assert!(began.elapsed() >= Duration::from_millis(300));

    cloud.fault(Fault::on("POST", "/v2/account/keys").unknown_to_droplets(1));
    let key = client.post("/account/keys", &json!({"name": "me", "public_key": ED25519})).is(201)["ssh_key"]
        ["id"]
        .clone();
    let mut body = ordinary("keyed");
    body["ssh_keys"] = json!([key]);
    client
        .post("/droplets", &body)
        .refuses(422, &format!("{key} are invalid key identifiers for Droplet creation."));
    client.post("/droplets", &body).is(202);
    assert_eq!(cloud.faults_left().len(), 0);
}

#[test]
fn an_answer_that_is_held_does_not_hold_up_the_end() {
    let began = Instant::now();
    let cloud = DigitalOcean::start();
    cloud.fault(Fault::on("GET", "/v2/account").hold(Duration::from_secs(60)));
    let (url, token) = (cloud.url(), cloud.token());
    let waiting = std::thread::spawn(move || {
        Client::new(&url, &token).try_send("GET", "/account", &Value::Null).is_ok()
    });
    crate::support::wait_for("the request", 10, || !cloud.requests().is_empty());
    drop(cloud);
    waiting.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
#[should_panic(expected = "does not serve GET /v2/nothing/at/all")]
fn a_panic_in_the_fake_fails_the_test() {
    let cloud = DigitalOcean::start();
    assert_eq!(Client::of(&cloud).get("/nothing/at/all").status, 500);
}

#[test]
fn every_operation_of_the_document_is_served() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    let operations = DOCUMENT.operations();
    assert!(operations.len() > 60, "{}", operations.len());
    for (method, path) in operations {
        let path = path
            .strip_prefix("/v2")
            .unwrap()
            .split('/')
            .map(|part| if part.starts_with('{') { "0" } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        let answer = client.send(&method, &path, &Value::Null);
        assert!(matches!(answer.status, 200 | 404 | 422), "{method} {path}: {answer:?}");
    }
}

#[test]
fn state_can_be_changed_behind_the_back() {
    let cloud = DigitalOcean::start();
    let client = Client::of(&cloud);
    cloud.with(|account: &mut Account| account.add_firewall("theirs", &["theirs"]));
    let id = cloud.firewalls()[0].id.clone();
    cloud.with(|account| account.firewalls[0].inbound_rules.clear());
    let shown = client.get(&format!("/firewalls/{id}")).is(200);
    assert_eq!(shown["firewall"]["inbound_rules"], json!([]));
    // A PUT resets what it does not name.
    let rule = json!({"protocol": "icmp", "sources": {"addresses": ["::/0"]}});
    let put = client
        .send("PUT", &format!("/firewalls/{id}"), &json!({"name": "ours", "inbound_rules": [rule]}))
        .is(200);
    assert_eq!(
        (&put["firewall"]["tags"], &put["firewall"]["inbound_rules"][0]["ports"]),
        (&json!([]), &json!("0"))
    );
    assert_eq!(put["firewall"]["outbound_rules"], json!([]));
}
