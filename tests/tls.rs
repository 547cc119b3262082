//! Certificates on real servers: from an authority that looks for itself (Pebble), made on the server, and of one's own.

mod pebble;

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::pebble::{Authority, openssl, run};
use crate::boxes::{Suite, TestBox};
use crate::support::{Browser, Project, Ran, Response, wait_for};

/// The domains of `ship.yml` with this authority.
fn config(authority: &Authority, domains: &str) -> String {
    format!(
        "domains: [{domains}]\ntls: {{directory: \"{}\", ca: ops/ca.pem, email: ops@example.test}}",
        authority.directory()
    )
}

/// One GET by HTTP under a name.
fn plain(server: &TestBox, name: &str, path: &str) -> Response {
    let address = server.host.parse().unwrap();
    Browser::named(address, name).unwrap().request("GET", path, "", b"").unwrap()
}

/// One GET by HTTPS with this root, by curl: the head and the body, or what curl says.
fn secure(server: &TestBox, root: &Path, name: &str, path: &str) -> Result<String, String> {
    let output = Command::new("curl")
        .args(["-s", "-S", "-i", "--max-time", "30", "--cacert"])
        .arg(root)
        .args(["--resolve", &format!("{name}:443:{}", server.host), &format!("https://{name}{path}")])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// What the certificate that is served is for, and its mark.
fn served(server: &TestBox, name: &str) -> (Vec<String>, String) {
    let line = format!(
        "openssl s_client -connect {}:443 -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName -fingerprint -sha256",
        server.host
    );
    let text = run(Command::new("sh").arg("-c").arg(line));
    let names = text.split("DNS:").skip(1).map(|rest| rest.split([',', '\n']).next().unwrap().to_owned());
    let mark = text.lines().last().unwrap().rsplit_once('=').unwrap().1.replace(':', "").to_lowercase();
    (names.collect(), mark)
}

/// Runs a Python program of this folder.
fn python(program: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(program));
    command
}

#[test]
#[ignore = "needs root, systemd-nspawn and Pebble: scripts/test runs it"]
fn an_authority_gives_renews_and_is_away() {
    let server = TestBox::builder().packages(true).boot();
    let mut authority = Authority::start(&server);
    let project = Project::new(&server);
    project.write("ops/ca.pem", &std::fs::read_to_string(authority.file("ca.pem")).unwrap());
    authority.lead("a.example.test", Some(&server.host));
    // To this machine, where nobody answers.
    authority.lead("b.example.test", Some(&authority.host));

    first_issue(&server, &authority, &project);
    offers_what_is_meant(&server);
    a_browser_logs_in(&server, &authority, &project);
    names_come_and_go(&server, &authority, &project);
    the_timer_renews_under_load(&server, &authority);
    the_authority_is_away(&server, &mut authority, &project);
    one_that_has_ended_is_replaced(&server, &mut authority, &project);
    maintenance_is_a_page(&server, &authority, &project);
}

/// What `ship doctor` says on a computer that knows the names.
fn doctor(project: &Project, authority: &Authority) -> (Option<i32>, String) {
    let mut doctor = project.command(&["doctor"]);
    let doctor = doctor.env("SHIP_NAMESERVERS", authority.nameserver()).output().unwrap();
    (doctor.status.code(), String::from_utf8(doctor.stdout).unwrap())
}

