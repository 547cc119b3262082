//! What others say of the fake: servers that boot, the official document, the official client, and lego.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::document::DOCUMENT;
use super::tests::{Client, ED25519, ordinary};
use super::{DigitalOcean, Status};
use crate::support::wait_for;

/// What `tests/fakes/prepare` has installed.
fn tool(path: &str) -> PathBuf {
    let prepare = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fakes/prepare");
    let prepared = Command::new(prepare).stdin(Stdio::null()).status().expect("run tests/fakes/prepare");
    assert!(prepared.success(), "tests/fakes/prepare failed; what it printed says why");
    let testbed =
        std::env::var_os("SHIP_TESTBED").map_or_else(|| "/var/cache/ship-testbed".into(), PathBuf::from);
    testbed.join("fakes").join(path)
}

/// A program that runs beside the test; it is stopped with it.
pub struct Beside {
    child: Child,
    printed: Arc<Mutex<String>>,
}

impl Beside {
    fn start(command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&printed));
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| *kept.lock().unwrap() += &(line + "\n"))
        });
        Self { child, printed }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.child.kill().expect("stop a program");
        self.child.wait().expect("wait for a program");
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The official document.
pub fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/digitalocean/openapi.json")
}

/// Prism between a client and the fake, which fails every exchange that the document does not allow.
pub fn prism(cloud: &DigitalOcean, document: &Path) -> (Beside, String) {
    let (node, script) = (tool("node"), tool("prism/node_modules/.bin/prism"));
    let port = free_port();
    let mut command = Command::new(node);
    command.arg(script).args(["proxy", "--host", "127.0.0.1", "--errors", "--port", &port.to_string()]);
    let prism = Beside::start(command.arg(document).arg(cloud.url()));
    wait_for("Prism", 60, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    (prism, format!("http://127.0.0.1:{port}"))
}

#[test]
#[ignore = "needs node and Prism, which tests/fakes/prepare installs: scripts/test runs it"]
fn every_exchange_is_as_the_official_document_says() {
    let cloud = DigitalOcean::start();
    let (prism, url) = prism(&cloud, &document());
    let client = Client::new(&url, &cloud.token());
    walk(&client, &cloud);

    // Each operation was answered well at least once, through Prism.
    let good =
        cloud.requests().into_iter().filter(|exchange| exchange.status.is_some_and(|status| status < 300));
    let walked: BTreeSet<_> = good
        .map(|exchange| {
            let path = DOCUMENT.operation(&exchange.method, &exchange.path).unwrap().path;
            (exchange.method, path)
        })
        .collect();
    let missing: Vec<_> =
        DOCUMENT.operations().into_iter().filter(|operation| !walked.contains(operation)).collect();
    assert_eq!(missing, []);

    // It would have noticed.
    cloud.with(|account| account.projects[0].name = "x".repeat(200));
    let noticed = client.try_send("GET", "/projects/default", &Value::Null).unwrap();
    assert_eq!(
        (noticed.status, &noticed.body["title"]),
        (500, &json!("Request/Response not valid")),
        "{:?}",
        prism.printed
    );
}

/// Through everything that is served, from someone who does all of it right but for asking for what is not there.
fn walk(client: &Client, cloud: &DigitalOcean) {
    for path in ["/account", "/regions", "/sizes", "/images", "/images/debian-12-x64", "/projects", "/vpcs"] {
        client.get(path).is(200);
    }
    let vpc = cloud.with(|account| account.vpcs[0].id.clone());
    client.get(&format!("/vpcs/{vpc}")).is(200);
    cloud.preload_droplets(25);
    client.get("/droplets?page=2").is(200);

    let key = client.post("/account/keys", &json!({"name": "me", "public_key": ED25519})).is(201)["ssh_key"]
        .clone();
    client.get("/account/keys").is(200);
    client.get(&format!("/account/keys/{}", key["fingerprint"].as_str().unwrap())).is(200);
    client.post("/tags", &json!({"name": "web"})).is(201);
    let body = json!({
        "name": "web-1.example.com", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64", "ipv6": true,
        "ssh_keys": [key["id"], key["fingerprint"]], "tags": ["web", "env:prod"], "user_data": "#cloud-config\n{}\n",
        "monitoring": false, "backups": true, "with_droplet_agent": false,
    });
    let made = client.post("/droplets", &body).is(202);
    let id = made["droplet"]["id"].as_u64().unwrap();
    let droplet = format!("/droplets/{id}");
    client.get(&droplet).is(200);
    client.finish(&made);
    client.get(&droplet).is(200);
    client.get("/droplets?tag_name=web").is(200);
    let two = client.post(
        "/droplets",
        &json!({"names": ["a", "b"], "size": "s-1vcpu-1gb", "region": "fra1", "image": 194_772_518}),
    );
    client.finish(&two.is(202));
    for action in ["disable_backups", "enable_backups", "power_off", "power_on", "shutdown"] {
        client.finish(&client.post(&format!("{droplet}/actions"), &json!({"type": action})).is(201));
    }
    client.get(&droplet).is(200);
    let resize = json!({"type": "resize", "size": "s-2vcpu-4gb", "disk": false});
    let action = client.post(&format!("{droplet}/actions"), &resize).is(201);
    client.get(&format!("{droplet}/actions/{}", action["action"]["id"])).is(200);
    client
        .post(&format!("{droplet}/actions"), &json!({"type": "enable_ipv6"}))
        .refuses(422, "Droplet already has a pending event.");
    client.finish(&action);
    client.get(&format!("{droplet}/actions")).is(200);
    client.get("/tags").is(200);
    client.get("/tags/web").is(200);
    let resources = json!({"resources": [{"resource_id": id.to_string(), "resource_type": "droplet"}]});
    client.send("DELETE", "/tags/web/resources", &resources).is(204);
    client.post("/tags/web/resources", &resources).is(204);

    let everywhere = json!({"addresses": ["0.0.0.0/0", "::/0"]});
    let mut firewall = json!({
        "name": "web", "tags": ["web"], "droplet_ids": [id],
        "inbound_rules": [{"protocol": "tcp", "ports": "22", "sources": everywhere}, {"protocol": "icmp", "ports": "0", "sources": everywhere}],
        "outbound_rules": [{"protocol": "tcp", "ports": "0", "destinations": everywhere}],
    });
    let made = client.post("/firewalls", &firewall).is(202)["firewall"]["id"].as_str().unwrap().to_owned();
    client.post("/firewalls", &firewall).refuses(409, "duplicate name");
    client.get("/firewalls").is(200);
    client.get(&format!("/firewalls/{made}")).is(200);
    firewall["inbound_rules"][0]["ports"] = json!("1-65535");
    client.send("PUT", &format!("/firewalls/{made}"), &firewall).is(200);
    client.delete(&format!("/firewalls/{made}")).is(204);

    let ip = client.post("/reserved_ips", &json!({"droplet_id": id})).is(202);
    client.finish(&ip);
    let ip = format!("/reserved_ips/{}", ip["reserved_ip"]["ip"].as_str().unwrap());
    client.get(&ip).is(200);
    client.get("/reserved_ips").is(200);
    let action = client.post(&format!("{ip}/actions"), &json!({"type": "unassign"})).is(201);
    client.finish(&action);
    client.get(&format!("{ip}/actions/{}", action["action"]["id"])).is(200);
    client.get(&ip).is(200);
    client
        .finish(&client.post(&format!("{ip}/actions"), &json!({"type": "assign", "droplet_id": id})).is(201));
    client.get(&format!("{ip}/actions")).is(200);
    client.post("/reserved_ips", &json!({"region": "nyc3"})).is(202);

    let volume = json!({"name": "data", "region": "fra1", "size_gigabytes": 5, "filesystem_type": "ext4", "description": "Data"});
    let volume = client.post("/volumes", &volume).is(201)["volume"]["id"].as_str().unwrap().to_owned();
    let act = |body: Value| {
        let action = client.post(&format!("/volumes/{volume}/actions"), &body).is(202);
        client.finish(&action);
        client.get(&format!("/volumes/{volume}/actions/{}", action["action"]["id"])).is(200);
    };
    act(json!({"type": "attach", "droplet_id": id, "region": "fra1"}));
    client.get(&droplet).is(200);
    client.get("/volumes?name=data&region=fra1").is(200);
    client.get(&format!("/volumes/{volume}")).is(200);
    act(json!({"type": "resize", "size_gigabytes": 9, "region": "fra1"}));
    act(json!({"type": "detach", "droplet_id": id, "region": "fra1"}));
    client.get(&format!("/volumes/{volume}/actions")).is(200);

    client.post("/domains", &json!({"name": "example.com"})).is(201);
    client.get("/domains").is(200);
    client.get("/domains/example.com").is(200);
    let records = "/domains/example.com/records";
    for record in [
        json!({"type": "A", "name": "@", "data": "192.0.2.1", "ttl": 60}),
        json!({"type": "AAAA", "name": "@", "data": "2001:db8::1"}),
        json!({"type": "CNAME", "name": "www", "data": "@"}),
        json!({"type": "MX", "name": "@", "data": "mail.example.com.", "priority": 10}),
        json!({"type": "TXT", "name": "@", "data": "v=spf1 -all"}),
    ] {
        client.post(records, &record).is(201);
    }
    client.get(&format!("{records}?name=www.example.com&type=CNAME")).is(200);
    let record = client.get(&format!("{records}?type=A")).is(200)["domain_records"][0]["id"].clone();
    let record = format!("{records}/{record}");
    client.get(&record).is(200);
    client.send("PATCH", &record, &json!({"type": "A", "data": "192.0.2.2"})).is(200);
    client.send("PUT", &record, &json!({"type": "A", "name": "@", "data": "192.0.2.3"})).is(200);
    client.delete(&record).is(204);

    let project = client.get("/projects/default").is(200)["project"]["id"].as_str().unwrap().to_owned();
    client.get(&format!("/projects/{project}")).is(200);
    let urns =
        json!({"resources": [format!("do:droplet:{id}"), "do:domain:example.com", "do:domain:example.org"]});
    for resources in [format!("/projects/{project}/resources"), "/projects/default/resources".to_owned()] {
        client.get(&resources).is(200);
        client.post(&resources, &urns).is(200);
    }

    for path in [
        records.replace("/records", ""),
        ip,
        format!("/volumes/{volume}"),
        "/tags/web".into(),
        droplet.clone(),
    ] {
        client.delete(&path).is(204);
    }
    client.get(&droplet).refuses(404, "The resource you were accessing could not be found.");
    client.delete(&format!("/account/keys/{}", key["id"])).is(204);
}

#[test]
#[ignore = "needs pydo, which tests/fakes/prepare installs: scripts/test runs it"]
fn the_official_client_finds_its_way() {
    let cloud = DigitalOcean::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fakes/digitalocean/walk.py");
    let mut python = Command::new(tool("python/bin/python"));
    let walked = python.arg(script).args([cloud.url(), cloud.token()]).stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&walked.stdout), String::from_utf8_lossy(&walked.stderr));
    assert!(walked.status.success(), "{stdout}\n{stderr}");
    assert_eq!(stdout.trim(), "keys droplets firewalls reserved_ips domains tags volumes projects");
    assert_eq!((cloud.droplets().len(), cloud.keys().len(), cloud.reserved_ips().len()), (0, 0, 0));
}

