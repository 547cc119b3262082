//! A server that is safe to own: what is open, what is told to strangers, what the site's processes may do, and the way
//! back from what would lock the user out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::boxes::{Suite, TestBox};
use crate::support::{Project, wait_for};

/// Requests of strangers, with what is expected of each.
const REQUESTS: &str = include_str!("hardening/requests.txt");
/// Connects to every port.
const SCAN: &str = include_str!("hardening/scan.py");
/// What a process of the site tries.
const PROBE: &str = include_str!("hardening/probe.py");

/// What stands in files that nobody outside may read.
const CANARY: &str = "a-canary-that-must-not-be-seen";

/// The worst exposure that systemd still calls OK.
const OK: f32 = 4.9;

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn strangers_and_neighbours_get_nothing() {
    let server = TestBox::builder().packages(true).boot();
    let elsewhere = TestBox::builder().boot();
    let site = first_site(&server, &elsewhere);
    let second = second_site(&server);
    for project in [&site, &second] {
        project.ship(&["up", "--yes"]).exits(0).says("Nothing to change");
    }
    processes_are_locked_in(&server);
    neighbours_are_apart(&server);
    units_are_rated_ok(&server);
    plant_canaries(&server);
    strangers_learn_nothing(&server);
    only_ssh_and_the_web_are_open(&server, &elsewhere);
    names_and_ports_are_taken_once(&site, &second);
    what_is_switched_off_goes(&site, &server);
}

fn first_site(server: &TestBox, elsewhere: &TestBox) -> Project {
    let site = Project::new(server);
    site.write("probe.py", PROBE);
    let run = |name: &str| format!("python probe.py {name} {}", elsewhere.host);
    site.config(&format!(
        "domains: [library.example.com]\n\
         processes:\n  open: {}\n  local: {{command: {}, network: local}}\n  away: {{command: {}, network: off, memory: 200}}\n\
         schedule: {{job: {{command: {}, at: \"*:*:0/5\", network: off}}}}",
        run("open"),
        run("local"),
        run("away"),
        run("job")
    ));
    site.commit("Probes");
    server.exec("echo x >/home/canary; echo x >/var/tmp/canary");
    site.up().says("log in afresh").says("v1 serves http://library.example.com/");
    site
}

