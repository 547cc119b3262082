//! `ship doctor` on a server to which one thing after another is done: it names that thing first, and the command that it
//! gives mends it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use crate::boxes::TestBox;
use crate::fakes::names::NameServer;
use crate::support::{Project, wait_for};

/// A process that falls ill when a file says so.
const WORKER: &str = "import os, time\n\nwhile True:\n    if os.path.exists('/srv/library/shared/broken'):\n        raise SystemExit('the broker is gone')\n    \
    if os.path.exists('/srv/library/shared/hungry'):\n        hoard = [bytes([i % 255 + 1]) * 2**20 for i in range(3000)]\n    time.sleep(0.2)\n";

/// What is to be found, how it is brought about, and what is done besides running the command that mends it.
struct Planted {
    fault: &'static str,
    plant: &'static str,
    says: &'static str,
    /// The command that `ship doctor` gives, if it can be run as it stands.
    mend: &'static str,
    /// What only whoever brought it about can undo.
    undo: &'static str,
}

const FILL_INODES: &str = "mkdir /var/filler && cd /var/filler && python3 -c '
import itertools
try:
    for number in itertools.count():
        open(str(number), \"x\").close()
except OSError:
    pass'";

const PACKAGE: &str = "touch /root/broken && mkdir -p /root/odd/DEBIAN && cd /root \
    && printf 'Package: odd\\nVersion: 1\\nArchitecture: all\\nMaintainer: A <a@example.com>\\nDescription: odd\\n' >odd/DEBIAN/control \
    && printf '#!/bin/sh\\ntest ! -e /root/broken\\n' >odd/DEBIAN/postinst && chmod 755 odd/DEBIAN/postinst \
    && dpkg-deb -b odd odd.deb && ! dpkg -i odd.deb";

const WALL: &str = "apt-get install -y -q nftables >/dev/null && nft add table inet wall \
    && nft 'add chain inet wall in { type filter hook input priority 0; }' && nft 'add rule inet wall in iifname != lo tcp dport 80 drop'";

const FAULTS: [Planted; 17] = [
    Planted {
        fault: "disk",
        plant: "fallocate -l \"$(df -PB1 /var | awk 'NR == 2 { print $4 - 2000000 }')\" /var/filler; cat /dev/zero >/var/rest 2>/dev/null || true",
        says: "/ is full",
        mend: "",
        undo: "rm /var/filler /var/rest",
    },
    Planted {
        fault: "inodes",
        plant: FILL_INODES,
        says: "/ has room for",
        mend: "",
        undo: "rm -r /var/filler",
    },
    Planted {
        fault: "clock",
        // A container shares its clock with the machine below it; what is set here is what tells the time.
        plant: "printf '#!/bin/sh\\n[ \"$1\" = +%%s ] || exec /bin/date \"$@\"\\necho $(( $(/bin/date +%%s) + 7200 ))\\n' >/usr/local/bin/date && chmod 755 /usr/local/bin/date",
        says: "2 h ahead of this computer's",
        mend: "",
        undo: "rm /usr/local/bin/date",
    },
    Planted {
        fault: "packages",
        plant: PACKAGE,
        says: "dpkg has left 1 package half-way: odd",
        mend: "ship ssh -- 'sudo dpkg --configure -a && sudo apt-get -f -y install'",
        undo: "rm /root/broken",
    },
    Planted {
        fault: "database",
        plant: "systemctl stop postgresql",
        says: "PostgreSQL does not answer",
        mend: "ship ssh -- sudo systemctl restart postgresql",
        undo: "",
    },
    Planted {
        fault: "database",
        plant: "cd / && runuser -u postgres -- psql -qc \"alter role library password 'another'\"",
        says: "password authentication failed",
        mend: "ship ssh -- sudo rm /etc/ship/library/config/05-database.env && ship up",
        undo: "",
    },
    Planted {
        fault: "service",
        plant: "systemctl stop redis-server",
        says: "Redis does not run",
        mend: "ship ssh -- sudo systemctl restart redis-server",
        undo: "",
    },
    Planted {
        fault: "nginx",
        plant: "echo 'servr { }' >/etc/nginx/conf.d/broken.conf",
        says: "unknown directive \"servr\" in /etc/nginx/conf.d/broken.conf:1",
        mend: "",
        undo: "rm /etc/nginx/conf.d/broken.conf",
    },
    Planted {
        fault: "port",
        plant: "systemctl stop nginx \
            && printf '[Service]\nExecStart=/usr/bin/python3 -m http.server 80\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/squatter.service \
            && systemctl daemon-reload && systemctl enable -q --now squatter \
            && until ss -Hltn 'sport = :80' | grep -q .; do :; done && ! systemctl start nginx",
        says: "has port 80, which nginx needs",
        mend: "ship ssh -- sudo systemctl disable --now squatter.service && ship up",
        undo: "",
    },
    Planted {
        fault: "permissions",
        plant: "chown root: /srv/library/shared/media",
        says: "/srv/library/shared/media (root:root, mode 750): the site can't write to it",
        mend: "ship up",
        undo: "",
    },
    Planted {
        fault: "permissions",
        plant: "chmod 700 /srv/library",
        says: "nginx can't enter it",
        mend: "ship up",
        undo: "",
    },
    Planted {
        fault: "process",
        plant: "touch /srv/library/shared/broken",
        says: "the broker is gone",
        mend: "",
        undo: "rm /srv/library/shared/broken",
    },
    Planted {
        fault: "process",
        plant: "systemctl stop \"library@$(basename \"$(readlink /srv/library/current)\")\"",
        says: "web does not run",
        mend: "ship up",
        undo: "",
    },
    Planted {
        fault: "site",
        plant: "cd / && runuser -u postgres -- psql -qd library -c 'alter table catalog_book rename to gone'",
        says: "the site answers with 500",
        mend: "",
        undo: "cd / && runuser -u postgres -- psql -qd library -c 'alter table gone rename to catalog_book'",
    },
    Planted {
        fault: "firewall",
        plant: WALL,
        says: "port 80 is closed between here and the server",
        mend: "",
        undo: "nft delete table inet wall",
    },
    Planted {
        fault: "unit",
        plant: "! systemd-run --quiet --wait --unit=other false",
        says: "other.service ended with exit code 1",
        mend: "",
        undo: "systemctl reset-failed other.service",
    },
    Planted {
        fault: "drift",
        plant: "echo '# by hand' >>/etc/nginx/sites-available/library.conf",
        says: "update file /etc/nginx/sites-available/library.conf",
        mend: "`ship plan` shows the differences, `ship up` makes it so",
        undo: "",
    },
];

/// The kinds of what `ship doctor` finds, in its order, and all that it says.
fn findings(project: &Project) -> (i32, Vec<String>, String) {
    let (code, found, text) = look(project);
    (code, found.iter().map(|one| one["fault"].as_str().unwrap().to_owned()).collect(), text)
}

fn look(project: &Project) -> (i32, Vec<serde_json::Value>, String) {
    let ran = project.ship(&["doctor", "--json", "--yes"]);
    let found = ran.json().into_iter().find(|event| event["event"] == "result").unwrap_or_default();
    let found = found["result"]["findings"].as_array().cloned().unwrap_or_default();
    let text = found.iter().map(|one| format!("{one:#}\n")).collect::<String>() + &ran.stderr;
    (ran.code, found, text)
}

fn is_well(project: &Project, after: &str) {
    let mut told = String::new();
    // What restarts often is looked at for a minute.
    let well = || {
        let (code, kinds, text) = findings(project);
        told = format!("{code} {kinds:?} {text}");
        code == 0
    };
    let deadline = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for("health", 120, well)));
    assert!(deadline.is_ok(), "after {after}: {told}");
}