/// An ACME authority that asks for the DNS record and takes it for granted.
fn pebble(home: &Path) -> (Beside, String) {
    let (port, management) = (free_port(), free_port());
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "srv.key", "-out", "srv.pem"]);
    let made = openssl.current_dir(home).output().expect("run openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let config = json!({"pebble": {
        "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
        "certificate": "srv.pem", "privateKey": "srv.key", "httpPort": 80, "tlsPort": 443,
    }});
    std::fs::write(home.join("pebble.json"), config.to_string()).unwrap();
    let mut command = Command::new("pebble");
    command
        .env("PEBBLE_VA_ALWAYS_VALID", "1")
        .env("PEBBLE_VA_NOSLEEP", "1")
        .env("PEBBLE_WFE_NONCEREJECT", "0");
    let pebble = Beside::start(command.current_dir(home).args(["-config", "pebble.json"]));
    wait_for("pebble", 30, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    (pebble, format!("https://127.0.0.1:{port}/dir"))
}

/// A name server that knows where the zone `example.com` begins, and nothing else; it answers until the process ends.
fn name_server() -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            // The question ends with a name's zero byte, a type and a class (RFC 1035, 4.1.2).
            let query = &buffer[..length];
            let Some(end) = query[12..].iter().position(|byte| *byte == 0) else { continue };
            let question = &query[12..12 + end + 5];
            let is_zone = question.to_ascii_lowercase().starts_with(b"\x07example\x03com\0");
            let mut answer = query[..2].to_vec();
            answer.extend([0x84, if is_zone { 0 } else { 3 }, 0, 1, 0, u8::from(is_zone), 0, 0, 0, 0]);
            answer.extend(question);
            if is_zone {
                // SOA: the question's name, its own servers, five numbers.
                answer.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 60, 0, 24, 0xc0, 12, 0xc0, 12]);
                answer.extend([1_u32, 3600, 600, 86_400, 60].iter().flat_map(|number| number.to_be_bytes()));
            }
            drop(socket.send_to(&answer, client));
        }
    });
    address
}

