//! The Python servers behind the fake: moto and ministack, each a process of its own on a free port of the loopback. To
//! start them takes seconds, so the tests of one process share them.
//!
//! Invariant: none outlives that process. A server ends when its standard input does, and that is a pipe which the kernel
//! closes with the test's process, however that ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs `module:function`, and leaves at the end of standard input.
const LAUNCH: &str = r#"
import importlib, os, sys, threading

def leave():
    sys.stdin.buffer.read()
    os._exit(0)

threading.Thread(target=leave, daemon=True).start()
module, function = sys.argv.pop(1).split(":")
sys.exit(getattr(importlib.import_module(module), function)())
"#;

/// Seconds that a server may take to start on a busy machine.
const START: u64 = 60;

/// The servers that all tests of this process share; each test has an account of its own there.
#[derive(Debug)]
pub struct Servers {
    /// Where each tool's Python is.
    pub pythons: BTreeMap<String, PathBuf>,
    /// EC2.
    pub moto: PythonServer,
    /// Route 53, IAM, STS.
    pub ministack: PythonServer,
}

impl Servers {
    /// Those of this process, which start when the first asks for them.
    pub fn get() -> &'static Self {
        static SERVERS: OnceLock<Servers> = OnceLock::new();
        SERVERS.get_or_init(|| {
            let pythons = pythons();
            let (moto, ministack) = std::thread::scope(|scope| {
                let moto = scope.spawn(|| PythonServer::moto(&pythons["moto"]));
                let ministack = PythonServer::ministack(&pythons["ministack"]);
                (moto.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), ministack)
            });
            Self { pythons, moto, ministack }
        })
    }

    /// The number of an account that nobody else has.
    pub fn account() -> String {
        static NEXT: AtomicU64 = AtomicU64::new(123_456_789_001);
        NEXT.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

/// Where each tool's Python is; installs what is missing.
fn pythons() -> BTreeMap<String, PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fakes/prepare-aws");
    let prepared =
        Command::new(script).stderr(Stdio::inherit()).output().expect("run tests/fakes/prepare-aws");
    assert!(prepared.status.success(), "tests/fakes/prepare-aws failed; what it printed says why");
    let told = String::from_utf8(prepared.stdout).expect("text");
    let pair = |line: &str| line.split_once('=').map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
    told.lines().filter_map(pair).collect()
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct PythonServer {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl PythonServer {
    /// moto, with the images of `tests/fixtures/ec2-amis.json` and its checks of images, keys and types.
    pub fn moto(python: &Path) -> Self {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ec2-amis.json");
        let images = images.to_str().expect("a path in UTF-8");
        let env = [
            ("MOTO_AMIS_PATH", images),
            ("MOTO_ENABLE_AMI_VALIDATION", "true"),
            ("MOTO_ENABLE_KEYPAIR_VALIDATION", "true"),
            ("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "true"),
        ];
        let args = ["moto.server:main", "-H", "127.0.0.1", "-p", "0"];
        Self::start(python, &args, &env).unwrap_or_else(|log| panic!("moto does not start:\n{log}"))
    }

    /// moto as S3, at an address of this machine that a box reaches.
    pub fn s3(host: &str) -> Self {
        let python = &pythons()["moto"];
        let args = ["moto.server:main", "-H", host, "-p", "0"];
        Self::start(python, &args, &[]).unwrap_or_else(|log| panic!("moto does not start:\n{log}"))
    }

    /// ministack, which checks signatures and policies of everyone whose key isn't the number of an account.
    pub fn ministack(python: &Path) -> Self {
        // It can't be told to take any port, and a free one may be taken before it gets there.
        let mut log = String::new();
        for _ in 0..5 {
            let port = free_port().to_string();
            let env = [
                ("BIND_HOST", "127.0.0.1"),
                ("MINISTACK_HOST", "127.0.0.1"),
                ("GATEWAY_PORT", &port),
                ("AUTH", "true"),
            ];
            match Self::start(python, &["ministack.app:main"], &env) {
                Ok(server) => return server,
                Err(failed) => log = failed,
            }
        }
        panic!("ministack does not start:\n{log}");
    }

    /// microburst in front of another server.
    pub fn microburst(python: &Path, upstream: &str) -> Self {
        let mut log = String::new();
        for _ in 0..5 {
            let port = free_port().to_string();
            let args =
                ["microburst.cli:main", "--host", "127.0.0.1", "--port", &port, "--upstream", upstream];
            match Self::start(python, &args, &[]) {
                Ok(server) => return server,
                Err(failed) => log = failed,
            }
        }
        panic!("microburst does not start:\n{log}");
    }

    /// Starts a server; what it printed if it ends instead of listening.
    fn start(python: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("ship-aws").tempdir().expect("make a directory");
        let log = dir.path().join("log");
        let file = File::create(&log).expect("make a log");
        let mut child = Command::new(python)
            .args(["-u", "-c", LAUNCH])
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", dir.path())
            .env("TMPDIR", dir.path())
            .envs(env.iter().copied())
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(file.try_clone().expect("share the log"))
            .stderr(file)
            .spawn()
            .expect("run Python");
        let deadline = Instant::now() + Duration::from_secs(START);
        loop {
            let text = std::fs::read_to_string(&log).expect("read the log");
            if let Some(address) = listens(&text)
                && TcpStream::connect(address).is_ok()
            {
                return Ok(Self { address, child, log, _dir: dir });
            }
            let ended = child.try_wait().expect("look at Python").is_some();
            if ended || Instant::now() > deadline {
                end(&mut child);
                return Err(std::fs::read_to_string(&log).expect("read the log"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What the kernel does when this process ends, however it does.
    pub fn abandon(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Whether it runs no more.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("look at Python").is_some()
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on the loopback interface");
    listener.local_addr().expect("a bound port").port()
}

/// The address in the line with which each of them says that it listens.
fn listens(log: &str) -> Option<SocketAddr> {
    let line = |line: &str| {
        let (_, rest) =
            line.split_once("unning on http://").or_else(|| line.split_once("listening on http://"))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    log.split_inclusive('\n').filter(|line| line.ends_with('\n')).find_map(line)
}

#[test]
fn a_server_says_where_it_listens() {
    let moto = "WARNING: This is a development server.\n * Running on http://127.0.0.1:35699\nPress CTRL+C";
    let ministack = "INFO [hypercorn.error] Running on http://127.0.0.1:45661 (CTRL + C to quit)\n";
    let microburst = "microburst listening on http://127.0.0.1:9999 → http://127.0.0.1:1\n";
    let ports = [moto, ministack, microburst].map(|log| listens(log).map(|address| address.port()));
    assert_eq!(ports, [Some(35699), Some(45661), Some(9999)]);
    assert_eq!(listens(" * Running on http://127.0.0.1:35"), None, "half a line");
}
