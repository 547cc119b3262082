//! What tests that deploy share: a copy of the example project, the `ship` under test, and a browser.
//!
//! Invariant: `ship` runs as a user would run it, in a clean environment with a home of its own; HTTP goes over
//! sockets of our own, since a client that quietly tries again would hide a lost request.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::boxes::TestBox;

pub mod terminal;
pub mod websocket;

/// Tells threads to end, at the latest when it is dropped: a box that comes later may have the address they ask.
#[derive(Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What the threads look at.
    pub fn told(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.tell();
    }
}

/// A copy of `examples/library` in a git repository of its own, to be deployed to one box.
#[derive(Debug)]
pub struct Project {
    /// Its folder.
    pub dir: PathBuf,
    server: String,
    /// The user's home.
    pub home: PathBuf,
    variables: Vec<(String, String)>,
    _temp: tempfile::TempDir,
}

impl Project {
    /// The example, for this box as root.
    pub fn new(server: &TestBox) -> Self {
        Self::for_user(server, "root")
    }

    /// The example, for this box as that user.
    pub fn for_user(server: &TestBox, user: &str) -> Self {
        Self::elsewhere(&login(server, user))
    }

    /// The example, for the server that these words of `ship.yml` describe.
    pub fn elsewhere(server: &str) -> Self {
        let project = Self::bare(server.to_owned(), "library");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/library/.");
        run(Command::new("cp").arg("-r").arg(example).arg(&project.dir));
        // Whoever tried the demo has a server of their own there.
        run(Command::new("rm").arg("-rf").arg(project.dir.join(".ship")));
        project.config("");
        project.commit("The example");
        project
    }

    /// A git repository with nothing in it.
    pub fn empty(server: &TestBox, user: &str) -> Self {
        Self::bare(login(server, user), "library")
    }

    /// What `django-admin startproject mysite` of Django 5.2 writes, to the byte; not committed.
    pub fn startproject(server: &TestBox) -> Self {
        let project = Self::empty(server, "root");
        let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/overlay/startproject/.");
        let copied = Command::new("cp").arg("-r").arg(made).arg(&project.dir).status().unwrap();
        assert!(copied.success());
        project
    }

    /// The same as `empty`, in a folder of that name.
    pub fn named(server: &TestBox, user: &str, folder: &str) -> Self {
        Self::bare(login(server, user), folder)
    }

    fn bare(server: String, folder: &str) -> Self {
        let temp = tempfile::Builder::new().prefix("ship-story").tempdir().expect("make a folder");
        let (dir, home) = (temp.path().join(folder), temp.path().join("home"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(&home).unwrap();
        let project = Self { dir, server, home, variables: Vec::new(), _temp: temp };
        project.git(&["init", "--quiet", "--initial-branch=main"]);
        project
    }

    /// Sets a variable of the environment that `ship` runs in.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.into(), value.into()));
    }

    /// Makes an SSH key where the user's own would be.
    pub fn make_key(&self) {
        let folder = self.home.join(".ssh");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("id_ed25519");
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "tester@laptop", "-f"])
            .arg(file));
    }

    /// Says which server it is from now on.
    pub fn move_to(&mut self, server: &str, lines: &str) {
        self.server = server.to_owned();
        self.config(lines);
    }

    /// Writes `ship.yml`: the server, then these lines.
    pub fn config(&self, lines: &str) {
        self.write("ship.yml", &format!("server: {}\n{lines}\n", self.server));
    }

    /// What `ship init` has written, with this server instead of the one that it proposes.
    pub fn with_server(&self, written: &str) -> String {
        let (before, after) = written.split_once("\nserver: ").expect("ship init proposes a server");
        let after = after.split_once('\n').map_or("", |(_, after)| after);
        format!("{before}\nserver: {}\n{after}", self.server)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, path: &str, text: &str) {
        let full = self.dir.join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(full, text).unwrap();
    }

    /// Replaces a text that is there exactly once.
    pub fn replace(&self, path: &str, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.dir.join(path)).unwrap();
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {path}");
        self.write(path, &text.replace(old, new));
    }

    /// Adds one line to the site's front page, as a developer would change a template.
    pub fn put_on_page(&self, text: &str) {
        self.replace(
            "catalog/templates/catalog/index.html",
            "<section class=\"hero\">",
            &format!("<p>{text}</p>\n<section class=\"hero\">"),
        );
    }

    /// Commits everything that is not ignored.
    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// Runs git in the project.
    pub fn git(&self, words: &[&str]) {
        let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"];
        let mut git = self.clean(Command::new("git"));
        run(git.arg("-C").arg(&self.dir).args(identity).args(words));
    }

    /// `ship` with these arguments, ready to run: for its environment, its input, or to leave it running.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.clean(Command::new(env!("CARGO_BIN_EXE_ship")));
        command.current_dir(&self.dir).args(words).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `ship`, however it ends.
    pub fn ship(&self, words: &[&str]) -> Ran {
        Ran::of(&mut self.command(words))
    }

    /// Runs `ship up --yes`, which must succeed.
    pub fn up(&self) -> Ran {
        self.ship(&["up", "--yes"]).exits(0)
    }

    /// Leaves `ship up --yes` running, its output piped for [`Ran::finished`].
    pub fn start_up(&self) -> Child {
        let mut ship = self.command(&["up", "--yes"]);
        ship.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run ship")
    }

    fn clean(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.home).env("USER", "tester").env("LANG", "C.UTF-8");
        command
    }
}