#[test]
#[ignore = "needs lego and pebble, which tests/fakes/prepare installs: scripts/test runs it"]
fn lego_makes_a_record_and_removes_it() {
    let cloud = DigitalOcean::start();
    cloud.preload_records("example.com", "_acme-challenge", 30);
    tool("python"); // installs Debian's packages, too
    let home = tempfile::tempdir().unwrap();
    let (_pebble, authority) = pebble(home.path());
    let mut lego = Command::new("lego");
    lego.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home.path());
    lego.env("DO_AUTH_TOKEN", cloud.token()).env("DO_API_URL", cloud.url());
    lego.env("LEGO_CA_CERTIFICATES", home.path().join("srv.pem"));
    lego.current_dir(home.path()).args([
        "--accept-tos",
        "--email",
        "me@example.com",
        "--domains",
        "shop.example.com",
    ]);
    lego.args(["--dns", "digitalocean", "--dns.disable-cp", "--dns.resolvers", &name_server()]);
    let ran = lego.args(["--server", &authority, "run"]).stdin(Stdio::null()).output().expect("run lego");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let writes: Vec<_> = cloud.writes().iter().map(|exchange| exchange.line()).collect();
    let id = writes[1].strip_prefix("DELETE /v2/domains/example.com/records/").expect("a removal");
    assert_eq!(writes[0], "POST /v2/domains/example.com/records 201");
    assert!(writes.len() == 2 && id.ends_with(" 204"), "{writes:?}");
    assert_eq!(cloud.writes()[0].body["name"], "_acme-challenge.shop.example.com.");
    assert_eq!(cloud.records("example.com").len(), 30);
}

