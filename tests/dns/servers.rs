//! Real name servers on loopback addresses: Knot DNS for zones that `knsupdate` changes, Unbound as a network's resolver.
//!
//! A [`World`] is a top-level domain `test` at 127.0.0.2, a zone `example.test` at two name servers that know nothing of
//! each other (127.0.0.3 and 127.0.0.4, so that one can lag behind), and a resolver at 127.0.0.1, all at one port.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The key that may change zones.
const TSIG: &str = "hmac-sha256:ship:c2hpcCB0ZXN0cyBpdHMgbmFtZSBzZXJ2ZXJzIGhlcmU=";

/// One running daemon, gone when dropped.
struct Daemon {
    child: Child,
    dir: TempDir,
}

impl Daemon {
    fn start(program: &str, config: impl FnOnce(&Path) -> String, words: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, config(dir.path())).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(find(program))
            .args(words)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(program: &str) -> PathBuf {
    let found =
        ["/usr/sbin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("there is no {program}; tests/fakes/prepare-dns installs it"))
}

fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fakes/prepare-dns");
        let ready = Command::new(script).stdin(Stdio::null()).status().unwrap();
        assert!(ready.success(), "tests/fakes/prepare-dns failed; what it printed says why");
    });
}

/// An authoritative name server.
pub struct Knot {
    daemon: Daemon,
    pub address: SocketAddr,
}

impl Knot {
    /// Serves zones, each with its records in the format of zone files.
    fn start(address: SocketAddr, zones: &[(&str, &str)]) -> Self {
        let config = |dir: &Path| {
            let (_, secret) = TSIG.rsplit_once(':').unwrap();
            let path = dir.display();
            let mut text = format!(
                "server:\n    rundir: {path}\n    pidfile: {path}/pid\n    listen: {}@{}\ndatabase:\n    storage: {path}\n\
                 log:\n  - target: stderr\n    any: info\n\
                 key:\n  - id: ship\n    algorithm: hmac-sha256\n    secret: {secret}\n\
                 acl:\n  - id: update\n    key: ship\n    action: update\n\
                 template:\n  - id: default\n    storage: {path}\n    file: \"%s.zone\"\n    acl: update\nzone:\n",
                address.ip(),
                address.port()
            );
            for (name, records) in zones {
                write_zone(dir, name, records);
                writeln!(text, "  - domain: {name}").unwrap();
            }
            text
        };
        Self { daemon: Daemon::start("knotd", config, &["-c"]), address }
    }

    fn wait_until_it_serves(&self, zone: &str) {
        let soa = || !dig(self.address, &[zone, "SOA"]).is_empty();
        wait_for(soa, || format!("{} to serve {zone}:\n{}", self.address, self.daemon.log()));
    }

    /// Serves one more zone.
    pub fn serve(&self, zone: &str, records: &str) {
        write_zone(self.daemon.dir.path(), zone, records);
        let socket = self.daemon.dir.path().join("knot.sock");
        for words in [vec!["conf-begin"], vec!["conf-set", "zone.domain", zone], vec!["conf-commit"]] {
            let output = Command::new(find("knotc")).arg("-s").arg(&socket).args(&words).output().unwrap();
            assert!(output.status.success(), "knotc {words:?}: {output:?}");
        }
        self.wait_until_it_serves(zone);
    }

    /// Changes a zone with the verbs of `knsupdate`.
    pub fn update(&self, zone: &str, verbs: &str) {
        let SocketAddr::V4(address) = self.address else { panic!("an IPv4 address") };
        let text = format!(
            "server {} {}\nzone {zone}.\norigin {zone}.\nttl 1\n{verbs}\nsend\n",
            address.ip(),
            address.port()
        );
        let file = self.daemon.dir.path().join("update");
        std::fs::write(&file, text).unwrap();
        let output = Command::new(find("knsupdate")).args(["-y", TSIG]).arg(&file).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !said.contains("error"),
            "knsupdate: {said}\n{}",
            self.daemon.log()
        );
    }
}

fn write_zone(dir: &Path, name: &str, records: &str) {
    let soa = format!("$ORIGIN {name}.\n$TTL 1\n@ 60 SOA ns1 admin 1 3600 600 86400 60\n{records}\n");
    std::fs::write(dir.join(format!("{name}.zone")), soa).unwrap();
}