fn first_issue(server: &TestBox, authority: &Authority, project: &Project) {
    project.config(&config(authority, "a.example.test, b.example.test"));
    let wrong = format!("b.example.test leads to {}, and must lead to {}", authority.host, server.host);
    let up = project
        .ship(&["up", "--yes", "-v"])
        .exits(0)
        .says(&wrong)
        .says("get a certificate for a.example.test");
    // Django starts with HTTPS on: there is no second release for it.
    up.says("v1 serves https://a.example.test/").says("ship up");
    let root = authority.file("root.pem");
    let page = secure(server, &root, "a.example.test", "/").unwrap();
    assert!(page.starts_with("HTTP/2 200") && page.trim_end().ends_with("</html>"), "{page}");
    assert_eq!(
        page.to_lowercase().matches("strict-transport-security: max-age=3600\r\n").count(),
        1,
        "{page}"
    );
    for path in ["/static/catalog/site.css", "/nowhere/"] {
        let head = secure(server, &root, "a.example.test", path).unwrap().to_lowercase();
        assert_eq!(head.matches("strict-transport-security: max-age=3600\r\n").count(), 1, "{path}: {head}");
    }
    for header in ["x-content-type-options: nosniff", "referrer-policy: same-origin", "x-frame-options: deny"]
    {
        assert!(page.to_lowercase().contains(header), "{header}: {page}");
    }
    let redirect = plain(server, "a.example.test", "/books/?q=1");
    assert_eq!((redirect.status, redirect.header("Location")), (301, "https://a.example.test/books/?q=1"));
    // The other one is served as it can be.
    assert_eq!(plain(server, "b.example.test", "/").status, 200);
    assert_eq!(served(server, "a.example.test").0, ["a.example.test"]);

    let before = server.sshd_counts();
    project.up().says("Nothing to change: v1 serves https://a.example.test/").says(&wrong);
    let used = server.sshd_counts() - before;
    assert!(used.connections == 1 && used.channels <= 2, "{used:?}");
    project.ship(&["plan"]).exits(0).says("Nothing to change");
    project.ship(&["status"]).exits(0).says("9 days left").says("for a.example.test").says(&wrong);
    let (code, found) = doctor(project, authority);
    let astray = format!("b.example.test does not lead to this server: it leads to {}", authority.host);
    assert!(code == Some(1) && found.contains(&astray), "{found}");

    let checked = project.ship(&["manage", "check", "--deploy"]).exits(0);
    assert!(!format!("{}{}", checked.stdout, checked.stderr).contains("security."), "{checked:?}");
    assert!(server.exec("cat /var/lib/ship/library/renewal.tried").contains("a.example.test"));
    assert_eq!(
        server.exec("systemctl is-active certbot.timer; systemctl is-enabled certbot.timer"),
        "active\nenabled\n"
    );
    let modes = "stat -Lc '%a %U' /etc/letsencrypt/live/ship-library/privkey.pem; stat -c '%a %U' /etc/letsencrypt/archive";
    assert_eq!(server.exec(modes), "600 root\n700 root\n");
    // Whoever comes in the plain must not pass for one who came by HTTPS.
    let lie = Browser::named(server.host.parse().unwrap(), "b.example.test")
        .unwrap()
        .request("GET", "/accounts/login/", "X-Forwarded-Proto: https\r\n", b"")
        .unwrap();
    assert_eq!(lie.status, 200);
}

/// Acceptance: exactly what is meant, whatever this machine's own library could do.
fn offers_what_is_meant(server: &TestBox) {
    let told = run(python("offers.py").args([&*server.host, "a.example.test"]));
    let offers: Value = serde_json::from_str(&told).unwrap();
    let expected = serde_json::json!({
        "protocols": ["tls1_2", "tls1_3"],
        // The certificate's key is EC, so those for RSA keys can't be agreed on.
        "ciphers": ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        "modern": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"],
        "groups": ["X25519", "P-256", "P-384"],
        "alpn": "h2",
        "tickets": false,
        "compression": false,
        "renegotiation": true,
    });
    assert_eq!(offers, expected);
}

