//! A real OpenSSH server of one's own: temporary keys, a random port, gone when dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ship::transport::{Endpoint, HostKey, HostKeyPolicy};
use tempfile::TempDir;

pub struct Server {
    pub dir: TempDir,
    pub port: u16,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with("")
    }

    /// Starts sshd with further lines of configuration, which win over the usual ones.
    pub fn with(config: &str) -> Self {
        let sshd =
            ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let sshd = sshd.expect("these tests need sshd: apt-get install openssh-server");
        if is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let dir = TempDir::new().unwrap();
        // sshd reads authorized_keys as the user who logs in.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        keygen(&dir.path().join("host_ed25519"), "ed25519", "");
        keygen(&dir.path().join("host_ecdsa"), "ecdsa", "");
        keygen(&dir.path().join("id"), "ed25519", "");
        fs::copy(dir.path().join("id.pub"), dir.path().join("authorized_keys")).unwrap();
        for _ in 0..5 {
            let port = free_port();
            let path = dir.path().display();
            let text = format!(
                "{config}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {path}/host_ed25519\n\
                 HostKey {path}/host_ecdsa\nAuthorizedKeysFile {path}/authorized_keys\nPidFile none\nUsePAM no\n\
                 StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nLogLevel VERBOSE\n"
            );
            fs::write(dir.path().join("config"), text).unwrap();
            let mut child = Command::new(sshd)
                .args(["-D", "-e", "-f"])
                .arg(dir.path().join("config"))
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let log = Arc::new(Mutex::new(String::new()));
            let stderr = BufReader::new(child.stderr.take().unwrap());
            let shared = log.clone();
            std::thread::spawn(move || {
                for line in stderr.lines().map_while(Result::ok) {
                    shared.lock().unwrap().push_str(&(line + "\n"));
                }
            });
            let listens = wait_for(Duration::from_secs(10), || {
                log.lock().unwrap().contains("Server listening") || child.try_wait().unwrap().is_some()
            });
            if listens && child.try_wait().unwrap().is_none() {
                return Self { dir, port, child, log };
            }
            eprintln!("sshd did not start: {}", log.lock().unwrap());
        }
        panic!("sshd does not start");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn host_key(&self, kind: &str) -> HostKey {
        HostKey::parse(&fs::read_to_string(self.path(&format!("host_{kind}.pub"))).unwrap()).unwrap()
    }

    /// The way in: the pinned host key, the one authorized key, no agent, nothing of this machine's.
    pub fn endpoint(&self) -> Endpoint {
        let mut endpoint =
            Endpoint::new("127.0.0.1", whoami(), HostKeyPolicy::Pinned(vec![self.host_key("ed25519")]));
        endpoint.port = self.port;
        endpoint.agent = None;
        endpoint.default_keys = Vec::new();
        endpoint.keys = vec![self.path("id")];
        endpoint
    }

    /// A policy over files inside the temporary directory.
    pub fn known_hosts(&self, text: &str) -> HostKeyPolicy {
        fs::write(self.path("known_hosts"), text).unwrap();
        HostKeyPolicy::KnownHosts {
            read: vec![self.path("known_hosts"), self.path("missing")],
            pins: self.path("ship/known_hosts"),
        }
    }

    /// Sends a signal to every process that serves a connection, what it runs not included.
    pub fn signal_connections(&self, signal: &str) {
        let mut pids = vec![self.child.id()];
        let mut index = 0;
        while let Some(pid) = pids.get(index).copied() {
            pids.extend(children(pid).into_iter().filter(|child| name(*child) == "sshd"));
            index += 1;
        }
        let served: Vec<String> = pids.iter().skip(1).map(u32::to_string).collect();
        assert!(!served.is_empty(), "no connection to signal");
        assert!(Command::new("kill").arg(signal).args(&served).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in children(self.child.id()) {
            let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .expect("these tests need ssh-keygen: apt-get install openssh-client");
    assert!(status.success());
}

pub fn whoami() -> String {
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
}

pub fn is_root() -> bool {
    String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0"
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn wait_for(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    condition()
}

fn stat(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, rest) = text.rsplit_once(')')?;
    let name = start.split_once('(')?.1.to_owned();
    Some((name, rest.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

fn name(pid: u32) -> String {
    stat(pid).map(|(name, _)| name).unwrap_or_default()
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn children(parent: u32) -> Vec<u32> {
    processes().into_iter().filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// Whether any process on this machine shows `needle` in its arguments or its environment.
pub fn seen_in_processes(needle: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for pid in processes() {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            if text.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                seen.push(format!("{pid} {file} {}", String::from_utf8_lossy(&text)));
            }
        }
    }
    seen
}
