//! Reaching the server: what a connection is, what runs over it, and what it may ask the user.
//!
//! `ssh.rs` and what is under it alone know russh; `command.rs`, `known_hosts.rs` and the parsers of `sshconfig.rs`
//! are pure. Invariant: a script, a password and a payload travel on stdin only, never in argv, and nothing is
//! sent to a server whose host key was not accepted.

mod command;
mod error;
pub mod known_hosts;
mod line;
pub mod ssh;
pub mod sshconfig;
mod talk;
mod terminal;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

pub use error::{AuthRefusal, ChangedHostKey, SudoReason, TransportError};
pub use known_hosts::HostKey;
pub use ssh::Session;
pub use talk::Talk;

use crate::shell::{Script, Secret};

/// How long connecting and logging in may take, the user's own thinking not counted.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a server is and how to log in to it, everything decided.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The name or address that is connected to, and that known_hosts is asked about.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The login name. `root` needs no sudo.
    pub user: String,
    /// Private keys the user named. Each must be readable; they are offered before the agent's own.
    pub keys: Vec<PathBuf>,
    /// Private keys that are offered if they exist, after the agent's; only used while `keys` is empty.
    pub default_keys: Vec<PathBuf>,
    /// Whether the agent may only sign for `keys` and `default_keys`.
    pub identities_only: bool,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// The way there.
    pub via: Via,
    /// Which host keys are accepted.
    pub host_key: HostKeyPolicy,
    /// The name known_hosts is asked about instead of `host` (`HostKeyAlias`).
    pub host_key_alias: Option<String>,
    /// The limit for connecting and logging in together.
    pub connect_timeout: Duration,
}

impl Endpoint {
    /// An endpoint with port 22, the usual key files and the agent of the environment.
    pub fn new(host: impl Into<String>, user: impl Into<String>, host_key: HostKeyPolicy) -> Self {
        Self {
            host: host.into(),
            port: 22,
            user: user.into(),
            keys: Vec::new(),
            default_keys: sshconfig::default_keys(),
            identities_only: false,
            agent: std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from),
            via: Via::Direct,
            host_key,
            host_key_alias: None,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

/// How the server's port is reached.
#[derive(Debug, Clone)]
pub enum Via {
    /// A TCP connection.
    Direct,
    /// A channel through another server, itself verified and logged in to (`ProxyJump`).
    Jump(Box<Endpoint>),
    /// The stdin and stdout of a local command (`ProxyCommand`).
    Command(String),
}

/// Which host keys are accepted.
#[derive(Debug, Clone)]
pub enum HostKeyPolicy {
    /// The keys that known_hosts files record; a host in none of them is shown to the user and then pinned.
    KnownHosts {
        /// Files that are only read: the user's and the system's. Missing ones are ignored.
        read: Vec<PathBuf>,
        /// ship's own file: read, and appended to when the user accepts a first key.
        pins: PathBuf,
    },
    /// Exactly these keys, known beforehand: generated for a cloud server, or read from a Vagrant box.
    Pinned(Vec<HostKey>),
}

/// What a connection may ask the user. Called on a thread that may block; `None` and `false` decline.
pub trait Prompt: Send + Sync {
    /// The passphrase of a private key that the server would accept. `attempt` counts from 1.
    fn passphrase(&self, key: &Path, attempt: u32) -> Option<Secret>;
    /// The password that sudo wants. `attempt` counts from 1.
    fn sudo_password(&self, user: &str, host: &str, attempt: u32) -> Option<Secret>;
    /// Whether a host seen for the first time is the right one. With `--yes`: print the fingerprint, accept.
    fn confirm_host_key(&self, host: &str, port: u16, key: &HostKey) -> bool;
}

/// A [`Prompt`] that declines everything: for runs without a terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverAsk;

impl Prompt for NeverAsk {
    fn passphrase(&self, _: &Path, _: u32) -> Option<Secret> {
        None
    }

    fn sudo_password(&self, _: &str, _: &str, _: u32) -> Option<Secret> {
        None
    }

    fn confirm_host_key(&self, _: &str, _: u16, _: &HostKey) -> bool {
        false
    }
}

/// What the script can read as its own stdin.
pub enum Stdin<'a> {
    /// Nothing: end of file at once.
    Empty,
    /// Bytes that are at hand.
    Bytes(Bytes),
    /// A stream of unknown length. It is first read once the script has started.
    Stream(&'a mut (dyn AsyncRead + Send + Unpin)),
}

impl Stdin<'_> {
    /// The same stdin again, for a second attempt.
    fn again(&mut self) -> Stdin<'_> {
        match self {
            Stdin::Empty => Stdin::Empty,
            Stdin::Bytes(bytes) => Stdin::Bytes(bytes.clone()),
            Stdin::Stream(stream) => Stdin::Stream(&mut **stream),
        }
    }
}

/// One run of a script.
pub struct Exec<'a> {
    /// The script.
    pub script: &'a Script,
    /// What it reads.
    pub stdin: Stdin<'a>,
    /// Whether it runs as root, through sudo if the login isn't.
    pub as_root: bool,
}

impl<'a> Exec<'a> {
    /// A run as root that reads nothing.
    pub fn as_root(script: &'a Script) -> Self {
        Self { script, stdin: Stdin::Empty, as_root: true }
    }

    /// A run as the login user that reads nothing.
    pub fn as_login(script: &'a Script) -> Self {
        Self { script, stdin: Stdin::Empty, as_root: false }
    }

    /// Gives the script something to read.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin<'a>) -> Self {
        self.stdin = stdin;
        self
    }
}

/// What a finished script left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// The exit status; 128 + n after death by signal n.
    pub status: i32,
    /// Everything on stdout.
    pub stdout: Vec<u8>,
    /// Everything on stderr.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether the status is 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }

    /// stdout as text, bad UTF-8 replaced.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stderr as text, bad UTF-8 replaced.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Which of the two outputs a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

/// Whether a live run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// More, please.
    Continue,
    /// Enough: the script is sent SIGTERM and the channel closed.
    Stop,
}

/// Receives live output.
pub type OnOutput<'a> = &'a mut (dyn FnMut(Stream, &[u8]) -> Flow + Send);

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// The size of this process's terminal, if it has one.
pub fn terminal_size() -> Option<TermSize> {
    terminal::size()
}

/// A pseudo-terminal for an interactive run.
#[derive(Debug)]
pub struct Pty {
    /// The value of TERM.
    pub term: String,
    /// The size at the start.
    pub size: TermSize,
    /// Every later size.
    pub resized: Option<mpsc::Receiver<TermSize>>,
}

/// Something that runs scripts as root: a [`Session`], or a fake in tests.
pub trait Transport {
    /// Runs `script` as root with `stdin` as its stdin and collects what it says.
    ///
    /// A status other than 0 is not an error; not knowing the status is.
    fn exec(
        &self,
        script: &Script,
        stdin: Bytes,
    ) -> impl Future<Output = Result<Output, TransportError>> + Send;
}
