//! An authority with a network of its own: Pebble, which looks at what it is asked for as Let's Encrypt does, the name server
//! that it and a box believe, and a way to take it away for a while.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use tempfile::TempDir;

use crate::boxes::TestBox;
use crate::support::wait_for;

/// Seconds that its certificates hold: less than what certbot renews at, so that every run of the timer's service does.
pub const HOLDS_S: u32 = 864_000;

/// All of it, gone when dropped.
pub struct Authority {
    children: Vec<Child>,
    dir: TempDir,
    /// The address of this machine that the box reaches.
    pub host: String,
    pebble: u16,
    front: u16,
    names: u16,
    management: u16,
    door: Option<Door>,
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port(host: &str) -> u16 {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port()
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("run a command");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs openssl in a folder.
pub fn openssl(dir: &Path, line: &str) {
    run(Command::new("openssl").current_dir(dir).args(line.split(' ')));
}

impl Authority {
    /// Starts it beside a box, whose names it asks.
    pub fn start(server: &TestBox) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fakes/prepare-tls");
            let ready = Command::new(script).stdin(Stdio::null()).status().unwrap();
            assert!(ready.success(), "tests/fakes/prepare-tls failed; what it printed says why");
        });
        let (net, _) = server.host.rsplit_once('.').unwrap();
        let host = format!("{net}.1");
        let dir = TempDir::new().unwrap();
        let ports: Vec<u16> = (0..4).map(|_| free_port("127.0.0.1")).collect();
        let [pebble, roots, names, management] = ports[..] else { unreachable!() };
        let mut authority = Self {
            children: Vec::new(),
            dir,
            front: free_port(&host),
            host,
            pebble,
            names,
            management,
            door: None,
        };
        authority.make_certificates();
        authority.start_names();
        authority.start_resolver(server);
        authority.start_pebble(roots);
        authority.open();
        authority
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The name server, for `SHIP_NAMESERVERS`.
    pub fn nameserver(&self) -> String {
        format!("127.0.0.1:{}", self.names)
    }

    /// What `ship.yml` needs to know of it, given that the project has its root as `ca.pem`.
    pub fn directory(&self) -> String {
        format!("https://{}:{}/dir", self.host, self.front)
    }

    fn make_certificates(&self) {
        let dir = self.dir.path();
        openssl(
            dir,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=private -keyout ca.key -out ca.pem -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        );
        openssl(
            dir,
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=pebble -keyout srv.key -out srv.csr",
        );
        std::fs::write(dir.join("ext"), format!("subjectAltName=IP:{},IP:127.0.0.1", self.host)).unwrap();
        openssl(
            dir,
            "x509 -req -in srv.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out srv.pem",
        );
    }

    fn spawn(&mut self, command: &mut Command) {
        let log = std::fs::File::create(self.dir.path().join(format!("log{}", self.children.len()))).unwrap();
        let child = command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; tests/fakes/prepare-tls installs it"));
        self.children.push(child);
    }

    /// What the programs have said, for when one does not do its work.
    fn logs(&self) -> String {
        let read =
            |index| std::fs::read_to_string(self.dir.path().join(format!("log{index}"))).unwrap_or_default();
        (0..self.children.len()).map(read).collect::<Vec<_>>().join("\n---\n")
    }

    fn start_names(&mut self) {
        let words = [
            "-defaultIPv4",
            "",
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-dns01",
        ];
        let mut command = Command::new("pebble-challtestsrv");
        command.args(words).arg(format!("127.0.0.1:{}", self.names));
        command.arg("-management").arg(format!("127.0.0.1:{}", self.management));
        self.spawn(&mut command);
        wait_for("the name server", 20, || TcpStream::connect(("127.0.0.1", self.management)).is_ok());
    }

