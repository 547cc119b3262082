//! Real servers for tests: Debian boxes booted by `tests/boxes/box`, which says how.
//!
//! A [`TestBox`] is a whole machine (systemd, sshd, apt, its own address and disk) that boots in about a second and is
//! gone when it is dropped. What it does not share with a server: the kernel, and `dmesg`, `swapon` and `reboot -f`.
//! Needs root, or sudo without a password; the first run builds the images (two minutes), the next ones reuse them.
//! `SHIP_KEEP_BOXES=1` leaves the boxes running, to look into.
//!
//! Invariant: nothing here goes through ship's own transport, so that a fault there cannot hide itself.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test support"
)]

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The Debian release that a box runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12: Python 3.11, PostgreSQL 15, systemd 252.
    Bookworm,
    /// Debian 13: Python 3.13, PostgreSQL 17, systemd 257.
    Trixie,
}

impl Suite {
    /// Debian's code name, as apt knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// What the box's ordinary user may do with sudo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sudo {
    /// Everything, without being asked for a password.
    NoPassword,
    /// Everything, after typing this password.
    Password(String),
    /// Nothing.
    None,
}

/// What the box's sshd has logged so far, but for the helpers here: `exec` does not go through it, `ssh` does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SshdCounts {
    /// Logins that succeeded with a key.
    pub connections: usize,
    /// Sessions (an exec, a shell or a subsystem) that were started on them.
    pub channels: usize,
}

impl Sub for SshdCounts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            channels: self.channels - earlier.channels,
        }
    }
}

/// What a cloud tells a server that it makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudInit {
    /// What whoever wanted the server said, to the byte.
    pub user_data: String,
    /// What the cloud itself says, if anything.
    pub vendor_data: Option<String>,
    /// The name that the server was given.
    pub hostname: String,
    /// Public keys for the image's default user, and for root if it may log in.
    pub keys: Vec<String>,
}

/// How a box is to be; see [`TestBox::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    suite: Suite,
    packages: bool,
    user: Option<(String, Sudo)>,
    disk_mb: Option<u32>,
    cloud_init: Option<CloudInit>,
}

impl Builder {
    /// Debian 12 unless said otherwise.
    pub fn suite(mut self, suite: Suite) -> Self {
        self.suite = suite;
        self
    }

    /// With nginx, PostgreSQL and python3-venv installed and running already; without, nothing but sshd and Python.
    pub fn packages(mut self, packages: bool) -> Self {
        self.packages = packages;
        self
    }

    /// Adds an ordinary user who may log in with the box's key, as root may.
    pub fn user(mut self, name: &str, sudo: Sudo) -> Self {
        self.user = Some((name.to_owned(), sudo));
        self
    }

    /// The box can write that many megabytes in all, and then its disk is full.
    pub fn disk_mb(mut self, megabytes: u32) -> Self {
        self.disk_mb = Some(megabytes);
        self
    }

    /// A server of a cloud: the box's own cloud-init makes host keys, users and all else of what it is told, and
    /// [`boot`](Self::boot) returns when it begins to boot. The box's `key` opens nothing, its `host_key` is empty.
    pub fn cloud_init(mut self, told: CloudInit) -> Self {
        self.cloud_init = Some(told);
        self
    }