/// Everything.
pub struct World {
    _parent: Knot,
    pub ns1: Knot,
    pub ns2: Knot,
    _resolver: Daemon,
    /// Where the resolver answers.
    pub resolver: SocketAddr,
    /// Where all of them answer.
    pub port: u16,
}

impl World {
    /// `example.test` with these records besides its name servers.
    pub fn start(records: &str) -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let starting = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        prepare();
        let port = free_port();
        let at = |last: u8| SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), port);
        let delegations = "@ NS ns1\nns1 A 127.0.0.2\n\
            example NS ns1.example\nexample NS ns2.example\nns1.example A 127.0.0.3\nns2.example A 127.0.0.4\n\
            moved NS ns1.other\nmoved NS ns2.other\nhalf NS ns1.example\nhalf NS ns2.other\n\
            signed NS ns1.example\nsigned DS 60485 13 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A\n\
            ns1.other A 127.0.0.3\nns2.other A 127.0.0.3";
        let parent = Knot::start(at(2), &[("test", delegations)]);
        let own = format!("@ NS ns1\n@ NS ns2\nns1 A 127.0.0.3\nns2 A 127.0.0.4\n{records}");
        let others = "@ NS ns1.example.test.";
        let ns1 = Knot::start(
            at(3),
            &[
                ("example.test", &own),
                ("signed.test", others),
                ("moved.test", "@ NS ns1.other.test.\n@ A 198.51.100.7"),
            ],
        );
        let ns2 = Knot::start(at(4), &[("example.test", &own)]);
        let config = |dir: &Path| {
            let mut text = format!(
                "server:\n  port: {port}\n  interface: 127.0.0.1\n  access-control: 127.0.0.0/8 allow\n  do-ip6: no\n  \
                 do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  directory: {}\n  pidfile: \"\"\n  \
                 use-syslog: no\n  do-not-query-localhost: no\n  local-zone: \"test.\" nodefault\n  \
                 module-config: \"iterator\"\n  outgoing-interface: 127.0.0.1\n",
                dir.display()
            );
            for (zone, server) in [("test", at(2)), ("example.test", at(3)), ("moved.test", at(3))] {
                writeln!(text, "stub-zone:\n  name: {zone}.\n  stub-addr: {}@{port}", server.ip()).unwrap();
            }
            text
        };
        let daemon = Daemon::start("unbound", config, &["-d", "-c"]);
        parent.wait_until_it_serves("test");
        for (server, zone) in
            [(&ns1, "example.test"), (&ns1, "signed.test"), (&ns1, "moved.test"), (&ns2, "example.test")]
        {
            server.wait_until_it_serves(zone);
        }
        wait_for(
            || !dig(at(1), &["example.test", "SOA"]).is_empty(),
            || format!("the resolver to answer:\n{}", daemon.log()),
        );
        drop(starting);
        Self { _parent: parent, ns1, ns2, _resolver: daemon, resolver: at(1), port }
    }
}

/// What `kdig +short` prints: an opinion that isn't ship's.
pub fn dig(server: SocketAddr, words: &[&str]) -> String {
    let output = Command::new(find("kdig"))
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string()])
        .args(["+short", "+timeout=1", "+retry=0"])
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // Complaints start like comments in a zone file.
    let complaint = |line: &&str| line.starts_with(";; WARNING") || line.starts_with(";; ERROR");
    text.lines().filter(|line| !complaint(line)).collect::<Vec<&str>>().join("\n")
}

/// A port that nobody has on any of the addresses.
fn free_port() -> u16 {
    let free = |port: u16| {
        (1..=4).all(|last| {
            let ip: IpAddr = Ipv4Addr::new(127, 0, 0, last).into();
            TcpListener::bind((ip, port)).is_ok() && UdpSocket::bind((ip, port)).is_ok()
        })
    };
    let candidate = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::iter::repeat_with(candidate).take(50).find(|port| free(*port)).expect("a free port")
}

fn wait_for(done: impl Fn() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited 20 s for {}", what());
        std::thread::sleep(Duration::from_millis(50));
    }
}