/// Runs commands as `ship doctor` gives them.
fn follow(project: &Project, commands: &str) {
    let commands = commands.split(" && ship ").filter(|command| !command.is_empty());
    for command in commands.map(|command| command.trim_start_matches("ship ")) {
        let words = shlex::split(command).unwrap();
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words == ["up"] {
            words.push("--yes");
        }
        project.ship(&words).exits(0);
    }
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn each_fault_is_named_first_and_mended_by_what_is_said() {
    let server = TestBox::builder().packages(true).disk_mb(2000).boot();
    let here: IpAddr = server.host.parse().unwrap();
    let leads = Arc::new(Mutex::new(here));
    let told = Arc::clone(&leads);
    let names = NameServer::start(move |name| {
        if name == "library.example.com" { vec![*told.lock().unwrap()] } else { Vec::new() }
    });
    let mut project = Project::new(&server);
    project.set("SHIP_NAMESERVERS", names.address());
    project.write("work.py", WORKER);
    project.config(
        "domains: [library.example.com]\ntls: none\nplaybooks: [redis]\nprocesses: {worker: python work.py}",
    );
    let (_, kinds, text) = findings(&project);
    assert!(kinds.is_empty(), "nothing is wrong with a bare server: {text}");
    project.up();
    is_well(&project, "the first deploy");
    project.ship(&["doctor"]).exits(0).says("Nothing is wrong: v1 serves");

    crate::pages::names_all_of(&server);
    for planted in &FAULTS {
        let Planted { fault, plant, says, mend, undo } = planted;
        server.exec(plant);
        let (mut last, mut first) = (String::new(), serde_json::Value::Null);
        wait_for(&format!("{fault} after {plant}"), 60, || {
            let (code, found, text) = look(&project);
            first = found.first().cloned().unwrap_or_default();
            let seen = code == 1 && first["fault"] == *fault && text.contains(&says.replace('"', "\\\""));
            if !seen && last != text {
                println!("{plant}: not yet: {text}");
                last = text;
            }
            seen
        });
        assert!(mend.is_empty() || first["mend"] == *mend, "{plant}: {first:#}");
        if !undo.is_empty() {
            server.exec(undo);
        }
        follow(&project, if mend.starts_with('`') { "ship up" } else { mend });
        is_well(&project, fault);
    }
    a_migration_is_missing(&project);
    memory_runs_out(&project, &server);

    *leads.lock().unwrap() = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 99));
    let astray = project.ship(&["doctor"]).exits(1).says("library.example.com does not lead to this server");
    assert!(astray.stdout.starts_with('✗'), "{}", astray.stdout);
    assert_eq!(findings(&project).1, ["dns"]);
    *leads.lock().unwrap() = here;
    is_well(&project, "dns");

    server.exec("systemctl stop ssh.socket ssh.service 2>/dev/null; systemctl is-active ssh.service || true");
    let (code, kinds, text) = findings(&project);
    assert_eq!((code, kinds.as_slice()), (4, ["unreachable".to_owned()].as_slice()), "{text}");
}

fn a_migration_is_missing(project: &Project) {
    project.ship(&["manage", "migrate", "sessions", "zero"]).exits(0);
    let (_, kinds, text) = findings(project);
    assert_eq!(kinds.first().map(String::as_str), Some("migration"), "{text}");
    follow(project, "ship manage migrate");
    is_well(project, "migration");
}

fn memory_runs_out(project: &Project, server: &TestBox) {
    server.limit_memory(700);
    server.exec("touch /srv/library/shared/hungry");
    wait_for("the kernel", 60, || findings(project).1.first().is_some_and(|first| first == "memory"));
    project.ship(&["doctor"]).exits(1).says("as the kernel does when memory runs out").says("ship scale");
    server.exec("rm /srv/library/shared/hungry");
    server.free_memory();
    // The journal forgets it, so that the rest of the test does not have to wait for an hour.
    server.exec("journalctl -q --rotate && journalctl -q --vacuum-time=1s");
    is_well(project, "memory");
}