#[test]
#[ignore = "needs root and boxes: scripts/test runs it"]
fn a_droplet_is_a_server_that_boots_with_what_was_sent() {
    let cloud = DigitalOcean::booting();
    let client = Client::of(&cloud);
    let keys = tempfile::tempdir().unwrap();
    let key = |name: &str| {
        let path = keys.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap().trim().to_owned();
        (path.clone(), read(path.clone()), read(path.with_extension("pub")))
    };
    let ((_, host_private, host_public), (login, _, login_public)) = (key("host"), key("login"));
    let (of_the_account, _, account_public) = key("account");
    let uploaded = client.post("/account/keys", &json!({"name": "me", "public_key": account_public})).is(201);
    let user_data = json!({
        "ssh_keys": {"ed25519_private": host_private + "\n", "ed25519_public": host_public},
        "users": [{"name": "ship", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [login_public]}],
        "write_files": [{"path": "/etc/told", "content": "what was sent\n"}],
    });
    let mut body = ordinary("web-1.example.com");
    body["user_data"] = json!(format!("#cloud-config\n{user_data}\n"));
    body["ssh_keys"] = json!([uploaded["ssh_key"]["id"]]);
    let made = client.post("/droplets", &body).is(202);
    let id = made["droplet"]["id"].as_u64().unwrap();
    client.finish(&made);
    let server = cloud.server(id);
    let droplet = client.get(&format!("/droplets/{id}")).is(200)["droplet"].clone();
    assert_eq!(droplet["networks"]["v4"][1]["ip_address"], server.host);

    // The host key that was sent is the one that is served, to those whom it was said of.
    let known_hosts = keys.path().join("known_hosts");
    let ip = client.post("/reserved_ips", &json!({"droplet_id": id})).is(202);
    client.finish(&ip);
    let reserved = ip["reserved_ip"]["ip"].as_str().unwrap().to_owned();
    std::fs::write(&known_hosts, format!("{},{reserved} {host_public}\n", server.host)).unwrap();
    let ssh = |key: &Path, login: &str, script: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "ConnectTimeout=5",
        ]);
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display())).arg("-i").arg(key);
        let ran = ssh.args([login, script]).stdin(Stdio::null()).output().unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    let (direct, by_reserved) = (format!("ship@{}", server.host), format!("ship@{reserved}"));
    wait_for("a login", 30, || {
        ssh(&login, &direct, "cat /etc/told; hostname -f; sudo id -u")
            == "what was sent\nweb-1.example.com\n0\n"
    });
    assert_eq!(ssh(&of_the_account, &format!("root@{}", server.host), "id -u"), "0\n");
    assert_eq!(ssh(&login, &by_reserved, "echo here"), "here\n");

    // Its power is the server's.
    let act = |body: Value| client.finish(&client.post(&format!("/droplets/{id}/actions"), &body).is(201));
    act(json!({"type": "shutdown"}));
    assert!(!server.is_running());
    act(json!({"type": "power_on"}));
    wait_for("a login after power_on", 30, || ssh(&login, &by_reserved, "echo back") == "back\n");
    act(json!({"type": "power_off"}));
    assert!(!server.is_running());
    server.start();
    client.get("/droplets").is(200);
    assert_eq!(cloud.droplets()[0].status, Status::Active, "switched on behind the API's back");

    // The address goes elsewhere.
    let mut body = ordinary("web-2");
    body["image"] = json!("debian-13-x64");
    body["user_data"] = json!(format!("#cloud-config\n{user_data}\n"));
    let made = client.post("/droplets", &body).is(202);
    client.finish(&made);
    let second = made["droplet"]["id"].as_u64().unwrap();
    let assign = json!({"type": "assign", "droplet_id": second});
    client.finish(&client.post(&format!("/reserved_ips/{reserved}/actions"), &assign).is(201));
    wait_for("a login on the other", 30, || ssh(&login, &by_reserved, "hostname") == "web-2\n");

    client.delete(&format!("/droplets/{id}")).is(204);
    wait_for("the end of the server", 30, || !server.is_running());
    assert_eq!(cloud.reserved_ips()[0].droplet, Some(second));
}