    /// Boots the box and returns once its sshd answers.
    pub fn boot(self) -> TestBox {
        let mut prepare = vec!["prepare", self.suite.name()];
        let mut up = vec!["--suite".to_owned(), self.suite.name().to_owned()];
        if self.packages {
            prepare.push("--with-packages");
            up.push("--packages".to_owned());
        }
        if self.cloud_init.is_some() {
            prepare.push("--cloud-init");
        }
        // Apart from `up`, because it can take minutes the first time and says so on the terminal.
        let prepared = command(&prepare).stderr(Stdio::inherit()).status().expect("run tests/boxes/box");
        assert!(prepared.success(), "tests/boxes/box {} failed; what it printed says why", prepare.join(" "));

        let dir = tempfile::Builder::new()
            .prefix("ship-box")
            .tempdir()
            .expect("make a directory for the box's keys");
        let key = dir.path().join("id_ed25519");
        let keygen = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "ship-test", "-f"])
            .arg(&key)
            .output()
            .expect("run ssh-keygen (apt-get install openssh-client)");
        success("ssh-keygen", keygen);

        let name = unique_name();
        if let Some(told) = self.cloud_init {
            let mut file = |option: &str, text: &str| {
                let path = dir.path().join(option);
                std::fs::write(&path, text).expect("write what cloud-init is told");
                up.extend([format!("--{option}"), path.display().to_string()]);
            };
            file("user-data", &told.user_data);
            told.vendor_data.iter().for_each(|text| file("vendor-data", text));
            file("meta-keys", &told.keys.join("\n"));
            up.extend(["--meta-hostname".to_owned(), told.hostname, "--no-wait".to_owned()]);
        } else {
            up.extend(["--key".to_owned(), format!("{}.pub", key.display())]);
        }
        up.extend(["--owner".to_owned(), std::process::id().to_string()]);
        if let Some((user, sudo)) = self.user {
            let sudo = match sudo {
                Sudo::NoPassword => "nopasswd".to_owned(),
                Sudo::Password(password) => format!("password:{password}"),
                Sudo::None => "none".to_owned(),
            };
            up.extend(["--user".to_owned(), user, "--sudo".to_owned(), sudo]);
        }
        if let Some(megabytes) = self.disk_mb {
            up.extend(["--disk".to_owned(), megabytes.to_string()]);
        }
        let up = success("box up", command(&["up", &name]).args(&up).output().expect("run tests/boxes/box"));
        let told: serde_json::Value = serde_json::from_str(&up).expect("`box up` prints JSON");
        let text = |field: &str| {
            told.get(field).and_then(|value| value.as_str()).expect("`box up` tells all").to_owned()
        };
        let number =
            |field: &str| told.get(field).and_then(serde_json::Value::as_u64).expect("`box up` tells all");

        let (host, host_key) = (text("host"), text("host_key"));
        let known_hosts = dir.path().join("known_hosts");
        std::fs::write(&known_hosts, format!("{host} {host_key}\n")).expect("write known_hosts");
        TestBox {
            name,
            host,
            port: u16::try_from(number("port")).expect("a port"),
            root: PathBuf::from(text("root")),
            host_key,
            key,
            known_hosts,
            removed: AtomicBool::new(false),
            _dir: dir,
        }
    }
}

/// A running server; dropping it removes it.
#[derive(Debug)]
pub struct TestBox {
    /// Its name for `tests/boxes/box`, and its host name.
    pub name: String,
    /// Its address, reachable from this machine only.
    pub host: String,
    /// Where its sshd listens.
    pub port: u16,
    /// Its root directory as seen from this machine (readable by root only: see [`TestBox::read`]).
    pub root: PathBuf,
    /// The ed25519 host key: type and base64, without a comment.
    pub host_key: String,
    /// The private key that lets root and the box's user in.
    pub key: PathBuf,
    /// A `known_hosts` file with this box's key only.
    pub known_hosts: PathBuf,
    removed: AtomicBool,
    _dir: tempfile::TempDir,
}

impl TestBox {
    /// A bare Debian 12 until told otherwise.
    pub fn builder() -> Builder {
        Builder { suite: Suite::Bookworm, packages: false, user: None, disk_mb: None, cloud_init: None }
    }

    /// Runs a script as root through ssh and returns what it printed; panics with all of its output if it fails.
    pub fn ssh(&self, script: &str) -> String {
        success(script, self.ssh_status("root", script))
    }

    /// Runs a script as that user through ssh, however it ends (255: ssh itself failed).
    pub fn ssh_status(&self, user: &str, script: &str) -> Output {
        Command::new("ssh")
            .args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10", "-o"])
            .arg(format!("UserKnownHostsFile={}", self.known_hosts.display()))
            .arg("-i")
            .arg(&self.key)
            .args(["-p", &self.port.to_string()])
            .arg(format!("{user}@{}", self.host))
            .arg(script)
            .stdin(Stdio::null())
            .output()
            .expect("run ssh (apt-get install openssh-client)")
    }

    /// Runs a script as root inside the box, not through its sshd; panics with all of its output if it fails.
    pub fn exec(&self, script: &str) -> String {
        success(script, self.exec_status(script))
    }

    /// The same, however it ends. Works while the box is cut off.
    pub fn exec_status(&self, script: &str) -> Output {
        command(&["exec", &self.name, "sh", "-c", script])
            .stdin(Stdio::null())
            .output()
            .expect("run tests/boxes/box")
    }