fn second_site(server: &TestBox) -> Project {
    let second = Project::new(server);
    second.config("app: second\ndomains: [second.example.com]\ndatabase: sqlite");
    second.up().says("v1 serves http://second.example.com/");
    let sockets = server.exec("cd /etc/systemd/system; grep -h ^ListenStream= library.socket second.socket");
    assert_eq!(sockets, "ListenStream=127.0.0.1:8000\nListenStream=127.0.0.1:8001\n");
    server.exec("echo x >/srv/second/shared/canary; chmod 644 /srv/second/shared/canary");
    for (name, app) in [("library.example.com", "library"), ("second.example.com", "second")] {
        let page = ask(server, &format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"));
        assert!(page.starts_with("HTTP/1.1 200"), "{app}: {page}");
    }
    // Both are asked again in the same minute.
    second
}

/// What each kind of process could do.
fn processes_are_locked_in(server: &TestBox) {
    for name in ["open", "local", "away", "job"] {
        let path = format!("/srv/library/shared/media/probe-{name}");
        server.exec(&format!(
            "rm -f {path}; systemctl restart 'library-{name}@v1.service' 2>/dev/null || true"
        ));
        wait_for("the probe", 60, || server.read(&path).is_some());
        let said = String::from_utf8(server.read(&path).unwrap()).unwrap();
        let could: BTreeSet<&str> = said.lines().filter_map(|line| line.strip_suffix(": yes")).collect();
        let mut may = BTreeSet::from([
            "read its own shared folder",
            "write to its shared folder",
            "read its media",
            "use shared memory",
            "run other programs",
            "make code",
            "reach its database by its socket",
        ]);
        match name {
            "open" => may.extend(["reach its database", "reach another host"]),
            "local" => may.extend(["reach its database"]),
            _ => {}
        }
        assert_eq!(could, may, "{name}\n{said}");
    }
    let limits = server.exec("systemctl show -p MemoryMax --value library-away@v1.service");
    assert_eq!(limits.trim(), "209715200");
}

/// As the sites' own users, outside of any unit: permissions alone.
fn neighbours_are_apart(server: &TestBox) {
    for (user, other) in [("library", "second"), ("second", "library"), ("library-build", "second")] {
        let forbidden = [
            format!("cat /etc/ship/{other}/v1.env"),
            format!("ls /etc/ship/{other}"),
            format!("cat /etc/ship/{other}/config/00-generated.env"),
            format!("ls /srv/{other}/releases"),
            format!("ls /srv/{other}/shared"),
            format!("ls /srv/{other}/shared/media"),
            format!("cat /srv/{other}/shared/canary"),
            format!("touch /srv/{other}/static/x"),
            format!("ls /var/lib/ship/{other}/releases"),
            format!("ls /var/backups/ship/{other}"),
            "cat /etc/shadow /etc/ship/library/database.password /etc/ssh/ssh_host_ed25519_key".into(),
            "ls /root /var/lib/ship/library/apply".into(),
            "sudo -n true".into(),
        ];
        for command in &forbidden {
            let ran = server.exec_status(&format!("runuser -u {user} -- sh -c '{command}'"));
            assert!(!ran.status.success(), "{user} may: {command}\n{}", String::from_utf8_lossy(&ran.stdout));
            assert!(ran.stdout.is_empty(), "{user}: {command}\n{}", String::from_utf8_lossy(&ran.stdout));
        }
    }
    // Its own code is not its own.
    for path in ["releases/v1/manage.py", "releases/v1/new", "current/new", "venvs/v1/new", "new"] {
        let ran = server.exec_status(&format!("runuser -u library -- sh -c 'echo x >>/srv/library/{path}'"));
        assert!(!ran.status.success(), "library may write {path}");
    }
    let found = server.exec(
        "find /etc/ship /srv/*/releases /var/lib/ship $(ls -d /var/backups/ship 2>/dev/null) -type f -perm /0004 \
         \\( -name '*.env' -o -name '*.password' -o -name '*.dump' -o -name '*.key' \\)",
    );
    assert_eq!(found, "", "secrets that everybody may read");
    let modes =
        server.exec("stat -c '%a %U:%G' /etc/ship/library/v1.env /etc/ship/library/config/00-generated.env");
    assert_eq!(modes, "640 root:library\n600 root:root\n");
    // A role with a password of its own gets into no other site's database.
    server.exec("runuser -u postgres -- psql -qc \"create role second login password 'x'\"");
    let ran = server.exec_status("PGPASSWORD=x psql -h 127.0.0.1 -U second -d library -c 'select 1'");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("permission denied for database"), "{said}");
    server.exec("runuser -u postgres -- psql -qc 'drop role second'");
}