/// A box as `ship.yml` names it.
fn login(server: &TestBox, user: &str) -> String {
    let (host, port, key) = (&server.host, server.port, server.key.display());
    format!("{{provider: ssh, host: {host:?}, port: {port}, user: {user}, key: {key}}}")
}

fn run(command: &mut Command) {
    let output = command.output().expect("run a command");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// What a run of `ship` came to.
#[derive(Debug)]
pub struct Ran {
    what: String,
    /// Its exit code; -1 after a signal.
    pub code: i32,
    /// Results.
    pub stdout: String,
    /// Progress and errors.
    pub stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("run ship");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        Self::new(format!("ship {}", words.join(" ")), &output)
    }

    /// Waits for one that was left running, its output piped.
    pub fn finished(ship: Child) -> Self {
        Self::new("ship, left running,".into(), &ship.wait_with_output().expect("wait for ship"))
    }

    fn new(what: String, output: &Output) -> Self {
        Self {
            what,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.what, self.stdout, self.stderr
        );
        self
    }

    /// Asserts that a text was printed, on either stream.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(
            said,
            "{} does not say {text:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.what, self.stdout, self.stderr
        );
        self
    }

    /// Standard output as one JSON value a line; panics at a line that isn't one.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let read = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.what))
        };
        self.stdout.lines().map(read).collect()
    }
}

/// Waits until a condition holds; panics after `seconds`, and as many more as a machine needs that runs other tests beside.
#[track_caller]
pub fn wait_for(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    const BUSY: u64 = 3;
    let deadline = Instant::now() + Duration::from_secs(seconds * BUSY);
    while !condition() {
        assert!(Instant::now() < deadline, "waited {} s for {what}", seconds * BUSY);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body, without its transfer encoding; a content encoding stays.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(has, _)| has.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// The value of a cookie that the response sets.
    #[track_caller]
    pub fn cookie(&self, name: &str) -> String {
        let set = |(header, value): &(String, String)| {
            let value = value.strip_prefix(name)?.strip_prefix('=')?;
            header
                .eq_ignore_ascii_case("Set-Cookie")
                .then(|| value.split(';').next().unwrap_or_default().to_owned())
        };
        self.headers.iter().find_map(set).unwrap_or_else(|| panic!("no cookie {name}: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection to port 80 of a box, kept alive between requests; nothing is ever tried again.
pub struct Browser {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Browser {
    /// Connects.
    pub fn open(host: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect((host, 80))?;
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        // Head and body go out apart; neither waits for the other's acknowledgement.
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: host.to_owned() })
    }

    /// Connects to an address and asks for a site by its name.
    pub fn named(address: std::net::IpAddr, name: &str) -> std::io::Result<Self> {
        Ok(Self { host: name.to_owned(), ..Self::open(&address.to_string())? })
    }

    /// The address that the server sees this connection come from.
    pub fn address(&self) -> String {
        self.stream.get_ref().local_addr().unwrap().ip().to_string()
    }

    /// Whether the server has closed this connection since its last response.
    pub fn is_closed(&self) -> bool {
        let stream = self.stream.get_ref();
        if stream.set_nonblocking(true).is_err() {
            return true;
        }
        let peeked = stream.peek(&mut [0]);
        let quiet = matches!(&peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).is_err() || !quiet
    }

    /// Sends one request, with further headers that each end in `\r\n`, and reads its response.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> std::io::Result<Response> {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}{length}\r\n", self.host);
        self.stream.get_mut().write_all(head.as_bytes())?;
        // A server that refuses a body may stop reading it; its answer is there all the same.
        let sent = self.stream.get_mut().write_all(body);
        self.response().map_err(|error| sent.err().unwrap_or(error))
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn response(&mut self) -> std::io::Result<Response> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
        let mut response = Response { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            response.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if response.header("Transfer-Encoding") == "chunked" {
            loop {
                let size =
                    usize::from_str_radix(&self.line()?, 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk)?;
                response.body.extend(chunk);
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            response.body = vec![0; response.header("Content-Length").parse().unwrap_or(0)];
            self.stream.read_exact(&mut response.body)?;
        }
        Ok(response)
    }
}

/// One GET over a connection of its own.
pub fn get(server: &TestBox, path: &str) -> Response {
    get_with(server, path, "")
}

/// The same with further headers, each ending in `\r\n`.
pub fn get_with(server: &TestBox, path: &str, headers: &str) -> Response {
    Browser::open(&server.host)
        .and_then(|mut browser| browser.request("GET", path, headers, b""))
        .expect("GET")
}

/// 20 MB that nothing compresses.
pub fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(20_000_000 / 8).flatten().collect()
}