fn a_browser_logs_in(server: &TestBox, authority: &Authority, project: &Project) {
    let create = "DJANGO_SUPERUSER_PASSWORD=geheim python manage.py createsuperuser --noinput --username ann --email ann@example.com";
    project.ship(&["run", create]).exits(0);
    let home = authority.file("home");
    let database = home.join(".pki/nssdb");
    std::fs::create_dir_all(&database).unwrap();
    let nss = format!("sql:{}", database.display());
    run(Command::new("certutil").args(["-N", "--empty-password", "-d", &nss]));
    run(Command::new("certutil")
        .args(["-A", "-d", &nss, "-n", "pebble", "-t", "C,,", "-i"])
        .arg(authority.file("root.pem")));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut driver = Command::new("chromedriver")
        .arg(format!("--port={port}"))
        .env("HOME", &home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver: tests/fakes/prepare-tls installs it");
    wait_for("the browser's driver", 30, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let seen = python("browser.py")
        .args([&port.to_string(), &server.host, "a.example.test", "ann", "geheim"])
        .arg(authority.file("admin.png"))
        .output()
        .unwrap();
    driver.kill().unwrap();
    driver.wait().unwrap();
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(seen["url"], "https://a.example.test/");
    assert_eq!((&seen["protocol"], &seen["secure"]), (&"h2".into(), &true.into()));
    assert!(seen["admin"].as_str().unwrap().to_lowercase().contains("ann"), "{seen}");
    assert_eq!(seen["cookies"]["sessionid"], serde_json::json!([true, true]), "{seen}");
    assert_eq!(seen["cookies"]["csrftoken"][0], true, "{seen}");
    assert!(std::fs::metadata(authority.file("admin.png")).unwrap().len() > 5_000);
}

fn names_come_and_go(server: &TestBox, authority: &Authority, project: &Project) {
    let (_, before) = served(server, "a.example.test");
    authority.lead("b.example.test", Some(&server.host));
    project
        .ship(&["plan"])
        .exits(2)
        .says("get a certificate for a.example.test, b.example.test")
        .says("it lacks b.example.test");
    let up = project.up().says("v1 serves https://a.example.test/");
    await_names(server, "b.example.test", &["a.example.test", "b.example.test"], &up);
    assert_ne!(before, served(server, "b.example.test").1);
    assert!(
        secure(server, &authority.file("root.pem"), "b.example.test", "/").unwrap().starts_with("HTTP/2 200")
    );
    assert_eq!(plain(server, "b.example.test", "/").status, 301);
    project.up().says("Nothing to change");

    project.config(&config(authority, "b.example.test"));
    project.ship(&["plan"]).exits(2).says("it is still for a.example.test");
    let up = project.up().says("serves https://b.example.test/").says("✓ try a renewal of the certificate");
    await_names(server, "b.example.test", &["b.example.test"], &up);
    project.up().says("Nothing to change");
    project.config(&config(authority, "a.example.test"));
    let up = project.up().says("serves https://a.example.test/");
    await_names(server, "a.example.test", &["a.example.test"], &up);
}

/// Waits until a certificate is served: nginx takes a moment to reload, and whoever asked it to does not wait for that.
fn await_names(server: &TestBox, name: &str, names: &[&str], up: &Ran) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while served(server, name).0 != names {
        assert!(Instant::now() < deadline, "{:?} for {name} after {}", served(server, name).0, up.stderr);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn visitors(server: &TestBox, authority: &Authority) -> Child {
    python("visitors.py")
        .args([&*server.host, "a.example.test"])
        .arg(authority.file("root.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn went_home(mut visitors: Child) -> Value {
    visitors.stdin.take().unwrap().flush().unwrap();
    let output = visitors.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn the_timer_renews_under_load(server: &TestBox, authority: &Authority) {
    let (_, before) = served(server, "a.example.test");
    assert_eq!(server.exec("systemctl show -p Unit --value certbot.timer").trim(), "certbot.service");
    let visitors = visitors(server, authority);
    server.exec(
        "systemctl start certbot.service || { tail -n 30 /var/log/letsencrypt/letsencrypt.log >&2; exit 1; }",
    );
    wait_for("the renewed certificate", 60, || served(server, "a.example.test").1 != before);
    let (_, after) = served(server, "a.example.test");
    // Some more requests with the new one.
    for _ in 0..20 {
        secure(server, &authority.file("root.pem"), "a.example.test", "/").unwrap();
    }
    let seen = went_home(visitors);
    assert_eq!(seen["failed"], serde_json::json!([]));
    assert!(seen["requests"].as_u64().unwrap() > 50, "{seen}");
    assert_eq!(seen["certificates"], serde_json::json!([before, after]));
}

fn the_authority_is_away(server: &TestBox, authority: &mut Authority, project: &Project) {
    authority.lead("c.example.test", Some(&server.host));
    authority.close();
    let root = authority.file("root.pem");
    project.config(&config(authority, "a.example.test, c.example.test"));
    project
        .up()
        .says("can't be reached from the server")
        .says("the next `ship up` tries again")
        .says("serves https://a.example.test/");
    assert!(secure(server, &root, "a.example.test", "/").unwrap().starts_with("HTTP/2 200"));
    // Nobody is led to where there is no certificate for the name.
    assert_eq!(plain(server, "c.example.test", "/").status, 200);
    project.ship(&["status"]).exits(0).says("can't be reached from the server");
    project.ship(&["plan"]).exits(2).says("it lacks c.example.test");
    authority.open();
    project.up();
    assert_eq!(served(server, "c.example.test").0, ["a.example.test", "c.example.test"]);
    assert_eq!(plain(server, "c.example.test", "/").status, 301);
    project.up().says("Nothing to change");
    assert!(!project.ship(&["status"]).exits(0).stdout.contains("reached"));
}

fn one_that_has_ended_is_replaced(server: &TestBox, authority: &mut Authority, project: &Project) {
    let dir = authority.file(".");
    run(Command::new("faketime").current_dir(&dir).args(["400 days ago", "openssl"]).args(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=a -addext subjectAltName=DNS:a.example.test,DNS:c.example.test -keyout old.key -out old.pem".split(' '),
    ));
    for (file, name) in [("old.pem", "cert.pem"), ("old.pem", "fullchain.pem"), ("old.key", "privkey.pem")] {
        let content = std::fs::read(authority.file(file)).unwrap();
        // Through the link, as certbot's own files lie.
        server.write(&format!("/etc/letsencrypt/live/ship-library/{name}"), content);
    }
    server.exec("systemctl reload nginx");
    let root = authority.file("root.pem");
    wait_for("the old certificate", 10, || secure(server, &root, "a.example.test", "/").is_err());
    authority.close();
    // Whoever comes is turned away by the browser: that is no success.
    project.ship(&["up", "--yes"]).exits(1).says("ended").says("can't be reached from the server");
    project.ship(&["doctor"]).exits(1).says("ended");
    authority.open();
    project.up().says("it ended").says("serves https://a.example.test/");
    assert!(secure(server, &root, "a.example.test", "/").unwrap().starts_with("HTTP/2 200"));
    project.up().says("Nothing to change");
    assert_eq!(doctor(project, authority).0, Some(0));
}

fn maintenance_is_a_page(server: &TestBox, authority: &Authority, project: &Project) {
    let root = authority.file("root.pem");
    let ask = || secure(server, &root, "a.example.test", "/books/").unwrap();
    project.ship(&["maintenance", "on"]).exits(0);
    let page = ask();
    assert!(page.starts_with("HTTP/2 503") && page.contains("Back in a moment"), "{page}");
    let head = page.to_lowercase();
    assert!(
        head.contains("retry-after: ")
            && head.contains("strict-transport-security")
            && head.contains("no-store")
    );
    project.ship(&["status"]).exits(0).says("in maintenance");
    // A release goes on meanwhile, seen healthy by ship alone.
    project.put_on_page("Made in the dark");
    project.up().says("v");
    assert!(ask().starts_with("HTTP/2 503"));
    project.ship(&["maintenance", "off"]).exits(0);
    assert!(secure(server, &root, "a.example.test", "/").unwrap().contains("Made in the dark"));

    // Nobody answers, and one who takes too long.
    server.exec("systemctl stop library.socket 'library@*.service'");
    let page = ask();
    assert!(page.starts_with("HTTP/2 502") && page.contains("The site is not answering"), "{page}");
    assert!(!page.contains("src=") && !page.contains("http://") && !page.contains("https://"), "{page}");
    server.exec("systemctl start library.socket; systemctl start \"$(basename \"$(readlink -f /srv/library/current)\" | sed 's/.*/library@&.service/')\"");
    wait_for("the site", 30, || ask().starts_with("HTTP/2 200"));
    // Its own error is the project's to word.
    assert!(secure(server, &root, "a.example.test", "/nowhere/").unwrap().starts_with("HTTP/2 404"));
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn one_made_on_the_server_and_one_of_the_users_own() {
    let server = TestBox::builder().suite(Suite::Trixie).packages(true).boot();
    let project = Project::new(&server);
    project.config("tls: self-signed");
    project.ship(&["plan", "--yes"]).exits(2).says("make a self-signed certificate");
    project.up().says(&format!("v1 serves https://{}/", server.host));
    let dir = tempfile::tempdir().unwrap();
    server.exec("test \"$(stat -c %a /etc/ship/library/tls/self-signed.key)\" = 600");
    let own = server.read("/etc/ship/library/tls/self-signed.pem").unwrap();
    let root = dir.path().join("self.pem");
    std::fs::write(&root, own).unwrap();
    let page = secure(&server, &root, &server.host, "/").unwrap();
    assert!(page.starts_with("HTTP/2 200") && !page.to_lowercase().contains("strict-transport"), "{page}");
    project.up().says("Nothing to change: v1 serves https://");
    assert!(!server.exec("nginx -t 2>&1").contains("[warn]"), "nginx warns");

    // One's own, from an authority of one's own.
    openssl(
        dir.path(),
        "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=our-own -keyout ca.key -out ca.pem -addext basicConstraints=critical,CA:TRUE",
    );
    openssl(dir.path(), "req -newkey rsa:2048 -nodes -subj /CN=x -keyout site.key -out site.csr");
    std::fs::write(dir.path().join("ext"), "subjectAltName=DNS:shop.example.test,DNS:*.shop.example.test")
        .unwrap();
    openssl(
        dir.path(),
        "x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -extfile ext -out site.pem",
    );
    openssl(dir.path(), "genrsa -out other.key 2048");
    let copy =
        |from: &str, to: &str| project.write(to, &std::fs::read_to_string(dir.path().join(from)).unwrap());
    copy("site.pem", "certs/site.pem");
    copy("other.key", "certs/site.key");
    let names = "domains: [shop.example.test, www.shop.example.test]\ntls: {certificate: certs/site.pem, key: certs/site.key, hsts: 86400}";
    project.config(names);
    project
        .ship(&["up", "--yes"])
        .exits(3)
        .says("certs/site.key, which `tls.key` names, holds a private key that belongs to another");
    copy("site.key", "certs/site.key");
    project.config(&names.replace("www.shop", "elsewhere"));
    project.ship(&["up", "--yes"]).exits(3).says("certs/site.pem is not for elsewhere.example.test");
    project.config(names);
    let key = std::fs::read_to_string(dir.path().join("site.key")).unwrap();
    let secret = key.lines().nth(3).unwrap().to_owned();
    let up = project.ship(&["up", "--yes", "-v"]).exits(0).says("serves https://shop.example.test/");
    assert!(!up.stdout.contains(&secret) && !up.stderr.contains(&secret), "the key was shown");
    let found = server.exec(&format!(
        "grep -rlF -- '{secret}' /etc /srv /var/lib/ship /var/log /tmp /run 2>/dev/null; journalctl --no-pager | grep -cF -- '{secret}' || true"
    ));
    assert_eq!(found, "/etc/ship/library/tls/key.pem\n0\n");
    assert_eq!(server.exec("stat -c '%a %U' /etc/ship/library/tls/key.pem").trim(), "600 root");
    let root = dir.path().join("ca.pem");
    let page = secure(&server, &root, "www.shop.example.test", "/").unwrap();
    assert!(page.starts_with("HTTP/2 200") && page.to_lowercase().contains("max-age=86400"), "{page}");
    project.up().says("Nothing to change");

    // Back to HTTP: Django is told, and nobody is led anywhere.
    project.config("domains: [shop.example.test]\ntls: none");
    project.up().says("no more by HTTPS").says("serves http://shop.example.test/");
    assert_eq!(plain(&server, "shop.example.test", "/").status, 200);
    assert!(secure(&server, &root, "shop.example.test", "/").is_err());
}