fn units_are_rated_ok(server: &TestBox) {
    let units = server.exec(
        "cd /etc/systemd/system; ls | sed -n 's/@\\.service$/@v1.service/p; /^library.*[^@]\\.service$/p; /^ship-.*\\.service$/p' | sort -u",
    );
    let names: Vec<&str> = units.lines().collect();
    for expected in [
        "library@v1.service",
        "library-away@v1.service",
        "library-job-job.service",
        "second@v1.service",
        "ship-firewall.service",
    ] {
        assert!(names.contains(&expected), "{expected} in {names:?}");
    }
    for name in names {
        let said = server.exec(&format!("systemd-analyze security --no-pager {name} | tail -n 1"));
        let level: f32 =
            said.rsplit_once(": ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).expect(&said);
        assert!(level <= OK, "{said}");
    }
}

fn plant_canaries(server: &TestBox) {
    server.exec(&format!(
        "cd /srv/library; mkdir -p shared/media/.hidden static/.hidden; \
         for file in canary shared/canary shared/media/.canary shared/media/.hidden/canary static/.canary static/.hidden/canary releases/v1/.env; do \
           echo {CANARY} >$file; chmod 644 $file; done; \
         for ending in html htm xhtml svg SVG xml js mjs php swf mht shtml; do echo '<script>alert(1)</script>' >shared/media/active.$ending; done; \
         echo picture >shared/media/picture.png; echo {CANARY} >/root/canary; ln -s /root/canary shared/media/link"
    ));
}

/// A raw request and all that comes back, as text.
fn ask(server: &TestBox, request: &str) -> String {
    let mut stream = TcpStream::connect((server.host.as_str(), 80)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server that has heard enough may close before all is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn strangers_learn_nothing(server: &TestBox) {
    let lines: Vec<&str> = REQUESTS.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines.len() >= 200, "{} requests", lines.len());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        let (expected, rest) = line.split_once(' ').unwrap();
        *counts.entry(expected).or_default() += 1;
        let answer = ask(server, &request(rest.trim_start()));
        let status: u16 = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
        for leak in [
            CANARY,
            "root:x:0:0",
            "DJANGO_SETTINGS_MODULE",
            "SECRET_KEY",
            "pyvenv",
            "evil.example",
            "Traceback",
        ] {
            assert!(
                !answer.contains(leak) || (leak == "evil.example" && expected == "miss"),
                "{line}\n{answer}"
            );
        }
        let version = head.lines().find_map(|line| line.strip_prefix("server: ")).unwrap_or("nginx");
        assert_eq!(version, "nginx", "{line}");
        match expected {
            "none" => {
                assert!(
                    matches!(status, 0 | 400 | 405 | 408 | 413 | 414 | 421 | 444 | 494 | 501 | 505),
                    "{line}\n{answer}"
                );
                // Django says this with every answer.
                assert!(!head.contains("referrer-policy"), "Django has answered: {line}\n{answer}");
            }
            "miss" => assert!(status >= 300 || status == 0, "{line}\n{answer}"),
            "safe" => assert!(status >= 200, "{line}\n{answer}"),
            "inert" => {
                assert_eq!(status, 200, "{line}\n{answer}");
                for header in [
                    "content-disposition: attachment",
                    "x-content-type-options: nosniff",
                    "content-security-policy: sandbox",
                ] {
                    assert!(head.contains(header), "{line}\n{answer}");
                }
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(counts.len(), 4, "{counts:?}");
    let picture = ask(
        server,
        "GET /media/picture.png HTTP/1.1\r\nHost: library.example.com\r\nConnection: close\r\n\r\n",
    );
    assert!(picture.starts_with("HTTP/1.1 200") && !picture.contains("attachment"), "{picture}");
    // None of those names has come as far as gunicorn.
    let log = server.exec("cat /var/log/nginx/library.access.log /var/log/nginx/second.access.log");
    assert!(
        !log.lines().any(|line| line.contains("evil.example")
            && !line.contains("upstream=-")
            && !line.contains("X-")),
        "{log}"
    );
}

/// A line of the list as bytes on the wire.
fn request(line: &str) -> String {
    let mut parts = line.split(" | ");
    let first = parts.next().unwrap();
    let mut text = if first.rsplit(' ').next().unwrap().starts_with("HTTP/") {
        first.to_owned()
    } else {
        format!("{first} HTTP/1.1")
    };
    if line.trim_end() == "GET / HTTP/0.9" {
        return "GET /\r\n".into();
    }
    text += "\r\n";
    let mut named = text.contains(" HTTP/1.0") || text.contains(" HTTP/9");
    for header in parts {
        named |= header.to_ascii_lowercase().starts_with("host");
        let long = header
            .split_once('{')
            .and_then(|(before, rest)| Some((before, rest.strip_suffix('}')?.parse().ok()?)));
        text += &long
            .map_or_else(|| header.to_owned(), |(before, count)| format!("{before}{}", "a".repeat(count)));
        text += "\r\n";
    }
    if !named {
        text += "Host: library.example.com\r\n";
    }
    text + "Connection: close\r\n\r\n"
}

fn only_ssh_and_the_web_are_open(server: &TestBox, elsewhere: &TestBox) {
    // What must not be reachable is there: PostgreSQL and gunicorn on other addresses than the loopback, and one more.
    server.exec(
        "systemd-run --quiet --unit=noise sh -c 'cd /tmp && python3 -m http.server 8888 --bind :: & \
         cd /tmp && python3 -m http.server 5433 --bind 0.0.0.0 & wait'",
    );
    wait_for("something to listen", 20, || {
        server.exec("ss -Hltn 'sport = :8888 or sport = :5433' | wc -l").trim() == "2"
    });
    elsewhere.write("/root/scan.py", SCAN);
    let said = elsewhere.exec(&format!("python3 /root/scan.py {} 1-65535", server.host));
    assert_eq!(said.split(" refused").next(), Some("22 80 443"), "{said}");
    // And by IPv6: the link's own addresses need no set-up.
    let address = server.exec("ip -6 -o address show dev eth0 scope link | awk '{ print $4 }' | cut -d/ -f1");
    let link = std::process::Command::new("ip").args(["-o", "route", "get", &server.host]).output().unwrap();
    let link = String::from_utf8(link.stdout).unwrap();
    let device = link.split("dev ").nth(1).and_then(|rest| rest.split(' ').next()).expect(&link);
    let scan = std::process::Command::new("python3")
        .args(["-c", SCAN, &format!("{}%{device}", address.trim()), "1-10000"])
        .output()
        .unwrap();
    let said = String::from_utf8(scan.stdout).unwrap();
    assert_eq!(
        said.split(" refused").next(),
        Some("22 80 443"),
        "{said}{}",
        String::from_utf8_lossy(&scan.stderr)
    );
    server.exec("systemctl stop noise");
}

fn names_and_ports_are_taken_once(site: &Project, second: &Project) {
    second.config("app: second\ndomains: [second.example.com]\ndatabase: sqlite\nport: 8000");
    second.ship(&["plan"]).exits(3).says("port 8000 on the server is library's");
    second.config("app: library\ndomains: [second.example.com]\nenvironments: {staging: {}}");
    let ran = second.ship(&["-e", "staging", "up", "--yes"]).exits(3);
    ran.says("library on the server is the environment default, and this is staging")
        .says("two environments on one server");
    second.config("app: second\ndomains: [second.example.com]\ndatabase: sqlite");
    site.ship(&["plan"]).exits(0);
}

fn what_is_switched_off_goes(site: &Project, server: &TestBox) {
    let files = "ls /etc/ship/firewall.nft /etc/systemd/system/ship-firewall.service /etc/ssh/sshd_config.d/10-ship.conf \
                 /etc/apt/apt.conf.d/52ship-updates /etc/systemd/journald.conf.d/ship.conf 2>/dev/null | wc -l";
    assert_eq!(server.exec(files).trim(), "5");
    // Emptied by hand, it comes back.
    server.exec("nft delete table inet ship");
    site.ship(&["plan"]).exits(2).says("load the firewall again").says("something has emptied it");
    site.up();
    server.exec("nft list table inet ship");
    site.config("domains: [library.example.com]\nhardening: {firewall: {allow: [8888, 5000-5010, 51820/udp]}, updates: {reboot: \"04:00\"}}");
    site.up().says("v2 serves");
    let rules = server.exec("nft list table inet ship; cat /etc/apt/apt.conf.d/52ship-updates");
    for rule in
        ["tcp dport { 5000-5010, 8888 } accept", "udp dport 51820 accept", "Automatic-Reboot-Time \"04:00\""]
    {
        assert!(rules.contains(rule), "{rule}\n{rules}");
    }
    site.config("domains: [library.example.com]\nhardening: off");
    site.up().says("`hardening.firewall` is off").says("v3 serves");
    assert_eq!(server.exec(files).trim(), "0");
    assert!(!server.exec_status("nft list table inet ship").status.success());
    assert!(!server.exec("cat /etc/systemd/system/library@.service").contains("SystemCallFilter"));
    site.ship(&["plan"]).exits(0);
}

/// Locks the user out for real; returns what `ship` said, once nobody is locked out any more.
fn lock_out(server: &TestBox, project: &Project, locks: impl Fn() -> bool) -> crate::support::Ran {
    let ship = project.start_up();
    wait_for("the door to be shut", 60, &locks);
    let shut = Instant::now();
    wait_for("the door to be open again", 60, || !locks());
    let shut = shut.elapsed();
    assert!(shut < Duration::from_secs(60), "locked out for {shut:?}");
    let ran = crate::support::Ran::finished(ship).exits(1);
    assert_eq!(server.ssh("echo in"), "in\n");
    ran.says(
        "no new login got through, so the server has taken the new settings of sshd and the firewall back",
    )
    .says("the firewall and the site are as they were")
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_lock_out_is_undone_by_the_server_itself() {
    let server = TestBox::builder().suite(Suite::Trixie).packages(true).boot();
    let project = Project::new(&server);
    let own = |name: &str| {
        std::fs::read_to_string(format!("{}/templates/hardening/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let shut = || !server.ssh_status("root", "true").status.success();

    // sshd lets nobody in; the very first `up`, before anything else.
    project.write(".ship/templates/hardening/sshd.conf.j2", &(own("sshd.conf.j2") + "AllowUsers nobody\n"));
    lock_out(&server, &project, shut).says("refused the login").says("10-ship.conf");
    assert!(
        server.read("/etc/ssh/sshd_config.d/10-ship.conf").is_none()
            && server.read("/etc/ship/firewall.nft").is_none()
    );
    assert!(!server.exec_status("nft list table inet ship").status.success(), "its firewall is gone as well");
    assert_eq!(
        server
            .exec("ls -d /etc/systemd/system/*guard* /var/lib/ship/library/releases/v1 2>/dev/null || true"),
        ""
    );

    // The firewall drops even what is connected already.
    std::fs::remove_file(project.dir.join(".ship/templates/hardening/sshd.conf.j2")).unwrap();
    let closed = own("firewall.nft.j2")
        .replace("ct state established,related accept", "")
        .replace("tcp dport { {{", "tcp dport { 1{{");
    project.write(".ship/templates/hardening/firewall.nft.j2", &closed);
    let connects = || {
        TcpStream::connect_timeout(&format!("{}:22", server.host).parse().unwrap(), Duration::from_secs(1))
            .is_ok()
    };
    lock_out(&server, &project, || !connects()).says("was lost").says("ship-firewall.service");

    // A power failure while the door is shut: it is open from the next boot on.
    let ship = project.start_up();
    wait_for("the door to be shut", 60, || !connects());
    server.kill();
    server.start();
    assert_eq!(server.ssh("echo in"), "in\n");
    assert!(server.read("/etc/ship/firewall.nft").is_none(), "taken back at boot");
    crate::support::Ran::finished(ship);

    std::fs::remove_file(project.dir.join(".ship/templates/hardening/firewall.nft.j2")).unwrap();
    project.up().says("log in afresh").says("v1 serves");
    let sshd = server.exec("sshd -T");
    for line in ["passwordauthentication no", "permitrootlogin without-password", "persourcemaxstartups 10"] {
        assert!(sshd.contains(line), "{line}\n{sshd}");
    }
    for outdated in ["hmac-sha1", "group14", "group-exchange", "-cbc", "umac-64"] {
        let offered = sshd.lines().filter(|line| {
            line.starts_with("macs") || line.starts_with("kex") || line.starts_with("ciphers")
        });
        assert!(
            !offered.clone().any(|line| line.contains(outdated)),
            "{outdated}: {:?}",
            offered.collect::<Vec<_>>()
        );
    }
    project.ship(&["up", "--yes"]).exits(0).says("Nothing to change");
}

/// What lynis finds, by its own report.
struct Audit {
    index: u32,
    warnings: Vec<String>,
    suggestions: Vec<String>,
}

fn audit(server: &TestBox) -> Audit {
    server.exec("lynis audit system --quick --no-colors --cronjob >/dev/null 2>&1");
    let report = String::from_utf8(server.read("/var/log/lynis-report.dat").unwrap()).unwrap();
    let all = |key: &str| {
        let lines = report.lines().filter_map(|line| line.strip_prefix(key));
        lines
            .map(|line| {
                line.split('|').take(3).collect::<Vec<_>>().join(" ").trim_end_matches(['-', ' ']).to_owned()
            })
            .collect()
    };
    Audit {
        index: report
            .lines()
            .find_map(|line| line.strip_prefix("hardening_index=")?.parse().ok())
            .expect("an index"),
        warnings: all("warning[]="),
        suggestions: all("suggestion[]="),
    }
}

/// What lynis suggests and ship leaves, each with the reason in docs/server.md: its identifiers.
const LEFT: [&str; 39] = [
    "LYNIS",
    "DEB-0280",
    "DEB-0810",
    "DEB-0811",
    "DEB-0831",
    "DEB-0880",
    "BOOT-5264",
    "KRNL-5788",
    "KRNL-5820",
    "AUTH-9230",
    "AUTH-9262",
    "AUTH-9282",
    "AUTH-9286",
    "AUTH-9328",
    "FILE-6310",
    "FILE-6430",
    "USB-1000",
    "STRG-1846",
    "NAME-4028",
    "NAME-4404",
    "PKGS-7370",
    "PKGS-7394",
    "PKGS-7398",
    "NETW-3200",
    "LOGG-2154",
    "LOGG-2190",
    "BANN-7126",
    "BANN-7130",
    "ACCT-9622",
    "ACCT-9626",
    "ACCT-9628",
    "FINT-4350",
    "TOOL-5002",
    "FILE-7524",
    "KRNL-6000",
    "HRDN-7230",
    "HRDN-7222",
    // HTTPS is another test's; nginx passes through a site's home to what it serves.
    "HTTP-6710",
    "HOME-9304",
];

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn lynis_finds_nothing_left_to_mend() {
    let server = TestBox::builder().boot();
    server.exec("apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends lynis >/dev/null 2>&1");
    let before = audit(&server);
    let project = Project::new(&server);
    project.config("domains: [library.example.com]");
    project.up().says("v1 serves");
    let after = audit(&server);
    let table = format!(
        "| `lynis audit system` | hardening index | warnings | suggestions |\n|---|---:|---:|---:|\n\
         | a bare Debian 12 | {} | {} | {} |\n| after `ship up` | {} | {} | {} |\n",
        before.index,
        before.warnings.len(),
        before.suggestions.len(),
        after.index,
        after.warnings.len(),
        after.suggestions.len()
    );
    if let Some(folder) = std::env::var_os("SHIP_HARDENING_REPORT") {
        std::fs::write(std::path::Path::new(&folder).join("table.md"), &table).unwrap();
    }
    assert!(after.index > before.index, "{table}");
    assert_eq!(after.warnings, Vec::<String>::new(), "{table}");
    let known = |text: &&String| LEFT.iter().any(|id| text.starts_with(id)) || text.starts_with("SSH-7408");
    let new: Vec<&String> = after.suggestions.iter().filter(|text| !known(text)).collect();
    assert!(new.is_empty(), "{table}{new:#?}");
    // Of sshd, only what would stand in the way: forwarding, many sessions and several keys are ship's and its users'.
    let sshd: BTreeSet<&str> = after
        .suggestions
        .iter()
        .filter_map(|text| {
            text.strip_prefix("SSH-7408 Consider hardening SSH configuration ")?.split(' ').next()
        })
        .collect();
    assert_eq!(sshd, BTreeSet::from(["AllowTcpForwarding", "MaxAuthTries", "MaxSessions", "Port"]));
}