    /// The box believes the names; everything else it asks whom this machine asks.
    fn start_resolver(&mut self, server: &TestBox) {
        let before = String::from_utf8(server.read("/etc/resolv.conf").unwrap()).unwrap();
        let upstream =
            before.lines().find_map(|line| line.strip_prefix("nameserver ")).unwrap().trim().to_owned();
        let config = format!(
            "server:\n  port: 53\n  interface: {host}\n  access-control: 0.0.0.0/0 allow\n  do-ip6: no\n  do-daemonize: no\n  \
             username: \"\"\n  chroot: \"\"\n  directory: {dir}\n  pidfile: \"\"\n  use-syslog: no\n  do-not-query-localhost: no\n  \
             local-zone: \"test.\" nodefault\n  module-config: \"iterator\"\n  cache-max-ttl: 0\n  cache-max-negative-ttl: 0\n\
             stub-zone:\n  name: example.test.\n  stub-addr: 127.0.0.1@{names}\n\
             forward-zone:\n  name: .\n  forward-addr: {upstream}\n",
            host = self.host,
            dir = self.dir.path().display(),
            names = self.names,
        );
        std::fs::write(self.file("unbound.conf"), config).unwrap();
        self.spawn(Command::new("/usr/sbin/unbound").args(["-d", "-c", "unbound.conf"]));
        self.lead("is-there.example.test", Some(&server.host));
        server.write("/etc/resolv.conf", format!("nameserver {}\n", self.host));
        let asks = || server.exec_status("getent hosts is-there.example.test").status.success();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !asks() {
            assert!(std::time::Instant::now() < deadline, "no resolver:\n{}", self.logs());
        }
    }

    fn start_pebble(&mut self, roots: u16) {
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.pebble),
            "managementListenAddress": format!("127.0.0.1:{roots}"),
            "certificate": "srv.pem", "privateKey": "srv.key", "httpPort": 80, "tlsPort": 443,
            "certificateValidityPeriod": HOLDS_S,
        }});
        std::fs::write(self.file("pebble.json"), config.to_string()).unwrap();
        let names = format!("127.0.0.1:{}", self.names);
        let mut command = Command::new("pebble");
        // It would refuse every twentieth nonce, and certbot asks again only once.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        command.args(["-config", "pebble.json", "-dnsserver", &names]);
        self.spawn(&mut command);
        wait_for("Pebble", 20, || TcpStream::connect(("127.0.0.1", roots)).is_ok());
        let root = run(Command::new("curl")
            .arg("-s")
            .arg("--cacert")
            .arg(self.file("ca.pem"))
            .arg(format!("https://127.0.0.1:{roots}/roots/0")));
        assert!(root.contains("BEGIN CERTIFICATE"), "{root}");
        std::fs::write(self.file("root.pem"), root).unwrap();
    }

    /// Where a name leads from now on.
    pub fn lead(&self, name: &str, address: Option<&str>) {
        let call = |path: &str, body: serde_json::Value| {
            let url = format!("http://127.0.0.1:{}/{path}", self.management);
            run(Command::new("curl").args(["-sf", "-d", &body.to_string(), &url]));
        };
        call("clear-a", serde_json::json!({"host": name}));
        if let Some(address) = address {
            call("add-a", serde_json::json!({"host": name, "addresses": [address]}));
        }
    }

    /// Nobody reaches the authority any more.
    pub fn close(&mut self) {
        self.door = None;
    }

    /// It is there again, as it was.
    pub fn open(&mut self) {
        self.door = Some(Door::open(&self.host, self.front, self.pebble));
    }
}

/// Passes connections on; dropping it refuses them.
struct Door {
    stop: Arc<AtomicBool>,
    address: String,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Door {
    fn open(host: &str, from: u16, to: u16) -> Self {
        let address = format!("{host}:{from}");
        let listener = TcpListener::bind(&address).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for incoming in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(incoming), Ok(outgoing)) = (incoming, TcpStream::connect(("127.0.0.1", to))) else {
                    continue;
                };
                for (mut from, mut to) in
                    [(incoming.try_clone().unwrap(), outgoing.try_clone().unwrap()), (outgoing, incoming)]
                {
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16_384];
                        while let Ok(length @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Self { stop, address, thread: Some(thread) }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