    /// Writes a file inside the box as root.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let mut child = command(&["exec", &self.name, "tee", "--", path])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("run tests/boxes/box");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), content.as_ref()).unwrap();
        assert!(child.wait().unwrap().success(), "can't write {path} in the box");
    }

    /// A file's bytes inside the box, read as root; `None` if it isn't there.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let output = command(&["exec", &self.name, "cat", "--", path])
            .stdin(Stdio::null())
            .output()
            .expect("run tests/boxes/box");
        output.status.success().then_some(output.stdout)
    }

    /// Drops every packet from and to the box, without a word to either side.
    pub fn cut(&self) {
        self.verb("cut");
    }

    /// Lets packets pass again.
    pub fn heal(&self) {
        self.verb("heal");
    }

    /// What all processes of the box together may use from now on; beyond it the kernel kills the largest.
    pub fn limit_memory(&self, megabytes: u32) {
        self.run(&["memory", &self.name, &megabytes.to_string()]);
    }

    /// Takes that limit away.
    pub fn free_memory(&self) {
        self.run(&["memory", &self.name, "max"]);
    }

    /// Power loss: every process of the box is gone at once.
    pub fn kill(&self) {
        self.verb("kill");
    }

    /// Powers on a box that was killed or has powered itself off; returns once its sshd answers.
    pub fn start(&self) {
        self.verb("start");
    }

    /// Reboots the box properly; returns once the sshd of the new boot answers.
    pub fn reboot(&self) {
        self.verb("reboot");
    }

    /// Shuts the box down properly; returns once it is off.
    pub fn stop(&self) {
        self.verb("stop");
    }

    /// Powers it on as [`start`](Self::start) does, but returns when it begins to boot.
    pub fn power_on(&self) {
        self.run(&["start", &self.name, "--no-wait"]);
    }

    /// Whether it is powered on.
    pub fn is_running(&self) -> bool {
        let pid = self.root.parent().and_then(|dir| std::fs::read_to_string(dir.join("run.pid")).ok());
        let Some((pid, start)) = pid.as_deref().and_then(|pid| pid.trim().split_once(' ')) else {
            return false;
        };
        // The name in parentheses may contain anything; the start time is the twentieth word after it.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut words = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ')).into_iter().flatten();
        !matches!(words.next(), None | Some("Z" | "X")) && words.nth(18) == Some(start)
    }

    /// Gives the box a further address, which it keeps until it is taken away or the box is gone.
    pub fn add_address(&self, address: Ipv4Addr) {
        self.run(&["address", &self.name, "add", &address.to_string()]);
    }

    /// Takes a further address away.
    pub fn remove_address(&self, address: Ipv4Addr) {
        self.run(&["address", &self.name, "del", &address.to_string()]);
    }

    /// Removes the box before its time.
    pub fn remove(&self) {
        if !self.removed.swap(true, Ordering::SeqCst) {
            self.verb("down");
        }
    }

    /// What the box's sshd has logged since the box was made; subtract an earlier count to see what happened between.
    pub fn sshd_counts(&self) -> SshdCounts {
        // Debian 13 logs sessions as `sshd-session`.
        let log = self.exec("journalctl --sync && journalctl --quiet --output=cat -t sshd -t sshd-session");
        let starting = |text: &str| log.lines().filter(|line| line.starts_with(text)).count();
        SshdCounts {
            connections: starting("Accepted publickey for "),
            channels: starting("Starting session: "),
        }
    }

    fn verb(&self, verb: &str) {
        self.run(&[verb, &self.name]);
    }

    fn run(&self, words: &[&str]) {
        let done = command(words).output().expect("run tests/boxes/box");
        success(&format!("box {}", words.join(" ")), done);
    }
}

impl Drop for TestBox {
    fn drop(&mut self) {
        if std::env::var_os("SHIP_KEEP_BOXES").is_some() && !self.removed.load(Ordering::SeqCst) {
            eprintln!("kept: tests/boxes/box exec {} bash", self.name);
            return;
        }
        if self.removed.load(Ordering::SeqCst) {
            return;
        }
        let down = command(&["down", &self.name]).output();
        if !down.as_ref().is_ok_and(|output| output.status.success()) && !std::thread::panicking() {
            panic!("could not remove box {}: {down:?}", self.name);
        }
    }
}

/// A `box` command line.
fn command<S: AsRef<OsStr>>(words: &[S]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boxes/box"));
    command.args(words).stdin(Stdio::null());
    command
}

/// A name that no other box of any test process has.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a command printed; panics with everything about it if it failed.
fn success(what: &str, output: Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}\n{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", output.status);
    stdout.into_owned()
}
